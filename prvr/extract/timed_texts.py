"""Reads the timed texts of videos: only of those that are new or have changed, and of a film from where the last run was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from prvr.encoders.timed_texts import TextReader, TextSink, TextsPart
from prvr.errors import VideoError
from prvr.extract.extraction import Extraction, Progress
from prvr.extract.file_stamps import has_same_stamp, stamp_of


@dataclass(frozen=True)
class TextJob:
    """A video to extract texts of.

    paths: its files, all with one content. file: what is recorded of that (`file_stamps`). duration: in seconds.
    """

    id: str
    paths: tuple[Path, ...]
    file: Mapping[str, Any]
    duration: float

    @property
    def is_unchanged(self) -> bool:
        """Whether the first file is the recorded one."""
        return has_same_stamp(self.file, stamp_of(self.paths[0]))


def update_texts(
    jobs: Sequence[TextJob], reader: TextReader, sink: TextSink, *, on_progress: Progress | None = None
) -> Extraction:
    """Reads the texts of a kind where they are not known yet, or were made of something else.

    Each part is kept as soon as it is read; whatever ends the call, the next one goes on from there.

    Args:
        on_progress: is called with seconds of video.

    Raises:
        DataError: the texts cannot be written.
    """
    sources, problems = sink.sources(), {}
    kept, pending = [], []
    for job in jobs:
        try:
            made_of = json.dumps([job.file["sha256"], reader.made_of(job.paths)])
        except VideoError as problem:
            problems[job.id] = str(problem)
            continue
        known = sources.get(job.id, {}).get(reader.kind)
        begun = known is not None and known.made_of == made_of
        if known is not None and begun and known.is_complete:
            kept.append(job.id)
            problems |= {job.id: "; ".join(known.problems)} if known.problems else {}
        else:
            pending.append((job, made_of, known.seconds if known is not None and begun else 0.0))
    done, total, read = 0.0, sum(max(0.0, job.duration - after) for job, _, after in pending), []
    for job, made_of, after in pending:
        wrong: list[str] = []
        try:
            if not job.is_unchanged:
                raise VideoError("it changed since it was indexed; run again when it is complete")
            reached, parts = after, reader.read(job.paths, after=after)
            part = next(parts, TextsPart(after, ()))
            for following in chain(parts, [None]):
                if following is None and not job.is_unchanged:
                    raise VideoError("it changed while its texts were read; run again when it is complete")
                sink.extend(job.id, reader.kind, part, made_of=made_of, is_complete=following is None, after=reached)
                wrong += part.problems
                if on_progress is not None:
                    on_progress(f"{reader.kind}: {job.id}", done + min(part.seconds, job.duration) - after, total)
                reached, part = part.seconds, following or part
            read.append(job.id)
        except VideoError as problem:
            wrong.append(str(problem))
        done += max(0.0, job.duration - after)
        problems |= {job.id: "; ".join(wrong)} if wrong else {}
    return Extraction(tuple(read), tuple(kept), (), problems)
