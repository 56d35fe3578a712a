"""What teachers tell a student: a target times a loss times how several teachers are taken together.

Targets: "frame_profile", the teacher's scores of a query along its own video (DL-DKD); "batch_matrix", its scores of all
queries of a batch with all videos of it (TeachText); "feature", its vectors themselves, which the student reaches through
a linear map to the teacher's width. Losses: "kl", "mse" and "huber". Aggregates: "each", the mean of a loss for each
teacher (DL-DKD); "mean", "min", "max" and "learned", one loss to the teachers' scores taken together (TeachText).

Profiles and features are sums over queries, as the published KL is; matrices are means, as TeachText's are
(docs/decisions/0010 and 0018). Sources: DL-DKD, supplementary section 2, Tables 2 and 3; spec/methods 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Batch
from prvr.config import check_above_zero, check_shares
from prvr.errors import SettingError, nearest
from prvr.nn import losses, scores
from prvr.nn.schedules import DECAYS, SOFT_TARGET_DECAYS, soft_target_weight
from prvr.nn.scores import Comparison

Target = Literal["frame_profile", "batch_matrix", "feature"]
Loss = Literal["kl", "mse", "huber"]
Aggregate = Literal["each", "mean", "min", "max", "learned"]


@dataclass(frozen=True)
class Distillation:
    """What a student learns from teachers beside its own objective; by default nothing.

    distillation_weight, distillation_offset: the loss weighs weight * decay(epoch) + offset; 0 and 0 for none.
    distillation_temperature: divides scores before they become a distribution, for "kl" and for learned aggregates.
    soft_targets: where the contrastive loss has its soft targets from, if it has any (DL-DKD++).
    soft_target_epochs: length of the linear and cosine decays of `hard_fraction` and `mixing`.
    hard_fraction, mixing: the share that keeps one-hot targets, and the one-hot share of a soft target.
    hard_part: which queries and videos keep one-hot targets: the first of the batch, as released, or random ones.
    teacher_temperature: divides the teachers' dot products before they become soft targets.
    """

    distillation_target: Target = "frame_profile"
    distillation_loss: Loss = "kl"
    distillation_aggregate: Aggregate = "each"
    distillation_weight: float = 0.0
    distillation_offset: float = 0.0
    distillation_decay: str = "exponential"
    distillation_temperature: float = 0.2
    soft_targets: Literal["none", "teacher", "self"] = "none"
    soft_target_epochs: int = 120
    hard_fraction: float = 0.8
    hard_fraction_decay: str = "sigmoid"
    mixing: float = 0.8
    mixing_decay: str = "sigmoid"
    hard_part: Literal["first", "random"] = "first"
    teacher_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_above_zero(self, "soft_target_epochs", "distillation_temperature", "teacher_temperature")
        check_shares(self, "hard_fraction", "mixing")
        if self.distillation_target == "feature" and self.distillation_aggregate != "each":
            raise SettingError(
                f"distillation_aggregate is {self.distillation_aggregate!r}, and a column of one teacher's features means "
                "nothing in another's; take distillation_aggregate=each, or a target of scores, such as batch_matrix"
            )
        if self.distillation_decay not in DECAYS:
            raise SettingError(f"unknown decay {self.distillation_decay!r}; {nearest(self.distillation_decay, DECAYS)}")
        for decay in (self.hard_fraction_decay, self.mixing_decay):
            if decay not in SOFT_TARGET_DECAYS:
                raise SettingError(f"unknown decay {decay!r}; {nearest(decay, SOFT_TARGET_DECAYS)}")

    @property
    def compares(self) -> bool:
        """Whether the student's scores or vectors are compared with a teacher's, at some epoch."""
        return bool(self.distillation_weight or self.distillation_offset)

    def weight(self, epoch: int) -> float:
        """What that comparison weighs at an epoch."""
        return self.distillation_weight * DECAYS[self.distillation_decay](epoch) + self.distillation_offset


SETTINGS = frozenset(field.name for field in fields(Distillation))


@dataclass(frozen=True)
class SoftTargets:
    """What is soft at an epoch, and for which queries and videos of a batch."""

    mixing: float
    hard_fraction: float
    hard_queries: Bool[Tensor, "Q"]
    hard_videos: Bool[Tensor, "V"]

    @staticmethod
    def at(config: Any, epoch: int, batch: Batch) -> SoftTargets:
        """The targets' state at an epoch: floor(alpha Q) queries and floor(alpha V) videos stay hard.

        Args:
            config: a `Distillation`, or a method's settings that have the same names.
        """
        epochs = config.soft_target_epochs
        share = soft_target_weight(config.hard_fraction_decay, epoch, initial=config.hard_fraction, floor=0.0, epochs=epochs)
        floor = 0.5 if config.mixing >= 0.5 else 0.0
        mixing = soft_target_weight(config.mixing_decay, epoch, initial=config.mixing, floor=floor, epochs=epochs)
        hard = [_chosen(len(rows), share, config.hard_part, batch.target.device) for rows in (batch.target, batch.frames)]
        return SoftTargets(mixing, share, *hard)

    def info_nce(self, dots: Tensor, target: Tensor, *, relevance: Tensor) -> Float[Tensor, ""]:
        """`losses.soft_info_nce` with these targets."""
        return losses.soft_info_nce(
            dots,
            target,
            relevance=relevance,
            mixing=self.mixing,
            hard_fraction=self.hard_fraction,
            hard_queries=self.hard_queries,
            hard_videos=self.hard_videos,
        )


class FeatureMaps(nn.Module):
    """A student's vectors to the teachers' widths: for each teacher a Linear for queries and one for frames."""

    def __init__(self, hidden: int, teacher_columns: Sequence[int]) -> None:
        super().__init__()
        self.queries = nn.ModuleList(nn.Linear(hidden, columns) for columns in teacher_columns)
        self.frames = nn.ModuleList(nn.Linear(hidden, columns) for columns in teacher_columns)


class TeacherShares(nn.Module):
    """What each teacher weighs in a learned aggregate: softmax of a number for each.

    They are learned by what the aggregate itself ranks first, and never by how near the student is to it: that would favour
    the teacher that is easiest to imitate.
    """

    def __init__(self, teachers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(teachers))

    def forward(self) -> Float[Tensor, "K"]:
        return self.logits.softmax(0)

    def objective(
        self, matrices: Sequence[Float[Tensor, "Q V"]], target: Int[Tensor, "Q"], *, temperature: float
    ) -> Float[Tensor, ""]:
        """The contrastive loss of the aggregated scores of a batch."""
        return losses.info_nce(together(matrices, "learned", self()) / temperature, target)


@torch.no_grad()
def guides_of(batch: Batch) -> list[Comparison]:
    """What each teacher of a batch says of its queries and videos."""
    return [scores.compare(t.queries, t.frames, batch.frame_mask, batch.target) for t in batch.teachers]


def together(
    guides: Sequence[Float[Tensor, "*N"]], aggregate: Aggregate, shares: Float[Tensor, "K"] | None = None
) -> Float[Tensor, "*N"]:
    """Several teachers' scores as one, each number for itself."""
    stacked = torch.stack(list(guides))
    match aggregate:
        case "min":
            return stacked.amin(0)
        case "max":
            return stacked.amax(0)
        case "learned":
            assert shares is not None
            return torch.einsum("k,k...->...", shares, stacked)
        case _:
            return stacked.mean(0)


