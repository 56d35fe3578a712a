"""`prvr data check`: what it says of whole packages and of broken ones."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import Prvr
from published import FIXTURES

from prvr.errors import DataError
from prvr.features.bigfile import BigFile
from prvr.features.package_check import FileReport, PackageReport, check_package, find_packages

FRAMES = "FeatureData/toy_i3d"
SEEN, SPOKEN = "FeatureData/new_clip_vit_32_toy_vid_features.hdf5", "TextData/clip_ViT_B_32_toy_query_feat.hdf5"
WORDS, TRAIN = "TextData/roberta_toy_query_feat.hdf5", "TextData/toytrain.caption.txt"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A whole package of two training and two test videos with two captions each; of a collection called toy."""
    rng = np.random.default_rng(0)
    root = tmp_path / "toy"
    frames = {f"{split}{n}": 3 + n for split in ("train", "test") for n in range(2)}
    ids = [f"{video}#enc#{k}" for video in frames for k in range(2)]
    for folder in (FRAMES, "TextData"):
        (root / folder).mkdir(parents=True)
    (root / FRAMES / "feature.bin").write_bytes(rng.normal(size=(14, 6)).astype("<f4").tobytes())
    (root / FRAMES / "shape.txt").write_text("14 6")
    (root / FRAMES / "id.txt").write_text(" ".join(f"{video}_{k}" for video, count in frames.items() for k in range(count)))
    named = {video: [f"{video}_{k}" for k in range(count)] for video, count in frames.items()}
    (root / FRAMES / "video2frames.txt").write_text(repr(named))
    store(root / SEEN, {video: rng.normal(size=(4, 5)) for video in frames})
    store(root / SPOKEN, {id.replace("#enc#", "#"): rng.normal(size=(1, 5)) for id in ids})
    store(root / WORDS, {id: rng.normal(size=(3, 7)) for id in ids})
    for split in ("train", "val", "test"):
        mine = [id for id in ids if id.startswith("test" if split == "val" else split)]
        (root / "TextData" / f"toy{split}.caption.txt").write_text("".join(f"{id} words of {id}\n" for id in mine))
    return root


def store(path: Path, items: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "a") as file:
        for id, rows in items.items():
            if id in file:
                del file[id]
            file[id] = rows.astype(np.float32)


def drop(path: Path, *ids: str) -> None:
    with h5py.File(path, "a") as file:
        for id in ids:
            del file[id]


def uses(report: PackageReport) -> dict[str, bool]:
    return {name: use.possible for name, use in report.uses.items()}


def file(report: PackageReport, name: str) -> FileReport:
    return next(file for file in report.files if file.file == name)


def test_a_whole_package(package: Path) -> None:
    report = check_package(package)
    assert [(s, r.videos, r.captions) for s, r in report.splits.items()] == [("train", 2, 4), ("val", 2, 4), ("test", 2, 4)]
    assert {f.file: (f.columns, f.items, f.unused, f.broken) for f in report.files} == {
        FRAMES: (6, 4, 0, 0),
        SEEN: (5, 4, 0, 0),
        SPOKEN: (5, 8, 0, 0),
        WORDS: (7, 8, 0, 0),
    }
    assert not any(ids for f in report.files for ids in (f.lacking or {}).values())
    assert uses(report) == dict.fromkeys(("student training", "distillation", "evaluation", "teacher alone"), True)
    assert report.uses["student training"].why == "with toy_i3d and roberta"
    assert report.uses["distillation"].why == "with clip_vit_b32"


def test_the_package_of_the_fixtures_has_no_teacher_of_its_test_videos() -> None:
    report = check_package(FIXTURES / "dataset" / "toy")
    assert uses(report) == {"student training": True, "distillation": True, "evaluation": True, "teacher alone": False}
    assert "lacks 3 videos of test, 'v_test0_Ab12' first" in report.uses["teacher alone"].why


def test_packages_below_a_folder_or_the_folder_itself(package: Path, tmp_path: Path) -> None:
    shutil.copytree(package, tmp_path / "other")
    (tmp_path / "no package").mkdir()
    assert find_packages(tmp_path) == [tmp_path / "other", package]
    assert find_packages(package) == [package]
    with pytest.raises(DataError, match=r"no package in .*no package; a package has ROOT/COLLECTION/FeatureData"):
        find_packages(tmp_path / "no package")


