"""HGR: phrases and frames beside slow loops, sentences that lack a level, and what is true of every method."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from method_checks import (
    FRAMES_OF,
    MATRIX,
    PROFILE,
    WORDS_OF,
    build,
    check_invariants,
    check_learning,
    check_learns,
    check_taught,
    padded,
    sequences,
    terms_of,
    toy_batch,
)
from torch import Tensor
from toy_world import FRAMES, WORDS, toy_world

from prvr.encoders.roles import LABEL_COLUMNS
from prvr.errors import SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.methods import hgr
from prvr.methods.contract import embed
from prvr.methods.hgr import ROLES, Hgr, HgrConfig, phrase_scores, profile
from prvr.nn import losses
from prvr.train.loop import Data

READS = FeatureSources(Source("toy_frames", FRAMES), Source("toy_roles", WORDS + LABEL_COLUMNS))
SETTINGS = HgrConfig(hidden=12, max_frames=20, dropout=0.0, word_dropout=0.0, frame_dropout=0.0)
ACTION, ENTITY, NOTHING = (1, 0, 0), (0, 1, 1), (0, 0, 0)


def labelled(rows: Tensor, kinds: list[tuple[int, int, int]]) -> Tensor:
    """Words with the number of the action or entity that each is, and an entity's role in the first action."""
    labels = torch.zeros(len(rows), LABEL_COLUMNS)
    labels[:, :3] = torch.tensor(kinds, dtype=torch.float32)
    return torch.cat([rows, labels], dim=1)


def sentences() -> list[Tensor]:
    """Of every kind: with actions and entities, with one of the two, with neither, with several."""
    several = [ACTION, (2, 0, 0), ENTITY, (0, 2, 0), ENTITY, NOTHING]
    kinds = [[ENTITY, ACTION, NOTHING], [NOTHING], [ENTITY] * 4, several, [ACTION, NOTHING], [NOTHING] * 5]
    return [labelled(rows, its) for rows, its in zip(sequences(WORDS_OF, WORDS), kinds, strict=True)]


def toy_roles(**options: int) -> Data:
    """The toy world; a sentence's last word names a thing, its first one stands for what that does."""
    data = toy_world(**options)
    text = {}
    for id, rows in data.features.text.items():
        kinds = [ACTION, *[NOTHING] * (len(rows) - 2), ENTITY]
        text[id] = labelled(torch.from_numpy(rows), kinds).numpy()
    return replace(data, features=replace(data.features, text=text, sources=READS))


@pytest.fixture
def model() -> Hgr:
    return build("hgr", SETTINGS, READS)


def test_what_pads_and_who_stands_beside_changes_nothing(model: Hgr) -> None:
    check_invariants(model, sentences())


def test_all_that_learns_gets_a_gradient(model: Hgr) -> None:
    data = toy_roles(videos=12)
    check_learning("hgr", model, toy_batch(model, data=data), toy_batch(model, data=data, most=1))


def test_a_teacher_can_be_added(model: Hgr) -> None:
    check_taught("hgr", model, toy_batch(model, data=toy_roles(videos=12)), by=(PROFILE, MATRIX))


@pytest.mark.slow
@pytest.mark.thorough
def test_learns_the_toy_world(tmp_path: Path) -> None:
    check_learns("hgr", replace(SETTINGS, hidden=64), tmp_path, data=toy_roles(videos=150, things=15))


def test_all_learns_with_dropout() -> None:
    data, dropped = toy_roles(videos=12), replace(SETTINGS, dropout=0.5, word_dropout=0.5, frame_dropout=0.5, layers=2)
    model = build("hgr", dropped, READS)
    check_learning("hgr", model, toy_batch(model, data=data), toy_batch(model, data=data, most=1))


def slow_phrases(phrases: list[list[float]], frames: list[list[float]], sharpness: float) -> float:
    """One sentence's phrases in one video."""
    found = []
    for phrase in phrases:
        positive = [max(oracles.cosine(phrase, x), 0.0) for x in frames]
        length = math.sqrt(sum(x * x for x in positive))
        share = oracles.softmax([sharpness * x / length if length else 0.0 for x in positive])
        attended = [sum(a * x[d] for a, x in zip(share, frames, strict=True)) for d in range(len(phrase))]
        found.append(oracles.cosine(phrase, attended))
    return oracles.mean(found)


