"""Packing a published package: the same batches and scores as from the package itself, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from commands import Prvr
from published import FIXTURES

import prvr
from prvr.batch import Batch, Memory, Reading, check_widths, collate, video_item
from prvr.datasets.published import load
from prvr.errors import DataError, SettingError
from prvr.extract import convert
from prvr.extract.convert import Sampling, convert_package
from prvr.features import FeatureSet, open_features
from prvr.features import packed as packed_files
from prvr.features.export import export_hdf5
from prvr.features.packed import AsRead, Packed
from prvr.features.shelf import student_features, teacher_features
from prvr.features.verify import verify
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import features_for
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.ms_sl import MsSlConfig
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig

ROOT = FIXTURES / "dataset"
READING = Reading(12, 10, 128, 30, unit=True, text="words")
NAMES = {"frames": "i3d_toy", "words": "roberta"}
FOLDERS = {
    "i3d_toy/frames": 15,
    "clip_vit_b32/frames": 7,
    "clip_vit_b32/sentences": 28,
    "roberta/words": 28,
    "i3d_toy/taught_by/clip_vit_b32": 2,
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the toy package, to be changed."""
    folder = tmp_path / "packages" / "toy"
    for path in (ROOT / "toy").rglob("*.*"):
        target = folder / path.relative_to(ROOT / "toy")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy package, packed; nobody changes it."""
    out = tmp_path_factory.mktemp("packed")
    convert_package(ROOT / "toy", out)
    return out


def given(folder: Path, teacher: str = "clip_vit_b32") -> FeatureSet:
    return student_features(folder, **NAMES, teachers=[teacher])


def batch(features: FeatureSet, reading: Reading = READING) -> Batch:
    dataset = load(ROOT, "toy", "train")
    ids = {video: [c.id for c in dataset.captions if c.video == video] for video in dataset.video_ids}
    return collate([video_item(video, captions, features, reading) for video, captions in ids.items()])


def tensors(made: Batch) -> list[torch.Tensor]:
    clips = [] if made.clips is None else [made.clips]
    return [*made[:5], *(tensor for view in made.teachers for tensor in view), *clips]


def assert_equal(one: Batch, other: Batch) -> None:
    for ours, theirs in zip(tensors(one), tensors(other), strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def checkpoint(sources: prvr.FeatureSources) -> prvr.Checkpoint:
    torch.manual_seed(0)
    made = checkpoints.build("dl_dkd", DlDkdConfig(hidden=16), sources)
    made.model.eval()
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The same numbers


def test_what_lies_where(packed: Path) -> None:
    assert verify(packed, lambda *_: None) == FOLDERS
    ids = {c.id for split in ("train", "val", "test") for c in load(ROOT, "toy", split).captions}
    assert set(Packed(packed / "roberta/words")) == set(Packed(packed / "clip_vit_b32/sentences")) == ids
    # 150 frames with a teacher of 70, and 12 with a teacher of 5; where it has as many nothing differs.
    taught = Packed(packed / "i3d_toy/taught_by/clip_vit_b32")
    assert {video: (len(rows), taught.rows_before(video)) for video, rows in taught.items()} == {
        "v_train2_Ab2": (70, 150),
        "v_train4_Ab4": (5, 12),
    }
    frames = Packed(packed / "i3d_toy/frames")
    assert (len(frames["v_train2_Ab2"]), frames.rows_before("v_train2_Ab2"), len(frames["v_train4_Ab4"])) == (128, 150, 12)
    assert frames.about == {
        "kind": "frames",
        "encoder": {"name": "i3d_toy", "fingerprint": None},
        "published": {"FeatureData/i3d_toy": sum(f.stat().st_size for f in (ROOT / "toy/FeatureData/i3d_toy").iterdir())},
        "read": {"most": 128, "unit": True},
    }
    assert isinstance(frames["v_train2_Ab2"], AsRead)
    assert not isinstance(Packed(packed / "clip_vit_b32/frames")["v_train2_Ab2"], AsRead)


def test_batches_are_those_of_the_package_bit_for_bit(packed: Path) -> None:
    assert_equal(batch(given(packed)), batch(given(ROOT / "toy")))


def test_without_a_teacher_and_in_evaluation_frames_are_not_on_its_grid(packed: Path) -> None:
    alone = [replace(given(folder), teachers=()) for folder in (packed, ROOT / "toy")]
    assert_equal(batch(alone[0]), batch(alone[1]))
    assert not torch.equal(batch(alone[0]).frames[:, :5], batch(given(packed)).frames[:, :5])
    model = checkpoint(student_features(packed, **NAMES).sources).model
    for split in ("train", "val", "test"):
        ours, theirs = (prvr.evaluate_model(model, load(ROOT, "toy", split), features) for features in alone)
        assert ours.scores.tolist() == theirs.scores.tolist()


def test_float16_is_as_close_as_its_eleven_bits(tmp_path: Path) -> None:
    convert_package(ROOT / "toy", tmp_path, dtype="float16")
    assert Packed(tmp_path / "i3d_toy/frames").dtype == np.float16
    for ours, theirs in zip(tensors(batch(given(tmp_path))), tensors(batch(given(ROOT / "toy"))), strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2**-10, atol=1e-7)


def test_whole_rows_are_those_of_the_package(tmp_path: Path) -> None:
    assert "i3d_toy/taught_by/clip_vit_b32" not in convert_package(ROOT / "toy", tmp_path, sampling=None)
    ours, theirs = given(tmp_path), given(ROOT / "toy")
    for video, rows in theirs.frames.items():
        assert np.array_equal(ours.frames[video], rows)
    assert "read" not in Packed(tmp_path / "i3d_toy/frames").about
    assert_equal(batch(ours), batch(theirs))
    other = replace(READING, max_frames=7, max_words=2, unit=False)
    assert_equal(batch(ours, other), batch(theirs, other))


def test_whole_frames_follow_the_grid_of_a_sampled_teacher(tmp_path: Path, package: Path) -> None:
    with h5py.File(package / "FeatureData" / "new_clip_vit_32_toy_vid_features.hdf5", "a") as file:
        del file["v_train2_Ab2"]
        file["v_train2_Ab2"] = np.random.default_rng(0).normal(size=(140, 8)).astype(np.float32)
    convert_package(package, tmp_path / "sampled")
    convert_package(package, tmp_path / "whole", sampling=None)
    mixed = replace(given(tmp_path / "whole"), teachers=given(tmp_path / "sampled").teachers)
    mixed = replace(mixed, teachers=(replace(mixed.teachers[0], student=None),))
    check_widths(mixed, READING)
    assert_equal(batch(mixed), batch(given(package)))
    assert_equal(batch(given(tmp_path / "sampled")), batch(given(package)))


def test_frames_as_hdf5_and_as_npz_are_packed_like_a_bigfile(tmp_path: Path, package: Path) -> None:
    rows = dict(open_features(package / "FeatureData" / "i3d_toy"))
    (package / "FeatureData" / "as_npz").mkdir()
    with h5py.File(package / "FeatureData" / "as.hdf5", "w") as file:
        for video, its in rows.items():
            file[video] = its
            np.savez(package / "FeatureData" / "as_npz" / f"{video}.npz", features=its)
    done = convert_package(package, tmp_path / "out")
    for name in ("as", "as_npz"):
        assert len(done[f"{name}/taught_by/clip_vit_b32"].done) == 2
        assert student_features(package, frames=name, words="roberta").sources.frames == prvr.Source(name, 12)
        for kind in ("frames", "taught_by/clip_vit_b32"):
            ours, theirs = (Packed(tmp_path / "out" / folder / kind) for folder in (name, "i3d_toy"))
            assert {v: r.tolist() for v, r in ours.items()} == {v: r.tolist() for v, r in theirs.items()}
    only = convert_package(package, tmp_path / "only", visual_features=["as"])
    assert [name for name in only if name.endswith("/frames")] == ["as/frames", "clip_vit_b32/frames"]


# What is read from them


def test_a_student_of_either_form_reads_the_other(packed: Path) -> None:
    forms = {folder: student_features(folder, **NAMES, teachers=["clip_vit_b32"]).sources for folder in (packed, ROOT / "toy")}
    assert forms[packed] == forms[ROOT / "toy"]
    for folder in forms:
        read = features_for(folder, checkpoint(forms[packed]))
        assert read.frames["v_test2_Ab14"].shape == (128 if folder == packed else 129, 12)
    foreign = replace(forms[packed], frames=replace(forms[packed].frames, fingerprint="00112233"))
    for folder in forms:
        with pytest.raises(DataError, match=r"with fingerprint None .* the model reads fingerprint 00112233"):
            features_for(folder, checkpoint(foreign))


def test_a_run_on_packed_features_is_that_on_the_package(packed: Path, tmp_path: Path) -> None:
    recipe = prvr.Recipe("dl_dkd", DlDkdConfig(hidden=16), prvr.Training(epochs=2, batch_videos=4))
    histories = []
    for folder in (packed, ROOT / "toy"):
        features = student_features(folder, **NAMES, teachers=["clip_vit_b32"])
        data = prvr.Data(load(ROOT, "toy", "train"), load(ROOT, "toy", "val"), features)
        out = tmp_path / str(len(histories))
        histories.append([prvr.train_student(out, recipe, data=data).fingerprint])
        lines = (out / "history.jsonl").read_text().splitlines()
        histories[-1] += [(line["losses"], line["dev"]) for line in map(json.loads, lines)]
    assert histories[0] == histories[1]


def test_other_readings_are_served_exactly_or_refused(packed: Path) -> None:
    ours, theirs = given(packed), given(ROOT / "toy")
    fewer_words = replace(READING, max_words=5)
    check_widths(ours, fewer_words)
    assert_equal(batch(ours, fewer_words), batch(theirs, fewer_words))
    for changes in ({"max_frames": 64}, {"max_frames": 256}, {"max_frames": None}, {"unit": False}):
        with pytest.raises(DataError, match=r"i3d_toy/frames was packed to be read as \{'most': 128, 'unit': True\}.*--whole"):
            check_widths(ours, replace(READING, **changes))
    for changes in ({"max_words": 40}, {"max_words": None}, {"label_columns": 2}):
        with pytest.raises(DataError, match=r"roberta/words was packed to be read as"):
            check_widths(ours, replace(READING, **changes))


def test_clips_of_whole_rows_are_kept_where_they_are_asked_for(packed: Path, tmp_path: Path) -> None:
    reading = replace(READING, clips=8)
    for without in (packed, tmp_path / "sixteen"):
        with pytest.raises(DataError, match=r"was packed .* without the 8 clips .* with --clips 8 or --whole, or set"):
            check_widths(given(without), reading)
        convert_package(ROOT / "toy", tmp_path / "sixteen", sampling=Sampling(clips=16))
    convert_package(ROOT / "toy", tmp_path / "with", sampling=Sampling(clips=8))
    convert_package(ROOT / "toy", tmp_path / "whole", sampling=None)
    assert verify(tmp_path / "with", lambda *_: None) == {**FOLDERS, "i3d_toy/clips": FOLDERS["i3d_toy/frames"]}
    theirs = batch(given(ROOT / "toy"), reading)
    assert theirs.clips is not None
    assert theirs.clips.shape[1] == 8
    for folder in (tmp_path / "with", tmp_path / "whole"):
        ours = given(folder)
        check_widths(ours, reading)
        assert_equal(batch(ours, reading), theirs)
    # In evaluation, too; they are not the means of unit rows.
    settings = MsSlConfig(hidden=8, heads=2, clips=8)
    features = {folder: student_features(folder, **NAMES) for folder in (tmp_path / "with", ROOT / "toy")}
    torch.manual_seed(0)
    model = checkpoints.build("ms_sl", settings, features[ROOT / "toy"].sources).model
    scores = [prvr.evaluate_model(model, load(ROOT, "toy", "train"), each).scores for each in features.values()]
    assert scores[0].tolist() == scores[1].tolist()
    torch.manual_seed(0)
    other = checkpoints.build("ms_sl", replace(settings, clip_inputs="unit_rows"), features[ROOT / "toy"].sources).model
    assert prvr.evaluate_model(other, load(ROOT, "toy", "train"), given(packed)).scores.tolist() != scores[0].tolist()


def test_more_is_served_where_nothing_was_cut(tmp_path: Path) -> None:
    convert_package(ROOT / "toy", tmp_path, sampling=Sampling(frames=200, words=50))
    ours, theirs = given(tmp_path), given(ROOT / "toy")
    for changes in ({"max_frames": 150}, {"max_frames": 999, "max_words": 999}, {"max_frames": None, "max_words": None}):
        other = replace(READING, **{"max_words": 50, **changes})
        check_widths(ours, other)
        assert_equal(batch(ours, other), batch(theirs, other))
    with pytest.raises(DataError, match="was packed"):
        check_widths(ours, replace(READING, max_frames=149, max_words=50))


def test_the_teacher_alone_reads_what_was_not_cut(packed: Path, tmp_path: Path) -> None:
    model = ZeroShot(ZeroShotConfig(), frame_columns=8, word_columns=8)
    with pytest.raises(DataError, match=r"clip_vit_b32/frames was packed to be read as .*'unit': False.* reads .*'most': None"):
        check_widths(teacher_features(packed, "clip_vit_b32"), model.reading)
    convert_package(ROOT / "toy", tmp_path, sampling=Sampling(frames=131))
    ours, theirs = (teacher_features(folder, "clip_vit_b32") for folder in (tmp_path, ROOT / "toy"))
    assert ours.sources == theirs.sources
    scores = [prvr.evaluate_model(model, load(ROOT, "toy", "train"), features).scores for features in (ours, theirs)]
    assert scores[0].tolist() == scores[1].tolist()


def test_frames_that_were_not_packed_for_a_teacher_are_refused_with_it(packed: Path) -> None:
    theirs = given(ROOT / "toy").teachers
    with pytest.raises(DataError, match=r"was sampled when it was packed, and not for the teacher of .*new_clip_vit_32"):
        check_widths(replace(given(packed), teachers=theirs), READING)
    without = tuple(replace(teacher, student=None) for teacher in given(packed).teachers)
    with pytest.raises(DataError, match=r"not for the teacher of .*clip_vit_b32/frames"):
        check_widths(replace(given(packed), teachers=without), READING)


def test_a_student_of_its_teachers_own_frames(packed: Path) -> None:
    reading, both = replace(READING, frame_columns=8), []
    for folder in (packed, ROOT / "toy"):
        features = student_features(folder, frames="clip_vit_b32", words="roberta", teachers=["clip_vit_b32"])
        check_widths(features, reading)
        both.append(tensors(batch(features, reading)))
    # A video of 131 frames is averaged in float32 for the teacher, in float64 for a student.
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_memory_used_again_changes_nothing(packed: Path, tmp_path: Path) -> None:
    convert_package(ROOT / "toy", tmp_path, dtype="float16")
    captions = {c.video: [c.id] for c in load(ROOT, "toy", "train").captions}
    memory = Memory()
    for folder in (packed, tmp_path):
        for videos in (list(captions), list(captions)[2:4], list(captions)[3:], list(captions)):
            items = [video_item(video, captions[video], given(folder), READING) for video in videos]
            made = collate(items, memory)
            assert_equal(made, collate(items))
    kept = made.frames.data_ptr()
    assert collate(items, memory).frames.data_ptr() == kept


# Whatever happens on the way


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    first = convert_package(ROOT / "toy", tmp_path, on_progress=lambda *step: steps.append(step))
    assert {name: len(its.done) for name, its in first.items()} == FOLDERS
    assert steps[:2] == [("i3d_toy frames", 15, 15), ("verifying i3d_toy frames", 15, 15)]
    before = contents(tmp_path)
    again = convert_package(ROOT / "toy", tmp_path)
    assert {name: (len(its.done), len(its.kept)) for name, its in again.items()} == {n: (0, c) for n, c in FOLDERS.items()}
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("write", "share"), [(0, 0.5), (1, 0.5), (4, 1.0), (5, 0.0), (5, 1.0), (16, 0.5), (23, 0.5)])
def test_killed_at_any_write_it_goes_on_to_the_same_bytes(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int, share: float
) -> None:
    monkeypatch.setattr(convert, "ITEMS_AT_ONCE", 4)
    child = os.fork()
    if child == 0:
        _killed_at(write, share)
        convert_package(ROOT / "toy", tmp_path)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    convert_package(ROOT / "toy", tmp_path)
    assert contents(tmp_path) == contents(packed)


def _killed_at(write: int, share: float) -> None:
    whole, count = packed_files._write, iter(range(10**6))

    def write_and_die(file: object, data: bytes, *, undo_to: int) -> None:
        if next(count) == write:
            os.write(file.fileno(), data[: int(share * len(data))])  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)
        whole(file, data, undo_to=undo_to)  # type: ignore[arg-type]

    packed_files._write = write_and_die  # type: ignore[assignment]


def test_another_modification_time_is_done_again_and_another_size_refused(package: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "out", package / "FeatureData" / "i3d_toy" / "feature.bin"
    convert_package(package, out)
    changed = np.fromfile(rows, "<f4")
    changed.flags.writeable = True
    (-changed).tofile(rows)
    os.utime(rows, ns=(2**62, 2**62))
    done = convert_package(package, out)
    assert len(done["i3d_toy/frames"].done) == 15
    assert len(done["i3d_toy/taught_by/clip_vit_b32"].done) == 2
    assert len(done["roberta/words"].kept) == 28
    assert_equal(batch(given(out)), batch(given(package)))
    with h5py.File(package / "TextData" / "roberta_toy_query_feat.hdf5", "a") as file:
        file["more#enc#0"] = np.ones((40, 10), np.float32)
    with pytest.raises(DataError, match=r"roberta/words was made with about \{'published': .* not \{'published'") as caught:
        convert_package(package, out)
    assert "read" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"sampling": Sampling(words=20)}, {"sampling": None}, {"dtype": "float16"}])
def test_another_way_of_packing_is_refused(packed: Path, tmp_path: Path, changes: dict) -> None:
    shutil.copytree(packed, tmp_path / "out")
    with pytest.raises(DataError, match=r"was made with .*, not .*; use another folder or delete this one"):
        convert_package(ROOT / "toy", tmp_path / "out", **changes)
    assert contents(tmp_path / "out") == contents(packed)


def test_broken_items_stop_nothing_and_are_told(package: Path, tmp_path: Path) -> None:
    folder = package / "FeatureData" / "i3d_toy"
    rows = np.fromfile(folder / "feature.bin", "<f4").reshape(-1, 12)
    rows[0] = np.nan  # of v_train5_Ab5
    rows.tofile(folder / "feature.bin")
    frames = (folder / "video2frames.txt").read_text()
    (folder / "video2frames.txt").write_text(frames.rstrip().rstrip("}") + ", 'nothing': []}")
    with h5py.File(package / "TextData" / "roberta_toy_query_feat.hdf5", "a") as file:
        file["aaa#enc#0"] = np.zeros((0, 10), np.float32)
        file["aab#enc#0"] = np.ones((2, 9), np.float32)
        file["aac#enc#0"] = np.ones((2, 10), int)
        file["zzz#enc#0"] = np.ones((2, 10), np.float32)
    done = convert_package(package, tmp_path / "out")
    assert set(done["i3d_toy/frames"].problems) == {"v_train5_Ab5", "nothing"}
    assert "NaN" in done["i3d_toy/frames"].problems["v_train5_Ab5"]
    assert len(done["i3d_toy/frames"].done) == 14
    words = done["roberta/words"]
    assert set(words.problems) == {f"aa{letter}#enc#0" for letter in "abc"}
    assert len(words.done) == 29
    assert set(Packed(tmp_path / "out/roberta/words")) == set(words.done)
    again = convert_package(package, tmp_path / "out")["roberta/words"]
    assert (again.done, again.kept, again.problems) == ((), words.done, words.problems)


def test_a_first_item_that_cannot_be_read_stops_nothing(package: Path, tmp_path: Path) -> None:
    with h5py.File(package / "TextData" / "roberta_toy_query_feat.hdf5", "a") as file:
        file["aaa#enc#0"] = np.zeros((2, 10), "S3")
    # By itself: the checks of annotations in tests read the first item of every mapping.
    command = [sys.executable, "-m", "prvr", "data", "convert", package, tmp_path / "out"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "roberta/words: 28 done, 0 kept, 0 dropped, 1 problems" in ended.stdout
    assert ended.stderr.startswith("prvr: roberta/words: aaa#enc#0: features of 'aaa#enc#0' in ")
    assert len(ended.stderr.splitlines()) == 1


def test_an_item_that_turned_bad_keeps_no_stale_rows(package: Path, tmp_path: Path) -> None:
    convert_package(package, tmp_path / "out")
    path = package / "FeatureData" / "i3d_toy" / "feature.bin"
    rows = np.fromfile(path, "<f4").reshape(-1, 12)
    rows[0] = np.inf
    rows.tofile(path)
    os.utime(path, ns=(2**62, 2**62))
    assert set(convert_package(package, tmp_path / "out")["i3d_toy/frames"].problems) == {"v_train5_Ab5"}
    assert "v_train5_Ab5" not in Packed(tmp_path / "out/i3d_toy/frames")


def test_what_is_beyond_float16_is_told(package: Path, tmp_path: Path) -> None:
    with h5py.File(package / "TextData" / "clip_ViT_B_32_toy_query_feat.hdf5", "a") as file:
        file["v_test0_Ab12#0"][...] = 1e6
    done = convert_package(package, tmp_path, dtype="float16")["clip_vit_b32/sentences"]
    assert list(done.problems) == ["v_test0_Ab12#enc#0"]
    assert "beyond float16" in done.problems["v_test0_Ab12#enc#0"]
    assert len(done.done) == 27


def test_a_changed_byte_is_found_named_and_mended(tmp_path: Path) -> None:
    convert_package(ROOT / "toy", tmp_path)
    before = Packed(tmp_path / "i3d_toy/frames")
    wanted = {id: rows.tolist() for id, rows in before.items()}
    path = tmp_path / "i3d_toy/frames/rows.bin"
    data = bytearray(path.read_bytes())
    data[9 * 12 * 4 + 2] ^= 1  # in the second item, after nine rows of the first
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"the rows of 'v_train1_Ab1' in .*i3d_toy/frames are not those that were written"):
        verify(tmp_path, lambda *_: None)
    found = convert_package(ROOT / "toy", tmp_path)["i3d_toy/frames"]
    assert (list(found.problems), len(found.kept)) == (["v_train1_Ab1"], 14)
    assert convert_package(ROOT / "toy", tmp_path)["i3d_toy/frames"].done == ("v_train1_Ab1",)
    assert {id: rows.tolist() for id, rows in Packed(tmp_path / "i3d_toy/frames").items()} == wanted
    assert verify(tmp_path, lambda *_: None) == FOLDERS


def test_no_package_and_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no feature package; name the folder ROOT/COLLECTION"):
        convert_package(ROOT, tmp_path / "out")
    with pytest.raises(DataError, match=r"no frame features 'i3d_toyy'.*did you mean 'i3d_toy'"):
        convert_package(ROOT / "toy", tmp_path / "out", visual_features=["i3d_toyy"])
    with pytest.raises(DataError, match="no packed features in"):
        verify(tmp_path, lambda *_: None)
    (tmp_path / "empty" / "TextData").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no features"):
        convert_package(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(SettingError, match="frames is 0; keep at least one"):
        Sampling(frames=0)
    assert not (tmp_path / "out").exists()


# Back to HDF5


def test_export_is_read_back(packed: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    file = tmp_path / "in" / "words.hdf5"
    assert export_hdf5(packed / "roberta/words", file, lambda *step: steps.append(step)) == 28
    rows, there = Packed(packed / "roberta/words"), open_features(file)
    assert set(there) == set(rows)
    assert all(np.array_equal(there[id], rows[id]) for id in rows)
    assert [step[1:] for step in steps] == [(28, 28)]
    with h5py.File(file) as opened:
        assert json.loads(opened.attrs["about"])["read"] == {"most": 30, "unit": True}
    with pytest.raises(DataError, match="is there already"):
        export_hdf5(packed / "roberta/words", file, lambda *_: None)
    with pytest.raises(DataError, match="no packed features in"):
        export_hdf5(packed / "roberta", tmp_path / "x.hdf5", lambda *_: None)


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with packed_files.PackedWriter(tmp_path / "f", columns=2, about={}) as out:
        for id in ("a", "a/b"):
            out.append(id, np.ones((1, 2)))
    with pytest.raises(DataError, match=r"'a/b' in .* cannot be a key of an HDF5 file"):
        export_hdf5(tmp_path / "f", tmp_path / "f.hdf5", lambda *_: None)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with packed_files.PackedWriter(tmp_path / "f", columns=2, about={}) as out:
        out.delete("a")
    with pytest.raises(KeyboardInterrupt):
        export_hdf5(tmp_path / "f", tmp_path / "f.hdf5", interrupted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "f.lock"]
    assert export_hdf5(tmp_path / "f", tmp_path / "f.hdf5", lambda *_: None) == 1


# The commands


def test_the_commands(prvr: Prvr, packed: Path, package: Path, tmp_path: Path) -> None:
    status, out, _ = prvr("data", "convert", ROOT / "toy", tmp_path / "out", "--json")
    counted = json.loads(out)["converted"]
    assert (status, {name: its["done"] for name, its in counted.items()}) == (0, FOLDERS)
    assert contents(tmp_path / "out") == contents(packed)
    status, out, _ = prvr("data", "verify", tmp_path / "out")
    assert (status, out.splitlines()[2]) == (0, "i3d_toy/frames: 15 items")
    status, out, _ = prvr("data", "export", tmp_path / "out/i3d_toy/frames", tmp_path / "frames.hdf5")
    assert (status, out) == (0, f"{tmp_path / 'frames.hdf5'}: 15 items\n")
    status, _, err = prvr("data", "convert", ROOT / "toy", tmp_path / "out", "--frames", 64)
    assert status == 1
    assert len(err.splitlines()) == 1
    status, _, err = prvr("data", "convert", ROOT / "toy", tmp_path / "o", "--dtype", "float8")
    assert (status, err) == (1, "prvr: dtype is 'float8', expected float16 or float32\n")
    with h5py.File(package / "TextData" / "roberta_toy_query_feat.hdf5", "a") as file:
        file["a#enc#0"] = np.full((1, 10), np.nan, np.float32)
    status, out, err = prvr(
        "data", "convert", package, tmp_path / "w", "--whole", "--visual-feature", "i3d_toy", "--dtype", "float16"
    )
    assert (status, "roberta/words: 28 done, 0 kept, 0 dropped, 1 problems" in out) == (0, True)
    assert err.startswith("prvr: roberta/words: a#enc#0: features of caption 'a#enc#0' in ")
