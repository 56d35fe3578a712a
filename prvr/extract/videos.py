"""Videos to a packed folder of frame features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prvr.encoders import ImageEncoder
from prvr.errors import VideoError
from prvr.extract.jobs import Encoded, Engine, Job, Outcome, Sampling
from prvr.extract.ledger import Extraction, Progress, drop, encoder_about, full_disk_told, is_known
from prvr.extract.stream import ThisProcess
from prvr.features.packed import PackedWriter, tidy
from prvr.video import checked_rate


def extract_videos(
    videos: Mapping[str, Path],
    out: Path,
    *,
    encoder: ImageEncoder,
    rate: float = 1.0,
    batch_size: int = 32,
    engine: Engine | None = None,
    on_progress: Progress | None = None,
) -> Extraction:
    """A packed folder with a row per sampled frame of each video, and nothing of others: what is gone is taken out.

    Of each video it keeps `times` (seconds, one per row), `duration` (of what could be read), `size`, `mtime_ns` and
    `problem`, the reason why only a part could be read. A video that gives no frame stops nothing; it is tried again
    the next time. Rows are the same to the bit whichever engine makes them and whatever else is in the folder.

    Args:
        rate: frames per second.
        engine: who decodes and encodes; this process by default.

    Raises:
        DataError: `out` holds features of another encoder or rate, or the disk is full; what was finished stays.
        SettingError: `rate` is not a number above 0.
    """
    about = {"kind": "frames", "encoder": encoder_about(encoder), "rate": checked_rate(rate)}
    engine = engine or ThisProcess(encoder)
    with PackedWriter(out, columns=encoder.image_columns, about=about, source=encoder.source) as writer:
        dropped = drop(writer, [id for id in writer.features if id not in videos])
        stamps, problems = _stamps(videos)
        drop(writer, problems)
        kept = [id for id, stamp in stamps.items() if is_known(writer, id, stamp)]
        jobs = [Job(id, videos[id]) for id in stamps if not is_known(writer, id, stamps[id])]
        problems |= {id: problem for id in kept if (problem := writer.features.info(id).get("problem"))}
        done = []
        if on_progress is not None and jobs:
            on_progress(jobs[0].id, len(videos) - len(jobs), len(videos))
        outcomes = engine.encode(jobs, sampling=Sampling(rate, batch_size))
        for number, outcome in enumerate(outcomes, start=len(videos) - len(jobs) + 1):
            problem = _note(outcome, writer, stamps[outcome.id])
            if problem is not None:
                problems[outcome.id] = problem
            if outcome.id in writer.features:
                done.append(outcome.id)
            if on_progress is not None:
                on_progress(outcome.id, number, len(videos))
    tidy(out)
    order = {id: place for place, id in enumerate(videos)}
    told = {id: problems[id] for id in videos if id in problems}
    return Extraction(tuple(sorted(done, key=order.__getitem__)), tuple(kept), tuple(dropped), told)


def _stamps(videos: Mapping[str, Path]) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """What tells a file from an earlier one of its name; and what is wrong where there is no file."""
    stamps: dict[str, dict[str, int]] = {}
    problems: dict[str, str] = {}
    for id, path in videos.items():
        try:
            file = path.stat()
            stamps[id] = {"size": file.st_size, "mtime_ns": file.st_mtime_ns}
        except OSError as problem:
            problems[id] = str(VideoError(f"cannot open {path}: {problem.strerror}; check the path and its permissions"))
    return stamps, problems


def _note(outcome: Outcome, writer: PackedWriter, stamp: dict[str, int]) -> str | None:
    """Writes what came of a video; what is wrong with it, if anything."""
    if not isinstance(outcome, Encoded):
        # Rows of what the file was before are of no use.
        drop(writer, [outcome.id])
        return outcome.problem
    with full_disk_told(writer):
        writer.append(outcome.id, outcome.rows, {**stamp, **outcome.info})
    problem: str | None = outcome.info["problem"]
    return problem
