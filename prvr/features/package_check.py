"""Checks published packages before training: their contents, what does not fit, and what they can be used for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prvr.datasets import Dataset
from prvr.datasets.published import SUFFIX, is_package, load
from prvr.datasets.sizes import SIZES
from prvr.errors import DataError
from prvr.features import Features, columns, compare_lengths, open_features, rows_of
from prvr.features.bigfile import HOLDS, BigFile, is_bigfile
from prvr.features.npz import is_npz_folder
from prvr.features.package import TEXT, CaptionKeys, Package, open_package, short_spelling
from prvr.features.packed import is_packed

SAMPLE = 64
SPLITS = ("train", "val", "test")
TEACHER = "clip_vit_b32"

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SplitReport:
    """A caption file.

    as_published: whether its size is that of a published split; None if no size is known.
    published: the published split of its size, or the published sizes; empty if none is known.
    """

    file: str
    videos: int = 0
    captions: int = 0
    as_published: bool | None = None
    published: str = ""
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        counts = f"{self.videos:,} videos, {self.captions:,} captions"
        if self.as_published is None:
            return counts
        return f"{counts}, {'as published: ' if self.as_published else 'NOT as published: '}{self.published}"


@dataclass(frozen=True)
class FileReport:
    """A file or folder of features.

    of: "videos" or "captions". items: their number. unused: items that no split contains.
    lacking: by split, the ids that are missing. looked_at: items whose rows were read. broken: those of them that are broken.
    problem: of the first broken item, or of the whole file. repeated: names that occur twice; the last row counts.
    remark: what is unusual and prevents nothing.
    """

    file: str
    of: str
    columns: int = 0
    items: int = 0
    unused: int = 0
    lacking: Mapping[str, tuple[str, ...]] | None = None
    looked_at: int = 0
    broken: int = 0
    repeated: tuple[str, ...] = ()
    problem: str = ""
    remark: str = ""

    def fault(self, split: str) -> str:
        """The reason why a split cannot be read from the file; empty if it can."""
        if self.problem:
            return f"{self.file}: {self.problem}"
        lacking = (self.lacking or {}).get(split, ())
        return f"{self.file} lacks {len(lacking)} {self.of} of {split}, {lacking[0]!r} first" if lacking else ""

    def __str__(self) -> str:
        lines = [f"{self.file}: {self.columns} columns, {self.items:,} {self.of}" if self.items else self.file]
        lines += [self.problem] if self.problem else []
        lacking = {split: ids for split, ids in (self.lacking or {}).items() if ids}
        lines += [f"lacks {len(ids):,} {self.of} of {split}, {ids[0]} first" for split, ids in lacking.items()]
        if self.unused:
            lines.append(f"{self.unused:,} {self.of} are in no split")
        if self.repeated:
            lines.append(f"{len(self.repeated):,} names occur twice, {self.repeated[0]} first; the last row counts")
        lines += [self.remark] if self.remark else []
        if self.looked_at < self.items:
            lines.append(f"{self.looked_at:,} of {self.items:,} {self.of} were read; --thorough reads all")
        return "\n  ".join(lines)


Pair = tuple[FileReport, FileReport]


@dataclass(frozen=True)
class Use:
    """Whether a package can be used for a purpose. why: with which features, or the reason why not."""

    possible: bool
    why: str


@dataclass(frozen=True)
class PackageReport:
    """The contents of a package by split and by file, and what it can be used for."""

    path: Path
    splits: Mapping[str, SplitReport]
    files: tuple[FileReport, ...]
    uses: Mapping[str, Use]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, as `--json` prints it; of missing ids and repeated names the number and the first."""
        files = [
            {**vars(f), "lacking": {s: _brief(ids) for s, ids in (f.lacking or {}).items()}, "repeated": _brief(f.repeated)}
            for f in self.files
        ]
        splits, uses = ({name: vars(value) for name, value in part.items()} for part in (self.splits, self.uses))
        return {"collection": self.path.name, "path": str(self.path), "splits": splits, "files": files, "uses": uses}

    def __str__(self) -> str:
        """The report as `prvr data check` prints it."""
        parts = [f"{split}: {report}" for split, report in self.splits.items()] + [*map(str, self.files)]
        parts += [f"{name}: {'yes, ' if use.possible else 'no; '}{use.why}" for name, use in self.uses.items()]
        lines = [f"  {line}" for part in parts for line in part.splitlines()]
        return "\n".join([f"{self.path.name}  ({self.path})", *lines])


