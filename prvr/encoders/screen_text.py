"""Recognises what is written in the picture with RapidOCR, on frames that differ from the one before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float, UInt8

from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.errors import SettingError, VideoError, require
from prvr.video import VideoReader

# Frames per second that are looked at.
RATE = 1.0
# The least confidence of a line. On 14 real frames without text, inventions had 0.54 to 0.70; drawn text had above 0.9.
LEAST = 0.8
# Frames are the same if no cell of CELLS x CELLS differs by more than this on average, in levels of 255.
CELLS, DIFFERS = 32, 6.0
# Longer sides of frames are reduced to this for recognition.
LONGEST = 1280
# Letters and digits of a line; of patterns, single ones are recognised with 0.88.
LEAST_SIGNS = 2
# Frames after which texts are given on.
PART = 60


@final
class ScreenTextReader:
    """Recognises lines of text in frames; a line that stays is one text.

    Args:
        least: lines of a lower confidence are left out.

    Raises:
        MissingExtra: RapidOCR is not installed.
        SettingError: `least` is not from 0 to 1.
    """

    kind = "screen"

    def __init__(self, *, least: float = LEAST) -> None:
        self._rapidocr = require("rapidocr", extra="text")
        self._least = least
        if not 0 <= least <= 1:
            raise SettingError(f"the least confidence of texts in the picture is {least}; it is from 0 to 1, such as {LEAST}")

    @property
    def setting(self) -> str:
        """What `prvr.encoders.text_readers.open_reader` opens it by."""
        return json.dumps({"least": self._least})

    def made_of(self, paths: Sequence[Path]) -> str:
        """The version of the models, and the limit of confidence."""
        from importlib.metadata import version

        return json.dumps(["screen 1", version("rapidocr"), self._least])

    def read(self, paths: Sequence[Path], *, after: float) -> Iterator[TextsPart]:
        """Yields the texts of PART frames after another; what is shown longer goes on as a text of the next part.

        Raises:
            VideoError: the video cannot be read.
        """
        shown = _Shown()
        with VideoReader(paths[0], rate=RATE, after=after - 1 / RATE if after > 0 else None) as reader:
            for number, (time, frame) in enumerate(reader, start=1):
                if shown.differs(frame):
                    shown.change(time, self._recognise(frame))
                if number % PART == 0:
                    yield TextsPart(time + 1 / RATE, shown.close(time + 1 / RATE))
            yield TextsPart(max(reader.end, after), shown.close(reader.end))

    def _recognise(self, frame: UInt8[np.ndarray, "H W 3"]) -> dict[str, float]:
        """The lines of a frame, with their confidence."""
        step = -(-max(frame.shape[:2]) // LONGEST)
        # The network was trained on pictures with blue first.
        reader = self._reader_of_text
        try:
            found = reader(np.ascontiguousarray(frame[::step, ::step, ::-1]))
        # Libraries below raise what they like; other videos are read all the same.
        except Exception as problem:
            raise VideoError(f"text in its picture cannot be recognised: {problem!r:.200}; run again") from problem
        boxes = () if found.boxes is None else found.boxes
        parts = [
            (np.asarray(box, np.float32), " ".join(text.split()), float(score))
            for box, text, score in zip(boxes, found.txts or (), found.scores or (), strict=True)
            if score > self._least
        ]
        return {line: round(score, 4) for line, score in _join_lines(parts) if sum(map(str.isalnum, line)) >= LEAST_SIGNS}

    @cached_property
    def _reader_of_text(self) -> Any:
        return self._rapidocr.RapidOCR(params={"Global.log_level": "error", "Global.text_score": self._least})


class _Shown:
    """The lines that are shown now, and those that were."""

    def __init__(self) -> None:
        self._cells: np.ndarray | None = None
        self._began: dict[str, TimedText] = {}
        self._ended: list[TimedText] = []

    def differs(self, frame: UInt8[np.ndarray, "H W 3"]) -> bool:
        """Whether a frame is not like the last one of which this was said."""
        cells = _cells(frame)
        if self._cells is not None and float(np.abs(cells - self._cells).max()) <= DIFFERS:
            return False
        self._cells = cells
        return True

    def change(self, time: float, lines: Mapping[str, float]) -> None:
        """From a time on, these lines are shown, each with its confidence."""
        self._ended += [replace(text, end=time) for line, text in self._began.items() if line not in lines]
        began = {line: TimedText(time, time, line, "screen", confidence) for line, confidence in lines.items()}
        self._began = {line: self._began.get(line, text) for line, text in began.items()}

    def close(self, time: float) -> tuple[TimedText, ...]:
        """All texts up to a time, at which those that are shown end; the next frame is looked at anew."""
        self.change(max(time, *(text.start for text in self._began.values()), 0.0), {})
        ended, self._ended, self._cells = self._ended, [], None
        return tuple(sorted(ended, key=lambda text: text.start))


def _join_lines(parts: Sequence[tuple[Float[np.ndarray, "4 2"], str, float]]) -> Iterator[tuple[str, float]]:
    """The texts of boxes beside each other as lines, each with the least confidence of its parts."""
    lines: list[list[tuple[np.ndarray, str, float]]] = []
    for part in sorted(parts, key=lambda part: part[0][:, 1].mean()):
        middle = part[0][:, 1].mean()
        last = lines[-1][-1][0][:, 1] if lines else None
        if last is not None and last.min() < middle < last.max():
            lines[-1].append(part)
        else:
            lines.append([part])
    for line in lines:
        line.sort(key=lambda part: part[0][:, 0].min())
        yield " ".join(text for _, text, _ in line), min(score for *_, score in line)


def _cells(frame: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "_ _ 3"]:
    """The mean colours of the cells of a frame."""
    rows, columns = (np.linspace(0, size, min(CELLS, size) + 1, dtype=int) for size in frame.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(frame, rows[:-1], 0, dtype=np.float32), columns[:-1], 1)
    return np.asarray(sums / np.diff(rows)[:, None, None] / np.diff(columns)[:, None], np.float32)
