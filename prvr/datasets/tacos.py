"""TACoS: cooking videos with very many sentences each.

    train.json, val.json, test.json   video -> fps, num_frames, timestamps [[start, end], ...] in frames, sentences
    tacos_<split>_release.jsonl       the same in seconds, as lines with `relevant_windows`

A video is called `s30-d52` here; the first files call it `s30-d52.avi`.
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
    decoded,
    file_of,
    gathered,
    json_object,
    numbered,
)
from prvr.datasets.windows import asked_in_windows

FILES = {split: (f"{split}.json", f"tacos_{split}_release.jsonl") for split in ("train", "val", "test")}


def load(path: str | Path, split: str) -> Dataset:
    """One split of TACoS: train, val or test; from the original file if both are there.

    Raises:
        DataError: the file is not there or broken.
    """
    file = file_of(path, split, FILES)
    if file.suffix == ".jsonl":
        return gathered(file, "tacos", split, *asked_in_windows(file))
    durations: dict[str, float] = {}
    rows: list[tuple[str, str, Span | None]] = []
    for key, value in json_object(str(file), decoded(file)).items():
        where, video = f"{file}: {key!r}", key.removesuffix(".avi")
        about = as_dict(where, value)
        rate = as_duration(f"{where}: 'fps'", about.get("fps"))
        durations[video] = as_duration(f"{where}: 'num_frames'", about.get("num_frames")) / rate
        for place, text, moment in sentences(where, about):
            seconds = [as_number(place, frame) / rate for frame in as_list(place, moment)]
            rows.append((video, text, as_span(place, seconds, durations[video])))
    return gathered(file, "tacos", split, numbered(rows), durations)
