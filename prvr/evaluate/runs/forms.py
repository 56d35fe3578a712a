"""A run from a file in any of the forms that commands take: one that we kept, TREC's run format, a plain score matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from prvr.errors import SettingError
from prvr.evaluate.runs import Run, holds_arrays, load_run, no_run, read_arrays
from prvr.evaluate.runs.foreign import read_ids, read_matrix, read_trec
from prvr.evaluate.runs.truth import read_truth, with_truth

Form = Literal["kept", "trec", "matrix"]
# Options that say nothing beside a file that has these ids itself.
NEEDLESS: dict[Form, tuple[str, ...]] = {"kept": ("queries", "gallery"), "trec": ("queries",), "matrix": ()}


class Read(NamedTuple):
    """A run from a file.

    joined: of a TREC run whose gallery nobody named, the videos that are correct for no query. They count, too.
    """

    run: Run
    joined: tuple[str, ...] = ()


def form_of(path: Path) -> Form:
    """What a file's first bytes, its suffix and the names of its arrays say.

    Raises:
        DataError: there is no such file, or its arrays are broken.
    """
    if not path.is_file():
        raise no_run(path)
    if path.suffix not in (".npz", ".npy") and not holds_arrays(path):
        return "trec"
    return "kept" if "about" in read_arrays(path) else "matrix"


def read_run(path: Path, *, truth: Path | None = None, queries: Path | None = None, gallery: Path | None = None) -> Read:
    """A run with the truth of a file beside it, if one is given; a run of another program needs one.

    Args:
        queries: ids of a matrix's rows. gallery: of its columns, or of all videos of a TREC run. A kept run has its own.

    Raises:
        SettingError: the file needs another beside it.
        DataError: one of them is broken, or they do not fit together.
    """
    form = form_of(path)
    if form == "kept":
        run = load_run(path)
        return Read(run if truth is None else with_truth(run, read_truth(truth)))
    if truth is None:
        raise SettingError(f"{path} does not say which videos are correct; give --truth FILE, qrels or captions")
    told = read_truth(truth)
    if form == "matrix":
        if queries is None or gallery is None:
            raise SettingError(f"{path} is a plain score matrix; name its ids: --queries FILE --gallery FILE, one id a line")
        return Read(read_matrix(path, told, queries=read_ids(queries), gallery=read_ids(gallery)))
    if gallery is not None:
        return Read(read_trec(path, told, gallery=read_ids(gallery)))
    run = read_trec(path, told)
    correct_for_any = {*run.target.tolist(), *run.also[:, 1].tolist()}
    return Read(run, tuple(video for place, video in enumerate(run.videos) if place not in correct_for_any))
