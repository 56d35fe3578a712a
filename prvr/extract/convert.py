"""A published package, packed for training: frames are sampled and normalised once, instead of whenever they are read.

OUT/<visual feature>/frames                 sampled to 128, unit length: as a student reads them in evaluation
OUT/<visual feature>/clips                  with clips: the means of that number of slots of all rows
OUT/<visual feature>/taught_by/<teacher>    videos with more frames than the teacher has, as a student reads them in training
OUT/<text feature>/words                    the first 30, unit length
OUT/<teacher>/frames, sentences             frames sampled to 128 and not normalised; sentences as they are

In training a video is first sampled to the number of frames of the teacher (as in the released code), in evaluation not. Both
forms are kept where they differ, so that any split can be trained and evaluated on. Captions have the ids of the caption
lists. A second run does what is missing or of a file with another modification time; every item is then read again and
compared with its checksum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prvr.batch import Reading, read_clips, read_frames, read_words, resample
from prvr.datasets.published import SUFFIX, is_package, load
from prvr.errors import DataError, SettingError
from prvr.extract import Extraction, Progress, feature_folder
from prvr.extract.extraction import delete_items
from prvr.features import Features, columns, place, rows_of
from prvr.features.bigfile import BigFile
from prvr.features.compaction import tidy
from prvr.features.npz import NpzFolder
from prvr.features.object_storage import require_folder
from prvr.features.package import Package, open_package, short_spelling
from prvr.features.packed import CLIPS, ITEMS_AT_ONCE, Packed, PackedWriter
from prvr.features.shelf import taught_folder
from prvr.features.verify import damaged_items

BYTES_AT_ONCE = 1 << 25

Prepare = Callable[[str, np.ndarray], np.ndarray]
Read = dict[str, int | bool | None]
_Item = tuple[str, np.ndarray, Mapping[str, int]]
_Counted = tuple[int, list[_Item]]


@dataclass(frozen=True)
class Sampling:
    """How many frames of a video and words of a caption are kept; those of a student are scaled to unit length, too.

    clips: how many clips of a video are kept beside its frames, for methods that read clips; 0 for none.
    """

    frames: int = 128
    words: int = 30
    clips: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "words"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}; keep at least one")
        if self.clips < 0:
            raise SettingError(f"clips is {self.clips}; name how many, or 0 for none")


@dataclass(frozen=True)
class _Part:
    """Features of one kind that are packed into one folder.

    files: the files of the package that they come from. ids: the id of each item in the source, by its id in the folder.
    prepare: maps an id and its rows to the rows that are stored. read: what `prepare` does, as in the `about` of a packed
    folder; None if rows are stored as they are.
    """

    folder: Path
    kind: Literal["frames", "clips", "sentences", "words"]
    name: str
    source: Features
    files: tuple[Path, ...]
    ids: Mapping[str, str]
    prepare: Prepare
    read: Read | None


Form = tuple[Prepare, Read | None]


def convert_package(
    package: str | Path,
    out: str | Path,
    *,
    visual_features: Sequence[str] = (),
    sampling: Sampling | None = Sampling(),
    dtype: Literal["float16", "float32"] = "float32",
    on_progress: Progress | None = None,
) -> dict[str, Extraction]:
    """Packs the features of a package ROOT/COLLECTION, and returns what was done for each folder below `out`.

    An item that is broken in the package stops nothing and is reported; it is tried again the next time.

    Args:
        visual_features: names of visual features; by default all of the package.
        sampling: None to keep all rows as they are.

    Raises:
        DataError: there is no such package, a file is broken as a whole, or `out` was made from other files or with another
            sampling.
        SettingError: `out` is a URL.
    """
    require_folder(out)
    if not is_package(Path(package)):
        raise DataError(f"{package} is no feature package; name the folder ROOT/COLLECTION that holds FeatureData and TextData")
    opened, out = open_package(package), Path(out)
    visual = [name for name in visual_features or opened.visual if name not in opened.teachers]
    parts = _parts(opened, out, visual, sampling)
    done = {part.folder.relative_to(out).as_posix(): _pack(part, opened.path, dtype, on_progress or _silent) for part in parts}
    if not done:
        raise DataError(f"{package} holds no features; copy FeatureData and TextData from the package")
    return done


def _parts(package: Package, out: Path, visual: Sequence[str], sampling: Sampling | None) -> Iterator[_Part]:
    """Yields the parts to be packed, in order: the last ones depend on folders that the first ones make."""
    listed = _ids_by_spelling(package)
    for name in visual:
        source = package.frames(name)
        reading, files = _reading(source, sampling), (package.visual[name],)
        yield _Part(feature_folder(out, name, "frames"), "frames", name, source, files, _same(source), *_frames_form(reading))
        if reading is not None and reading.clips:
            yield _Part(feature_folder(out, name, CLIPS), "clips", name, source, files, _same(source), *_clips_form(reading))
    for name, (seen, spoken) in package.teachers.items():
        teacher, frames, form = package.teacher(name), package.frames(name), _teacher_form(sampling)
        yield _Part(feature_folder(out, name, "frames"), "frames", name, frames, (seen,), _same(frames), *form)
        ids, folder = _ids_in_lists(teacher.sentences, listed), feature_folder(out, name, "sentences")
        yield _Part(folder, "sentences", name, teacher.sentences, (spoken,), ids, *_AS_THEY_ARE)
    for name, file in package.words.items():
        source = package.text(name, "words")
        form, folder = _words_form(_reading(source, sampling)), feature_folder(out, name, "words")
        yield _Part(folder, "words", name, source, (file,), _ids_in_lists(source, listed), *form)
    for name in visual:
        reading = _reading(package.frames(name), sampling)
        yield from (_taught(package, out, name, teacher, reading) for teacher in package.teachers if reading is not None)


_AS_THEY_ARE: Form = (lambda id, rows: rows, None)


def _frames_form(reading: Reading | None) -> Form:
    if reading is None:
        return _AS_THEY_ARE
    return lambda id, rows: read_frames(rows, reading), {"most": reading.max_frames, "unit": True}


def _clips_form(reading: Reading) -> Form:
    def prepare(id: str, rows: np.ndarray) -> np.ndarray:
        clips = read_clips(rows, reading)
        assert clips is not None
        return clips

    return prepare, {"most": reading.clips, "unit": True}


def _words_form(reading: Reading | None) -> Form:
    if reading is None:
        return _AS_THEY_ARE
    return lambda id, rows: read_words(rows, reading), {"most": reading.max_words, "unit": True}


def _teacher_form(sampling: Sampling | None) -> Form:
    if sampling is None:
        return _AS_THEY_ARE
    return lambda id, rows: resample(rows.astype(np.float32), sampling.frames), {"most": sampling.frames, "unit": False}


def _taught(package: Package, out: Path, name: str, teacher: str, reading: Reading) -> _Part:
    """Returns the part of the student's frames on the teacher's grid, for videos where that is coarser."""
    own, view = (Packed(feature_folder(out, encoder, "frames")) for encoder in (name, teacher))
    ids = {id: id for id in own if id in view and view.rows_before(id) < own.rows_before(id)}

    def prepare(id: str, rows: np.ndarray) -> np.ndarray:
        return read_frames(rows, reading, teacher_rows=view.rows_before(id))

    form: Form = (prepare, {"most": reading.max_frames, "unit": True})
    files = (package.visual[name], package.teachers[teacher][0])
    return _Part(taught_folder(out, name, teacher), "frames", name, package.frames(name), files, ids, *form)


def _reading(source: Features, sampling: Sampling | None) -> Reading | None:
    """Returns how a student reads these features; None if all rows are kept."""
    if sampling is None:
        return None
    width = _width(source)
    return Reading(width, width, sampling.frames, sampling.words, unit=True, text="words", clips=sampling.clips)


def _width(source: Features) -> int:
    """Returns the columns of the first item that can be read: a broken item stops nothing."""
    if isinstance(source, BigFile | NpzFolder):
        return columns(source)
    for id in source:
        with suppress(DataError):
            return int(source[id].shape[1])
    raise DataError(f"{place(source)} holds no features that can be read; copy it from the package again")


def _same(features: Features) -> dict[str, str]:
    return {id: id for id in features}


def _ids_in_lists(features: Features, listed: Mapping[str, str]) -> dict[str, str]:
    """Returns the keys of captions in the file by their ids in the caption lists."""
    return {listed.get(short_spelling(key), key): key for key in features}


def _ids_by_spelling(package: Package) -> dict[str, str]:
    """Returns the ids of the caption lists by their short spelling."""
    name, files = package.path.name, sorted((package.path / "TextData").glob(f"*{SUFFIX}"))
    splits = [file.name.removesuffix(SUFFIX).removeprefix(name) for file in files if file.name.startswith(name)]
    captions = [caption for split in splits for caption in load(package.path.parent, name, split).captions]
    return {short_spelling(caption.id): caption.id for caption in captions}


def _pack(part: _Part, package: Path, dtype: str, on_progress: Progress) -> Extraction:
    stamps = {file.relative_to(package).as_posix(): _size_and_time(file) for file in part.files}
    about: dict[str, Any] = {"kind": part.kind, "encoder": {"name": part.name, "fingerprint": None}}
    about["published"] = {file: size for file, (size, _) in stamps.items()}
    if part.read is not None:
        about["read"] = part.read
    stamp = {"mtime_ns": max(time for _, time in stamps.values())}
    problems: dict[str, str] = {}
    with PackedWriter(part.folder, columns=_width(part.source), about=about, dtype=dtype) as writer:
        there = writer.features
        dropped = delete_items(writer, [id for id in there if id not in part.ids])
        is_kept = {id: id in there and stamp.items() <= there.info(id).items() for id in part.ids}
        fresh = [id for id in is_kept if not is_kept[id]]
        for count, items in _prepare(part, fresh, stamp, problems):
            _append(writer, items, problems)
            on_progress(f"{part.name} {part.kind}", len(is_kept) - len(fresh) + count, len(is_kept))
        delete_items(writer, problems)
        broken = delete_items(writer, damaged_items(there, on_progress))
    tidy(part.folder)
    problems |= dict.fromkeys(broken, "its rows on disk are not those that were written; run the same command again")
    good = [id for id in is_kept if id not in problems]
    done, kept = (tuple(id for id in good if is_kept[id] is before) for before in (False, True))
    return Extraction(done, kept, tuple(dropped), problems)


def _prepare(part: _Part, ids: Sequence[str], stamp: Mapping[str, int], problems: dict[str, str]) -> Iterator[_Counted]:
    """Yields items to be written at once, with the number of ids read so far; adds ids that cannot be read to the problems."""
    items: list[_Item] = []
    size, what = 0, "video" if part.kind == "frames" else "caption"
    for number, id in enumerate(ids, start=1):
        try:
            rows = rows_of(what, part.ids[id], part.source)
            items.append((id, part.prepare(id, rows), {"of": len(rows), **stamp}))
            size += items[-1][1].nbytes
        except (DataError, OSError) as refused:
            problems[id] = str(refused)
        if len(items) == ITEMS_AT_ONCE or size >= BYTES_AT_ONCE or number == len(ids):
            yield number, items
            items, size = [], 0


def _append(writer: PackedWriter, items: Sequence[_Item], problems: dict[str, str]) -> None:
    try:
        writer.extend(items)
    except DataError:
        for item in items:
            try:
                writer.append(*item)
            except DataError as refused:
                problems[item[0]] = str(refused)


def _size_and_time(path: Path) -> tuple[int, int]:
    """Returns the bytes of a file, or of all files in a folder, and the latest modification time."""
    found = [file.stat() for file in (path.iterdir() if path.is_dir() else (path,)) if file.is_file()]
    return sum(file.st_size for file in found), max(file.st_mtime_ns for file in found)


def _silent(note: str, done: float, total: float) -> None:
    """Shows no progress."""
