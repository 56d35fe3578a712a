"""A run: what a system answered to the queries of a split, kept so that figures can be counted again and compared.

A file is an `.npz` of plain arrays: scores (Q, V), target (Q,), also (P, 2), lengths, ratios, overlaps and any_overlaps (Q,)
where they are known, and `about`, the bytes of a JSON object with the ids, the texts and where the run comes from.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from prvr.errors import DataError
from prvr.files import write_whole
from prvr.methods.calibration import Calibration, from_dict

FORMAT = 1
UNSAID = "not said"
NUMBERS = ("lengths", "ratios", "overlaps", "any_overlaps")
# What numpy and zipfile raise on files that are cut off, forged or something else.
BROKEN = (ValueError, TypeError, KeyError, EOFError, OSError, MemoryError, RecursionError, zipfile.BadZipFile, zlib.error)
# How an .npy begins, an .npz, and an .npz of no arrays; numpy takes whatever else there is for a pickle.
MAGIC = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Facts:
    """What is known of the queries beside the scores; NaN or None where one query's is not.

    texts: what is asked. kinds: the type of query. lengths: of the query's own video, in seconds.
    ratios: moment-to-video ratio, (end - start) / length. overlaps: IoU of the span that was found in the query's own
    video with the annotated moment that it overlaps best; any_overlaps: the same of that span of several which fits best.
    """

    texts: tuple[str, ...] | None = None
    kinds: tuple[str | None, ...] | None = None
    lengths: Float[np.ndarray, "Q"] | None = None
    ratios: Float[np.ndarray, "Q"] | None = None
    overlaps: Float[np.ndarray, "Q"] | None = None
    any_overlaps: Float[np.ndarray, "Q"] | None = None


@dataclass(frozen=True)
class Run:
    """Scores of every query for every video of the gallery; -inf where a video was not ranked.

    target: the column of each query's own video. also: query and column of each further correct video.
    system: who answered. protocol: how the system's best epoch was chosen, among other things.
    calibration: what makes probabilities of its scores, fitted on another split.

    Raises:
        DataError: the parts do not fit together, a score is not a number, or an id stands twice.
    """

    scores: Float[np.ndarray, "Q V"]
    queries: tuple[str, ...]
    videos: tuple[str, ...]
    target: Int[np.ndarray, "Q"]
    also: Int[np.ndarray, "P 2"] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    facts: Facts = field(default_factory=Facts)
    system: str = ""
    split: str = ""
    protocol: str = UNSAID
    seed: int | None = None
    calibration: Calibration | None = None

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


def save_run(run: Run, path: Path) -> None:
    """Writes a run, whole or not at all."""
    about = {
        "format": FORMAT,
        **{name: getattr(run, name) for name in ("queries", "videos", "system", "split", "protocol", "seed")},
        **{name: getattr(run.facts, name) for name in ("texts", "kinds")},
        "calibration": None if run.calibration is None else run.calibration.as_dict(),
    }
    # A file name that is not UTF-8 holds half surrogate pairs, which JSON escapes.
    arrays = {
        "scores": run.scores,
        "target": run.target,
        "also": run.also,
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
    }
    known = {name: getattr(run.facts, name) for name in NUMBERS if getattr(run.facts, name) is not None}
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays, **known)
    write_whole(path, data.getvalue())


def load_run(path: str | Path) -> Run:
    """Reads a run; nothing in it is unpickled.

    Raises:
        DataError: there is none, or it is broken.
    """
    arrays = read_arrays(Path(path))
    if "about" not in arrays:
        raise DataError(f"{path} is no run, it holds {', '.join(sorted(arrays))}; make one: prvr evaluate ... --save RUN.npz")
    try:
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != FORMAT:
            raise DataError(f"its format is {about['format']!r}, this version reads {FORMAT}")
        scores = as_scores(arrays["scores"])
        for name in ("target", *NUMBERS):
            if name in arrays and arrays[name].shape != scores.shape[:1]:
                raise DataError(f"there are {len(scores)} queries, and {name} of shape {arrays[name].shape}")
        numbers = {name: arrays[name].astype(np.float64) for name in NUMBERS if name in arrays}
        facts = Facts(_texts(about, "texts"), _texts(about, "kinds"), **numbers)
        queries, videos = (tuple(_text(id) for id in about[name]) for name in ("queries", "videos"))
        system, split, protocol = (_text(about[name]) for name in ("system", "split", "protocol"))
        return Run(
            scores=scores,
            queries=queries,
            videos=videos,
            target=_whole(arrays["target"], axes=1),
            also=_whole(arrays["also"], axes=2),
            facts=facts,
            system=system,
            split=split,
            protocol=protocol,
            seed=None if about["seed"] is None else int(about["seed"]),
            calibration=None if about.get("calibration") is None else from_dict(about["calibration"]),
        )
    except DataError as problem:
        raise DataError(f"{path}: {problem}; save the run again") from None
    except BROKEN as problem:
        raise DataError(f"{path} is no whole run ({type(problem).__name__}: {problem}); save it again") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` by name, or the one of an `.npy` under `scores`; never unpickled.

    Raises:
        DataError: there is no such file, or it is broken.
    """
    if not path.is_file():
        raise no_run(path)
    if not holds_arrays(path):
        raise DataError(
            f"{path} cannot be read: it is neither .npz nor .npy; a run file of TREC becomes a run by "
            f"prvr evaluate {path} --truth FILE --save RUN.npz"
        )
    try:
        # numpy leaves a broken file open if it opens it itself.
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            arrays = {"scores": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except BROKEN as problem:
        # What numpy says of objects ends in how to run whatever is in them.
        reason = "it holds more than plain arrays" if "pickle" in str(problem) else f"{type(problem).__name__}: {problem}"
        raise DataError(f"{path} cannot be read ({reason}); write it again, as plain arrays") from None
    other = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
    if other is not None:
        raise DataError(f"{path} cannot be read ({other!r} in it is no array); write it again, as plain arrays")
    return arrays


def holds_arrays(path: Path) -> bool:
    """Whether a file begins as an `.npz` or `.npy` does."""
    with open(path, "rb") as file:
        return file.read(6).startswith(MAGIC)


def no_run(path: Path) -> DataError:
    """What is said where no run is."""
    return DataError(f"no run at {path}; make one: prvr evaluate VIDEOS FEATURES --model RUN --save {path.with_suffix('.npz')}")


def as_scores(array: np.ndarray) -> np.ndarray:
    """An array as scores (Q, V).

    Raises:
        DataError: it has other axes, or holds no floating-point numbers.
    """
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"the scores are {array.dtype} of shape {array.shape}; they take floating-point numbers (queries, videos)"
        )
    return array.astype(np.promote_types(array.dtype, np.float32), copy=False)


