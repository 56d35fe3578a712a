"""What an evaluation leaves in memory: embeddings and scores, and not the features that it has read."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_world import toy_world

from prvr.evaluate.evaluation import evaluate_model
from prvr.features import Features, open_features, release
from prvr.features.bigfile import BigFile
from prvr.features.joined import JoinedFeatures
from prvr.features.packed import PackedWriter
from prvr.features.subtitles import SubtitledFrames
from prvr.methods import checkpoint as checkpoints
from prvr.methods.dl_dkd import DlDkdConfig

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux says what is mapped")


def mapped(folder: Path) -> list[str]:
    """The files below a folder that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted({line.partition("/")[2].removeprefix(str(folder)[1:]) for line in lines if str(folder) in line})


def packed(path: Path, items: Features) -> Features:
    with PackedWriter(path, columns=next(iter(items.values())).shape[1], about={"kind": "test"}) as out:
        out.extend([(id, rows, {}) for id, rows in items.items()])
    return open_features(path)


class Counted(dict[str, np.ndarray]):
    """Features that count how often they are released."""

    released = 0

    def release(self) -> None:
        self.released += 1


def test_an_evaluation_releases_what_it_has_read_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.index.encode.VIDEOS_AT_ONCE", 3)
    monkeypatch.setattr("prvr.evaluate.evaluation.QUERIES_IN_ORDER", 5)
    data = toy_world(videos=30)
    features = replace(data.features, frames=Counted(data.features.frames), text=Counted(data.features.text))
    torch.manual_seed(0)
    model = checkpoints.build("dl_dkd", DlDkdConfig(hidden=8, heads=2), features.sources).model
    evaluation = evaluate_model(model, data.dev, features)
    assert evaluation.scores.shape == (10, 10)
    assert (features.frames.released, features.text.released) == (4, 2)


@linux
def test_released_features_are_read_again_and_rows_that_are_held_stay(tmp_path: Path) -> None:
    items = {id: np.full((2, 3), number, np.float32) for number, id in enumerate("ab")}
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "feature.bin").write_bytes(b"".join(rows.tobytes() for rows in items.values()))
    (folder / "shape.txt").write_text("4 3")
    (folder / "id.txt").write_text("a0 a1 b0 b1")
    (folder / "video2frames.txt").write_text("{'a': ['a0', 'a1'], 'b': ['b0', 'b1']}")
    one, other = packed(tmp_path / "one", items), packed(tmp_path / "other", items)
    for features in (one, JoinedFeatures([(one, 3), (other, 3)]), SubtitledFrames(one, other), BigFile(folder)):
        held = features["a"]
        features["b"]
        release(features)
        assert held[:, :3].tolist() == [[0] * 3] * 2
        del held
        # The published file is mapped while it is open.
        assert set(mapped(tmp_path)) == {"/published/feature.bin"}
        assert features["b"][:, :3].tolist() == [[1] * 3] * 2
        release(features)
