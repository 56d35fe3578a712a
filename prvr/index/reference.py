"""How strong a hit is, without captions: the hits of sentences that have nothing to do with the videos stand beside it.

A score means something else for each encoder, index, sentence and video: some sentences are near to every frame, some videos to
every sentence. With sentences about anything at all (`unrelated.txt`),

    excess(q, v) = S(q, v) - S(q, mean frame) - mean over sentences u of (S(u, v) - S(u, mean frame))

The strength of a hit is the share of these sentences whose own best video has a lower excess. With a strength of 0.5, half of
all sentences find something here that fits as well. For scores that are weighted sums of best cosines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from prvr.index.contract import Entry, ScoredVideo, Store, require_weights
from prvr.index.disk import DiskIndex
from prvr.methods.model import Described, Embeddings
from prvr.nn.ranks import TIED, as_arrays, unit

UNRELATED = "unrelated.txt"
# What a video reaches with any sentence is the mean over every so many of them.
EVERY = 5
# Videos whose frames the mean frame is of, and the share of the videos that may change before all is measured again.
SAMPLE = 1_000
CHANGED = 0.125
VIDEOS_AT_ONCE = 64
SENTENCES_AT_ONCE = 16

Rows = tuple[Float[np.ndarray, "_ _"], ...]
"""Rows of unit length, for each field of a model."""


@dataclass(frozen=True)
class Reference:
    """What unrelated sentences reach in an index.

    weights: of the fields. means: of each field, the mean row of the index. some: every EVERY-th sentence.
    reached: the excess of each sentence's best video, sorted.
    """

    weights: tuple[float, ...]
    means: tuple[Float[np.ndarray, "_"], ...]
    some: Rows
    reached: Float[np.ndarray, "S"]

    def strengths(self, query: Embeddings, found: Sequence[ScoredVideo]) -> list[float]:
        """The strength of the hits of one query (a first axis of 1), from 0 to 1."""
        usual = float(_with_mean_frame(self.weights, self.means, _units(query))[0])
        excess = [hit.score - usual - self.bias(hit.entry) - TIED * abs(hit.score) for hit in found]
        return (np.searchsorted(self.reached, excess) / len(self.reached)).tolist()

    def bias(self, entry: Entry) -> float:
        """By how much sentences about anything are nearer to the best frames of a video than to the mean frame."""
        terms = [
            weight * (unit(rows) @ some.T).max(0)
            for weight, rows, some in zip(self.weights, entry.fields, self.some, strict=True)
        ]
        return float(np.mean(sum(terms) - _with_mean_frame(self.weights, self.means, self.some)))


def measure(index: Store, queries: Embeddings, *, on_progress: Callable[[str, float, float], None] | None = None) -> Reference:
    """What the sentences of these embeddings reach in an index: each is searched for, exactly.

    Raises:
        ModelError: the score is not a weighted sum of best cosines.
    """
    weights, units = require_weights(index.model, "a reference"), _units(queries)
    means = _mean_rows(index)
    reference = Reference(weights, means, tuple(rows[::EVERY] for rows in units), np.zeros(0))
    excess: list[float] = []
    usual = _with_mean_frame(weights, means, units)
    for start in range(0, len(usual), SENTENCES_AT_ONCE):
        block = slice(start, start + SENTENCES_AT_ONCE)
        best = [found[0] for found in index.search(tuple(field[block] for field in queries), 1)]
        excess += [hit.score - own - reference.bias(hit.entry) for hit, own in zip(best, usual[block], strict=True)]
        if on_progress:
            on_progress("unrelated sentences", len(excess), len(usual))
    return Reference(weights, means, reference.some, np.sort(excess))


def update_reference(
    checkpoint: Described,
    index: DiskIndex,
    encode: Callable[[str], Embeddings],
    *,
    on_progress: Callable[[str, float, float], None] | None = None,
) -> None:
    """Measures and keeps an index's reference, if it has none of this model or many videos have changed since.

    The sentences are encoded once. Nothing is done for a model that is calibrated, or that has no reference.

    Args:
        encode: gives the query embedding of a sentence.
    """
    numbers = index.numbers
    if not numbers or not can_have_reference(checkpoint):
        return
    kept, queries = _kept(checkpoint, index)
    same = sum(number <= kept.get("last", 0) for number in numbers)
    if kept and len(numbers) - same + kept["videos"] - same <= CHANGED * kept["videos"]:
        return
    if queries is None:
        encoded = [encode(sentence) for sentence in unrelated_sentences()]
        queries = cast(Embeddings, tuple(np.concatenate(as_arrays(fields)) for fields in zip(*encoded, strict=True)))
    found = measure(index, queries, on_progress=on_progress)
    known = {"made_of": _made_of(checkpoint), "videos": len(numbers), "last": max(numbers), "reached": found.reached.tolist()}
    text = json.dumps({**known, "means": [mean.tolist() for mean in found.means]})
    index.keep_reference(text, b"".join(field.astype("<f4").tobytes() for field in as_arrays(queries)))


def copy_reference(checkpoint: Described, source: Store, target: Store) -> None:
    """Gives a copy of an index the reference of that index, if it has one of this model."""
    if not isinstance(source, DiskIndex) or not isinstance(target, DiskIndex) or not target.numbers:
        return
    known, kept = _kept(checkpoint, source)[0], source.reference()
    if known and kept:
        # A copy counts its videos anew.
        target.keep_reference(json.dumps({**known, "last": max(target.numbers)}), kept[1])


def reference_of(checkpoint: Described, index: Store) -> Reference | None:
    """The reference that an index keeps; None if it keeps none of this model, as after an earlier version or at a URL."""
    if not isinstance(index, DiskIndex) or not can_have_reference(checkpoint):
        return None
    kept, queries = _kept(checkpoint, index)
    if not kept or queries is None:
        return None
    means = tuple(np.array(mean, np.float32) for mean in kept["means"])
    some = tuple(rows[::EVERY] for rows in _units(queries))
    return Reference(checkpoint.model.score_weights or (), means, some, np.array(kept["reached"]))


def can_have_reference(checkpoint: Described) -> bool:
    """Whether hits of a model have a strength: it has no probabilities, its score is a weighted sum of best cosines, and one
    encoder made its frames and its sentences."""
    frames, text = checkpoint.sources.frames.fingerprint, checkpoint.sources.text.fingerprint
    return checkpoint.calibration is None and checkpoint.model.score_weights is not None and frames == text is not None


@cache
def unrelated_sentences() -> tuple[str, ...]:
    """Sentences about anything at all, one for each line of the file."""
    text = (files("prvr.index") / UNRELATED).read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


def _made_of(checkpoint: Described) -> str:
    return hashlib.sha256("\n".join([checkpoint.fingerprint, *unrelated_sentences()]).encode()).hexdigest()


def _kept(checkpoint: Described, index: DiskIndex) -> tuple[dict[str, Any], Embeddings | None]:
    """What an index keeps, and the embeddings of the sentences; nothing if it is of another model, or damaged."""
    kept = index.reference()
    count = len(unrelated_sentences())
    try:
        known: dict[str, Any] = json.loads(kept[0]) if kept else {}
        if not kept or known["made_of"] != _made_of(checkpoint) or len(known["means"]) != len(checkpoint.model.embedding_fields):
            return {}, None
        widths = [len(mean) for mean in known["means"]]
        numbers = np.array([*known["reached"], *(value for mean in known["means"] for value in mean)], np.float64)
        rows = np.frombuffer(kept[1], "<f4").reshape(count, -1)
        if not np.isfinite(numbers).all() or not np.isfinite(rows).all() or len(known["reached"]) != count:
            return {}, None
        known["videos"], known["last"] = int(known["videos"]), int(known["last"])
        fields = np.split(np.frombuffer(kept[1], "<f4"), count * np.cumsum(widths)[:-1])
        parts = zip(fields, widths, strict=True)
        return known, cast(Embeddings, tuple(part.reshape(count, width) for part, width in parts))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return {}, None


def _mean_rows(index: Store) -> tuple[Float[np.ndarray, "_"], ...]:
    """Of each field, the mean of the rows of at most SAMPLE videos, each row of unit length."""
    ids = index.ids[:: -(-len(index.ids) // SAMPLE)]
    sums: list[Any] = [0.0] * len(index.model.embedding_fields)
    counts = [0] * len(sums)
    for start in range(0, len(ids), VIDEOS_AT_ONCE):
        for entry in index.fetch(ids[start : start + VIDEOS_AT_ONCE]).values():
            sums = [known + unit(rows).sum(0) for known, rows in zip(sums, entry.fields, strict=True)]
            counts = [known + len(rows) for known, rows in zip(counts, entry.fields, strict=True)]
    return tuple(np.asarray(total / count, np.float32) for total, count in zip(sums, counts, strict=True))


def _with_mean_frame(weights: Sequence[float], means: Sequence[np.ndarray], queries: Rows) -> Float[np.ndarray, "Q"]:
    terms = [weight * (rows @ mean) for weight, rows, mean in zip(weights, queries, means, strict=True)]
    return np.asarray(sum(terms), np.float64)


def _units(queries: Embeddings) -> Rows:
    return tuple(unit(field) for field in as_arrays(queries))
