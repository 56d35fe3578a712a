"""The correct videos of queries, from a file beside the scores.

The file is TREC qrels (`query 0 video relevance`), a published caption list (`VIDEO#enc#NUMBER text`), or JSON lines: a
folder's `captions.jsonl`, annotations of a release as `datasets.tvr` reads them, or labels with several correct videos
(`query_id` and `gt_video_ids`).
"""

from __future__ import annotations

import math
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from prvr.datasets import Caption, Dataset
from prvr.datasets.positives import add_labels
from prvr.datasets.reading import Span, as_duration, as_list, as_span, as_text, json_object, text_lines
from prvr.errors import DataError
from prvr.evaluate.saved_scores import QueryFacts, SavedScores

EXPECTED = "qrels, a caption list, or JSON lines with video and text, with vid_name and desc, or with query_id and gt_video_ids"

MOST_NAMED = 8


class Truth(NamedTuple):
    """The correct videos of a query, its own first, and further facts from the file.

    span: the moment in its own video, in seconds. length: of that video, in seconds. kind: the type of query.
    """

    videos: tuple[str, ...]
    text: str | None = None
    span: Span | None = None
    length: float | None = None
    kind: str | None = None


def read_truth(path: str | Path) -> dict[str, Truth]:
    """Reads the correct videos by query id, from a file in any of the forms.

    Raises:
        DataError: there is no such file, a line has none of the forms, or an entry is duplicate.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no truth at {path}; it is {EXPECTED}")
    if zipfile.is_zipfile(path):
        raise DataError(f"{path} is an archive, not a truth; pass labels of further correct videos as --also {path}")
    lines = list(text_lines(path))
    if not lines:
        raise DataError(f"{path} is empty; expected {EXPECTED}")
    if _is_qrels(lines[0][1]):
        return _qrels(lines)
    truth: dict[str, Truth] = {}
    count: Counter[str] = Counter()
    for where, line in lines:
        id, found = _object(where, line, count) if line.startswith("{") else _caption(where, line)
        if id in truth:
            raise DataError(f"{where}: the id {id!r} is used by an earlier line; delete one of the two")
        truth[id] = found
    return truth


def with_truth(saved: SavedScores, truth: Mapping[str, Truth]) -> SavedScores:
    """The scores with other correct videos; a query keeps its own video if that is still correct.

    Texts are replaced if the truth has them all. Lengths, ratios and kinds are added where they were unknown.

    Raises:
        DataError: a query has no correct video, or one that is not in the gallery.
    """
    target, also = locate_correct(saved.queries, saved.videos, truth, own=saved.target)
    # Most facts are about the query's own video, and apply to no other.
    known = saved.facts if (target == saved.target).all() else QueryFacts(texts=saved.facts.texts, kinds=saved.facts.kinds)
    added = facts_of(saved.queries, truth)
    facts = replace(
        known,
        texts=added.texts or known.texts,
        kinds=_fill_kinds(known.kinds, added.kinds),
        lengths=_fill_numbers(known.lengths, added.lengths),
        ratios=_fill_numbers(known.ratios, added.ratios),
    )
    return replace(saved, target=target, also=also, facts=facts)


def with_labels(saved: SavedScores, path: str | Path) -> tuple[SavedScores, int]:
    """The scores with further correct videos from labels (see `datasets.positives`), and the number of labelled queries.

    Raises:
        DataError: the labels are missing or broken, the texts of the queries are unknown, or no query has a label.
    """
    if saved.facts.texts is None:
        raise DataError(
            f"labels such as {path} are matched by the words of a query, which are unknown here; "
            "add a --truth that has them, such as a caption list"
        )
    known: dict[int, tuple[str, ...]] = {}
    for row, place in saved.also.tolist():
        known[row] = (*known.get(row, ()), saved.videos[place])
    queries = enumerate(zip(saved.queries, saved.target.tolist(), saved.facts.texts, strict=True))
    captions = [Caption(id, saved.videos[place], text, also=known.get(row, ())) for row, (id, place, text) in queries]
    dataset, count = add_labels(Dataset("", saved.split, tuple(captions), saved.videos), path)
    column = {video: place for place, video in enumerate(saved.videos)}
    also = [(row, column[video]) for row, caption in enumerate(dataset.captions) for video in caption.also]
    return replace(saved, also=np.array(also, np.int64).reshape(-1, 2)), count


def locate_correct(
    queries: tuple[str, ...], videos: tuple[str, ...], truth: Mapping[str, Truth], *, own: Int[np.ndarray, "Q"] | None = None
) -> tuple[Int[np.ndarray, "Q"], Int[np.ndarray, "P 2"]]:
    """The column of each query's own video, and the pairs (query, column) of the further correct videos.

    Raises:
        DataError: a query has no correct video, or one that is not in the gallery.
    """
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
                "use the truth of the split that was searched"
            )
        columns = list(dict.fromkeys(column[video] for video in truth[id].videos))
        target[row] = own[row] if own is not None and own[row] in columns else columns[0]
        also += [(row, place) for place in columns if place != target[row]]
    return target, np.array(also, np.int64).reshape(-1, 2)


def facts_of(queries: tuple[str, ...], truth: Mapping[str, Truth]) -> QueryFacts:
    """The facts that the truth has about the queries: texts if it has them for all, other facts if it has them for any."""
    known = [truth[id] for id in queries]
    texts = tuple(one.text for one in known if one.text is not None)
    kinds = tuple(one.kind for one in known)
    lengths = np.array([math.nan if one.length is None else one.length for one in known])
    moments = np.array([math.nan if one.span is None else one.span[1] - one.span[0] for one in known])
    return QueryFacts(
        texts=texts if len(texts) == len(known) else None,
        kinds=kinds if any(kinds) else None,
        lengths=None if np.isnan(lengths).all() else lengths,
        ratios=None if np.isnan(moments / lengths).all() else moments / lengths,
    )


def _fill_kinds(known: tuple[str | None, ...] | None, added: tuple[str | None, ...] | None) -> tuple[str | None, ...] | None:
    if known is None or added is None:
        return added if known is None else known
    return tuple(other if kind is None else kind for kind, other in zip(known, added, strict=True))


def _fill_numbers(known: Float[np.ndarray, "Q"] | None, added: Float[np.ndarray, "Q"] | None) -> Float[np.ndarray, "Q"] | None:
    if known is None or added is None:
        return added if known is None else known
    return np.where(np.isnan(known), added, known)


def _is_qrels(line: str) -> bool:
    parts = line.split()
    # The id of a caption has a #, and its text may begin with a number.
    return len(parts) == 4 and _is_whole(parts[1]) and (_is_whole(parts[3]) or "#" not in parts[0])


def _is_whole(text: str) -> bool:
    return re.fullmatch("[-+]?[0-9]{1,9}", text) is not None


def _qrels(lines: list[tuple[str, str]]) -> dict[str, Truth]:
    found: dict[str, dict[str, int]] = {}
    for where, line in lines:
        if not _is_qrels(line):
            raise DataError(f"{where}: expected QUERY 0 VIDEO RELEVANCE, got {line[:60]!r}")
        query, _, video, relevance = line.split()
        if not _is_whole(relevance):
            raise DataError(
                f"{where}: the relevance of video {video!r} for query {query!r} is {relevance[:40]!r}, not a whole number; "
                "write 1 for a correct video, or 0"
            )
        if video in found.setdefault(query, {}):
            raise DataError(f"{where}: duplicate pair of query {query!r} and video {video!r}; delete one line")
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
        raise DataError(f"{where} has {', '.join(map(repr, [*value][:MOST_NAMED])) or 'nothing in it'}; expected {EXPECTED}")
    video = as_text(f"{where}: 'video'", value["video"])
    # The id that a folder's caption has by default.
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
    """The query of an annotation.

    Args:
        text, kind: the keys of its text and of its type.
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
        raise DataError(f"{where}: expected {EXPECTED}, got {line[:60]!r}")
    return id, Truth((video,), text.strip())
