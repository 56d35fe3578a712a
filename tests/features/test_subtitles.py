"""Subtitles beside frames: aligned, missing, broken; read from packages, trained on and evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from toy_world import toy_world
from typer.testing import CliRunner

import prvr
from prvr.batch import Reading, read_frames
from prvr.cli.terminal import app
from prvr.errors import DataError, ModelError, SettingError
from prvr.features.package import open_package
from prvr.features.package_check import check_package
from prvr.features.shelf import student_features
from prvr.features.sources import FeatureSources, Source
from prvr.features.subtitles import SubtitledFrames, videos_without_subtitles
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import features_for
from prvr.search.update import Indexer

RELEASED = "pretrained_w_sub_query_max_cl-1.5"


def rows(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


# Rows beside rows


@pytest.mark.parametrize(
    ("said", "beside"),
    [
        ((5, 6, 7), (5, 6, 7)),
        ((1, 3, 5, 7, 9, 11), (2, 6, 10)),
        ((1, 2, 3, 5), (1, 2, 4)),
        ((4,), (4, 4, 4)),
        ((4, 8), (4, 4, 8)),
    ],
)
def test_a_frame_has_what_is_said_in_its_part_of_the_video(said: tuple[float, ...], beside: tuple[float, ...]) -> None:
    joined = SubtitledFrames({"a": rows(10, 20, 30)}, {"a": rows(*said)})
    assert joined["a"].tolist() == [[10, beside[0]], [20, beside[1]], [30, beside[2]]]
    assert joined["a"].dtype == np.float32


def test_a_video_without_subtitles_has_zeros_and_one_without_frames_is_none() -> None:
    joined = SubtitledFrames({"a": rows(1, 2), "b": rows(3)}, {"a": rows(9, 9), "c": rows(9)})
    assert joined["b"].tolist() == [[3, 0]]
    assert list(joined) == ["a", "b"]
    assert ("c" in joined, len(joined)) == (False, 2)
    assert list(videos_without_subtitles(joined, ["a", "b"]).values()) == [
        "1 of 2 videos have no subtitles, 'b' first; zeros are read in their place"
    ]
    assert videos_without_subtitles(joined, ["a"]) == {}
    assert videos_without_subtitles({"a": rows(1)}, ["a"]) == {}
    with pytest.raises(DataError, match="no subtitles of any of the 1 videos, which are called 'b' and so on, and its own 'a'"):
        videos_without_subtitles(joined, ["b"])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (np.ones((2, 3), np.float32), "the subtitles of video 'b' have 3 columns, the first ones in the features in memory 1"),
        (rows(np.nan, 1), "features of subtitles of video 'b' in the features in memory hold NaN"),
        (np.zeros((0, 1), np.float32), "features of subtitles of video 'b' in the features in memory are empty"),
    ],
)
def test_broken_subtitles_are_one_line(said: np.ndarray, message: str) -> None:
    joined = SubtitledFrames({"a": rows(1, 2), "b": rows(1, 2)}, {"a": rows(1, 2), "b": said})
    with pytest.raises(DataError, match=message):
        joined["b"]


def test_each_side_is_scaled_by_itself() -> None:
    reading = Reading(4, 1, 8, 8, unit=True, text="words", subtitle_columns=2)
    read = read_frames(np.array([[3, 4, 0, 0], [3, 4, 0.6, 0.8]]), reading)
    np.testing.assert_allclose(read, [[0.6, 0.8, 0, 0], [0.6, 0.8, 0.6, 0.8]], atol=1e-4)


# Packages


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy package in TVR's layout, with its subtitles by both names, and the annotations with types."""
    folder, data = tmp_path_factory.mktemp("packages") / "tvr", toy_world(videos=24, spoken=True)
    for side in ("FeatureData", "TextData", "annotations"):
        (folder / side).mkdir(parents=True)
    frames: Any = data.features.frames
    write(folder / "FeatureData" / "i3d.hdf5", frames.frames)
    write(folder / "TextData" / "roberta_tvr_query_feat.hdf5", data.features.text)
    write(folder / "TextData" / f"tvr_sub_{RELEASED}.h5", frames.subtitles)
    write(folder / "TextData" / "heard_tvr_sub_feat.hdf5", frames.subtitles)
    write(folder / "TextData" / "foreign_tvr_sub_feat.hdf5", {"elsewhere": rows(1, 2)})
    for split, name, dataset in (("train", "train", data.train), ("val", "val", data.dev), ("test", "test", data.dev)):
        captions = [f"{caption.id} {caption.text}\n" for caption in dataset.captions]
        (folder / "TextData" / f"tvr{name}.caption.txt").write_text("".join(captions))
        if split != "test":
            lines = [
                {"vid_name": c.video, "duration": 15, "ts": [c.start, c.end], "desc": c.text, "type": c.kind, "desc_id": n}
                for n, c in enumerate(dataset.captions)
            ]
            file = folder / "annotations" / f"tvr_{split}_release.jsonl"
            file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write(path: Path, features: Any) -> None:
    with h5py.File(path, "w") as file:
        for id in features:
            file[id] = features[id]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=True)


