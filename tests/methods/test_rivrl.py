"""RIVRL: reading twice, beside slow loops, and what is true of every method."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import method_checks as checks
import oracles
import pytest
import torch
from torch import Tensor
from toy_world import FRAMES, WORDS

from prvr.errors import SettingError
from prvr.methods.rivrl import IntensiveReading, Rivrl, RivrlConfig
from prvr.nn.hybrid import concepts_of_videos, hybrid_scores, hybrid_terms

SETTINGS = RivrlConfig(
    latent=12,
    concepts=10,
    cohort=6,
    frame_gru=8,
    segment_filters=8,
    attention=8,
    word_gru=8,
    filters=8,
    dropout=0.0,
    feed_forward_dropout=0.0,
)


@pytest.fixture
def model() -> Rivrl:
    made = checks.build("rivrl", SETTINGS)
    for cohort in made.branch_cohorts():
        cohort.remember(torch.randn(6, 1, 12), torch.rand(6, 1, 10))
    return made


def test_what_pads_and_who_stands_beside_changes_nothing(model: Rivrl) -> None:
    checks.check_invariants(model)


def test_all_that_learns_gets_a_gradient(model: Rivrl) -> None:
    checks.check_learning("rivrl", model, checks.toy_batch(model), checks.toy_batch(model, most=1))


def test_a_teacher_can_be_added(model: Rivrl) -> None:
    checks.check_taught("rivrl", model, checks.toy_batch(model), by=(checks.MATRIX,))


@pytest.mark.slow
@pytest.mark.thorough
def test_learns_the_toy_world(tmp_path: Path) -> None:
    settings = replace(SETTINGS, latent=32, concepts=32, frame_gru=16, word_gru=16, filters=16, segment_filters=32)
    checks.check_learns("rivrl", settings, tmp_path)


def test_all_learns_with_dropout() -> None:
    model = checks.build("rivrl", replace(SETTINGS, dropout=0.5, feed_forward_dropout=0.5))
    checks.check_learning("rivrl", model, checks.toy_batch(model), checks.toy_batch(model, most=1))


def slow_stream(reading: IntensiveReading, rows: Tensor, preview: Tensor) -> list[float]:
    """One stream of one video: row by row."""
    asked = reading.query(preview)
    share = oracles.softmax([float(asked @ reading.key(row)) / math.sqrt(len(asked)) for row in rows])
    attended = sum(a * reading.value(row) for a, row in zip(share, rows, strict=True))
    read = reading.norm(reading.attended(attended) + rows.amax(0))
    return reading.last_norm(read + reading.feed_forward(read)).tolist()


def slow_reading(reading: IntensiveReading, frames: Tensor, preview: Tensor) -> list[float]:
    """One video without padding: of its frames, then of each convolution over them."""
    seen = reading.frames(frames).clamp(min=0)
    found = slow_stream(reading, seen, preview)
    for convolution in reading.segments:
        (width,), (stride,) = convolution.kernel_size, convolution.stride
        padded_rows = torch.cat([seen, torch.zeros(max(width - len(seen), 0), seen.shape[1])])
        segments = []
        for start in range(0, len(padded_rows) - width + 1, stride):
            total = convolution.bias.clone()
            for k in range(width):
                total += convolution.weight[:, :, k] @ padded_rows[start + k]
            segments.append(total.clamp(min=0))
        found += slow_stream(reading, torch.stack(segments), preview)
    return found


@pytest.mark.parametrize(("widths", "strides"), [((3,), (2,)), ((3, 2), (1, 2)), ((5,), (3,)), ((1,), (1,)), ((), ())])
@torch.no_grad()
def test_intensive_reading_against_slow_loops(widths: tuple[int, ...], strides: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    reading = IntensiveReading(4, 6, replace(SETTINGS, segment_widths=widths, segment_strides=strides)).eval()
    videos = checks.sequences((7, 1, 4, 6), 4)
    frames, mask = checks.padded(videos, more=1, filled=9.0)
    preview = torch.randn(4, 6)
    found = reading(frames, mask, preview)
    assert found.shape == (4, reading.columns) == (4, 8 * (1 + len(widths)))
    for place, video in enumerate(videos):
        assert found[place].tolist() == pytest.approx(slow_reading(reading, video, preview[place]), abs=1e-5)


@torch.no_grad()
def test_a_score_is_the_sum_of_both_branches(model: Rivrl) -> None:
    frames = checks.padded(checks.sequences(checks.FRAMES_OF, FRAMES))
    queries, videos = model.encode_queries(*checks.padded(checks.sequences(checks.WORDS_OF, WORDS))), model.encode_videos(*frames)
    model.config = replace(SETTINGS, fusion="raw")
    wanted = torch.zeros(len(checks.WORDS_OF), len(checks.FRAMES_OF))
    for branch in (slice(0, 2), slice(2, 4)):
        latent, concept = hybrid_scores(tuple(queries[branch]), tuple(videos[branch]))
        wanted += 0.6 * latent + 0.4 * concept
    torch.testing.assert_close(model.score(queries, videos, frames[1]), wanted)
    model.config = SETTINGS
    assert not torch.allclose(model.score(queries, videos, frames[1]), wanted, atol=0.01)


def test_each_branch_has_the_losses_of_a_hybrid_space(model: Rivrl) -> None:
    batch = checks.toy_batch(model)
    terms, queries, videos = checks.terms_of("rivrl", model, batch)
    assert len(terms) == 8
    shown = concepts_of_videos(queries[4], batch.target, len(batch.frames), least=2)
    for name, branch in (("preview", slice(0, 2)), ("intensive", slice(2, 4))):
        by_hand = hybrid_terms(tuple(queries[branch]), tuple(videos[branch]), shown, batch.target, margins=(0.2, 0.2))
        for term, value in by_hand.items():
            assert terms[f"{name}_{term}"].item() == pytest.approx(value.item())
    for cohort, place in zip(model.branch_cohorts(), (0, 2), strict=True):
        torch.testing.assert_close(cohort.latent, videos[place][:6].detach())


def test_settings_that_cannot_be() -> None:
    for changes in ({"segment_strides": (0,)}, {"segment_strides": (2, 1)}):
        with pytest.raises(SettingError, match="a convolution needs one of each, above 0"):
            replace(SETTINGS, **changes)
