"""A dataset of one's own: a folder of videos and `captions.jsonl`.

A line of captions.jsonl is a JSON object: `video` (path below the folder), `text`, and optionally `start` and `end` in
seconds, `id`, and `split` (train, dev or test). Videos without a given split are divided by video, seeded.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from prvr.datasets import Caption, Dataset
from prvr.errors import DataError, nearest
from prvr.video import find_videos

CAPTIONS = "captions.jsonl"
SPLITS = ("train", "dev", "test")


def load(root: Path, split: str, *, seed: int = 0, dev: float = 0.15, test: float = 0.25) -> Dataset:
    """One split of a folder; `all` is the whole of it.

    Args:
        seed: of the division by video; the same seed and videos give the same splits.
        dev, test: their shares of the videos; each gets at least one video if there are three.

    Raises:
        DataError: a broken line, an empty caption, a caption of a video that is not there, an unknown split.
    """
    if split not in (*SPLITS, "all"):
        raise DataError(f"unknown split {split!r}; {nearest(split, (*SPLITS, 'all'))}")
    videos = find_videos(root)
    lines = _read_lines(root / CAPTIONS, videos)
    given: dict[str, str] = {}
    for line in lines:
        if "split" in line and given.setdefault(line["video"], line["split"]) != line["split"]:
            raise DataError(f"{root / CAPTIONS}: {line['video']!r} is in two splits, {given[line['video']]} and {line['split']}")
    splits = {**divide([v for v in videos if v not in given], seed=seed, dev=dev, test=test), **given}
    chosen = {video for video, its in splits.items() if split in (its, "all")}
    captions = tuple(caption for caption in _captions(lines) if caption.video in chosen)
    return Dataset(root.name, split, captions, tuple(v for v in videos if v in chosen))


def divide(videos: Iterable[str], *, seed: int, dev: float, test: float) -> dict[str, str]:
    """Video to split, drawn at random with a seed, whatever the order they come in."""
    order = sorted(videos)
    random.Random(seed).shuffle(order)
    least = 1 if len(order) >= 3 else 0
    tests = max(round(test * len(order)), least)
    devs = max(round(dev * len(order)), least)
    names = ["test"] * tests + ["dev"] * devs + ["train"] * len(order)
    return dict(zip(order, names, strict=False))


def _captions(lines: list[dict[str, Any]]) -> list[Caption]:
    count: dict[str, int] = {}
    captions = []
    for line in lines:
        number = count[line["video"]] = count.get(line["video"], -1) + 1
        id = line.get("id", f"{line['video']}#{number}")
        captions.append(Caption(id, line["video"], line["text"], line.get("start"), line.get("end")))
    return captions


def _read_lines(path: Path, videos: Collection[str]) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f'no captions at {path}; write one line per caption: {{"video": "a.mp4", "text": "..."}}') from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 text (byte {problem.start}); save it as UTF-8") from None
    lines, ids = [], set()
    for number, row in enumerate(text.splitlines(), start=1):
        if not row.strip():
            continue
        try:
            line = _checked(json.loads(row), videos)
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{path}, line {number}: {problem}") from None
        if line.get("id") in ids:
            raise DataError(f"{path}, line {number}: the id {line['id']!r} is taken by an earlier line")
        ids.add(line.get("id"))
        ids.discard(None)
        lines.append(line)
    return lines


def _checked(line: Any, videos: Collection[str]) -> dict[str, Any]:
    if not isinstance(line, dict):
        raise ValueError(f'a caption is an object such as {{"video": "a.mp4", "text": "..."}}, not {line!r:.60}')
    for key in ("video", "text"):
        if not isinstance(line.get(key), str):
            raise ValueError(f"{key!r} is {line.get(key)!r}; it takes text")
    if not line["text"].strip():
        raise ValueError(f"the caption of {line['video']!r} is empty; write it or delete the line")
    if line["video"] not in videos:
        raise ValueError(f"there is no video {line['video']!r} in the folder; {nearest(line['video'], videos)}")
    if "id" in line and not (isinstance(line["id"], str) and line["id"]):
        raise ValueError(f"'id' is {line['id']!r}; it takes text")
    if "split" in line and line["split"] not in SPLITS:
        raise ValueError(f"'split' is {line['split']!r}; it takes {', '.join(SPLITS)}")
    _check_span(line)
    return line


def _check_span(line: dict[str, Any]) -> None:
    span = line.get("start"), line.get("end")
    if span == (None, None):
        return
    numbers = [value for value in span if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)]
    if len(numbers) != 2 or not 0 <= numbers[0] < numbers[1]:
        raise ValueError(f"start {span[0]!r} and end {span[1]!r} are no span; give both in seconds, 0 <= start < end")
