"""Lines of moment retrieval with windows: qid, query, duration, vid, relevant_windows [[start, end], ...].

QVHighlights has this format, with `relevant_clip_ids` and `saliency_scores` beside it, and moment retrieval toolkits convert
Charades-STA and TACoS to it. A query may have several windows, and a found moment is compared with the window that it
overlaps best, so every window is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prvr.datasets import Caption
from prvr.datasets.reading import Span, as_duration, as_list, as_span, as_text, json_lines, text_lines
from prvr.errors import DataError

CLIP_SECONDS = 2.0
# Of one video; four weeks.
MOST_CLIPS = 1 << 20


def read_windows(path: Path) -> tuple[list[Caption], dict[str, float]]:
    """Reads captions and durations of a file; an id is the name of a query's feature file in toolkits: qid7803, s30-d52_0."""
    captions: list[Caption] = []
    durations: dict[str, float] = {}
    for where, line in json_lines(text_lines(path)):
        video = as_text(f"{where}: 'vid'", line.get("vid"))
        duration = durations.setdefault(video, as_duration(f"{where}: 'duration'", line.get("duration")))
        # A test split may lack windows.
        given = as_list(f"{where}: 'relevant_windows'", line.get("relevant_windows", []))
        windows = [as_span(f"{where}: 'relevant_windows'", window, duration) for window in given]
        text = as_text(f"{where}: 'query'", line.get("query"))
        caption = Caption(query_id(where, line.get("qid")), video, text)
        captions.append(with_windows(caption, [w for w in windows if w is not None]))
    return captions, durations


def with_saliency(captions: Iterable[Caption], path: Path) -> list[Caption]:
    """The captions of a file of QVHighlights with the scores of their clips; others' files may have clips of another length."""
    known = {
        query_id(where, line.get("qid")): _saliency(where, line)
        for where, line in json_lines(text_lines(path))
        if "saliency_scores" in line
    }
    return [replace(caption, saliency=known.get(caption.id, ())) for caption in captions]


def with_windows(caption: Caption, windows: list[Span]) -> Caption:
    """The caption with these moments."""
    if not windows:
        return caption
    start, end = min(start for start, _ in windows), max(end for _, end in windows)
    return replace(caption, start=start, end=end, windows=tuple(sorted(windows)) if len(windows) > 1 else ())


def query_id(where: str, value: object) -> str:
    """The id of a query, from a number or a text: qid7803, s30-d52_0."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value):
        raise DataError(f"{where}: 'qid' is {value!r:.60}, expected a number or text")
    return value if isinstance(value, str) else f"qid{value}"


def _saliency(where: str, line: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    """The scores of every clip of two seconds; a clip that the line does not list has 0 from each annotator."""
    clips = as_list(f"{where}: 'relevant_clip_ids'", line.get("relevant_clip_ids"))
    given = as_list(f"{where}: 'saliency_scores'", line["saliency_scores"])
    count = int(as_duration(f"{where}: 'duration'", line.get("duration")) / CLIP_SECONDS)
    if count > MOST_CLIPS:
        raise DataError(f"{where}: 'duration' is {line['duration']!r:.60} seconds, too long for clips of {CLIP_SECONDS:g} s")
    if len(clips) != len(given):
        raise DataError(
            f"{where}: {len(clips)} 'relevant_clip_ids' and {len(given)} 'saliency_scores', expected one for each clip"
        )
    scores = dict[int, tuple[int, ...]]()
    for clip, of_clip in zip(clips, given, strict=True):
        if type(clip) is not int or not 0 <= clip < count or clip in scores:
            raise DataError(f"{where}: 'relevant_clip_ids' has {clip!r:.60}, expected clips from 0 to {count - 1}, each once")
        if not isinstance(of_clip, list) or not of_clip or any(type(one) is not int or not 0 <= one <= 4 for one in of_clip):
            raise DataError(f"{where}: 'saliency_scores' of clip {clip} is {of_clip!r:.60}, expected numbers from 0 to 4")
        scores[clip] = tuple(of_clip)
    annotators = {len(of_clip) for of_clip in scores.values()} or {1}
    if len(annotators) > 1:
        raise DataError(
            f"{where}: 'saliency_scores' has {min(annotators)} to {max(annotators)} scores a clip, expected equally many"
        )
    return tuple(scores.get(clip, (0,) * min(annotators)) for clip in range(count))
