"""XML (Lei et al., ECCV 2020): cross-modal moment localisation, its video side alone, as the tables of this field have it.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
query encoder                `Xml.encode_queries`: projection, positions, one attention block
modular query vector         one vector by attentive pooling; one modality, so there is one
context encoder, enc1        `Xml.encode_videos`: the same blocks over frames, field "frames"
S(q, v)                      `Xml.score`: the best frame's cosine
hinge loss, both directions  `ranking`, `margin`; `ranking_loss` for log(1 + e^x) in its place
hard negatives, pool         `hard_from_epoch`, `negative_pool`, in both directions
ConvSE, span cross-entropy   left out: they find moments in a video and not the video, and the tables rank by S alone

Equal to the released code (jayleicn/TVRetrieval, d99a9ea, context mode "video", span weight 0) on pairs of a caption and its
video. A batch here holds a video once, with all its captions: positives of a video are averaged, and its other captions are
no negatives (docs/decisions/0040). Subtitles are not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.config import ADDED_LATER
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn import scores
from prvr.nn.layers import AttentivePooling, InputProjection, Rows, initialise, pool_at, sequence_encoder
from prvr.nn.localisation import LocaliserSettings
from prvr.nn.losses import ranking
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words


@dataclass(frozen=True)
class XmlConfig(LocaliserSettings):
    """Settings of the paper; the released code reads the first `max_frames` frames (`sampling=first`)."""

    ranking_loss: Literal["hinge", "lse"] = field(default="hinge", metadata=ADDED_LATER)


class Xml(nn.Module):
    """S(q, v) = max_f cos(query vector, frame f after one attention block)."""

    def __init__(self, config: XmlConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = config.reading(frame_columns, word_columns)
        self.embedding_fields: tuple[str, ...] = ("frames",)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = (1.0,)
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout)
        self.words = sequence_encoder(config.max_words, config)
        self.pooling = AttentivePooling(config.hidden)
        self.frame_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.frames = sequence_encoder(config.max_frames, config)
        self.apply(initialise)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector per query."""
        rows = Rows.of(mask, places)
        hidden = self.words(self.word_projection(rows.packed(words)), rows)
        return (self.pooling(rows.padded(hidden), mask),)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """One vector per frame, zeros where padded."""
        rows = Rows.of(mask, places)
        return (rows.padded(self.frames(self.frame_projection(rows.packed(frames)), rows)),)

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The best frame's cosine."""
        return scores.best_cosines(queries[0], videos[0], mask)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Each frame's cosine."""
        return scores.frame_cosines(query[0], video[0], scores.every_row(video[0]))[0, 0]


def objective(model: Xml, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The hinge between right and wrong in both directions, its negatives drawn at random first and hard later."""
    config = model.config
    ours = scores.compare(queries[0], videos[0], batch.frame_mask, batch.target)
    margin = config.margin if config.ranking_loss == "hinge" else None
    return {"triplet": ranking(ours.cosines, batch.target, margin=margin, pool=pool_at(config, epoch), both=True)}


METHOD = Method(XmlConfig, Xml, objective)
