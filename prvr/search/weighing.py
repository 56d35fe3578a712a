"""Fits the weights of words and of meaning beside a picture on captions: logistic models of whether a video is the right one.

    logit P = intercept + a z + b strength        weight = b / a

z is the score of the picture in standard deviations over the videos, the strength that of words, or of meaning
(`TextMatch.strength`): each has a model of its own, as a video gains by the better of the two. No slope is below 0. The examples
are, for each caption, its own video and the best others by their pictures, words and meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from prvr.search.senses import Example, FusionWeights

# With fewer captions that somebody says a word of, nothing is fitted.
LEAST_CAPTIONS = 50
# Videos of each caption that are compared with its own one.
OTHERS = 50


@dataclass(frozen=True)
class Weighed:
    """The weights of texts now, and the number of captions that say so."""

    weights: FusionWeights
    captions: int


def weigh_senses(place: str | Path, *, device: str = "cpu", on_progress: Progress | None = None) -> Weighed:
    """Fits and keeps the weights of texts in an index, on captions.jsonl in the folder of its videos.

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
        if not isinstance(search.videos, Path):
            raise SettingError(f"weighing reads captions.jsonl of a folder of this machine, not of {search.videos}")
        held = set(search.index.ids)
        captions = [caption for caption in load(search.videos, "all").captions if caption.video in held]
        weighed = fit_weights(search, captions, on_progress=on_progress)
        texts.keep_weights(weighed.weights.to_json())
        return weighed
    finally:
        search.index.close()


def fit_weights(search: VideoSearch, captions: Sequence[Caption], *, on_progress: Progress | None = None) -> Weighed:
    """Fits the weights of texts, on captions of videos of an index; that of meaning if texts are found by it.

    Raises:
        DataError: too few captions have words in common with a text, or the pictures tell nothing about them.
    """
    examples: list[Example] = []
    right: list[bool] = []
    used = {"words": 0, "meaning": 0}
    for number, caption in enumerate(captions, start=1):
        found = search.senses.examples(search.encode(caption.text), caption.text, caption.video, OTHERS)
        has = {"words": any(one.words for one in found), "meaning": any(one.meaning for one in found)}
        if any(has.values()):
            used = {name: count + has[name] for name, count in used.items()}
            examples += found
            right += [one.video == caption.video for one in found]
        if on_progress is not None:
            on_progress("captions", number, len(captions))
    if max(used.values()) < LEAST_CAPTIONS:
        raise DataError(
            f"{max(used.values())} of {len(captions)} captions have words that are said or written in a video; {LEAST_CAPTIONS} "
            "are needed: write more captions, or leave the weight as it is"
        )
    fitted = {name: _fit(examples, name, right) for name, count in used.items() if count >= LEAST_CAPTIONS}
    return Weighed(replace(FusionWeights(), **fitted), max(used.values()))


def _fit(examples: Sequence[Example], name: str, right: Sequence[bool]) -> float:
    features = np.array([(one.picture, getattr(one, name)) for one in examples])
    _, per_deviation, per_strength = logistic(features, np.array(right))
    if per_deviation <= 0:
        raise DataError("the pictures tell nothing about these captions; check that they are of these videos, or train a model")
    return round(per_strength / per_deviation, 4)
