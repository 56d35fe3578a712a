"""Which videos are correct for a query, from a file beside the run.

It may be qrels of TREC (`query 0 video relevance`), a published caption list (`VIDEO#enc#NUMBER text`), or JSON lines: a
folder's `captions.jsonl`, annotations of a release as `datasets.tvr` reads them, or labels with several
correct videos (`query_id` and `gt_video_ids`).
"""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from prvr.datasets import Caption, Dataset
from prvr.datasets.positives import labelled
from prvr.datasets.reading import Span, as_duration, as_list, as_span, as_text, json_object, text_lines
from prvr.errors import DataError
from prvr.evaluate.runs import Facts, Run

TAKES = "qrels, a caption list, or JSON lines with video and text, with vid_name and desc, or with query_id and gt_video_ids"

MOST_NAMED = 8


class Truth(NamedTuple):
    """The correct videos of a query, its own first, and what else the file tells of it.

    span: the moment in its own video, in seconds. length: of that video, in seconds. kind: the type of query.
    """

    videos: tuple[str, ...]
    text: str | None = None
    span: Span | None = None
    length: float | None = None
    kind: str | None = None


def read_truth(path: str | Path) -> dict[str, Truth]:
    """Correct videos by the id of the query, from a file in any of the forms.

    Raises:
        DataError: there is no such file, a line is in none of the forms, or something stands twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no truth at {path}; it takes {TAKES}")
    if zipfile.is_zipfile(path):
        raise DataError(f"{path} is an archive, which says no truth; labels of further correct videos go with --also {path}")
    lines = list(text_lines(path))
    if not lines:
        raise DataError(f"{path} holds no lines; it takes {TAKES}")
    if _is_qrels(lines[0][1]):
        return _qrels(lines)
    truth: dict[str, Truth] = {}
    count: Counter[str] = Counter()
    for where, line in lines:
        id, found = _object(where, line, count) if line.startswith("{") else _caption(where, line)
        if id in truth:
            raise DataError(f"{where}: the id {id!r} is taken by an earlier line; delete one of the two")
        truth[id] = found
    return truth


def with_truth(run: Run, truth: Mapping[str, Truth]) -> Run:
    """The run with other correct videos; a query's own video stays its own where it is correct still.

    Texts are the truth's where it tells them all. Lengths, ratios and kinds fill in what the run does not know.

    Raises:
        DataError: a query without a correct video, or one that is not in the gallery.
    """
    target, also = located(run.queries, run.videos, truth, own=run.target)
    # Most facts are about the video that was the query's own before.
    known = run.facts if (target == run.target).all() else Facts(texts=run.facts.texts, kinds=run.facts.kinds)
    told = facts_of(run.queries, truth)
    facts = replace(
        known,
        texts=told.texts or known.texts,
        kinds=_known_kinds(known.kinds, told.kinds),
        lengths=_known_numbers(known.lengths, told.lengths),
        ratios=_known_numbers(known.ratios, told.ratios),
    )
    return replace(run, target=target, also=also, facts=facts)


def with_labels(run: Run, path: str | Path) -> tuple[Run, int]:
    """The run with further correct videos from labels, as `datasets.positives` reads them, and how many queries have a label.

    Raises:
        DataError: the labels are not there or broken, the run knows no texts, or none of them has a label.
    """
    if run.facts.texts is None:
        raise DataError(
            f"labels such as {path} are found by the words of a query, which this run does not know; "
            "give a --truth that has them, such as a caption list"
        )
    known: dict[int, tuple[str, ...]] = {}
    for row, place in run.also.tolist():
        known[row] = (*known.get(row, ()), run.videos[place])
    asked = zip(run.queries, run.target.tolist(), run.facts.texts, strict=True)
    captions = [Caption(id, run.videos[place], text, also=known.get(row, ())) for row, (id, place, text) in enumerate(asked)]
    dataset, count = labelled(Dataset("", run.split, tuple(captions), run.videos), path)
    column = {video: place for place, video in enumerate(run.videos)}
    also = [(row, column[video]) for row, caption in enumerate(dataset.captions) for video in caption.also]
    return replace(run, also=np.array(also, np.int64).reshape(-1, 2)), count


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


def facts_of(queries: tuple[str, ...], truth: Mapping[str, Truth]) -> Facts:
    """What the truth tells of the queries: texts if it tells them all, the rest if it tells that of any."""
    told = [truth[id] for id in queries]
    texts = tuple(of.text for of in told if of.text is not None)
    kinds = tuple(of.kind for of in told)
    lengths = np.array([math.nan if of.length is None else of.length for of in told])
    moments = np.array([math.nan if of.span is None else of.span[1] - of.span[0] for of in told])
    return Facts(
        texts=texts if len(texts) == len(told) else None,
        kinds=kinds if any(kinds) else None,
        lengths=None if np.isnan(lengths).all() else lengths,
        ratios=None if np.isnan(moments / lengths).all() else moments / lengths,
    )


def _known_kinds(known: tuple[str | None, ...] | None, told: tuple[str | None, ...] | None) -> tuple[str | None, ...] | None:
    if known is None or told is None:
        return told if known is None else known
    return tuple(other if kind is None else kind for kind, other in zip(known, told, strict=True))


def _known_numbers(known: Float[np.ndarray, "Q"] | None, told: Float[np.ndarray, "Q"] | None) -> Float[np.ndarray, "Q"] | None:
    if known is None or told is None:
        return told if known is None else known
    return np.where(np.isnan(known), told, known)


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


def _object(where: str, line: str, count: Counter[str]) -> tuple[str, Truth]:
    """The query of a JSON line."""
    value = json_object(where, line)
    if "gt_video_ids" in value:
        return _label(where, value)
    if "vid_name" in value:
        return _annotation(where, value)
    if "video" not in value:
        raise DataError(f"{where} has {', '.join(map(repr, [*value][:MOST_NAMED])) or 'nothing in it'}; a truth takes {TAKES}")
    video = as_text(f"{where}: 'video'", value["video"])
    # As a folder's captions get their ids where they have none.
    id = as_text(f"{where}: 'id'", value.get("id", f"{video}#{count[video]}"))
    count[video] += 1
    span = [value.get("start"), value.get("end")]
    return id, _truth(where, video, value, text="text", span=None if span == [None, None] else span, kind="kind")


def _label(where: str, value: dict[str, Any]) -> tuple[str, Truth]:
    place = f"{where}: 'gt_video_ids'"
    videos = tuple(as_text(place, video) for video in as_list(place, value["gt_video_ids"]))
    text = as_text(f"{where}: 'caption'", value["caption"]) if "caption" in value else None
    return as_text(f"{where}: 'query_id'", value.get("query_id")), Truth(videos, text)


def _annotation(where: str, value: dict[str, Any]) -> tuple[str, Truth]:
    id = value.get("desc_id")
    # TVR numbers its queries.
    id = str(id) if isinstance(id, int) and not isinstance(id, bool) else as_text(f"{where}: 'desc_id'", id)
    video = as_text(f"{where}: 'vid_name'", value["vid_name"])
    return id, _truth(where, video, value, text="desc", span=value.get("ts"), kind="type")


def _truth(where: str, video: str, value: dict[str, Any], *, text: str, span: object, kind: str) -> Truth:
    """What a line tells of its query.

    Args:
        text, kind: the names under which the line has them.
    """
    length = None if value.get("duration") is None else as_duration(f"{where}: 'duration'", value["duration"])
    return Truth(
        videos=(video,),
        text=as_text(f"{where}: {text!r}", value.get(text)),
        span=None if span is None else as_span(f"{where}: the moment", span, length),
        length=length,
        kind=None if value.get(kind) is None else as_text(f"{where}: {kind!r}", value[kind]),
    )


def _caption(where: str, line: str) -> tuple[str, Truth]:
    id, _, text = line.partition(" ")
    video = id.partition("#")[0]
    if "#" not in id or not video or not text.strip():
        raise DataError(f"{where}: {line[:60]!r} says no truth; it takes {TAKES}")
    return id, Truth((video,), text.strip())
