"""Scores plus what a video's anchors say of a query, S + weight E, for any model that keeps frames or clips (`prvr.nn.anchors`).

Nothing is trained and an index holds nothing new: the anchors are means of the rows that it has. The number of anchors and the
weight are chosen on held-out captions (`prvr.evaluate.rescoring`) and kept with the checkpoint. A search re-scores its best
candidates. TRACE has further anchors, a pooling of all frames to four; how they are pooled is not published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prvr.errors import DataError, ModelError, SettingError
from prvr.index.contract import Entry, ScoredVideo
from prvr.methods.calibration import Calibration, from_dict
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Model
from prvr.methods.model import Described
from prvr.methods.probe import field_with_rows
from prvr.nn.anchors import evidence, temporal_anchors
from prvr.nn.scores import best_places, every_row

# How many of the best videos a search re-scores.
CANDIDATES = 200
ABOUT = "rescoring"


@dataclass(frozen=True)
class Rescoring:
    """How scores are re-scored.

    anchors: into how many equal parts a video is divided, whose means are its anchors. weight: of their evidence.
    calibration: turns the new scores into probabilities; None if there were too few held-out queries to fit it.

    Raises:
        SettingError: there are no anchors, or the weight is below 0 or not a number.
    """

    anchors: int
    weight: float
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.anchors < 1 or not 0 <= self.weight < float("inf"):
            raise SettingError(
                f"re-scoring by {self.anchors} anchors of weight {self.weight}; take 1 or more, and a weight of 0 or more"
            )

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, as a checkpoint keeps them."""
        return asdict(self)


def rescoring_of(checkpoint: Described) -> Rescoring:
    """The re-scoring that was chosen for a checkpoint.

    Raises:
        SettingError: none was. ModelError: what is kept is none.
    """
    kept = checkpoint.about.get(ABOUT)
    if kept is None:
        raise SettingError(
            "no re-scoring was chosen for this model; choose it on held-out captions: prvr evaluate DATA FEATURES --model RUN "
            "--rescore anchors, then search with --model RUN"
        )
    try:
        calibration = None if kept["calibration"] is None else from_dict(kept["calibration"])
        return Rescoring(int(kept["anchors"]), float(kept["weight"]), calibration)
    except (KeyError, TypeError, ValueError, DataError, SettingError) as problem:
        raise ModelError(f"the re-scoring that is kept with this model is broken ({problem}); choose it again") from None


def with_rescoring(checkpoint: Checkpoint, rescoring: Rescoring) -> Checkpoint:
    """The checkpoint with a re-scoring to keep."""
    return replace(checkpoint, about={**checkpoint.about, ABOUT: rescoring.as_dict()})


@final
class Anchors:
    """The field with the rows that are compared with anchors: frames, or clips where a model has no frames.

    Raises:
        ModelError: it keeps neither.
    """

    def __init__(self, model: Model) -> None:
        place = field_with_rows(model, frames_first=True)
        if place is None:
            raise ModelError(
                f"{type(model).__name__} keeps no frames or clips that a query is compared with; re-scoring needs them: leave "
                "out --rescore"
            )
        self.model, self.place = model, place

    @torch.inference_mode()
    def evidence(self, queries: Embeddings, entry: Entry, anchors: int) -> Float[Tensor, "Q"]:
        """E of each query and one video, its windows together."""
        query = queries[self.place]
        # Rows that came from another process are read-only, which torch does not take.
        rows = torch.from_numpy(np.require(entry.fields[self.place], np.float32, "W"))[None].to(query)
        mask = every_row(rows)
        return evidence(query, rows, mask, temporal_anchors(rows, mask, anchors)).total[:, 0]

    def of_all(self, queries: Embeddings, entries: Sequence[Entry], anchors: int) -> Float[np.ndarray, "Q V"]:
        """E of every query and every video."""
        return np.stack([self.evidence(queries, entry, anchors).cpu().numpy() for entry in entries], 1)

    def rescore(self, query: Embeddings, found: Sequence[ScoredVideo], rescoring: Rescoring) -> list[ScoredVideo]:
        """What was found for one query (a first axis of 1) with new scores, best first; ties by id."""
        by_id = sorted(found, key=lambda one: one.video)
        if not by_id or not rescoring.weight:
            return list(found)
        more = rescoring.weight * self.of_all(query, [one.entry for one in by_id], rescoring.anchors)[0]
        scores = np.array([one.score for one in by_id], np.float32) + more
        return [replace(by_id[place], score=float(scores[place]), parts=()) for place in best_places(scores, len(scores))]
