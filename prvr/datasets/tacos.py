"""TACoS: cooking videos with many sentences each.

    train.json, val.json, test.json   video -> fps, num_frames, timestamps [[start, end], ...] in frames, sentences
    tacos_<split>_release.jsonl       the same in seconds, as lines with `relevant_windows`

A video is called `s30-d52`; in the first files it is `s30-d52.avi`.
"""

from __future__ import annotations

from pathlib import Path

from prvr.datasets import Dataset
from prvr.datasets.activitynet import sentences
from prvr.datasets.reading import (
    Span,
    as_dict,
    as_duration,
    as_list,
    as_number,
    as_span,
    file_of,
    json_object,
    make_dataset,
    number_captions,
    read_text,
)
from prvr.datasets.windows import read_windows

FILES = {split: (f"{split}.json", f"tacos_{split}_release.jsonl") for split in ("train", "val", "test")}


def load(path: str | Path, split: str) -> Dataset:
    """One split of TACoS: train, val or test; from the original file if both are there.

    Raises:
        DataError: the file is missing or broken.
    """
    file = file_of(path, split, FILES)
    if file.suffix == ".jsonl":
        return make_dataset(file, "tacos", split, *read_windows(file))
    durations: dict[str, float] = {}
    rows: list[tuple[str, str, Span | None]] = []
    for key, value in json_object(str(file), read_text(file)).items():
        where, video = f"{file}: {key!r}", key.removesuffix(".avi")
        about = as_dict(where, value)
        rate = as_duration(f"{where}: 'fps'", about.get("fps"))
        frames = as_duration(f"{where}: 'num_frames'", about.get("num_frames"))
        durations[video] = as_duration(f"{where}: 'num_frames' / 'fps'", frames / rate)
        for place, text, moment in sentences(where, about):
            seconds = [as_number(place, frame) / rate for frame in as_list(place, moment)]
            rows.append((video, text, as_span(place, seconds, durations[video])))
    return make_dataset(file, "tacos", split, number_captions(rows), durations)
