"""The scores of a system for the queries of a split, saved so that figures can be counted again and compared.

A file is an `.npz` of plain arrays: scores (Q, V), target (Q,), also (P, 2), the numbers of QueryFacts where they are known, and
`about`, the bytes of a JSON object with the ids, the texts and the origin of the scores.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.errors import DataError, one_line
from prvr.evaluate.qvhighlights import IOUS, LEVELS, RANGES
from prvr.files import whole_file
from prvr.methods.calibration import Calibration, from_dict

FORMAT = 1
UNSAID = "not said"
# The names of a score's origin; frames, words and teachers are names of features, with their columns if known.
ORIGIN = ("collection", "method", "frames", "words", "teachers")
# The numbers of each query, by the further axes of their arrays.
NUMBERS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("lengths", "ratios", "overlaps", "any_overlaps"), ()),
    "window_values": (len(RANGES), len(IOUS) + 1),
    "highlight_values": (len(LEVELS), 2),
}
# What numpy and zipfile raise for files that are truncated, forged or of another kind is not documented: ValueError, TypeError,
# KeyError, OverflowError, MemoryError, RuntimeError, BadZipFile and errors of each compression are among it.
BROKEN = (Exception,)
# The first bytes of an .npy, of an .npz, and of an .npz without arrays; numpy takes every other file for a pickle.
MAGIC = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class QueryFacts:
    """QueryFacts about the queries beside their scores; NaN or None where unknown.

    texts: of the queries. kinds: the type of each query. lengths: of its own video, in seconds.
    ratios: moment-to-video ratio, (end - start) / length.
    overlaps: IoU of the best span found in the query's own video with the annotated moment that it overlaps best.
    any_overlaps: the same for the span that fits best, of all spans found there.
    window_values, highlight_values: as in `qvhighlights.MomentValues`.
    """

    texts: tuple[str, ...] | None = None
    kinds: tuple[str | None, ...] | None = None
    lengths: Float[np.ndarray, "Q"] | None = None
    ratios: Float[np.ndarray, "Q"] | None = None
    overlaps: Float[np.ndarray, "Q"] | None = None
    any_overlaps: Float[np.ndarray, "Q"] | None = None
    window_values: Float[np.ndarray, "Q R I"] | None = None
    highlight_values: Float[np.ndarray, "Q L 2"] | None = None


@dataclass(frozen=True)
class SavedScores:
    """The scores of every query for every video of the gallery; -inf for a video that was not ranked.

    target: the column of each query's own video. also: query and column of each further correct video.
    system: its name. protocol: how its best epoch was chosen, see docs/evaluation.md.
    calibration: turns its scores into probabilities; fitted on another split.
    untrained: the branches of its model that had learned nothing when it was saved (`prvr.train.branches`).
    origin: the collection, the method and the features that the scores are of, where known (`ORIGIN`).

    Raises:
        DataError: the parts do not fit together, a score is not a number, or an id is not unique.
    """

    scores: Float[np.ndarray, "Q V"]
    queries: tuple[str, ...]
    videos: tuple[str, ...]
    target: Int[np.ndarray, "Q"]
    also: Int[np.ndarray, "P 2"] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    facts: QueryFacts = field(default_factory=QueryFacts)
    system: str = ""
    split: str = ""
    protocol: str = UNSAID
    seed: int | None = None
    calibration: Calibration | None = None
    untrained: tuple[str, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_ids(self)
        _check_truth(self)
        _check_facts(self)

    @property
    def own(self) -> Bool[np.ndarray, "Q V"]:
        """True at each query's own video."""
        own = np.zeros(self.scores.shape, bool)
        own[np.arange(len(self.queries)), self.target] = True
        return own

    @property
    def correct(self) -> Bool[np.ndarray, "Q V"]:
        """True at every correct video."""
        correct = self.own
        correct[self.also[:, 0], self.also[:, 1]] = True
        return correct


