"""A demo that another version made in the same folder: what it made from its world and its teacher is removed, to be made anew.

OUT/prvr-demo.json   what the demo in this folder is made of
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prvr.demo.teacher import ORIGIN
from prvr.demo.world import is_video_of_demo
from prvr.features.packed import HEADER, ITEMS, ROWS
from prvr.files import write_whole
from prvr.methods.checkpoint import CONFIG, WEIGHTS
from prvr.search.opening import FEATURES, MODEL
from prvr.train.run_state import CURVES, HISTORY, STATE

PLAN = "prvr-demo.json"
# The files that say what made the others are the last ones: a removal that was interrupted continues.
OF_FEATURES = (ROWS, ITEMS, HEADER)
OF_RUN = (STATE, HISTORY, CURVES, WEIGHTS, CONFIG)
OF_INDEX = ("index.*", FEATURES, MODEL)


def remove_former(out: Path, plan: dict[str, Any], *, runs: Iterable[Path]) -> None:
    """Removes features, runs and index of the demo in `out` if it has another plan, and writes the plan.

    A folder without the demo's teacher holds no demo, and nothing is removed that another encoder made: files of the user stay.

    Args:
        plan: what the demo is to be made of, as values for JSON.
        runs: the folders of the demo's runs.
    """
    record, wanted = out / PLAN, json.dumps(plan, indent=1)
    if record.is_file() and record.read_text() == wanted:
        return
    if (out / "teacher" / ORIGIN).is_file():
        for kind in ("frames", "sentences", "words"):
            folder = out / "features" / "teacher" / kind
            if _read(folder / HEADER, "about", "encoder", "name") == "teacher":
                _remove(folder, OF_FEATURES)
        for run in runs:
            if _read(run / CONFIG, "reads", "frames", "name") == "teacher":
                _remove(run, OF_RUN)
        if _read(out / "gallery" / MODEL / CONFIG, "reads", "frames", "name") == "teacher":
            _remove(out / "gallery", OF_INDEX)
        for video in (out / "unseen").glob("video_*.mp4"):
            if is_video_of_demo(video):
                video.unlink()
    out.mkdir(parents=True, exist_ok=True)
    write_whole(record, wanted.encode())


def _read(path: Path, *keys: str) -> object:
    """A value in a JSON file; None if the file or the value does not exist."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        value = json.loads(path.read_text())
        for key in keys:
            value = value[key]
        return value
    return None


def _remove(folder: Path, names: Iterable[str]) -> None:
    for path in (path for name in names for path in folder.glob(name)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
