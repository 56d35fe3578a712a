"""MSR-VTT: trimmed web videos with twenty sentences each, which describe the whole video.

    MSRVTT_data.json            videos [{video_id, "start time", "end time"}], sentences [{video_id, caption, sen_id}]
    <train|val|test>_list_*.txt a video a line; MSRVTT_train.7k.csv and MSRVTT_train.9k.csv the same in a column `video_id`
    MSRVTT_JSFUSION_test.csv    columns `video_id` and `sentence`: the test of a thousand, one sentence each

Without MSRVTT_data.json only the last file has captions.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from prvr.datasets import Dataset
from prvr.datasets.reading import (
    Span,
    as_dict,
    as_list,
    as_number,
    as_text,
    file_of,
    json_object,
    make_dataset,
    number_captions,
    read_text,
)
from prvr.errors import DataError

DATA = "MSRVTT_data.json"
# The official splits, then the splits with a thousand test videos (`1k`: with either list of training videos).
FILES = {
    "train": ("train_list_full.txt",),
    "val": ("val_list_full.txt",),
    "test": ("test_list_full.txt",),
    "train-9k": ("train_list_jsfusion.txt", "MSRVTT_train.9k.csv"),
    "train-7k": ("MSRVTT_train.7k.csv",),
    "test-1k": ("MSRVTT_JSFUSION_test.csv",),
    "train-miech": ("train_list_miech.txt",),
    "test-miech": ("test_list_miech.txt",),
}


def load(path: str | Path, split: str) -> Dataset:
    """One split of MSR-VTT, without spans: a sentence describes the whole video.

    Raises:
        DataError: a file is missing or broken, or names a video that MSRVTT_data.json lacks.
    """
    file = file_of(path, split, FILES)
    sentences, durations = _data(file.parent / DATA)
    rows: list[tuple[str, str, Span | None]] = []
    for where, video, sentence in _list_videos(file):
        if sentence is None and video not in sentences:
            missing = f"{file.parent / DATA} has none" if sentences else f"they are in {file.parent / DATA}, which is missing"
            raise DataError(f"{where}: no captions of {video!r}; {missing}")
        rows += [(video, text, None) for text in ([sentence] if sentence is not None else sentences[video])]
    return make_dataset(
        file, "msrvtt", split, number_captions(rows), {video: durations[video] for video, *_ in rows if video in durations}
    )


def _list_videos(path: Path) -> list[tuple[str, str, str | None]]:
    """The videos of a list, each with its sentence if the list has any."""
    text = read_text(path)
    if path.suffix != ".csv":
        return [(f"{path}, line {n}", line.strip(), None) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if "video_id" not in (reader.fieldnames or ()):
            raise DataError(f"{path} has no column 'video_id'; copy it from its release again")
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
    except csv.Error as problem:
        raise DataError(f"{path} is not a table ({problem}); copy it from its release again") from None
    return [
        (
            where,
            as_text(f"{where}: 'video_id'", row["video_id"]),
            as_text(f"{where}: 'sentence'", row["sentence"]) if "sentence" in row else None,
        )
        for where, row in rows
    ]


def _data(path: Path) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Sentences and duration of each video."""
    sentences: dict[str, list[str]] = {}
    durations: dict[str, float] = {}
    if not path.is_file():
        return sentences, durations
    data = json_object(str(path), read_text(path))
    for number, line in enumerate(as_list(f"{path}: 'sentences'", data.get("sentences"))):
        where = f"{path}: sentence {number}"
        sentence = as_dict(where, line)
        sentences.setdefault(as_text(where, sentence.get("video_id")), []).append(as_text(where, sentence.get("caption")))
    for number, line in enumerate(as_list(f"{path}: 'videos'", data.get("videos", []))):
        where = f"{path}: video {number}"
        video = as_dict(where, line)
        start, end = (as_number(f"{where}: {key!r}", video.get(key)) for key in ("start time", "end time"))
        if end > start:
            durations[as_text(where, video.get("video_id"))] = end - start
    return sentences, durations
