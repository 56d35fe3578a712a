"""The update of one shard, and what the updates of all shards have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prvr.errors import DataError, PrvrError, VideoError
from prvr.extract.extraction import Progress
from prvr.extract.file_stamps import has_same_stamp, recorded_file, stamps_of
from prvr.index.disk import DiskIndex
from prvr.index.shards import shard_of
from prvr.methods.checkpoint import Checkpoint
from prvr.search.indexing_tools import IndexingTools, open_readers
from prvr.search.update import Indexer, Indexing, IndexRows
from prvr.video import VideoPath

# Of the videos that a shard lacks.
MOST_NAMED = 5
# Those that the other shards need not have: a disk, a lock, a file. What else is wrong is wrong for all of them.
ERRORS_OF_SHARDS = (DataError, VideoError, OSError)


@dataclass(frozen=True)
class ShardUpdate:
    """Brings one shard up to date: its number out of `count`, its folder, the folder of the videos, and `Indexer`'s settings."""

    number: int
    count: int
    path: Path
    videos: VideoPath
    settings: Mapping[str, Any]

    def run(self, checkpoint: Checkpoint, on_progress: Progress | None, *, tools: IndexingTools | None = None) -> Indexing:
        """Reads, encodes and writes the videos that belong to the shard."""
        shard = (self.number, self.count)
        with closing(Indexer(self.videos, self.path, checkpoint, shard=shard, tools=tools, **self.settings)) as indexer:
            return indexer.update(on_progress=on_progress)

    def check(self, checkpoint: Checkpoint, stored: Mapping[str, str | None]) -> IndexingTools:
        """Opens what the update needs; errors as `IndexingTools.open` and `open_readers`."""
        tools = IndexingTools.open(checkpoint, **{name: self.settings[name] for name in ("device", "workers", "ray")})
        open_readers(self.videos, self.settings["texts"] or {}, stored)
        return tools

    def finished(self, checkpoint: Checkpoint, files: Mapping[str, VideoPath]) -> set[str]:
        """Returns the videos of the shard that are there as their files are now; none if it cannot be read."""
        with suppress(PrvrError), closing(DiskIndex(self.path, checkpoint.model)) as index:
            recorded = {id: recorded_file(info) for id, info in IndexRows(index, {}).infos().items()}
            stamps, _ = stamps_of({id: file for id, file in files.items() if "sha256" in recorded.get(id, {})})
            return {id for id, stamp in stamps.items() if has_same_stamp(recorded[id], stamp)}
        return set()


def join_outcomes(
    updates: Sequence[ShardUpdate],
    outcomes: Sequence[Indexing | Exception],
    checkpoint: Checkpoint,
    *,
    files: Mapping[str, VideoPath],
    before: Sequence[set[str]],
) -> Indexing:
    """What the updates of all shards have done; the error of a shard is one of its problems, with the videos that it lacks.

    Args:
        files: every video, by id. before: the videos that each shard had.

    Raises:
        Exception: that of the first shard if all that have videos have failed, and one that is not a shard's own.
    """
    wrong = {update.number: outcome for update, outcome in zip(updates, outcomes, strict=True) if isinstance(outcome, Exception)}
    for error in wrong.values():
        if not isinstance(error, ERRORS_OF_SHARDS):
            raise error
    filled = {shard_of(id, len(updates)) for id in files}
    if filled <= wrong.keys():
        raise wrong[min(filled)]
    done = [
        _after_error(update, outcome, checkpoint, files, before[update.number]) if isinstance(outcome, Exception) else outcome
        for update, outcome in zip(updates, outcomes, strict=True)
    ]
    added, kept, dropped = (
        tuple(sorted(id for one in done for id in getattr(one, field))) for field in ("added", "kept", "dropped")
    )
    # What is wrong with the folder is found by each shard.
    problems = {id: problem for one in done for id, problem in one.problems.items()}
    return Indexing(added, kept, dropped, problems, tuple(shard for one in done for shard in one.failed))


def _after_error(
    update: ShardUpdate, error: Exception, checkpoint: Checkpoint, files: Mapping[str, VideoPath], before: set[str]
) -> Indexing:
    """What a shard has finished before its error."""
    mine = {id: file for id, file in files.items() if shard_of(id, update.count) == update.number}
    finished = update.finished(checkpoint, mine)
    lacks = [id for id in mine if id not in finished]
    named = ", ".join(lacks[:MOST_NAMED]) + (f" and {len(lacks) - MOST_NAMED} more" if len(lacks) > MOST_NAMED else "")
    left = f"{len(lacks)} of its {len(mine)} videos are not finished: {named}" if lacks else "its videos are finished"
    shard = f"shard {update.number + 1} of {update.count} ({update.path})"
    return Indexing(tuple(finished - before), tuple(finished & before), (), {shard: f"{error}; {left}; run again"}, (shard,))
