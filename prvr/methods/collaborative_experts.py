"""Collaborative experts (Liu et al., BMVC 2019), the student and the teachers of TeachText (Croitoru et al., ICCV 2021).

The papers' words            our names
---------------------------  ------------------------------------------------------------------------
video experts                `experts`: columns of the frames' features, a block for each (prvr/features/joined.py)
missing modality             a block that is zeros in all frames of a video
NetVLAD over words, sound    `clusters`, `ghost_clusters`, `expert_clusters` (prvr.nn.experts)
collaborative gating         `CollaborativeGating`, `hidden`: each expert is gated by what it says beside each of the others
gated embedding unit         of a sentence, one for each expert, in `ExpertModel`
mixture weights w_e(q)       softmax of a Linear of the pooled sentence; the length of the query's vector of that expert
S(q, v)                      `ExpertModel.score`: sum_e w_e <t_e, v_e> over the video's experts, by the sum of their w_e
L_rank                       `max_margin`, `margin`
L_d, its targets             a Distillation beside this objective: batch_matrix, huber, mean, weight 1
text-encoder teachers        runs of this method on other caption features (prvr/train/similarities.py)
teachers with more experts   runs of this method with more `experts`
denoised captions            prvr/train/denoising.py

Equal to the released code (albanie/collaborative-experts, 7eb3b9d, pairwise) on a batch of one caption for each video. A batch
here has all captions of a video, and `max_margin` is the published loss where it has one. The optimiser is ours, where theirs
is RAdam (docs/decisions/0041). Without the gating this is prvr.methods.embedding_experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import mish, normalize

from prvr.batch import Batch
from prvr.config import check_above_zero
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn.experts import ExpertModel, ExpertSettings, VideoExperts, max_margin
from prvr.nn.levels import batch_normalise


@dataclass(frozen=True)
class CollaborativeExpertsConfig(ExpertSettings):
    """Settings of the model; the defaults are TeachText's on MSR-VTT but for the experts.

    hidden: columns of every expert. simultaneous: experts are gated by the others as they were before the gating; the
    released code gates one after the other, so that the order of the experts matters.
    """

    hidden: int = 768
    simultaneous: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "hidden")


class ExpertGate(nn.Module):
    """unit(x * sigmoid(BN_1(m) + BN_2(G x + h))): an expert x, gated by m."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, hidden)
        self.norm, self.own_norm = nn.BatchNorm1d(hidden), nn.BatchNorm1d(hidden)

    def forward(self, expert: Float[Tensor, "V D"], others: Float[Tensor, "V D"]) -> Float[Tensor, "V D"]:
        gate = batch_normalise(self.norm, others) + batch_normalise(self.own_norm, self.linear(expert))
        return normalize(expert * gate.sigmoid(), dim=1)


class CollaborativeGating(nn.Module):
    """The experts of a video in one width, each gated by the mean over the video's experts f of g(x_e, x_f); e is among them.

    g(x, y) = L_3 mish(BN_b(L_2 mish(BN_a(L_1 [x; y])))), the same for all pairs; the statistics of BN are those of one pair.
    An expert that a video lacks takes part in the statistics, and in no mean. (CE, equations 3 to 5.)
    """

    def __init__(self, experts: VideoExperts, config: CollaborativeExpertsConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.simultaneous = config.simultaneous
        self.reductions = nn.ModuleList(nn.Linear(width, hidden) for width in experts.widths)
        self.first, self.second, self.third = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.first_norm, self.second_norm = nn.BatchNorm1d(hidden), nn.BatchNorm1d(hidden)
        self.gates = nn.ModuleList(ExpertGate(hidden) for _ in experts.widths)

    def forward(self, vectors: list[Float[Tensor, "V _"]], there: Bool[Tensor, "V M"]) -> Float[Tensor, "V M D"]:
        reduced = [normalize(layer(vector), dim=1) for layer, vector in zip(self.reductions, vectors, strict=True)]
        gated, present = list(reduced), there.to(reduced[0].dtype)
        for place, gate in enumerate(self.gates):
            beside = reduced if self.simultaneous else gated
            pairs = torch.stack([self._pair(beside[place], other) for other in beside], dim=1)
            weights = present * present[:, place, None]
            mean = torch.einsum("vm,vmd->vd", weights, pairs) / weights.sum(1, keepdim=True).clamp(min=1)
            gated[place] = gate(beside[place], mean)
        return torch.stack(gated, dim=1)

    def _pair(self, expert: Float[Tensor, "V D"], other: Float[Tensor, "V D"]) -> Float[Tensor, "V D"]:
        hidden = mish(batch_normalise(self.first_norm, self.first(torch.cat([expert, other], dim=1))))
        result: Tensor = self.third(mish(batch_normalise(self.second_norm, self.second(hidden))))
        return result


class CollaborativeExperts(ExpertModel):
    """`ExpertModel` in which each expert of a video is gated by the others."""

    def __init__(self, config: CollaborativeExpertsConfig, *, frame_columns: int, word_columns: int) -> None:
        experts = VideoExperts(frame_columns, config)
        widths = [config.hidden] * len(experts.columns)
        super().__init__(config, experts, CollaborativeGating(experts, config), widths=widths, word_columns=word_columns)


def objective(model: CollaborativeExperts, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """L_rank(S): right and wrong pairs of the batch, in both directions."""
    scores = model.score(queries, videos, batch.frame_mask)
    return {"ranking": max_margin(scores, batch.target, margin=model.config.margin)}


METHOD = Method(CollaborativeExpertsConfig, CollaborativeExperts, objective, revision=2)
