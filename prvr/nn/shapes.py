"""Types of what every method encodes: videos and sentences with their masks."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

Frames = Float[Tensor, "V F E"]
"""Frame features of V videos, padded to F frames."""

FrameMask = Bool[Tensor, "V F"]
"""True for real frames."""

Clips = Float[Tensor, "V N E"] | None
"""Features of N clips of each video; None to make them from the frames."""

Words = Float[Tensor, "Q W C"]
"""Text features of Q sentences, padded to W words."""

WordMask = Bool[Tensor, "Q W"]
"""True for real words."""

Places = Int[Tensor, "R"] | None
"""The positions at which a flattened mask is True, as in a `Batch`; None to find them."""
