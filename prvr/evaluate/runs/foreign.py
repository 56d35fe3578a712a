"""Runs of other programs: TREC's run format with qrels, and plain score matrices with files of ids."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float

from prvr.datasets.reading import text_lines
from prvr.errors import DataError, nearest
from prvr.evaluate.runs import Run, as_scores, read_arrays
from prvr.evaluate.runs.truth import Truth, facts_of, located
from prvr.files import write_whole

DEPTH = 1000
QUERIES_AT_ONCE = 512


def write_trec(run: Run, path: Path, *, depth: int = DEPTH) -> None:
    """The `depth` best videos of each query as lines `query Q0 video rank score system`; those that are unranked are left out.

    Scores are written so that they read back as the same numbers. Ranks of tied videos follow the gallery's order: no
    metric should be read from them.

    Raises:
        DataError: an id that TREC's format cannot hold.
    """
    _check_words(run)
    tag = "_".join(run.system.split()) or "prvr"
    parts = []
    for start in range(0, len(run.queries), QUERIES_AT_ONCE):
        block = run.scores[start : start + QUERIES_AT_ONCE]
        order = np.argsort(-block, axis=1, kind="stable")[:, :depth]
        for query, places, values in zip(
            run.queries[start:], order.tolist(), np.take_along_axis(block, order, 1).tolist(), strict=False
        ):
            parts += [
                f"{query} Q0 {run.videos[place]} {rank} {value!r} {tag}\n"
                for rank, (place, value) in enumerate(zip(places, values, strict=True), start=1)
                if value != -math.inf
            ]
    write_whole(path, "".join(parts).encode())


def write_qrels(run: Run, path: Path) -> None:
    """The correct videos as lines `query 0 video 1`, a query's own video first.

    Raises:
        DataError: an id that TREC's format cannot hold.
    """
    _check_words(run)
    correct = [[run.videos[place]] for place in run.target]
    for row, place in run.also.tolist():
        correct[row].append(run.videos[place])
    pairs = ((query, video) for query, videos in zip(run.queries, correct, strict=True) for video in videos)
    write_whole(path, "".join(f"{query} 0 {video} 1\n" for query, video in pairs).encode())


def read_trec(path: Path, truth: Mapping[str, Truth], *, gallery: Sequence[str] | None = None) -> Run:
    """A run from TREC's format. A video that a query does not name is unranked, behind all that it does.

    Queries of the truth that the run does not answer have found nothing; they are counted. Ranks in the file are not
    read: scores say the order.

    Args:
        gallery: all videos that were searched; by default those that run and truth name, which may be fewer.

    Raises:
        DataError: a line in another form, a score that is not a number, a pair that stands twice, or an unknown id.
    """
    queries = tuple(truth)
    named = dict.fromkeys(video for of_query in truth.values() for video in of_query.videos)
    known = None if gallery is None else {video: place for place, video in enumerate(gallery)}
    columns = {video: place for place, video in enumerate(named)} if known is None else known
    row_of = {query: row for row, query in enumerate(queries)}
    rows, places, values, name = array("q"), array("q"), array("d"), ""
    for where, query, video, value, system in _answers(path):
        if query not in row_of:
            raise DataError(f"{where}: the truth has no query {query!r}; {nearest(query, queries)}")
        if known is not None and video not in known:
            raise DataError(f"{where}: there is no video {video!r} in the gallery; {nearest(video, known)}")
        rows.append(row_of[query])
        places.append(columns.setdefault(video, len(columns)))
        values.append(value)
        name = system
    if not rows:
        raise DataError(f"{path} holds no answers; it takes lines QUERY Q0 VIDEO RANK SCORE SYSTEM")
    row, place, answered = np.array(rows), np.array(places), np.array(values)
    pair = row * len(columns) + place
    first = np.unique(pair, return_index=True)[1]
    if len(first) < len(pair):
        again = int(np.setdiff1d(np.arange(len(pair)), first)[0])
        where = next(islice(_answers(path), again, None))[0]
        raise DataError(f"{where}: query and video stand in an earlier line, too; delete one of the two")
    # Not always float32: rounding could tie what the file tells apart.
    narrow = (answered.astype(np.float32) == answered).all()
    scores = np.full((len(queries), len(columns)), -np.inf, np.float32 if narrow else np.float64)
    scores[row, place] = answered
    return _run(scores, queries, tuple(columns), truth, system=name, path=path)


def read_matrix(path: Path, truth: Mapping[str, Truth], *, queries: Sequence[str], gallery: Sequence[str]) -> Run:
    """A run from a score matrix (Q, V) as `.npy`, or as the array `scores` of an `.npz`, with the ids of its axes.

    Raises:
        DataError: the file is broken, its shape is not that of the ids, or a score is not a number.
    """
    arrays = read_arrays(path)
    if "scores" not in arrays:
        raise DataError(f"{path} holds {', '.join(sorted(arrays))} and no array 'scores'; name it so")
    try:
        scores = as_scores(arrays["scores"])
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
    if scores.shape != (len(queries), len(gallery)):
        raise DataError(
            f"{path} has shape {scores.shape}, the ids are {len(queries)} queries and {len(gallery)} videos; "
            "give the ids of its rows and of its columns"
        )
    return _run(scores, tuple(queries), tuple(gallery), truth, system=path.stem, path=path)


def read_ids(path: Path) -> tuple[str, ...]:
    """Ids of a text file, one a line.

    Raises:
        DataError: there is no such file, or it is empty.
    """
    if not path.is_file():
        raise DataError(f"no ids at {path}; write one id a line")
    ids = tuple(line for _, line in text_lines(path))
    if not ids:
        raise DataError(f"{path} holds no ids; write one id a line")
    return ids


def _run(
    scores: Float[np.ndarray, "Q V"],
    queries: tuple[str, ...],
    videos: tuple[str, ...],
    truth: Mapping[str, Truth],
    *,
    system: str,
    path: Path,
) -> Run:
    try:
        target, also = located(queries, videos, truth)
        return Run(scores, queries, videos, target, also, facts_of(queries, truth), system=system)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None


def _answers(path: Path) -> Iterator[tuple[str, str, str, float, str]]:
    for where, line in text_lines(path):
        parts = line.split()
        try:
            query, _, video, _, score, system = parts
            value = float(score)
        except ValueError:
            raise DataError(f"{where}: {line[:60]!r} is no answer; it takes QUERY Q0 VIDEO RANK SCORE SYSTEM") from None
        if math.isnan(value):
            raise DataError(f"{where}: the score of video {video!r} for query {query!r} is not a number; delete the line")
        yield where, query, video, value, system


def _check_words(run: Run) -> None:
    spaced = next((id for id in (*run.queries, *run.videos) if id.split() != [id]), None)
    if spaced is not None:
        raise DataError(
            f"the id {spaced!r} has blanks in it, which TREC's format cannot hold; rename it, or keep the run as .npz"
        )
