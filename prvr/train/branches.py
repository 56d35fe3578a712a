"""Branches that do not learn: their scores say nothing about a video, and their losses stay at those of equal scores.

With the hardest negatives of a batch and a small contrastive weight, a student may give all videos the same score, because that
costs only the margin. Each ranking or contrastive term then stays at its value for equal scores: twice the margin for a triplet,
the weight times ln V + mean_v ln(Q / Q_v) for a contrastive loss of Q queries and V videos, of which v has Q_v.
`Distiller.equal_terms` computes these values for the batches as they are.

A branch is the beginning of its terms' names: `exploration` has `exploration_triplet` and `exploration_nce`. Terms without such
a beginning are the whole model's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prvr.methods.contract import Terms

_RANKS = re.compile(r"(?:(?P<branch>.+)_)??(?:triplet|nce|ranking|video_contrast)")

# A term of a branch that has learned nothing is at least this share of its value for equal scores; a hinge is not above the
# second or, where a branch has hinges alone, the third. Against hard negatives the hinge of scores that differ is far above that
# of equal ones, even where a student learns.
EQUAL_SHARE, MOST_OF_HINGE, MOST_OF_HINGE_ALONE = 0.95, 1.25, 1.05
# A branch is reported when it has been so for this many epochs, which have this many steps or more. Nothing is said of a run
# with fewer steps.
EPOCHS, STEPS = 3, 60
# A hinge passes its value for equal scores while a student learns, too: where a branch has hinges alone, they must stay there.
HINGE_EPOCHS = 6


@dataclass(frozen=True)
class UntrainedBranch:
    """A branch with the terms of equal scores.

    branch: its name, "" for the whole model. since: the first of these epochs, counted from 1; last: the last one.
    terms: by name, the value in the last epoch and the value for equal scores.
    """

    branch: str
    since: int
    last: int
    terms: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value:.3f} (equal scores: {equal:.3f})" for name, (value, equal) in self.terms.items())
        epochs = f"epoch {self.last}" if self.since == self.last else f"epochs {self.since} to {self.last}"
        who = f"branch {self.branch!r}" if self.branch else "the model"
        return f"{who} did not learn in {epochs}: {values}"


def ranking_terms(terms: Terms) -> Terms:
    """The terms that show, beside their values for equal scores, whether a branch learns."""
    return {name: value for name, value in terms.items() if _RANKS.fullmatch(name)}


def untrained_when_kept(history: Sequence[Mapping[str, Any]], steps: int) -> list[str]:
    """The branches that had learned nothing in the best epoch of a run that is over.

    Args:
        history: the epochs of `history.jsonl`; those of older versions, without `equal_scores`, say nothing. steps: of an epoch.
    """
    kept = [record for record in history if record["best"]]
    if not kept or len(history) * steps < STEPS:
        return []
    until_the_end = {branch.branch for branch in find_untrained(history, steps, at_the_end=True)}
    found = []
    for branch, terms in _by_branch(kept[-1]).items():
        # Where nothing is learned, the first epoch is often the best, and its hinges are high.
        low = all(
            value >= EQUAL_SHARE * equal for name, (value, equal) in terms.items() if _hinges_alone(terms) or not _is_hinge(name)
        )
        if low and (branch in until_the_end or (_is_equal(terms) and not _hinges_alone(terms))):
            found.append(branch)
    return found


def find_untrained(history: Sequence[Mapping[str, Any]], steps: int, *, at_the_end: bool = False) -> list[UntrainedBranch]:
    """The branches that have learned nothing in the last epochs, long enough to say so.

    Args:
        steps: of an epoch. at_the_end: training is over, and the last epoch alone decides.
    """
    found = []
    for branch in _untrained_branches(history[-1]):
        first = len(history) - 1
        while first and branch in _untrained_branches(history[first - 1]):
            first -= 1
        epochs = len(history) - first
        hinges = _hinges_alone(_by_branch(history[-1])[branch])
        least = HINGE_EPOCHS if hinges else 1 if at_the_end else EPOCHS
        if epochs >= least and (len(history) if at_the_end else epochs) * steps >= STEPS:
            last = history[-1]["epoch"] + 1
            found.append(UntrainedBranch(branch, history[first]["epoch"] + 1, last, _by_branch(history[-1])[branch]))
    return found


def remedy(branch: str, settings: Any) -> str:
    """Which settings of a method to change for a branch that does not learn."""
    values: dict[str, Any] = vars(settings)
    weights = {name: value for name, value in values.items() if name.endswith(("nce_weight", "contrast_weight"))}
    # clip_nce_weight is that of `clips`, where others have one weight for all branches.
    own = {name: value for name, value in weights.items() if name.partition("_")[0] in branch} or weights
    changes = [f"{name}=1 (now {value:g})" for name, value in own.items() if value < 1]
    if "hard_from_epoch" in values:
        changes.append(f"a later hard_from_epoch (now {values['hard_from_epoch']})")
    return f"take {' or '.join(changes)}" if changes else "take another lr or other batch_videos"


def _untrained_branches(record: Mapping[str, Any]) -> list[str]:
    """The branches with the terms of equal scores in an epoch."""
    return [branch for branch, terms in _by_branch(record).items() if _is_equal(terms)]


def _by_branch(record: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float]]]:
    """The value of each ranking term in an epoch, and its value for equal scores, by branch."""
    branches: dict[str, dict[str, tuple[float, float]]] = {}
    for name, equal in record.get("equal_scores", {}).items():
        found = _RANKS.fullmatch(name)
        # A weight of 0, or batches without negatives, teach nothing and say nothing.
        if found and equal > 0 and name in record["losses"]:
            branches.setdefault(found["branch"] or "", {})[name] = (record["losses"][name], equal)
    return branches


def _is_equal(terms: Mapping[str, tuple[float, float]]) -> bool:
    most = MOST_OF_HINGE_ALONE if _hinges_alone(terms) else MOST_OF_HINGE
    shares = {name: value / equal for name, (value, equal) in terms.items()}
    return all(share >= EQUAL_SHARE and (share <= most or not _is_hinge(name)) for name, share in shares.items())


def _hinges_alone(terms: Mapping[str, tuple[float, float]]) -> bool:
    return all(map(_is_hinge, terms))


def _is_hinge(name: str) -> bool:
    return name.endswith(("triplet", "ranking"))