def test_sizes_are_held_against_the_published_ones(tmp_path: Path) -> None:
    folder = tmp_path / "charades" / "TextData"
    folder.mkdir(parents=True)
    videos = [f"v{n % 1334}#enc#{n // 1334}" for n in range(3720)]
    for split, ids in (("test", videos), ("val", videos[:-1])):
        (folder / f"charades{split}.caption.txt").write_text("".join(f"{id} words\n" for id in ids))
    splits = check_package(tmp_path / "charades").splits
    assert (splits["test"].as_published, splits["test"].published) == (True, "Charades-STA test")
    assert splits["val"].as_published is False
    assert splits["val"].published == "1,334 videos and 3,720 captions (Charades-STA test)"
    assert "charadestrain.caption.txt; the splits there: test, val" in splits["train"].problem


BROKEN: dict[str, tuple[Callable[[Path], object], str, str, set[str]]] = {
    "frames cut short": (
        lambda p: (p / FRAMES / "feature.bin").write_bytes(bytes(14 * 6 * 4 - 1)),
        "student training",
        r"toy_i3d: .*feature.bin has 335 bytes; shape.txt says 14 rows of 6 columns",
        {"teacher alone"},
    ),
    "another shape": (
        lambda p: (p / FRAMES / "shape.txt").write_text("14 7"),
        "evaluation",
        "feature.bin has 336 bytes; shape.txt says 14 rows of 7 columns, which take 392",
        {"teacher alone"},
    ),
    "code": (
        lambda p: (p / FRAMES / "video2frames.txt").write_text("{'a': [__import__('os').system('touch X')]}"),
        "student training",
        r"video2frames.txt, character 1: .* Nothing in it was run",
        {"teacher alone"},
    ),
    "no frames": (
        lambda p: shutil.rmtree(p / FRAMES),
        "student training",
        "FeatureData has no frames; expected a folder FeatureData/NAME with shape.txt, id.txt, feature.bin, video2frames.txt",
        {"teacher alone"},
    ),
    "no words": (
        lambda p: (p / WORDS).unlink(),
        "student training",
        "TextData/roberta_toy_query_feat.hdf5 is missing, the words of captions; copy it from the package",
        {"teacher alone"},
    ),
    "no teacher": (
        lambda p: (p / SEEN).unlink(),
        "distillation",
        "no frames of the teacher at .*new_clip_vit_32_toy_vid_features.hdf5; copy the file from the package",
        {"student training", "evaluation"},
    ),
    "another teacher": (
        lambda p: store(p / SEEN, {f"{split}{n}": np.ones((4, 8)) for split in ("train", "test") for n in range(2)}),
        "distillation",
        r"vid_features.hdf5: has 8 columns, TextData/clip_ViT_B_32_toy_query_feat.hdf5 5: they come from different encoders",
        {"student training", "evaluation"},
    ),
    "a video without a teacher": (
        lambda p: drop(p / SEEN, "train1"),
        "distillation",
        r"vid_features.hdf5 lacks 1 videos of train, 'train1' first",
        {"student training", "evaluation", "teacher alone"},
    ),
    "captions without words": (
        lambda p: drop(p / WORDS, "test0#enc#0", "test1#enc#1"),
        "evaluation",
        r"roberta_toy_query_feat.hdf5 lacks 2 captions of test, 'test0#enc#0' first",
        {"teacher alone"},
    ),
    "no training captions": (
        lambda p: (p / TRAIN).unlink(),
        "student training",
        "no captions at .*toytrain.caption.txt; the splits there: test, val",
        {"evaluation", "teacher alone"},
    ),
    "a caption twice": (
        lambda p: (p / TRAIN).write_text("train0#enc#0 a\ntrain0#enc#0 b\n"),
        "distillation",
        r"toytrain.caption.txt, line 2: the id 'train0#enc#0' is used",
        {"evaluation", "teacher alone"},
    ),
    "words of rank 3": (
        lambda p: store(p / WORDS, {"train0#enc#1": np.ones((2, 3, 7))}),
        "student training",
        r"1 of 8 items that were read are broken: features of 'train0#enc#1' in .* are float32 of shape \(2, 3, 7\)",
        {"teacher alone"},
    ),
    "words of another width": (
        lambda p: store(p / WORDS, {"train0#enc#1": np.ones((3, 6))}),
        "student training",
        "features of caption 'train0#enc#1' have 6 columns, most others 7",
        {"teacher alone"},
    ),
    "not numbers": (
        lambda p: store(p / SPOKEN, {"test0#0": np.full((1, 5), np.nan)}),
        "distillation",
        r"1 of 8 items that were read are broken: features of caption 'test0#0' in .* hold NaN",
        {"student training", "evaluation"},
    ),
    "no HDF5": (
        lambda p: (p / SEEN).write_text("no"),
        "teacher alone",
        "vid_features.hdf5: .* is not a readable HDF5 file",
        {"student training", "evaluation"},
    ),
}