def save_scores(saved: SavedScores, path: str | Path) -> None:
    """Writes scores to an `.npz` file, completely or not at all."""
    about = {
        "format": FORMAT,
        **{name: getattr(saved, name) for name in ("queries", "videos", "system", "split", "protocol", "seed")},
        **{name: getattr(saved.facts, name) for name in ("texts", "kinds")},
        "calibration": None if saved.calibration is None else saved.calibration.as_dict(),
        "untrained": saved.untrained,
        "origin": dict(saved.origin),
    }
    # A file name that is not UTF-8 has lone surrogates, which JSON escapes.
    arrays = {
        "scores": saved.scores,
        "target": saved.target,
        "also": saved.also,
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
    }
    known = {name: getattr(saved.facts, name) for name in NUMBERS if getattr(saved.facts, name) is not None}
    with whole_file(Path(path)) as file:
        np.savez(file, allow_pickle=False, **arrays, **known)


def load_scores(path: str | Path) -> SavedScores:
    """Reads scores from an `.npz` file; nothing in it is unpickled.

    Raises:
        DataError: there is no such file, or it is broken.
    """
    arrays = read_arrays(Path(path))
    if "about" not in arrays:
        raise DataError(
            f"{path} has no saved scores, it holds {', '.join(sorted(arrays))}; save some: prvr evaluate ... --save SCORES.npz"
        )
    try:
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != FORMAT:
            raise DataError(f"its format is {about['format']!r}, this version reads {FORMAT}")
        scores = as_scores(arrays["scores"])
        for name, axes in {"target": (), **NUMBERS}.items():
            if name in arrays and arrays[name].shape != (len(scores), *axes):
                raise DataError(f"there are {len(scores)} queries, and {name} of shape {arrays[name].shape}")
            if name in arrays and arrays[name].dtype.kind not in "fiu":
                raise DataError(f"{name} is {arrays[name].dtype}, not numbers")
        numbers = {name: arrays[name].astype(np.float64) for name in NUMBERS if name in arrays}
        facts = QueryFacts(_texts(about, "texts"), _texts(about, "kinds"), **numbers)
        queries, videos = (tuple(_text(id) for id in about[name]) for name in ("queries", "videos"))
        system, split, protocol = (_text(about[name]) for name in ("system", "split", "protocol"))
        return SavedScores(
            scores=scores,
            queries=queries,
            videos=videos,
            target=_indices(arrays["target"], axes=1),
            also=_indices(arrays["also"], axes=2),
            facts=facts,
            system=system,
            split=split,
            protocol=protocol,
            seed=None if about["seed"] is None else int(about["seed"]),
            calibration=None if about.get("calibration") is None else from_dict(about["calibration"]),
            untrained=_branches(about.get("untrained", [])),
            origin=read_origin(about.get("origin", {})),
        )
    except DataError as problem:
        raise DataError(f"{path}: {problem}; save the scores again") from None
    except BROKEN as problem:
        raise DataError(
            f"{path} has no complete scores ({type(problem).__name__}: {one_line(problem)}); save them again"
        ) from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` by name, or the array of an `.npy` under `scores`; never unpickled.

    Raises:
        DataError: there is no such file, or it is broken.
    """
    if not path.is_file():
        raise missing_scores(path)
    if not holds_arrays(path):
        raise DataError(
            f"{path} cannot be read: it is neither .npz nor .npy; convert a ranking in TREC's format with "
            f"prvr score {path} --truth FILE --save SCORES.npz"
        )
    try:
        # numpy leaves a broken file open if numpy opens it.
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            arrays = {"scores": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except BROKEN as problem:
        # numpy's message about object arrays ends with how to unpickle them.
        reason = (
            "it holds more than plain arrays" if "pickle" in str(problem) else f"{type(problem).__name__}: {one_line(problem)}"
        )
        raise DataError(f"{path} cannot be read ({reason}); write it again, as plain arrays") from None
    other = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
    if other is not None:
        raise DataError(f"{path} cannot be read ({other!r} in it is not an array); write it again, as plain arrays")
    return arrays


def holds_arrays(path: Path) -> bool:
    """Whether a file begins as an `.npz` or `.npy` does."""
    with open(path, "rb") as file:
        return file.read(6).startswith(MAGIC)


def missing_scores(path: Path) -> DataError:
    """The error for a file of scores that does not exist."""
    save = f"prvr evaluate VIDEOS FEATURES --model RUN --save {path.with_suffix('.npz')}"
    return DataError(f"no scores at {path}; save some: {save}")


def as_scores(array: np.ndarray) -> np.ndarray:
    """The array as scores (Q, V), of float32 or wider.

    Raises:
        DataError: it has other axes, or its numbers are not floating-point.
    """
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"the scores are {array.dtype} of shape {array.shape}; expected floating-point numbers (queries, videos)")
    return array.astype(np.promote_types(array.dtype, np.float32), copy=False)


def _check_ids(saved: SavedScores) -> None:
    queries, videos = saved.scores.shape
    for name, ids, length in (("queries", saved.queries, queries), ("videos", saved.videos, videos)):
        if len(ids) != length:
            raise DataError(f"there are {len(ids)} ids of {name}, and scores for {length}")
        if not ids:
            raise DataError(f"there are no {name}")
        twice = next((id for id, count in Counter(ids).items() if count > 1), None)
        if twice is not None:
            raise DataError(f"the id {twice!r} occurs twice among the {name}")
    # NaN is found by either; -inf is the score of a video that was not ranked.
    if np.isnan(saved.scores.min()) or saved.scores.max() == np.inf:
        row, column = np.argwhere(np.isnan(saved.scores) | (saved.scores == np.inf))[0]
        value = float(saved.scores[row, column])
        raise DataError(
            f"the score of query {saved.queries[row]!r} for video {saved.videos[column]!r} is not a number ({value}); "
            "write finite scores, and -inf only for a video that was not ranked"
        )


def _check_truth(saved: SavedScores) -> None:
    queries, videos = saved.scores.shape
    if saved.target.shape != (queries,):
        raise DataError(f"there are {queries} queries, and targets of shape {saved.target.shape}")
    outside = np.flatnonzero((saved.target < 0) | (saved.target >= videos))
    if len(outside):
        raise DataError(f"query {saved.queries[outside[0]]!r} has no correct video in the gallery")
    if len(saved.also) and ((saved.also < 0) | (saved.also >= np.array([queries, videos]))).any():
        raise DataError(f"further correct videos are outside of {queries} queries and {videos} videos")


def _check_facts(saved: SavedScores) -> None:
    for fact in fields(saved.facts):
        values = getattr(saved.facts, fact.name)
        if values is not None and np.shape(values) != (len(saved.queries), *NUMBERS.get(fact.name, ())):
            raise DataError(f"there are {len(saved.queries)} queries, and {fact.name} of shape {np.shape(values)}")
        if fact.name in NUMBERS and values is not None and np.isinf(values).any():
            raise DataError(f"{fact.name} of query {saved.queries[int(np.argwhere(np.isinf(values))[0, 0])]!r} is infinite")


def _texts(about: dict[str, Any], name: str) -> tuple[Any, ...] | None:
    values: Sequence[Any] | None = about[name]
    return None if values is None else tuple(value if value is None and name == "kinds" else _text(value) for value in values)


def read_origin(value: Any) -> dict[str, str]:
    """The origin of scores, from JSON.

    Raises:
        ValueError: it is not a text for each of some names of ORIGIN.
    """
    if not isinstance(value, dict) or not value.keys() <= set(ORIGIN):
        raise ValueError(f"origin: {value!r:.60} is not of {', '.join(ORIGIN)}")
    return {name: _text(text) for name, text in value.items()}


def _branches(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"untrained: {value!r:.40} is not a list of branches")
    return tuple(map(_text, value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not text")
    return value


def _indices(array: np.ndarray, *, axes: int) -> np.ndarray:
    if array.ndim != axes or not np.issubdtype(array.dtype, np.integer) or (axes == 2 and array.shape[1] != 2):
        raise ValueError(f"{array.dtype} of shape {array.shape} are not indices of videos")
    return array.astype(np.int64)
