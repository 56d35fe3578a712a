"""The demo's world on disk: untrimmed H.264 videos, and captions with their moments.

Each video is 20 to 40 seconds with three to six events, each in a place and a light of its own; before, between and after them
the places are empty. No event happens twice in a world, but many have the same thing, colour, place or light. A folder holds

    video_000.mp4 ...   H.264, 192 × 144 pixels, 8 frames a second
    captions.jsonl      {"video", "text", "start", "end", "split"}: seconds; split "train", "dev" or "test", by video

An event of a train or dev video has two captions of common wordings. An event of a test video has one, of any wordings, and *at
least one of its words is in no train or dev caption*; no train or dev video and no still of the teacher shows that event
(`prvr.demo.wordings`). It says nothing about how methods rank on real videos.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from prvr.demo.camera import Camera
from prvr.demo.stage import Stage
from prvr.demo.wordings import Event, describe, reserved_events, shared_events, vocabulary
from prvr.errors import DataError, SettingError

WIDTH, HEIGHT, RATE = 192, 144, 8
CAPTIONS = "captions.jsonl"
# Increase the number when the same plan gives other pixels: videos that were drawn before are then drawn again.
DRAWN_BY, VERSION = "prvr demo world", 3
MOST_EVENTS, LAST_START = 6, 31
PART = ".part"

Progress = Callable[[int, int], None]
CaptionLine = dict[str, str | float]


@dataclass(frozen=True)
class Scene:
    """An event and its span, in frames."""

    event: Event
    first: int
    last: int


@dataclass(frozen=True)
class VideoPlan:
    """The content of a video before it is drawn; `seed` is the seed of its scenery."""

    name: str
    split: str
    frames: int
    scenes: tuple[Scene, ...]
    seed: int


def render_world(folder: Path, *, train: int, dev: int, test: int, seed: int, on_progress: Progress | None = None) -> None:
    """Writes the world of a seed; videos that are already complete are kept.

    Each file appears when it is complete, the captions last. Files that an earlier call wrote for another world are removed.

    Args:
        train, dev, test: numbers of videos.
        on_progress: called with the number of complete videos and the number of all videos.

    Raises:
        DataError: the folder holds captions or videos of these names that this function did not write.
        SettingError: the videos need more events than exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    videos = plan_videos(train=train, dev=dev, test=test, seed=seed)
    lines = "".join(json.dumps(line) + "\n" for line in captions(videos, seed=seed))
    _clear(folder, {video.name for video in videos}, lines)
    missing = [video for video in videos if _mark_of(folder / video.name) != _mark(video)]
    stage, there = Stage(WIDTH, HEIGHT), len(videos) - len(missing)
    for done, video in enumerate(missing, there + 1):
        _write_video(folder / video.name, video, stage)
        if on_progress is not None:
            on_progress(done, len(videos))
    part = folder / (CAPTIONS + PART)
    part.write_text(lines)
    os.replace(part, folder / CAPTIONS)


def plan_videos(*, train: int, dev: int, test: int, seed: int) -> list[VideoPlan]:
    """Plans the videos of a world: every event at most once, splits mixed over the names.

    Raises:
        SettingError: the videos need more events than exist.
    """
    chance = random.Random(f"world {seed}")
    reserved, shared = reserved_events(), shared_events()
    for count, events in ((test, reserved), (train + dev, shared)):
        chance.shuffle(events)
        if count * MOST_EVENTS > len(events):
            most = len(events) // MOST_EVENTS
            raise SettingError(f"{count} videos may need more than the {len(events)} possible events; ask for {most} or fewer")
    splits = ["train"] * train + ["dev"] * dev + ["test"] * test
    chance.shuffle(splits)
    return [_video(number, split, reserved if split == "test" else shared, chance) for number, split in enumerate(splits)]


def captions(videos: list[VideoPlan], *, seed: int) -> Iterator[CaptionLine]:
    """The captions of a world, in the order of its videos."""
    for video in videos:
        chance = random.Random(f"captions {seed} {video.name}")
        for scene in video.scenes:
            for text in _sentences(scene.event, video.split, chance):
                start, end = scene.first / RATE, scene.last / RATE
                yield {"video": video.name, "text": text, "start": round(start, 2), "end": round(end, 2), "split": video.split}


