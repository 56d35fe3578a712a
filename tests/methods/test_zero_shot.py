"""The teacher alone, in every variant: wavelets and graphs beside slow loops, and scores of segments."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from commands import Prvr, says
from method_checks import check_invariants, noise, sequences
from toy_world import TEACHER, toy_world

from prvr.batch import pad
from prvr.errors import DataError, MissingExtra
from prvr.evaluate.evaluation import evaluate_model
from prvr.extract.convert import convert_package
from prvr.features import FeatureSet
from prvr.methods.segments import LEVELS, affinities, bands, changes, levels_of, propagate, segment_starts
from prvr.methods.zero_shot import CLIPS, FIELDS, ZeroShot, ZeroShotConfig
from prvr.nn.clips import clip_means
from prvr.papers.toy import write_toy

COLUMNS = 5
every_variant = pytest.mark.parametrize("parts", FIELDS)
cut_up = pytest.mark.parametrize("parts", ["segments", "propagated", "consensus"])


def zero_shot(parts: str) -> ZeroShot:
    return ZeroShot(ZeroShotConfig(parts), frame_columns=COLUMNS, word_columns=COLUMNS)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def scenes(lengths: tuple[int, ...], *, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    """Frames that stay near one thing for so many frames, and then near another."""
    draw = np.random.default_rng(seed)
    things = np.repeat(draw.normal(size=(len(lengths), COLUMNS)), lengths, axis=0)
    return (things + draw.normal(scale=noise, size=things.shape)).astype(np.float32)


# The signal and its bands


def test_changes_by_hand() -> None:
    corner = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]])
    # Standing still; coming to move; 60 degrees between (-1, 1, 0) and (0, -1, 1) seen from outside; and straight back.
    assert changes(corner).tolist() == pytest.approx([0, 1, 1.5, 2])


def test_changes_beside_a_slow_loop() -> None:
    frames = unit(noise(9, 4).double().numpy())
    steps = [[b - a for a, b in zip(frames[t], frames[t + 1], strict=True)] for t in range(8)]
    wanted = [1 - oracles.cosine(steps[t], steps[t + 1]) for t in range(7)]
    assert changes(frames) == pytest.approx(wanted)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 13, 50, 127, 500])
def test_bands_and_a_smooth_rest_are_the_signal(length: int) -> None:
    signal = np.random.default_rng(0).random(length)
    details = list(bands(signal))
    assert len(details) == min(max(int(math.log2(max(length / 7, 1))), 1), LEVELS)
    assert {len(band) for band in details} == {length}
    rest = signal - sum(details)
    # What is left holds no detail of the finest scale.
    if length >= 50:
        assert np.abs(np.diff(rest)).mean() < 0.3 * np.abs(np.diff(signal)).mean()
    # A band is linear in the signal, and a constant has none.
    assert next(bands(3 * signal)) == pytest.approx(3 * details[0], abs=1e-12)
    assert np.abs(list(bands(np.ones(length)))).max() < 1e-12


def test_coarser_bands_move_more_slowly() -> None:
    signal = np.random.default_rng(1).random(512)
    turns = [np.count_nonzero(np.diff(np.sign(np.diff(band)))) for band in bands(signal)]
    assert turns == sorted(turns, reverse=True)
    assert turns[0] > 4 * turns[-1]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 20, 200])
def test_segments_divide_a_video_on_every_level(frames: int) -> None:
    rows = scenes((frames,), noise=1.0)
    of_frame, means = levels_of(rows)
    assert 1 <= len(of_frame) <= LEVELS
    assert np.concatenate(of_frame).max() + 1 == len(means)
    for level in of_frame:
        assert len(level) == frames
        assert set(np.diff(level)) <= {0, 1}
        for segment in set(level):
            mean = unit(rows.astype(np.float64))[level == segment].mean(0)
            assert means[segment] == pytest.approx(mean / np.linalg.norm(mean))


def test_a_still_video_is_one_segment() -> None:
    of_frame, means = levels_of(np.ones((40, 3), np.float32))
    assert len(means) == len(of_frame)
    assert all(set(level) == {place} for place, level in enumerate(of_frame))


def test_a_segment_begins_where_the_band_has_a_peak() -> None:
    signal = np.random.default_rng(3).random(60)
    for band, starts in zip(bands(signal), segment_starts(signal), strict=True):
        peaks = [i + 1 for i in range(1, 59) if band[i - 1] + 1e-6 < band[i] >= band[i + 1]]
        assert starts.tolist() == [0, *peaks]


# The graph


def slow_weights(spans: list[tuple[int, int, int]], means: np.ndarray) -> list[list[float]]:
    """Segments are (level, begin, end)."""
    weights = [[0.0] * len(spans) for _ in spans]
    for i, (level, begin, end) in enumerate(spans):
        for j, (other, start, stop) in enumerate(spans):
            looks = max(oracles.dot(means[i].tolist(), means[j].tolist()), 0.0)
            if i != j and level == other:
                lengths = [e - b for of, b, e in spans if of == level]
                weights[i][j] = looks + math.exp(-abs((begin + end) / 2 - (start + stop) / 2) / oracles.mean(lengths))
            elif abs(level - other) == 1:
                together = max(min(end, stop) - max(begin, start), 0)
                weights[i][j] = looks * together / (end - begin + stop - start - together)
        if sum(weights[i]) == 0:
            weights[i][i] = 1.0
    sums = [sum(row) for row in weights]
    return [[w / math.sqrt(sums[i] * sums[j]) for j, w in enumerate(row)] for i, row in enumerate(weights)]


def test_relevance_spreads_as_a_slow_loop_says() -> None:
    spans = [(0, 0, 2), (0, 2, 3), (0, 3, 7), (1, 0, 3), (1, 3, 7), (2, 0, 7)]
    of_frame = [np.array([0, 0, 1, 2, 2, 2, 2]), np.array([3, 3, 3, 4, 4, 4, 4]), np.full(7, 5)]
    means = unit(np.random.default_rng(0).normal(size=(6, 4)))
    weights = affinities(of_frame, means)
    slow = slow_weights(spans, means)
    assert weights == pytest.approx(np.array(slow))
    query = np.random.default_rng(1).normal(size=4)
    own = [oracles.dot(mean.tolist(), query.tolist()) for mean in means]
    relevance = own
    for _ in range(200):
        relevance = [0.7 * oracles.dot(row, relevance) + 0.3 * own[i] for i, row in enumerate(slow)]
    assert propagate(weights, means) @ query == pytest.approx(relevance)


def test_a_segment_without_a_neighbour_keeps_its_relevance() -> None:
    means = unit(np.random.default_rng(0).normal(size=(1, 4)))
    assert propagate(affinities([np.zeros(9, np.int64)], means), means) == pytest.approx(means)


# Scores


@every_variant
def test_padding_and_order_change_nothing(parts: str) -> None:
    check_invariants(zero_shot(parts), sequences((1,) * 5, COLUMNS), sequences((7, 1, 12, 3), COLUMNS, seed=1))


@pytest.mark.parametrize("parts", ["frames", "clips", "clips_and_frames"])
def test_weights_say_what_frames_and_clips_score(parts: str) -> None:
    assert zero_shot(parts).score_weights is not None


@cut_up
def test_no_weights_say_what_segments_score(parts: str) -> None:
    assert zero_shot(parts).score_weights is None


@torch.inference_mode()
def test_scores_by_segment() -> None:
    rows = scenes((30, 20, 40))
    query = torch.tensor([[0.3, -1, 0.5, 2, 0.1]])
    asked = (query / query.norm()).numpy()[0].astype(np.float64)
    of_frame, means = levels_of(rows)
    spread = propagate(affinities(of_frame, means), means)
    over_time = [np.mean([spread[level[t]] @ asked for level in of_frame]) for t in range(90)]
    wanted = {
        "frames": (unit(rows) @ asked).max(),
        "segments": (means @ asked).max(),
        "propagated": (spread @ asked).max(),
        "consensus": max(over_time),
    }
    frames, mask = pad([rows])
    for parts, score in wanted.items():
        model = zero_shot(parts)
        queries, videos = (
            model.encode_queries(query[:, None], torch.ones(1, 1, dtype=torch.bool)),
            model.encode_videos(frames, mask),
        )
        assert model.score(queries, videos, mask).item() == pytest.approx(score, abs=1e-5)
        curve = model.relevance(queries, videos)
        assert curve.max().item() == pytest.approx(score, abs=1e-5)
        if parts == "consensus":
            assert curve.numpy() == pytest.approx(np.array(over_time), abs=1e-5)


@torch.inference_mode()
def test_clips_and_frames_are_weighed_alike() -> None:
    frames, mask = pad([scenes((30, 20)), scenes((3,))])
    queries = (noise(5, COLUMNS),)
    clips = clip_means(frames, mask, clips=CLIPS)
    best_clip = torch.cosine_similarity(queries[0][:, None, None], clips, dim=-1).amax(2)
    best_frame = zero_shot("frames").score(queries, (frames,), mask)
    both = zero_shot("clips_and_frames")
    assert both.embedding_fields == ("teacher", "clips")
    assert both.frame_fields == ("teacher",)
    torch.testing.assert_close(both.score(queries * 2, (frames, clips), mask), (best_clip + best_frame) / 2)
    assert both.relevance((queries[0][:1],) * 2, (frames[:1], clips[:1])).shape == (50,)
    assert zero_shot("clips").relevance((queries[0][:1],), (clips[:1],)).shape == (CLIPS,)


@torch.inference_mode()
@cut_up
def test_the_curve_is_highest_in_the_scene_that_is_asked_for(parts: str) -> None:
    rows = scenes((40, 25, 35), seed=4)
    model = zero_shot(parts)
    frames, mask = pad([rows])
    query = (torch.from_numpy(rows[50:51]),) * len(model.embedding_fields)
    best = int(model.relevance(query, model.encode_videos(frames, mask)).argmax())
    assert 40 <= best < 65


def test_a_wavelet_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(MissingExtra, match=r"pywt is not installed; pip install 'prvr\[segments\]'"):
        levels_of(scenes((30,)))
    zero_shot("clips").encode_videos(*pad([scenes((30,))]))


def test_teachers_have_one_space() -> None:
    with pytest.raises(DataError, match="frames have 3 columns and sentences 4"):
        ZeroShot(ZeroShotConfig(), frame_columns=3, word_columns=4)


@every_variant
def test_it_retrieves_in_the_toy_world(parts: str) -> None:
    data = toy_world(videos=90, things=15)
    (teacher,) = data.features.teachers
    model = ZeroShot(ZeroShotConfig(parts), frame_columns=TEACHER, word_columns=TEACHER)
    reached = evaluate_model(model, data.dev, FeatureSet(teacher.frames, teacher.sentences, data.features.sources)).retrieval
    # 30 videos: chance is 3 + 17 + 33 + 100.
    assert reached.sumr > 200


def test_the_command_takes_parts(tmp_path: Path, prvr: Prvr) -> None:
    package = write_toy(tmp_path, train_videos=4, test_videos=6)
    convert_package(package, tmp_path / "packed", sampling=None)
    found = {}
    for parts in ("", "frames", "clips", "consensus"):
        more = ("--parts", parts) if parts else ()
        answer = prvr("evaluate", package, tmp_path / "packed", "--zero-shot", "mediocre", *more, "--json")
        assert answer.status == 0, answer.err
        found[parts] = answer.json
    assert found[""] == found["frames"]
    assert len({json.dumps(value) for value in found.values()}) == 3
    wrong = prvr("evaluate", package, tmp_path / "packed", "--zero-shot", "mediocre", "--parts", "halves")
    says(wrong, "parts is 'halves'; it takes frames or clips or")
    says(prvr("evaluate", package, tmp_path / "packed", "--model", "run", "--parts", "clips"), "--parts clips is for --zero-shot")
    says(prvr("index", tmp_path, tmp_path / "gallery", "--model", "run", "--parts", "clips"), "--parts clips is for --encoder")
