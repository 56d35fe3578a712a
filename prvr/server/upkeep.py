"""Bringing the index up to date with its folder while it is served: `prvr index`, in a process of its own.

A file of a stranger is decoded there, so that one that crashes a codec does not take the service with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from pathlib import Path

from prvr.errors import DataError, PrvrError
from prvr.search import MODEL
from prvr.server.answers import UpkeepReport
from prvr.server.asking import Desk
from prvr.video import find_videos

MOST_PROBLEMS = 100


class Upkeep:
    """Runs `prvr index` on demand, one run at a time; what is asked for during a run is done by one more run."""

    def __init__(self, index: Path, desk: Desk, *, device: str) -> None:
        self.index, self.device = index, device
        self._desk = desk
        self._gone: set[str] = set()
        self.now = UpkeepReport(state="idle", waiting=False, added=0, kept=0, dropped=0, problems=[], error=None)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> UpkeepReport:
        """Asks for a run."""
        if self._task is not None and not self._task.done():
            self.now = self.now.model_copy(update={"waiting": True})
        else:
            self.now = self.now.model_copy(update={"state": "running", "waiting": False})
            self._task = asyncio.create_task(self._run())
        return self.now

    def forget(self, id: str) -> None:
        """Has the next run take a video out that was deleted here: `prvr index` would empty no index of its last one."""
        self._gone.add(id)

    async def close(self) -> None:
        """Ends the run under way; what it has finished is kept."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            self.now = self.now.model_copy(update={"state": "running", "waiting": False})
            done = await self._update()
            again = self.now.waiting
            self.now = done
            if not again:
                return

    async def _update(self) -> UpkeepReport:
        gone = sorted(self._gone)
        try:
            dropped, left = await self._desk.drop(gone)
        except PrvrError as problem:
            return self._failed(str(problem))
        self._gone.difference_update(gone)
        if not left and await asyncio.to_thread(_empty, self._desk.folder):
            return UpkeepReport(state="idle", waiting=False, added=0, kept=0, dropped=dropped, problems=[], error=None)
        done = await self._index()
        return done if done.error else done.model_copy(update={"dropped": done.dropped + dropped})

    async def _index(self) -> UpkeepReport:
        command = [sys.executable, "-m", "prvr", "index", self._desk.folder, self.index, "--model", self.index / MODEL]
        command += ["--device", self.device, "--json"]
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        lines = [line.removeprefix("prvr: ") for line in err.decode(errors="replace").splitlines() if line.startswith("prvr: ")]
        problems = [without_folder(line, self._desk.folder) for line in lines]
        if process.returncode:
            error = problems[-1] if problems else f"prvr index ended with status {process.returncode}; run it by hand to see why"
            return self._failed(error)
        numbers = {name: json.loads(out)[name] for name in ("added", "kept", "dropped")}
        return UpkeepReport(state="idle", waiting=False, problems=problems[:MOST_PROBLEMS], error=None, **numbers)

    def _failed(self, error: str) -> UpkeepReport:
        return self.now.model_copy(update={"state": "failed", "waiting": False, "error": error})


def without_folder(line: str, folder: Path) -> str:
    """A line that tells strangers which video is meant, and not where on this machine the folder of the videos lies."""
    line = line.replace(f"{folder}/", "")
    return re.sub(rf"{re.escape(str(folder))}(?![\w.-])", "the folder of the videos", line)


def _empty(folder: Path) -> bool:
    try:
        return not find_videos(folder)
    except DataError:
        # One that is gone is not empty: `prvr index` says so.
        return folder.is_dir()
