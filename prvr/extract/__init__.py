"""Videos and texts through an encoder, to features on disk; a second run does only what is new or has changed.

jobs.py        what is to be done, what came of it, and who may do it: an `Engine`
ahead.py       videos decoded in threads, ahead of the encoder
batches.py     frames of several videos in one batch, without changing a bit of any
stream.py      the two together: the engine of one process
processes.py   an engine of several processes on this machine
cluster.py     an engine of Ray actors on several machines
docket.py      which jobs wait, which are in whose hands, and who is to blame where a worker dies: for these two
ledger.py      what a run came to, and its one writer
videos.py, texts.py   a folder's videos and captions to packed features
"""

from __future__ import annotations

from prvr.encoders import ImageEncoder
from prvr.extract.cluster import Cluster
from prvr.extract.jobs import Engine, Opening
from prvr.extract.ledger import Extraction, Progress, feature_folder
from prvr.extract.processes import Processes
from prvr.extract.stream import ThisProcess
from prvr.extract.texts import extract_sentences, extract_words
from prvr.extract.videos import extract_videos

__all__ = [
    "Engine",
    "Extraction",
    "Opening",
    "Progress",
    "engine_for",
    "extract_sentences",
    "extract_videos",
    "extract_words",
    "feature_folder",
]


def engine_for(encoder: ImageEncoder, *, device: str, workers: int | None = None, ray: str | None = None) -> Engine:
    """Who encodes videos: a Ray cluster where its address is given, several processes where asked for, else this one."""
    opening = Opening(encoder.source, encoder.fingerprint, device)
    if ray is not None:
        return Cluster(ray, opening, number=workers)
    return ThisProcess(encoder) if workers in (None, 1) else Processes(workers, opening)
