"""From scores to probabilities, and whether these mean what they say."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Prvr, says
from toy_world import toy_world

from prvr.config import override
from prvr.errors import DataError, ModelError, SettingError
from prvr.evaluate.evaluation import calibrate, correct_videos, evaluate_model, scores_of
from prvr.evaluate.reliability import Judged, curve, expected_error, judge, reliability, risks
from prvr.evaluate.saved_scores import SavedScores, load_scores, save_scores
from prvr.features.sources import FeatureSources, Source
from prvr.methods import calibration as module
from prvr.methods import checkpoint as checkpoints
from prvr.methods.calibration import Calibration, fit, from_dict, top_hits_with_and_without
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.train.loop import Recipe, Training, train_student

ONE = Calibration(-1.0, 2.0, 3.0, 0.5, "dev", 100, 20)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def split(queries: int, videos: int, *, seed: int, lift: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are normal, `lift` deviations higher for the one correct video of a query."""
    random = np.random.default_rng(seed)
    correct = np.zeros((queries, videos), bool)
    correct[np.arange(queries), random.integers(videos, size=queries)] = True
    return (0.1 * (random.normal(size=(queries, videos)) + lift * correct)).astype(np.float32), correct


# Probabilities


def test_probabilities_by_hand() -> None:
    found = ONE.probabilities(np.array([0.9, 0.4, 0.3]), videos=100)
    size = 0.5 * math.log(100)
    # The first is compared with the second, the others with the first.
    wanted = [-1 + 1.8 + 3 * 0.5 - size, -1 + 0.8 + 3 * -0.5 - size, -1 + 0.6 + 3 * -0.6 - size]
    assert found == pytest.approx([sigmoid(logit) for logit in wanted])


def test_a_gallery_of_one_video_has_no_margin() -> None:
    assert ONE.probabilities(np.array([0.9]), videos=1) == pytest.approx([sigmoid(0.8)])


def test_the_best_score_alone_is_not_enough() -> None:
    with pytest.raises(SettingError, match="got 1 of 7 scores"):
        ONE.probabilities(np.array([0.9]), videos=7)


def test_a_better_score_means_more_for_a_video_and_no_more_for_the_others() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        scores = np.sort(random.normal(size=6))[::-1]
        before = ONE.probabilities(scores, videos=50)
        assert (np.diff(before) < 0).all()
        place = int(random.integers(6))
        raised = scores.copy()
        raised[place] += 0.5
        order = np.argsort(-raised)
        after = np.empty(6)
        after[order] = ONE.probabilities(raised[order], videos=50)
        assert after[place] > before[place]
        assert (np.delete(after, place) <= np.delete(before, place)).all()


def test_the_same_scores_among_more_videos_mean_less() -> None:
    scores = np.array([0.9, 0.4])
    found = [ONE.probabilities(scores, videos=videos)[0] for videos in (2, 100, 100_000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[2]


def test_scores_beyond_all_bounds_are_no_warning() -> None:
    found = ONE.probabilities(np.array([1e6, -1e6]), videos=2)
    assert found.tolist() == [1.0, 0.0]


# Asking twice


def test_queries_are_asked_with_their_videos_and_without() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.8]], np.float32)
    correct = np.array([[False, True, False], [True, False, True]])
    asked = top_hits_with_and_without(scores, correct)
    best = [row[np.isfinite(row)].tolist() for row in asked.scores]
    assert best == [pytest.approx(row) for row in ([0.9, 0.5, 0.1], [0.8, 0.3, 0.2], [0.5, 0.1], [0.2])]
    assert asked.right[:, :3].tolist() == [[True, False, False], [True, True, False], [False] * 3, [False] * 3]
    assert asked.videos.tolist() == [3, 3, 2, 1]
    assert asked.present.tolist() == [True, True, False, False]


