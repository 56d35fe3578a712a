"""An index that is brought in step with its folder whenever something in that has changed.

By looking, not by being told: that is the same on every file system, network drives included, and a look at 10,000 files
takes 0.2 s of processor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from prvr.checkpoint import Checkpoint
from prvr.errors import DataError
from prvr.extract.ledger import Progress
from prvr.folder_index.own import FILE as OWN
from prvr.folder_index.stamps import Stamp, stamps_of
from prvr.folder_index.update import Indexer, Indexing
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

    A file that changed since the last look is left alone until it rests. A folder that is empty or gone changes nothing:
    its disk may not be there at the moment.

    Args:
        every: seconds between two looks.

    Raises:
        PrvrError: as `index_folder`.
    """
    indexer = Indexer(Path(videos), Path(path), checkpoint, dtype=dtype, device=device)
    try:
        before: dict[str, Stamp] = {}
        done: dict[str, Stamp] | None = None
        while True:
            now = _look(indexer.videos)
            resting = {id: stamp for id, stamp in now.items() if before.get(id) == stamp}
            if now and resting and resting != done:
                yield indexer.update(leave=now.keys() - resting.keys(), on_progress=on_progress)
                done = resting
            before = now
            time.sleep(every)
    finally:
        indexer.close()


def _look(videos: Path) -> dict[str, Stamp]:
    try:
        files = find_videos(videos)
    except DataError:
        return {}
    own = videos / OWN
    stamps, _ = stamps_of({**files, **({OWN: own} if own.exists() else {})})
    return stamps
