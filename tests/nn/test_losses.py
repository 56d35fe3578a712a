"""Scores and losses: by hand, beside slow loops, under changes that must change nothing, and on the device alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from dl_dkd import PLAIN, PLUS, taught
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from prvr.batch import Batch, Item, TeacherBatch, collate, pad, resample
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.nn import losses, scores
from prvr.nn.distillation import Distillation

# Queries of each video; a 0 is a video that no query describes.
WORLDS = {
    "one query, one video": (1,),
    "one query, two videos": (1, 0),
    "two videos": (2, 1),
    "one video, three queries": (3,),
    "some": (3, 1, 2, 1),
    "a video without a query": (2, 0, 3, 1, 0),
    "more videos than the pool": (1,) * 9,
}
every_world = pytest.mark.parametrize("captions", WORLDS.values(), ids=list(WORLDS))
every_seed = pytest.mark.parametrize("seed", range(4))


def draw(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape) * scale)


def target_of(captions: tuple[int, ...]) -> Tensor:
    return torch.arange(len(captions)).repeat_interleave(torch.tensor(captions))


@dataclass(frozen=True)
class Scene:
    """Scores of every query and video, and the video that each query describes."""

    scores: Tensor
    target: Tensor


def scene(captions: tuple[int, ...], seed: int, scale: float = 2.0) -> Scene:
    return Scene(draw(sum(captions), len(captions), seed=seed, scale=scale), target_of(captions))


def triplet(s: Tensor, target: Tensor, *, margin: float = 0.2, pool: int = 1) -> Tensor:
    return losses.triplet(
        s,
        target,
        margin=margin,
        negative_videos=losses.hard_negative_videos(s, target, pool=pool),
        negative_queries=losses.hardest_negative_queries(s, target),
    )


def soft_info_nce(d: Tensor, target: Tensor, **changes: Any) -> Tensor:
    queries, videos = d.shape
    given = {
        "relevance": d[None],
        "mixing": 0.6,
        "hard_fraction": 0.5,
        "hard_queries": torch.arange(queries) < queries // 2,
        "hard_videos": torch.arange(videos) < videos // 2,
    }
    return losses.soft_info_nce(d, target, **{**given, **changes})


# By hand


def test_scores_by_hand() -> None:
    queries = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    videos = torch.tensor([[[4.0, 3.0], [1.0, 0.0]], [[0.0, 5.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    dots = scores.frame_dots(queries, videos, mask)
    assert dots.tolist() == [[[24, 3], [20, -math.inf]], [[6, 0], [10, -math.inf]]]
    cosines = scores.frame_cosines(queries, videos, mask)
    torch.testing.assert_close(cosines, torch.tensor([[[0.96, 0.6], [0.8, -math.inf]], [[0.6, 0.0], [1.0, -math.inf]]]))
    assert scores.video_scores(dots).tolist() == [[24, 20], [6, 10]]
    assert scores.own_video(dots, torch.tensor([1, 0])).tolist() == [[20, -math.inf], [6, 0]]


def test_a_vector_of_zeros_scores_zero() -> None:
    videos = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    cosines = scores.frame_cosines(torch.zeros(1, 2), videos, torch.ones(1, 2, dtype=torch.bool))
    assert cosines.tolist() == [[[0, 0]]]


def test_triplet_by_hand() -> None:
    # Queries 0 and 1 describe video 0, query 2 video 1; margin 0.2.
    s = torch.tensor([[0.9, 0.8, 0.1], [0.5, 0.2, 0.6], [0.7, 0.4, 0.3]])
    # Text to video: 0.2 + 0.8 - 0.9 = 0.1; 0.2 + 0.6 - 0.5 = 0.3; 0.2 + 0.7 - 0.4 = 0.5; mean 0.3.
    # Video to text: 0.2 + 0.7 - (0.9 + 0.5) / 2 = 0.2; 0.2 + 0.8 - 0.4 = 0.6; nobody asks for video 2; mean 0.4.
    assert triplet(s, torch.tensor([0, 0, 1])).item() == pytest.approx(0.7)


def test_info_nce_by_hand() -> None:
    # e^d is [[2, 2], [1, 3], [4, 4]]; queries 0 and 1 describe video 0, query 2 video 1.
    d = torch.tensor([[2.0, 2.0], [1.0, 3.0], [4.0, 4.0]], dtype=torch.float64).log()
    text_to_video = (math.log(4 / 2) + math.log(4 / 1) + math.log(8 / 4)) / 3
    video_to_text = (math.log(7 / 3) + math.log(9 / 4)) / 2
    assert losses.info_nce(d, torch.tensor([0, 0, 1])).item() == pytest.approx(text_to_video + video_to_text)


def test_soft_info_nce_by_hand() -> None:
    # e^d is [[1, 3], [2, 2]]; query 0 describes video 0, query 1 video 1; b = 1/2.
    # e^relevance is [[4, 1], [1, 1]]: softmax_v [[.8, .2], [.5, .5]], so T = [[.9, .1], [.25, .75]];
    #                                  softmax_n [[.8, .5], [.2, .5]], so W = [[.9, .25], [.1, .75]].
    d = torch.tensor([[1.0, 3.0], [2.0, 2.0]], dtype=torch.float64).log()
    relevance = torch.tensor([[4.0, 1.0], [1.0, 1.0]], dtype=torch.float64).log()
    target, none, both = torch.tensor([0, 1]), torch.tensor([False, False]), torch.tensor([True, True])

    def loss(hard: Tensor, a: float) -> float:
        return soft_info_nce(
            d, target, relevance=relevance[None], mixing=0.5, hard_fraction=a, hard_queries=hard, hard_videos=hard
        ).item()

    t = math.log(4) - 0.1 * math.log(3), math.log(4) - math.log(2)
    u = math.log(3 / (0.9 * 1 + 0.1 * 2)), math.log(5 / (0.25 * 3 + 0.75 * 2))
    assert loss(none, 0.0) == pytest.approx(sum(t) / 2 + sum(u) / 2)
    hard = (math.log(4 / 1) + math.log(4 / 2)) / 2 + (math.log(3 / 1) + math.log(5 / 2)) / 2
    assert loss(both, 1.0) == pytest.approx(hard)
    # The first query and video hard, the second soft, weighed 1/4 and 3/4.
    first = torch.tensor([True, False])
    assert loss(first, 0.25) == pytest.approx((math.log(4 / 1) + math.log(3 / 1)) / 4 + (t[1] + u[1]) * 3 / 4)


def test_a_video_without_a_query_adds_nothing_to_the_soft_loss() -> None:
    dots, target = draw(3, 2, seed=0), torch.tensor([0, 0, 1])
    more = torch.cat([dots, torch.full((3, 1), -1e4, dtype=torch.float64)], dim=1)
    for hard in (True, False):
        queries, videos = torch.full((3,), hard), torch.full((2,), hard)
        share = {"hard_fraction": 1.0 if hard else 0.0, "hard_queries": queries, "relevance": dots[None]}
        two = soft_info_nce(dots, target, **share, hard_videos=videos)
        share["relevance"] = more[None]
        three = soft_info_nce(more, target, **share, hard_videos=torch.full((3,), hard))
        # The mean over videos is of three, of which the last costs nothing.
        of_texts = _text_part(dots, target, dots, hard=hard)
        assert three.item() == pytest.approx(of_texts + (two.item() - of_texts) * 2 / 3)


def _text_part(d: Tensor, target: Tensor, relevance: Tensor, *, hard: bool) -> float:
    one_hot = torch.nn.functional.one_hot(target, d.shape[1]).double()
    rows = one_hot if hard else 0.4 * relevance.softmax(1) + 0.6 * one_hot
    return (d.logsumexp(1) - (rows * d).sum(1)).mean().item()


def test_a_part_without_a_query_or_a_video_is_lost_with_its_weight() -> None:
    d, target = draw(2, 2, seed=0), torch.tensor([0, 1])
    one, none = torch.tensor([True, False]), torch.tensor([False, False])
    rest = soft_info_nce(d, target, hard_fraction=0.0, hard_queries=one, hard_videos=none)
    assert soft_info_nce(d, target, hard_fraction=0.3, hard_queries=one, hard_videos=none).item() == pytest.approx(
        0.7 * rest.item()
    )


def test_the_floor_caps_what_a_missing_positive_costs() -> None:
    # docs/how/dl-dkd.md: with a gap of 60 nats the weight 1e-12 of the wrong query stands in for the right one.
    d = torch.tensor([[0.0, 0.0], [60.0, 0.0]], dtype=torch.float64)
    hard, every = torch.ones(2, dtype=torch.bool), {"hard_fraction": 1.0}
    video_to_text = (12 * math.log(10) + math.log(2)) / 2  # of the two videos; capped for the first
    text_to_video = (math.log(2) + 60) / 2
    ours = soft_info_nce(d, torch.tensor([0, 1]), hard_queries=hard, hard_videos=hard, **every)
    assert ours.item() == pytest.approx(text_to_video + video_to_text, rel=1e-6)
    assert losses.info_nce(d, torch.tensor([0, 1])).item() == pytest.approx(text_to_video + (60 + math.log(2)) / 2, rel=1e-6)


def test_frame_kl_by_hand() -> None:
    # Temperature 1/2: p = (1/4, 3/4) and (1/2, 1/2), t = (1/2, 1/2) and (1/4, 3/4); the third frame is padding.
    student = torch.tensor([[1.0, 3.0, 7.0], [1.0, 1.0, 7.0]], dtype=torch.float64).log() / 2
    teacher = torch.tensor([[1.0, 1.0, 9.0], [1.0, 3.0, 9.0]], dtype=torch.float64).log() / 2
    mask = torch.tensor([[True, True, False]]).expand(2, -1)
    first = math.log(2) / 2 + math.log(2 / 3) / 2
    second = math.log(1 / 2) / 4 + math.log(3 / 2) * 3 / 4
    assert losses.frame_kl(student, teacher, mask, temperature=0.5).item() == pytest.approx(first + second)


# Beside the slow loops


@pytest.mark.parametrize(("queries", "videos", "frames"), [(1, 1, 1), (1, 3, 4), (4, 1, 2), (5, 6, 7)])
@pytest.mark.parametrize("name", ["cosine", "dot"])
def test_scores_are_those_of_the_loop(name: str, queries: int, videos: int, frames: int) -> None:
    q, v = draw(queries, 5, seed=1), draw(videos, frames, 5, seed=2)
    lengths = [1 + (3 * place) % frames for place in range(videos)]
    mask = torch.arange(frames) < torch.tensor(lengths)[:, None]
    ours = {"cosine": scores.frame_cosines, "dot": scores.frame_dots}[name](q, v, mask)
    theirs = oracles.frame_scores(q.tolist(), v.tolist(), lengths, getattr(oracles, name))
    for n in range(queries):
        for k, length in enumerate(lengths):
            assert ours[n, k, :length].tolist() == pytest.approx(theirs[n][k], abs=1e-12)
            assert (ours[n, k, length:] == -math.inf).all()
    assert scores.video_scores(ours).flatten().tolist() == pytest.approx(
        [s for row in oracles.video_scores(theirs) for s in row], abs=1e-12
    )


@every_world
@every_seed
def test_triplet_is_that_of_the_loop(captions: tuple[int, ...], seed: int) -> None:
    given = scene(captions, seed, scale=0.3)
    torch.manual_seed(seed)
    drawn = losses.hard_negative_videos(given.scores, given.target, pool=4)
    s, y = given.scores.tolist(), given.target.tolist()
    ours = losses.triplet(
        given.scores,
        given.target,
        margin=0.2,
        negative_videos=drawn,
        negative_queries=losses.hardest_negative_queries(given.scores, given.target),
    )
    negatives = [v if len(captions) > 1 else None for v in drawn.tolist()]
    assert ours.item() == pytest.approx(oracles.triplet(s, y, margin=0.2, negatives=negatives), abs=1e-10)


@pytest.mark.parametrize("pool", [1, 3, 8, 20])
@pytest.mark.parametrize("videos", [2, 4, 9])
def test_negatives_are_drawn_from_the_whole_pool_and_from_nothing_else(videos: int, pool: int) -> None:
    given = scene((2,) * videos, seed=7)
    torch.manual_seed(0)
    drawn = [losses.hard_negative_videos(given.scores, given.target, pool=pool) for _ in range(150)]
    s, y = given.scores.tolist(), given.target.tolist()
    for n in range(len(s)):
        assert {int(d[n]) for d in drawn} == set(oracles.hardest_wrong_videos(s, y, n, pool))


def test_negatives_are_drawn_evenly() -> None:
    given = scene((1,) * 6, seed=3)
    torch.manual_seed(0)
    counts = torch.stack([losses.hard_negative_videos(given.scores, given.target, pool=4) for _ in range(600)])
    for n, pool in enumerate(oracles.hardest_wrong_videos(given.scores.tolist(), list(range(6)), n, 4) for n in range(6)):
        share = [float((counts[:, n] == v).double().mean()) for v in pool]
        assert share == pytest.approx([0.25] * 4, abs=0.08)


@every_world
@every_seed
@pytest.mark.parametrize("scale", [0.1, 8.0])
def test_info_nce_is_that_of_the_loop(captions: tuple[int, ...], seed: int, scale: float) -> None:
    given = scene(captions, seed, scale)
    ours = losses.info_nce(given.scores, given.target).item()
    assert ours == pytest.approx(oracles.info_nce(given.scores.tolist(), given.target.tolist()), abs=1e-10)


@every_world
@every_seed
@pytest.mark.parametrize(("a", "b", "sources"), [(0.5, 0.5, 1), (0.8, 0.8, 2), (0.29, 0.0, 1), (0.0, 1.0, 3), (1.0, 0.3, 1)])
def test_soft_info_nce_is_that_of_the_loop(captions: tuple[int, ...], seed: int, a: float, b: float, sources: int) -> None:
    given = scene(captions, seed, scale=3.0)
    queries, videos = given.scores.shape
    relevance = draw(sources, queries, videos, seed=seed + 50, scale=4.0)
    hard_queries, hard_videos = (torch.arange(count) < math.floor(a * count) for count in (queries, videos))
    ours = losses.soft_info_nce(
        given.scores,
        given.target,
        relevance=relevance,
        mixing=b,
        hard_fraction=a,
        hard_queries=hard_queries,
        hard_videos=hard_videos,
    )
    theirs = oracles.soft_info_nce(
        given.scores.tolist(),
        given.target.tolist(),
        relevance=relevance.tolist(),
        b=b,
        a=a,
        hard_queries=hard_queries.tolist(),
        hard_videos=hard_videos.tolist(),
    )
    assert ours.item() == pytest.approx(theirs, abs=1e-10)


@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (5, 1, 3, 2), (7, 7)])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
@every_seed
def test_frame_kl_is_that_of_the_loop(lengths: tuple[int, ...], temperature: float, seed: int) -> None:
    student, teacher = (draw(len(lengths), max(lengths), seed=seed + k) for k in (0, 20))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ours = losses.frame_kl(student, teacher, mask, temperature=temperature)
    own, guide = ([row[:n].tolist() for row, n in zip(t, lengths, strict=True)] for t in (student, teacher))
    assert ours.item() == pytest.approx(oracles.frame_kl(own, guide, temperature=temperature), abs=1e-10)


@pytest.mark.parametrize("most", [None, 1, 2, 3, 7, 8, 10, 30, 128])
def test_resample_is_that_of_the_loop(most: int | None) -> None:
    for count in (*range(1, 40), 85, 129, 165, 255, 256, 257, 300):
        rows = draw(count, 2, seed=count).numpy()
        ours, theirs = resample(rows, most), oracles.resample(rows.tolist(), most)
        np.testing.assert_allclose(ours, theirs, atol=1e-12, err_msg=f"{count} rows")


# What must change nothing


def small(**changes: Any) -> DlDkd:
    torch.manual_seed(3)
    config = DlDkdConfig(hidden=8, heads=2, max_frames=12, max_words=9, negative_pool=3, margin=0.5)
    return DlDkd(dataclasses.replace(config, **changes), frame_columns=6, word_columns=5).double().eval()


def items(videos: int = 5, seed: int = 0, teachers: int = 1) -> list[Item]:
    random = np.random.default_rng(seed)

    def rows(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    made = []
    for place in range(videos):
        frames, captions = 1 + (5 * place) % 8, 1 + place % 3
        words = [rows(1 + (place + k) % 6, 5) for k in range(captions)]
        made.append(Item(rows(frames, 6), words, [(rows(frames, 7), rows(captions, 7)) for _ in range(teachers)]))
    return made


def batch_of(made: list[Item]) -> Batch:
    return collate(made).to(torch.device("cpu"), torch.float64)


def with_padding(given: Batch, *, frames: int, words: int) -> Batch:
    """The same batch with more places that are not real, and noise in all of those."""

    def widened(values: Tensor, mask: Tensor | None, by: int) -> Tensor:
        wide = torch.cat([values, torch.zeros(len(values), by, *values.shape[2:], dtype=values.dtype)], 1)
        if mask is None:
            return wide
        real = torch.cat([mask, torch.zeros(len(mask), by, dtype=torch.bool)], 1)
        return torch.where(real[..., None], wide, draw(*wide.shape, seed=9, scale=30.0))

    teachers = tuple(TeacherBatch(widened(t.frames, given.frame_mask, frames), t.queries) for t in given.teachers)
    return Batch(
        widened(given.frames, given.frame_mask, frames),
        widened(given.frame_mask, None, frames),
        widened(given.words, given.word_mask, words),
        widened(given.word_mask, None, words),
        given.target,
        teachers,
    )


def terms_and_gradients(
    model: DlDkd, given: Batch, epoch: int = 60, distillation: Distillation = PLUS
) -> tuple[dict[str, float], dict[str, Tensor]]:
    torch.manual_seed(1)
    terms = taught(model, given, epoch, distillation)
    model.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    return {name: value.item() for name, value in terms.items()}, {name: p.grad for name, p in model.named_parameters()}


METHODS: dict[str, tuple[dict[str, Any], Distillation]] = {
    "dl-dkd++": ({}, PLUS),
    "dl-dkd": ({"shared_query_projection": True}, PLAIN),
    "exploration alone": ({"branches": ("exploration",)}, PLUS),
}


@pytest.mark.parametrize(("changes", "distillation"), METHODS.values(), ids=list(METHODS))
@pytest.mark.parametrize(("frames", "words"), [(0, 0), (3, 0), (0, 2), (4, 3)])
def test_padding_changes_no_term_and_no_gradient(
    changes: dict[str, Any], distillation: Distillation, frames: int, words: int
) -> None:
    model, given = small(**changes), batch_of(items(teachers=2))
    plain, plain_gradients = terms_and_gradients(model, given, distillation=distillation)
    gradients = {name: g.clone() for name, g in plain_gradients.items()}
    wide = with_padding(given, frames=frames, words=words)
    padded, padded_gradients = terms_and_gradients(model, wide, distillation=distillation)
    assert padded == pytest.approx(plain, abs=1e-10)
    assert any(g.abs().max() > 1e-4 for g in gradients.values())
    for name, gradient in gradients.items():
        # The table of positions has rows for the places that padding takes; they must stay without a gradient.
        torch.testing.assert_close(padded_gradients[name], gradient, rtol=0, atol=1e-10, msg=name)


def test_padding_changes_no_score() -> None:
    model, given = small(), batch_of(items())
    wide = with_padding(given, frames=4, words=3)

    def score(b: Batch) -> Tensor:
        queries, videos = model.encode_queries(b.words, b.word_mask), model.encode_videos(b.frames, b.frame_mask)
        return model.score(queries, videos, b.frame_mask)

    torch.testing.assert_close(score(wide), score(given), rtol=0, atol=1e-12)


@pytest.mark.parametrize("branches", [("inheritance", "exploration"), ("exploration", "inheritance"), ("exploration",)])
def test_branches_are_fused_per_video_for_scores_and_per_frame_for_curves(branches: tuple[str, ...]) -> None:
    model = small(branches=branches, exploration_weight=0.4)
    queries, videos = tuple(draw(2, 4, seed=k) for k in range(2)), tuple(draw(3, 5, 4, seed=9 + k) for k in range(2))
    queries, videos, lengths = queries[: len(branches)], videos[: len(branches)], [5, 1, 3]
    weights = {"inheritance": 0.6, "exploration": 0.4} if len(branches) == 2 else {"exploration": 1.0}
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    ours = model.score(queries, videos, mask)
    curve = model.relevance(tuple(q[:1] for q in queries), tuple(v[:1] for v in videos))
    each = [
        (weights[name], oracles.frame_scores(q.tolist(), v.tolist(), lengths, oracles.cosine))
        for name, q, v in zip(branches, queries, videos, strict=True)
    ]
    for n in range(2):
        for v in range(3):
            assert ours[n, v].item() == pytest.approx(sum(w * oracles.video_scores(frames)[n][v] for w, frames in each))
    assert curve.tolist() == pytest.approx([sum(w * frames[0][0][f] for w, frames in each) for f in range(5)])


def test_a_video_scores_the_same_alone_and_among_others() -> None:
    model, made = small(), items()
    words, word_mask = pad([rows for item in made for rows in item.words])
    queries = model.encode_queries(words.double(), word_mask)

    def score(some: list[Item]) -> Tensor:
        frames, mask = pad([item.frames for item in some])
        return model.score(queries, model.encode_videos(frames.double(), mask), mask)

    together = score(made)
    for place, item in enumerate(made):
        torch.testing.assert_close(score([item])[:, 0], together[:, place], rtol=0, atol=1e-12)
    order = [3, 0, 4, 1, 2]
    torch.testing.assert_close(score([made[k] for k in order]), together[:, order], rtol=0, atol=1e-12)


@every_seed
def test_the_order_of_videos_and_queries_changes_no_loss(seed: int) -> None:
    given = scene((2, 1, 3, 1, 0), seed)
    generator = torch.Generator().manual_seed(seed)
    videos, queries = (torch.randperm(n, generator=generator) for n in (5, 7))
    shuffled = given.scores[queries][:, videos]
    target = videos.argsort()[given.target[queries]]
    for loss in (triplet, losses.info_nce):
        assert loss(shuffled, target).item() == pytest.approx(loss(given.scores, given.target).item(), abs=1e-12)
    hard_q, hard_v = torch.arange(7) < 3, torch.arange(5) < 2
    relevance = draw(1, 7, 5, seed=seed + 9)
    plain = soft_info_nce(given.scores, given.target, relevance=relevance, hard_queries=hard_q, hard_videos=hard_v)
    moved = soft_info_nce(
        shuffled, target, relevance=relevance[:, queries][:, :, videos], hard_queries=hard_q[queries], hard_videos=hard_v[videos]
    )
    assert moved.item() == pytest.approx(plain.item(), abs=1e-12)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    student = draw(4, 6, seed=2).requires_grad_()
    mask = torch.arange(6) < torch.tensor([6, 1, 3, 2])[:, None]
    loss = losses.frame_kl(student, student.detach().clone(), mask, temperature=0.2)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert gradient.abs().max() < 1e-14
    # A profile is the same whatever is added to it.
    shifted = losses.frame_kl(student + torch.arange(4.0)[:, None], student.detach(), mask, temperature=0.2)
    assert shifted.item() == pytest.approx(0, abs=1e-12)


@every_seed
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_kl_is_never_negative(seed: int, scale: float) -> None:
    student, teacher = (draw(5, 8, seed=seed + k, scale=scale) for k in (0, 30))
    mask = torch.arange(8) < torch.tensor([8, 1, 2, 5, 3])[:, None]
    assert losses.frame_kl(student, teacher, mask, temperature=0.2).item() >= -1e-12


@every_seed
def test_soft_targets_that_are_all_one_hot_give_the_hard_loss(seed: int) -> None:
    # Within 27 nats, where the floor of 1e-12 does not show, and where every video has a query.
    given = scene((2, 2, 2, 2), seed, scale=0.5)
    hard = losses.info_nce(given.scores, given.target).item()
    every = {"hard_queries": torch.ones(8, dtype=torch.bool), "hard_videos": torch.ones(4, dtype=torch.bool)}
    none = {name: ~value for name, value in every.items()}
    for changes in (
        {"mixing": 1.0, "hard_fraction": 0.0, **none},
        {"mixing": 0.0, "hard_fraction": 1.0, **every},
        {"mixing": 1.0, "hard_fraction": 0.5},
    ):
        assert soft_info_nce(given.scores, given.target, **changes).item() == pytest.approx(hard, abs=1e-9)


def test_gradients_of_soft_targets_flow_unless_they_are_cut() -> None:
    given, cut = batch_of(items()), dataclasses.replace(PLUS, detach_self_targets=True)
    terms, flowing = terms_and_gradients(small(), given)
    same_terms, stopped = terms_and_gradients(small(), given, distillation=cut)
    assert terms == pytest.approx(same_terms, abs=1e-14)
    name = "branches.1.mapping.weight"
    assert (flowing[name] - stopped[name]).abs().max() > 1e-6
    torch.testing.assert_close(flowing["branches.0.mapping.weight"], stopped["branches.0.mapping.weight"], rtol=0, atol=1e-14)


# Degenerate batches

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "triplet": triplet,
    "info_nce": losses.info_nce,
    "soft_info_nce": soft_info_nce,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
@pytest.mark.parametrize("kind", ["drawn", "all equal", "far apart"])
@every_world
def test_losses_and_gradients_are_finite(loss: Callable[[Tensor, Tensor], Tensor], kind: str, captions: tuple[int, ...]) -> None:
    given = scene(captions, seed=5, scale=1e4 if kind == "far apart" else 1.0)
    s = (given.scores * (0 if kind == "all equal" else 1)).float().requires_grad_()
    value = loss(s, given.target)
    (gradient,) = torch.autograd.grad(value, s)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert value.item() >= -1e-6


def test_one_video_alone_has_nothing_to_be_told_from() -> None:
    s = draw(3, 1, seed=0).requires_grad_()
    target = torch.zeros(3, dtype=torch.long)
    for loss in (triplet(s, target), losses.info_nce(s, target)):
        (gradient,) = torch.autograd.grad(loss, s)
        assert loss.item() == pytest.approx(0, abs=1e-12)
        assert gradient.abs().max() < 1e-12


def test_a_video_without_a_query_is_a_wrong_answer_and_no_more() -> None:
    given = scene((2, 1, 3), seed=1)
    silent = torch.full((6, 1), -1e3, dtype=torch.float64)
    s = torch.cat([given.scores, silent], 1).requires_grad_()
    assert triplet(s, given.target).item() == pytest.approx(triplet(given.scores, given.target).item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(losses.info_nce(s, given.target), s)
    assert gradient[:, 3].abs().max() < 1e-12


@pytest.mark.parametrize("videos", [1, 2, 5])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("epoch", [0, 40, 10_000])
def test_the_objective_is_finite_on_the_smallest_batches(videos: int, constant: bool, epoch: int) -> None:
    made = items(videos)
    if constant:
        made = [Item(np.zeros_like(i.frames), [np.zeros_like(w) for w in i.words], i.teachers) for i in made]
    terms, gradients = terms_and_gradients(small(), batch_of(made), epoch)
    assert all(map(math.isfinite, terms.values()))
    assert all(g.isfinite().all() for g in gradients.values() if g is not None)


# On the device alone


class Counted(TorchDispatchMode):
    """Counts what reaches the device, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


