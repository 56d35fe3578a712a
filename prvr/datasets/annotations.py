"""The data sets by name, and what their annotations know, given to the captions of a package."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prvr.datasets import Caption, Dataset, activitynet, charades, msrvtt, qvhighlights, tacos, tvr
from prvr.datasets.reading import file_of
from prvr.errors import DataError, SettingError, nearest

DATASETS: dict[str, Callable[[str | Path, str], Dataset]] = {
    "activitynet": activitynet.load,
    "charades": charades.load,
    "msrvtt": msrvtt.load,
    "qvhighlights": qvhighlights.load,
    "qvhighlights_sources": qvhighlights.load_sources,
    "tacos": tacos.load,
    "tvr": tvr.load,
    "vcmr": tvr.load_vcmr,
}
# By data set and split, the names that its file has in releases.
FILES: dict[str, Mapping[str, Sequence[str]]] = {
    "activitynet": activitynet.FILES,
    "charades": charades.FILES,
    "msrvtt": msrvtt.FILES,
    "qvhighlights": qvhighlights.FILES,
    "qvhighlights_sources": qvhighlights.FILES,
    "tacos": tacos.FILES,
    "tvr": tvr.FILES,
    "vcmr": tvr.VCMR_FILES,
}


@dataclass(frozen=True)
class Coverage:
    """How much is known of a split.

    spans, kinds, also: captions that have a moment, a type, further correct videos. durations: videos that have one.
    """

    captions: int
    spans: int
    kinds: int
    also: int
    videos: int
    durations: int


def load_annotations(name: str, path: str | Path, split: str) -> Dataset:
    """One split of a data set, from the original annotation files in a folder, or from one file.

    Raises:
        SettingError: no data set has that name.
        DataError: the file is not there or broken.
    """
    if name not in DATASETS:
        raise SettingError(f"unknown data set {name!r}; {nearest(name, DATASETS)}")
    return DATASETS[name](path, split)


def annotation_file(name: str, path: str | Path, split: str) -> Path:
    """The file that `load_annotations` reads: the path itself if it is a file, else the split's in the folder.

    Raises:
        DataError: the data set has no such split, or the folder no file of it.
    """
    return file_of(path, split, FILES[name])


def annotate(dataset: Dataset, annotations: Dataset) -> Dataset:
    """The captions of a package with the moments, types and durations that the annotations know; `coverage` counts them.

    A caption is found by its video and its words (`words_of`): packages count otherwise than releases do, and drop full
    stops. What is said twice of a video is matched in order. Captions that are not found stay as they are.

    Raises:
        DataError: not one caption is found.
    """
    known: defaultdict[tuple[str, str], list[Caption]] = defaultdict(list)
    for caption in reversed(annotations.captions):
        known[caption.video, words_of(caption.text)].append(caption)
    found = 0
    captions = []
    for caption in dataset.captions:
        same = known.get((caption.video, words_of(caption.text)))
        if same:
            match = same.pop()
            caption = replace(caption, start=match.start, end=match.end, kind=match.kind, windows=match.windows)
            found += 1
        captions.append(caption)
    if not found:
        first = dataset.captions[0].id if dataset.captions else ""
        raise DataError(
            f"none of the {len(captions)} captions of {dataset.name} {dataset.split} ({first!r} first) is in the annotations "
            f"{annotations.name} {annotations.split}; give those of the same split"
        )
    durations = {video: annotations.durations[video] for video in dataset.video_ids if video in annotations.durations}
    return replace(dataset, captions=tuple(captions), durations={**dataset.durations, **durations})


def subset(dataset: Dataset, videos: Iterable[str]) -> Dataset:
    """The split with these videos alone as its gallery, and their captions.

    Raises:
        DataError: it does not have one of them.
    """
    chosen = dict.fromkeys(videos)
    gallery = set(dataset.video_ids)
    unknown = [video for video in chosen if video not in gallery]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(chosen)} videos are not in {dataset.name} {dataset.split}, {unknown[0]!r} first; "
            "take another split, or leave them out"
        )
    return replace(
        dataset,
        captions=tuple(caption for caption in dataset.captions if caption.video in chosen),
        video_ids=tuple(video for video in dataset.video_ids if video in chosen),
        durations={video: seconds for video, seconds in dataset.durations.items() if video in chosen},
    )


def coverage(dataset: Dataset) -> Coverage:
    """How much is known of a split, after `annotate` and the like."""
    captions = dataset.captions
    return Coverage(
        captions=len(captions),
        spans=sum(bool(caption.moments) for caption in captions),
        kinds=sum(caption.kind is not None for caption in captions),
        also=sum(bool(caption.also) for caption in captions),
        videos=len(dataset.video_ids),
        durations=sum(video in dataset.durations for video in dataset.video_ids),
    )


def words_of(text: str) -> str:
    """The words of a text alone: case, blanks and punctuation do not tell captions of one video apart."""
    return " ".join(re.findall(r"\w+", text.casefold()))