def from_profiles(
    profile: Float[Tensor, "Q F"],
    guides: Sequence[Float[Tensor, "Q F"]],
    mask: Bool[Tensor, "Q F"],
    *,
    settings: Distillation,
    shares: TeacherShares | None = None,
) -> Float[Tensor, ""]:
    """The student's frame profile of each query in its own video against the teachers'."""
    if settings.distillation_loss == "kl":
        compare = partial(losses.frame_kl, mask=mask, temperature=settings.distillation_temperature)
    else:
        compare = partial(losses.frame_mse if settings.distillation_loss == "mse" else losses.frame_huber, mask=mask)
    return _against(profile, guides, compare, settings, shares)


def from_matrices(
    matrix: Float[Tensor, "Q V"],
    guides: Sequence[Float[Tensor, "Q V"]],
    *,
    settings: Distillation,
    shares: TeacherShares | None = None,
) -> Float[Tensor, ""]:
    """The student's scores of a batch's queries with its videos against the teachers'."""
    if settings.distillation_loss == "kl":
        compare: Callable[..., Tensor] = partial(losses.matrix_kl, temperature=settings.distillation_temperature)
    else:
        compare = losses.matrix_mse if settings.distillation_loss == "mse" else losses.matrix_huber
    return _against(matrix, guides, compare, settings, shares)


def from_features(
    maps: FeatureMaps,
    queries: Float[Tensor, "Q D"],
    frames: Float[Tensor, "V F D"],
    batch: Batch,
    *,
    settings: Distillation,
) -> Float[Tensor, ""]:
    """The student's query and frame vectors, mapped, against each teacher's; mean over teachers.

    Raises:
        SettingError: the maps were built for teachers of other widths.
    """
    built = [layer.out_features for layer in maps.queries if isinstance(layer, nn.Linear)]
    given = [teacher.queries.shape[1] for teacher in batch.teachers]
    if built != given:
        raise SettingError(f"teacher_columns are {built}, the teachers' features have {given} columns; set teacher_columns")
    terms = []
    for to_query, to_frame, teacher in zip(maps.queries, maps.frames, batch.teachers, strict=True):
        query = _differences(to_query(queries), teacher.queries, settings)
        frame = _differences(to_frame(frames), teacher.frames, settings)
        mean_frame = frame.masked_fill(~batch.frame_mask, 0).sum(1) / batch.frame_mask.sum(1)
        terms.append(query.sum() + mean_frame.sum())
    return torch.stack(terms).mean()


def _against(
    student: Tensor,
    guides: Sequence[Tensor],
    compare: Callable[..., Tensor],
    settings: Distillation,
    shares: TeacherShares | None,
) -> Float[Tensor, ""]:
    if settings.distillation_aggregate == "each":
        return torch.stack([compare(student, guide) for guide in guides]).mean()
    learned = None if shares is None else shares().detach()
    return compare(student, together(guides, settings.distillation_aggregate, learned))


def _differences(student: Float[Tensor, "*N T"], teacher: Float[Tensor, "*N T"], settings: Distillation) -> Float[Tensor, "*N"]:
    if settings.distillation_loss == "kl":
        return losses.vector_kl(student, teacher, temperature=settings.distillation_temperature)
    difference = normalize(student, dim=-1) - normalize(teacher, dim=-1)
    return (difference.square() if settings.distillation_loss == "mse" else losses.huber(difference)).sum(-1)


def _chosen(count: int, share: float, part: Literal["first", "random"], device: torch.device) -> Bool[Tensor, "N"]:
    # floor of the binary product: 0.29 * 100 is 28, as in the released code
    place = torch.arange(count, device=device)
    if part == "random":
        place = torch.randperm(count, device=device)
    return place < int(share * count)
