"""GMMFormer and GMMFormer v2: their blocks and losses beside slow loops, and that they learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from method_checks import FRAMES_OF, build, check_invariants, check_learns, noise, padded, sequences, toy_batch
from torch import Tensor, nn
from toy_world import FRAMES, WORDS

from prvr.errors import SettingError
from prvr.methods import gmmformer, gmmformer_v2
from prvr.methods.contract import Model, embed
from prvr.methods.gmmformer import GmmFormer, GmmFormerConfig, query_diversity
from prvr.methods.gmmformer_v2 import GmmFormerV2, GmmFormerV2Config, focal_diversity, matching
from prvr.nn.clips import clip_means, over_frames
from prvr.nn.gaussian import Consolidation, FeedForward, GaussianAttention, GaussianBlock, attention_block, window
from prvr.nn.layers import Rows, SelfAttention

SMALL = GmmFormerConfig(hidden=8, heads=2, max_frames=20, max_words=6, clips=4)
SMALL_V2 = GmmFormerV2Config(hidden=8, heads=2, max_frames=20, max_words=6, clips=4)


def first() -> Model:
    return build("gmmformer", SMALL)


def second() -> Model:
    return build("gmmformer_v2", SMALL_V2)


both = pytest.mark.parametrize("make", [first, second], ids=["gmmformer", "gmmformer v2"])


def rows_of(*lengths: int, longest: int) -> Rows:
    return Rows.of(torch.arange(longest) < torch.tensor(lengths)[:, None])


# Clips


@pytest.mark.parametrize("clips", [1, 4, 32])
@pytest.mark.parametrize("length", [1, 2, 5, 31, 32, 33, 100])
def test_clips_are_the_slots_of_resampling(length: int, clips: int) -> None:
    frames = noise(length, 3, seed=length)
    beside, mask = padded([frames, noise(120, 3, seed=1)])
    slots = oracles.resample(frames.tolist(), clips) if length > clips else by_edges(frames.tolist(), clips)
    wanted = [[x / (math.sqrt(oracles.dot(row, row)) + 1e-5) for x in row] for row in slots]
    assert clip_means(beside, mask, clips=clips)[0].numpy() == pytest.approx(np.array(wanted), abs=1e-5)


def by_edges(rows: list[list[float]], clips: int) -> list[list[float]]:
    """As `oracles.resample`, which leaves short sequences as they are."""
    edges = [min(round(k / clips * len(rows)), len(rows) - 1) for k in range(clips + 1)]
    slots = [rows[e:f] or [rows[e]] for e, f in itertools.pairwise(edges)]
    return [[oracles.mean(values) for values in zip(*slot, strict=True)] for slot in slots]


def test_a_curve_over_clips_as_one_over_frames() -> None:
    curves = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    mask = torch.arange(6) < torch.tensor([6, 2])[:, None]
    assert over_frames(curves, mask).tolist() == [[1, 1, 2, 2, 3, 3], [4, 6, *[-math.inf] * 4]]
    assert over_frames(curves[:1], torch.ones(1, 1, dtype=torch.bool)).tolist() == [[2]]


# Blocks


def test_a_window_by_hand() -> None:
    # Five places are a quarter apart, a width of 4.5 is a deviation of a half.
    assert window(5, 4.5)[0].tolist() == pytest.approx([1, math.exp(-1 / 8), math.exp(-1 / 2), math.exp(-9 / 8), math.exp(-2)])
    assert torch.equal(window(5, 4.5), window(5, 4.5).T)
    assert window(1, 0.5).tolist() == [[1]]


def slow_attention(layer: GaussianAttention, hidden: np.ndarray, width: float, places: int) -> np.ndarray:
    """One video's rows, head by head and place by place."""

    def through(linear: nn.Linear) -> np.ndarray:
        return hidden @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()

    query, key, value = through(layer.query), through(layer.key), through(layer.value)
    size = hidden.shape[1] // layer.heads
    mixed = np.zeros_like(hidden)
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(hidden)):
            logits = []
            for j in range(len(hidden)):
                apart = (i - j) / (places - 1) / (width / 9)
                logits.append(oracles.dot(query[i, part], key[j, part]) / math.sqrt(size) * math.exp(-(apart**2) / 2))
            for j, share in enumerate(oracles.softmax(logits)):
                mixed[i, part] += share * value[j, part]
    out = mixed @ layer.output.weight.detach().numpy().T + layer.output.bias.detach().numpy() + hidden
    return (out - out.mean(1, keepdims=True)) / np.sqrt(out.var(1, keepdims=True) + layer.norm.eps)


