"""Charades-STA: sentences about moments of half a minute at home.

charades_sta_train.txt, charades_sta_test.txt       VIDEO START END##sentence
Charades_v1_train.csv, Charades_v1_test.csv         columns `id` and `length`, the durations; optional
charades_<split>_release.jsonl                      the same as lines with `relevant_windows`, broken spans left out
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from prvr.datasets import Dataset
from prvr.datasets.reading import (
    Span,
    as_duration,
    as_span,
    as_text,
    file_of,
    make_dataset,
    number_captions,
    read_text,
    text_lines,
)
from prvr.datasets.windows import read_windows
from prvr.errors import DataError

FILES = {split: (f"charades_sta_{split}.txt", f"charades_{split}_release.jsonl") for split in ("train", "test")}
LINE = re.compile(r"(\S+) (\S+) (\S+?)##(.*)")


def load(path: str | Path, split: str) -> Dataset:
    """One split of Charades-STA: train or test; from the original file if both are there.

    Raises:
        DataError: the file is missing, or a line of it is broken.
    """
    file = file_of(path, split, FILES)
    if file.suffix == ".jsonl":
        return make_dataset(file, "charades", split, *read_windows(file))
    lengths = _lengths(file.parent / f"Charades_v1_{split}.csv")
    rows: list[tuple[str, str, Span | None]] = []
    for where, line in text_lines(file):
        parts = LINE.fullmatch(line)
        if parts is None:
            raise DataError(
                f"{where}: expected VIDEO START END##sentence, got {line[:60]!r}; copy the file from its release again"
            )
        video, start, end, text = parts.groups()
        rows.append((video, as_text(where, text), as_span(where, (start, end), lengths.get(video))))
    return make_dataset(
        file, "charades", split, number_captions(rows), {video: lengths[video] for video, *_ in rows if video in lengths}
    )


def _lengths(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        return {row["id"]: as_duration(f"{path}, line {reader.line_num}: 'length'", row["length"]) for row in reader}
    except (KeyError, csv.Error) as problem:
        raise DataError(
            f"{path} is not a table with the columns 'id' and 'length' ({problem}); copy it from its release"
        ) from None
