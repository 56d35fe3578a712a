"""Which videos are correct for a query, from a file beside the run.

It may be qrels of TREC (`query 0 video relevance`), a `captions.jsonl` of a folder, a published caption list
(`VIDEO#enc#NUMBER text`), or labels with several correct videos (JSON lines with `query_id` and `gt_video_ids`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from prvr.datasets.reading import as_list, as_text, json_object, text_lines
from prvr.errors import DataError
from prvr.runs import Run


class Truth(NamedTuple):
    """The correct videos of a query, its own first, and what it says if the file tells."""

    videos: tuple[str, ...]
    text: str | None = None


def read_truth(path: str | Path) -> dict[str, Truth]:
    """Correct videos by the id of the query, from a file in any of the four forms.

    Raises:
        DataError: there is no such file, a line is in none of the forms, or something stands twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no truth at {path}; it takes qrels, a captions.jsonl, a caption list, or lines with gt_video_ids")
    lines = list(text_lines(path))
    if not lines:
        raise DataError(f"{path} holds no lines; it takes qrels, a captions.jsonl, a caption list, or lines with gt_video_ids")
    if _is_qrels(lines[0][1]):
        return _qrels(lines)
    truth: dict[str, Truth] = {}
    count: Counter[str] = Counter()
    for where, line in lines:
        id, found = _labels(where, line, count) if line.startswith("{") else _caption(where, line)
        if id in truth:
            raise DataError(f"{where}: the id {id!r} is taken by an earlier line; delete one of the two")
        truth[id] = found
    return truth


def with_truth(run: Run, truth: Mapping[str, Truth]) -> Run:
    """The run with other correct videos; a query's own video stays its own where it is correct still.

    Raises:
        DataError: a query without a correct video, or one that is not in the gallery.
    """
    target, also = located(run.queries, run.videos, truth, own=run.target)
    facts = replace(run.facts, texts=texts_of(run.queries, truth) or run.facts.texts)
    if (target != run.target).any():
        # These are about the video that was the query's own before.
        facts = replace(facts, lengths=None, ratios=None, overlaps=None, any_overlaps=None)
    return replace(run, target=target, also=also, facts=facts)


def located(
    queries: tuple[str, ...], videos: tuple[str, ...], truth: Mapping[str, Truth], *, own: Int[np.ndarray, "Q"] | None = None
) -> tuple[Int[np.ndarray, "Q"], Int[np.ndarray, "P 2"]]:
    """Each query's own video as its column, and the pairs of query and column of the others that are correct."""
    missing = [id for id in queries if id not in truth or not truth[id].videos]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(queries)} queries have no correct video, {missing[0]!r} first; add them to the truth"
        )
    column = {video: place for place, video in enumerate(videos)}
    target, also = np.zeros(len(queries), np.int64), []
    for row, id in enumerate(queries):
        unknown = next((video for video in truth[id].videos if video not in column), None)
        if unknown is not None:
            raise DataError(
                f"video {unknown!r}, correct for query {id!r}, is not in the gallery of {len(videos)} videos; "
                "give the truth of the split that was searched"
            )
        columns = list(dict.fromkeys(column[video] for video in truth[id].videos))
        target[row] = own[row] if own is not None and own[row] in columns else columns[0]
        also += [(row, place) for place in columns if place != target[row]]
    return target, np.array(also, np.int64).reshape(-1, 2)


def texts_of(queries: tuple[str, ...], truth: Mapping[str, Truth]) -> tuple[str, ...] | None:
    """What the queries say; None unless the truth tells it of all."""
    texts = tuple(text for text in (truth[id].text for id in queries) if text is not None)
    return texts if len(texts) == len(queries) else None


def _is_qrels(line: str) -> bool:
    parts = line.split()
    return len(parts) == 4 and _is_whole(parts[1]) and _is_whole(parts[3])


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _qrels(lines: list[tuple[str, str]]) -> dict[str, Truth]:
    found: dict[str, dict[str, int]] = {}
    for where, line in lines:
        if not _is_qrels(line):
            raise DataError(f"{where}: {line[:60]!r} is no line of qrels; it takes QUERY 0 VIDEO RELEVANCE")
        query, _, video, relevance = line.split()
        if video in found.setdefault(query, {}):
            raise DataError(f"{where}: query {query!r} and video {video!r} stand twice; delete one of the two")
        found[query][video] = int(relevance)
    return {query: Truth(tuple(video for video, relevance in videos.items() if relevance > 0)) for query, videos in found.items()}


def _labels(where: str, line: str, count: Counter[str]) -> tuple[str, Truth]:
    label = json_object(where, line)
    if "gt_video_ids" in label:
        videos = [
            as_text(f"{where}: 'gt_video_ids'", video) for video in as_list(f"{where}: 'gt_video_ids'", label["gt_video_ids"])
        ]
        text = as_text(f"{where}: 'caption'", label["caption"]) if "caption" in label else None
        return as_text(f"{where}: 'query_id'", label.get("query_id")), Truth(tuple(videos), text)
    video = as_text(f"{where}: 'video'", label.get("video"))
    # As a folder's captions get their ids where they have none.
    id = as_text(f"{where}: 'id'", label.get("id", f"{video}#{count[video]}"))
    count[video] += 1
    return id, Truth((video,), as_text(f"{where}: 'text'", label.get("text")))


def _caption(where: str, line: str) -> tuple[str, Truth]:
    id, _, text = line.partition(" ")
    video = id.partition("#")[0]
    if "#" not in id or not video or not text.strip():
        raise DataError(f"{where}: {line[:60]!r} says no truth; it takes qrels, JSON, or VIDEO#enc#NUMBER and a text")
    return id, Truth((video,), text.strip())
