"""Further correct videos of captions, from labels that annotators made.

multigt_labels.zip           <data set>/<name>.gt.jsonl, one for each data set
<name>.gt.jsonl              lines with query_id, caption, gt_video_ids
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from prvr.datasets import Dataset
from prvr.datasets.annotations import words_of
from prvr.datasets.archive import members, read_member
from prvr.datasets.reading import as_list, as_text, json_lines, numbered_lines, text_lines
from prvr.errors import DataError

MOST_BYTES = 2**28
SUFFIX = ".gt.jsonl"


def with_positives(dataset: Dataset, path: str | Path) -> Dataset:
    """The data set with `also` filled from labels, which are matched by the video and the words of a caption.

    Captions without a label are unchanged. Videos of a label that are not in the gallery are left out. The labels of TVR are
    about its visual queries (`kind` is v) alone.

    Args:
        path: the zip archive, of which the file of `dataset.name` is read, or one file of lines.

    Raises:
        DataError: the labels are missing or broken, or none is about a caption of this split.
    """
    return add_labels(dataset, path)[0]


def add_labels(dataset: Dataset, path: str | Path) -> tuple[Dataset, int]:
    """The data set that `with_positives` returns, and the number of its captions with a label.

    Args:
        path: as in `with_positives`; for a data set without a name also an archive with one file of labels.
    """
    path = Path(path)
    gallery = set(dataset.video_ids)
    positives: dict[tuple[str, str], dict[str, None]] = {}
    for where, label in json_lines(_lines(path, dataset.name)):
        video = as_text(f"{where}: 'query_id'", label.get("query_id")).partition("#")[0]
        text = as_text(f"{where}: 'caption'", label.get("caption"))
        correct = [as_text(f"{where}: 'gt_video_ids'", v) for v in as_list(f"{where}: 'gt_video_ids'", label.get("gt_video_ids"))]
        # A label applies to every caption of the video with these words.
        positives.setdefault((video, words_of(text)), {}).update(dict.fromkeys(v for v in correct if v != video and v in gallery))
    captions = tuple(
        replace(caption, also=tuple(positives.get((caption.video, words_of(caption.text)), caption.also)))
        for caption in dataset.captions
    )
    count = sum((caption.video, words_of(caption.text)) in positives for caption in captions)
    if not count:
        about = f"a caption of split {dataset.split!r} of {dataset.name!r}" if dataset.name else "a query of these scores"
        raise DataError(f"no label of {path} is about {about}; use the labels of that split")
    return replace(dataset, captions=captions), count


def _lines(path: Path, name: str) -> Iterable[tuple[str, str]]:
    if not path.is_file():
        raise DataError(f"no labels at {path}; expected a zip archive or a file of lines with query_id, caption, gt_video_ids")
    if path.suffix != ".zip":
        return text_lines(path)
    found = [member for member in members(path, most=MOST_BYTES) if member.endswith(SUFFIX)]
    mine = [member for member in found if not name or member.partition("/")[0] == name]
    if len(mine) != 1:
        raise DataError(
            f"{path} has {len(mine)} files {name or '*'}/*{SUFFIX}; it has {', '.join(found) or 'none at all'}: "
            "unpack the file of your split"
        )
    try:
        return numbered_lines(f"{path}: {mine[0]}", read_member(path, mine[0]).decode())
    except UnicodeDecodeError:
        raise DataError(f"{path}: {mine[0]} is not UTF-8 text; get the file from its source again") from None
