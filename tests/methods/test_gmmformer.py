"""GMMFormer and GMMFormer v2: their objectives beside slow loops, what padding and company change, and that they learn.

Their numbers beside the published code's: test_peers_gmmformer_family.py; their blocks and losses: tests/nn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch
from method_checks import FRAMES_OF, build, check_invariants, check_learns, padded, sequences, toy_batch
from toy_world import FRAMES, WORDS

from prvr.errors import SettingError
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.methods import gmmformer, gmmformer_v2
from prvr.methods.contract import Model, embed
from prvr.methods.gmmformer import GmmFormer, GmmFormerConfig
from prvr.methods.gmmformer_v2 import GmmFormerV2, GmmFormerV2Config

SMALL = GmmFormerConfig(hidden=8, heads=2, max_frames=20, max_words=6, clips=4, window_length="max_frames")
SMALL_V2 = GmmFormerV2Config(hidden=8, heads=2, max_frames=20, max_words=6, clips=4, padding_counts=False)


def first() -> Model:
    return build("gmmformer", SMALL)


def second() -> Model:
    return build("gmmformer_v2", SMALL_V2)


both = pytest.mark.parametrize("make", [first, second], ids=["gmmformer", "gmmformer v2"])


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
    assert soft["frames_nce"].item() == pytest.approx(7 * config.frame_nce_weight)
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


@torch.no_grad()
def test_padding_counts_as_a_frame_that_scores_0() -> None:
    model, mended = (build("gmmformer_v2", replace(SMALL_V2, padding_counts=counts)) for counts in (True, False))
    assert model.score_weights is None
    check_invariants(model)
    frames, mask = padded(sequences((5, 20), FRAMES, seed=1))
    videos = model.encode_videos(frames, mask)
    # A query that no frame of its video is like.
    opposite = -torch.stack([videos[1][0, :5].mean(0), videos[1][1].mean(0)])
    clips, best = (torch.cosine_similarity(opposite[:, None, None], field[None], dim=-1) for field in videos)
    best = best.masked_fill(~mask, -1).amax(2)
    assert best[0, 0] < 0, "only then there is something to see"
    torch.testing.assert_close(mended.score((opposite, opposite), videos, mask), 0.7 * clips.amax(2) + 0.3 * best)
    best[:, 0] = best[:, 0].clamp(min=0)
    torch.testing.assert_close(model.score((opposite, opposite), videos, mask), 0.7 * clips.amax(2) + 0.3 * best)


@torch.inference_mode()
def test_all_videos_encoded_at_once_have_windows_of_one_length() -> None:
    model = build("gmmformer", replace(SMALL, window_length="batch"))
    assert model.reading.padded_together
    rows = {f"video {place}": row.numpy() for place, row in enumerate(sequences((3, 16, 3, 9), FRAMES, seed=1))}
    index, alone = ExactIndex(model), ExactIndex(model)
    add_videos(index, rows, rows)
    add_videos(alone, ["video 0"], rows)
    own, beside = alone.fetch(["video 0"])["video 0"], index.fetch(["video 0"])["video 0"]
    assert own.fields[0] == pytest.approx(beside.fields[0], abs=1e-5)
    assert own.fields[1] != pytest.approx(beside.fields[1], abs=1e-3)
    mended = build("gmmformer", SMALL)
    assert not mended.reading.padded_together


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
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "settings"), [("gmmformer", GmmFormerConfig), ("gmmformer_v2", GmmFormerV2Config)], ids=["v1", "v2"]
)
def test_learns_the_toy_world(tmp_path: Path, method: str, settings: type) -> None:
    student = settings(hidden=32, max_frames=32, clips=8, dropout=0.0, input_dropout=0.0, hard_from_epoch=100)
    check_learns(method, student, tmp_path, lr=3e-3, epochs=12)
