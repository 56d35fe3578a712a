"""What an experiment is run on, and how: the data, the features and the teachers; the seeds and the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prvr.datasets.published import is_package
from prvr.errors import SettingError
from prvr.papers.tables import Row, Text


@dataclass(frozen=True)
class Materials:
    """The inputs of an experiment.

    data: a published package ROOT/COLLECTION, or a folder of videos with captions. features: packed ones, or the package.
    frames: the frame features of the student. texts: names of caption features by kind; a row that needs another kind is left
    out. teachers: their names, the first one for rows with a single teacher.
    """

    data: Path
    features: Path
    frames: str
    texts: Mapping[Text, str]
    teachers: tuple[str, ...]
    annotations: Path | None = None

    @property
    def whole(self) -> Path:
        """Where all frames of a teacher are: packed frames may be sampled for training, and a teacher alone reads all."""
        return self.data if is_package(self.data) else self.features

    @property
    def collection(self) -> str:
        """The name of the data set."""
        return self.data.resolve().name

    def missing_for(self, row: Row) -> str:
        """Why these materials are not enough for a row; "" if they are."""
        if row.base and row.text not in self.texts:
            return f"it reads caption features of the kind {row.text!r}, and none were named (--{row.text} NAME)"
        for teacher in row.taught_by:
            reason = self.missing_for(teacher)
            if reason:
                return f"for its teacher {teacher.name!r}: {reason}"
        last = max((*row.teachers, *row.experts, *row.sentences), default=-1)
        if last >= len(self.teachers):
            return f"it needs {last + 1} teachers, and {len(self.teachers)} were named (--teacher NAME)"
        return ""


def split_seed(data: Path, seed: int) -> int:
    """The seed of the division of the data in the run with a seed; every run has the same test split.

    A folder's test split depends on the seed of its division, a package's does not.
    """
    return seed if is_package(data) else 0


@dataclass(frozen=True)
class Plan:
    """How a table is run: the seeds, the protocol, changes to every row's settings as key=value, and the device.

    methods: further rows, by the names of registered methods (`tables.with_methods`).
    """

    seeds: int = 3
    protocol: str = "honest"
    changes: tuple[str, ...] = ()
    device: str = "cpu"
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise SettingError(f"seeds is {self.seeds}; take at least one, three for a table")
