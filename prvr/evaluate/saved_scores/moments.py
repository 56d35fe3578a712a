"""Predicted moments of other programs, in the format of QVHighlights: JSON lines with qid, pred_relevant_windows [[start, end,
score], ...] in seconds, best first, and pred_saliency_scores, one for each clip of two seconds, if the program has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prvr.datasets import Caption
from prvr.datasets.reading import as_list, as_number, json_lines, make_dataset, text_lines
from prvr.datasets.windows import query_id, read_windows, with_saliency
from prvr.errors import DataError
from prvr.evaluate.qvhighlights import MomentFigures, MomentPrediction, moment_figures, moment_values


def score_moments(path: Path, truth: Path) -> MomentFigures:
    """Counts the figures of predicted moments.

    Args:
        truth: annotations in the format of QVHighlights; saliency is read from them if the predictions have it.

    Raises:
        DataError: a file or a line of it is broken, or the two have different queries.
    """
    predictions = read_predictions(path)
    captions: Sequence[Caption] = make_dataset(truth, "truth", "", *read_windows(truth)).captions
    known = {caption.id for caption in captions}
    missing = [caption.id for caption in captions if caption.id not in predictions]
    if missing:
        raise DataError(
            f"{path} has no line for {len(missing)} of {len(known)} queries of {truth}, {missing[0]!r} first; add them"
        )
    unknown = [id for id in predictions if id not in known]
    if unknown:
        raise DataError(
            f"{path} has {len(unknown)} queries that {truth} lacks, {unknown[0]!r} first; use the annotations of the same split"
        )
    if next(iter(predictions.values())).saliency is not None:
        captions = with_saliency(captions, truth)
    figures = moment_figures(moment_values(captions, [predictions[caption.id] for caption in captions]))
    if figures is None:
        raise DataError(f"{truth} has no 'relevant_windows' to compare with; use the annotations of a split that has them")
    return figures


def read_predictions(path: Path) -> dict[str, MomentPrediction]:
    """Reads predicted moments by query, under the ids that `read_windows` gives.

    Raises:
        DataError: there is no such file, a line is broken, a query occurs twice, or only some queries have saliency.
    """
    found: dict[str, MomentPrediction] = {}
    salient = None
    for where, line in json_lines(text_lines(path)):
        id = query_id(where, line.get("qid"))
        if id in found:
            raise DataError(f"{where}: an earlier line has the prediction of qid {line['qid']!r}; delete one of the two")
        given = as_list(f"{where}: 'pred_relevant_windows'", line.get("pred_relevant_windows"))
        windows = [_window(f"{where}: window {place}", window) for place, window in enumerate(given, start=1)]
        saliency = line.get("pred_saliency_scores")
        if salient is not None and (saliency is not None) != salient:
            lacks = "no" if salient else "earlier lines have no"
            raise DataError(f"{where}: {lacks} 'pred_saliency_scores'; write them for every query, or for none")
        salient = saliency is not None
        name = f"{where}: 'pred_saliency_scores'"
        scores = None if saliency is None else np.array([as_number(name, score) for score in as_list(name, saliency)])
        if scores is not None and not len(scores):
            raise DataError(f"{name} is empty; write a score for each clip of two seconds")
        found[id] = MomentPrediction(windows, scores)
    if not found:
        raise DataError(f"{path} holds no predictions; expected JSON lines with qid and pred_relevant_windows")
    return found


def _window(where: str, window: object) -> tuple[float, float, float]:
    if not isinstance(window, list) or len(window) != 3:
        raise DataError(f"{where} is {window!r:.60}, expected [start, end, score]")
    start, end, score = (as_number(where, number) for number in window)
    if end < start:
        raise DataError(f"{where} ends at {end:g} s, before it starts at {start:g} s; write [start, end, score]")
    return start, end, score
