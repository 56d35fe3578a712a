"""Hybrid spaces beside slow loops: Jaccard, concepts, and scores calibrated for a query."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from method_checks import padded

from prvr.nn.hybrid import (
    Cohort,
    HybridSettings,
    SaidConcepts,
    concepts_of_videos,
    hybrid_scores,
    hybrid_terms,
    jaccard,
    published_fusion,
)
from prvr.nn.layers import Rows


def slow_jaccard(a: list[float], b: list[float]) -> float:
    return sum(map(min, a, b)) / sum(map(max, a, b))


def test_jaccard_against_slow_loops() -> None:
    queries, videos = torch.rand(5, 9), torch.rand(3, 9)
    wanted = [[slow_jaccard(q, v) for v in videos.tolist()] for q in queries.tolist()]
    torch.testing.assert_close(jaccard(queries, videos), torch.tensor(wanted))
    assert jaccard(videos, videos).diagonal().tolist() == pytest.approx([1, 1, 1])
    assert jaccard(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item() == 0


def test_what_concepts_are_worth_against_slow_loops() -> None:
    # Video 0: the first concept in both captions, twice in one, the third in two of them; video 2 says nothing.
    said = torch.tensor([[2.0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    target = torch.tensor([0, 0, 1, 2])
    once = torch.tensor([[1, 1 / 3, 2 / 3, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(concepts_of_videos(said, target, 3, least=1), once)
    shown = concepts_of_videos(said, target, 3, least=2)
    torch.testing.assert_close(shown, torch.tensor([[1, 0, 2 / 3, 0], [0] * 4, [0] * 4]))
    queries, videos = torch.rand(4, 4), torch.rand(3, 1, 4)

    def cross_entropy(p: list[list[float]], y: list[list[float]]) -> float:
        each = [
            -(t * math.log(x) + (1 - t) * math.log(1 - x)) for a, b in zip(p, y, strict=True) for x, t in zip(a, b, strict=True)
        ]
        return oracles.mean(each)

    latent = torch.randn(4, 2), torch.randn(3, 1, 2)
    terms = hybrid_terms((latent[0], queries), (latent[1], videos), shown, target, margins=(0.2, 0.1))
    # A caption is trained towards the concepts of its video.
    wanted = cross_entropy(queries.tolist(), shown[target].tolist())
    assert terms["query_concepts"].item() == pytest.approx(wanted, abs=1e-6)
    assert terms["video_concepts"].item() == pytest.approx(cross_entropy(videos[:, 0].tolist(), shown.tolist()), abs=1e-6)


def test_a_word_is_the_same_concept_wherever_it_stands() -> None:
    settings = HybridSettings(concepts=64)
    hashed, vocabulary = SaidConcepts(8, settings), torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    sentences = [[0, 1, 2], [2, 2], [3, 4, 5, 6], [7, 8, 9, 0]]
    words, mask = padded([vocabulary[list(sentence)] for sentence in sentences], filled=50.0)
    said = hashed(words, Rows.of(mask))
    assert said.shape == (4, 64)
    assert said.sum(1).tolist() == [3, 2, 4, 4]
    assert said[1].max() == 2
    named = said > 0
    assert (named[0] & named[1]).sum() == 1
    assert (named[0] & named[3]).sum() >= 1
    # 10 words hashed to 64 concepts: most keep one of their own.
    assert named.any(0).sum() >= 7
    assert "directions" not in hashed.state_dict()
    assert torch.equal(SaidConcepts(8, settings).directions, hashed.directions)


def test_of_word_ids_the_first_words_of_the_vocabulary_are_the_concepts() -> None:
    said = SaidConcepts(1, HybridSettings(vocabulary=12, concepts=3))
    words, mask = padded([torch.tensor([[1.0], [4], [6], [9], [6], [2]]), torch.tensor([[1.0], [2]])], filled=5.0)
    assert said(words, Rows.of(mask)).tolist() == [[1, 0, 2], [0, 0, 0]]


@torch.no_grad()
def test_a_query_is_calibrated_by_itself_against_slow_loops() -> None:
    torch.manual_seed(0)
    cohort = Cohort(HybridSettings(cohort=4, latent=3, concepts=5))
    queries, videos = (torch.randn(6, 3), torch.rand(6, 5)), (torch.randn(2, 1, 3), torch.rand(2, 1, 5))
    latent, concept = hybrid_scores(queries, videos)
    fresh = cohort.fuse(queries, videos, latent_weight=0.6, fusion="per_query")
    torch.testing.assert_close(fresh, 0.6 * latent + 0.4 * concept)
    known = torch.randn(3, 1, 3), torch.rand(3, 1, 5)
    cohort.remember(*known)
    found = cohort.fuse(queries, videos, latent_weight=0.6, fusion="per_query")
    for n in range(6):
        cosines = [oracles.cosine(queries[0][n].tolist(), v[0].tolist()) for v in known[0]]
        overlaps = [slow_jaccard(queries[1][n].tolist(), v[0].tolist()) for v in known[1]]
        for v in range(2):
            one = (float(latent[n, v]) - min(cosines)) / (max(cosines) - min(cosines))
            two = (float(concept[n, v]) - min(overlaps)) / (max(overlaps) - min(overlaps))
            assert float(found[n, v]) == pytest.approx(0.6 * one + 0.4 * two, abs=1e-4)
    raw = cohort.fuse(queries, videos, latent_weight=0.6, fusion="raw")
    torch.testing.assert_close(raw, fresh)


def test_the_cohort_is_of_the_last_videos() -> None:
    cohort = Cohort(HybridSettings(cohort=3, latent=1, concepts=1))
    for value in (1.0, 2.0, 3.0):
        cohort.remember(torch.full((2, 1, 1), value), torch.full((2, 1, 1), value))
    assert cohort.latent.flatten().tolist() == cohort.concepts.flatten().tolist() == [3, 3, 2]
    assert cohort.filled.all()
    cohort.remember(torch.arange(5.0).view(5, 1, 1), torch.zeros(5, 1, 1))
    assert cohort.latent.flatten().tolist() == [0, 1, 2]


def test_the_published_fusion_depends_on_the_whole_test() -> None:
    latent, concept = torch.tensor([[0.0, 1.0], [0.5, 0.25]]), torch.tensor([[2.0, 4.0], [3.0, 6.0]])
    found = published_fusion(latent, concept, latent_weight=0.6)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.6 + 0.2], [0.3 + 0.1, 0.15 + 0.4]]))
    fewer = published_fusion(latent[:, :1], concept[:, :1], latent_weight=0.6)
    assert not torch.allclose(fewer, found[:, :1])
