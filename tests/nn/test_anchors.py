"""Anchors of videos: the numbers of TRACE's formulas, and what must hold."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from peer_fixtures import FOLDER
from torch import Tensor
from torch.nn.functional import linear, normalize

from prvr.nn import anchors

CONFIG = json.loads((FOLDER / "trace" / "config.json").read_text())
CASES = json.loads((FOLDER / "trace" / "losses.json").read_text())["cases"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def given() -> dict[str, Tensor]:
    with np.load(FOLDER / "trace" / "arrays.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert ours.isfinite().all()
    assert float((ours - theirs).abs().max()) <= 1e-9


def test_constants() -> None:
    named = (anchors.TEMPERATURE, anchors.ROUTE_WEIGHT, anchors.SOFT_WEIGHT)
    assert named == (CONFIG["tau"], CONFIG["gamma"], CONFIG["eta"])


@pytest.mark.parametrize("case", CASES)
def test_parity(case: str, given: dict[str, Tensor]) -> None:
    queries, frames, mask = given["queries"], given["frames"], given["frame_mask"] > 0
    if case.startswith("temporal"):
        made = anchors.temporal_anchors(frames, mask, CASES[case]["anchors"])
        close(made, given[f"{case}/anchors"])
        found = anchors.evidence(queries, frames, mask, made)
    else:
        # Maps that training would make: of queries, anchors, frames as keys and frames as values.
        inputs = (("query", queries), ("anchor", given["registers"]), ("key", frames), ("value", frames))
        query, anchor, key, value = (linear(x, given[f"map_{name}.weight"], given[f"map_{name}.bias"]) for name, x in inputs)
        found = anchors.evidence(query, key, mask, anchor, value)
    close(found.route, given[f"{case}/route"])
    close(found.soft, given[f"{case}/soft"])
    close(found.total, given[f"{case}/evidence"])
    assert torch.equal(found.place, given[f"{case}/place"])
    scores = given["base"] + CASES[case]["weight"] * found.total
    close(scores, given[f"{case}/scores"])
    target = given["labels"]
    for name, told in (("base", given["base"]), ("scores", scores)):
        rank = (told >= told.gather(1, target[:, None])).sum(1)
        assert rank.tolist() == CASES[case]["rank_of_own"][name]
    for temperature, expected in CASES[case]["nce_at_tau_c"].items():
        told = torch.nn.functional.cross_entropy(found.total / float(temperature), target)
        assert told.item() == pytest.approx(expected, abs=1e-9)


def test_evidence_against_a_loop() -> None:
    queries, frames, lengths = noise(2, 3), noise(2, 4, 3, seed=1), (4, 1)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    made = anchors.temporal_anchors(frames, mask, 2)
    found = anchors.evidence(queries, frames, mask, made)
    for n in range(2):
        for v, length in enumerate(lengths):
            q, rows, keys = normalize(queries[n], dim=0), normalize(frames[v, :length], dim=1), normalize(made[v], dim=1)
            route = [
                float(q @ f) + 0.3 * 0.07 * math.log(sum(math.exp((float(q @ r) + float(r @ f)) / 0.07) for r in keys))
                for f in rows
            ]
            assert found.route[n, v].item() == pytest.approx(max(route))
            assert found.place[n, v].item() == route.index(max(route))


def test_parts_are_equal_and_leave_out_no_frame() -> None:
    frames = torch.arange(10.0)[None, :, None].expand(2, 10, 1)
    mask = torch.arange(10) < torch.tensor([10, 3])[:, None]
    made = anchors.temporal_anchors(frames, mask, 4)[..., 0]
    # Edges round(2.5 k): 0, 2, 5, 8, 10, halves to even; of three frames 0, 1, 2, 2, 3, so that the third part is empty.
    assert made[0].tolist() == [0.5, 3.0, 6.0, 8.5]
    assert made[1].tolist() == [0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(("count", "length"), [(10, 45), (10, 85), (12, 210), (8, 100), (3, 9)])
def test_parts_begin_where_whole_numbers_say(count: int, length: int) -> None:
    frames = torch.arange(float(length)).double()[None, :, None]
    made = anchors.temporal_anchors(frames, torch.ones(1, length, dtype=torch.bool), count)[0, :, 0]
    edges = [round(Fraction(k * length, count)) for k in range(count + 1)]
    parts = [range(first, max(last, first + 1)) for first, last in itertools.pairwise(edges)]
    assert made.tolist() == pytest.approx([sum(part) / len(part) for part in parts])


def test_padding_changes_nothing() -> None:
    queries, frames = noise(3, 4), noise(1, 5, 4, seed=1)
    whole = torch.ones(1, 5, dtype=torch.bool)
    padded = torch.cat([frames, torch.full((1, 3, 4), 9.0).double()], 1)
    mask = torch.arange(8)[None] < 5
    plain = anchors.evidence(queries, frames, whole, anchors.temporal_anchors(frames, whole, 4))
    longer = anchors.evidence(queries, padded, mask, anchors.temporal_anchors(padded, mask, 4))
    for one, other in zip(plain, longer, strict=True):
        torch.testing.assert_close(one, other)
