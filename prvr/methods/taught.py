"""Distillation on any student: what teachers say is asked of a method through the contract, and no method is changed.

frame_profile   the student's `profile`: of a method that says how it scores along a video, or the weighted cosines of its
                fields (`field_profile`), where clips stand for the frames that they divide
batch_matrix    the student's `Model.score` of the batch
feature         its first field with a row for each frame, through `distillation.FeatureMaps`
soft_targets    every `losses.info_nce` of an objective that takes `contrast=`

A teacher is an encoder with images and sentences in one space (`Batch.teachers`) or the kept scores of a trained model
(`prvr.train.similarities`), which know a batch matrix and nothing finer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.errors import SettingError
from prvr.methods import METHODS, Method
from prvr.methods.contract import Contrast, Embeddings, Model, Profile, Terms
from prvr.nn import distillation, losses, scores
from prvr.nn.clips import over_frames
from prvr.nn.distillation import Distillation, FeatureMaps, SoftTargets, TeacherShares
from prvr.nn.layers import initialise
from prvr.nn.scores import Comparison


@final
class Guidance(nn.Module):
    """What teachers tell one student: an objective around its own, with the parameters that only this needs.

    Args:
        teacher_columns: widths of the teachers that are encoders. kept: how many more have kept their scores.

    Raises:
        SettingError: this method, or these teachers, cannot give what the settings ask for.
    """

    def __init__(
        self, settings: Distillation, *, method: str, student: Model, teacher_columns: Sequence[int] = (), kept: int = 0
    ) -> None:
        super().__init__()
        self.settings, self.method = settings, METHODS[method]
        _check_method(settings, method, student)
        check_teachers(settings, len(teacher_columns), kept)
        self.profile: Profile = self.method.profile or field_profile
        wanted = settings.distillation_target if settings.compares else None
        self.place = _frame_field(student) if wanted == "feature" else 0
        self.maps = FeatureMaps(_width(student, self.place), teacher_columns) if wanted == "feature" else None
        learned = wanted is not None and settings.distillation_aggregate == "learned"
        self.shares = TeacherShares(len(teacher_columns) + kept) if learned else None
        self.apply(initialise)

    def objective(
        self,
        model: Model,
        queries: Embeddings,
        videos: Embeddings,
        batch: Batch,
        epoch: int,
        kept: Sequence[Float[Tensor, "Q V"]] = (),
    ) -> Terms:
        """The terms of the student's own objective, its targets softened, and those of what the teachers say."""
        guides = distillation.guides_of(batch)
        matrices = [guide.cosines for guide in guides] + list(kept)
        own: Callable[..., Terms] = self.method.objective  # type: ignore[assignment]
        if self.settings.soft_targets != "none":
            own = partial(own, contrast=self._contrast(epoch, batch, [guide.dots for guide in guides] + list(kept)))
        terms = dict(own(model, queries, videos, batch, epoch))
        weight = self.settings.weight(epoch)
        if weight:
            terms["distillation"] = weight * self._distilled(model, queries, videos, batch, guides, matrices)
        if self.shares is not None:
            temperature = self.settings.distillation_temperature
            terms["teacher_shares"] = self.shares.objective(matrices, batch.target, temperature=temperature)
        return terms

    def _distilled(
        self,
        model: Model,
        queries: Embeddings,
        videos: Embeddings,
        batch: Batch,
        guides: list[Comparison],
        matrices: list[Tensor],
    ) -> Float[Tensor, ""]:
        settings, shares = self.settings, self.shares
        if self.maps is not None:
            query, video = queries[self.place], videos[self.place]
            return distillation.from_features(self.maps, query, video, batch, settings=settings)
        if settings.distillation_target == "batch_matrix":
            ours = model.score(queries, videos, batch.frame_mask)
            return distillation.from_matrices(ours, matrices, settings=settings, shares=shares)
        told, mask = [guide.profile for guide in guides], batch.frame_mask[batch.target]
        profile = self.profile(model, queries, videos, batch)
        return distillation.from_profiles(profile, told, mask, settings=settings, shares=shares)

    def _contrast(self, epoch: int, batch: Batch, told: list[Tensor]) -> Contrast:
        soft, temperature = SoftTargets.at(self.settings, epoch, batch), self.settings.teacher_temperature

        def contrast(dots: Tensor, target: Tensor) -> Tensor:
            relevance = dots.detach()[None] if self.settings.soft_targets == "self" else torch.stack(told) / temperature
            return soft.info_nce(dots, target, relevance=relevance)

        return contrast


