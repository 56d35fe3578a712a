"""Merging of neighbours: a sequence becomes a shorter one of means, in the order of time (MSC-PRVR)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


class Merged(NamedTuple):
    """Rows that are means of earlier rows. sizes: of how many each is the mean; label: which row each earlier row is in."""

    rows: Float[Tensor, "V N E"]
    sizes: Float[Tensor, "V N"]
    label: Int[Tensor, "V L"]


def merge_neighbours(rows: Float[Tensor, "V L E"], lengths: Sequence[int]) -> Merged:
    """Merges in steps, to each of the lengths in turn.

    Of the pairs of rows 2i and 2i + 1 the most similar ones by inner product are merged, as many as are too many; of equal ones
    the first. No length may be less than half of the one before. The released code takes inner products of rows that have no unit
    length; the paper says cosines.
    """
    sizes = torch.ones_like(rows[..., 0])
    label = torch.arange(rows.shape[1], device=rows.device).expand(len(rows), -1)
    for length in lengths:
        count = rows.shape[1]
        first, second = rows[:, : count - count % 2 : 2], rows[:, 1::2]
        alike = torch.einsum("vpe,vpe->vp", first, second)
        merged = torch.zeros_like(alike, dtype=torch.bool)
        merged.scatter_(1, alike.sort(dim=1, descending=True, stable=True).indices[:, : count - length], value=True)
        kept = torch.ones_like(sizes, dtype=torch.bool)
        kept[:, 1::2] = ~merged
        place = kept.cumsum(1) - 1
        rows, sizes = weighted_means(rows, sizes, place, length)
        label = place.gather(1, label)
    return Merged(rows, sizes, label)


def weighted_means(
    rows: Float[Tensor, "V L E"], sizes: Float[Tensor, "V L"], label: Int[Tensor, "V L"], count: int
) -> tuple[Float[Tensor, "V N E"], Float[Tensor, "V N"]]:
    """The mean of the rows with each label, weighted by their sizes, and the sum of these; zeros for a label that none has."""
    held = one_hot(label, count).to(rows.dtype).mT
    total = torch.einsum("vnl,vl->vn", held, sizes)
    return (held @ (sizes[..., None] * rows)) / total.clamp(min=1)[..., None], total


def merge_freely(rows: Float[np.ndarray, "N E"], sizes: Float[np.ndarray, "N"], lengths: Sequence[int]) -> Int[np.ndarray, "N"]:
    """The label of each row after merging in steps, to each of the lengths in turn, any even row with any odd one.

    In each step pairs of a row at an even place and one at an odd place are taken by descending cosine, no row twice, until the
    sequence is short enough. A merged row stands at the even place, so time is not kept in order.
    """
    label = np.arange(len(rows))
    for length in lengths:
        count = int(label.max()) + 1
        held = (label[None] == np.arange(count)[:, None]) * sizes
        means = held @ rows / held.sum(1, keepdims=True)
        means = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        alike = means[0::2] @ means[1::2].T
        joined: dict[int, int] = {}
        for pair in np.argsort(-alike, axis=None, kind="stable"):
            even, odd = divmod(int(pair), alike.shape[1])
            if len(joined) == count - length:
                break
            if 2 * odd + 1 not in joined and 2 * even not in joined.values():
                joined[2 * odd + 1] = 2 * even
        kept = [place for place in range(count) if place not in joined]
        place_of = {old: new for new, old in enumerate(kept)}
        label = np.array([place_of[joined.get(old, old)] for old in label.tolist()])
    return label
