"""The data sets by name, and their annotations added to the captions of a package."""

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
# By data set and split, the names of its file in releases.
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
    """The number of annotations of a split.

    spans, kinds, also: captions with a moment, with a type, with further correct videos. durations: videos with a duration.
    """

    captions: int
    spans: int
    kinds: int
    also: int
    videos: int
    durations: int


def load_annotations(name: str, path: str | Path, split: str) -> Dataset:
    """Reads one split of a data set from the original annotation files in a folder, or from one file.

    Raises:
        SettingError: no data set has that name.
        DataError: the file is missing or broken.
    """
    if name not in DATASETS:
        raise SettingError(f"unknown data set {name!r}; {nearest(name, DATASETS)}")
    return DATASETS[name](path, split)


def annotation_file(name: str, path: str | Path, split: str) -> Path:
    """The file that `load_annotations` reads: the path if it is a file, else the file of the split in the folder.

    Raises:
        DataError: the data set has no such split, or the folder has no file of it.
    """
    return file_of(path, split, FILES[name])


def annotate(dataset: Dataset, annotations: Dataset) -> Dataset:
    """Adds moments, types and durations from annotations to the captions of a package; `coverage` counts them.

    Captions are matched by video and words (`words_of`), because packages number them differently and drop full stops. Equal
    captions of one video are matched in order. Captions without a match are unchanged.

    Raises:
        DataError: no caption matches.
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
            known_of_match = {name: getattr(match, name) for name in ("start", "end", "kind", "windows", "saliency")}
            caption = replace(caption, **known_of_match)
            found += 1
        captions.append(caption)
    if not found:
        first = dataset.captions[0].id if dataset.captions else ""
        raise DataError(
            f"none of the {len(captions)} captions of {dataset.name} {dataset.split} ({first!r} first) is in the annotations "
            f"{annotations.name} {annotations.split}; use the annotations of the same split"
        )
    durations = {video: annotations.durations[video] for video in dataset.video_ids if video in annotations.durations}
    return replace(dataset, captions=tuple(captions), durations={**dataset.durations, **durations})


def subset(dataset: Dataset, videos: Iterable[str]) -> Dataset:
    """The split restricted to these videos and their captions.

    Raises:
        DataError: the split lacks one of the videos.
    """
    chosen = dict.fromkeys(videos)
    gallery = set(dataset.video_ids)
    unknown = [video for video in chosen if video not in gallery]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(chosen)} videos are not in {dataset.name} {dataset.split}, {unknown[0]!r} first; "
            "use another split, or leave them out"
        )
    return replace(
        dataset,
        captions=tuple(caption for caption in dataset.captions if caption.video in chosen),
        video_ids=tuple(video for video in dataset.video_ids if video in chosen),
        durations={video: seconds for video, seconds in dataset.durations.items() if video in chosen},
    )


def coverage(dataset: Dataset) -> Coverage:
    """Counts the annotations of a split, for example after `annotate`."""
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
    """The words of a text in lower case, without blanks and punctuation, for comparing captions."""
    return " ".join(re.findall(r"\w+", text.casefold()))