def field_profile(model: Model, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """The weighted sum over fields of a query's cosines with the rows of its own video, -inf where that is padded.

    A row that is one of P for a whole video stands for the frames of its P-th part. A single row says nothing of where.
    """
    assert model.score_weights is not None
    mask, parts = batch.frame_mask[batch.target], []
    for weight, name, query, video in zip(model.score_weights, model.embedding_fields, queries, videos, strict=True):
        rows = video.shape[1]
        if name in model.frame_fields:
            cosines = scores.frame_cosines(query, video, batch.frame_mask)
            parts.append(weight * scores.own_video(cosines, batch.target).masked_fill(~mask, 0))
        elif rows > 1:
            of_clips = scores.own_video(scores.frame_cosines(query, video, scores.every_row(video)), batch.target)
            parts.append(weight * over_frames(of_clips, mask).masked_fill(~mask, 0))
    return torch.stack(parts).sum(0).masked_fill(~mask, losses.LOWEST)


def own_settings(method: str) -> bool:
    """Whether a method brings settings of distillation of its own, so that none can be added."""
    return bool(distillation.SETTINGS & {field.name for field in fields(METHODS[method].config)})


def check_teachers(settings: Distillation, encoders: int, kept: int) -> None:
    """Sees that teachers can give what the settings ask for.

    Args:
        encoders: how many of them are encoders. kept: how many are trained models, which have kept their scores.

    Raises:
        SettingError: they cannot, or there are none.
    """
    if settings.soft_targets == "teacher" and not encoders + kept:
        raise SettingError("soft_targets=teacher needs a teacher; name one (--teacher), or take soft_targets=self or none")
    if not settings.compares:
        return
    if not encoders + kept:
        raise SettingError("distillation needs a teacher; name one (--teacher), or take distillation_weight=0")
    if settings.distillation_target != "batch_matrix" and (kept or not encoders):
        raise SettingError(
            f"distillation_target is {settings.distillation_target!r}, and a trained model as teacher keeps its scores of "
            "whole videos alone; take distillation_target=batch_matrix"
        )


def _check_method(settings: Distillation, name: str, student: Model) -> None:
    method: Method = METHODS[name]
    if own_settings(name):
        raise SettingError(f"{name} distils by settings of its own; change those, and add no distillation")
    if method.objective is None:
        raise SettingError(f"{name} has nothing to learn, from teachers neither; index and evaluate with it as it is")
    if settings.soft_targets != "none" and not method.contrasts:
        raise SettingError(f"{name} has no contrastive loss whose targets could be soft; take soft_targets=none")
    if not settings.compares:
        return
    target = settings.distillation_target
    if target == "frame_profile" and method.profile is None and not _says_where(student):
        raise SettingError(f"{name} does not score along a video; take distillation_target=batch_matrix")
    if target == "feature" and not student.frame_fields:
        raise SettingError(f"{name} has no vector for each frame; take distillation_target=batch_matrix")


def _says_where(student: Model) -> bool:
    if student.score_weights is None:
        return False
    rows = {name: field.shape[1] for name, field in zip(student.embedding_fields, _tiny(student), strict=True)}
    return any(name in student.frame_fields or count > 1 for name, count in rows.items())


def _frame_field(student: Model) -> int:
    return student.embedding_fields.index(student.frame_fields[0])


def _width(student: Model, place: int) -> int:
    return int(_tiny(student)[place].shape[-1])


@torch.no_grad()
def _tiny(student: Any) -> Embeddings:
    """What a student makes of a video of two frames, which tells the rows and widths of its fields."""
    was_training = student.training
    student.eval()
    device = next(student.parameters()).device
    frames = torch.zeros(1, 2, student.reading.frame_columns, device=device)
    embeddings: Embeddings = student.encode_videos(frames, torch.ones(1, 2, dtype=torch.bool, device=device))
    student.train(was_training)
    return embeddings