def slow_nodes(model: Hgr, words: Tensor, members: list[list[int]], roles: list[int], heard: list[list[int]]) -> list[Tensor]:
    """The nodes of one sentence; `members` are the words of all but the event, `heard` the nodes that each hears."""
    states = model.words.gru(words[None])[0][0]
    states = (states[:, : model.config.hidden] + states[:, model.config.hidden :]) / 2
    share = oracles.softmax([float(model.word_pooling.weight(state)) for state in states])
    nodes = [sum(a * state for a, state in zip(share, states, strict=True))]
    nodes += [states[its].amax(0) * model.roles.weight[role] for its, role in zip(members, roles, strict=True)]
    for layer in model.layers:
        after = []
        for node, others in zip(nodes, heard, strict=True):
            logits = [float(layer.query(node) @ layer.key(nodes[j])) / math.sqrt(len(node) / 2) for j in others]
            reached = torch.zeros_like(node)
            for a, j in zip(oracles.softmax(logits) if others else [], others, strict=True):
                reached = reached + a * nodes[j]
            after.append(layer.norm(node + layer.context(reached)))
        nodes = after
    return nodes


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_the_graph_of_a_sentence_against_slow_loops(layers: int) -> None:
    model = build("hgr", replace(SETTINGS, layers=layers), READS)
    (rows,) = sequences((6,), WORDS)
    # Words 1 and 4 are actions 1 and 2, 0 an agent of both, 2 and 3 a patient of the second, 5 an entity without an action.
    labels = torch.zeros(6, LABEL_COLUMNS)
    labels[1, 0], labels[4, 0] = 1, 2
    labels[0, 1], labels[0, 2], labels[0, 3] = 1, 1, 1
    labels[2:4, 1], labels[2:4, 3] = 2, 2
    labels[5, 1] = 3
    event, actions, entities, real_actions, real_entities = model.encode_queries(*padded([torch.cat([rows, labels], 1)], more=1))
    roles = [ROLES.index(role) for role in ("V", "V", "ARG0", "ARG1", "NOUN")]
    heard = [[], [0, 3], [0, 3, 4], [1, 2], [2], []]
    wanted = slow_nodes(model, rows, [[1], [4], [0], [2, 3], [5]], roles, heard)
    found = [event[0], *actions[0, :2], *entities[0, :3]]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert real_actions[0].tolist() == [True, True, False, False]
    assert real_entities[0].tolist() == [True, True, True, False, False, False]


def test_phrases_against_slow_loops() -> None:
    draw = torch.Generator().manual_seed(0)
    phrases, frames = torch.randn(4, 3, 5, generator=draw), torch.randn(3, 6, 5, generator=draw)
    real, lengths = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool(), (6, 1, 4)
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    found = phrase_scores(phrases, real, frames, mask, sharpness=4.0)
    for n in range(4):
        there = phrases[n, real[n]].tolist()
        for v, length in enumerate(lengths):
            wanted = slow_phrases(there, frames[v, :length].tolist(), 4.0) if there else 0.0
            assert float(found[n, v]) == pytest.approx(wanted, abs=1e-5)


@torch.no_grad()
def test_a_score_is_the_mean_of_three_levels_and_one_without_phrases_is_0(model: Hgr) -> None:
    words, frames = sentences(), sequences(FRAMES_OF, FRAMES, seed=1)
    (seen, mask), queries = padded(frames), model.encode_queries(*padded(words))
    videos = model.encode_videos(seen, mask)
    found = model.score(queries, videos, mask)
    counts = []
    for n in range(len(words)):
        parts = [[oracles.cosine(queries[0][n].tolist(), event[0].tolist()) for event in videos[2]]]
        for field in (0, 1):
            there = queries[1 + field][n][queries[3 + field][n]].tolist()
            if there:
                its = [slow_phrases(there, v[: len(f)].tolist(), 4.0) for v, f in zip(videos[field], frames, strict=True)]
                parts.append(its)
        counts.append(len(parts))
        assert found[n].tolist() == pytest.approx((np.sum(parts, axis=0) / 3).tolist(), abs=1e-5)
    assert counts == [3, 1, 2, 3, 2, 1]


@torch.no_grad()
def test_scores_in_parts_are_the_same(model: Hgr, monkeypatch: pytest.MonkeyPatch) -> None:
    (seen, mask), queries = padded(sequences(FRAMES_OF, FRAMES)), model.encode_queries(*padded(sentences()))
    videos = model.encode_videos(seen, mask)
    whole = model.score(queries, videos, mask)
    monkeypatch.setattr(hgr, "SCORES_AT_ONCE", 1)
    torch.testing.assert_close(model.score(queries, videos, mask), whole)


@torch.no_grad()
def test_the_profile_is_the_relevance_of_each_querys_own_video(model: Hgr) -> None:
    batch = toy_batch(model, data=toy_roles(videos=12))
    queries, videos, _ = embed(model, batch)
    curves = profile(model, queries, videos, batch)
    for n, v in enumerate(batch.target.tolist()):
        length = int(batch.frame_mask[v].sum())
        video = tuple(field[v : v + 1, :length] for field in videos)
        alone = model.relevance(tuple(field[n : n + 1] for field in queries), video)
        torch.testing.assert_close(curves[n, :length], alone)
        assert curves[n, length:].isneginf().all()
        event, actions, entities, *_ = (field[n] for field in queries)
        by_hand = oracles.cosine(event.tolist(), video[2][0, 0].tolist())
        by_hand += oracles.cosine(actions[0].tolist(), video[0][0, 2].tolist())
        by_hand += oracles.cosine(entities[0].tolist(), video[1][0, 2].tolist())
        assert float(alone[2]) == pytest.approx(by_hand / 3, abs=1e-5)


def test_the_objective_is_the_hardest_triplet_of_scores(model: Hgr) -> None:
    batch = toy_batch(model, data=toy_roles(videos=12))
    terms, queries, videos = terms_of("hgr", model, batch)
    wanted = losses.hardest_triplet(model.score(queries, videos, batch.frame_mask), batch.target, margin=0.2)
    assert terms["triplet"].item() == pytest.approx(wanted.item())


def test_words_without_roles_are_refused() -> None:
    with pytest.raises(SettingError, match="the graph needs more than 6 word columns"):
        Hgr(SETTINGS, frame_columns=4, word_columns=6)
    with pytest.raises(SettingError, match="sharpness is 0"):
        replace(SETTINGS, sharpness=0.0)
