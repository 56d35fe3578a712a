"""A folder of videos with `captions.jsonl` as a data set.

A line of captions.jsonl is a JSON object: `video` (path below the folder), `text`, and optionally `start` and `end` in
seconds, `id`, and `split` (train, dev or test). Videos without a split in the file are divided at random with a seed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from prvr.datasets import Caption, Dataset
from prvr.errors import DataError, nearest
from prvr.files import read_bytes
from prvr.video import find_videos, name_in

CAPTIONS = "captions.jsonl"
SPLITS = ("train", "dev", "test")
KEYS = ("video", "text", "start", "end", "id", "split")
# Read where the file is the truth of scores.
ALSO_READ = ("duration", "kind")
# Keys of other formats that mean a moment: to pass over one would lose it.
MOMENTS = (
    "begin",
    "moment",
    "relevant_windows",
    "span",
    "start_time",
    "end_time",
    "stop",
    "time",
    "timestamp",
    "timestamps",
    "ts",
)


def load(root: str | Path, split: str, *, seed: int = 0, dev: float = 0.15, test: float = 0.25) -> Dataset:
    """One split of a folder; `all` is the whole folder.

    Args:
        seed: of the division by video; the same seed and videos give the same splits.
        dev, test: their shares of the videos; each has at least one video if there are three videos.

    Raises:
        DataError: a line is broken, a caption is empty or its video is missing, or the split is unknown.
    """
    root = Path(root)
    if split not in (*SPLITS, "all"):
        raise DataError(f"unknown split {split!r}; {nearest(split, (*SPLITS, 'all'))}")
    videos = find_videos(root)
    lines = _read_lines(root / CAPTIONS, videos)
    given = {line["video"]: line["split"] for line in lines.values() if "split" in line}
    described = {line["video"] for line in lines.values()}
    # Divided separately, so that each split gets its share of the videos with captions and of those without.
    parts = [v for v in videos if v in described], [v for v in videos if v not in described]
    drawn = [divide([v for v in part if v not in given], seed=seed, dev=dev, test=test) for part in parts]
    splits = {**drawn[0], **drawn[1], **given}
    chosen = {video for video, its in splits.items() if split in (its, "all")}
    lines = {where: line for where, line in lines.items() if line["video"] in chosen}
    captions = [
        Caption(line["id"], line["video"], line["text"], line["start"], line["end"], where=where) for where, line in lines.items()
    ]
    notes = {where: note for where, line in lines.items() if (note := _note(line))}
    return Dataset(root.name, split, tuple(captions), tuple(v for v in videos if v in chosen), notes=notes)


def divide(videos: Iterable[str], *, seed: int, dev: float, test: float) -> dict[str, str]:
    """The split of each video, drawn at random with a seed; the order of the videos does not matter.

    Adding a video changes the split of few others, because the draw of each video depends on its name alone.
    """
    order = sorted(videos, key=lambda video: hashlib.sha256(f"{seed} {video}".encode(errors="surrogateescape")).digest())
    least = 1 if len(order) >= 3 else 0
    tests, devs = (max(round(share * len(order)), least) if share else 0 for share in (test, dev))
    names = ["test"] * tests + ["dev"] * devs + ["train"] * len(order)
    return dict(zip(order, names, strict=False))


def _read_lines(path: Path, videos: Collection[str]) -> dict[str, dict[str, Any]]:
    """The lines by their place, each with an id and a span (which may be None), checked to be consistent."""
    lines: dict[str, dict[str, Any]] = {}
    ids, splits, count = set[str](), dict[str, str](), Counter[str]()
    # Not splitlines, which also splits at characters that a caption may contain.
    for number, row in enumerate(_text(path).split("\n"), start=1):
        if not row.strip():
            continue
        try:
            line = _check_line(json.loads(row), videos)
            video, split = line["video"], line.get("split")
            line.setdefault("id", f"{video}#{count[video]}")
            if line["id"] in ids:
                raise ValueError(f"the id {line['id']!r} is used by an earlier line; give this line another id")
            if split and splits.setdefault(video, split) != split:
                raise ValueError(f"{video!r} is in two splits, {splits[video]} and {split}; keep it in one")
        except (ValueError, OverflowError, RecursionError) as problem:
            raise DataError(f"{path}, line {number}: {problem}") from None
        lines[f"{path}, line {number}"] = line
        ids.add(line["id"])
        count[video] += 1
    return lines


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f'no captions at {path}; write one line per caption: {{"video": "a.mp4", "text": "..."}}') from None
    except UnicodeDecodeError as problem:
        number = problem.object[: problem.start].count(b"\n") + 1
        raise DataError(f"{path}, line {number}: this is not UTF-8 text; save the file as UTF-8") from None


def _check_line(line: Any, videos: Collection[str]) -> dict[str, Any]:
    if not isinstance(line, dict):
        raise ValueError(f'expected an object such as {{"video": "a.mp4", "text": "..."}}, got {line!r:.60}')
    for key in ("video", "text"):
        if not isinstance(line.get(key), str):
            raise ValueError(f"{key!r} is {line.get(key)!r}, expected text")
    if not line["text"].strip():
        raise ValueError(f"the caption of {line['video']!r} is empty; write it or delete the line")
    # A lone surrogate, which JSON can write and no tokenizer reads, raises a ValueError here.
    line["text"].encode()
    line["video"] = name_in(videos, line["video"]) or line["video"]
    if line["video"] not in videos:
        raise ValueError(f"there is no video {line['video']!r} in the folder; {nearest(line['video'], videos)}")
    if "id" in line and not (isinstance(line["id"], str) and line["id"]):
        raise ValueError(f"'id' is {line['id']!r}, expected text")
    if "split" in line and line["split"] not in SPLITS:
        raise ValueError(f"'split' is {line['split']!r}, expected {', '.join(SPLITS)}")
    _check_keys(line)
    line["start"], line["end"] = _span(line.get("start"), line.get("end"))
    return line


def _check_keys(line: Mapping[str, Any]) -> None:
    """Checks that no key is a misspelled one, or means a moment in another format: to pass over it would lose information."""
    for key in line:
        if key in MOMENTS:
            raise ValueError(f"unknown key {key!r}; write a moment as 'start' and 'end' in seconds")
        if key not in (*KEYS, *ALSO_READ) and difflib.get_close_matches(key.lower(), KEYS, n=1, cutoff=0.75):
            raise ValueError(f"unknown key {key!r}; {nearest(key.lower(), KEYS)}")


def _note(line: Mapping[str, Any]) -> str:
    others = [repr(key)[:40] for key in line if key not in (*KEYS, *ALSO_READ)]
    return f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} not read; the keys are {', '.join(KEYS)}" if others else ""


def _span(*span: Any) -> tuple[float, float] | tuple[None, None]:
    if span == (None, None):
        return None, None
    numbers = [value for value in span if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)]
    if len(numbers) != 2 or not 0 <= numbers[0] < numbers[1]:
        raise ValueError(f"start {span[0]!r} and end {span[1]!r} are not a span; write both in seconds, 0 <= start < end")
    return float(numbers[0]), float(numbers[1])
