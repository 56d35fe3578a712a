"""Dual Encoding (Dong et al., CVPR 2019): one vector per sentence and one per whole video, each from three levels.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
level 1, global              the mean of all frames; the bag of words
level 2, temporal-aware      the mean over time of a bidirectional GRU's states, `frame_gru`, `word_gru`
level 3, local-enhanced      convolutions over those states, the largest response over time, `frame_kernels`, `word_kernels`
multi-level encoding         `FrameLevels`, `SentenceLevels` (prvr.nn.levels); `reads_padding` for the released code's padding
common space, FC and BN      `Mapping`, `hidden` columns, unit length
improved marginal ranking    `losses.hardest_triplet`, `margin`: hardest wrong partner of the batch, both directions
S(q, v)                      `DualEncoding.score`: the cosine of the two vectors, field "video"

Equal to the released code (danieljf24/dual_encoding, c0aaf60) where sentences are word ids, frames are read as they are and
`reads_padding` is set. What differs by default, and why: docs/decisions/0040.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch
from prvr.config import check_above_zero
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn import losses
from prvr.nn.hybrid import whole_cosines
from prvr.nn.levels import FrameLevels, LevelSettings, Mapping, SentenceLevels
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words


@dataclass(frozen=True)
class DualEncodingConfig(LevelSettings):
    """Settings of the paper, beside those of the levels; hidden: columns of the common space."""

    hidden: int = 2048
    frame_gru: int = 1024
    frame_kernels: tuple[int, ...] = (2, 3, 4, 5)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "hidden")


class DualEncoding(nn.Module):
    """S(q, v) = cos(f(sentence), g(video)): a video is one vector."""

    def __init__(self, config: DualEncodingConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = config.reading(frame_columns, word_columns)
        self.embedding_fields: tuple[str, ...] = ("video",)
        self.frame_fields: tuple[str, ...] = ()
        self.score_weights: tuple[float, ...] | None = (1.0,)
        self.words = SentenceLevels(word_columns, config)
        self.word_mapping = Mapping(self.words.columns, config.hidden, config.dropout)
        self.frames = FrameLevels(frame_columns, config.frame_kernels, config)
        self.frame_mapping = Mapping(self.frames.columns, config.hidden, config.dropout)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector of unit length per sentence."""
        return (normalize(self.word_mapping(self.words(words, mask)), dim=-1),)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """One vector of unit length per video, as one row."""
        return (normalize(self.frame_mapping(self.frames(frames, mask)), dim=-1)[:, None],)

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The cosine."""
        return whole_cosines(queries[0], videos[0])

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The cosine with the whole video, its one part."""
        return whole_cosines(query[0], video[0])[0]


def objective(model: DualEncoding, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The hinge against the hardest wrong partner of the batch, in both directions; the paper's sum over N pairs, over N."""
    found = model.score(queries, videos, batch.frame_mask)
    return {"triplet": losses.hardest_triplet(found, batch.target, margin=model.config.margin)}


METHOD = Method(DualEncodingConfig, DualEncoding, objective, revision=2)