def test_a_query_whose_every_video_is_correct_is_asked_once() -> None:
    asked = top_hits_with_and_without(np.array([[0.1, 0.9]]), np.array([[True, True]]))
    assert asked.videos.tolist() == [2]


def test_unranked_videos_are_no_hits() -> None:
    asked = top_hits_with_and_without(np.array([[0.1, -np.inf, -np.inf]]), np.array([[False, True, False]]))
    assert np.isfinite(asked.scores).sum(1).tolist() == [1, 1]
    assert not asked.right.any()
    found = ONE.of_hits(asked)
    # One known score has no margin.
    assert found[0, 0] == pytest.approx(sigmoid(-1 + 0.2 - 0.5 * math.log(3)))
    assert (found[:, 1:] == 0).all()


def test_the_best_of_many_beside_a_sort() -> None:
    scores, correct = split(1100, 40, seed=1)
    asked = top_hits_with_and_without(scores, correct)
    assert len(asked.scores) == 2200
    whole = asked.scores[asked.present]
    assert whole == pytest.approx(np.sort(scores, axis=1)[:, ::-1][:, : module.HITS])
    without = np.sort(np.where(correct, -np.inf, scores), axis=1)[:, ::-1][:, : module.HITS]
    assert asked.scores[~asked.present] == pytest.approx(without)


# Fitting


def loss_of(found: Calibration, scores: np.ndarray, correct: np.ndarray, prior: np.ndarray) -> float:
    """The penalised negative log-likelihood of all hits, in loops."""
    total = 0.0
    for gone in (False, True):
        for row, right in zip(scores.tolist(), correct.tolist(), strict=True):
            kept = sorted(((s, r) for s, r in zip(row, right, strict=True) if not (gone and r)), reverse=True)
            hits = kept[: module.HITS]
            said = found.probabilities(np.array([s for s, _ in hits]), videos=len(kept))
            total -= sum(math.log(p if r else 1 - p) for p, (_, r) in zip(said.tolist(), hits, strict=True))
    return total + sum((np.array([found.per_score, found.per_margin, found.per_size]) * prior) ** 2) / 2


def test_no_other_coefficients_are_likelier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTS", (1,))
    scores, correct = split(60, 12, seed=2)
    found = fit(scores, correct)
    # The prior is on features of unit deviation: those of all hits.
    asked = top_hits_with_and_without(scores, correct)
    best = [(row[np.isfinite(row)], videos) for row, videos in zip(asked.scores, asked.videos, strict=True)]
    seen = [(s, s - (row[1] if n == 0 else row[0]), math.log(v)) for row, v in best for n, s in enumerate(row)]
    prior = np.std(seen, axis=0)
    least = loss_of(found, scores, correct, prior)
    for name in ("intercept", "per_score", "per_margin", "per_size"):
        for change in (-0.05, 0.05):
            other = getattr(found, name) + change / (1 if name == "intercept" else prior[1])
            if other >= 0 or name == "intercept":
                assert loss_of(replace(found, **{name: other}), scores, correct, prior) > least - 1e-4, name


@pytest.mark.parametrize("videos", [60, 240, 15])
def test_probabilities_mean_what_they_say_whatever_the_size(videos: int) -> None:
    found = fit(*split(800, 60, seed=3), split="dev")
    assert (found.split, found.queries, found.videos) == ("dev", 800, 60)
    of = reliability(judge(found, *split(800, videos, seed=4)))
    assert of.ece < 0.05
    assert of.aurc_best <= of.aurc < of.wrong
    # An answer that is not there is not believed in.
    assert of.present > 1.2 * of.absent
    # Not so if the size of the gallery is left out.
    if videos != 60:
        blind = replace(found, per_size=0.0, intercept=found.intercept - found.per_size * math.log(60))
        assert reliability(judge(blind, *split(800, videos, seed=4))).ece > of.ece


