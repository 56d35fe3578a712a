"""The cache of an index: frames as the encoder returned them, in INDEX/features, for models that embed them otherwise.

The teacher alone compares a sentence with the frames as they are: its index holds them already, and no second copy is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import final

from prvr.encoders import ImageEncoder
from prvr.errors import RowsError, VideoError
from prvr.extract.engine import Encoded, Engine, FrameSampling, Job, Outcome, Refused
from prvr.extract.extraction import delete_items, explain_full_disk, open_frames
from prvr.extract.file_stamps import has_same_content, has_same_stamp, stamp_of
from prvr.features.compaction import remove, tidy
from prvr.features.packed import PackedWriter, is_packed
from prvr.methods.contract import Model
from prvr.methods.zero_shot import ZeroShot


def embeds_frames_as_they_are(model: Model) -> bool:
    """Returns whether the features of frames are among a model's embeddings of a video."""
    return isinstance(model, ZeroShot) and model.config.parts in ("frames", "clips_and_frames")


@contextmanager
def with_cache(
    path: Path, engine: Engine, *, model: Model, encoder: ImageEncoder, rate: float, videos: Collection[str]
) -> Iterator[Engine]:
    """Yields the engine, with a cache in `path` where the model needs one.

    An older prvr kept a cache for every model. Here such a cache is read once more, for videos that are not in the index yet,
    and then removed.

    Args:
        videos: the videos of the folder; all others are removed from the cache.

    Raises:
        DataError: the cache has features of another encoder or rate, or cannot be written to.
    """
    is_needed = not embeds_frames_as_they_are(model)
    if not is_needed and not is_packed(path):
        yield engine
        return
    with open_frames(path, encoder, rate) as features:
        delete_items(features, [id for id in features.features if id not in videos])
        yield CachedEngine(engine, features)
    if is_needed:
        tidy(path)
    else:
        remove(path)


@final
class CachedEngine:
    """An engine that returns stored features where they are of the same file, and stores what it has to encode."""

    def __init__(self, engine: Engine, features: PackedWriter) -> None:
        self._engine, self._features = engine, features

    def encode(self, jobs: Sequence[Job], *, sampling: FrameSampling) -> Iterator[Outcome]:
        """Yields the outcome of each job, stored videos first."""
        missing = []
        for job in jobs:
            stored = self._find(job)
            if stored is None:
                missing.append(job)
            else:
                yield stored
        for outcome in self._engine.encode(missing, sampling=sampling):
            yield self._store(outcome)

    def _find(self, job: Job) -> Encoded | None:
        features = self._features.features
        if job.id not in features:
            return None
        info = features.info(job.id)
        try:
            stamp = stamp_of(job.path)
        except VideoError:
            return None
        if "file" not in info or features.times(job.id) is None:
            return None
        if not has_same_stamp(info["file"], stamp) and not has_same_content(info["file"], stamp, job.path):
            return None
        return Encoded(job.id, features[job.id], {**info, "file": {**info["file"], **stamp}})

    def _store(self, outcome: Outcome) -> Outcome:
        try:
            with explain_full_disk(self._features):
                if isinstance(outcome, Encoded):
                    self._features.append(outcome.id, outcome.rows, outcome.info)
                elif isinstance(outcome, Refused):
                    self._features.delete(outcome.id)
        except RowsError as refused:
            return Refused(outcome.id, str(refused))
        return outcome
