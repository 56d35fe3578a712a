"""Videos and texts through an encoder, to features on disk; a second run does only what is new or has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prvr.encoders import Encoder, ImageEncoder, SentenceEncoder, WordEncoder
from prvr.errors import DataError, VideoError
from prvr.features.packed import PackedWriter, tidy
from prvr.video import VideoReader, checked_rate

# The id just seen to, how many are, and of how many.
Progress = Callable[[str, int, int], None]

# Frames wait for their batch in memory; 32 of 4K would take 800 MB.
BATCH_BYTES = 1 << 28


@dataclass(frozen=True)
class Extraction:
    """What a run did, by id: encoded, left as it was, taken out; and what is wrong with some of them.

    A video in `problems` that is also in `done` or `kept` has features of the part that could be read.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)


def feature_folder(root: Path, encoder_name: str, kind: Literal["frames", "sentences", "words"]) -> Path:
    """Where an encoder's features of one kind lie below `root`."""
    return root / encoder_name / kind


def extract_videos(
    videos: Mapping[str, Path],
    out: Path,
    *,
    encoder: ImageEncoder,
    rate: float = 1.0,
    batch_size: int = 32,
    on_progress: Progress | None = None,
) -> Extraction:
    """A packed folder with a row per sampled frame of each video, and nothing of others: what is gone is taken out.

    Of each video it keeps `times` (seconds, one per row), `duration` (of what could be read), `size`, `mtime_ns` and
    `problem`, the reason why only a part could be read. A video that gives no frame stops nothing; it is tried again
    the next time.

    Args:
        rate: frames per second.

    Raises:
        DataError: `out` holds features of another encoder or rate, or the disk is full; what was finished stays.
        SettingError: `rate` is not a number above 0.
    """
    about = {"kind": "frames", "encoder": _encoder(encoder), "rate": checked_rate(rate)}
    done: list[str] = []
    kept: list[str] = []
    problems: dict[str, str] = {}
    with PackedWriter(out, columns=encoder.image_columns, about=about, source=encoder.source) as writer:
        dropped = _drop(writer, [id for id in writer.features if id not in videos])
        for number, (id, path) in enumerate(videos.items(), start=1):
            try:
                stamp = _stamp(path)
                if _is_known(writer, id, stamp):
                    kept.append(id)
                else:
                    _drop(writer, [id])
                    rows, info = _encoded(path, encoder, rate=rate, batch_size=batch_size)
                    with _full_disk_told(writer):
                        writer.append(id, rows, {**stamp, **info})
                    done.append(id)
                if problem := writer.features.info(id).get("problem"):
                    problems[id] = problem
            except VideoError as refused:
                problems[id] = str(refused)
            if on_progress is not None:
                on_progress(id, number, len(videos))
    tidy(out)
    return Extraction(tuple(done), tuple(kept), tuple(dropped), problems)


def extract_sentences(
    texts: Mapping[str, str],
    out: Path,
    *,
    encoder: SentenceEncoder,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> Extraction:
    """A packed folder with one row (1, E) per text. Texts that are there from an earlier run stay.

    Raises:
        DataError: a text is empty, or as for `extract_videos`.
    """

    def encode(batch: Sequence[str]) -> list[np.ndarray]:
        return [row[np.newaxis] for row in encoder.encode_sentences(batch)]

    about = {"kind": "sentences", "encoder": _encoder(encoder)}
    _refuse_empty(texts)
    with PackedWriter(out, columns=encoder.sentence_columns, about=about, source=encoder.source) as writer:
        return _extract_texts(texts, writer, encode, batch_size=batch_size, on_progress=on_progress)


def extract_words(
    texts: Mapping[str, str],
    out: Path,
    *,
    encoder: WordEncoder,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> Extraction:
    """A packed folder with the rows (W, E) of each text's tokens; otherwise as `extract_sentences`."""
    about = {"kind": "words", "encoder": _encoder(encoder)}
    _refuse_empty(texts)
    with PackedWriter(out, columns=encoder.word_columns, about=about, source=encoder.source) as writer:
        return _extract_texts(texts, writer, encoder.encode_words, batch_size=batch_size, on_progress=on_progress)


def _encoder(encoder: Encoder) -> dict[str, str]:
    # Not its source: the same encoder may be opened from another place.
    return {"name": encoder.name, "fingerprint": encoder.fingerprint}


def _stamp(path: Path) -> dict[str, int]:
    try:
        file = path.stat()
    except OSError as problem:
        raise VideoError(f"cannot open {path}: {problem.strerror}; check the path and its permissions") from problem
    return {"size": file.st_size, "mtime_ns": file.st_mtime_ns}


def _is_known(writer: PackedWriter, id: str, known: Mapping[str, Any]) -> bool:
    return id in writer.features and known.items() <= writer.features.info(id).items()


def _drop(writer: PackedWriter, ids: Iterable[str]) -> list[str]:
    there = [id for id in ids if id in writer.features]
    with _full_disk_told(writer):
        for id in there:
            writer.delete(id)
    return there


def _encoded(path: Path, encoder: ImageEncoder, *, rate: float, batch_size: int) -> tuple[np.ndarray, dict[str, Any]]:
    times: list[float] = []
    rows: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    with VideoReader(path, rate=rate) as reader:
        for time, frame in reader:
            times.append(round(time, 3))
            waiting.append(frame)
            if len(waiting) == batch_size or len(waiting) * frame.nbytes >= BATCH_BYTES:
                rows.append(encoder.encode_images(waiting))
                waiting = []
        if waiting:
            rows.append(encoder.encode_images(waiting))
    features = np.concatenate(rows)
    if not np.isfinite(features).all():
        raise VideoError(f"{encoder.name} gives NaN or infinite values for {path}; nothing was stored for it")
    return features, {"duration": reader.end, "times": times, "problem": reader.problem}


@contextmanager
def _full_disk_told(writer: PackedWriter) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DataError(
            f"cannot write to {writer.path}: {problem.strerror}; what was finished is kept: make room and run again"
        ) from problem


def _refuse_empty(texts: Mapping[str, str]) -> None:
    empty = [id for id, text in texts.items() if not text.strip()]
    if empty:
        raise DataError(f"the text of {empty[0]!r} is empty ({len(empty)} of {len(texts)} are); write it or take it out")


def _extract_texts(
    texts: Mapping[str, str],
    writer: PackedWriter,
    encode: Callable[[Sequence[str]], list[np.ndarray]],
    *,
    batch_size: int,
    on_progress: Progress | None,
) -> Extraction:
    known = {id: _is_known(writer, id, {"text": text}) for id, text in texts.items()}
    kept, new = [id for id in known if known[id]], [id for id in known if not known[id]]
    for start in range(0, len(new), batch_size):
        batch = new[start : start + batch_size]
        rows = encode([texts[id] for id in batch])
        with _full_disk_told(writer):
            writer.extend([(id, row, {"text": texts[id]}) for id, row in zip(batch, rows, strict=True)])
        if on_progress is not None:
            on_progress(batch[-1], len(kept) + start + len(batch), len(texts))
    return Extraction(tuple(new), tuple(kept), ())