@pytest.mark.parametrize("width", [0.1, 1.0, 5.0])
def test_gaussian_attention_beside_a_slow_loop(width: float) -> None:
    torch.manual_seed(0)
    layer = GaussianAttention(8, 2, 0.0, places=7, width=width)
    rows = rows_of(5, 1, 3, longest=5)
    hidden = noise(9, 8)
    got = layer(hidden, rows).detach().numpy()
    for start, end in ((0, 5), (5, 6), (6, 9)):
        assert got[start:end] == pytest.approx(slow_attention(layer, hidden[start:end].numpy(), width, 7), abs=1e-5)


def test_a_very_wide_window_is_plain_attention() -> None:
    torch.manual_seed(0)
    plain = SelfAttention(8, 2, 0.0)
    wide = GaussianAttention(8, 2, 0.0, places=6, width=1e5)
    wide.load_state_dict(plain.state_dict())
    rows, hidden = rows_of(6, 4, longest=6), noise(10, 8)
    torch.testing.assert_close(wide(hidden, rows), plain(hidden, rows))
    assert isinstance(attention_block(8, 2, 0.0, places=6, width=0.0), SelfAttention)


def test_a_gaussian_block_is_the_mean_of_its_widths() -> None:
    torch.manual_seed(0)
    block = GaussianBlock(8, 2, 0.0, places=6, widths=(0.0, 1.0, 5.0))
    rows, hidden = rows_of(6, 4, longest=6), noise(10, 8)
    torch.testing.assert_close(block(hidden, rows), sum(part(hidden, rows) for part in block.blocks) / 3)


def test_dropout_of_attention_has_gradients() -> None:
    layer = GaussianAttention(8, 2, 0.5, places=6, width=1.0).train()
    layer(noise(10, 8).requires_grad_(), rows_of(6, 4, longest=6)).sum().backward()
    assert layer.query.weight.grad is not None


@pytest.mark.parametrize("temperature", [0.09, 0.6])
def test_consolidation_beside_a_slow_loop(temperature: float) -> None:
    torch.manual_seed(0)
    layer = Consolidation(8, 2, 0.0, places=5, temperature=temperature)
    views, token = noise(7, 3, 8), noise(2, 8, seed=1)
    got = layer(views, rows_of(4, 3, longest=4), token)
    for video, (start, end) in enumerate(((0, 4), (4, 7))):
        numbers = [slow_numbers(layer, views[start:end, view], token[video]) for view in range(3)]
        for place in range(end - start):
            share = oracles.softmax([numbers[view][place] / temperature for view in range(3)])
            wanted = sum(share[view] * views[start + place, view] for view in range(3))
            torch.testing.assert_close(got[start + place], wanted, atol=1e-5, rtol=1e-4)


def slow_numbers(layer: Consolidation, view: Tensor, token: Tensor) -> list[float]:
    """What one view says of each place of one video."""
    query, mixed = layer.query(token), []
    for head in (slice(0, 4), slice(4, 8)):
        logits = [oracles.dot(query[head].tolist(), layer.key(row)[head].tolist()) / 2 for row in view]
        share = oracles.softmax(logits)
        mixed.append(sum(share[i] * layer.value(row)[head] for i, row in enumerate(view)))
    summary = layer.norm(layer.output(torch.cat(mixed)) + token)
    numbers: list[float] = layer.second(layer.first(summary).relu()).tolist()
    return numbers


def test_a_feed_forward_layer_keeps_what_it_adds_to() -> None:
    layer = FeedForward(8, 0.0)
    nn.init.zeros_(layer.narrow.weight), nn.init.zeros_(layer.narrow.bias)
    hidden = noise(3, 8)
    torch.testing.assert_close(layer(hidden), layer.norm(hidden))