def test_worse_scores_give_smaller_probabilities() -> None:
    good, bad = (
        reliability(judge(fit(*split(400, 40, seed=5, lift=lift)), *split(400, 40, seed=6, lift=lift))) for lift in (4, 1)
    )
    assert good.present > bad.present
    assert good.aurc < bad.aurc


def test_scores_that_say_nothing_have_no_slope() -> None:
    found = fit(*split(400, 40, seed=7, lift=-3.0))
    assert found.per_score >= 0
    assert found.per_margin == 0


def test_the_same_split_gives_the_same_calibration() -> None:
    assert fit(*split(200, 30, seed=8)) == fit(*split(200, 30, seed=8))


def test_hits_that_are_parted_without_a_fault_stay_finite() -> None:
    scores, correct = split(60, 20, seed=9, lift=50.0)
    found = fit(scores, correct)
    assert all(math.isfinite(value) for value in (found.intercept, found.per_score, found.per_margin, found.per_size))
    assert reliability(judge(found, scores, correct)).ece < 0.05


@pytest.mark.parametrize(("queries", "videos"), [(49, 40), (60, 9)])
def test_too_few_to_tell(queries: int, videos: int) -> None:
    assert fit(*split(queries, videos, seed=10)) is None


def test_nothing_to_tell_apart() -> None:
    scores, correct = split(60, 20, seed=11)
    # Unranked videos are never hits, so here no hit is right.
    assert fit(np.where(correct, -np.inf, scores), correct) is None


# What a file holds


def test_plain_values_and_back() -> None:
    assert from_dict(json.loads(json.dumps(ONE.as_dict()))) == ONE


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"per_score": -0.1}, "per_score of the calibration is -0.1"),
        ({"per_margin": "3"}, "per_margin of the calibration is '3'"),
        ({"per_size": math.inf}, "per_size of the calibration is inf"),
        ({"intercept": math.nan}, "intercept of the calibration is nan"),
        ({"intercept": True}, "intercept of the calibration is True"),
        ({"split": 3}, "split of the calibration is 3, expected str"),
        ({"videos": None}, "videos of the calibration is None, expected int"),
        ({"more": 1}, "expected a calibration"),
    ],
)
def test_broken_values(change: dict, says: str) -> None:
    with pytest.raises(DataError, match=says):
        from_dict(ONE.as_dict() | change)
    with pytest.raises(DataError, match="expected a calibration"):
        from_dict([1, 2])


@pytest.fixture
def checkpoint(tmp_path: Path) -> checkpoints.Checkpoint:
    reads = FeatureSources(Source("frames", 6), Source("words", 6))
    return checkpoints.build("dl_dkd", DlDkdConfig(hidden=8, heads=2), reads)


def test_a_checkpoint_keeps_it_and_stays_the_same_model(checkpoint: checkpoints.Checkpoint, tmp_path: Path) -> None:
    checkpoints.save(checkpoint, tmp_path / "bare")
    assert checkpoints.load(tmp_path / "bare").calibration is None
    with_it = replace(checkpoint, calibration=ONE)
    checkpoints.save(with_it, tmp_path / "whole")
    again = checkpoints.load(tmp_path / "whole")
    assert again.calibration == ONE
    assert again.fingerprint == with_it.fingerprint == checkpoint.fingerprint


