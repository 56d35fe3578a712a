"""GMMFormer v2 (Wang et al., 2024): eight widths of attention, joined by learned weights at each place.

The paper's words              our names
-----------------------------  ----------------------------------------------------------------------
clip- and frame-level branch   `ViewsBranch` "clips" and "frames": a vector a clip and a vector a frame
multi-scale Gaussian block     `attention_views`: one `AttentionBlock` for each of `widths`
temporal consolidation module  `Consolidation`; its weight token is a parameter of `ViewsModel`
sft                            `consolidation_temperature`
S                              `ViewsModel.score`: (1 - frame_weight) best clip's cosine + frame_weight best frame's
query diverse loss, focal      `focal_diversity`; gamma: `diversity_focus`
optimal matching loss          `matching`, weight `matching_weight`

It computes what the released code computes (huangmozhi9527/GMMFormer_v2 5bacac9; tests/parity/peers/gmmformer_v2). Where that is
odd, docs/decisions/0038 says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

from prvr.batch import Batch
from prvr.methods.contract import Contrast, Embeddings, Method, Terms
from prvr.nn import losses
from prvr.nn.caption_losses import matching
from prvr.nn.gaussian import attention_views, check_widths
from prvr.nn.layers import initialise
from prvr.nn.views import ViewSettings, ViewsModel, profile, view_terms


@dataclass(frozen=True)
class GmmFormerV2Config(ViewSettings):
    """Settings of the paper; the defaults are those for TVR. `ViewSettings` has the others.

    widths: of the windows, in ninths of a sequence's length; 0 for a block without a window.
    """

    widths: tuple[float, ...] = (0.0, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0)
    matching_weight: float = 0.09

    def __post_init__(self) -> None:
        super().__post_init__()
        check_widths(self.widths)


@final
class GmmFormerV2(ViewsModel):
    """Clips and frames through blocks of several widths, weighed by one learned token."""

    config: GmmFormerV2Config

    def __init__(self, config: GmmFormerV2Config, *, frame_columns: int, word_columns: int) -> None:
        views = partial(attention_views, config.hidden, config.heads, config.dropout, widths=config.widths)
        super().__init__(config, views, token=True, frame_columns=frame_columns, word_columns=word_columns)
        self.apply(initialise)


def objective(
    model: GmmFormerV2, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int, *, contrast: Contrast = losses.info_nce
) -> Terms:
    """Triplet and contrastive loss of each branch, focal diversity of queries, and matching of captions with clips."""
    terms = view_terms(model, queries, videos, batch, epoch, contrast=contrast)
    return terms | {"matching": model.config.matching_weight * matching(queries[0], videos[0], batch.target)}


METHOD = Method(GmmFormerV2Config, GmmFormerV2, objective, contrasts=True, profile=profile, revision=2)
