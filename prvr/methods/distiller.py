"""The distiller: what a student learns beside its own objective, for any method: from teachers, and by the losses of
`prvr.methods.added_losses`, which need none.

frame_profile   compared with the method's `profile`, or with the weighted cosines of its fields (`field_profile`), where a clip
                stands for the frames that it covers
batch_matrix    compared with `Model.score` of the batch
feature         compared with its first field with a row for each frame, through `distillation.FeatureMaps`
query_relations the vectors of its queries in the first field, compared with one another as a teacher's sentences are
soft_targets    in every contrastive loss of an objective that takes `contrast=`

A method may name the fields that a teacher is compared with (`Method.taught_fields`, DL-DKD's inheritance branches). Each of
them then has its own loss, and the fields that no teacher is compared with take soft targets from their own scores.

A teacher is an encoder with images and sentences in one space (`Batch.teachers`), or a trained model whose scores of the train
split were kept (`prvr.train.similarities`): those have a batch matrix and no profile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.errors import SettingError
from prvr.methods import open_method
from prvr.methods.added_losses import AddedLosses, query_vectors
from prvr.methods.contract import Contrast, Embeddings, Method, Model, Profile, Terms, compare_fields
from prvr.methods.plugins import check_terms
from prvr.methods.probe import probe
from prvr.nn import losses, scores
from prvr.nn.clips import over_frames
from prvr.nn.distillation import (
    Distillation,
    FeatureMaps,
    SoftTargets,
    TeacherScores,
    TeacherShares,
    feature_loss,
    matrix_loss,
    profile_loss,
)
from prvr.nn.layers import initialise
from prvr.nn.relations import relation_loss
from prvr.nn.scores import Comparison


@final
class Distiller(nn.Module):
    """An objective around a student's own, with the parameters that only distillation needs.

    Args:
        settings: what is distilled, and how.
        method: the student's method, by name.
        teacher_columns: widths of the features of the teachers that are encoders.
        kept: the number of teachers that are trained models.

    Raises:
        SettingError: the method or the teachers lack what the settings need.
    """

    def __init__(
        self, settings: Distillation, *, method: str, student: Model, teacher_columns: Sequence[int] = (), kept: int = 0
    ) -> None:
        super().__init__()
        self.settings, self.name, self.method = settings, method, open_method(method)
        _check_method(settings, method, self.method, student)
        taught = self.method.taught_fields
        self.fields: list[int] | None = None
        if taught is not None:
            self.fields = [student.embedding_fields.index(name) for name in taught(student.config)]
        self.uses_teacher = settings.uses_teacher and self.fields != []
        if self.uses_teacher:
            check_teachers(settings, len(teacher_columns), kept)
        self.uses_scores = settings.uses_teacher_scores and self.uses_teacher
        profile = _profile_of(self.method, student) if settings.degraded_weight else None
        self.added = AddedLosses(settings, method=method, student=student, profile=profile)
        compares = settings.compares and self.uses_teacher
        self.mapped: list[int] = []
        if compares and settings.distillation_target == "feature":
            self.mapped = [_first_frame_field(student)] if self.fields is None else self.fields
        self.maps = nn.ModuleList(FeatureMaps(_width(student, place), teacher_columns) for place in self.mapped)
        learned = compares and settings.distillation_aggregate == "learned"
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
        """The terms of the student's own objective, with soft targets, and the terms of distillation.

        Args:
            kept: the scores of the batch by teachers that are trained models.
        """
        teachers = TeacherScores.of_batch(batch, kept) if self.uses_scores else TeacherScores([], [], [])
        comparisons = [] if self.fields is None else compare_fields(queries, videos, batch)
        own = self._own_objective(batch, epoch, teachers, comparisons)(model, queries, videos, batch, epoch)
        own = check_terms(own, self.name)
        terms = self._relations(queries, batch, epoch)
        weight = self.settings.weight(epoch)
        if weight and self.uses_teacher and self.settings.distillation_target != "query_relations":
            taught = None if self.fields is None else [comparisons[place] for place in self.fields]
            for number, loss in enumerate(self._losses(model, queries, videos, batch, teachers, taught), start=1):
                terms["distillation" if number == 1 else f"distillation_{number}"] = weight * loss
        if self.shares is not None:
            temperature = self.settings.distillation_temperature
            terms["teacher_shares"] = self.shares.objective(teachers.cosines, batch.target, temperature=temperature)
        terms |= self.added.terms(model, queries, videos, batch)
        if same := own.keys() & terms.keys():
            raise SettingError(
                f"{self.name} has a loss term {min(same)!r}, the name of a term that is added to it; name its own otherwise"
            )
        return own | terms

    def _relations(self, queries: Embeddings, batch: Batch, epoch: int) -> Terms:
        """The loss between relations of the queries and of the teachers' sentences, for each taught field."""
        settings, weight, terms = self.settings, self.settings.relations_weight(epoch), Terms()
        if not (weight and self.uses_teacher):
            return terms
        name = "distillation" if settings.distillation_target == "query_relations" else "query_relations"
        sentences = [teacher.queries for teacher in batch.teachers]
        of_distances, of_angles = settings.relation_distance_weight, settings.relation_angle_weight
        for number, place in enumerate([0] if self.fields is None else self.fields, start=1):
            vectors = query_vectors(queries, place)
            loss = relation_loss(vectors, sentences, distance_weight=of_distances, angle_weight=of_angles)
            terms[name if number == 1 else f"{name}_{number}"] = weight * loss
        return terms

    @torch.no_grad()
    def equal_terms(self, model: Model, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
        """The terms of the student's own objective if every query had the same score with every video of the batch.

        All queries have the embedding of the first one, and all videos that of the first row. The objective may change the
        model that it is given. Random numbers are drawn as `objective` draws them.
        """
        own: Callable[..., Terms] = self.method.objective  # type: ignore[assignment]
        if self.settings.soft_targets != "none":
            # Soft targets cost the same whatever they are, if scores are equal.
            from_self, _ = self._contrasts(SoftTargets.at(self.settings, epoch, batch), TeacherScores([], [], []))
            contrasts = ("contrast",) if self.fields is None else ("contrast", "self_contrast")
            own = partial(own, **dict.fromkeys(contrasts, from_self))
        return check_terms(own(model, _all_equal(queries), _all_equal(videos), batch, epoch), self.name)

    def _own_objective(
        self, batch: Batch, epoch: int, teachers: TeacherScores, comparisons: list[Comparison]
    ) -> Callable[..., Terms]:
        own: Callable[..., Terms] = self.method.objective  # type: ignore[assignment]
        if self.fields is not None:
            own = partial(own, comparisons=comparisons)
        if self.settings.soft_targets == "none":
            return own
        from_self, from_teachers = self._contrasts(SoftTargets.at(self.settings, epoch, batch), teachers)
        own = partial(own, contrast=from_teachers if self.settings.soft_targets == "teacher" else from_self)
        return own if self.fields is None else partial(own, self_contrast=from_self)

    def _contrasts(self, soft: SoftTargets, teachers: TeacherScores) -> tuple[Contrast, Contrast]:
        """The contrastive losses with soft targets from the student's own scores, and from its teachers'."""

        def from_self(dots: Tensor, target: Tensor) -> Tensor:
            own = dots.detach() if self.settings.detach_self_targets else dots
            return soft.info_nce(dots, target, relevance=own[None])

        def from_teachers(dots: Tensor, target: Tensor) -> Tensor:
            return soft.info_nce(dots, target, relevance=torch.stack(teachers.dots) / self.settings.teacher_temperature)

        return from_self, from_teachers

    def _losses(
        self,
        model: Model,
        queries: Embeddings,
        videos: Embeddings,
        batch: Batch,
        teachers: TeacherScores,
        taught: list[Comparison] | None,
    ) -> list[Float[Tensor, ""]]:
        """One loss for the student, or one for each of its taught fields."""
        settings, shares = self.settings, self.shares
        if settings.distillation_target == "feature":
            maps = (each for each in self.maps if isinstance(each, FeatureMaps))
            pairs = zip(maps, self.mapped, strict=True)
            return [feature_loss(each, queries[place], videos[place], batch, settings=settings) for each, place in pairs]
        if settings.distillation_target == "batch_matrix":
            ours = [model.score(queries, videos, batch.frame_mask)] if taught is None else [one.cosines for one in taught]
            return [matrix_loss(one, teachers.cosines, settings=settings, shares=shares) for one in ours]
        mask, profile = batch.frame_mask[batch.target], self.method.profile or field_profile
        ours = [profile(model, queries, videos, batch)] if taught is None else [one.profile for one in taught]
        return [profile_loss(one, teachers.profiles, mask, settings=settings, shares=shares) for one in ours]


def field_profile(model: Model, queries: Embeddings, videos: Embeddings, batch: Batch) -> Float[Tensor, "Q F"]:
    """The weighted sum over fields of a query's cosines with the rows of its own video, -inf where that is padded.

    Where a field has P rows for a whole video, row P stands for the frames of the video's P-th part. A field with one row is
    left out: it is the same along the video.
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


def _all_equal(embeddings: Embeddings) -> Embeddings:
    """The first row of each field in the place of every row."""
    return tuple(each[(slice(1),) * max(each.ndim - 1, 1)].expand_as(each) for each in embeddings)


def uses_teacher(settings: Distillation, method: str, config: Any) -> bool:
    """Whether a teacher changes what a student with these settings learns."""
    fields = open_method(method).taught_fields
    return settings.uses_teacher and (fields is None or fields(config) != ())


def check_teachers(settings: Distillation, encoders: int, kept: int) -> None:
    """Checks that teachers can provide what the settings need.

    Args:
        encoders: the number of teachers that are encoders. kept: of those that are trained models, whose scores were kept.

    Raises:
        SettingError: they cannot, or there are none.
    """
    if not encoders + kept:
        needs = {"distillation": "distillation_weight=0"} if settings.compares else {}
        needs |= {"query_relations": "query_relations_weight=0"} if settings.query_relations_weight else {}
        needs |= {"soft_targets=teacher": "soft_targets=self or none"} if settings.soft_targets == "teacher" else {}
        verb = "needs" if len(needs) == 1 else "need"
        raise SettingError(
            f"{' and '.join(needs)} {verb} a teacher; name one (--teacher), or take {' and '.join(needs.values())}"
        )
    if settings.query_relations_weight and not encoders:
        raise SettingError(
            "query_relations compare sentence vectors, and a trained model as teacher keeps its scores alone; name an encoder, "
            "too (--teacher), or take query_relations_weight=0"
        )
    if settings.compares and settings.distillation_target != "batch_matrix" and kept:
        raise SettingError(
            f"distillation_target is {settings.distillation_target!r}, and a trained model as teacher keeps its scores of "
            "whole videos alone; take distillation_target=batch_matrix"
        )


def _check_method(settings: Distillation, name: str, method: Method, student: Model) -> None:
    if method.objective is None:
        raise SettingError(f"{name} has nothing to learn, from teachers neither; index and evaluate with it as it is")
    if settings.soft_targets != "none" and not method.contrasts:
        raise SettingError(f"{name} has no contrastive loss whose targets could be soft; take soft_targets=none")
    if not settings.compares:
        return
    target = settings.distillation_target
    if target == "frame_profile" and method.taught_fields is None and _profile_of(method, student) is None:
        raise SettingError(f"{name} does not score along a video; take distillation_target=batch_matrix")
    if target == "feature" and not student.frame_fields:
        raise SettingError(f"{name} has no vector for each frame; take distillation_target=batch_matrix")


def _profile_of(method: Method, student: Model) -> Profile | None:
    """The scores of each query along its own video: the method's own, or those of its fields; None for a student without."""
    if method.profile is not None or student.score_weights is None:
        return method.profile
    rows = {name: field.shape[1] for name, field in zip(student.embedding_fields, probe(student)[1], strict=True)}
    return field_profile if any(name in student.frame_fields or count > 1 for name, count in rows.items()) else None


def _first_frame_field(student: Model) -> int:
    return student.embedding_fields.index(student.frame_fields[0])


def _width(student: Model, place: int) -> int:
    return int(probe(student)[1][place].shape[-1])
