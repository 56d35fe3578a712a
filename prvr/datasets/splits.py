"""The splits of a data set under three protocols, which every output names.

honest       a dev split, carved from the training videos with a seed, chooses the epoch; the test split is used once
validation   a package's own list `val` chooses the epoch, and all training videos are learned from; the test split is used once
community    as in the field: the epoch is the best one on the split that is reported

Figures of the last are not comparable with the others': there the epoch is chosen with the correct videos of the test split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from prvr.datasets import Dataset, folder, published
from prvr.datasets.annotations import annotate, load_annotations
from prvr.datasets.origin import annotate_from_files
from prvr.datasets.published import is_package
from prvr.errors import DataError, SettingError, nearest

Protocol = Literal["honest", "validation", "community"]

DEV_SHARE = 0.15
# Some packages have spans beside their captions, in this folder.
ANNOTATIONS = "annotations"


@dataclass(frozen=True)
class Splits:
    """The splits for training, for choosing the epoch and for the report, and their protocol."""

    train: Dataset
    dev: Dataset
    test: Dataset
    protocol: Protocol


def open_splits(data: str | Path, *, protocol: str = "honest", seed: int = 0, annotations: str | Path | None = None) -> Splits:
    """Opens the splits of a folder of videos with captions, or of a published package ROOT/COLLECTION.

    Args:
        seed: of the division of a folder into train, dev and test, or of a package's training videos into train and dev.
        annotations: folder of the original annotation files, or one file, with spans and durations of the test split; by
            default those of the package.

    Raises:
        SettingError: unknown protocol.
        DataError: captions are missing or broken, annotations are missing, broken or of another split, or there are too few
            videos for a dev split; or, under `validation`, the list `val` is missing or has captions of the test list.
    """
    if protocol not in get_args(Protocol):
        raise SettingError(f"unknown protocol {protocol!r}; {nearest(protocol, get_args(Protocol))}")
    path = Path(data)
    if not is_package(path):
        if protocol == "validation":
            raise SettingError(f"{path} is a folder of videos, which has no list `val`; take honest, which divides it by a seed")
        train, dev, test = (folder.load(path, split, seed=seed) for split in folder.SPLITS)
        return Splits(train, dev, test, "honest") if protocol == "honest" else Splits(train, test, test, "community")
    test = open_split(path, "test", annotations=annotations)
    # Without annotations: only the test split needs moments, and a release may lack its training part.
    train = open_split(path, "train")
    if protocol == "community":
        return Splits(train, test, test, "community")
    if protocol == "validation":
        return Splits(train, _own_validation(path, test), test, "validation")
    return Splits(*carve(train, seed=seed), test, "honest")


def _own_validation(path: Path, test: Dataset) -> Dataset:
    """The list `val` of a package; in most published packages it is the test list under another name."""
    dev = open_split(path, "val")
    shared = {caption.id for caption in dev.captions} & {caption.id for caption in test.captions}
    if shared:
        raise DataError(
            f"{len(shared)} of the {len(dev.captions)} captions that {path} lists in val are those of test, so that they cannot "
            "choose the epoch; take --protocol honest, or community to do as the field does"
        )
    return dev


def open_split(data: str | Path, split: str, *, seed: int = 0, annotations: str | Path | None = None) -> Dataset:
    """Opens one split by name: of a folder train, dev, test or all; of a package a split that it has.

    Raises:
        DataError: as `open_splits`.
    """
    path = Path(data)
    if not is_package(path):
        return folder.load(path, split, seed=seed)
    path = path.resolve()
    loaded = published.load(path.parent, path.name, split)
    own = path / ANNOTATIONS
    if annotations is None and (own / f"{split}.jsonl").is_file():
        return annotate(loaded, load_annotations("vcmr", own, split))
    return loaded if annotations is None else annotate_from_files(loaded, annotations)


def carve(train: Dataset, *, seed: int, share: float = DEV_SHARE) -> tuple[Dataset, Dataset]:
    """Divides a split by video into train and dev; the same seed and videos give the same division.

    Raises:
        DataError: fewer than four videos.
    """
    if len(train.video_ids) < 4:
        raise DataError(
            f"{train.name} has {len(train.video_ids)} training videos; a dev split cannot be carved from fewer than 4"
        )
    drawn = folder.divide(train.video_ids, seed=seed, dev=share, test=0.0)
    return _part(train, drawn, "train"), _part(train, drawn, "dev")


def _part(whole: Dataset, drawn: Mapping[str, str], name: str) -> Dataset:
    return replace(
        whole,
        split=name,
        captions=tuple(caption for caption in whole.captions if drawn[caption.video] == name),
        video_ids=tuple(video for video in whole.video_ids if drawn[video] == name),
    )