def find_packages(root: str | Path) -> list[Path]:
    """The packages in a folder, or the folder itself if it is a package.

    Raises:
        DataError: there are none.
    """
    root = Path(root).absolute()
    found = [root] if is_package(root) else sorted(path for path in root.glob("*") if is_package(path))
    if not found:
        raise DataError(f"no package in {root}; a package has ROOT/COLLECTION/FeatureData and ROOT/COLLECTION/TextData")
    return found


def check_package(path: str | Path, *, most: int | None = SAMPLE, on_progress: OnProgress | None = None) -> PackageReport:
    """Checks a package. A broken or missing file is a line of the report, not an error.

    Args:
        path: the folder ROOT/COLLECTION.
        most: the number of items of each file whose values are checked, evenly spread; None for all.
    """
    package = open_package(path)
    datasets, splits = _splits(package.path)
    inside = [file for folder in ("FeatureData", "TextData") for file in sorted(package.path.glob(f"{folder}/*"))]
    files = {file: FileReport("", "") for file in inside if file.is_dir() or file.suffix in (".h5", ".hdf5")}
    for number, file in enumerate(files):
        if on_progress:
            on_progress(f"{package.path.name}: {file.name}", number, len(files))
        of_videos = file.parent.name == "FeatureData" or file in package.spoken.values()
        files[file] = _file(file, "videos" if of_videos else "captions", datasets, most)
    if most is None:
        _remark_on_lengths(package, files)
    return PackageReport(package.path, splits, tuple(files.values()), _uses(package, splits, files))


def _remark_on_lengths(package: Package, files: dict[Path, FileReport]) -> None:
    """Adds to each teacher's file of frames where its videos have another number of frames than the visual features."""
    for name, (path, _) in package.teachers.items():
        remarks = []
        for visual in package.visual:
            if not files[path].problem and not files[package.visual[visual]].problem:
                note = compare_lengths(package.frames(visual), package.frames(name))
                remarks += [f"beside {visual}, {note}"] if note else []
        files[path] = replace(files[path], remark="; ".join(remarks))


def _splits(path: Path) -> tuple[dict[str, Dataset], dict[str, SplitReport]]:
    found = [file.name for file in path.glob(f"TextData/*{SUFFIX}")]
    names = {name.removesuffix(SUFFIX).removeprefix(path.name) for name in found if name.startswith(path.name)}
    datasets, reports = {}, {}
    for split in [*SPLITS, *sorted(names - {*SPLITS})]:
        file = f"TextData/{path.name}{split}{SUFFIX}"
        try:
            datasets[split] = load(path.parent, path.name, split)
        except DataError as problem:
            reports[split] = SplitReport(file, problem=str(problem))
            continue
        counts = len(datasets[split].video_ids), len(datasets[split].captions)
        sizes = SIZES.get(path.name, {}).get(split, ())
        same = [size.source for size in sizes if (size.videos, size.captions) == counts]
        known = same[0] if same else " or ".join(map(str, sizes))
        reports[split] = SplitReport(file, *counts, bool(same) if sizes else None, known)
    return datasets, reports


