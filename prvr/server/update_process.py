"""The process that updates a served index from its folder of videos; `prvr.server.upkeep` starts it.

Each line on stdout is a JSON object: the progress (`files`, `files_total`, `seconds`, `seconds_total`, `video`), and last either
the result (`added`, `kept`, `dropped`, `problems`) or `error`, a line that says why there is none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO, final

from prvr.errors import PrvrError
from prvr.search import index_folder
from prvr.search.opening import store_of
from prvr.video import find_videos

MOST_PROBLEMS = 100
STDOUT, STDERR = 1, 2


def main() -> None:
    """Updates an index; arguments: the folders of the videos and of the index, the device, and the method if it is external."""
    videos, index, device = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    method = sys.argv[4] if len(sys.argv) > 4 else None
    reports = os.fdopen(os.dup(STDOUT), "w")
    # What a library prints must not be taken for a report.
    os.dup2(STDERR, STDOUT)
    try:
        checkpoint, store = store_of(index, method=method)
        with closing(store):
            paths = {path for id, about in store.about().items() for path in (id, *about.get("copies", ()))}
        progress = _Progress(reports, find_videos(videos), paths)
        # One process that decodes: a file that ends it costs itself alone.
        done = index_folder(videos, index, checkpoint, device=device, workers=1, on_progress=progress.report)
    except PrvrError as problem:
        _write(reports, {"error": str(problem)})
    except OSError as problem:
        _write(reports, {"error": f"{problem.strerror or problem}; completed work is kept"})
    else:
        problems = [f"{id}: {problem}" for id, problem in done.problems.items()]
        numbers = {name: len(getattr(done, name)) for name in ("added", "kept", "dropped")}
        _write(reports, {**numbers, "problems": problems[:MOST_PROBLEMS]})


@final
class _Progress:
    """Counts the files of a folder that can be searched.

    Args:
        files: those in the folder. indexed: the paths that the index holds at the start.
    """

    def __init__(self, reports: TextIO, files: Collection[str], indexed: Collection[str]) -> None:
        self._reports, self._files, self._seen = reports, files, set(indexed) & set(files)

    def report(self, note: str, done: float, total: float) -> None:
        """Writes a line of progress. Only seconds of video are progress; comparing files is not."""
        if note in self._files and isinstance(total, float):
            self._seen.add(note)
            counts: dict[str, Any] = {"files": len(self._seen), "files_total": len(self._files)}
            _write(self._reports, {**counts, "seconds": done, "seconds_total": total, "video": note})


def _write(reports: TextIO, report: dict[str, Any]) -> None:
    reports.write(json.dumps(report) + "\n")
    reports.flush()


if __name__ == "__main__":
    main()