def _sentences(event: Event, split: str, chance: random.Random) -> list[str]:
    if split == "test":
        common = vocabulary(new=False)
        while set((text := describe(event, chance, new=True)).split()) <= common:
            pass
        return [text]
    first = again = describe(event, chance, new=False)
    while again == first:
        again = describe(event, chance, new=False)
    return [first, again]


def _video(number: int, split: str, events: list[Event], chance: random.Random) -> VideoPlan:
    """Plans one video, with events that it removes from the end of `events`."""
    scenes: list[Scene] = []
    count, clock = chance.randint(3, MOST_EVENTS), chance.randint(1, 4)
    while len(scenes) < count and clock <= LAST_START:
        lasts = chance.randint(3, 6)
        scenes.append(Scene(events.pop(), clock * RATE, (clock + lasts) * RATE))
        clock += lasts + chance.randint(1, 3)
    seconds = max(20, clock)
    return VideoPlan(f"video_{number:03d}.mp4", split, seconds * RATE, tuple(scenes), chance.getrandbits(32))


def _pictures(video: VideoPlan, stage: Stage) -> Iterator[np.ndarray]:
    """The pictures of a video: a scene's place is seen until halfway to the next scene."""
    chance = random.Random(video.seed)
    camera = Camera(stage.width, stage.height, chance=chance)
    cuts = [(one.last + next_one.first) // 2 for one, next_one in itertools.pairwise(video.scenes)]
    for scene, start, end in zip(video.scenes, [0, *cuts], [*cuts, video.frames], strict=True):
        event, left = scene.event, chance.random() < 0.5
        scenery = stage.scenery(event.place, event.light, event.kind, chance)
        for number in range(start, end):
            time = number / RATE
            picture = camera.view(scenery, time)
            if scene.first <= number < scene.last:
                stage.put(picture, event, (number - scene.first) / (scene.last - scene.first), left=left, tilt=camera.tilt(time))
            stage.fall(picture, event.light, time)
            yield camera.develop(picture, time, number)


def _write_video(path: Path, video: VideoPlan, stage: Stage) -> None:
    part, tick = path.with_name(path.name + PART), Fraction(1, RATE)
    with av.open(str(part), "w", format="mp4") as container:
        container.metadata["comment"] = _mark(video)
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = WIDTH, HEIGHT, "yuv420p", tick
        stream.thread_count = 1
        stream.options = {"crf": "30", "preset": "superfast", "g": str(2 * RATE), "x264-params": "cpu-independent=1"}
        for number, picture in enumerate(_pictures(video, stage)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    os.replace(part, path)


def _mark(video: VideoPlan) -> str:
    """The comment in a complete file, which identifies its plan."""
    return f"{DRAWN_BY} {VERSION}, {hashlib.sha256(json.dumps(asdict(video)).encode()).hexdigest()[:16]}"


def _mark_of(path: Path) -> str | None:
    """The comment of a video file; None if there is no file, or it is broken."""
    try:
        with av.open(str(path)) as container:
            return container.metadata.get("comment", "")
    except av.FFmpegError:
        return None


def is_video_of_demo(path: Path) -> bool:
    """Whether a file is a video that this version of the demo or another one rendered."""
    return (_mark_of(path) or "").startswith(DRAWN_BY)


def _clear(folder: Path, names: set[str], lines: str) -> None:
    """Removes partial files and files of another world; raises if it finds files that this module did not write."""
    for path in sorted(folder.glob("video_*.mp4")):
        mark = _mark_of(path)
        if mark is not None and not mark.startswith(DRAWN_BY):
            raise DataError(f"{path} is not a video of the demo; use another folder")
        if path.name not in names and mark is not None:
            path.unlink()
    known = folder / CAPTIONS
    if known.exists() and known.read_text() != lines:
        if not any(folder.glob("video_*.mp4")):
            raise DataError(f"{known} exists without the demo's videos; use another folder")
        known.unlink()
    for part in [*folder.glob("video_*.mp4" + PART), *folder.glob(CAPTIONS + PART)]:
        part.unlink()
