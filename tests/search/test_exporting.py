"""Embeddings of an index as a table: a row for each frame of each branch, with the time at which it begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Prvr, says

from prvr.errors import DataError, SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.index.contract import Header
from prvr.index.disk import DiskIndex
from prvr.index.encode import Sampled, encode_long
from prvr.methods import checkpoint as checkpoints
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.search.exporting import export_embeddings

parquet = pytest.importorskip("pyarrow.parquet")

SOURCES = FeatureSources(Source("frames", 6), Source("words", 5))


def make_index(root: Path, method: str, settings: object, sources: FeatureSources = SOURCES) -> Path:
    torch.manual_seed(0)
    checkpoint = checkpoints.build(method, settings, sources)
    checkpoints.save(checkpoint, root / "model")
    with_rows = DiskIndex.make(root, checkpoint.model, Header(checkpoint.fingerprint, "float32", str(root)))
    rows = np.random.default_rng(0).normal(size=(7, sources.frames.columns)).astype(np.float32)
    times = tuple(0.5 * number for number in range(7))
    videos = [Sampled("a.mp4", rows[:2], times[:2], 1.0), Sampled("b.mp4", rows, times, 3.5), Sampled("c.mp4", rows[:3])]
    with_rows.add(encode_long(checkpoint.model, videos))
    with_rows.close()
    return root


def test_a_row_for_each_frame_of_each_branch(tmp_path: Path) -> None:
    # Three frames at a time: b.mp4 is in windows.
    index = make_index(tmp_path / "index", "dl_dkd", DlDkdConfig(hidden=8, heads=2, max_frames=3))
    assert export_embeddings(index, tmp_path / "e.parquet") == 3
    table = parquet.read_table(tmp_path / "e.parquet")
    assert table.column_names == ["video", "branch", "frame", "seconds", "vector"]
    rows = [row for row in table.to_pylist() if row["video"] == "b.mp4"]
    assert [row["branch"] for row in rows] == ["inheritance"] * 7 + ["exploration"] * 7
    assert [row["frame"] for row in rows] == [*range(7), *range(7)]
    assert [row["seconds"] for row in rows] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0] * 2
    store = DiskIndex(index, checkpoints.load(index / "model").model)
    stored = store.fetch(["b.mp4"])["b.mp4"]
    store.close()
    np.testing.assert_array_equal([row["vector"] for row in rows], np.concatenate(stored.fields))
    assert {row["seconds"] for row in table.to_pylist() if row["video"] == "c.mp4"} == {None}
    export_embeddings(index, tmp_path / "one.parquet", branch="exploration")
    assert set(parquet.read_table(tmp_path / "one.parquet")["branch"].to_pylist()) == {"exploration"}


def test_clips_begin_where_their_part_of_the_video_does(tmp_path: Path) -> None:
    from prvr.methods.zero_shot import ZeroShotConfig

    index = make_index(tmp_path / "index", "zero_shot", ZeroShotConfig("clips"), FeatureSources(Source("f", 6), Source("f", 6)))
    export_embeddings(index, tmp_path / "e.parquet")
    rows = [row for row in parquet.read_table(tmp_path / "e.parquet").to_pylist() if row["video"] == "a.mp4"]
    # 32 clips of one second.
    assert [row["seconds"] for row in rows] == pytest.approx([number / 32 for number in range(32)])


def test_what_no_table_is_made_of(tmp_path: Path, prvr: Prvr) -> None:
    index = make_index(tmp_path / "index", "dl_dkd", DlDkdConfig(hidden=8, heads=2, exploration_hidden=4))
    file = tmp_path / "e.parquet"
    with pytest.raises(SettingError, match=r"different widths \(inheritance 8, exploration 4\).* --branch inheritance first"):
        export_embeddings(index, file)
    with pytest.raises(SettingError, match="no branch 'exploratoin'; did you mean 'exploration'"):
        export_embeddings(index, file, branch="exploratoin")
    says(prvr("data", "export", index, tmp_path / "e.hdf5"), "an index is written as Parquet", "e.parquet")
    assert not file.exists()
    assert prvr("data", "export", index, file, "--branch", "exploration").out == f"{file}: 3 items\n"
    with pytest.raises(DataError, match="is there already"):
        export_embeddings(index, file, branch="exploration")
