"""The figures of QVHighlights: published ones to the digit, plain loops, numbers worked by hand, and what is refused."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Prvr, says

from prvr.datasets import Caption
from prvr.datasets.annotations import annotate, load_annotations
from prvr.datasets.splits import open_split
from prvr.errors import DataError
from prvr.evaluate.found_moments import clip_scores
from prvr.evaluate.qvhighlights import (
    IOUS,
    LEVELS,
    MomentFigures,
    MomentPrediction,
    clip_precision,
    highlight_values,
    moment_figures,
    moment_values,
    window_precision,
)
from prvr.evaluate.saved_scores.moments import score_moments
from prvr.features.shelf import teacher_features
from prvr.papers.toy import write_toy

Window = tuple[float, float]
PUBLISHED = {
    "inference_hl_val_test_code_preds": "inference_hl_val_test_code_preds_metrics",
    "sample_val_preds": "sample_val_preds_metrics_raw",
}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_figure_to_the_digit(shared: Path, name: str) -> None:
    folder = shared / "data" / "moment_predictions"
    truth = shared / "data" / "annotations" / "qvhighlights" / "highlight_val_release.jsonl"
    official = json.loads((folder / f"{PUBLISHED[name]}.json").read_text())
    ours = score_moments(folder / f"{name}.jsonl", truth).as_dict()
    assert ours.pop("queries") == {"full": 1550, "long": 574, "middle": 957, "short": 429, "highlights": 1550}
    assert ours == official
    assert list(ours) == list(official)


# Windows


def decimal(windows: Any) -> Any:
    return [tuple(map(float, window)) for window in windows]


def precision(windows: Sequence[tuple[float, float, float]], true: Sequence[Window]) -> np.ndarray:
    return window_precision(decimal(windows), true)


def figures(*of: tuple[Sequence[Window], Sequence[tuple[float, float, float]]]) -> MomentFigures:
    """The figures of queries with these annotated and predicted windows."""
    captions = [Caption(str(n), "v", "x", 0.0, 1.0, windows=tuple(decimal(true))) for n, (true, _) in enumerate(of)]
    found = moment_figures(moment_values(captions, [MomentPrediction(decimal(windows)) for _, windows in of]))
    assert found is not None
    return found


def test_average_precision_by_hand() -> None:
    true = [(0.0, 10.0), (20.0, 30.0)]
    # Right, wrong, right: precision 1 at recall 1/2, 2/3 at recall 1.
    assert precision([(0, 10, 0.9), (40, 50, 0.8), (20, 30, 0.7)], true) == pytest.approx((1 + 2 / 3) / 2)
    # Wrong first: 1/2 and 2/3, of which the higher counts at both recalls.
    assert precision([(40, 50, 0.9), (0, 10, 0.8), (20, 30, 0.7)], true) == pytest.approx(2 / 3)
    # A second window on the same moment is wrong.
    assert precision([(0, 10, 0.9), (0, 10, 0.8)], true) == pytest.approx(1 / 2)
    assert (precision([], true) == 0).all()
    # 8 of 12 seconds in common: right up to an IoU of .65.
    expected = [1.0 if least <= 0.65 else 0.0 for least in IOUS]
    assert precision([(2, 12, 0.5)], true[:1]).tolist() == expected
    # An IoU of exactly .5 agrees at .5.
    assert precision([(0, 5, 0.5)], true[:1]).tolist() == [1.0] + [0.0] * 9


def test_a_window_takes_the_moment_that_it_overlaps_most() -> None:
    true = [(0.0, 10.0), (2.0, 12.0)]
    # (2, 11) takes (2, 12), so (0, 9) has (0, 10) left for itself.
    assert precision([(2, 11, 0.9), (0, 9, 0.8)], true)[0] == 1
    # Where its best moment is taken, it takes the next one that it overlaps enough: 8 of 12 seconds.
    assert precision([(2, 12, 0.9), (2, 12, 0.8)], true).tolist() == [1.0] * 4 + [0.5] * 6


def test_mean_precision_goes_by_score_and_recall_by_place() -> None:
    found = figures(([(0, 10)], [(50, 60, 0.1), (0, 10, 0.9)]))
    assert (found.mean_precision["full"]["0.5"], found.recall["full"]["0.5"]) == (100, 0)


def test_ten_windows_count() -> None:
    wrong = [(50.0, 60.0, 0.1)] * 9
    assert figures(([(0, 10)], [*wrong, (0, 10, 0.0)])).mean_precision["full"]["0.95"] == 10
    assert figures(([(0, 10)], [*wrong, (50, 60, 0.1), (0, 10, 0.9)])).mean_precision["full"]["0.95"] == 0


def test_ranges_are_of_annotated_windows() -> None:
    # 10 s is short, 30 s is of the middle; predictions are the same in every range.
    found = figures(([(0, 10), (20, 50)], [(20, 50, 0.9), (0, 10, 0.8)]), ([(0, 31)], [(0, 31, 0.5)]))
    assert found.queries == {"full": 2, "long": 1, "middle": 1, "short": 1}
    assert {name: of["average"] for name, of in found.mean_precision.items()} == {
        "full": 100,
        "long": 100,
        "middle": 100,
        "short": 50,
    }
    assert {name: of["0.7"] for name, of in found.recall.items()} == {"full": 100, "long": 100, "middle": 100, "short": 0}
    only = figures(([(0, 31)], [(0, 31, 0.5)]))
    assert list(only.mean_precision) == ["full", "long"]
    assert "MR-short-mAP" not in only.as_dict()["brief"]


def test_figures_are_rounded_to_two_decimals() -> None:
    right, wrong = ([(0.0, 10.0)], [(0.0, 10.0, 1.0)]), ([(0.0, 10.0)], [(50.0, 60.0, 1.0)])
    found = figures(right, wrong, wrong)
    assert (found.mean_precision["full"]["average"], found.recall["full"]["0.5"]) == (33.33, 33.33)
    assert figures(right, right, wrong).recall["full"]["0.5"] == 66.67


def slow_precision(windows: Sequence[tuple[float, float, float]], true: Sequence[Window], least: float) -> float:
    """Average precision from lists: the area under the precision that each recall allows."""
    order = sorted(range(len(windows)), key=lambda place: (-windows[place][2], place))
    free, points, hits = list(range(len(true))), [(0.0, 0.0)], 0
    for rank, place in enumerate(order, start=1):
        start, end, _ = windows[place]
        best, most = None, -1.0
        for one in free:
            shared = min(end, true[one][1]) - max(start, true[one][0])
            union = (end - start) + (true[one][1] - true[one][0]) - max(shared, 0)
            iou = max(shared, 0) / union if union else 0.0
            if iou >= least and iou >= most:
                best, most = one, iou
        if best is not None:
            free.remove(best)
            hits += 1
        points.append((hits / len(true), hits / rank))
    area = 0.0
    for (before, _), (recall, _) in pairwise(points):
        if recall > before:
            area += (recall - before) * max(precision for at, precision in points if at >= recall)
    return area


def test_windows_against_plain_loops() -> None:
    draw = random.Random(0)

    def spans(most: int) -> list[Window]:
        return [(float(start), float(start + draw.randint(1, 8))) for start in draw.choices(range(12), k=draw.randint(1, most))]

    for _ in range(400):
        true, windows = spans(4), [(*span, draw.choice((0.1, 0.5, 0.9))) for span in spans(10)]
        expected = [slow_precision(windows, true, least) for least in IOUS]
        assert window_precision(windows, true) == pytest.approx(expected), (windows, true)


# Highlights


def test_clip_precision_by_hand() -> None:
    def of(scores: list[float], *salient: int) -> float:
        return clip_precision(np.array(scores), np.array([n in salient for n in range(len(scores))]))

    # Second and fourth: precision 1/2 at both recalls.
    assert of([0.9, 0.8, 0.7, 0.6], 1, 3) == 0.5
    # First and third: 1, and 2/3.
    assert of([0.9, 0.8, 0.7, 0.6], 0, 2) == pytest.approx((1 + 2 / 3) / 2)
    # A wrong one first: 1/2, then 2/3, of which the higher counts at both recalls.
    assert of([0.9, 0.8, 0.7], 1, 2) == pytest.approx(2 / 3)
    # Four clips tie, two of them salient: one step of precision 3/5, and not two of it.
    assert of([0.9, 0.5, 0.5, 0.5, 0.5], 0, 1, 2) == pytest.approx((1 + 3 / 5) / 2)
    assert of([0.0, 0.0, 0.0], 1) == pytest.approx(1 / 3)
    assert (of([0.1, 0.2]), of([0.1, 0.2], 0, 1)) == (0, 1)


def test_highlights_against_plain_loops() -> None:
    draw = np.random.default_rng(0)
    for _ in range(400):
        clips = int(draw.integers(1, 12))
        scores, salient = draw.integers(0, 5, clips) / 4, draw.random(clips) < draw.random()
        best: dict[int, float] = {}
        for bar in set(scores.tolist()):
            hits = sum(bool(right) and score >= bar for score, right in zip(scores, salient, strict=True))
            best[hits] = max(best.get(hits, 0.0), hits / sum(score >= bar for score in scores))
        steps = [max(value for at, value in best.items() if at >= hits) for hits in best if hits]
        assert clip_precision(scores, salient) == pytest.approx(sum(steps) / len(steps) if steps else 0)


def test_annotators_and_levels() -> None:
    annotated = np.array([[4, 0, 0], [2, 3, 0], [0, 0, 0]])
    # The second clip scores best: Fair for two annotators, Good for one, VeryGood for none.
    scores = np.array([0.5, 0.9, 0.1])
    assert highlight_values(scores, annotated, 2) == (pytest.approx((1 + 1 + 0) / 3), 1)
    assert highlight_values(scores, annotated, 3) == (pytest.approx((1 / 2 + 1 + 0) / 3), 1)
    assert highlight_values(scores, annotated, 4) == (pytest.approx((1 / 2 + 0 + 0) / 3), 0)


@pytest.mark.parametrize(
    ("saliency", "hit", "precision"),
    [
        # Beyond the two annotated clips: left out.
        ([0.1, 0.5, 9.0], 1, 1),
        # One is missing and gets 0, which is above the other: the official code does so.
        ([-0.5], 1, 1),
        ([0.5], 0, 1 / 2),
    ],
)
def test_more_or_fewer_clips_than_are_annotated(saliency: list[float], hit: float, precision: float) -> None:
    caption = Caption("1", "v", "x", 0.0, 4.0, saliency=((0,), (4,)))
    values = moment_values([caption], [MomentPrediction([], np.array(saliency))])
    assert values.highlights[0].tolist() == [[precision, hit]] * 3


def test_relevance_of_clips_is_its_mean_in_them() -> None:
    curve, edges = np.array([1.0, 2.0, 4.0]), [0.0, 1.0, 3.0, 6.0]
    assert clip_scores(curve, edges, 3).tolist() == [1.5, 3.0, 4.0]
    # A clip beyond the last part has the relevance of that part, and one before the first that of the first.
    assert clip_scores(curve, edges, 5).tolist() == [1.5, 3.0, 4.0, 4.0, 4.0]
    assert clip_scores(np.array([1.0, 2.0]), [3.0, 4.0, 6.0], 3).tolist() == [1.0, 1.0, 2.0]


# Files

TRUTH = [
    {"qid": 1, "query": "a", "duration": 6, "vid": "v_0.0_6.0", "relevant_windows": [[0, 4]], "relevant_clip_ids": [0, 1]},
    {"qid": 2, "query": "b", "duration": 6, "vid": "v_0.0_6.0", "relevant_windows": [[2, 6]], "relevant_clip_ids": [1, 2]},
]
SALIENCY = [[[4, 4, 4], [2, 0, 3]], [[3, 3, 3], [1, 1, 1]]]
PREDICTED = [
    {"qid": 1, "pred_relevant_windows": [[0, 4, 0.9]], "pred_saliency_scores": [0.9, 0.5, 0.1]},
    {"qid": 2, "pred_relevant_windows": [[0, 2, 0.9], [2, 6, 0.1]], "pred_saliency_scores": [0.9, 0.5, 0.1]},
]


def lines(name: str, values: Sequence[Any]) -> Path:
    Path(name).write_text("".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in values))
    return Path(name)


@pytest.fixture
def truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lines("truth.jsonl", [{**one, "saliency_scores": of} for one, of in zip(TRUTH, SALIENCY, strict=True)])


def test_moments_of_another_program_are_scored(prvr: Prvr, truth: Path) -> None:
    answer = prvr("score", lines("predicted.jsonl", PREDICTED), "--truth", truth, "--json")
    assert answer.status == 0, answer.err
    # Windows: 1 and 1/2 of mAP, 1 and 0 of R@1. Good: annotators agree on the best clip of the first alone; there precision is
    # 1, 1 and 1, and for the other 1/2 each.
    assert answer.json["brief"]["MR-full-mAP"] == 75
    assert answer.json["brief"]["MR-full-R1@0.7"] == 50
    assert answer.json["HL-min-Good"] == {"HL-mAP": 75.0, "HL-Hit1": 50.0}
    assert answer.json["queries"] == {"full": 2, "short": 2, "highlights": 2}
    plain = prvr("score", "predicted.jsonl", "--truth", truth).out.splitlines()
    assert plain[0] == (
        "windows in the right video, all: mAP 75.00, at IoU .5 75.00, at .75 75.00; R@1 at IoU .5 50.00, at .7 50.00 (2 queries)"
    )
    assert plain[-1].startswith("highlights, at least VeryGood: mAP ")
    # Without saliency, and in another order.
    windows_alone = [{name: one[name] for name in ("qid", "pred_relevant_windows")} for one in reversed(PREDICTED)]
    value = prvr("score", lines("windows.jsonl", windows_alone), "--truth", truth, "--json").json
    assert value["full"] == answer.json["full"]
    assert not [name for name in value if name.startswith("HL")]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{", "predicted.jsonl, line 2: this is not JSON"),
        ({**PREDICTED[1], "qid": 1}, "predicted.jsonl, line 2: an earlier line has the prediction of qid 1"),
        ({**PREDICTED[1], "qid": None}, "line 2: 'qid' is None"),
        ({**PREDICTED[1], "qid": 3}, "predicted.jsonl has no line for 1 of 2 queries of truth.jsonl, 'qid2' first"),
        (
            {**PREDICTED[1], "pred_relevant_windows": [[0, 1, 0.5], [6, 2, 0.1]]},
            "line 2: window 2 ends at 2 s, before it starts at 6 s",
        ),
        ({**PREDICTED[1], "pred_relevant_windows": [[0, 1]]}, "line 2: window 1 is [0, 1], expected [start, end, score]"),
        ({**PREDICTED[1], "pred_relevant_windows": [[0, 1, float("nan")]]}, "line 2: window 1 is nan, expected a number"),
        ({**PREDICTED[1], "pred_relevant_windows": None}, "line 2: 'pred_relevant_windows': expected a list, got None"),
        (
            {**PREDICTED[1], "pred_saliency_scores": [0.5, float("nan")]},
            "line 2: 'pred_saliency_scores' is nan, expected a number",
        ),
        ({**PREDICTED[1], "pred_saliency_scores": []}, "line 2: 'pred_saliency_scores' is empty"),
        (
            {**PREDICTED[1], "pred_saliency_scores": None},
            "line 2: no 'pred_saliency_scores'; write them for every query, or for none",
        ),
    ],
)
def test_broken_predictions(prvr: Prvr, truth: Path, second: object, message: str) -> None:
    says(prvr("score", lines("predicted.jsonl", [PREDICTED[0], second]), "--truth", truth), message)


def test_files_that_do_not_fit(prvr: Prvr, truth: Path) -> None:
    path = lines("predicted.jsonl", [*PREDICTED, {**PREDICTED[0], "qid": 9}])
    says(prvr("score", path, "--truth", truth), "predicted.jsonl has 1 queries that truth.jsonl lacks, 'qid9' first")
    path = lines("predicted.jsonl", PREDICTED)
    says(prvr("score", path), "predicted.jsonl does not say which moments are right; add --truth")
    says(prvr("score", path, "--truth", truth, "--groups"), "--groups is for scores of videos")
    says(prvr("score", path, "--truth", truth, "--save", "x.npz"), "--save is for scores of videos")
    says(prvr("compare", path, "x.npz"), "predicted.jsonl holds predicted moments, which rank no videos")
    says(prvr("score", lines("empty.jsonl", []), "--truth", truth), "empty.jsonl holds no predictions")
    says(prvr("score", path, "--truth", "none.jsonl"), "none.jsonl")
    bare = lines("bare.jsonl", [{name: one[name] for name in ("qid", "query", "duration", "vid")} for one in TRUTH])
    says(
        prvr("score", lines("windows.jsonl", [{**one, "pred_saliency_scores": None} for one in PREDICTED]), "--truth", bare),
        "bare.jsonl has no 'relevant_windows'",
    )
    says(prvr("score", path, "--truth", lines("twice.jsonl", [*TRUTH, TRUTH[0]])), "twice.jsonl: 1 ids occur twice")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"saliency_scores": [[1, 1, 1]]}, "2 'relevant_clip_ids' and 1 'saliency_scores'"),
        ({"relevant_clip_ids": [0, 3]}, "'relevant_clip_ids' has 3, expected clips from 0 to 2, each once"),
        ({"relevant_clip_ids": [1, 1]}, "'relevant_clip_ids' has 1, expected clips from 0 to 2, each once"),
        ({"relevant_clip_ids": None}, "'relevant_clip_ids': expected a list"),
        ({"saliency_scores": [[1, 1, 1], [5, 1, 1]]}, "'saliency_scores' of clip 1 is [5, 1, 1], expected numbers from 0 to 4"),
        ({"saliency_scores": [[1, 1, 1], [1, 1]]}, "'saliency_scores' has 2 to 3 scores a clip"),
    ],
)
def test_broken_saliency(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "highlight_val_release.jsonl"
    path.write_text(json.dumps({**TRUTH[0], "saliency_scores": SALIENCY[0], **change}) + "\n")
    with pytest.raises(DataError) as caught:
        load_annotations("qvhighlights", path, "val")
    assert message in str(caught.value)
    assert "line 1" in str(caught.value)


def test_saliency_is_of_segments_and_of_packages(truth: Path) -> None:
    segments = load_annotations("qvhighlights", truth, "val")
    assert segments.captions[0].saliency == ((4, 4, 4), (2, 0, 3), (0, 0, 0))
    # The source of a segment is longer than what was annotated.
    assert load_annotations("qvhighlights_sources", truth, "val").captions[0].saliency == ()
    bare = [Caption(f"{n}", caption.video, caption.text) for n, caption in enumerate(segments.captions)]
    package = type(segments)("qvhighlights", "val", tuple(bare), segments.video_ids)
    assert annotate(package, segments).captions[1].saliency == ((0, 0, 0), (3, 3, 3), (1, 1, 1))


# A model's own


def test_a_model_on_a_package_with_annotations(prvr: Prvr, tmp_path: Path) -> None:
    package = write_toy(tmp_path, collection="qvhighlights", train_videos=3, test_videos=4)
    draw = random.Random(0)
    told = []
    for number, line in enumerate(map(json.loads, (package / "annotations" / "test.jsonl").read_text().splitlines())):
        of_clips = [[draw.randint(0, 4) for _ in range(3)] for _ in range(int(line["duration"] / 2))]
        about = {"qid": number, "query": line["desc"], "vid": line["vid_name"], "duration": line["duration"]}
        salient = {"relevant_clip_ids": list(range(len(of_clips))), "saliency_scores": of_clips}
        told.append({**about, "relevant_windows": [line["ts"]], **salient})
    annotations = tmp_path / "highlight_val_release.jsonl"
    annotations.write_text("".join(json.dumps(line) + "\n" for line in told))

    command = ("evaluate", package, package, "--zero-shot", "strong", "--annotations", annotations)
    answer = prvr(*command, "--save", tmp_path / "scores.npz", "--json")
    assert answer.status == 0, answer.err
    found = answer.json["moments_as_qvhighlights"]
    # Where a query has one moment, R@1 in the right video is what the first span reaches.
    assert found["full"]["MR-R1"]["0.5"] == pytest.approx(answer.json["localised"]["0.5"], abs=0.005)
    assert found["queries"]["highlights"] == found["queries"]["full"] == len(told)
    assert prvr("score", tmp_path / "scores.npz", "--json").json == answer.json
    plain = prvr(*command).out.splitlines()
    assert sum(line.startswith(("windows in the right video", "highlights, at least")) for line in plain) >= 5
    assert any(line.startswith("video and moment (VCMR) at IoU>=0.7: R@1/5/10/100 ") for line in plain)

    # The same from the features: cosines of frames, in seconds of video, in clips of two seconds.
    data = open_split(package, "test", annotations=annotations)
    given = teacher_features(package, "strong")
    saliency = []
    for caption in data.captions:
        frames, sentence = (
            np.asarray(rows[id], np.float64) for rows, id in ((given.frames, caption.video), (given.text, caption.id))
        )
        cosines = (frames @ sentence[0]) / np.linalg.norm(frames, axis=1) / np.linalg.norm(sentence[0])
        length = data.durations[caption.video]
        moments = np.arange(0, int(length / 2) * 2, 0.001) + 0.0005
        saliency.append(cosines[(moments / length * len(frames)).astype(int)].reshape(-1, 2000).mean(1))
    for name, least in LEVELS.items():
        values = [highlight_values(of, np.array(c.saliency), least) for c, of in zip(data.captions, saliency, strict=True)]
        precision, hit = np.mean(values, axis=0)
        assert found[f"HL-min-{name}"] == {
            "HL-mAP": pytest.approx(100 * precision, abs=0.3),
            "HL-Hit1": pytest.approx(100 * hit, abs=0.005),
        }


def test_saved_values_of_another_shape_are_refused(prvr: Prvr, tmp_path: Path) -> None:
    package = write_toy(tmp_path, train_videos=3, test_videos=3)
    assert prvr("evaluate", package, package, "--zero-shot", "strong", "--save", tmp_path / "a.npz").status == 0
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "b.npz", **{**arrays, "window_values": arrays["window_values"][:, 0]})
    says(prvr("score", tmp_path / "b.npz"), "b.npz", "window_values of shape")
    arrays["window_values"][2, 1, 3] = np.inf
    np.savez(tmp_path / "c.npz", **arrays)
    says(
        prvr("score", tmp_path / "c.npz"),
        f"window_values of query {json.loads(arrays['about'].tobytes())['queries'][2]!r} is infinite",
    )


def test_the_commands_of_the_document(prvr: Prvr, truth: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "highlights.md").read_text()
    lines("predictions.jsonl", PREDICTED)
    truth.rename("highlight_val_release.jsonl")
    (write_toy("packages", collection="qvhighlights", train_videos=2, test_videos=2)).rename("qvhighlights")
    shutil.copytree("qvhighlights/annotations", "annotations")
    toy = (Path("annotations") / "test.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in toy]
    windows = ("qid", "desc_id"), ("query", "desc"), ("duration", "duration"), ("vid", "vid_name")
    as_windows = [{ours: one[its] for ours, its in windows} | {"relevant_windows": [one["ts"]]} for one in told]
    lines("annotations/highlight_val_release.jsonl", as_windows)
    commands = re.findall(r"^\$ (.*)$", document, flags=re.M)
    assert len(commands) == 2
    for command in commands:
        answer = prvr(*shlex.split(command)[1:])
        assert answer.status == 0, (command, answer.err)
        assert "windows in the right video, all: mAP " in answer.out
