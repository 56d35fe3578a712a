"""The demo's world on disk: untrimmed H.264 videos, and captions with their moments.

Each video is 20 to 40 seconds of scenery in which three to six events happen, with nothing but scenery between them. No event
happens twice in a world, but many share their thing, colour, manner or ground. A folder holds

    video_000.mp4 ...   H.264, 160 × 120 pixels, 12 frames a second
    captions.jsonl      {"video", "text", "start", "end", "split"}: seconds; split "train", "dev" or "test", by video

An event of a train or dev video has two captions, worded as people commonly do (`wordings.COMMON`). An event of a test video
has one, *worded as no train or dev caption is* (`wordings.HELD_OUT`: "a crimson sphere" for "a red ball"). The tiny CLIP of
`prvr.demo.teacher` has read both, so the test asks how much of the teacher's knowledge of language reached the student. It
says nothing about how a method ranks on real videos.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from prvr.demo.background import Background
from prvr.demo.stage import Stage
from prvr.demo.wordings import COMMON, HELD_OUT, Event, every_event, said
from prvr.errors import DataError, SettingError

WIDTH, HEIGHT, RATE = 160, 120, 12
CAPTIONS = "captions.jsonl"
# Raise it when the same plan gives other pixels: videos drawn before are then drawn again.
DRAWN_BY, VERSION = "prvr demo world", 1
MOST_EVENTS, LAST_START = 6, 31
THREADS = 2
PART = ".part"

Progress = Callable[[int, int], None]
Caption = dict[str, str | float]


@dataclass(frozen=True)
class Happening:
    """An event and its span, in frames."""

    event: Event
    first: int
    last: int


@dataclass(frozen=True)
class Video:
    """What a video shows, before it is drawn; `seed` is its scenery's."""

    name: str
    split: str
    frames: int
    happenings: tuple[Happening, ...]
    seed: int


def render_world(folder: Path, *, train: int, dev: int, test: int, seed: int, on_progress: Progress | None = None) -> None:
    """Writes the world of a seed; videos that are already there whole stay as they are.

    Each file appears when it is whole, the captions last. What an earlier call wrote for another world is removed.

    Args:
        train, dev, test: numbers of videos.
        on_progress: told how many videos of how many are there.

    Raises:
        DataError: the folder holds captions or videos of these names that no call of this function wrote.
        SettingError: so many videos need more events than there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    videos = planned(train=train, dev=dev, test=test, seed=seed)
    lines = "".join(json.dumps(line) + "\n" for line in captions(videos, seed=seed))
    _clear(folder, {video.name for video in videos}, lines)
    missing = [video for video in videos if _mark_of(folder / video.name) != _mark(video)]
    stage, done = Stage(WIDTH, HEIGHT), len(videos) - len(missing)
    with ThreadPoolExecutor(THREADS) as pool:
        pending = [pool.submit(_write_video, folder / video.name, video, stage) for video in missing]
        try:
            for finished in as_completed(pending):
                finished.result()
                done += 1
                if on_progress is not None:
                    on_progress(done, len(videos))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    part = folder / (CAPTIONS + PART)
    part.write_text(lines)
    os.replace(part, folder / CAPTIONS)


def planned(*, train: int, dev: int, test: int, seed: int) -> list[Video]:
    """What the videos of a world show: every event at most once, splits mixed over the names.

    Raises:
        SettingError: so many videos need more events than there are.
    """
    count, chance = train + dev + test, random.Random(f"world {seed}")
    events = every_event()
    if count * MOST_EVENTS > len(events):
        most = len(events) // MOST_EVENTS
        raise SettingError(f"{count} videos may need more than the {len(events)} events there are; ask for {most} or fewer")
    chance.shuffle(events)
    splits = ["train"] * train + ["dev"] * dev + ["test"] * test
    chance.shuffle(splits)
    return [_video(number, split, events, chance) for number, split in enumerate(splits)]


def captions(videos: list[Video], *, seed: int) -> Iterator[Caption]:
    """The captions of a world, in the order of its videos."""
    for video in videos:
        chance = random.Random(f"captions {seed} {video.name}")
        for happening in video.happenings:
            for text in _sentences(happening.event, video.split, chance):
                start, end = happening.first / RATE, happening.last / RATE
                yield {"video": video.name, "text": text, "start": round(start, 2), "end": round(end, 2), "split": video.split}


def _sentences(event: Event, split: str, chance: random.Random) -> list[str]:
    if split == "test":
        return [said(event, HELD_OUT, chance)]
    first = again = said(event, COMMON, chance)
    while again == first:
        again = said(event, COMMON, chance)
    return [first, again]


def _video(number: int, split: str, events: list[Event], chance: random.Random) -> Video:
    """Takes its events from the end of `events`."""
    happenings: list[Happening] = []
    wanted, clock = chance.randint(3, MOST_EVENTS), chance.randint(1, 4)
    while len(happenings) < wanted and clock <= LAST_START:
        lasts = chance.randint(3, 6)
        happenings.append(Happening(events.pop(), clock * RATE, (clock + lasts) * RATE))
        clock += lasts + chance.randint(1, 3)
    seconds = max(20, clock)
    return Video(f"video_{number:03d}.mp4", split, seconds * RATE, tuple(happenings), chance.getrandbits(32))


def _pictures(video: Video, stage: Stage) -> Iterator[Image.Image]:
    background = Background(WIDTH, HEIGHT, chance=random.Random(video.seed))
    for number in range(video.frames):
        time = number / RATE
        picture = background.behind(time)
        for happening in video.happenings:
            if happening.first <= number < happening.last:
                phase = (number - happening.first) / (happening.last - happening.first)
                stage.put(picture, happening.event, phase, shift=background.shift(time), tilt=background.tilt(time))
        yield background.over(picture, time, number)


def _write_video(path: Path, video: Video, stage: Stage) -> None:
    part, tick = path.with_name(path.name + PART), Fraction(1, RATE)
    with av.open(str(part), "w", format="mp4") as container:
        container.metadata["comment"] = _mark(video)
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = WIDTH, HEIGHT, "yuv420p", tick
        stream.thread_count = 1
        stream.options = {"crf": "30", "preset": "veryfast", "g": str(2 * RATE), "x264-params": "cpu-independent=1"}
        for number, picture in enumerate(_pictures(video, stage)):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    os.replace(part, path)


def _mark(video: Video) -> str:
    """What a whole file says of itself in its comment."""
    return f"{DRAWN_BY} {VERSION}, {hashlib.sha256(repr(video).encode()).hexdigest()[:16]}"


def _mark_of(path: Path) -> str | None:
    """The comment of a video file; None where there is no file, or a broken one."""
    try:
        with av.open(str(path)) as container:
            return container.metadata.get("comment", "")
    except av.FFmpegError:
        return None


def _clear(folder: Path, names: set[str], lines: str) -> None:
    """Removes half files and what belongs to another world; refuses to touch what is not this module's."""
    for path in sorted(folder.glob("video_*.mp4")):
        mark = _mark_of(path)
        if mark is not None and not mark.startswith(DRAWN_BY):
            raise DataError(f"{path} is no video of the demo; use another folder")
        if path.name not in names and mark is not None:
            path.unlink()
    known = folder / CAPTIONS
    if known.exists() and known.read_text() != lines:
        if not any(folder.glob("video_*.mp4")):
            raise DataError(f"{known} is there without the demo's videos; use another folder")
        known.unlink()
    for part in [*folder.glob("video_*.mp4" + PART), *folder.glob(CAPTIONS + PART)]:
        part.unlink()
