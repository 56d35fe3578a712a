"""An index that is brought in step with its folder whenever something in that has changed.

By looking, not by being told: that is the same on every file system, network drives included, and a look at 10,000 files
takes 0.2 s of processor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from prvr.errors import DataError
from prvr.extract.ledger import Progress
from prvr.methods.checkpoint import Checkpoint
from prvr.search.own import FILE as OWN
from prvr.search.own import own_fields
from prvr.search.stamps import Stamp, stamps_of
from prvr.search.update import Indexer, Indexing
from prvr.video import find_videos

SECONDS = 2.0


def watch_folder(
    videos: str | Path,
    path: str | Path,
    checkpoint: Checkpoint,
    *,
    dtype: Literal["float16", "float32"] | None = None,
    device: str = "cpu",
    every: float = SECONDS,
    on_progress: Progress | None = None,
) -> Iterator[Indexing]:
    """Gives what was done each time that something was; never ends by itself.

    A file that changed since the last look is left alone until it rests; where that is the file of one's own fields, all
    waits for it, and where it is broken, too: that is given once, as a problem. A folder that is empty or gone changes
    nothing: its disk may not be there at the moment.

    Args:
        every: seconds between two looks.

    Raises:
        PrvrError: as `index_folder`.
    """
    indexer = Indexer(Path(videos), Path(path), checkpoint, dtype=dtype, device=device)
    try:
        before: dict[str, Stamp] = {}
        done: dict[str, Stamp] | None = None
        told: str | None = None
        there: tuple[str, ...] = ()
        while True:
            now = _look(indexer.videos)
            resting = {id: stamp for id, stamp in now.items() if before.get(id) == stamp}
            if resting and resting != done and (OWN in resting or OWN not in now):
                problem = _broken(indexer.videos)
                if problem is None:
                    told, run = None, _updated(indexer, now, resting, on_progress)
                    if run is not None:
                        yield run
                        done, there = resting, run.added + run.kept
                elif problem != told and _own_rests(indexer.videos, now):
                    yield Indexing((), there, (), {OWN: f"{problem}; until then the index stays as it is"})
                    told = problem
            before = now
            time.sleep(every)
    finally:
        indexer.close()


def _broken(videos: Path) -> str | None:
    """What is wrong with the file of one's own fields."""
    try:
        own_fields(videos, ())
    except DataError as problem:
        return str(problem)
    return None


def _updated(
    indexer: Indexer, now: Mapping[str, Stamp], resting: Mapping[str, Stamp], on_progress: Progress | None
) -> Indexing | None:
    """What was done; None where that failed because the folder, or the file of one's own fields, changed at that moment."""
    try:
        return indexer.update(leave=now.keys() - resting.keys(), on_progress=on_progress)
    except DataError:
        if _own_rests(indexer.videos, now):
            raise
        return None


def _own_rests(videos: Path, before: Mapping[str, Stamp]) -> bool:
    """Whether the folder is there, and the file of one's own fields in it is still the one of the last look."""
    now = _look(videos)
    return bool(now) and now.get(OWN) == before.get(OWN)


def _look(videos: Path) -> dict[str, Stamp]:
    try:
        files = find_videos(videos)
    except DataError:
        return {}
    own = videos / OWN
    stamps, _ = stamps_of({**files, **({OWN: own} if own.exists() else {})})
    return stamps
