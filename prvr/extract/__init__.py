"""Encodes videos and texts to features on disk; a second run encodes only what is new or has changed.

update.py       brings stored rows up to date with a folder of videos
file_stamps.py  what identifies the content of a file
engine.py       the interface of what encodes videos: `Engine`, its jobs and its outcomes
encoding.py     the engine of one process: frames of several videos share batches
decoding.py     decodes videos in threads ahead of the encoder
repeats.py      frames that repeat the one before, which are not encoded
processes.py    an engine of several processes on this machine
cluster.py      an engine of Ray actors on several machines
job_queue.py    the queue of these two, which finds the file that kills a worker
extraction.py   the result of an extraction, and what is written into packed folders
videos.py, texts.py, folder.py   videos, captions, and a folder of both, to packed features
convert.py      a published feature package to packed features
"""

from __future__ import annotations

from prvr.encoders import ImageEncoder
from prvr.extract.cluster import Cluster
from prvr.extract.encoding import ThisProcess
from prvr.extract.engine import EncoderOpener, Engine
from prvr.extract.extraction import Extraction, Progress, feature_folder
from prvr.extract.processes import Processes
from prvr.extract.texts import extract_sentences, extract_words
from prvr.extract.videos import extract_videos

__all__ = [
    "EncoderOpener",
    "Engine",
    "Extraction",
    "Progress",
    "engine_for",
    "extract_sentences",
    "extract_videos",
    "extract_words",
    "feature_folder",
]


def engine_for(encoder: ImageEncoder, *, device: str, workers: int | None = None, ray: str | None = None) -> Engine:
    """Returns the engine that encodes videos.

    Args:
        workers: the number of processes, or None for this one, which a file may end; with `ray`, of workers on the cluster.
        ray: the address of a Ray cluster: HOST:PORT, `auto` or `local`.
    """
    if ray is not None:
        # `auto` as it is: the machines of the cluster have other devices than this one.
        return Cluster(ray, EncoderOpener.for_encoder(encoder, device), number=workers)
    return ThisProcess(encoder) if workers is None else Processes(workers, EncoderOpener.for_encoder(encoder, device))
