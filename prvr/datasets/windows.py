"""Lines of moment retrieval with windows: qid, query, duration, vid, relevant_windows [[start, end], ...].

QVHighlights has this format, and moment retrieval toolkits convert Charades-STA and TACoS to it. A query may have several
windows, and a found moment is compared with the window that it overlaps best, so every window is kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prvr.datasets import Caption
from prvr.datasets.reading import Span, as_duration, as_list, as_span, as_text, json_lines, text_lines
from prvr.errors import DataError


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
        captions.append(with_windows(Caption(_id(where, line.get("qid")), video, text), [w for w in windows if w is not None]))
    return captions, durations


def with_windows(caption: Caption, windows: list[Span]) -> Caption:
    """The caption with these moments."""
    if not windows:
        return caption
    start, end = min(start for start, _ in windows), max(end for _, end in windows)
    return replace(caption, start=start, end=end, windows=tuple(sorted(windows)) if len(windows) > 1 else ())


def _id(where: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value):
        raise DataError(f"{where}: 'qid' is {value!r:.60}, expected a number or text")
    return value if isinstance(value, str) else f"qid{value}"
