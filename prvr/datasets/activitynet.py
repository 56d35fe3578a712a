"""ActivityNet Captions: one JSON object, video -> duration, timestamps [[start, end], ...], sentences.

    train.json, val_1.json, val_2.json   the release
    train.json, val.json, test.json      the same files, as moment retrieval renamed them

PRVR is tested on val_1. Two galleries of it are in use: all 4,917 videos, and the 4,430 of a package's caption list; the second
is `subset(load(path, "val_1"), videos)` of `prvr.datasets.annotations`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prvr.datasets import Dataset
from prvr.datasets.reading import (
    Span,
    as_dict,
    as_duration,
    as_list,
    as_span,
    as_text,
    file_of,
    json_object,
    make_dataset,
    number_captions,
    read_text,
)
from prvr.errors import DataError

FILES = {"train": ("train.json",), "val_1": ("val_1.json", "val.json"), "val_2": ("val_2.json", "test.json")}


def load(path: str | Path, split: str) -> Dataset:
    """One split of ActivityNet Captions: train, val_1 or val_2.

    Raises:
        DataError: the file is missing or broken.
    """
    file = file_of(path, split, FILES)
    durations: dict[str, float] = {}
    rows: list[tuple[str, str, Span | None]] = []
    for video, value in json_object(str(file), read_text(file)).items():
        where = f"{file}: {video!r}"
        about = as_dict(where, value)
        durations[video] = as_duration(f"{where}: 'duration'", about.get("duration"))
        for place, text, moment in sentences(where, about):
            rows.append((video, text, as_span(place, moment, durations[video])))
    return make_dataset(file, "activitynet", split, number_captions(rows), durations)


def sentences(where: str, about: dict[str, object]) -> Iterator[tuple[str, str, object]]:
    """The sentences of a video with their timestamps, each with its place for error messages."""
    texts, moments = (as_list(f"{where}: {key!r}", about.get(key)) for key in ("sentences", "timestamps"))
    if len(texts) != len(moments):
        raise DataError(f"{where} has {len(texts)} sentences and {len(moments)} timestamps; copy the file from its release again")
    for number, (text, moment) in enumerate(zip(texts, moments, strict=True)):
        place = f"{where}, sentence {number}"
        yield place, as_text(place, text), moment
