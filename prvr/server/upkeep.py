"""Updates of the index from its folder while it is served, in another process (`prvr.server.update_process`).

Uploaded files are decoded in a process of that one, so that one that crashes a codec costs itself alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from prvr.child import environment_with_modules
from prvr.errors import DataError, PrvrError
from prvr.methods import BUILT_IN
from prvr.methods.checkpoint import student_method
from prvr.server import update_process
from prvr.server.answers import UpkeepProgress, UpkeepReport
from prvr.server.index_service import IndexService
from prvr.server.names import shown_name, title_of
from prvr.video import find_videos

# Of a line of the process: that of the result has all problems.
LINE_BYTES = 1 << 22


class Upkeep:
    """Runs an update on demand, as `prvr index` does, one at a time. Requests during an update are served by one more update."""

    def __init__(self, path: Path, index: IndexService, *, device: str) -> None:
        self.path, self.device = path, device
        self._index = index
        self._deleted: set[str] = set()
        self.now = UpkeepReport(state="idle", waiting=False, added=0, kept=0, dropped=0, problems=[], error=None)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> UpkeepReport:
        """Starts an update, or one more after the current one."""
        if self._task is not None and not self._task.done():
            self.now = self.now.model_copy(update={"waiting": True})
        else:
            self.now = self.now.model_copy(update={"state": "running", "waiting": False})
            self._task = asyncio.create_task(self._run())
        return self.now

    def forget(self, id: str) -> None:
        """Removes a deleted video at the next update: `prvr index` does not remove the last video of an index."""
        self._deleted.add(id)

    async def close(self) -> None:
        """Ends the current update; completed work is kept."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            self.now = self.now.model_copy(update={"state": "running", "waiting": False})
            done = await self._update()
            # Who sees that it is done finds what is new.
            self._index.expire_names()
            again = self.now.waiting
            self.now = done
            if not again:
                return

    async def _update(self) -> UpkeepReport:
        # One that was uploaded again is no longer deleted.
        self._deleted = {id for id in self._deleted if not os.path.lexists(self._index.folder / id)}
        deleted = frozenset(self._deleted)
        try:
            dropped, left = await self._index.drop(deleted)
        except PrvrError as problem:
            return self._failure(self._index.without_paths(str(problem)))
        if not left and await asyncio.to_thread(_empty, self._index.folder):
            self._deleted -= deleted
            return UpkeepReport(state="idle", waiting=False, added=0, kept=0, dropped=dropped, problems=[], error=None)
        done = await self._run_command()
        if done.error:
            # They are removed by the next update: this one may have failed because they were the last.
            return done
        self._deleted -= deleted
        return done.model_copy(update={"dropped": done.dropped + dropped})

    async def _run_command(self) -> UpkeepReport:
        # An external method is imported there because it is here.
        method = student_method(self._index.checkpoint)
        command = [sys.executable, "-m", update_process.__name__, self._index.folder, self.path, self.device]
        command += [] if method in BUILT_IN else [method]
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_DISABLE_TELEMETRY": "1", **environment_with_modules()}
        # A decoder needs no token.
        environment.pop("PRVR_TOKEN", None)
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdout=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
            limit=LINE_BYTES,
        )
        assert process.stdout is not None
        report: dict[str, Any] = {}
        try:
            async for line in process.stdout:
                # The last line of a process that is killed may be half.
                with contextlib.suppress(ValueError):
                    report = json.loads(line)
                if "seconds" in report and "video" in report:
                    self.now = self.now.model_copy(update={"progress": self._progress(report)})
            await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if "error" in report:
            return self._failure(self._index.without_paths(report["error"]))
        if "added" not in report:
            return self._failure(
                f"the update ended with status {process.returncode}; run prvr index on the command line to see why"
            )
        problems = [self._index.without_paths(line) for line in report.pop("problems")]
        return UpkeepReport(state="idle", waiting=False, problems=problems, error=None, **report)

    def _progress(self, report: dict[str, Any]) -> UpkeepProgress:
        video = shown_name(report.pop("video"))
        return UpkeepProgress(video=video, title=title_of(video), **report)

    def _failure(self, error: str) -> UpkeepReport:
        return self.now.model_copy(update={"state": "failed", "waiting": False, "error": error, "progress": None})


def _empty(folder: Path) -> bool:
    try:
        return not find_videos(folder)
    except DataError:
        # A folder that does not exist is not empty: `prvr index` reports it.
        return folder.is_dir()
