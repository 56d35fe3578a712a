"""HDF5 files as features: what counts as rows, and ids of videos in folders below."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from prvr.errors import DataError
from prvr.features import columns, open_features


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
