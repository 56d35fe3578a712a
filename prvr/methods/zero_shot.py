"""The teacher alone: what a user without captions gets, and what a student is measured against.

S(q, v) = max_f cos(teacher's sentence vector, teacher's frame vector). Nothing is learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prvr import scores
from prvr.batch import Reading
from prvr.errors import DataError
from prvr.methods.contract import Embeddings


@dataclass(frozen=True)
class ZeroShotConfig:
    """There is nothing to set."""


class ZeroShot(nn.Module):
    """Any encoder with images and sentences in one space, as a retrieval model without weights."""

    def __init__(self, config: ZeroShotConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        if frame_columns != word_columns:
            raise DataError(
                f"frames have {frame_columns} columns and sentences {word_columns}: they come from different encoders"
            )
        self.config = config
        self.reading = Reading(frame_columns, word_columns, None, None, unit=False, text="sentences")
        self.embedding_fields: tuple[str, ...] = ("teacher",)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = (1.0,)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The one row of each sentence."""
        return (words[:, 0],)

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The frames as they are."""
        return (frames,)

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The best frame's cosine."""
        return scores.video_scores(scores.frame_cosines(queries[0], videos[0], mask))

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Each frame's cosine."""
        mask = torch.ones(video[0].shape[:2], dtype=torch.bool, device=video[0].device)
        return scores.frame_cosines(query[0], video[0], mask)[0, 0]