def test_a_checkpoint_with_a_broken_one(checkpoint: checkpoints.Checkpoint, tmp_path: Path) -> None:
    checkpoints.save(replace(checkpoint, calibration=ONE), tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    for broken in ({"per_score": 1.0}, None, ONE.as_dict() | {"per_size": -1.0}):
        path.write_text(json.dumps({**json.loads(path.read_text()), "calibration": broken}))
        with pytest.raises(ModelError, match=r"config\.json: .*calibrat") as problem:
            checkpoints.load(tmp_path / "run")
        assert "\n" not in str(problem.value)


# Reliability


def test_expected_error_by_hand() -> None:
    # Two bins: {0.1, 0.3} with one right, {0.6, 0.8} with both: |0.2 - 0.5| and |0.7 - 1|, half each.
    said, right = np.array([0.8, 0.1, 0.6, 0.3]), np.array([True, False, True, True])
    assert expected_error(said, right, bins=2) == pytest.approx(0.3)
    assert expected_error(said, right, bins=1) == pytest.approx(abs(1.8 - 3) / 4)
    assert expected_error(said, right, bins=4) == pytest.approx((0.1 + 0.7 + 0.4 + 0.2) / 4)
    judged = Judged(said, right, np.array([True, False, True, True]))
    assert [values[2] for values in curve(judged, bins=2)] == [2, 2]
    assert curve(judged, bins=2)[0][:2] == pytest.approx((0.2, 0.5))


def test_equal_probabilities_share_a_bin() -> None:
    right = np.arange(100) % 2 == 0
    assert expected_error(np.full(100, 0.5), right) == 0
    assert expected_error(np.full(100, 0.5), np.sort(right)) == 0
    assert expected_error(np.full(100, 0.2), right) == pytest.approx(0.3)


def test_what_comes_true_as_often_as_it_is_said_has_no_error() -> None:
    random = np.random.default_rng(0)
    said = random.random(50_000)
    right = random.random(50_000) < said
    assert expected_error(said, right) < 0.01
    assert expected_error(said**2, right) > 0.1
    of = reliability(Judged(said, right, np.ones(50_000, bool)))
    # E[p(1 - p)] of uniform probabilities, and wrong half the time.
    assert of.brier == pytest.approx(1 / 6, abs=0.005)
    assert of.wrong == pytest.approx(0.5, abs=0.01)
    # Of the surest share c, the mean wrong is c / 2: its mean over c is a quarter.
    assert of.aurc == pytest.approx(0.25, abs=0.01)
    assert of.absent is None


def test_risks_by_hand() -> None:
    right = np.array([True, False, True, False])
    assert risks(np.array([0.9, 0.2, 0.8, 0.4]), right).tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert risks(np.array([0.1, 0.2, 0.3, 0.4]), right).tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])


def test_equal_confidences_count_as_if_they_were_shuffled() -> None:
    confidence, right = np.array([0.5, 0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False, True])
    orders = [(1, *(tied[n] for n in range(3)), 4) for tied in itertools.permutations((0, 2, 3))]
    mean = np.mean([np.cumsum(~right[list(order)]) / np.arange(1, 6) for order in orders], axis=0)
    assert risks(confidence, right) == pytest.approx(mean)
    assert risks(np.zeros(5), right) == pytest.approx(np.full(5, 0.4))


def test_the_figures_of_what_is_shown() -> None:
    judged = Judged(np.array([0.9, 0.5, 0.4, 0.1]), np.array([True, False, True, False]), np.array([True, True, True, False]))
    of = reliability(judged)
    assert (of.shown, of.shown_wrong, of.present, of.absent, of.hits) == (0.5, 0.5, pytest.approx(0.6), 0.1, 4)
    assert of.brier == pytest.approx((0.01 + 0.25 + 0.36 + 0.01) / 4)
    assert of.aurc_best == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert reliability(replace(judged, probability=np.full(4, 0.2))).shown_wrong is None


# Training, and the command


def test_training_keeps_the_calibration_of_the_dev_split(tmp_path: Path) -> None:
    data = toy_world(videos=150)
    settings, training = override([DlDkdConfig(hidden=16, heads=2), Training(epochs=1, batch_videos=100)], [])
    best = train_student(tmp_path / "run", Recipe("dl_dkd", settings, training), data=data)
    found = best.calibration
    assert found is not None
    assert (found.split, found.queries, found.videos) == ("dev", 50, 50)
    assert checkpoints.load(tmp_path / "run").calibration == found
    assert calibrate(replace(best, calibration=None), data.dev, data.features).calibration == found
    # As it is counted from the scores of an evaluation.
    evaluation = evaluate_model(best.model, data.dev, data.features)
    assert fit(evaluation.scores, correct_videos(data.dev, evaluation.videos), split="dev") == found
    assert scores_of(evaluation, data.dev, system="toy", calibration=found).calibration == found
    # A run that is done is left as it is.
    before = (tmp_path / "run" / "config.json").stat().st_mtime_ns
    train_student(tmp_path / "run", Recipe("dl_dkd", settings, training), data=data)
    assert (tmp_path / "run" / "config.json").stat().st_mtime_ns == before


