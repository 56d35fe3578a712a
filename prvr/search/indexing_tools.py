"""Opens all that reads and encodes videos, so that what is missing or does not fit is refused before an index is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prvr.encoders import ImageEncoder
from prvr.encoders.text_readers import DEFAULT_READERS, open_reader
from prvr.encoders.timed_texts import TextReader
from prvr.errors import ModelError, SettingError
from prvr.extract import engine_for
from prvr.extract.cluster import check_cluster
from prvr.extract.engine import Engine, FrameSampling
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.search.matching import open_matching_encoder
from prvr.video import VideoPath, check_rate

BATCH_SIZE = 32


@dataclass(frozen=True)
class IndexingTools:
    """What reads and encodes videos: opened once for all shards of a process."""

    encoder: ImageEncoder
    engine: Engine
    sampling: FrameSampling
    checkpoint: Checkpoint
    device: str

    @staticmethod
    def open(checkpoint: Checkpoint, *, device: str, workers: int | None = None, ray: str | None = None) -> IndexingTools:
        """Opens the encoder of a checkpoint, and puts its model on the device.

        Raises:
            ModelError: the student reads features that no encoder makes, or its encoder has changed.
            SettingError: the rate is not a number above 0, or there is no cluster at the address.
            MissingExtra: Ray is not installed.
        """
        if checkpoint.sources.subtitles is not None:
            raise ModelError(
                f"this model reads the subtitles {checkpoint.sources.subtitles.name!r} beside the frames, and an index of a "
                "folder has frames alone; index with a model that was trained without --subtitles"
            )
        if ray is not None:
            check_cluster(ray)
        encoder = open_matching_encoder(checkpoint.sources.frames, "frames", device)
        if not isinstance(encoder, ImageEncoder):
            raise ModelError(f"{encoder.name!r} has no image side; the model reads frames of it")
        engine = engine_for(encoder, device=device, workers=workers, ray=ray)
        sampling = FrameSampling(check_rate(checkpoint.sources.frames.rate or 1.0), BATCH_SIZE)
        return IndexingTools(encoder, engine, sampling, checkpoints.to_device(checkpoint, device), device)


def open_readers(videos: VideoPath, texts: Mapping[str, str | None], stored: Mapping[str, str | None]) -> list[TextReader]:
    """Opens the readers of the texts of videos.

    Args:
        texts: the settings of this call by kind. stored: those that the index keeps.

    Raises:
        SettingError, ModelError, MissingExtra: as `open_reader`; or the videos are below a URL, where no texts are read.
    """
    if not isinstance(videos, Path):
        if any(texts.values()):
            raise SettingError(f"texts of videos are read from files of this machine, not below {videos}; leave them out")
        return []
    chosen = {**DEFAULT_READERS, **stored, **texts}
    return [open_reader(kind, setting) for kind, setting in chosen.items() if setting is not None]
