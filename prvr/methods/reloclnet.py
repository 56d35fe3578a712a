"""ReLoCLNet (Zhang et al., SIGIR 2021): XML with contrastive learning on the way, its video side alone.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
the XML skeleton             projection, positions, attention, cosines, hinge, as in prvr.methods.xml
query encoder, second block  `Reloclnet.encode_queries`: one vector after two attention blocks
context encoder, extra one   `Reloclnet.encode_videos`: three attention blocks, field "frames" after the last
S(q, v)                      `Reloclnet.score`: the best frame's cosine, on the last encoding
VideoCL                      `losses.pair_contrast`, `video_contrast_weight`: of the best inner product with a frame after the
                             second block
FrameCL                      left out: it reads the annotated span of each query in training, which this task does not give
hard negatives, pool         `hard_from_epoch`, `negative_pool`, in both directions

The released model (26hzhang/ReLoCLNet, 56cb666) needs subtitles. This is that model without them, and without what goes with
them: equal to the released modules put together so. What the tables of this field ran is not released (docs/decisions/0040).
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.layers import AttentivePooling, InputProjection, Rows, SelfAttention, initialise, pool_at, sequence_encoder
from prvr.nn.localisation import LocaliserSettings
from prvr.nn.losses import ranking
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words


@dataclass(frozen=True)
class ReloclnetConfig(LocaliserSettings):
    """Settings of the paper."""

    hidden: int = 384
    heads: int = 8
    max_frames: int = 128
    video_contrast_weight: float = 0.03


class Reloclnet(nn.Module):
    """S(q, v) = max_f cos(query vector after two blocks, frame f after three).

    In training the frames after two blocks follow those of the field: only the objective reads them.
    """

    def __init__(self, config: ReloclnetConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = config.reading(frame_columns, word_columns)
        self.embedding_fields: tuple[str, ...] = ("frames",)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = (1.0,)
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout)
        self.words = sequence_encoder(config.max_words, config)
        self.second_words = SelfAttention(config.hidden, config.heads, config.dropout)
        self.pooling = AttentivePooling(config.hidden)
        self.frame_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.frames = sequence_encoder(config.max_frames, config)
        self.second_frames = SelfAttention(config.hidden, config.heads, config.dropout)
        self.extra_frames = SelfAttention(config.hidden, config.heads, config.dropout)
        self.apply(initialise)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector per query."""
        rows = Rows.of(mask, places)
        first = self.words(self.word_projection(rows.packed(words)), rows)
        return (self.pooling(rows.padded(self.second_words(first, rows)), mask),)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """One vector per frame, zeros where padded; in training those after the second block, too."""
        rows = Rows.of(mask, places)
        middle = self.second_frames(self.frames(self.frame_projection(rows.packed(frames)), rows), rows)
        last = rows.padded(self.extra_frames(middle, rows))
        return (last, rows.padded(middle)) if self.training else (last,)

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
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
    contrast: Contrast = losses.pair_contrast,
) -> Terms:
    """XML's hinge on the last encoding of the frames, and a contrastive loss on the one before."""
    config = model.config
    last, middle = (scores.compare(queries[0], frames, batch.frame_mask, batch.target) for frames in videos)
    pool = pool_at(config, epoch)
    return {
        "triplet": ranking(last.cosines, batch.target, margin=config.margin, pool=pool, both=True),
        "video_contrast": config.video_contrast_weight * contrast(middle.dots, batch.target),
    }


def profile(model: Reloclnet, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """The cosines of each query's last vector with the frames of its own video."""
    return scores.compare(queries[0], videos[0], batch.frame_mask, batch.target).profile


METHOD = Method(ReloclnetConfig, Reloclnet, objective, contrasts=True, profile=profile, revision=2)
