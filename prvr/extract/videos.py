"""Encodes videos to a packed folder of frame features."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from prvr.encoders import ImageEncoder
from prvr.extract.encoding import ThisProcess
from prvr.extract.engine import Engine, FrameSampling
from prvr.extract.extraction import Extraction, Progress, explain_full_disk, open_frames
from prvr.extract.resuming import resuming
from prvr.extract.update import update_rows
from prvr.features.compaction import tidy
from prvr.features.packed import PackedWriter
from prvr.video import VideoPath, check_rate


def extract_videos(
    videos: Mapping[str, VideoPath],
    out: Path,
    *,
    encoder: ImageEncoder,
    rate: float = 1.0,
    batch_size: int = 32,
    every_frame: bool = False,
    engine: Engine | None = None,
    on_progress: Progress | None = None,
) -> Extraction:
    """Brings a packed folder up to date: a row per sampled frame of each of the videos, and no other video.

    The info of a video has `times` (seconds, one per row), `duration` (of what could be read), `file` (its stamp and SHA-256)
    and `problem`, the reason why only a part could be read. A video without a readable frame stops nothing; it is tried again
    the next time. Rows have the same bits with every engine, whatever else is in the folder.

    Args:
        rate: frames per second.
        every_frame: encodes also a frame that looks like the one before, instead of giving it the row of that.
        engine: decodes and encodes; by default this process.

    Raises:
        DataError: `out` holds features of another encoder or rate, or the disk is full; finished videos are kept.
        SettingError: `rate` is not a number above 0.
    """
    engine, sampling = engine or ThisProcess(encoder), FrameSampling(check_rate(rate), batch_size, every_frame)
    unfinished = out.with_name(f"{out.name}.unfinished")
    with (
        open_frames(out, encoder, rate) as writer,
        resuming(unfinished, engine, encoder=encoder, rate=rate, videos=videos.keys()) as engine,
    ):
        done = update_rows(videos, PackedRows(writer), engine, sampling=sampling, on_progress=on_progress)
    tidy(out)
    return done


@final
class PackedRows:
    """A packed folder as the `RowStore` of `update_rows`."""

    def __init__(self, writer: PackedWriter) -> None:
        self._writer = writer

    def infos(self) -> dict[str, dict[str, Any]]:
        """Returns the info of every video."""
        features = self._writer.features
        return {id: features.info(id) for id in features}

    def put(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> None:
        """Adds a video, or replaces the one of that id."""
        with explain_full_disk(self._writer):
            self._writer.append(id, rows, info)

    def offer(self, id: str, rows: np.ndarray, info: Mapping[str, Any]) -> None:
        """Does nothing: half a video is of no use for training."""

    def keep(self, id: str, file: Mapping[str, Any]) -> None:
        """Records the stamp of a file that was touched, so that it is not compared by content again."""
        info = self._writer.features.info(id)
        if "file" in info and info["file"] != file:
            with explain_full_disk(self._writer):
                self._writer.annotate(id, {**info, "file": dict(file)})

    def rearrange(self, copies: Mapping[str, tuple[str, Mapping[str, Any]]], drop: Collection[str]) -> list[str]:
        """Gives videos the rows of others, which are not stored again, and deletes videos."""
        infos = {id: {**self._writer.features.info(source), "file": dict(file)} for id, (source, file) in copies.items()}
        with explain_full_disk(self._writer):
            return self._writer.rearrange({id: (source, infos[id]) for id, (source, _) in copies.items()}, drop)
