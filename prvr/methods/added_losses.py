"""Losses that any student can have beside its own and that need no teacher; their weights are settings of `Distillation`.

term             source
---------------  ---------------------------------------------------------------------------------------------------
neg_nce          NegNCE of DMAE (MM 2023), of `Model.score`: `losses.neg_nce`
query_diversity  GMMFormer v2's focal diversity, of the queries' vectors of the first field: `caption_losses.focal_diversity`
clip_matching    GMMFormer v2's matching, with the first field of clips, or of frames where there is none:
                 `caption_losses.matching`
degraded         after the triplet with a partial margin of TPM-CL (MM 2023), of the scores along a query's own video:
                 `losses.degraded_triplet`

Where a method has such a loss itself, this one is added to it.
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from prvr.batch import Batch
from prvr.errors import SettingError
from prvr.methods.contract import Embeddings, Model, Profile, Terms
from prvr.methods.probe import field_with_rows
from prvr.nn import losses
from prvr.nn.caption_losses import focal_diversity, matching
from prvr.nn.distillation import Distillation


@final
class AddedLosses:
    """The added losses of one student.

    Args:
        profile: the scores of each query along its own video; None for a student without.

    Raises:
        SettingError: the student lacks what a loss needs.
    """

    def __init__(self, settings: Distillation, *, method: str, student: Model, profile: Profile | None) -> None:
        self.settings, self.profile, self.matched = settings, profile, 0
        if settings.degraded_weight and profile is None:
            raise SettingError(f"{method} does not score along a video, so no part of it can be left out; take degraded_weight=0")
        if settings.clip_matching_weight:
            place = field_with_rows(student, frames_first=False)
            if place is None:
                raise SettingError(f"{method} has no clips or frames that a query is compared with; take clip_matching_weight=0")
            self.matched = place

    def terms(self, model: Model, queries: Embeddings, videos: Embeddings, batch: Batch) -> Terms:
        """The weighted terms, by name; those with a weight of 0 are left out."""
        settings, target, terms = self.settings, batch.target, Terms()
        if settings.neg_nce_weight:
            found = model.score(queries, videos, batch.frame_mask)
            loss = losses.neg_nce(found, target, scale=settings.neg_nce_scale, margin=settings.neg_nce_margin)
            terms["neg_nce"] = settings.neg_nce_weight * loss
        if settings.query_diversity_weight:
            scale, margin, focus = (getattr(settings, f"query_diversity_{name}") for name in ("scale", "margin", "focus"))
            loss = focal_diversity(query_vectors(queries), target, scale=scale, margin=margin, focus=focus)
            terms["query_diversity"] = settings.query_diversity_weight * loss
        if settings.clip_matching_weight:
            framed = model.embedding_fields[self.matched] in model.frame_fields
            loss = matching(queries[self.matched], videos[self.matched], target, batch.frame_mask if framed else None)
            terms["clip_matching"] = settings.clip_matching_weight * loss
        if settings.degraded_weight:
            assert self.profile is not None
            curve, mask = self.profile(model, queries, videos, batch), batch.frame_mask[target]
            loss = losses.degraded_triplet(curve, mask, margin=settings.degraded_margin, share=settings.degraded_share)
            terms["degraded"] = settings.degraded_weight * loss
        return terms


def query_vectors(queries: Embeddings, place: int = 0) -> Float[Tensor, "Q D"]:
    """One vector for each query: that of a field, its parts side by side where it has several."""
    return queries[place].flatten(1)
