"""Schedules: the weight of a loss at each epoch, counted from 0 (DL-DKD and DL-DKD++)."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(epoch: int) -> float:
    """1 at every epoch."""
    return 1.0


def exponential(epoch: int, base: float = 0.95) -> float:
    """base ** epoch."""
    return base**epoch


def linear(epoch: int, slope: float = -0.01, floor: float = 0.05) -> float:
    """max(1 + slope * epoch, floor)."""
    return max(slope * epoch + 1.0, floor)


def sigmoid(epoch: int, scale: float = 800.0) -> float:
    """scale / (scale + exp(100 epoch / scale)): near 1 at first, then falling; 0.5 at epoch 53 for scale 800."""
    exponent = epoch / (scale / 100)
    # Beyond 700 the exponential exceeds the range of a float, and the weight rounds to 0.
    return scale / (scale + math.exp(exponent)) if exponent < 700 else 0.0


def rising_exponential(epoch: int) -> float:
    """1 - exponential(epoch): the control experiment in which the teacher gains weight."""
    return 1 - exponential(epoch)


def rising_linear(epoch: int) -> float:
    """1 - linear(epoch)."""
    return 1 - linear(epoch)


def rising_sigmoid(epoch: int) -> float:
    """1 - sigmoid(epoch)."""
    return 1 - sigmoid(epoch)


def growing(epoch: int) -> float:
    """min(0.001 * 1.05 ** epoch, 0.1)."""
    return min(0.001 * 1.05**epoch, 0.1)


def saturating(epoch: int) -> float:
    """0.1 (1 - 0.95 ** epoch), clamped to 0.001 and 0.1."""
    return min(max(0.1 * (1 - 0.95**epoch), 0.001), 0.1)


DECAYS: dict[str, Schedule] = {
    "fixed": constant,
    "exponential": exponential,
    "linear": linear,
    "sigmoid": sigmoid,
    "rising_exponential": rising_exponential,
    "rising_linear": rising_linear,
    "rising_sigmoid": rising_sigmoid,
    "growing": growing,
    "saturating": saturating,
}

SOFT_TARGET_DECAYS = ("fixed", "exponential", "linear", "sigmoid", "cosine")


def soft_target_weight(kind: str, epoch: int, *, initial: float, floor: float, epochs: int) -> float:
    """A weight of the soft targets of DL-DKD++: it starts at `initial` and falls to `floor` over `epochs`.

    exponential: initial 0.95^e · linear: initial + (floor - initial) e / n · sigmoid: initial 800 / (800 + exp(e / 8))
    · cosine: floor + (initial - floor)(1 + cos(pi e / n)) / 2 · fixed: initial. Never below the floor.
    """
    match kind:
        case "fixed":
            return initial
        case "exponential":
            value = initial * exponential(epoch)
        case "linear":
            value = initial + (floor - initial) * epoch / epochs
        case "sigmoid":
            value = initial * sigmoid(epoch)
        case "cosine":
            value = floor + (initial - floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2
        case _:
            raise ValueError(f"unknown decay {kind!r}; known: {', '.join(SOFT_TARGET_DECAYS)}")
    return max(value, floor)