@pytest.mark.parametrize(("damage", "use", "said", "still"), BROKEN.values(), ids=list(BROKEN))
def test_what_is_broken_is_named_and_the_rest_can_be_used(
    package: Path, damage: Callable[[Path], object], use: str, said: str, still: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(package.parent)
    damage(package)
    report = check_package(package)
    assert re.search(said, report.uses[use].why)
    assert not report.uses[use].possible
    assert {name for name, possible in uses(report).items() if possible} == still
    assert not (package.parent / "X").exists()
    json.dumps(report.as_dict())


def test_features_of_nobody_are_counted(package: Path) -> None:
    store(package / SEEN, {"stranger": np.ones((4, 5))})
    store(package / SPOKEN, {"stranger#0": np.ones((1, 5))})
    report = check_package(package)
    assert [file(report, name).unused for name in (SEEN, SPOKEN, WORDS)] == [1, 1, 0]
    assert all(uses(report).values())


def test_names_that_stand_twice_are_told_and_the_last_one_counts(package: Path) -> None:
    names = (package / FRAMES / "id.txt").read_text().split()
    names[1] = names[0]
    (package / FRAMES / "id.txt").write_text(" ".join(names))
    path = package / FRAMES / "video2frames.txt"
    frames = {**frames_of(path), "train0": ["train0_0", "train0_2"]}
    for text in (repr(frames), json.dumps(frames)):
        again = f'{text[:-1]}, "test0": ["test0_1"]}}'
        path.write_text(again)
        assert file(check_package(package), FRAMES).repeated == ("train0_0", "test0")
        rows = np.fromfile(package / FRAMES / "feature.bin", "<f4").reshape(14, 6)
        features = BigFile(package / FRAMES)
        np.testing.assert_array_equal(features["train0"], rows[[1, 2]])
        np.testing.assert_array_equal(features["test0"], rows[[8]])


def frames_of(path: Path) -> dict[str, list[str]]:
    frames: dict[str, list[str]] = json.loads(path.read_text().replace("'", '"'))
    return frames


def test_a_sample_is_read_and_all_if_wanted(package: Path) -> None:
    store(package / WORDS, {"train0#enc#0": np.full((3, 7), np.inf)})
    # The first and the last of eight in the order of the file.
    sampled, all_of_it = (file(check_package(package, most=most), WORDS) for most in (2, None))
    assert (sampled.looked_at, sampled.broken) == (2, 0)
    assert (all_of_it.looked_at, all_of_it.broken) == (8, 1)


def test_npz_frames_and_folders_of_nothing(package: Path) -> None:
    for name in ("npz", "nothing"):
        (package / "FeatureData" / name).mkdir()
    for video in ("train0", "train1", "test0", "test1"):
        np.savez(package / "FeatureData" / "npz" / f"{video}.npz", features=np.ones((4, 9)))
    report = check_package(package)
    assert (file(report, "FeatureData/npz").columns, file(report, "FeatureData/npz").items) == (9, 4)
    assert "this is not a folder of features" in file(report, "FeatureData/nothing").problem
    assert report.uses["evaluation"].why == "with npz and roberta; toy_i3d and roberta"


def test_the_command(package: Path, prvr: Prvr) -> None:
    drop(package / SEEN, "test0")
    store(package / SEEN, {"stranger": np.ones((4, 5))})
    status, out, err = prvr("data", "check", package.parent)
    assert (status, err) == (0, "")
    said = out.splitlines()
    for line in (
        f"toy  ({package})",
        "  train: 2 videos, 4 captions",
        f"  {FRAMES}: 6 columns, 4 videos",
        "    lacks 1 videos of test, test0 first",
        "    1 videos are in no split",
        "  student training: yes, with toy_i3d and roberta",
        f"  teacher alone: no; {SEEN} lacks 1 videos of test, 'test0' first",
    ):
        assert line in said
    status, out, _ = prvr("data", "check", package, "--json", "--thorough")
    (report,) = json.loads(out)
    assert (status, report["collection"]) == (0, "toy")
    assert report["files"][0]["lacking"]["test"] == {"number": 1, "first": "test0"}
    assert report["uses"]["distillation"] == {"possible": True, "why": "with clip_vit_b32"}


def test_the_command_fails_where_nothing_can_be_used(package: Path, prvr: Prvr) -> None:
    shutil.rmtree(package / "TextData")
    status, out, _ = prvr("data", "check", package)
    assert status == 1
    assert "student training: no; no captions at" in out
    status, out, err = prvr("data", "check", package / FRAMES)
    assert (status, out) == (1, "")
    assert err.startswith("prvr: no package in ")
    assert "Example: prvr data check packages" in prvr("data", "check", "--help").out
