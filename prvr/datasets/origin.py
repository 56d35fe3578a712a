"""Finds the original annotation file that a package's split was made from: the file with its captions.

Packages call a split `val`, `test` or both, and releases use other names. So every candidate file is read, and the captions
decide: for ActivityNet Captions `test` is val_1 in most packages, and val_2 in some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prvr.datasets import Dataset
from prvr.datasets.annotations import DATASETS, annotate, annotation_file, load_annotations, words_of
from prvr.errors import DataError

# The names in releases of the split that a package calls val or test; an equal name is tried first.
REPORTED = {
    "activitynet": ("val_1", "val_2"),
    "tvr": ("val",),
    "charades": ("test",),
    "msrvtt": ("test", "test-1k", "test-miech", "val"),
}
OTHERWISE = ("val", "test")
# One release, two protocols: a package of either name has segments, or the videos that they were cut from.
READ_AS = {
    "qvhighlights": ("qvhighlights", "qvhighlights_sources"),
    "qvhighlights_sources": ("qvhighlights_sources", "qvhighlights"),
}


def annotate_from_files(dataset: Dataset, path: str | Path) -> Dataset:
    """A package's split with the annotations of its original file, as `annotate` adds them.

    Args:
        path: folder of the files, or one file of any name.

    Raises:
        DataError: no file is there or readable, or the best one has fewer than half of the captions.
    """
    best, most, read, problems = None, 0, list[str](), list[str]()
    for name, split, file in _origins(dataset, Path(path), problems):
        try:
            annotations = load_annotations(name, file, split)
        except DataError as problem:
            problems.append(str(problem))
            continue
        count = _shared_captions(dataset, annotations)
        read.append(f"{file} has {count:,}" + (f" read as {name}" if name in READ_AS else ""))
        if best is None or count > most:
            best, most = annotations, count
        if most == len(dataset.captions):
            break
    if best is None:
        raise DataError(problems[0])
    # Packages have parts of releases (4,430 of ActivityNet's 4,917 videos) and corrected captions, but always most captions.
    if 2 * most < len(dataset.captions):
        raise DataError(
            f"of the {len(dataset.captions):,} captions of {dataset.name} {dataset.split} {', '.join(read)}; "
            f"{problems[0] if problems else 'use the file that they were taken from'}"
        )
    return annotate(dataset, best)


def _origins(dataset: Dataset, path: Path, problems: list[str]) -> Iterator[tuple[str, str, Path]]:
    """Data set, split and file of each candidate, each file once; missing files are added to `problems`."""
    known = dataset.name if dataset.name in DATASETS else "vcmr"
    splits = REPORTED.get(known, OTHERWISE) if dataset.split in ("val", "test") else (dataset.split,)
    seen = set[tuple[str, Path]]()
    for name in READ_AS.get(known, (known,)):
        for split in sorted(splits, key=lambda split: split != dataset.split):
            try:
                file = annotation_file(name, path, split)
            except DataError as problem:
                problems.append(str(problem))
                continue
            if (name, file) not in seen:
                seen.add((name, file))
                yield name, split, file


def _shared_captions(dataset: Dataset, annotations: Dataset) -> int:
    """The number of captions of a package that annotations have, by video and words."""
    captions, known = (Counter((c.video, words_of(c.text)) for c in each.captions) for each in (dataset, annotations))
    return (captions & known).total()
