"""ReLoCLNet (Zhang et al., SIGIR 2021): XML with contrastive learning on the way, with subtitles as published, or without.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
the XML skeleton             projection, positions, attention, cosines, hinge, as in prvr.methods.xml
query encoder, second block  `Reloclnet.encode_queries`: one vector after two attention blocks for each modality
context encoder, extra one   `Reloclnet.encode_videos`: three attention blocks, fields "frames" and "subtitles" after the last;
                             after the first, each modality attends to the other
S(q, v)                      `Reloclnet.score`: the best frame's cosine, on the last encoding, mean over modalities
VideoCL                      `losses.pair_contrast`, `video_contrast_weight`: of the best inner product with a frame after the
                             second block
FrameCL, ConvSE              left out: they read the annotated span of each query in training, which this task does not give
hard negatives, pool         `hard_from_epoch`, `negative_pool`, in both directions

The released model (26hzhang/ReLoCLNet, 56cb666) needs subtitles (docs/decisions/0080). Without them this is that model without
what goes with them: equal to the released modules put together so. What the tables of this field ran is not released
(docs/decisions/0040).
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.methods.contract import Contrast, Embeddings, Method, Terms, compare_fields
from prvr.nn import losses, scores
from prvr.nn.layers import (
    AttentivePooling,
    InputProjection,
    Rows,
    SelfAttention,
    initialise,
    pool_at,
    sequence_encoder,
    split_subtitles,
)
from prvr.nn.localisation import (
    CrossAttention,
    LocaliserSettings,
    SubtitleEncoder,
    equal_weights,
    field_names,
    mean_comparison,
    mean_relevance,
)
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
    """S(q, v) = max_f cos(query vector after two blocks, frame f after three); with subtitles the mean with theirs.

    In training the frames after two blocks follow those of the fields: only the objective reads them.

    Args:
        subtitle_columns: the columns of a frame after those of the pictures; 0 for a model without subtitles.
    """

    def __init__(self, config: ReloclnetConfig, *, frame_columns: int, word_columns: int, subtitle_columns: int = 0) -> None:
        super().__init__()
        self.config = config
        self.reading = config.reading(frame_columns, word_columns, subtitle_columns)
        self.embedding_fields = field_names(subtitle_columns)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = equal_weights(self.embedding_fields)
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout)
        self.words = sequence_encoder(config.max_words, config)
        self.second_words = SelfAttention(config.hidden, config.heads, config.dropout)
        self.pooling = AttentivePooling(config.hidden)
        self.frame_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.frames = sequence_encoder(config.max_frames, config)
        self.second_frames = SelfAttention(config.hidden, config.heads, config.dropout)
        self.extra_frames = SelfAttention(config.hidden, config.heads, config.dropout)
        self.spoken = _Spoken(subtitle_columns, config) if subtitle_columns else None
        self.apply(initialise)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector per query and modality."""
        rows = Rows.of(mask, places)
        first = self.words(self.word_projection(rows.packed(words)), rows)
        hidden = rows.padded(self.second_words(first, rows))
        query = self.pooling(hidden, mask)
        return (query,) if self.spoken is None else (query, self.spoken.pooling(hidden, mask))

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """One vector per frame and modality, zeros where padded; in training those after the second blocks, too."""
        rows = Rows.of(mask, places)
        pictures, subtitles = split_subtitles(rows.packed(frames), self.reading.subtitle_columns)
        first = self.frames(self.frame_projection(pictures), rows)
        if self.spoken is None:
            middles = [self.second_frames(first, rows)]
            lasts = [self.extra_frames(middles[0], rows)]
        else:
            said = self.spoken.first(subtitles, self.frames.positions, rows)
            middles = [
                self.second_frames(self.spoken.heard_by_frames(first, said, rows), rows),
                self.spoken.second(self.spoken.hears_frames(said, first, rows), rows),
            ]
            lasts = [self.extra_frames(middles[0], rows), self.spoken.extra(middles[1], rows)]
        return tuple(map(rows.padded, [*lasts, *middles] if self.training else lasts))

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The best frame's cosine, mean over modalities."""
        fields = videos[: len(queries)]
        return scores.fused(queries, fields, [mask] * len(fields), weights=equal_weights(self.embedding_fields))

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Each frame's cosine, mean over modalities."""
        return mean_relevance(query, video)


class _Spoken(nn.Module):
    """What only a model with subtitles has."""

    def __init__(self, columns: int, config: ReloclnetConfig) -> None:
        super().__init__()
        self.pooling = AttentivePooling(config.hidden)
        self.first = SubtitleEncoder(columns, config)
        self.heard_by_frames = CrossAttention(config)
        self.hears_frames = CrossAttention(config)
        self.second = SelfAttention(config.hidden, config.heads, config.dropout)
        self.extra = SelfAttention(config.hidden, config.heads, config.dropout)


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
    lasts, middles = videos[: len(queries)], videos[len(queries) :]
    last, middle = (mean_comparison(compare_fields(queries, fields, batch)) for fields in (lasts, middles))
    pool = pool_at(config, epoch)
    return {
        "triplet": ranking(last.cosines, batch.target, margin=config.margin, pool=pool, both=True),
        "video_contrast": config.video_contrast_weight * contrast(middle.dots, batch.target),
    }


def profile(model: Reloclnet, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """The cosines of each query with the frames of its own video, on the last encoding, mean over modalities."""
    return mean_comparison(compare_fields(queries, videos[: len(queries)], batch)).profile


METHOD = Method(ReloclnetConfig, Reloclnet, objective, contrasts=True, profile=profile, revision=2, subtitles=True)
