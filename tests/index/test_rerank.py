"""Approximate search where the model scores what cosines have chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_checks import build, noise, padded, sequences
from toy_world import FRAMES, WORDS

from prvr.index.contract import Header, ScoredVideo
from prvr.index.disk import DiskIndex
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.index.measure import choose_setting
from prvr.index.rerank import rerank
from prvr.index.setting import Setting
from prvr.methods.gmmformer_v2 import GmmFormerV2Config
from prvr.methods.holmes import HolmesDualConfig
from prvr.methods.ral import RalGmmFormerV2Config

SIZES: dict[str, Any] = {"hidden": 8, "heads": 2, "max_frames": 20, "max_words": 6, "clips": 4}
MODELS = {
    "ral_gmmformer_v2": RalGmmFormerV2Config(**SIZES),
    "gmmformer_v2": GmmFormerV2Config(**SIZES),
    "holmes_dual": HolmesDualConfig(**SIZES),
}
HEADER = Header("0" * 16, "float32", "videos")
EVERY = Setting(1.0)
every_model = pytest.mark.parametrize("model", [build(name, settings) for name, settings in MODELS.items()], ids=list(MODELS))


def features(count: int) -> dict[str, np.ndarray]:
    return {f"{n:02d}.mp4": noise(3 + n % 18, FRAMES, seed=n).numpy() for n in range(count)}


def filled(path: Path, model: Any, count: int = 30) -> DiskIndex:
    index, rows = DiskIndex.make(path, model, HEADER), features(count)
    add_videos(index, rows, rows)
    return index


@torch.no_grad()
def asked(model: Any) -> tuple[torch.Tensor, ...]:
    queries: tuple[torch.Tensor, ...] = model.encode_queries(*padded(sequences((3, 1, 6, 4), WORDS)))
    return queries


def check_same(found: list[list[ScoredVideo]], exact: list[list[ScoredVideo]]) -> None:
    for row, wanted in zip(found, exact, strict=True):
        assert [one.video for one in row] == [one.video for one in wanted]
        assert [one.score for one in row] == pytest.approx([one.score for one in wanted], abs=1e-6)


@every_model
def test_where_all_videos_are_candidates_the_answer_is_the_exact_one(model: Any, tmp_path: Path) -> None:
    index, queries = filled(tmp_path, model), asked(model)
    learned = index.learn_stage(queries)
    assert model.score_weights is None
    index.keep_setting(EVERY, learned, recall=1.0, queries=20)
    for k in (1, 5, 99):
        exact = index.search(queries, k)
        check_same(index.search_approximately(queries, k), exact)
        check_same(index.search_with_setting(queries, k, setting=EVERY, learned=learned), exact)
    # It follows the file.
    index.delete([exact[0][0].video])
    check_same(index.search_approximately(queries, 99), index.search(queries, 99))
    assert len(index.search_approximately(queries, 99)[0]) == 29


@every_model
def test_few_candidates_are_scored_by_the_model(model: Any, tmp_path: Path) -> None:
    index, queries = filled(tmp_path, model), asked(model)
    found = index.search_with_setting(queries, 3, setting=Setting(0.2), learned=index.learn_stage(queries))
    exact = [{one.video: one.score for one in row} for row in index.search(queries, 99)]
    for row, known in zip(found, exact, strict=True):
        assert len(row) == 3
        assert [one.score for one in row] == pytest.approx([known[one.video] for one in row], abs=1e-5)
        assert [one.score for one in row] == sorted((one.score for one in row), reverse=True)
    best = [row[0].video for row in index.search(queries, 1)]
    assert sum(one in {hit.video for hit in row} for one, row in zip(best, found, strict=True)) >= 2


def test_rows_are_read_query_by_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("ral_gmmformer_v2", MODELS["ral_gmmformer_v2"])
    index, queries, done = filled(tmp_path, model), asked(model), []
    read, score = index._database.records, ExactIndex.search
    monkeypatch.setattr(index._database, "records", lambda numbers: done.append("read") or read(numbers))
    learned = index.learn_stage(queries)
    done.clear()
    monkeypatch.setattr(ExactIndex, "search", lambda *given, **more: done.append("score") or score(*given, **more))
    index.search_with_setting(queries, 3, setting=Setting(0.2), learned=learned)
    assert done[-8:] == ["read", "score"] * 4


@every_model
def test_settings_are_measured_with_the_fields_of_candidates(model: Any, tmp_path: Path) -> None:
    index, queries = filled(tmp_path, model, count=12), asked(model)
    trial = choose_setting(index, queries, least_recall=0.01)
    assert trial.queries == 4
    assert all(0 <= one.recall <= 1 for one in trial.measured)


def test_no_candidates_are_no_hits() -> None:
    model = build("ral_gmmformer_v2", MODELS["ral_gmmformer_v2"])
    assert rerank(model, asked(model), 3, [[], [], [], []]) == [[], [], [], []]
