"""Scores of other programs: TREC's ranking format with qrels, and plain score matrices with files of ids."""

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
from prvr.evaluate.saved_scores import SavedScores, as_scores, read_arrays
from prvr.evaluate.saved_scores.truth import Truth, facts_of, locate_correct
from prvr.files import write_whole

DEPTH = 1000
QUERIES_AT_ONCE = 512


def write_trec(saved: SavedScores, path: Path, *, depth: int = DEPTH) -> None:
    """Writes the `depth` best videos of each query as lines `query Q0 video rank score system`, without unranked videos.

    The scores read back as the same numbers. Tied videos have ranks in the order of the gallery: compute no metric from them.

    Raises:
        DataError: an id that TREC's format cannot hold.
    """
    _check_words(saved)
    tag = "_".join(saved.system.split()) or "prvr"
    parts = []
    for start in range(0, len(saved.queries), QUERIES_AT_ONCE):
        block = saved.scores[start : start + QUERIES_AT_ONCE]
        order = np.argsort(-block, axis=1, kind="stable")[:, :depth]
        for query, places, values in zip(
            saved.queries[start:], order.tolist(), np.take_along_axis(block, order, 1).tolist(), strict=False
        ):
            parts += [
                f"{query} Q0 {saved.videos[place]} {rank} {value!r} {tag}\n"
                for rank, (place, value) in enumerate(zip(places, values, strict=True), start=1)
                if value != -math.inf
            ]
    write_whole(path, "".join(parts).encode())


def write_qrels(saved: SavedScores, path: Path) -> None:
    """Writes the correct videos as lines `query 0 video 1`, a query's own video first.

    Raises:
        DataError: an id that TREC's format cannot hold.
    """
    _check_words(saved)
    correct = [[saved.videos[place]] for place in saved.target]
    for row, place in saved.also.tolist():
        correct[row].append(saved.videos[place])
    pairs = ((query, video) for query, videos in zip(saved.queries, correct, strict=True) for video in videos)
    write_whole(path, "".join(f"{query} 0 {video} 1\n" for query, video in pairs).encode())


def read_trec(path: Path, truth: Mapping[str, Truth], *, gallery: Sequence[str] | None = None) -> SavedScores:
    """Reads a ranking in TREC's format. Videos that a query does not list are unranked, behind all that it lists.

    Queries of the truth that the file does not list are counted as having found nothing. Ranks in the file are ignored; the
    scores give the order.

    Args:
        gallery: all videos that were searched; by default the videos in the file and the truth, which may be fewer.

    Raises:
        DataError: a line in another form, a score that is not a number, a duplicate pair, or an unknown id.
    """
    queries = tuple(truth)
    named = dict.fromkeys(video for of_query in truth.values() for video in of_query.videos)
    known = None if gallery is None else {video: place for place, video in enumerate(gallery)}
    columns = {video: place for place, video in enumerate(named)} if known is None else known
    row_of = {query: row for row, query in enumerate(queries)}
    rows, places, values, name = array("q"), array("q"), array("d"), ""
    for where, query, video, value, system in _ranking(path):
        if query not in row_of:
            raise DataError(f"{where}: the truth has no query {query!r}; {nearest(query, queries)}")
        if known is not None and video not in known:
            raise DataError(f"{where}: there is no video {video!r} in the gallery; {nearest(video, known)}")
        rows.append(row_of[query])
        places.append(columns.setdefault(video, len(columns)))
        values.append(value)
        name = system
    if not rows:
        raise DataError(f"{path} holds no ranking; expected lines QUERY Q0 VIDEO RANK SCORE SYSTEM")
    row, place, value_of = np.array(rows), np.array(places), np.array(values)
    pair = row * len(columns) + place
    first = np.unique(pair, return_index=True)[1]
    if len(first) < len(pair):
        again = int(np.setdiff1d(np.arange(len(pair)), first)[0])
        where = next(islice(_ranking(path), again, None))[0]
        raise DataError(f"{where}: duplicate pair of query and video; delete this line or the earlier one")
    # float32 only if it is exact: rounding could tie scores that differ in the file.
    with np.errstate(over="ignore"):
        narrow = (value_of.astype(np.float32) == value_of).all()
    scores = np.full((len(queries), len(columns)), -np.inf, np.float32 if narrow else np.float64)
    scores[row, place] = value_of
    return _with_truth(scores, queries, tuple(columns), truth, system=name, path=path)


def read_matrix(path: Path, truth: Mapping[str, Truth], *, queries: Sequence[str], gallery: Sequence[str]) -> SavedScores:
    """Reads a score matrix (Q, V) from an `.npy`, or from the array `scores` of an `.npz`; the ids of its axes are given.

    Raises:
        DataError: the file is broken, its shape is not that of the ids, or a score is not a number.
    """
    arrays = read_arrays(path)
    if "scores" not in arrays:
        raise DataError(f"{path} holds {', '.join(sorted(arrays))} and no array 'scores'; save the matrix under that name")
    try:
        scores = as_scores(arrays["scores"])
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
    if scores.shape != (len(queries), len(gallery)):
        raise DataError(
            f"{path} has shape {scores.shape}, the ids are {len(queries)} queries and {len(gallery)} videos; "
            "pass the ids of its rows and of its columns"
        )
    return _with_truth(scores, tuple(queries), tuple(gallery), truth, system=path.stem, path=path)


def read_ids(path: str | Path) -> tuple[str, ...]:
    """Reads ids from a text file, one a line.

    Raises:
        DataError: there is no such file, or it is empty.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no ids at {path}; write one id a line")
    ids = tuple(line for _, line in text_lines(path))
    if not ids:
        raise DataError(f"{path} holds no ids; write one id a line")
    return ids


def _with_truth(
    scores: Float[np.ndarray, "Q V"],
    queries: tuple[str, ...],
    videos: tuple[str, ...],
    truth: Mapping[str, Truth],
    *,
    system: str,
    path: Path,
) -> SavedScores:
    try:
        target, also = locate_correct(queries, videos, truth)
        return SavedScores(scores, queries, videos, target, also, facts_of(queries, truth), system=system)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None


def _ranking(path: Path) -> Iterator[tuple[str, str, str, float, str]]:
    for where, line in text_lines(path):
        parts = line.split()
        try:
            query, _, video, _, score, system = parts
            value = float(score)
        except ValueError:
            raise DataError(f"{where}: expected QUERY Q0 VIDEO RANK SCORE SYSTEM, got {line[:60]!r}") from None
        if not math.isfinite(value):
            raise DataError(
                f"{where}: the score of video {video!r} for query {query!r} is not a number ({score[:40]}); write a "
                "finite score, or delete the line: a video without a line is ranked last"
            )
        yield where, query, video, value, system


def _check_words(saved: SavedScores) -> None:
    spaced = next((id for id in (*saved.queries, *saved.videos) if id.split() != [id]), None)
    if spaced is not None:
        raise DataError(
            f"the id {spaced!r} has blanks, which TREC's format does not allow; rename it, or save the scores as .npz"
        )