def _check_ids(run: Run) -> None:
    for name, ids, length in (("queries", run.queries, run.scores.shape[0]), ("videos", run.videos, run.scores.shape[1])):
        if len(ids) != length:
            raise DataError(f"there are {len(ids)} ids of {name}, and scores for {length}")
        if not ids:
            raise DataError(f"there are no {name}")
        twice = next((id for id, count in Counter(ids).items() if count > 1), None)
        if twice is not None:
            raise DataError(f"the id {twice!r} stands twice among the {name}")
    if np.isnan(run.scores.min()):
        row, column = np.argwhere(np.isnan(run.scores))[0]
        raise DataError(f"the score of query {run.queries[row]!r} for video {run.videos[column]!r} is not a number")


def _check_truth(run: Run) -> None:
    queries, videos = run.scores.shape
    if run.target.shape != (queries,):
        raise DataError(f"there are {queries} queries, and targets of shape {run.target.shape}")
    outside = np.flatnonzero((run.target < 0) | (run.target >= videos))
    if len(outside):
        raise DataError(f"query {run.queries[outside[0]]!r} has no correct video in the gallery")
    if len(run.also) and ((run.also < 0) | (run.also >= np.array([queries, videos]))).any():
        raise DataError(f"further correct videos lie outside of {queries} queries and {videos} videos")


def _check_facts(run: Run) -> None:
    for fact in fields(run.facts):
        values = getattr(run.facts, fact.name)
        if values is not None and np.shape(values) != (len(run.queries),):
            raise DataError(f"there are {len(run.queries)} queries, and {fact.name} of shape {np.shape(values)}")


def _texts(about: dict[str, Any], name: str) -> tuple[Any, ...] | None:
    values: Sequence[Any] | None = about[name]
    return None if values is None else tuple(value if value is None and name == "kinds" else _text(value) for value in values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is no text")
    return value


def _whole(array: np.ndarray, *, axes: int) -> np.ndarray:
    if array.ndim != axes or not np.issubdtype(array.dtype, np.integer) or (axes == 2 and array.shape[1] != 2):
        raise ValueError(f"{array.dtype} of shape {array.shape} are no places of videos")
    return array.astype(np.int64)