HOST = {"_local_scalar_dense", "nonzero", "item", "is_nonzero", "masked_select", "_unique2", "unique_dim", "equal"}


def dispatched(model: DlDkd, given: Batch, distillation: Distillation) -> list[str]:
    with Counted() as counted:
        terms = taught(model, given, 60, distillation)
        torch.stack(list(terms.values())).sum().backward()
    return counted.names


@pytest.mark.parametrize(("changes", "distillation"), METHODS.values(), ids=list(METHODS))
def test_nothing_waits_for_the_device_and_no_loop_runs_over_queries(changes: dict[str, Any], distillation: Distillation) -> None:
    few, many = (dispatched(small(**changes), batch_of(items(videos)), distillation) for videos in (3, 40))
    assert len(few) > 100
    assert not HOST & set(many)
    assert len(few) == len(many)


def test_the_count_would_notice_a_loop_and_a_wait() -> None:
    with Counted() as counted:
        values = [row.sum() for row in torch.ones(3, 2)]
        float(values[0])
    assert counted.names.count("sum") == 3
    assert HOST & set(counted.names)


@pytest.mark.parametrize(("changes", "distillation"), METHODS.values(), ids=list(METHODS))
def test_the_objective_runs_where_no_value_is_known(changes: dict[str, Any], distillation: Distillation) -> None:
    meta = torch.device("meta")
    model = small(**changes).to(meta)
    terms = taught(model, collate(items()).to(meta, torch.float64), 60, distillation)
    assert terms
    assert all(value.is_meta and value.shape == () for value in terms.values())


@every_world
@every_seed
@pytest.mark.parametrize("hardest", [1, 2, 20, None])
def test_the_hardest_triplet_is_that_of_the_loop(captions: tuple[int, ...], seed: int, hardest: int | None) -> None:
    given = scene(captions, seed)
    s, y = given.scores.tolist(), given.target.tolist()
    total = 0.0
    for n, own in enumerate(y):
        for wrong in (
            [s[n][v] for v in range(len(s[0])) if v != own],
            [s[k][own] for k in range(len(s)) if y[k] != own],
        ):
            hinges = sorted((max(0.0, 0.2 + x - s[n][own]) for x in wrong), reverse=True)[:hardest]
            total += sum(hinges) / max(len(hinges), 1)
    ours = losses.hardest_triplet(given.scores, given.target, margin=0.2, hardest=hardest)
    assert ours.item() == pytest.approx(total / len(y), abs=1e-10)
