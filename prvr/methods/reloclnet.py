"""ReLoCLNet (Zhang et al., SIGIR 2021): XML with contrastive learning on the way, its video side alone.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
the XML skeleton             prvr.methods.xml: projection, positions, attention, cosines, hinge
query encoder, second block  `Reloclnet.encode_queries`: one vector after each of two attention blocks
context encoder, extra one   `Reloclnet.encode_videos`: three attention blocks, field "frames" after the last
S(q, v)                      `Reloclnet.score`: the best frame's cosine, on the last encoding
VideoCL                      `video_contrast_weight`: `losses.info_nce` of the best frame's inner product, after the first block
FrameCL                      left out: it takes the annotated span of each query in training, which this task does not give
hard negatives, pool         `hard_from_epoch`, `negative_pool`, as in prvr.methods.xml

Source: spec/methods 2.5. It leaves open, and we decided: the second query block stands on the first one's output; the two
blocks that end the video side are a pair of plain self-attention blocks, as in XML without subtitles; drop-out is 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_heads, check_shares
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.layers import AttentivePooling, InputProjection, Rows, SelfAttention, initialise, pool_at, sequence_encoder
from prvr.nn.losses import ranking


@dataclass(frozen=True)
class ReloclnetConfig:
    """Settings of the paper."""

    hidden: int = 384
    heads: int = 8
    max_frames: int = 100
    max_words: int = 30
    dropout: float = 0.1
    input_dropout: float = 0.1
    margin: float = 0.1
    negative_pool: int = 20
    hard_from_epoch: int = 20
    video_contrast_weight: float = 0.03

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "negative_pool")
        check_shares(self, "dropout", "input_dropout")
        check_heads(self)


class Reloclnet(nn.Module):
    """S(q, v) = max_f cos(query vector after two blocks, frame f after three).

    In training, the encodings after the first block follow those of the fields: the objective alone reads them.
    """

    def __init__(self, config: ReloclnetConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.embedding_fields: tuple[str, ...] = ("frames",)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = (1.0,)
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout)
        self.words = sequence_encoder(config.max_words, config)
        self.first_pooling = AttentivePooling(config.hidden)
        self.second_words = SelfAttention(config.hidden, config.heads, config.dropout)
        self.pooling = AttentivePooling(config.hidden)
        self.frame_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.frames = sequence_encoder(config.max_frames, config)
        self.second_frames = SelfAttention(config.hidden, config.heads, config.dropout)
        self.extra_frames = SelfAttention(config.hidden, config.heads, config.dropout)
        self.apply(initialise)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per query, in training one after each block, the last first."""
        rows = Rows.of(mask, places)
        first = self.words(self.word_projection(rows.packed(words)), rows)
        last = self.pooling(rows.padded(self.second_words(first, rows)), mask)
        return (last, self.first_pooling(rows.padded(first), mask)) if self.training else (last,)

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per frame, zeros where padded; in training those after the first block, too."""
        rows = Rows.of(mask, places)
        first = self.frames(self.frame_projection(rows.packed(frames)), rows)
        last = rows.padded(self.extra_frames(self.second_frames(first, rows), rows))
        return (last, rows.padded(first)) if self.training else (last,)

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The best frame's cosine."""
        return scores.best_cosines(queries[0], videos[0], mask)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Each frame's cosine."""
        return scores.frame_cosines(query[0], video[0], scores.every_row(video[0]))[0, 0]


def objective(
    model: Reloclnet,
    queries: Embeddings,
    videos: Embeddings,
    batch: Batch,
    epoch: int,
    *,
    contrast: Contrast = losses.info_nce,
) -> Terms:
    """XML's hinge on the last encodings, and a contrastive loss on the first ones."""
    config = model.config
    last, first = (
        scores.compare(query, video, batch.frame_mask, batch.target) for query, video in zip(queries, videos, strict=True)
    )
    return {
        "triplet": ranking(last.cosines, batch.target, margin=config.margin, pool=pool_at(config, epoch)),
        "video_contrast": config.video_contrast_weight * contrast(first.dots, batch.target),
    }


def profile(model: Reloclnet, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """The cosines of each query's last vector with the frames of its own video."""
    return scores.compare(queries[0], videos[0], batch.frame_mask, batch.target).profile


METHOD = Method(ReloclnetConfig, Reloclnet, objective, contrasts=True, profile=profile)