# Losses

TARGETS = {"one caption": (1,), "captions": (3, 1, 2), "one each": (1, 1), "one video": (4,), "a video without": (2, 0, 3)}
every_target = pytest.mark.parametrize("captions", TARGETS.values(), ids=list(TARGETS))


def target_of(captions: tuple[int, ...]) -> Tensor:
    return torch.arange(len(captions)).repeat_interleave(torch.tensor(captions))


def siblings(target: list[int], query: int) -> list[int]:
    return [other for other in range(len(target)) if other != query and target[other] == target[query]]


@every_target
def test_query_diversity_beside_a_slow_loop(captions: tuple[int, ...]) -> None:
    target = target_of(captions)
    queries, y = noise(len(target), 4), target.tolist()
    rows, costs = queries.tolist(), []
    for query in range(len(y)):
        powers = [math.exp(3 * (oracles.cosine(rows[query], rows[other]) + 0.15)) for other in siblings(y, query)]
        costs.append(math.log(1 + sum(powers)))
    assert float(query_diversity(queries, target, scale=3.0, margin=0.15)) == pytest.approx(oracles.mean(costs), abs=1e-5)


@every_target
@pytest.mark.parametrize("focus", [0.0, 1.0, 2.0])
def test_focal_diversity_beside_a_slow_loop(captions: tuple[int, ...], focus: float) -> None:
    target = target_of(captions)
    queries, y = noise(len(target), 4), target.tolist()
    rows, cost = queries.tolist(), 0.0
    for query in range(len(y)):
        for other in siblings(y, query):
            if other > query:
                cosine = oracles.cosine(rows[query], rows[other])
                cost += (1 + cosine) ** focus * math.log(1 + math.exp(3 * (cosine + 0.2)))
    assert float(focal_diversity(queries, target, scale=3.0, margin=0.2, focus=focus)) == pytest.approx(cost, rel=1e-4, abs=1e-6)


@every_target
def test_matching_beside_every_assignment(captions: tuple[int, ...]) -> None:
    target = target_of(captions)
    queries, clips = noise(len(target), 4), noise(len(captions), 5, 4, seed=1)
    costs = []
    for video in range(len(captions)):
        own = [query for query in range(len(target)) if int(target[query]) == video]
        if len(own) > 1:
            cosines = [[oracles.cosine(queries[q].tolist(), clip.tolist()) for clip in clips[video]] for q in own]
            best = max(
                oracles.mean([cosines[row][clip] for row, clip in enumerate(chosen)])
                for chosen in itertools.permutations(range(5), len(own))
            )
            costs.append(1 - best)
    wanted = oracles.mean(costs) if costs else 0.0
    assert float(matching(queries, clips, target)) == pytest.approx(wanted, abs=1e-5)


def test_more_captions_than_clips_are_matched_as_far_as_clips_go() -> None:
    queries, clips = torch.eye(3), torch.eye(3)[None, :2]
    assert float(matching(queries, clips, torch.zeros(3, dtype=torch.long))) == pytest.approx(0)


def test_a_loss_that_is_no_number_is_told_as_one() -> None:
    queries = torch.full((2, 3), torch.nan)
    assert matching(queries, torch.eye(3)[None], torch.zeros(2, dtype=torch.long)).isnan()


