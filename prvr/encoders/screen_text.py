"""Recognises what is written in the picture with RapidOCR, on frames that differ from the one before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float, UInt8

from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.errors import SettingError, require
from prvr.video import VideoReader

# Frames per second that are looked at.
RATE = 1.0
# The least confidence of a line. On 14 real frames without text, inventions had 0.54 to 0.70; drawn text had above 0.9.
LEAST = 0.8
# Frames are the same if no cell of CELLS x CELLS differs by more than this on average, in levels of 255.
CELLS, DIFFERS = 32, 6.0
# Longer sides of frames are reduced to this for recognition.
LONGEST = 1280
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
        """Yields the texts in the order of the time at which they are no longer shown.

        Raises:
            VideoError: the video cannot be read.
        """
        shown: dict[str, TimedText] = {}
        ended: list[TimedText] = []
        last: np.ndarray | None = None
        with VideoReader(paths[0], rate=RATE, after=after - 1 / RATE if after > 0 else None) as reader:
            for number, (time, frame) in enumerate(reader, start=1):
                cells = _cells(frame)
                if last is None or float(np.abs(cells - last).max()) > DIFFERS:
                    last = cells
                    lines = self._recognise(frame)
                    ended += [text for line, text in shown.items() if line not in lines]
                    began = {line: TimedText(time, time, line, self.kind, confidence) for line, confidence in lines.items()}
                    shown = {line: shown.get(line, text) for line, text in began.items()}
                shown = {line: replace(text, end=time + 1 / RATE) for line, text in shown.items()}
                # A part ends where nothing is shown, so that a later run, which begins there, misses no beginning.
                if number % PART == 0 and not shown:
                    yield TextsPart(time, tuple(ended))
                    ended = []
            end = max(reader.end, after)
        ended += [replace(text, end=min(text.end, end) if end > text.start else text.end) for text in shown.values()]
        yield TextsPart(end, tuple(ended))

    def _recognise(self, frame: UInt8[np.ndarray, "H W 3"]) -> dict[str, float]:
        """The lines of a frame, with their confidence."""
        step = -(-max(frame.shape[:2]) // LONGEST)
        # The network was trained on pictures with blue first.
        found = self._reader_of_text(np.ascontiguousarray(frame[::step, ::step, ::-1]))
        lines = zip(found.txts or (), found.scores or (), strict=True)
        return {text: round(float(score), 4) for line, score in lines if score > self._least and (text := " ".join(line.split()))}

    @cached_property
    def _reader_of_text(self) -> Any:
        return self._rapidocr.RapidOCR(params={"Global.log_level": "error", "Global.text_score": self._least})


def _cells(frame: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "_ _"]:
    """The mean brightness of the cells of a frame."""
    grey = frame.mean(2)
    rows, columns = (np.linspace(0, size, min(CELLS, size) + 1, dtype=int)[:-1] for size in grey.shape)
    sums = np.add.reduceat(np.add.reduceat(grey, rows, 0), columns, 1)
    counts = np.add.reduceat(np.add.reduceat(np.ones_like(grey), rows, 0), columns, 1)
    return np.asarray(sums / counts, np.float32)
