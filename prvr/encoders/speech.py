"""Recognises speech with faster-whisper, on the sound that a player plays, window by window."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float

from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.errors import ModelError, SettingError, VideoError, nearest, require
from prvr.video.sound import read_sound

# Samples per second that Whisper reads.
RATE = 16_000
# Seconds that are recognised together. A window ends where it is quietest in its last part, so that no word is cut.
WINDOW, LAST_PART = 120, 30
# Seconds over which quietness is measured.
QUIET = 0.25
# The least mean log probability of a text's tokens. On five real clips, two with speech, -0.5 kept exactly what was said.
LEAST = -0.5
FILE = "model.bin"


@final
class SpeechReader:
    """Recognises speech; in the language that it finds in each window, if the model knows several.

    Args:
        model: the name of a model, which is downloaded the first time, or a folder of one in the format of CTranslate2.
        least: texts with a lower mean log probability are left out.

    Raises:
        MissingExtra: faster-whisper is not installed.
        SettingError: there is no model of that name.
        ModelError: the folder holds no model.
    """

    kind = "speech"

    def __init__(self, model: str, *, least: float = LEAST) -> None:
        self._whisper = require("faster_whisper", extra="speech")
        self._model, self._least = model, least
        folder = Path(model)
        if not math.isfinite(least) or least > 0:
            raise SettingError(f"the least log probability of speech is {least}; it is below 0, such as {LEAST}")
        if folder.is_dir():
            if not (folder / FILE).is_file():
                raise ModelError(f"{folder} is no Whisper model: it has no {FILE}; give a folder in the format of CTranslate2")
            with (folder / FILE).open("rb") as file:
                head = hashlib.sha256(file.read(1 << 20)).hexdigest()[:16]
            self._identity = f"{head} {(folder / FILE).stat().st_size}"
        elif model in self._whisper.available_models():
            self._identity = model
        elif "/" in model or "\\" in model:
            raise ModelError(f"no folder {model}; give the folder of a Whisper model, or the name of one, such as base")
        else:
            raise SettingError(f"no Whisper model is called {model!r}; {nearest(model, self._whisper.available_models())}")

    @property
    def setting(self) -> str:
        """What `prvr.encoders.text_readers.open_reader` opens it by."""
        folder = Path(self._model)
        return json.dumps({"model": str(folder.absolute()) if folder.is_dir() else self._model, "least": self._least})

    def made_of(self, paths: Sequence[Path]) -> str:
        """The model and the limit of its probability."""
        return json.dumps(["speech 1", self._identity, self._least])

    def read(self, paths: Sequence[Path], *, after: float) -> Iterator[TextsPart]:
        """Yields the texts of one window after another.

        Raises:
            VideoError: the video cannot be opened.
            ModelError: the model cannot be opened.
        """
        begin = after
        for samples in cut_into_windows(read_sound(paths[0], rate=RATE, after=after)):
            texts = self._recognise(samples, begin) if np.any(samples) else ()
            begin += len(samples) / RATE
            yield TextsPart(begin, texts)

    def _recognise(self, samples: Float[np.ndarray, "N"], begin: float) -> tuple[TimedText, ...]:
        whisper = self._recogniser
        try:
            return tuple(self._texts(whisper, samples, begin))
        # Libraries below raise what they like; other videos are read all the same.
        except Exception as problem:
            raise VideoError(
                f"its speech from second {begin:.0f} on cannot be recognised: {problem!r:.200}; run again"
            ) from problem

    def _texts(self, whisper: Any, samples: Float[np.ndarray, "N"], begin: float) -> Iterator[TimedText]:
        # Without the text before: one invented sentence would be repeated for ever.
        found, about = whisper.transcribe(samples, vad_filter=True, condition_on_previous_text=False)
        for one in found:
            text = " ".join(one.text.split())
            if text and one.avg_logprob > self._least:
                end = min(one.end, len(samples) / RATE)
                yield TimedText(
                    round(begin + min(one.start, end), 3),
                    round(begin + end, 3),
                    text,
                    self.kind,
                    round(math.exp(min(0.0, one.avg_logprob)), 4),
                    about.language,
                )

    @cached_property
    def _recogniser(self) -> Any:
        try:
            return self._whisper.WhisperModel(self._model, device="cpu", compute_type="int8")
        # From a file that is none, or a network that is none: libraries below raise what they like.
        except Exception as problem:
            reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
            raise ModelError(
                f"cannot open the Whisper model {self._model}: {reason:.200}; check its files or the network"
            ) from None


def cut_into_windows(blocks: Iterable[Float[np.ndarray, "_"]]) -> Iterator[Float[np.ndarray, "N"]]:
    """Yields sound in windows of at most WINDOW seconds and a block, each ending where its last part is quietest."""
    waiting: list[np.ndarray] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        while count >= WINDOW * RATE:
            samples = np.concatenate(waiting)
            cut = _quietest(samples)
            yield samples[:cut]
            waiting, count = [samples[cut:]], len(samples) - cut
    if count:
        yield np.concatenate(waiting)


def _quietest(samples: Float[np.ndarray, "N"]) -> int:
    """The middle of the quietest stretch among the last ones before WINDOW seconds, in samples."""
    length = int(QUIET * RATE)
    first = (WINDOW - LAST_PART) * RATE
    loudness = np.square(samples[first : WINDOW * RATE].reshape(-1, length)).mean(1)
    # Of several, the last one.
    place = len(loudness) - 1 - int(np.argmin(loudness[::-1]))
    return first + place * length + length // 2
