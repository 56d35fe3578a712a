"""The figures of QVHighlights: mAP and R@1 over windows of time, mAP and Hit@1 of highlights (Lei et al., NeurIPS 2021).

The video of a query is given; what is judged is where in it. Windows and clip scores of a query give values of this query, whose
means over queries are the figures, so that saved values are counted again without the model. docs/highlights.md has the rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from prvr.datasets import Caption
from prvr.evaluate.metrics import overlap

# The least overlaps, .5 to .95, by which a predicted and an annotated window agree.
IOUS = tuple(step / 100 for step in range(50, 100, 5))
# An annotated window is in a range if it is longer than the first number of seconds and at most as long as the second.
RANGES = {"full": (-math.inf, math.inf), "long": (30.0, math.inf), "middle": (10.0, 30.0), "short": (0.0, 10.0)}
WORDS_OF = {"full": "all", "long": "longer than 30 s", "middle": "of 10 to 30 s", "short": "of at most 10 s"}
# Windows of a prediction that count, the first ones.
MOST_WINDOWS = 10
# The score that an annotator gives at least to a clip of the level.
LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}


@dataclass(frozen=True)
class MomentPrediction:
    """The answer of a system to a query in its own video.

    windows: start and end in seconds, and score; the one that R@1 counts is the first.
    saliency: a score for each clip of two seconds from the start of the video; None if unknown.
    """

    windows: Sequence[tuple[float, float, float]]
    saliency: Float[np.ndarray, "C"] | None = None


class MomentValues(NamedTuple):
    """The values of Q queries.

    windows: for each of RANGES, the average precision at each of IOUS and last the IoU of the first window; NaN for a query
    without an annotated window in that range. highlights: for each of LEVELS, the average precision (mean over annotators) and
    the hit of the best clip, 0 or 1; NaN for a query without annotated saliency, or without a prediction of it.
    """

    windows: Float[np.ndarray, "Q R I"]
    highlights: Float[np.ndarray, "Q L 2"]


@dataclass(frozen=True)
class MomentFigures:
    """The figures in per cent, rounded to two decimals as the official code does.

    mean_precision, recall: by range and IoU; `average` is the mean over IoUs. A range in which no query has a window is left
    out. highlights: mAP and Hit1 by level; empty without annotated saliency. queries: how many have a window in each range, and
    how many have saliency.
    """

    mean_precision: dict[str, dict[str, float]]
    recall: dict[str, dict[str, float]]
    highlights: dict[str, tuple[float, float]]
    queries: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The figures under the names and in the layout of the official files."""
        ranges = {name: {"MR-mAP": mean, "MR-R1": self.recall[name]} for name, mean in self.mean_precision.items()}
        levels = {f"HL-min-{name}": {"HL-mAP": mean, "HL-Hit1": hit} for name, (mean, hit) in self.highlights.items()}
        full = self.mean_precision["full"]
        brief = {f"MR-full-R1@{least}": self.recall["full"][least] for least in ("0.5", "0.7")}
        brief |= {"MR-full-mAP": full["average"], "MR-full-mAP@0.5": full["0.5"], "MR-full-mAP@0.75": full["0.75"]}
        brief |= {f"MR-{name}-mAP": of["average"] for name, of in self.mean_precision.items() if name != "full"}
        brief |= {f"{level}-{name[3:]}": value for level, of in levels.items() for name, value in of.items()}
        return {"brief": brief, **levels, **ranges, "queries": dict(self.queries)}

    def __str__(self) -> str:
        """A line for each range and each level."""
        lines = []
        for name, of in self.mean_precision.items():
            best = self.recall[name]
            mean = f"mAP {of['average']:.2f}, at IoU .5 {of['0.5']:.2f}, at .75 {of['0.75']:.2f}"
            recall = f"R@1 at IoU .5 {best['0.5']:.2f}, at .7 {best['0.7']:.2f}"
            lines.append(f"windows in the right video, {WORDS_OF[name]}: {mean}; {recall} ({self.queries[name]} queries)")
        for name, (mean_precision, hit) in self.highlights.items():
            count = self.queries["highlights"]
            lines.append(f"highlights, at least {name}: mAP {mean_precision:.2f}, Hit@1 {hit:.2f} ({count} queries)")
        return "\n".join(lines)


