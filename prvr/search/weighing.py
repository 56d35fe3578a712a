"""Fits what words are worth beside a picture on captions: a logistic model of whether a video is the right one.

    logit P = intercept + a z + b strength        Worth(b / a)

z is the score of the picture in standard deviations over the videos, the strength that of words (`Said.strength`). No slope is
below 0. The examples are, for each caption,
its own video and the best others by their pictures and by their words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prvr.datasets import Caption
from prvr.datasets.folder import load
from prvr.errors import DataError, SettingError
from prvr.extract.extraction import Progress
from prvr.index.texts import require_texts
from prvr.methods.calibration import logistic
from prvr.search.asking import VideoSearch
from prvr.search.opening import open_index
from prvr.search.senses import Worth

# With fewer captions that somebody says a word of, nothing is fitted.
LEAST_CAPTIONS = 50
# Videos of each caption that are compared with its own one.
OTHERS = 50


@dataclass(frozen=True)
class Weighed:
    """What words are worth now, and the number of captions that say so."""

    worth: Worth
    captions: int


def weigh_senses(place: str | Path, *, device: str = "cpu", on_progress: Progress | None = None) -> Weighed:
    """Fits and keeps what words are worth in an index, on captions.jsonl in the folder of its videos.

    Raises:
        DataError: there are no captions, too few, or the pictures tell nothing about them.
        SettingError: the index holds no texts.
        ModelError: there is no index.
    """
    search = open_index(place, device=device)
    try:
        texts = require_texts(search.index, "weighing")
        if not texts.count():
            raise SettingError(f"the index in {place} holds no texts to weigh; index the folder with subtitles or --speech first")
        held = set(search.index.ids)
        captions = [caption for caption in load(search.videos, "all").captions if caption.video in held]
        weighed = fit_worth(search, captions, on_progress=on_progress)
        texts.keep_worth(weighed.worth.to_json())
        return weighed
    finally:
        search.index.close()


def fit_worth(search: VideoSearch, captions: Sequence[Caption], *, on_progress: Progress | None = None) -> Weighed:
    """Fits what words are worth, on captions of videos of an index.

    Raises:
        DataError: too few captions have words in common with a text, or the pictures tell nothing about them.
    """
    rows: list[tuple[float, float]] = []
    right: list[bool] = []
    used = 0
    for number, caption in enumerate(captions, start=1):
        examples = search.senses.examples(search.encode(caption.text), caption.text, caption.video, OTHERS)
        if any(strength for *_, strength in examples):
            used += 1
            rows += [(seen, strength) for _, seen, strength in examples]
            right += [video == caption.video for video, *_ in examples]
        if on_progress is not None:
            on_progress("captions", number, len(captions))
    if used < LEAST_CAPTIONS:
        raise DataError(
            f"{used} of {len(captions)} captions have words that are said or written in a video; {LEAST_CAPTIONS} are needed: "
            "write more captions, or leave the weight as it is"
        )
    _, per_deviation, per_strength = logistic(np.array(rows), np.array(right))
    if per_deviation <= 0:
        raise DataError("the pictures tell nothing about these captions; check that they are of these videos, or train a model")
    return Weighed(Worth(round(per_strength / per_deviation, 4)), used)
