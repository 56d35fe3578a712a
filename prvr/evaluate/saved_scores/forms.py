"""Opens scores in each form that the commands accept: saved by prvr, TREC's ranking format, a plain score matrix.

Predicted moments are a form too, with figures of their own (`saved_scores.moments`): they rank no videos.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from prvr.errors import SettingError
from prvr.evaluate.saved_scores import SavedScores, holds_arrays, load_scores, missing_scores, read_arrays
from prvr.evaluate.saved_scores.foreign import read_ids, read_matrix, read_trec
from prvr.evaluate.saved_scores.truth import read_truth, with_truth

Form = Literal["saved", "trec", "matrix", "moments"]
# The options that a file with these ids does not need.
NEEDLESS: dict[Form, tuple[str, ...]] = {
    "saved": ("queries", "gallery"),
    "trec": ("queries",),
    "matrix": (),
    "moments": ("queries", "gallery"),
}


class OpenedScores(NamedTuple):
    """Scores from a file.

    added_videos: of a TREC file without a list of the gallery, the videos that are correct for no query. They were added to
    the gallery and are counted.
    """

    saved: SavedScores
    added_videos: tuple[str, ...] = ()


def form_of(path: Path) -> Form:
    """The form of a file, from its first bytes, its suffix and the names of its arrays.

    Raises:
        DataError: there is no such file, or its arrays are broken.
    """
    if not path.is_file():
        raise missing_scores(path)
    if path.suffix not in (".npz", ".npy") and not holds_arrays(path):
        return "moments" if path.suffix == ".jsonl" or _first_letter(path) == b"{" else "trec"
    return "saved" if "about" in read_arrays(path) else "matrix"


def open_scores(
    path: str | Path,
    *,
    truth: str | Path | None = None,
    queries: str | Path | None = None,
    gallery: str | Path | None = None,
) -> OpenedScores:
    """Opens scores, with the correct videos of a truth file.

    Args:
        truth: required for another program's scores; replaces the correct videos of saved scores.
        queries: file with the ids of a matrix's rows, one a line. gallery: the same for a matrix's columns, or for all
            videos of a TREC file. Saved scores have their ids.

    Raises:
        SettingError: the file needs another file beside it.
        DataError: a file is broken, or the files do not fit together.
    """
    path = Path(path)
    form = form_of(path)
    if form == "moments":
        raise SettingError(f"{path} holds predicted moments, which rank no videos; count their figures: prvr score {path}")
    if form == "saved":
        saved = load_scores(path)
        return OpenedScores(saved if truth is None else with_truth(saved, read_truth(truth)))
    if truth is None:
        raise SettingError(f"{path} does not say which videos are correct; add --truth FILE, qrels or captions")
    correct = read_truth(truth)
    if form == "matrix":
        if queries is None or gallery is None:
            raise SettingError(f"{path} is a plain score matrix; add its ids, one a line: --queries FILE --gallery FILE")
        return OpenedScores(read_matrix(path, correct, queries=read_ids(queries), gallery=read_ids(gallery)))
    if gallery is not None:
        return OpenedScores(read_trec(path, correct, gallery=read_ids(gallery)))
    saved = read_trec(path, correct)
    correct_for_any = {*saved.target.tolist(), *saved.also[:, 1].tolist()}
    return OpenedScores(saved, tuple(video for place, video in enumerate(saved.videos) if place not in correct_for_any))


def _first_letter(path: Path) -> bytes:
    """The first byte that is not blank, of the first ones of a file."""
    with open(path, "rb") as file:
        return file.read(1 << 10).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
