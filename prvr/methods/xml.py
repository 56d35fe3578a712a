"""XML (Lei et al., ECCV 2020): cross-modal moment localisation, its video side alone, as the tables of this field have it.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
query encoder                `Xml.encode_queries`: projection, positions, one attention block
modular query vector         one vector by attentive pooling; one modality, so there is one
context encoder, enc1        `Xml.encode_videos`: the same blocks over frames, field "frames"
S(q, v)                      `Xml.score`: the best frame's cosine
hinge loss, both directions  `losses.triplet`, `margin`
hard negatives, pool         `hard_from_epoch`, `negative_pool`; before that epoch any wrong partner, drawn uniformly
ConvSE, span cross-entropy   left out: they find moments in a video and not the video, and the tables rank by S alone

Source: spec/methods 2.4. It leaves open, and we decided: the drop-out shares (0.1, as its descendants have), and a video
with several captions, for which positives are averaged as in `losses.triplet`. Subtitles are not read.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_heads, check_shares
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn import scores
from prvr.nn.layers import AttentivePooling, InputProjection, Rows, initialise, pool_at, sequence_encoder
from prvr.nn.losses import ranking


@dataclass(frozen=True)
class XmlConfig:
    """Settings of the paper."""

    hidden: int = 256
    heads: int = 4
    max_frames: int = 100
    max_words: int = 30
    dropout: float = 0.1
    input_dropout: float = 0.1
    margin: float = 0.1
    negative_pool: int = 20
    hard_from_epoch: int = 20

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "heads", "max_frames", "max_words", "negative_pool")
        check_shares(self, "dropout", "input_dropout")
        check_heads(self)


class Xml(nn.Module):
    """S(q, v) = max_f cos(query vector, frame f after one attention block)."""

    def __init__(self, config: XmlConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.embedding_fields: tuple[str, ...] = ("frames",)
        self.frame_fields = self.embedding_fields
        self.score_weights: tuple[float, ...] | None = (1.0,)
        self.word_projection = InputProjection(word_columns, config.hidden, config.input_dropout)
        self.words = sequence_encoder(config.max_words, config)
        self.pooling = AttentivePooling(config.hidden)
        self.frame_projection = InputProjection(frame_columns, config.hidden, config.input_dropout)
        self.frames = sequence_encoder(config.max_frames, config)
        self.apply(initialise)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per query."""
        rows = Rows.of(mask, places)
        hidden = self.words(self.word_projection(rows.packed(words)), rows)
        return (self.pooling(rows.padded(hidden), mask),)

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per frame, zeros where padded."""
        rows = Rows.of(mask, places)
        return (rows.padded(self.frames(self.frame_projection(rows.packed(frames)), rows)),)

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The best frame's cosine."""
        return scores.best_cosines(queries[0], videos[0], mask)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """Each frame's cosine."""
        return scores.frame_cosines(query[0], video[0], scores.every_row(video[0]))[0, 0]


def objective(model: Xml, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The hinge between right and wrong in both directions, its negatives drawn at random first and hard later."""
    config = model.config
    ours = scores.compare(queries[0], videos[0], batch.frame_mask, batch.target)
    return {"triplet": ranking(ours.cosines, batch.target, margin=config.margin, pool=pool_at(config, epoch))}


METHOD = Method(XmlConfig, Xml, objective)
