"""HDF5 files as features: what counts as rows, and ids of videos in folders below."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from prvr.errors import DataError
from prvr.features import columns, open_features
from prvr.features.hdf5 import Hdf5Features


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["in/deep/a.mp4"] = np.ones((3, 4), np.float16)
        file["in/b.mp4"] = np.ones((1, 2, 4), np.float32)
        file["c"] = np.ones(4, np.float32)
        file["letters"] = "abc"
    return tmp_path / "features.h5"


def test_ids_with_slashes_are_ids(path: Path) -> None:
    features = open_features(str(path))
    assert set(features) == {"in/deep/a.mp4", "in/b.mp4", "c", "letters"}
    assert len(features) == 4
    assert columns(features) == 4


def test_rows_are_rows_however_they_are_stored(path: Path) -> None:
    features = open_features(path)
    assert [features[id].shape for id in ("in/deep/a.mp4", "in/b.mp4", "c")] == [(3, 4), (2, 4), (1, 4)]
    with pytest.raises(DataError, match=r"'letters' in .* not rows of numbers"):
        features["letters"]


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "features.h5").write_text("no")
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        open_features(tmp_path / "features.h5")


def test_a_folder_in_the_file_is_no_item(path: Path) -> None:
    features = open_features(path)
    for id in ("in", "in/deep", "/", "", "x", 3):
        assert id not in features
    with pytest.raises(KeyError):
        features["in"]


WRONG = {
    "rank 3": (np.ones((2, 3, 4), np.float32), r"are float32 of shape \(2, 3, 4\), not rows of numbers"),
    "rank 4": (np.ones((1, 1, 3, 4), np.float32), r"are float32 of shape \(1, 1, 3, 4\)"),
    "rank 0": (np.float32(1), r"are float32 of shape \(\), not rows"),
    "whole numbers": (np.ones((3, 4), np.int64), "are int64 of shape"),
    "nothing": (h5py.Empty("f4"), "not rows of numbers"),
}


@pytest.mark.parametrize(("value", "said"), WRONG.values(), ids=list(WRONG))
def test_what_is_no_rows_is_refused(tmp_path: Path, value: object, said: str) -> None:
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["a"] = value
    with pytest.raises(DataError, match=said):
        Hdf5Features(tmp_path / "features.h5")["a"]


def test_an_item_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file.create_dataset("a", (10**9, 512), np.float32, chunks=(1, 512))
    with pytest.raises(DataError, match="declare 2048000000000 bytes, more than"):
        Hdf5Features(tmp_path / "features.h5")["a"]


def test_rows_of_any_file_of_the_machine_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file.create_dataset("a", (4, 4), np.float32, external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(DataError, match=r"'a' in .* lie in another file, which is not opened"):
        Hdf5Features(tmp_path / "features.h5")["a"]


def test_rows_that_were_cut_off_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file.create_dataset("a", data=np.ones((64, 64), np.float32), compression="gzip")
        place = file["a"].id.get_chunk_info(0).byte_offset
    data = bytearray((tmp_path / "features.h5").read_bytes())
    data[place : place + 16] = bytes(16)
    (tmp_path / "features.h5").write_bytes(data)
    with pytest.raises(DataError, match=r"features of 'a' in .* cannot be read"):
        Hdf5Features(tmp_path / "features.h5")["a"]
