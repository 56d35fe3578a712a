"""Mixture of embedding experts (Miech et al., 2018), as the released code of collaborative experts has it without gating.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
embedding experts            `experts`: columns of the frames' features, a block for each (prvr/features/joined.py)
missing modality             a block that is zeros in all frames of a video
NetVLAD over words           `clusters`, `ghost_clusters` (prvr.nn.experts)
gated embedding unit         `GatedUnit`: one for each expert on both sides, to the expert's own width
mixture weights w_e(q)       softmax of a Linear of the pooled sentence; the length of the query's vector of that expert
S(q, v)                      `ExpertModel.score`: sum_e w_e <t_e, v_e> over the video's experts, by the sum of their w_e
max-margin ranking loss      `max_margin`, `margin`

Equal to the released code (albanie/collaborative-experts, 7eb3b9d, without gating) on a batch of one caption for each video.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn.experts import ExpertModel, ExpertSettings, GatedUnit, VideoExperts, max_margin, side_by_side


@dataclass(frozen=True)
class EmbeddingExpertsConfig(ExpertSettings):
    """Settings of the model; the defaults are those of MSR-VTT but for the experts."""


class GatedExperts(nn.Module):
    """A gated unit for each expert of a video, to the expert's own width."""

    def __init__(self, experts: VideoExperts) -> None:
        super().__init__()
        self.units = nn.ModuleList(GatedUnit(pooled, own) for pooled, own in zip(experts.widths, experts.columns, strict=True))

    def forward(self, vectors: list[Float[Tensor, "V _"]], there: Bool[Tensor, "V M"]) -> Float[Tensor, "V M D"]:
        return side_by_side([unit(vector) for unit, vector in zip(self.units, vectors, strict=True)])


class EmbeddingExperts(ExpertModel):
    """`ExpertModel` in which no expert reads another."""

    def __init__(self, config: EmbeddingExpertsConfig, *, frame_columns: int, word_columns: int) -> None:
        experts = VideoExperts(frame_columns, config)
        super().__init__(config, experts, GatedExperts(experts), widths=experts.columns, word_columns=word_columns)


def objective(model: EmbeddingExperts, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """Right and wrong pairs of the batch, in both directions."""
    scores = model.score(queries, videos, batch.frame_mask)
    return {"ranking": max_margin(scores, batch.target, margin=model.config.margin)}


METHOD = Method(EmbeddingExpertsConfig, EmbeddingExperts, objective)
