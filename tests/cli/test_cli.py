"""The commands, from a folder of real video files to hits and figures, and what they say when something is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from commands import Answer, Prvr, says
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_encoders import make_clip, make_roberta, make_textual, make_visual
from tiny_videos import SECONDS, plain, write_video
from waiting import until

from prvr import cli
from prvr.evaluate.saved_scores import SavedScores, save_scores
from prvr.features.packed import Packed
from prvr.methods import checkpoint as checkpoints
from prvr.methods.calibration import fit
from prvr.search import open_index
from prvr.video import VideoReader

COLOURS_SHOWN = [(first, second) for first in range(5) for second in range(5) if first != second][:12]
SETTINGS = ["hidden=16", "heads=2", "epochs=3", "batch_videos=4", "lr=1e-3"]


@dataclass
class World:
    """A folder of videos with captions, two encoders, their features and a trained run."""

    videos: Path
    clip: Path
    roberta: Path
    features: Path
    run: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twelve videos of two colours, two seconds each, with a caption for each."""
    root = tmp_path_factory.mktemp("world")
    world = World(root / "videos", root / "tiny-clip", root / "tiny-roberta", root / "features", root / "run")
    world.videos.mkdir()
    lines = []
    for number, colours in enumerate(COLOURS_SHOWN):
        name = f"video_{number:02d}.mp4"
        frames = [(100 * n, plain(SECONDS[colours[n // 20]])) for n in range(40)]
        write_video(world.videos / name, frames)
        for k, colour in enumerate(colours):
            text = f"a {SECONDS[colour]} picture"
            lines.append({"video": name, "text": text, "start": 2.0 * k, "end": 2.0 * k + 2})
    (world.videos / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    make_clip(world.clip)
    make_roberta(world.roberta)
    from prvr.extract.folder import extract_folder

    extract_folder(world.videos, world.features, encoders=[world.clip], words=[world.roberta], rate=2.0)
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy of one's own."""
    shutil.copytree(made.videos.parent, tmp_path / "world")
    own = tmp_path / "world"
    return World(*(own / path.name for path in vars(made).values()))


def train(prvr: Prvr, world: World, *more: object) -> Answer:
    names = ["--words", "tiny_roberta", "--teacher", "tiny_clip"]
    return prvr("train", world.videos, world.features, world.run, *names, *SETTINGS, *more)


def test_an_encoder_without_words_is_refused_before_the_videos_are_read(prvr: Prvr, made: World, tmp_path: Path) -> None:
    make_textual(tmp_path / "onnx")
    answer = prvr("extract", made.videos, tmp_path / "features", "--encoder", made.clip, "--words", tmp_path / "onnx")
    assert answer.status == 1
    assert "'onnx' gives no rows per word; take a text model such as RoBERTa, or CLIP" in answer.err
    assert not (tmp_path / "features").exists()


def test_the_whole_way(prvr: Prvr, world: World, tmp_path: Path) -> None:
    features = tmp_path / "features"
    answer = prvr("extract", world.videos, features, "--encoder", world.clip, "--words", world.roberta, "--rate", 2, "--json")
    assert answer.status == 0, answer.err
    assert {name: counts["done"] for name, counts in answer.json["extracted"].items()} == {
        "tiny_clip/frames": 12,
        "tiny_clip/sentences": 24,
        "tiny_roberta/words": 24,
    }
    again = prvr("extract", world.videos, features, "--encoder", world.clip, "--rate", 2)
    assert "tiny_clip/frames: 0 done, 12 kept, 0 dropped, 0 problems" in again.out

    trained = train(prvr, world, "--json")
    assert trained.status == 0, trained.err
    assert (world.run / "curves.png").exists()
    assert len((world.run / "history.jsonl").read_text().splitlines()) == 3

    figures = prvr("evaluate", world.videos, world.features, "--model", world.run, "--json").json
    assert figures["videos"] == 3
    assert figures["r100"] == 100
    assert set(figures["moments"]) == {"0.3", "0.5", "0.7"}
    teacher = prvr("evaluate", world.videos, world.features, "--zero-shot", "tiny_clip", "--split", "all")
    assert "24 queries, 12 videos" in teacher.out
    assert "IoU>=0.5" in teacher.out

    gallery = tmp_path / "gallery"
    assert "12 added" in prvr("index", world.videos, gallery, "--model", world.run).out
    assert "0 added, 12 kept" in prvr("index", world.videos, gallery, "--model", world.run).out
    answer = prvr("search", gallery, "a red picture", "-k", 3, "--json")
    assert len(answer.json["hits"]) == 3
    for hit in answer.json["hits"]:
        assert 0 <= hit["start"] < hit["end"] <= 4.1
    plain_text = prvr("search", gallery, "a red picture", "-k", 2)
    assert len(plain_text.out.splitlines()) == 2


def test_search_serves_what_evaluate_counts(prvr: Prvr, world: World, tmp_path: Path) -> None:
    from prvr.datasets.folder import load
    from prvr.evaluate.evaluation import evaluate_model
    from prvr.methods.checkpoint import features_for

    train(prvr, world)
    gallery = tmp_path / "gallery"
    assert prvr("index", world.videos, gallery, "--model", world.run, "--dtype", "float32").status == 0
    checkpoint = checkpoints.load(world.run)
    dataset = load(world.videos, "all")
    counted = evaluate_model(checkpoint.model, dataset, features_for(world.features, checkpoint))
    searched = open_index(gallery)
    for caption, scores in zip(dataset.captions, counted.scores, strict=True):
        found = searched.search(caption.text, k=12)
        # A student that has learned so little may embed two videos alike: then one of them takes no place of its own.
        alike = {video for hit in found for video in hit.near_identical}
        expected = {video: score for video, score in zip(counted.videos, scores, strict=True) if video not in alike}
        assert {hit.video: hit.score for hit in found} == pytest.approx(expected, abs=1e-5)


def test_zero_shot_index_grows_changes_and_shrinks(prvr: Prvr, world: World, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    options = [gallery, "--zero-shot", world.clip, "--rate", 2]
    assert "12 added" in prvr("index", world.videos, *options).out
    (world.videos / "video_00.mp4").unlink()
    write_video(world.videos / "video_01.mp4", [(100 * n, plain("white")) for n in range(20)])
    write_video(world.videos / "new.mp4", [(100 * n, plain("black")) for n in range(20)])
    assert "2 added, 10 kept, 1 dropped" in prvr("index", world.videos, *options).out
    found = {hit["video"] for hit in prvr("search", gallery, "a picture", "-k", 50, "--json").json["hits"]}
    assert "new.mp4" in found
    assert "video_00.mp4" not in found
    assert len(found) == 12


def test_bad_files_do_not_stop_the_folder(prvr: Prvr, world: World, tmp_path: Path) -> None:
    (world.videos / "empty.mp4").write_bytes(b"")
    (world.videos / "text.mp4").write_text("this is not a video\n" * 50)
    whole = (world.videos / "video_03.mp4").read_bytes()
    (world.videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    answer = prvr("index", world.videos, tmp_path / "gallery", "--zero-shot", world.clip)
    assert answer.status == 0
    assert "12 added" in answer.out
    lines = [line for line in answer.err.splitlines() if line.startswith("prvr: ")]
    assert [line.split(": ")[1] for line in lines] == ["cut.mp4", "empty.mp4", "text.mp4"]
    extracted = prvr("extract", world.videos, tmp_path / "features", "--encoder", world.clip)
    assert "12 done, 0 kept, 0 dropped, 3 problems" in extracted.out


def test_an_index_of_another_checkpoint(prvr: Prvr, world: World, tmp_path: Path) -> None:
    train(prvr, world)
    assert prvr("index", world.videos, tmp_path / "gallery", "--model", world.run).status == 0
    mine = checkpoints.load(world.run).fingerprint
    world.run = world.run.with_name("other")
    train(prvr, world, "seed=5")
    other = checkpoints.load(world.run).fingerprint
    says(prvr("index", world.videos, tmp_path / "gallery", "--model", world.run), mine, other, "another folder")
    says(prvr("search", tmp_path / "gallery", "a red picture", "--model", world.run), mine, other)


def test_wrong_settings(prvr: Prvr, world: World) -> None:
    says(train(prvr, world, "marign=0.3"), "unknown setting 'marign'; did you mean 'margin'?")
    says(train(prvr, world, "margin"), "'margin' is not a setting", "key=value")
    says(train(prvr, world, "margin=wide"), "margin is 'wide'", "a number")
    says(train(prvr, world, "--preset", "dl-dkd+"), "unknown preset 'dl-dkd+'; did you mean 'dl-dkd++'?")
    says(train(prvr, world, "distillation_decay=exponentia"), "did you mean 'exponential'?")
    says(train(prvr, world, "heads=3"), "hidden 16 is not a multiple of heads 3")
    assert not world.run.exists()


def test_features_that_are_not_there(prvr: Prvr, world: World, tmp_path: Path) -> None:
    answer = prvr("train", world.videos, world.features, world.run, "--words", "tiny_robert", "--teacher", "tiny_clip")
    says(answer, "no words features of 'tiny_robert'", "did you mean 'tiny_roberta'?")
    says(prvr("train", world.videos, world.features, world.run, "--words", "tiny_roberta"), "--teacher NAME", "--frames NAME")
    says(prvr("evaluate", world.videos, tmp_path / "none", "--zero-shot", "clip"), "prvr extract")
    says(prvr("evaluate", world.videos, world.features, "--model", tmp_path / "none"), "no checkpoint", "prvr train")
    says(prvr("evaluate", world.videos, world.features), "name one model")
    says(prvr("search", tmp_path / "none", "a red picture"), "no index", "prvr index")


def test_a_video_added_after_extraction(prvr: Prvr, world: World) -> None:
    write_video(world.videos / "late.mp4", [(100 * n, plain("white")) for n in range(20)])
    with open(world.videos / "captions.jsonl", "a") as file:
        file.write(json.dumps({"video": "late.mp4", "text": "late", "split": "train"}) + "\n")
    says(train(prvr, world), "no features for video 'late.mp4'", "1 of", "prvr extract")


def test_a_caption_changed_after_extraction(prvr: Prvr, world: World) -> None:
    path = world.videos / "captions.jsonl"
    path.write_text(path.read_text().replace("a red picture", "a scarlet picture"))
    says(train(prvr, world), "a scarlet picture", "a red picture", "run prvr extract again")


def test_moments_after_the_end_are_named_by_line(prvr: Prvr, world: World, tmp_path: Path) -> None:
    path = world.videos / "captions.jsonl"
    first, *rest = map(json.loads, path.read_text().splitlines())
    path.write_text("".join(json.dumps(line) + "\n" for line in ({**first, "start": 0.0, "end": 500.0}, *rest)))
    answer = prvr("extract", world.videos, world.features, "--encoder", world.clip, "--rate", 2)
    assert answer.status == 0
    assert "captions.jsonl, line 1: the moment up to 500 s ends after the video" in answer.err
    answer = prvr("evaluate", world.videos, world.features, "--zero-shot", "tiny_clip", "--split", "all")
    assert answer.status == 0
    assert "captions.jsonl, line 1: the moment up to 500 s ends after the video" in answer.err


def test_captions_that_are_wrong(prvr: Prvr, world: World) -> None:
    path = world.videos / "captions.jsonl"
    path.write_text('{"video": "video_00.mp4", "text": "  "}\n')
    says(train(prvr, world), "line 1", "empty")
    path.unlink()
    says(train(prvr, world), "no captions at")


def test_encoders_that_cannot(prvr: Prvr, world: World, tmp_path: Path) -> None:
    says(prvr("extract", world.videos, tmp_path / "f", "--encoder", world.roberta), "no image side")
    says(prvr("index", world.videos, tmp_path / "g", "--zero-shot", tmp_path / "nowhere"), "nowhere")
    (tmp_path / "bare").mkdir()
    says(prvr("index", tmp_path / "bare", tmp_path / "g", "--zero-shot", world.clip), "no video", "bare")
    says(prvr("index", world.videos, tmp_path / "g", "--model", world.run, "--encoder", world.clip), "name one model")


def test_an_encoder_that_is_another_one_now(prvr: Prvr, world: World, tmp_path: Path) -> None:
    assert prvr("index", world.videos, tmp_path / "gallery", "--zero-shot", world.clip).status == 0
    weights = world.clip / "model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    says(prvr("search", tmp_path / "gallery", "a red picture"), "fingerprint", "put the old one back")


def test_an_encoder_named_from_where_one_stood(prvr: Prvr, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.clip.parent)
    assert prvr("index", "videos", "gallery", "--zero-shot", "tiny-clip").status == 0
    monkeypatch.chdir(tmp_path)
    assert prvr("search", world.clip.with_name("gallery"), "a red picture").status == 0


def test_an_encoder_that_has_moved(prvr: Prvr, world: World, tmp_path: Path) -> None:
    assert prvr("index", world.videos, tmp_path / "gallery", "--zero-shot", world.clip).status == 0
    moved = tmp_path / "moved" / world.clip.name
    shutil.move(world.clip, moved)
    says(prvr("search", tmp_path / "gallery", "a red picture"), "'tiny_clip'", str(world.clip), "put it back", "config.json")
    assert "12 kept" in prvr("index", world.videos, tmp_path / "gallery", "--zero-shot", moved).out
    assert prvr("search", tmp_path / "gallery", "a red picture").status == 0


def test_what_an_index_cannot_change(prvr: Prvr, world: World, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    assert prvr("index", world.videos, gallery, "--zero-shot", world.clip, "--dtype", "float32").status == 0
    assert "12 kept" in prvr("index", world.videos, gallery, "--zero-shot", world.clip).out
    answer = prvr("index", world.videos, gallery, "--zero-shot", world.clip, "--dtype", "float16")
    says(answer, "holds float32, not float16", "another folder")
    says(prvr("index", world.videos, gallery, "--model", world.run, "--rate", 2), "--rate is for --encoder")
    # The rate is kept: named again with the encoder, another one is refused, and without one nothing is encoded again.
    says(
        prvr("index", world.videos, gallery, "--encoder", world.clip, "--rate", 3), "has 1 frames per second, not 3", "--rate out"
    )
    (world.videos / "video_00.mp4").rename(world.videos / "aside")
    assert prvr("index", world.videos, tmp_path / "two", "--encoder", world.clip, "--rate", 2).status == 0
    (world.videos / "aside").rename(world.videos / "video_00.mp4")
    assert "1 added, 11 kept" in prvr("index", world.videos, tmp_path / "two", "--encoder", world.clip).out
    entries = open_index(tmp_path / "two").index.fetch(["video_00.mp4", "video_01.mp4"])
    assert entries["video_00.mp4"].edges == entries["video_01.mp4"].edges


def test_queries(prvr: Prvr, world: World, tmp_path: Path) -> None:
    assert prvr("index", world.videos, tmp_path / "gallery", "--zero-shot", world.clip).status == 0
    says(prvr("search", tmp_path / "gallery", "   "), "the query is empty")
    says(prvr("search", tmp_path / "gallery", "red", "-k", 0), "k is 0")
    one_word = prvr("search", tmp_path / "gallery", "red", "-k", 50)
    assert len(one_word.out.splitlines()) == 12
    # The tiny encoder reads twelve tokens, a start and an end among them.
    long = prvr("search", tmp_path / "gallery", "red " * 200, "-k", 1)
    assert (long.status, len(long.out.splitlines())) == (0, 1)
    assert "reads the first 10 of these 200 words; say it in fewer" in long.err
    says(prvr("search", tmp_path / "gallery", "red " * 500), "the query has 2000 characters, at most 1000")


def test_questions_of_several_parts_pictures_and_moments(prvr: Prvr, world: World, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    assert prvr("index", world.videos, gallery, "--zero-shot", world.clip, "--rate", 2).status == 0
    found = prvr("search", gallery, "a red picture", "--then", "a blue picture", "--without", "a dog", "--json", "-k", 3).json
    assert (found["then"], found["without"], found["measure"]) == (["a blue picture"], ["a dog"], "score")
    assert len(found["hits"]) == 3
    for hit in found["hits"]:
        first, second = hit["parts"]
        assert (first["said"], second["said"]) == ("a red picture", "a blue picture")
        assert hit["start"] == first["start"] < first["end"] <= second["start"] < second["end"] == hit["end"]
    lines = prvr("search", gallery, "a red picture", "--then", "a blue picture", "-k", 2).out.splitlines()
    assert len(lines) == 6
    assert lines[1].endswith("a red picture")
    # A frame of a video, from a file and from the index.
    still = tmp_path / "still.png"
    with VideoReader(world.videos / "video_04.mp4", rate=2.0) as reader:
        Image.fromarray(reader.still(1.0)).save(still)
    by_picture = prvr("search", gallery, "--image", still, "--json", "-k", 1).json["hits"][0]
    assert by_picture["score"] == pytest.approx(1, abs=1e-3)
    like = prvr("search", gallery, "--like", "video_04.mp4@1.0", "--json", "-k", 50)
    assert "video_04.mp4" not in {hit["video"] for hit in like.json["hits"]}
    assert "video_04.mp4 is not listed" in like.json["note"]
    moments = prvr("search", gallery, "a red picture", "--moments", "--json", "-k", 5).json["hits"]
    pages = [prvr("search", gallery, "a red picture", "--moments", "--json", "-k", 2, "--page", n).json["hits"] for n in (1, 2)]
    assert pages[0] + pages[1] == moments[:4]
    assert prvr("search", gallery, "a red picture", "--page", 99).out == "nothing more here matches\n"
    (tmp_path / "no.png").write_text("no picture")
    for arguments, said in (
        (("--without", "a dog"), "there is nothing to look for: 'without'"),
        (("--image", tmp_path / "no.png"), "is not a picture that can be read"),
        (("--image", tmp_path / "none.png"), "cannot read the picture"),
        (("--like", "video_99.mp4@1"), "the index holds no video 'video_99.mp4'; did you mean"),
        (("--like", "video_04.mp4@9"), "'video_04.mp4' ends at 4.0 seconds, before 9"),
        (("--like", "video_04.mp4"), "is not a moment; write VIDEO@SECONDS"),
        (("a", "--then", "b", "--moments"), "leave out 'then'"),
        (("a", "--rescore", "anchors", "--moments"), "leave it out, or --moments"),
    ):
        says(prvr("search", gallery, *arguments), said)


def test_an_index_is_searched_in_part_copied_and_verified(prvr: Prvr, world: World, tmp_path: Path) -> None:
    own = [{"video": f"video_{n:02d}.mp4", "camera": "north" if n < 3 else "south"} for n in range(12)]
    (world.videos / "videos.jsonl").write_text("".join(json.dumps(line) + "\n" for line in own))
    answer = prvr("index", world.videos, "--zero-shot", world.clip, "--rate", 2)
    assert answer.out == f"{world.videos / '.prvr'}: 12 added, 0 kept, 0 dropped, 0 problems\n"
    # Neither the place nor the model has to be said again.
    assert "12 kept" in prvr("index", world.videos).out
    found = prvr("search", world.videos, "a red picture", "--where", "camera=north", "--json", "--curve").json["hits"]
    assert {hit["video"] for hit in found} == {"video_00.mp4", "video_01.mp4", "video_02.mp4"}
    for hit in found:
        assert hit["start"] == hit["spans"][0]["start"]
        assert len(hit["edges"]) == len(hit["curve"]) + 1
        assert list(hit["branches"]) == ["teacher"]
    assert (
        prvr("search", world.videos, "red", "--where", "camera=south", "--where", "duration>60").out == "nothing here matches\n"
    )
    assert "with a score of 2 or more" in prvr("search", world.videos, "red", "--min-score", 2).out
    says(prvr("search", world.videos, "red", "--where", "camra=north"), "no video has a field 'camra'; did you mean 'camera'?")
    says(prvr("search", world.videos, "x" * 100_000), "the query has 100000 characters")

    copied = prvr("index", "copy", world.videos, tmp_path / "copy")
    assert copied.out == f"{tmp_path / 'copy'}: 12 written, 0 kept, 0 dropped; all 12 are the same\n"
    searches = [prvr("search", place, "a red picture", "--json").out for place in (world.videos, tmp_path / "copy")]
    assert searches[0] == searches[1]
    (tmp_path / "queries.txt").write_text("a red picture\na blue picture\n")
    verified = prvr("index", "verify", tmp_path / "copy", "--queries", tmp_path / "queries.txt")
    assert "12 videos, 0 damaged" in verified.out
    assert "2 queries: recall@10 1.0000 against the exact scan" in verified.out
    for arguments in (("index", "copy"), ("index", "verify")):
        assert f"Example: prvr {' '.join(arguments)}" in prvr(*arguments, "--help").out


def test_a_damaged_video_is_told_and_mended(prvr: Prvr, world: World) -> None:
    assert prvr("index", world.videos, "--zero-shot", world.clip).status == 0
    with sqlite3.connect(world.videos / ".prvr" / "index.sqlite") as file, file.blobopen("codes", "data", 5) as blob:
        blob.write(b"\x55" * 9)
    file.close()
    says(prvr("search", world.videos, "red"), "damaged", "prvr index verify", "--drop")
    answer = prvr("index", "verify", world.videos, "--drop")
    assert answer.status == 1
    assert "12 videos, 1 damaged, taken out" in answer.out
    assert "1 added, 11 kept" in prvr("index", world.videos).out
    assert prvr("index", "verify", world.videos).status == 0


def test_an_index_of_the_teacher_alone_is_calibrated_by_a_kept_run(prvr: Prvr, world: World, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    target = draw.integers(0, 20, 80)
    scores = draw.normal(size=(80, 20)).astype(np.float32)
    scores[np.arange(80), target] += 2
    ids = (tuple(f"{kind}{n}" for n in range(size)) for kind, size in (("q", 80), ("v", 20)))
    run = SavedScores(scores, *ids, target=target, split="dev", system="teacher")
    save_scores(run, tmp_path / "dev.npz")
    save_scores(replace(run, queries=run.queries[:9], scores=scores[:9], target=target[:9]), tmp_path / "small.npz")
    new = ("index", world.videos, tmp_path / "g", "--zero-shot", world.clip)
    says(prvr(*new, "--calibrate", tmp_path / "small.npz"), "small.npz has 9 queries and 20 videos", "50 and 10 at least")
    assert not (tmp_path / "g").exists()
    assert prvr(*new).status == 0
    assert prvr("search", tmp_path / "g", "red", "--json").json["measure"] == "score"
    assert "12 kept" in prvr("index", world.videos, tmp_path / "g", "--calibrate", tmp_path / "dev.npz").out
    asked = prvr("search", tmp_path / "g", "red", "--json").json
    assert asked["measure"] == "probability"
    expected = fit(scores, run.correct, split="dev")
    assert expected is not None
    assert checkpoints.load(tmp_path / "g" / "model").calibration == expected
    hits = np.array([hit["score"] for hit in asked["hits"]])
    assert [hit["probability"] for hit in asked["hits"]] == pytest.approx(expected.probabilities(hits, videos=12).tolist())
    # What is said again of the index says nothing of its probabilities.
    assert "12 kept" in prvr(*new).out
    assert prvr("search", tmp_path / "g", "red", "--json").json == asked


@pytest.mark.slow
def test_a_folder_is_watched_until_it_is_interrupted(world: World, tmp_path: Path) -> None:
    encoder = make_textual(make_visual(tmp_path / "tiny", size=[8, 12]))
    command = [sys.executable, "-m", "prvr", "index", world.videos, tmp_path / "g", "--zero-shot", encoder, "--watch"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    assert "12 added" in process.stdout.readline()
    write_video(world.videos / "late.mp4", [(100 * n, plain("white")) for n in range(20)])
    assert "1 added, 12 kept" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted; completed work is kept" in err


def test_a_student_of_published_features_cannot_read_videos(prvr: Prvr, world: World, tmp_path: Path) -> None:
    from prvr.features.sources import FeatureSources, Source
    from prvr.methods.dl_dkd import DlDkdConfig

    reads = FeatureSources(Source("i3d", 12), Source("roberta_published", 8))
    checkpoints.save(checkpoints.build("dl_dkd", DlDkdConfig(hidden=8), reads), tmp_path / "run")
    says(prvr("index", world.videos, tmp_path / "g", "--model", tmp_path / "run"), "reads 'i3d' frames", "prvr extract")
    assert not (tmp_path / "g").exists()


@pytest.mark.slow
def test_training_that_is_interrupted_goes_on(prvr: Prvr, world: World) -> None:
    """A real process, a real Ctrl-C."""
    command = [sys.executable, "-m", "prvr", "train", world.videos, world.features, world.run, "--words", "tiny_roberta"]
    command += ["--teacher", "tiny_clip", *SETTINGS, "epochs=40000", "patience=40000"]
    # Where the tests run in the background, a shell has told them to ignore interrupts, and the process would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    # The history comes last of what an epoch writes.
    until((world.run / "history.jsonl").exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted; completed work is kept" in err
    assert "Traceback" not in err
    epochs = len((world.run / "history.jsonl").read_text().splitlines())
    assert 1 <= epochs < 40000
    assert not list(world.run.glob("*.part"))


@pytest.mark.slow
@pytest.mark.thorough
def test_extraction_killed_outright_goes_on(world: World, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prvr", "extract", world.videos, tmp_path / "f", "--encoder", world.clip, "--rate", "10"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    journal = tmp_path / "f" / "tiny_clip" / "frames" / "items.jsonl"
    until(lambda: journal.exists() and journal.stat().st_size)
    process.kill()
    process.wait()
    there = set(Packed(journal.parent))
    assert there
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert f"{12 - len(there)} done, {len(there)} kept" in done.stdout
    fresh = Packed(journal.parent)
    assert set(fresh) == {path.name for path in world.videos.glob("*.mp4")}


@pytest.mark.slow
@pytest.mark.thorough
def test_indexing_killed_outright_goes_on(prvr: Prvr, world: World, tmp_path: Path) -> None:
    # Of clips the embeddings are no features, so that these are kept beside the index.
    teacher = ["--zero-shot", world.clip, "--parts", "clips", "--rate", 10]
    command = [sys.executable, "-m", "prvr", "index", world.videos, tmp_path / "g", *teacher]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    journal = tmp_path / "g" / "features" / "items.jsonl"
    until(lambda: journal.exists() and journal.stat().st_size)
    process.kill()
    process.wait()
    extracted = (tmp_path / "g" / "features" / "rows.bin").read_bytes()
    assert extracted
    again = prvr("index", world.videos, tmp_path / "g", *teacher, "--json")
    assert again.json["added"] + again.json["kept"] == 12
    # What was there before the kill was not done again: the same bytes lead the file still.
    assert (tmp_path / "g" / "features" / "rows.bin").read_bytes().startswith(extracted[: len(extracted) // 80 * 80])
    fresh = prvr("index", world.videos, tmp_path / "fresh", *teacher)
    assert fresh.status == 0
    answers = [prvr("search", tmp_path / name, "a red picture", "-k", 12).out for name in ("g", "fresh")]
    assert answers[0] == answers[1]


def test_a_run_is_not_evaluated_on_other_splits(prvr: Prvr, world: World) -> None:
    train(prvr, world, "--split-seed", 3)
    assert prvr("evaluate", world.videos, world.features, "--model", world.run).status == 0
    answer = prvr("evaluate", world.videos, world.features, "--model", world.run, "--split-seed", 4)
    says(answer, "--split-seed 3, not 4")


def test_a_traceback_only_with_debug(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from prvr.errors import ModelError

    monkeypatch.setattr(sys, "argv", ["prvr", "search", str(tmp_path), "red", "--debug"])
    with pytest.raises(ModelError):
        cli.main()


@pytest.mark.parametrize("what", ["import prvr; dir(prvr)", "import prvr.cli", "sys.argv = ['prvr', '--help']; prvr.cli.main()"])
def test_import_and_help_do_not_import_torch(what: str) -> None:
    code = f"import atexit, os, sys, prvr.cli; atexit.register(lambda: os._exit('torch' in sys.modules)); {what}"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("av", "video", ["index", "VIDEOS", "OUT", "--zero-shot", "CLIP"]),
        ("transformers", "encoders", ["index", "VIDEOS", "OUT", "--zero-shot", "CLIP"]),
        ("av", "all", ["demo", "OUT"]),
        ("PIL", "all", ["demo", "OUT"]),
    ],
)
def test_an_extra_that_is_not_installed(made: World, tmp_path: Path, module: str, extra: str, command: list[str]) -> None:
    places = {"VIDEOS": made.videos, "OUT": tmp_path / "out", "CLIP": made.clip}
    code = f"import sys; sys.modules[{module!r}] = None; sys.argv[0] = 'prvr'; from prvr import cli; cli.main()"
    arguments = [str(places.get(word, word)) for word in command]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"prvr: {module} is not installed; pip install 'prvr[{extra}]'"


def test_every_command_has_help_with_an_example(prvr: Prvr) -> None:
    for command in every_command():
        answer = prvr(*command.split(), "--help")
        assert answer.status == 0
        # `prvr index` is short for `prvr index update`.
        assert f"Example: prvr {command.removesuffix(' update')} " in " ".join(answer.out.split())
        assert "if not said" not in answer.out


def test_every_argument_has_the_name_that_the_help_calls_it_by(prvr: Prvr) -> None:
    for command in every_command():
        usage = prvr(*command.split(), "--help").out.partition("\n\n")[0]
        names = re.findall(r"[{\[]([^]}]+)[]}]", usage)
        assert all(name == name.upper() for name in names if name != "ARGS"), usage
    # It is written there, not read.
    assert "FEATURES <path>  Folder to write the features to." in prvr("extract", "--help").out


def every_command() -> list[str]:
    """The names of all commands, sub-commands included."""
    groups: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    return [name if sub is None else f"{name} {sub}" for name, its in groups.items() for sub in getattr(its, "commands", [None])]


def test_defaults_are_shown(prvr: Prvr) -> None:
    shown = {command: " ".join(prvr(*command, "--help").out.split()) for command in (("evaluate",), ("index",), ("train",))}
    assert "train, dev, test or all. [default: test]" in shown["evaluate",]
    assert "Folder of the index, or URL of shards. [default: (VIDEOS/.prvr)]" in shown["index",]
    assert "[default: (the first teacher's)]" in shown["train",]


def test_a_folder_of_videos_that_is_called_like_a_command(prvr: Prvr, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.videos.parent)
    world.videos.rename("copy")
    assert "12 added" in prvr("index", "./copy", "gallery", "--zero-shot", world.clip).out
    assert "0 added, 12 kept" in prvr("index", "update", "copy", "gallery").out
    assert "0 added, 12 kept" in prvr("index", "--device", "cpu", "./copy", "gallery").out
    assert prvr("index", "copy", "gallery", "backup").out.startswith("backup: 12 written")
    assert "Missing argument 'videos'" in prvr("index").err.replace("VIDEOS", "videos")
    assert "No such option: --aproximate" in prvr("index", "verify", "gallery", "--aproximate").err


def test_a_disk_that_is_full(prvr: Prvr, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        says(train(prvr, world), "No space left on device")
        answer = prvr("index", world.videos, world.run.with_name("gallery"), "--zero-shot", world.clip)
        says(answer, "No space left on device")
    assert train(prvr, world).status == 0
    assert "12 added" in prvr("index", world.videos, world.run.with_name("gallery"), "--zero-shot", world.clip).out


def test_an_index_of_another_encoder(prvr: Prvr, world: World, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    assert prvr("index", world.videos, gallery, "--encoder", world.clip).status == 0
    # Neither opened nor downloaded: the name is enough.
    answer = prvr("index", world.videos, gallery, "--encoder", "openai/clip-vit-base-patch32")
    says(answer, f"was made with the encoder {world.clip}, not openai/clip-vit-base-patch32; leave the encoder out")
    assert "12 kept" in prvr("index", world.videos, gallery).out


def test_a_new_index_takes_the_default_encoder(prvr: Prvr, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_encoders import make_siglip

    from prvr.encoders.hub import DEFAULT_ENCODER

    # A folder of that name where one stands comes before the hub.
    monkeypatch.chdir(world.videos.parent)
    make_siglip(Path(DEFAULT_ENCODER))
    answer = prvr("index", "videos")
    assert "12 added" in answer.out, answer.err
    assert checkpoints.load(Path("videos/.prvr/model")).sources.frames.name == "siglip2_base_patch16_224"
    assert prvr("search", "videos", "a red picture").status == 0


def test_a_folder_without_an_index(prvr: Prvr, world: World, tmp_path: Path) -> None:
    says(prvr("search", world.videos, "red"), f"no index in {world.videos}; make one: prvr index {world.videos}")
    (tmp_path / "bare").mkdir()
    says(prvr("search", tmp_path / "bare", "red"), "make one of a folder of videos: prvr index VIDEOS")


def test_short_wordings_get_a_template_that_can_be_changed(prvr: Prvr, world: World, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    assert prvr("index", world.videos, gallery, "--encoder", world.clip).status == 0

    def hits(*arguments: str, place: Path = gallery) -> list:
        return prvr("search", place, *arguments, "--json").json["hits"]

    # The template of CLIP.
    assert hits("red") == hits("a photo of a red.", "--prompt", "") != hits("red", "--prompt", "")
    assert hits("red", "--prompt", "the man in the {} kitchen") == hits("the man in the red kitchen")
    says(prvr("search", gallery, "red", "--prompt", "a photo"), "the prompt 'a photo' needs {} once")
    # A student has read captions as they were written.
    train(prvr, world)
    assert prvr("index", world.videos, tmp_path / "trained", "--model", world.run).status == 0
    trained = tmp_path / "trained"
    assert hits("red", place=trained) == hits("red", "--prompt", "", place=trained)
    assert hits("red", place=trained) != hits("red", "--prompt", "a photo of a {}.", place=trained)
