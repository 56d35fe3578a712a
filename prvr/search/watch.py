"""Updates an index whenever its folder changes.

The folder is looked at again and again: that works on every file system, network drives included, and a look at 10,000 files
takes 0.3 to 0.5 s of a busy processor. Events of the operating system would not arrive from everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from prvr.encoders.subtitles import SUFFIXES
from prvr.errors import DataError, SettingError
from prvr.extract.extraction import Progress
from prvr.extract.file_stamps import Stamp, stamps_of
from prvr.methods.checkpoint import Checkpoint
from prvr.search.update import Indexer, Indexing
from prvr.search.video_fields import FILE as FIELDS
from prvr.search.video_fields import read_video_fields
from prvr.video import VideoPath, find_videos, place_of

SECONDS = 2.0


def watch_folder(
    videos: str | VideoPath,
    path: str | Path,
    checkpoint: Checkpoint,
    *,
    dtype: Literal["float16", "float32"] | None = None,
    device: str = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    texts: Mapping[str, str | None] | None = None,
    every: float = SECONDS,
    on_progress: Progress | None = None,
) -> Iterator[Indexing]:
    """Yields the result of each update; never ends by itself.

    A file that changed since the last look is skipped until it no longer changes. While the file of the user's own fields
    changes, nothing is updated; the same while it is broken, which is yielded once, as a problem. A folder that is empty or
    does not exist changes nothing: its disk may not be mounted at the moment.

    Args:
        every: seconds between two looks.
        dtype, workers, ray, texts: as in `index_folder`.

    Raises:
        PrvrError: as `index_folder`.
    """
    place = place_of(videos)
    if not isinstance(place, Path):
        raise SettingError(f"--watch follows a folder of this machine, not {place}; run prvr index again when it has changed")
    indexer = Indexer(place, Path(path), checkpoint, dtype=dtype, device=device, workers=workers, ray=ray, texts=texts)
    try:
        before: dict[str, Stamp] = {}
        done: dict[str, Stamp] | None = None
        reported: str | None = None
        indexed: tuple[str, ...] = ()
        while True:
            now = _look(place)
            resting = {id: stamp for id, stamp in now.items() if before.get(id) == stamp}
            if resting and resting != done and (FIELDS in resting or FIELDS not in now):
                problem = _problem_of_fields(place)
                if problem is None:
                    reported, result = None, _update(indexer, place, now, resting, on_progress)
                    if result is not None:
                        yield result
                        done, indexed = resting, result.added + result.kept
                elif problem != reported and _fields_are_same(place, now):
                    yield Indexing((), indexed, (), {FIELDS: f"{problem}; until then the index stays as it is"})
                    reported = problem
            before = now
            time.sleep(every)
    finally:
        indexer.close()


def _problem_of_fields(videos: Path) -> str | None:
    """Returns why the file of the user's own fields cannot be read; None if it can."""
    try:
        read_video_fields(videos, ())
    except DataError as problem:
        return str(problem)
    return None


def _update(
    indexer: Indexer, videos: Path, now: Mapping[str, Stamp], resting: Mapping[str, Stamp], on_progress: Progress | None
) -> Indexing | None:
    """Updates the index; None if that failed because the folder or the file of fields changed at that moment."""
    try:
        return indexer.update(skip=now.keys() - resting.keys(), on_progress=on_progress)
    except DataError:
        if _fields_are_same(videos, now):
            raise
        return None


def _fields_are_same(videos: Path, before: Mapping[str, Stamp]) -> bool:
    """Returns whether the folder exists, and its file of fields is still that of the last look."""
    now = _look(videos)
    return bool(now) and now.get(FIELDS) == before.get(FIELDS)


def _look(videos: Path) -> dict[str, Stamp]:
    try:
        files = find_videos(videos)
    except DataError:
        return {}
    fields = videos / FIELDS
    texts = {str(path.relative_to(videos)): path for path in videos.rglob("*") if path.suffix.lower() in SUFFIXES}
    stamps, _ = stamps_of({**files, **texts, **({FIELDS: fields} if fields.exists() else {})})
    return stamps