def moment_values(captions: Sequence[Caption], predictions: Sequence[MomentPrediction | None]) -> MomentValues:
    """The values of each query.

    Args:
        predictions: one for each caption; None if unknown.
    """
    windows = np.full((len(captions), len(RANGES), len(IOUS) + 1), np.nan)
    highlights = np.full((len(captions), len(LEVELS), 2), np.nan)
    for row, (caption, prediction) in enumerate(zip(captions, predictions, strict=True)):
        if prediction is None:
            continue
        for place, (longer, longest) in enumerate(RANGES.values()):
            true = [moment for moment in caption.moments if longer < moment[1] - moment[0] <= longest]
            if len(true) == len(caption.moments) and place:
                windows[row, place] = windows[row, 0]
            elif true:
                windows[row, place] = [*window_precision(prediction.windows, true), first_overlap(prediction.windows, true)]
        if caption.saliency and prediction.saliency is not None:
            scores = fit_clips(prediction.saliency, len(caption.saliency))
            for place, least in enumerate(LEVELS.values()):
                highlights[row, place] = highlight_values(scores, np.array(caption.saliency), least)
    return MomentValues(windows, highlights)


def moment_figures(values: MomentValues) -> MomentFigures | None:
    """The figures of the queries that have values; None if no query has an annotated window and a prediction."""
    mean_precision, recall, queries = {}, {}, {}
    names = [f"{least:g}" for least in IOUS]
    for name, column in zip(RANGES, values.windows.transpose(1, 0, 2), strict=True):
        known = column[~np.isnan(column[:, 0])]
        if not len(known):
            continue
        precision = known[:, :-1].mean(0)
        mean_precision[name] = dict(zip(names, map(_percent, precision), strict=True)) | {"average": _percent(precision.mean())}
        recall[name] = {key: _percent(np.mean(known[:, -1] >= least)) for key, least in zip(names, IOUS, strict=True)}
        queries[name] = len(known)
    if not queries:
        return None
    salient = values.highlights[~np.isnan(values.highlights[:, 0, 0])]
    if not len(salient):
        return MomentFigures(mean_precision, recall, {}, queries)
    highlights = {
        name: (_percent(precision), _percent(hit)) for name, (precision, hit) in zip(LEVELS, salient.mean(0), strict=True)
    }
    return MomentFigures(mean_precision, recall, highlights, queries | {"highlights": len(salient)})


def window_precision(
    windows: Sequence[tuple[float, float, float]], true: Sequence[tuple[float, float]]
) -> Float[np.ndarray, "I"]:
    """The average precision of a query's windows at each of IOUS: the area under the precision that recall allows.

    The first MOST_WINDOWS windows count, by descending score; of equal scores the earlier one first. Each takes, of the
    annotated windows that overlap it enough and are not taken, the one that it overlaps most, the later one of equals.
    """
    found = sorted(windows[:MOST_WINDOWS], key=lambda window: -window[2])
    least, right = np.array(IOUS), np.zeros((len(IOUS), len(found)), bool)
    free = np.ones((len(IOUS), len(true)), bool)
    for place, window in enumerate(found):
        overlaps = [overlap(window[:2], one) for one in true]
        for best in sorted(range(len(true)), key=lambda one: (overlaps[one], one), reverse=True):
            takes = free[:, best] & ~right[:, place] & (overlaps[best] >= least)
            right[:, place] |= takes
            free[:, best] &= ~takes
    precision = right.cumsum(1) / np.arange(1, len(found) + 1)
    # The precision at a recall is the best one at this recall or a higher one.
    allowed = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (allowed * right).sum(1) / len(true)


def first_overlap(windows: Sequence[tuple[float, float, float]], true: Sequence[tuple[float, float]]) -> float:
    """The IoU of the first window with the annotated one that it overlaps most; 0 without a window."""
    return max(overlap(windows[0][:2], one) for one in true) if windows else 0.0


def fit_clips(scores: Float[np.ndarray, "_"], clips: int) -> Float[np.ndarray, "C"]:
    """The scores of as many clips as are annotated: further ones are left out, missing ones get the score 0.

    0 is what the official code gives them, whatever the scale of the others is.
    """
    return np.pad(scores[:clips], (0, max(0, clips - len(scores))))


def highlight_values(scores: Float[np.ndarray, "C"], annotated: Int[np.ndarray, "C A"], least: int) -> tuple[float, float]:
    """The average precision of the clips, the mean over annotators, and whether any annotator agrees with the best clip."""
    salient = annotated >= least
    precision = np.mean([clip_precision(scores, of_annotator) for of_annotator in salient.T])
    return float(precision), float(salient[scores.argmax()].any())


def clip_precision(scores: Float[np.ndarray, "C"], salient: np.ndarray) -> float:
    """The mean of the precision that recall allows, over the recalls that scores reach; 0 if no clip is salient.

    Clips of equal scores are one step: several salient ones among them count once.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    hits = salient[order].cumsum()[last]
    reached = np.flatnonzero(np.diff(hits, prepend=0))
    if not len(reached):
        return 0.0
    precision = (hits / (last + 1))[reached]
    return float(np.maximum.accumulate(precision[::-1]).mean())


def _percent(share: float) -> float:
    return float(f"{100 * share:.2f}")
