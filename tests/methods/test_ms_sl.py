"""MS-SL and MS-SL++: scores and losses against loops, their invariants, and that they learn.

Their numbers beside the published code's: test_peers_gmmformer_family.py; k-medoids: tests/nn/test_medoids.py.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch
from method_checks import check_learns
from torch import Tensor
from toy_world import FRAMES, READS, WORDS, toy_world

from prvr.batch import Batch, pad_clips, read_clips, read_frames
from prvr.errors import SettingError
from prvr.evaluate.evaluation import encode_captions, evaluate_model
from prvr.methods import checkpoint as checkpoints
from prvr.methods import ms_sl
from prvr.methods.contract import embed
from prvr.methods.ms_sl import ClipMeans, MsSl, MsSlConfig, joint_nce, objective, paired_nce, paired_triplet, profile

SMALL = MsSlConfig(hidden=8, heads=2, clips=4, max_frames=20, dropout=0.0, input_dropout=0.0, margin=0.2)
REDUCED = replace(SMALL, reduced_clips=3)
LENGTHS, TARGET = (5, 1, 3), (0, 0, 1, 2, 2)


def student(config: MsSlConfig = SMALL, *, spread: float = 1.0) -> MsSl:
    torch.manual_seed(0)
    model = MsSl(config, frame_columns=FRAMES, word_columns=WORDS).double().eval()
    # Weights of N(0, 0.02) make all vectors alike, and a key clip of one query that of all.
    for weight in (model.attended.weight, model.kept.weight):
        torch.nn.init.normal_(weight, std=spread)
    return model


def batch(*, more_frames: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(1)
    frames = torch.randn(3, 5, FRAMES, generator=draw, dtype=torch.float64)
    words = torch.randn(5, 4, WORDS, generator=draw, dtype=torch.float64)
    mask = torch.arange(5 + more_frames) < torch.tensor(LENGTHS)[:, None]
    frames = torch.cat([frames, torch.randn(3, more_frames, FRAMES, generator=draw, dtype=torch.float64)], 1)
    word_mask = torch.arange(4) < torch.tensor([4, 2, 1, 3, 4])[:, None]
    return Batch(frames * mask[..., None], mask, words, word_mask, torch.tensor(TARGET), ())


def loop_clips(rows: Tensor) -> list[list[float]]:
    """All means of consecutive rows, shortest first."""
    count = len(rows)
    return [rows[s : s + n].mean(0).tolist() for n in range(1, count + 1) for s in range(count - n + 1)]


def loop_summary(model: MsSl, clip: list[float], frames: Tensor) -> list[float]:
    attended, kept = ([(layer.weight @ frame).tolist() for frame in frames] for layer in (model.attended, model.kept))
    weights = oracles.softmax([oracles.dot(frame, clip) for frame in attended])
    return [sum(w * frame[d] for w, frame in zip(weights, kept, strict=True)) for d in range(len(clip))]


def loop_parts(model: MsSl, query: Tensor, clips: Tensor, frames: Tensor) -> tuple[float, float, list[float]]:
    """S_c, U_c and r of one query and one video, given without padding."""
    every = clips.tolist() if model.config.reduced_clips else loop_clips(clips)
    cosines = [oracles.cosine(query.tolist(), clip) for clip in every]
    key = max(range(len(every)), key=lambda k: cosines[k])
    dots = [oracles.dot(query.tolist(), clip) for clip in every]
    return cosines[key], max(dots), loop_summary(model, every[key], frames)


def loops(model: MsSl, given: Batch) -> tuple[list[list[tuple[float, float, list[float]]]], Tensor]:
    queries, videos, _ = embed(model, given)
    clips, frames = (field.detach() for field in videos)
    query = queries[0].detach()
    parts = [[loop_parts(model, q, clips[v], frames[v, : LENGTHS[v]]) for v in range(len(LENGTHS))] for q in query]
    return parts, query


def test_clips_are_all_means_of_consecutive_rows() -> None:
    assert ClipMeans(32).shares(like=torch.empty(0)).shape == (528, 32)
    means, rows = ClipMeans(4), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(means.shares(like=rows) @ rows, torch.tensor(loop_clips(rows), dtype=torch.float64))
    assert means.lengths().tolist() == [1, 1, 1, 1, 2, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("config", [SMALL, REDUCED], ids=["ms-sl", "ms-sl++"])
@torch.no_grad()
def test_scores_against_loops(config: MsSlConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = student(config), batch()
    parts, query = loops(model, given)
    expected = [
        [0.7 * s_c + 0.3 * oracles.cosine(q.tolist(), r) for s_c, _, r in row] for q, row in zip(query, parts, strict=True)
    ]
    queries, videos, _ = embed(model, given)
    ours = model.score(queries, videos, given.frame_mask)
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64))
    assert len(ms_sl.compare(queries[0], videos[0], model.shares(videos[0])).key.unique()) > 1
    one = tuple(field[3:4] for field in queries)
    torch.testing.assert_close(model.score(one, videos, given.frame_mask), ours[3:4])
    monkeypatch.setattr(ms_sl, "PAIRS_AT_ONCE", 1)
    torch.testing.assert_close(model.score(queries, videos, given.frame_mask), ours)


@pytest.mark.parametrize("config", [SMALL, REDUCED], ids=["ms-sl", "ms-sl++"])
def test_losses_against_loops(config: MsSlConfig) -> None:
    # The hardest negative alone, so that nothing is drawn.
    model, given = student(replace(config, hard_from_epoch=0, negative_pool=1)), batch()
    parts, query = loops(model, given)
    s_c, u_c = ([[pair[k] for pair in row] for row in parts] for k in (0, 1))
    own = [row[v][2] for row, v in zip(parts, TARGET, strict=True)]
    s_f, u_f = ([[of(q.tolist(), r) for r in own] for q in query] for of in (oracles.cosine, oracles.dot))
    each = list(range(5))
    terms = {name: value.item() for name, value in objective(model, *embed(model, given), 0).items()}
    nce = (lambda d: oracles.info_nce(d, each)) if config.reduced_clips else loop_joint_nce
    expected = {
        "clips_triplet": oracles.triplet(s_c, TARGET, margin=0.2, negatives=hardest(s_c, TARGET)),
        "clips_nce": 0.02 * oracles.info_nce(u_c, TARGET),
        "frames_triplet": oracles.triplet(s_f, each, margin=0.2, negatives=hardest(s_f, each)),
        "frames_nce": 0.04 * nce(u_f),
    }
    assert terms == pytest.approx(expected, abs=1e-9)


def hardest(s: list[list[float]], y: tuple[int, ...] | list[int]) -> list[int]:
    return [oracles.hardest_wrong_videos(s, y, n, 1)[0] for n in range(len(s))]


def loop_joint_nce(d: list[list[float]]) -> float:
    total = 0.0
    for n in range(len(d)):
        below = sum(math.exp(d[n][m]) for m in range(len(d))) + sum(math.exp(d[m][n]) for m in range(len(d)))
        total += math.log(below) - d[n][n]
    return total / len(d)


def test_contrastive_losses_of_pairs_by_hand() -> None:
    # Row 0: e^1 + e^0, column 0: e^1 + e^0; the same for 1.
    assert joint_nce(torch.eye(2)).item() == pytest.approx(math.log(2 * (math.e + 1)) - 1)
    assert paired_nce(torch.eye(2)).item() == pytest.approx(2 * (math.log(math.e + 1) - 1))


@pytest.mark.parametrize("pool", [2, None])
def test_both_directions_of_pairs_draw_from_the_pool(pool: int | None) -> None:
    cosines = torch.tensor([[0.0, 0.1, 0.2, 0.3], [0.4, 0.0, 0.5, 0.6], [0.7, 0.8, 0.0, 0.9], [0.15, 0.25, 0.35, 0.0]])
    drawn = {round(paired_triplet(cosines, margin=0.0, pool=pool).item(), 5) for _ in range(400)}
    # The hinge of each row and of each column is its negative; two of three hardest are drawn, or any of three.
    rows = [sorted([x for x in row if x > 0], reverse=True)[: pool or 3] for row in cosines.tolist()]
    columns = [sorted([x for x in column if x > 0], reverse=True)[: pool or 3] for column in cosines.T.tolist()]
    possible = {round(sum(each) / 4, 5) for each in itertools.product(*rows, *columns)}
    assert drawn <= possible
    assert min(drawn) < sum(max(row) for row in [*rows, *columns]) / 4 - 0.2


def test_negatives_are_random_before_they_are_hard() -> None:
    model, given = student(replace(SMALL, hard_from_epoch=5)), batch()
    embedded = embed(model, given)

    def drawn(epoch: int) -> set[float]:
        return {round(objective(model, *embedded, epoch)["clips_triplet"].item(), 9) for _ in range(30)}

    assert len(drawn(4)) > len(drawn(5))


@pytest.mark.parametrize("config", [SMALL, REDUCED], ids=["ms-sl", "ms-sl++"])
@torch.no_grad()
def test_padding_and_order_change_nothing(config: MsSlConfig) -> None:
    model = student(config)
    first, padded = batch(), batch(more_frames=3)
    scored = []
    for given in (first, padded):
        queries, videos, _ = embed(model, given)
        scored.append(model.score(queries, videos, given.frame_mask))
    torch.testing.assert_close(scored[0], scored[1])
    order = torch.tensor([2, 0, 1])
    queries, videos, _ = embed(model, first)
    shuffled = model.score(queries, tuple(field[order] for field in videos), first.frame_mask[order])
    torch.testing.assert_close(shuffled, scored[0][:, order])


@pytest.mark.parametrize("config", [SMALL, REDUCED], ids=["ms-sl", "ms-sl++"])
@torch.no_grad()
def test_the_profile_is_the_relevance_of_each_query(config: MsSlConfig) -> None:
    model, given = student(config), batch()
    queries, videos, _ = embed(model, given)
    along = profile(model, queries, videos, given)
    for n, v in enumerate(TARGET):
        alone = (videos[0][v : v + 1], videos[1][v : v + 1, : LENGTHS[v]])
        one = model.relevance((queries[0][n : n + 1], queries[1][n : n + 1]), alone)
        torch.testing.assert_close(along[n, : LENGTHS[v]], one)
        assert along[n, LENGTHS[v] :].eq(-math.inf).all()


def test_as_many_medoids_as_clips_are_all_of_them() -> None:
    model, plain = student(replace(SMALL, reduced_clips=10_000)), student(SMALL)
    _, videos, _ = embed(model, batch())
    assert videos[0].shape == (3, 10, 8)
    plain.load_state_dict(model.state_dict())
    both = [one.score(*embed(one, batch())[:2], batch().frame_mask) for one in (model, plain)]
    torch.testing.assert_close(both[0], both[1])


def test_medoids_are_some_of_the_clips_and_dropout_changes_which_they_are() -> None:
    model = student(replace(REDUCED, dropout=0.5))
    clips = torch.randn(2, 10, 8, dtype=torch.float64)
    assert torch.equal(model.choose_clips(clips), model.choose_clips(clips))
    model.train()
    torch.manual_seed(0)
    assert len({tuple(model.choose_clips(clips).flatten().tolist()) for _ in range(10)}) > 1


def test_every_parameter_learns() -> None:
    for config in (SMALL, REDUCED):
        model, given = student(config), batch()
        torch.stack(list(objective(model, *embed(model, given), 30).values())).sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_settings_that_cannot_be() -> None:
    with pytest.raises(SettingError, match="clips is 0; it must be above 0"):
        MsSlConfig(clips=0)
    with pytest.raises(SettingError, match=r"frame_weight is 1\.5; it takes a share"):
        MsSlConfig(frame_weight=1.5)


@pytest.mark.thorough
@pytest.mark.parametrize("reduced", [0, 16], ids=["ms-sl", "ms-sl++"])
def test_learns_the_toy_world(tmp_path: Path, reduced: int) -> None:
    settings = MsSlConfig(
        hidden=32, clips=16, reduced_clips=reduced, max_frames=32, dropout=0.0, input_dropout=0.0, hard_from_epoch=3
    )
    check_learns("ms_sl", settings, tmp_path, data=toy_world(videos=100, things=12), lr=1.5e-3, epochs=14)


@torch.no_grad()
def test_a_video_shorter_than_its_clips_is_found_through_the_index() -> None:
    data, model = toy_world(videos=12), checkpoints.build("ms_sl", MsSlConfig(hidden=16, heads=2), READS).model
    assert isinstance(model, MsSl)
    model.eval()
    short = {video: rows[: 1 + place % 5] for place, (video, rows) in enumerate(data.features.frames.items())}
    found = evaluate_model(model, data.dev, replace(data.features, frames=short))
    queries = encode_captions(model, found.captions, data.features.text)
    for column, video in enumerate(found.videos):
        frames = torch.from_numpy(read_frames(short[video], model.reading))[None]
        mask = torch.ones(frames.shape[:2], dtype=torch.bool)
        clips = pad_clips([read_clips(short[video], model.reading)])
        alone = model.score(queries, model.encode_videos(frames, mask, None, clips), mask)[:, 0]
        torch.testing.assert_close(torch.from_numpy(found.scores)[:, column], alone, atol=1e-5, rtol=1e-4)
