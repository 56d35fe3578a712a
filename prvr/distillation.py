"""What a teacher tells a student: a target times a loss, for any method that scores frames.

Targets: "frame_profile", the teacher's cosines of a query with each frame of its own video; "feature", the teacher's
vectors themselves, which the student reaches through a linear map to the teacher's width. Losses: "kl" and "mse".
All are sums over queries (and over videos, for their frames), as the published KL is, so that one weight fits them all
(docs/decisions/0010). Source: DL-DKD, supplementary section 2, Tables 2 and 3; the papers' code has no feature target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr import losses
from prvr.batch import Batch
from prvr.errors import SettingError

Target = Literal["frame_profile", "feature"]
Loss = Literal["kl", "mse"]


class FeatureMaps(nn.Module):
    """A student's vectors to the teachers' widths: for each teacher a Linear for queries and one for frames."""

    def __init__(self, hidden: int, teacher_columns: Sequence[int]) -> None:
        super().__init__()
        self.queries = nn.ModuleList(nn.Linear(hidden, columns) for columns in teacher_columns)
        self.frames = nn.ModuleList(nn.Linear(hidden, columns) for columns in teacher_columns)


def from_profiles(
    profile: Float[Tensor, "Q F"],
    guides: Sequence[Float[Tensor, "Q F"]],
    mask: Bool[Tensor, "Q F"],
    *,
    loss: Loss,
    temperature: float,
) -> Float[Tensor, ""]:
    """The student's frame profile of each query in its own video against each teacher's; mean over teachers."""
    if loss == "kl":
        terms = [losses.frame_kl(profile, guide, mask, temperature=temperature) for guide in guides]
    else:
        terms = [losses.frame_mse(profile, guide, mask) for guide in guides]
    return torch.stack(terms).mean()


def from_features(
    maps: FeatureMaps,
    queries: Float[Tensor, "Q D"],
    frames: Float[Tensor, "V F D"],
    batch: Batch,
    *,
    loss: Loss,
    temperature: float,
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
        query = _differences(to_query(queries), teacher.queries, loss=loss, temperature=temperature)
        frame = _differences(to_frame(frames), teacher.frames, loss=loss, temperature=temperature)
        mean_frame = frame.masked_fill(~batch.frame_mask, 0).sum(1) / batch.frame_mask.sum(1)
        terms.append(query.sum() + mean_frame.sum())
    return torch.stack(terms).mean()


def _differences(
    student: Float[Tensor, "*N T"], teacher: Float[Tensor, "*N T"], *, loss: Loss, temperature: float
) -> Float[Tensor, "*N"]:
    if loss == "kl":
        return losses.vector_kl(student, teacher, temperature=temperature)
    return (normalize(student, dim=-1) - normalize(teacher, dim=-1)).square().sum(-1)