def _file(file: Path, of: str, datasets: Mapping[str, Dataset], most: int | None) -> FileReport:
    name = f"{file.parent.name}/{file.name}"
    if file.is_dir() and not (is_bigfile(file) or is_npz_folder(file) or is_packed(file)):
        return FileReport(
            name, of, problem=f"this is not a folder of features, which has {', '.join(HOLDS)}, or an npz file for each item"
        )
    try:
        stored = open_features(file)
        features = stored if of == "videos" else CaptionKeys(stored)
        width, ids = columns(features), list(features)
    except DataError as problem:
        return FileReport(name, of, problem=str(problem))
    wanted = {
        split: [*dataset.video_ids] if of == "videos" else [c.id for c in dataset.captions] for split, dataset in datasets.items()
    }
    named = {_common_spelling(id, of) for each in wanted.values() for id in each}
    looked_at = ids if most is None else [ids[place] for place in np.unique(np.linspace(0, len(ids) - 1, most).astype(int))]
    faults = [fault for id in looked_at if (fault := _fault(of.removesuffix("s"), id, stored, width))]
    return FileReport(
        name,
        of,
        columns=width,
        items=len(ids),
        unused=sum(_common_spelling(id, of) not in named for id in ids),
        lacking={split: tuple(id for id in each if id not in features) for split, each in wanted.items()},
        looked_at=len(looked_at),
        broken=len(faults),
        repeated=stored.repeated if isinstance(stored, BigFile) else (),
        problem=f"{len(faults)} of {len(looked_at)} items that were read are broken: {faults[0]}" if faults else "",
    )


def _common_spelling(id: str, of: str) -> str:
    return short_spelling(id) if of == "captions" else id


def _fault(what: str, id: str, features: Features, width: int) -> str:
    try:
        rows = rows_of(what, id, features)
    except DataError as problem:
        return str(problem)
    return "" if rows.shape[1] == width else f"features of {what} {id!r} have {rows.shape[1]} columns, most others {width}"


def _uses(package: Package, splits: Mapping[str, SplitReport], files: Mapping[Path, FileReport]) -> dict[str, Use]:
    students = {
        f"{frames} and {words}": (files[package.visual[frames]], files[package.words[words]])
        for frames in package.visual
        for words in package.words
    }
    teachers = {name: _compare_widths(files[frames], files[text]) for name, (frames, text) in package.teachers.items()}
    # A package's val and test are usually the same data, so either serves for both.
    dev, test = (next((s for s in order if not splits[s].problem), "test") for order in (("val", "test"), ("test", "val")))
    missing = {name: report.problem for name, report in splits.items()}
    training = _use(students, [missing["train"], missing[dev]], ("train", dev), otherwise=_no_student(package))
    distillation = _use(teachers, [], ("train",), otherwise=_no_teacher(package))
    return {
        "student training": training,
        "distillation": distillation if training.possible else training,
        "evaluation": _use(students, [missing[test]], (test,), otherwise=_no_student(package)),
        "teacher alone": _use(teachers, [missing[test]], (test,), otherwise=_no_teacher(package)),
    }


def _compare_widths(frames: FileReport, text: FileReport) -> Pair:
    """The two reports, with a problem if their widths differ."""
    if frames.problem or text.problem or frames.columns == text.columns:
        return frames, text
    unlike = f"has {frames.columns} columns, {text.file} {text.columns}: they come from different encoders"
    return replace(frames, problem=unlike), text


def _use(choices: Mapping[str, Pair], missing: Iterable[str], splits: Iterable[str], *, otherwise: str) -> Use:
    """Whether one of several pairs of files, frames and text, has everything of these splits."""
    faults = {
        name: next((fault for split in splits for file in pair if (fault := file.fault(split))), "")
        for name, pair in choices.items()
    }
    good = [name for name, fault in faults.items() if not fault]
    why = [problem for problem in missing if problem] or ([] if good else [*faults.values(), otherwise])
    return Use(False, why[0]) if why else Use(True, f"with {'; '.join(good)}")


def _no_student(package: Package) -> str:
    if not package.visual:
        return f"FeatureData has no frames; expected a folder FeatureData/NAME with {', '.join(HOLDS)}"
    return f"TextData/roberta_{package.path.name}_{TEXT} is missing, the words of captions; copy it from the package"


def _no_teacher(package: Package) -> str:
    try:
        package.teacher(TEACHER)
    except DataError as problem:
        return str(problem)
    return ""


def _brief(ids: tuple[str, ...]) -> dict[str, Any]:
    return {"number": len(ids), "first": ids[0] if ids else None}
