"""The demo's world and its tiny CLIP: small ones, made here."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from prvr.demo import teacher as tiny_clip
from prvr.demo import world
from prvr.demo.camera import Camera
from prvr.demo.stage import Stage
from prvr.demo.teacher import WIDTH, _batch, _pixels, train_teacher
from prvr.demo.wordings import LIGHTS, PLACES, describe, every_event, reserved_events, shared_events, vocabulary
from prvr.demo.world import captions, plan_videos, render_world
from prvr.encoders.dual import DualEncoder
from prvr.errors import DataError, SettingError

SIZES = {"train": 2, "dev": 1, "test": 1}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    render_world(folder, **SIZES, seed=0)
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_stills() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_clip, "STILLS", 16)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "teacher"
    train_teacher(folder, seed=0, steps=2)
    return folder


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("new", [False, True], ids=["common", "any"])
def test_every_event_can_be_said_in_known_vocabulary(new):
    chance = random.Random(0)
    texts = [describe(event, chance, new=new) for event in every_event()[::10]]
    assert all(set(text.split()) <= vocabulary(new=new) for text in texts)
    assert max(len(text.split()) for text in texts) <= 22  # the tiny CLIP reads 24 tokens, two of them the ends
    assert not any(f" a {vowel}" in f" {text}" for text in texts for vowel in "aeiou")


def test_a_verb_fits_its_number():
    singular, plural = {"drives", "flies", "runs"}, {"drive", "fly", "run"}
    for event in every_event()[::10]:
        words = set(describe(event, random.Random(1), new=False).split())
        assert not words & (singular if event.manner == "two" else plural)
        assert ("two" in words) == (event.manner == "two")


def test_events_of_test_videos_are_shown_to_nobody_else():
    reserved, shared = set(reserved_events()), set(shared_events())
    assert not reserved & shared
    assert reserved | shared == set(every_event())
    for video in plan_videos(train=60, dev=10, test=30, seed=3):
        assert {scene.event for scene in video.scenes} <= (reserved if video.split == "test" else shared)
    chance = random.Random(0)
    assert not reserved & {event for _ in range(20) for event in _batch(list(shared), shared, chance)}


def test_a_batch_of_stills_holds_look_alikes_and_no_event_twice():
    shared = shared_events()
    batch = _batch(shared, set(shared), random.Random(0))
    assert len(set(batch)) == len(batch) == tiny_clip.STILLS
    parts = [[event.colour, event.thing, event.manner, event.place, event.light] for event in batch]
    nearest = [sum(a != b for a, b in zip(one, other, strict=True)) for one, other in itertools.pairwise(parts)]
    assert nearest.count(1) > tiny_clip.STILLS / 4


def test_no_event_happens_twice_and_every_split_has_its_videos():
    videos = plan_videos(train=100, dev=10, test=30, seed=3)
    events = [scene.event for video in videos for scene in video.scenes]
    assert len(set(events)) == len(events)
    assert [sum(video.split == split for video in videos) for split in ("train", "dev", "test")] == [100, 10, 30]
    assert {event.place for event in events} == set(PLACES)
    assert {event.light for event in events} == set(LIGHTS)


def test_videos_are_20_to_40_seconds_with_scenery_between_their_events():
    for video in plan_videos(train=100, dev=10, test=30, seed=3):
        assert 20 <= video.frames / world.RATE <= 40
        assert 3 <= len(video.scenes) <= 6
        edges = [0, *(edge for scene in video.scenes for edge in (scene.first, scene.last)), video.frames]
        assert all(later - earlier >= world.RATE for earlier, later in itertools.pairwise(edges))


def test_more_videos_than_events_are_refused():
    with pytest.raises(SettingError, match=r"the 2419 possible events; ask for 403 or fewer"):
        plan_videos(train=0, dev=0, test=404, seed=0)


def test_captions_are_the_same_for_a_seed_and_others_for_another():
    def told(seed: int) -> list[dict[str, object]]:
        return list(captions(plan_videos(train=5, dev=1, test=2, seed=seed), seed=seed))

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_captions_lie_within_their_videos_and_a_video_has_one_split(rendered):
    splits: dict[object, set[object]] = {}
    for line in lines(rendered):
        with av.open(str(rendered / str(line["video"]))) as container:
            assert 0 < line["start"] < line["end"] <= container.duration / av.time_base
        splits.setdefault(line["video"], set()).add(line["split"])
    assert all(len(of_video) == 1 for of_video in splits.values())
    assert len(splits) == 4


def test_every_test_caption_has_a_word_that_no_other_split_has(rendered):
    def words(split: str) -> list[set[str]]:
        return [set(str(line["text"]).split()) for line in lines(rendered) if line["split"] == split]

    heard = vocabulary(new=False)
    assert set().union(*words("train"), *words("dev")) <= heard
    assert all(of_caption - heard for of_caption in words("test"))


def test_videos_decode_whole(rendered):
    for video in plan_videos(**SIZES, seed=0):
        with av.open(str(rendered / video.name)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert sum(1 for _ in container.decode(video=0)) == video.frames


def test_a_seed_fixes_every_byte(rendered, tmp_path):
    render_world(tmp_path, **SIZES, seed=0)
    for path in sorted(rendered.iterdir()):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_no_two_events_look_alike():
    stage, looks = Stage(40, 30), set()
    sceneries = {}
    events = [event for event in every_event() if event.place == "castle"][::11]
    for event in events:
        key = event.light, event.kind
        if key not in sceneries:
            sceneries[key] = stage.scenery(event.place, event.light, event.kind, random.Random(0)).crop((0, 0, 40, 30))
        picture = sceneries[key].copy()
        stage.put(picture, event, 0.25, left=False)
        looks.add(picture.tobytes())
    assert len(looks) == len(events)


@pytest.mark.parametrize("height", [64, world.HEIGHT])
def test_a_camera_sees_scenery_up_to_every_edge(height):
    stage = Stage(height * 4 // 3, height)
    size = stage.scenery("castle", "day", "foot", random.Random(0)).size
    for seed in range(20):
        camera = Camera(stage.width, height, chance=random.Random(seed))
        views = [camera.view(Image.new("L", size, 255), number / world.RATE) for number in range(40 * world.RATE)]
        assert min(view.getextrema()[0] for view in views) == 255


def test_grain_wraps_neither_white_nor_black():
    for seed in range(20):
        camera = Camera(20, 15, chance=random.Random(seed))
        for colour, least, most in ((255, 180, 255), (0, 0, 12)):
            developed = camera.develop(Image.new("RGB", (20, 15), (colour,) * 3), seed / 10, seed)
            assert developed.shape == (15, 20, 3)
            assert least <= developed.min()
            assert developed.max() <= most


@pytest.mark.parametrize("light", LIGHTS)
def test_every_place_looks_different_in_a_light(light):
    stage = Stage(40, 30)
    means = [np.asarray(stage.scenery(place, light, "foot", random.Random(0)), float) for place in PLACES]
    assert min(abs(one - other).mean() for one, other in itertools.combinations(means, 2)) > 2


def test_an_interrupted_world_holds_whole_files_only_and_is_completed(rendered, tmp_path):
    def stop(done: int, _: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_world(tmp_path, **SIZES, seed=0, on_progress=stop)
    there = sorted(path.name for path in tmp_path.iterdir())
    assert 1 <= len(there) < 5
    assert "captions.jsonl" not in there
    (tmp_path / "video_003.mp4.part").write_bytes(b"half a file, of a process that was killed")
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in there}
    render_world(tmp_path, **SIZES, seed=0)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in there} == times
    assert [path.name for path in sorted(tmp_path.iterdir())] == [path.name for path in sorted(rendered.iterdir())]


def test_another_world_takes_the_place_of_the_first(tmp_path):
    render_world(tmp_path, train=1, dev=0, test=1, seed=0)
    before = (tmp_path / "video_000.mp4").read_bytes()
    seen: list[tuple[int, int]] = []
    render_world(tmp_path, train=1, dev=0, test=0, seed=1, on_progress=lambda done, total: seen.append((done, total)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.jsonl", "video_000.mp4"]
    assert (tmp_path / "video_000.mp4").read_bytes() != before
    assert seen == [(1, 1)]


def test_what_is_not_the_demos_is_left_alone(tmp_path, rendered):
    (tmp_path / "captions.jsonl").write_text("mine\n")
    with pytest.raises(DataError, match="use another folder"):
        render_world(tmp_path, **SIZES, seed=0)
    assert (tmp_path / "captions.jsonl").read_text() == "mine\n"
    (tmp_path / "captions.jsonl").unlink()
    with av.open(str(rendered / "video_000.mp4")) as source, av.open(str(tmp_path / "video_000.mp4"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    with pytest.raises(DataError, match="not a video of the demo"):
        render_world(tmp_path, **SIZES, seed=0)
    with pytest.raises(DataError, match="no teacher of the demo"):
        train_teacher(tmp_path, seed=0, steps=2)


def test_each_still_has_a_brightness_a_cast_and_grain_of_its_own() -> None:
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 102, np.uint8)  # 0.8 of the 2 of white
    pixels = 1 + _pixels([black, grey, grey], torch.Generator().manual_seed(0))
    assert pixels.shape == (3, 3, 8, 8)
    assert 0 <= pixels[0].min() < pixels[0].max() <= 0.1
    assert pixels[1:].min() >= 0.8 * 0.78 * 0.95
    assert pixels[1:].max() <= 0.8 * 1.08 * 1.05 + 0.1
    means = pixels[1:].mean(dim=(2, 3))
    assert abs(means[0].mean() - means[1].mean()) > 0.01  # brightness
    assert (means.amax(1) - means.amin(1)).max() > 0.01  # cast
    white = _pixels([np.full((8, 8, 3), 255, np.uint8)] * 20, torch.Generator().manual_seed(0))
    assert white.max() == 1  # as the saved image processor gives it
    assert torch.equal(white, _pixels([np.full((8, 8, 3), 255, np.uint8)] * 20, torch.Generator().manual_seed(0)))


def test_the_teacher_opens_as_any_clip_does_and_padding_changes_nothing(teacher):
    # At the top of the file, every process of the tests would import it.
    from transformers import AutoTokenizer, CLIPModel

    model, tokenizer = CLIPModel.from_pretrained(teacher), AutoTokenizer.from_pretrained(teacher)
    short, long = "a red ball rolls past the castle", "at dusk a couple of scarlet coaches roll past the old windmill in close up"
    with torch.inference_mode():
        alone = model.get_text_features(**tokenizer(short, return_tensors="pt")).pooler_output
        padded = model.get_text_features(**tokenizer([short, long], padding=True, return_tensors="pt")).pooler_output
    torch.testing.assert_close(alone[0], padded[0])
    assert tokenizer.decode(tokenizer("A red BALL!")["input_ids"]) == "<s> a red ball </s>"


def test_the_teacher_is_an_encoder_of_images_sentences_and_words(teacher):
    encoder = DualEncoder(str(teacher))
    frames = [np.full((120, 160, 3), shade, np.uint8) for shade in (0, 200)]
    assert encoder.encode_images(frames).shape == encoder.encode_sentences(["a ball", "a zeppelin"]).shape == (2, WIDTH)
    assert [len(rows) for rows in encoder.encode_words(["a ball", "two red balls " * 20])] == [4, 24]


def test_a_teacher_is_trained_once_and_gives_way_to_another_seed(teacher):
    weights = teacher / "model.safetensors"
    before, made = weights.read_bytes(), os.stat(weights).st_mtime_ns
    train_teacher(teacher, seed=0, steps=2)
    assert os.stat(weights).st_mtime_ns == made
    state = torch.random.get_rng_state()
    train_teacher(teacher, seed=1, steps=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert weights.read_bytes() != before
    train_teacher(teacher, seed=0, steps=2)
    assert weights.read_bytes() == before
    assert not list(teacher.parent.glob("*.part"))


def test_a_teacher_whose_training_was_interrupted_is_not_there(tmp_path):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_teacher(tmp_path / "teacher", seed=0, steps=1, on_progress=stop)
    assert not (tmp_path / "teacher").exists()


@pytest.mark.slow
def test_training_lowers_the_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_clip, "STILLS", 32)
    losses: list[float] = []
    train_teacher(tmp_path / "teacher", seed=0, steps=40, on_progress=lambda step, steps, loss, right: losses.append(loss))
    # A guess: ln 32, or 3.47, as with captions of other stills; with a rate of 0, 3.8.
    assert losses[-1] < losses[0] < 3.3