@both
def test_the_objective_is_made_of_the_branches(make: Callable[[], Model]) -> None:
    model = make()
    config, batch = model.config, toy_batch(model)
    objective = {GmmFormer: gmmformer.objective, GmmFormerV2: gmmformer_v2.objective}[type(model)]
    model.config = replace(config, negative_pool=1, hard_from_epoch=10)
    queries, videos, batch = embed(model, batch)
    terms = objective(model, queries, videos, batch, 10)
    masks = [torch.ones(len(field), field.shape[1], dtype=torch.bool) for field in videos]
    if "frames" in model.frame_fields:
        masks[1] = batch.frame_mask
    weights = {"clips": config.clip_nce_weight, "frames": config.frame_nce_weight}
    for name, query, video, mask in zip(("clips", "frames"), queries, videos, masks, strict=True):
        lengths, target = mask.sum(1).tolist(), batch.target.tolist()
        rows = (query.tolist(), video.tolist(), lengths)
        cosines = oracles.video_scores(oracles.frame_scores(*rows, oracles.cosine))
        dots = oracles.video_scores(oracles.frame_scores(*rows, oracles.dot))
        negatives = [oracles.hardest_wrong_videos(cosines, target, n, 1)[0] for n in range(len(target))]
        triplet = oracles.triplet(cosines, target, margin=config.margin, negatives=negatives)
        assert terms[f"{name}_triplet"].item() == pytest.approx(triplet, abs=1e-5)
        assert terms[f"{name}_nce"].item() == pytest.approx(weights[name] * oracles.info_nce(dots, target), rel=1e-4)
    soft = objective(model, queries, videos, batch, 10, contrast=lambda dots, target: dots.sum() * 0 + 7)
    assert soft["clips_nce"].item() == pytest.approx(7 * config.clip_nce_weight)
    assert set(terms) - {"matching"} == {"clips_triplet", "clips_nce", "frames_triplet", "frames_nce", "diversity"}


@both
def test_negatives_are_hard_from_an_epoch_on(make: Callable[[], Model]) -> None:
    model = make()
    objective = {GmmFormer: gmmformer.objective, GmmFormerV2: gmmformer_v2.objective}[type(model)]
    model.config = replace(model.config, negative_pool=1, hard_from_epoch=3)
    given = embed(model, toy_batch(model))

    def triplets(epoch: int) -> set[float]:
        return {round(objective(model, *given, epoch)["clips_triplet"].item(), 6) for _ in range(20)}

    assert len(triplets(3)) == 1
    assert len(triplets(2)) > 1
    assert max(triplets(2)) <= max(triplets(3)) + 1e-6


# Models


@both
def test_padding_and_order_change_nothing(make: Callable[[], Model]) -> None:
    model = make()
    assert model.score_weights == (0.7, 0.3)
    check_invariants(model)


@both
@torch.inference_mode()
def test_where_in_a_video(make: Callable[[], Model]) -> None:
    model = make()
    videos = model.encode_videos(*padded(sequences((7,), FRAMES)))
    query = model.encode_queries(*padded(sequences((3,), WORDS)))
    curve = model.relevance(query, videos)
    cosines = [torch.cosine_similarity(q, v[0], dim=-1) for q, v in zip(query, videos, strict=True)]
    if isinstance(model, GmmFormer):
        torch.testing.assert_close(curve, cosines[0])
        return
    clip = [0, 0, 1, 2, 2, 3, 3]  # seven frames, four clips: the clip at (frame + 1/2) * 4 / 7
    torch.testing.assert_close(curve, 0.7 * cosines[0][clip] + 0.3 * cosines[1])


def test_one_vector_stands_for_all_frames() -> None:
    model = first()
    clips, frames = model.encode_videos(*padded(sequences(FRAMES_OF, FRAMES)))
    assert clips.shape == (5, 4, 8)
    assert frames.shape == (5, 1, 8)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"clips": 0}, "clips is 0"),
        ({"frame_weight": 1.5}, "frame_weight is 1.5"),
        ({"heads": 3}, "not a multiple"),
        ({"widths": ()}, r"widths is \(\); name one"),
        ({"widths": (1.0, -2.0)}, "widths is"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, float], text: str) -> None:
    for settings in (SMALL, SMALL_V2):
        with pytest.raises(SettingError, match=text):
            replace(settings, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"), [("gmmformer", GmmFormerConfig), ("gmmformer_v2", GmmFormerV2Config)], ids=["v1", "v2"]
)
def test_learns_the_toy_world(tmp_path: Path, method: str, settings: type) -> None:
    student = settings(hidden=32, max_frames=32, clips=8, dropout=0.0, input_dropout=0.0, hard_from_epoch=100)
    check_learns(method, student, tmp_path, lr=3e-3, epochs=12)
