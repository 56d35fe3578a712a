"""Chooses how a frozen student is re-scored by anchors (`prvr.index.rescoring`), on held-out captions."""

from __future__ import annotations

from dataclasses import dataclass

from prvr.datasets import Dataset
from prvr.evaluate.evaluation import correct_videos, encode_split
from prvr.evaluate.metrics import retrieval
from prvr.features import FeatureSet
from prvr.index.rescoring import Anchors, Rescoring
from prvr.methods.calibration import fit
from prvr.methods.checkpoint import Checkpoint, to_device

# The kinds of anchors and the range of the weights that the paper chose from; 0 leaves the scores as they are.
ANCHORS = (4, 6, 8)
WEIGHTS = (0.0, 0.01, 0.015, 0.03, 0.06, 0.1, 0.12, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Choice:
    """The re-scoring that was chosen, and SumR on the held-out split without it and with it."""

    rescoring: Rescoring
    split: str
    before: float
    after: float

    def __str__(self) -> str:
        """One line for people."""
        one = self.rescoring
        return (
            f"re-scored by {one.anchors} anchors, weight {one.weight:g}, chosen on {self.split}: SumR there {self.before:.1f} "
            f"without, {self.after:.1f} with"
        )


def choose_rescoring(checkpoint: Checkpoint, dev: Dataset, features: FeatureSet, *, device: str = "cpu") -> Choice:
    """The anchors and the weight of the highest SumR on a held-out split; of equal ones the smallest weight.

    Raises:
        ModelError: the model keeps neither frames nor clips.
        DataError: as `evaluation.evaluate_model`.
    """
    model = to_device(checkpoint, device).model
    anchors = Anchors(model)
    index, queries = encode_split(model, dev, features)
    scores, correct = index.scores(queries).numpy(), correct_videos(dev, index.ids)
    entries = list(index.fetch(index.ids).values())
    said = {count: anchors.of_all(queries, entries, count) for count in ANCHORS}
    sums = {
        (weight, count): retrieval(scores + weight * said[count], correct).sumr
        for weight in WEIGHTS
        for count in (ANCHORS if weight else ANCHORS[:1])
    }
    weight, count = max(sums, key=sums.__getitem__)
    calibration = fit(scores + weight * said[count], correct, split=dev.split)
    return Choice(Rescoring(count, weight, calibration), dev.split, sums[0.0, ANCHORS[0]], sums[weight, count])