def test_both_names_of_subtitles_are_read(package: Path) -> None:
    opened = open_package(package)
    assert set(opened.spoken) == {RELEASED, "heard", "foreign"}
    features = student_features(package, words="roberta", frames="i3d", subtitles=RELEASED)
    assert features.sources == FeatureSources(Source("i3d", 20), Source("roberta", 16), Source(RELEASED, 14))
    assert features.frames["video001"].shape == (15, 34)
    assert opened.subtitles("heard")["video001"].shape == (15, 14)


def test_a_check_of_the_package_counts_videos(package: Path) -> None:
    files = {file.file: file for file in check_package(package).files}
    report = files[f"TextData/tvr_sub_{RELEASED}.h5"]
    assert (report.of, report.items, report.columns, report.unused) == ("videos", 21, 14, 0)
    assert (report.lacking or {})["train"] == ("video010", "video020")


def test_names_that_are_none(package: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no subtitles at .*haerd_tvr_sub_feat.hdf5; did you mean 'heard'"):
        student_features(package, words="roberta", frames="i3d", subtitles="haerd")
    bare = tmp_path / "bare"
    for side in ("FeatureData", "TextData"):
        (bare / side).mkdir(parents=True)
    with pytest.raises(DataError, match=r"no subtitles at .*; the package has none; copy them there, or leave out --subtitles"):
        open_package(bare).subtitles("heard")


def test_trained_and_evaluated_by_kind(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    tiny = ["hidden=16", "heads=2", "epochs=1", "batch_videos=8"]
    options = ["--frames", "i3d", "--words", "roberta", "--device", "cpu"]
    done = run("train", package, package, out, "--preset", "reloclnet/toy", "--subtitles", "heard", *options, *tiny)
    assert done.exit_code == 0, done.output
    assert "heard_tvr_sub_feat.hdf5: 2 of 14 videos have no subtitles, 'video010' first" in done.output
    assert 'subtitles = "heard"' in (out / "recipe.toml").read_text()
    checkpoint = checkpoints.load(out)
    assert checkpoint.sources.subtitles == Source("heard", 14)
    assert set(features_for(package, checkpoint).frames["video000"][0, 20:]) == {0.0}
    annotations = ["--annotations", package / "annotations"]
    counted = run("evaluate", package, package, "--model", out, "--groups", *annotations, "--device", "cpu", "--json")
    assert counted.exit_code == 0, counted.output
    figures = json.loads(counted.stdout)
    assert {group["group"]: group["queries"] for group in figures["groups"]["kind"]} == {"t": 7, "v": 1}
    # A model keeps what it reads: other features of that name are refused.
    with pytest.raises(
        ModelError, match="reads the subtitles 'heard' beside the frames, and an index of a folder has frames alone"
    ):
        Indexer(tmp_path, tmp_path / "index", checkpoint)


@pytest.mark.parametrize(
    ("preset", "subtitles", "message"),
    [
        ("xml/toy", "haerd", "did you mean 'heard'"),
        ("ms-sl/toy", "heard", "ms_sl takes no subtitles; leave out --subtitles, or take one of dl_dkd, reloclnet, xml"),
        ("xml/toy", "foreign", "has no subtitles of any of the 14 videos"),
    ],
)
def test_refused_before_training(package: Path, tmp_path: Path, preset: str, subtitles: str, message: str) -> None:
    done = run(
        *("train", package, package, tmp_path / "run", "--preset", preset, "--frames", "i3d", "--words", "roberta"),
        *("--subtitles", subtitles, "--device", "cpu"),
    )
    said = done.output + str(done.exception or "")
    assert done.exit_code != 0
    assert message in said
    assert not (tmp_path / "run").exists()


def test_packed_features_have_none(tmp_path: Path) -> None:
    from prvr.features.shelf import PackedShelf

    with pytest.raises(
        DataError, match=r"no subtitles 'heard' in .*; they are read from a package: name its folder ROOT/COLLECTION"
    ):
        PackedShelf(tmp_path).subtitles("heard")


def test_a_fused_student_reads_none() -> None:
    from prvr.methods.xml import XmlConfig
    from prvr.train.fusion import fuse

    torch.manual_seed(0)
    reads = FeatureSources(Source("i3d", 4), Source("roberta", 4), Source("heard", 4))
    student = checkpoints.build("xml", XmlConfig(hidden=8, heads=2), reads)
    teacher = checkpoints.build(
        "zero_shot", prvr.methods.zero_shot.ZeroShotConfig(), FeatureSources(Source("c", 4), Source("c", 4))
    )
    with pytest.raises(SettingError, match="xml reads subtitles, and cannot be combined with a teacher"):
        fuse(student, None, teacher, None, dev=None)
