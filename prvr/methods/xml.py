"""XML (Lei et al., ECCV 2020): cross-modal moment localisation, its video side alone, as the tables of this field have it, or
with subtitles.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
query encoder                `Xml.encode_queries`: projection, positions, one attention block
modular query vectors        one vector by attentive pooling for each modality
context encoder, enc1        `Xml.encode_videos`: the same blocks over frames, field "frames"; over subtitles, field "subtitles"
S(q, v)                      `Xml.score`: the best frame's cosine, mean over modalities
hinge loss, both directions  `ranking`, `margin`; `ranking_loss` for log(1 + e^x) in its place
hard negatives, pool         `hard_from_epoch`, `negative_pool`, in both directions
ConvSE, span cross-entropy   left out: they find moments in a video and not the video, and the tables rank by S alone; with
                             them enc2 and the attention between modalities, which spans alone are found by

Equal to the released code (jayleicn/TVRetrieval, d99a9ea, context modes "video" and "video_sub", span weight 0) on pairs of a
caption and its video. A batch here holds a video once, with all its captions: positives of a video are averaged, and its other
captions are no negatives (docs/decisions/0040). Subtitles: docs/decisions/0080.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.config import ADDED_LATER
from prvr.methods.contract import Embeddings, Method, Terms, compare_fields
from prvr.nn import scores
from prvr.nn.layers import AttentivePooling, InputProjection, Rows, initialise, pool_at, sequence_encoder, split_subtitles
from prvr.nn.localisation import (
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
class XmlConfig(LocaliserSettings):
    """Settings of the paper; the released code reads the first `max_frames` frames (`sampling=first`)."""

    ranking_loss: Literal["hinge", "lse"] = field(default="hinge", metadata=ADDED_LATER)


class Xml(nn.Module):
    """S(q, v) = max_f cos(query vector, frame f after one attention block); with subtitles the mean with theirs.

    Args:
        subtitle_columns: the columns of a frame after those of the pictures; 0 for a model without subtitles.
    """

    def __init__(self, config: XmlConfig, *, frame_columns: int, word_columns: int, subtitle_columns: int = 0) -> None:
        super().__init__()
        self.config = config
        self.reading = config.reading(frame_columns, word_columns, subtitle_columns)
        self.embedding_fields = field_names(subtitle_columns)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = equal_weights(self.embedding_fields)
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout)
        self.words = sequence_encoder(config.max_words, config)
        self.pooling = AttentivePooling(config.hidden)
        self.frame_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.frames = sequence_encoder(config.max_frames, config)
        self.subtitles = SubtitleEncoder(subtitle_columns, config) if subtitle_columns else None
        self.subtitle_pooling = AttentivePooling(config.hidden) if subtitle_columns else None
        self.apply(initialise)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector per query and modality."""
        rows = Rows.of(mask, places)
        hidden = rows.padded(self.words(self.word_projection(rows.packed(words)), rows))
        query = self.pooling(hidden, mask)
        return (query,) if self.subtitle_pooling is None else (query, self.subtitle_pooling(hidden, mask))

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """One vector per frame and modality, zeros where padded."""
        rows = Rows.of(mask, places)
        pictures, subtitles = split_subtitles(rows.packed(frames), self.reading.subtitle_columns)
        shown = rows.padded(self.frames(self.frame_projection(pictures), rows))
        if self.subtitles is None:
            return (shown,)
        return shown, rows.padded(self.subtitles(subtitles, self.frames.positions, rows))

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The best frame's cosine, mean over modalities."""
        return scores.fused(queries, videos, [mask] * len(videos), weights=equal_weights(self.embedding_fields))

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Each frame's cosine, mean over modalities."""
        return mean_relevance(query, video)


def objective(model: Xml, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The hinge between right and wrong in both directions, its negatives drawn at random first and hard later."""
    config = model.config
    ours = mean_comparison(compare_fields(queries, videos, batch))
    margin = config.margin if config.ranking_loss == "hinge" else None
    return {"triplet": ranking(ours.cosines, batch.target, margin=margin, pool=pool_at(config, epoch), both=True)}


METHOD = Method(XmlConfig, Xml, objective, subtitles=True)
