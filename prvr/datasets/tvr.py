"""TVR: sentences about moments of television shows, one JSON object a line.

    tvr_train_release.jsonl, tvr_val_release.jsonl   vid_name, duration, ts [start, end], desc, type (v, t, vt), desc_id
    tvr_test_public_release.jsonl                    desc, desc_id
    tvr_video2dur_idx.json                           split -> video -> [duration, index]

PRVR is tested on `val`. The public test names no videos: its captions have none, and its gallery is in the last file.

Caption lists with spans that weakly supervised moment retrieval adds to PRVR packages have the same layout (`load_vcmr`):

    <split>.jsonl   vid_name, desc_id "VIDEO#enc#NUMBER", duration, ts [start, end], desc
"""

from __future__ import annotations

from pathlib import Path

from prvr.datasets import Caption, Dataset
from prvr.datasets.reading import (
    as_dict,
    as_duration,
    as_list,
    as_span,
    as_text,
    file_of,
    json_lines,
    json_object,
    make_dataset,
    read_text,
    text_lines,
)
from prvr.errors import DataError

SECRET = "test_public"
FILES = {split: (f"tvr_{split}_release.jsonl",) for split in ("train", "val", SECRET)}
DURATIONS = "tvr_video2dur_idx.json"
VCMR_FILES = {split: (f"{split}.jsonl",) for split in ("train", "val", "test")}


def load(path: str | Path, split: str) -> Dataset:
    """One split of TVR: train, val or test_public; the ids of captions are its `desc_id`.

    Raises:
        DataError: the file is missing, or a line of it is broken.
    """
    file = file_of(path, split, FILES)
    if split != SECRET:
        return make_dataset(file, "tvr", split, *read_captions(file))
    captions = [_read_query(where, line) for where, line in json_lines(text_lines(file))]
    durations = _durations(file.parent / DURATIONS, split)
    return Dataset("tvr", split, make_dataset(file, "tvr", split, captions).captions, tuple(durations), durations)


def load_vcmr(path: str | Path, split: str) -> Dataset:
    """One split of a caption list with spans: train, val or test; its name is that of the folder.

    Raises:
        DataError: the file is missing, or a line of it is broken.
    """
    file = file_of(path, split, VCMR_FILES)
    return make_dataset(file, file.absolute().parent.name, split, *read_captions(file))


def read_captions(path: Path) -> tuple[list[Caption], dict[str, float]]:
    """Reads captions with spans, and durations, from lines with `vid_name`, `duration`, `ts`, `desc` and `desc_id`."""
    captions: list[Caption] = []
    durations: dict[str, float] = {}
    for where, line in json_lines(text_lines(path)):
        query = _read_query(where, line)
        video = as_text(f"{where}: 'vid_name'", line.get("vid_name"))
        duration = durations.setdefault(video, as_duration(f"{where}: 'duration'", line.get("duration")))
        start, end = as_span(f"{where}: 'ts'", line.get("ts"), duration) or (None, None)
        kind = as_text(f"{where}: 'type'", line["type"]) if "type" in line else None
        captions.append(Caption(query.id, video, query.text, start, end, kind))
    return captions, durations


def _read_query(where: str, line: dict[str, object]) -> Caption:
    id = line.get("desc_id")
    if isinstance(id, bool) or not isinstance(id, str | int) or not str(id):
        raise DataError(f"{where}: 'desc_id' is {id!r:.60}, expected a number or text")
    return Caption(str(id), "", as_text(f"{where}: 'desc'", line.get("desc")))


def _durations(path: Path, split: str) -> dict[str, float]:
    if not path.is_file():
        raise DataError(f"no {path}; the gallery of split {split!r} is in it: copy it from the release")
    videos = as_dict(f"{path}: {split!r}", json_object(str(path), read_text(path)).get(split))
    return {v: as_duration(f"{path}: {v!r}", (as_list(f"{path}: {v!r}", about) or [None])[0]) for v, about in videos.items()}