def a_run(queries: int, videos: int, *, seed: int, name: str) -> SavedScores:
    scores, correct = split(queries, videos, seed=seed, lift=4.0)
    ids = (tuple(f"{name} {n}" for n in range(size)) for size in (queries, videos))
    return SavedScores(scores, *ids, target=correct.argmax(1), split=name, system="toy")


@pytest.fixture
def prvr(prvr: Prvr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Prvr:
    """The command in a folder with two runs."""
    monkeypatch.chdir(tmp_path)
    save_scores(a_run(80, 20, seed=1, name="dev"), tmp_path / "dev.npz")
    save_scores(a_run(100, 30, seed=2, name="test"), tmp_path / "test.npz")
    return prvr


def test_evaluate_with_probabilities_of_another_run(prvr: Prvr, tmp_path: Path) -> None:
    assert "probability" not in prvr("score", "test.npz")[1]
    status, out, err = prvr("score", "test.npz", "--calibrate", "dev.npz", "--risks", "risks.png", "--save", "again.npz")
    assert status == 0, err
    assert "fitted on 80 queries of dev\n" in out
    assert (tmp_path / "risks.png").read_bytes().startswith(b"\x89PNG")
    found = load_scores("again.npz").calibration
    assert found == fit(load_scores("dev.npz").scores, load_scores("dev.npz").correct, split="dev")
    value = json.loads(prvr("score", "again.npz", "--json")[1])["probabilities"]
    run = load_scores("test.npz")
    wanted = vars(reliability(judge(found, run.scores, run.correct)))
    assert {name: value[name] for name in wanted} == pytest.approx(wanted)
    assert value["calibration"] == found.as_dict()
    line = f"ECE {100 * wanted['ece']:.1f} %, Brier {wanted['brier']:.3f}, AURC {wanted['aurc']:.3f}"
    assert line in prvr("score", "again.npz")[1]


def test_a_calibration_that_is_tested_on_its_own_split_is_named(prvr: Prvr) -> None:
    run = load_scores("dev.npz")
    save_scores(replace(run, calibration=fit(run.scores, run.correct, split="dev")), Path("own.npz"))
    assert "fitted on 80 queries of dev, the split of these figures: too good" in prvr("score", "own.npz")[1]


def test_what_cannot_be_calibrated(prvr: Prvr) -> None:
    save_scores(a_run(20, 20, seed=3, name="small"), Path("small.npz"))
    for arguments, said in (
        (("--calibrate", "test.npz"), "has the same queries ('test 0' first)"),
        (("--calibrate", "small.npz"), "small.npz has 20 queries and 20 videos; probabilities need 50 and 10"),
        (("--calibrate", "none.npz"), "no scores at none.npz"),
        (("--risks", "risks.png"), "--calibrate DEV.npz"),
    ):
        says(prvr("score", "test.npz", *arguments, "--save", "new.npz"), said)
        assert not Path("new.npz").exists()
        assert not Path("risks.png").exists()


def test_a_run_with_a_broken_calibration() -> None:
    # Written by someone else: everything else is sound.
    run = a_run(60, 20, seed=4, name="dev")
    with pytest.raises(DataError, match="per_score of the calibration is -1"):
        replace(run, calibration=Calibration(0.0, -1.0, 0.0, 0.0))
