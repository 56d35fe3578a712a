"""Scores the students of training runs on a data set, for the sections of a report that need the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prvr.datasets import Dataset
from prvr.datasets.splits import open_split
from prvr.evaluate.evaluation import score_checkpoint, split_seed_of
from prvr.evaluate.saved_scores import SavedScores
from prvr.features.shelf import teacher_features
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint, features_for, with_settings, zero_shot_checkpoint
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.report.queries import Profile, read_profiles


@dataclass(frozen=True)
class DatasetScorer:
    """A data set with its features, on which the students of training runs are scored."""

    data: Path
    features: Path
    annotations: Path | None = None
    device: str = "cpu"

    def run(self, folder: Path) -> SavedScores:
        """The scores of a run's student for the test split."""
        return self._score(self._checkpoint(folder), folder)

    def branches(self, folder: Path) -> tuple[SavedScores, SavedScores] | None:
        """The scores of each of the student's two branches alone; None if it does not have two."""
        checkpoint = self._checkpoint(folder)
        if not isinstance(checkpoint.settings, DlDkdConfig) or len(checkpoint.settings.branches) < 2:
            return None
        first, second = (self._score(with_settings(checkpoint, exploration_weight=weight), folder) for weight in (0.0, 1.0))
        return first, second

    def profiles(self, folder: Path, queries: Sequence[str]) -> dict[str, Profile]:
        """The profile of each query in its own video."""
        checkpoint = self._checkpoint(folder)
        return read_profiles(checkpoint, self._dataset(checkpoint), features_for(self.features, checkpoint), queries)

    def teacher_profiles(self, name: str, queries: Sequence[str], *, split: str) -> dict[str, Profile]:
        """The profile of each query in its own video, by the frames of a teacher alone."""
        features = teacher_features(self.features, name)
        teacher = checkpoints.to_device(zero_shot_checkpoint(features), self.device)
        dataset = open_split(self.data, split or "test", annotations=self.annotations)
        return read_profiles(teacher, dataset, features, queries)

    def _score(self, checkpoint: Checkpoint, folder: Path) -> SavedScores:
        dataset, features = self._dataset(checkpoint), features_for(self.features, checkpoint)
        return score_checkpoint(checkpoint, dataset, features, system=folder.resolve().name, device=self.device)

    def _checkpoint(self, folder: Path) -> Checkpoint:
        return checkpoints.to_device(checkpoints.load(folder), self.device)

    def _dataset(self, checkpoint: Checkpoint) -> Dataset:
        return open_split(self.data, "test", seed=split_seed_of(checkpoint), annotations=self.annotations)
