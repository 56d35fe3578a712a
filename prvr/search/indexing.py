"""Indexes a folder of videos: into an index in a folder, or straight into shards.

A shard reads, encodes and writes the videos that belong to it, as an index on its own does: so whatever ends the call, all
finished videos are kept, and the next call goes on in each shard. By shards:// they do so in this process, one after the other;
by ray:// each in an actor of a Ray cluster (`prvr.search.cluster_indexing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from prvr.errors import SettingError
from prvr.extract.extraction import Progress
from prvr.index.contract import Header
from prvr.index.place import FILE
from prvr.index.shards import make_shards
from prvr.index.stores import folder_of
from prvr.methods.checkpoint import Checkpoint
from prvr.search.cluster_indexing import index_on_cluster
from prvr.search.opening import is_remote, keep_checkpoint, make_without_model
from prvr.search.update import Indexer, Indexing, ShardUpdate
from prvr.video import VideoPath, find_videos, place_of


def index_folder(
    videos: str | VideoPath,
    path: str | Path,
    checkpoint: Checkpoint,
    *,
    dtype: Literal["float16", "float32"] | None = None,
    device: str = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    texts: Mapping[str, str | None] | None = None,
    on_progress: Progress | None = None,
) -> Indexing:
    """Brings an index up to date with a folder: adds new videos, replaces changed ones, removes those without a file.

    Whatever ends the call, all finished videos are kept, and the next call goes on. They can be searched all the time.

    Args:
        videos: the folder, or its URL (`prvr.video.remote`), below which texts of videos are not read.
        path: the folder of the index, or shards:///FOLDER?shards=N, or ray://ADDRESS/FOLDER?shards=N.
        dtype: of the embeddings on disk; by default that of the index, float16 for a new one.
        workers: the number of processes that decode and encode; by default this process alone, or one on each machine of a
            cluster. In shards on a cluster, of each shard.
        ray: the address of a Ray cluster that decodes and encodes: HOST:PORT, `auto` or `local`. A ray:// URL names its own.

    Raises:
        ModelError: the index was built with another checkpoint, or the student reads features that no encoder makes.
        DataError: there are no videos, another process is indexing there, or the disk is full.
        SettingError: the index holds another dtype or number of shards, is on a server, or there is no cluster at that address.
    """
    # Checked before anything is made: a folder without videos gets no index.
    place = place_of(videos)
    find_videos(place)
    settings: dict[str, Any] = {"dtype": dtype, "device": device, "workers": workers, "ray": ray, "texts": texts}
    if isinstance(path, str) and is_remote(path):
        return _index_shards(place, path, checkpoint, settings, on_progress)
    with closing(Indexer(place, Path(path), checkpoint, **settings)) as indexer:
        return indexer.update(on_progress=on_progress)


def folder_to_index(place: str | Path) -> Path:
    """The folder of an index, or of all its shards, that videos can be indexed into.

    Raises:
        SettingError: it is on a server.
    """
    folder = folder_of(place)
    if folder is None:
        raise SettingError(
            f"{place} is filled by a copy: index into a folder or into shards (shards:///FOLDER, ray://ADDRESS/FOLDER), and copy "
            f"that: prvr index copy INDEX {place}"
        )
    return folder


def _index_shards(
    videos: VideoPath, url: str, checkpoint: Checkpoint, settings: dict[str, Any], on_progress: Progress | None
) -> Indexing:
    folder, parts = folder_to_index(url), urlsplit(url)
    if (folder / FILE).exists():
        raise SettingError(f"{folder} holds an index in one file, whose model shards would replace; name another folder")
    on_cluster = parts.scheme == "ray"
    if on_cluster and settings["ray"] is not None:
        raise SettingError(f"{url} names its cluster, whose machines decode and encode; leave out --ray")
    header = Header(checkpoint.fingerprint, settings["dtype"] or "float16", str(videos.resolve()))
    paths = make_shards(url, checkpoint.model, header)
    # Before anything long, and before the checkpoint that is kept there is replaced.
    for path in paths:
        make_without_model(path, checkpoint, videos=videos, dtype=settings["dtype"]).close()
    keep_checkpoint(checkpoint, folder)
    updates = [ShardUpdate(n, len(paths), path.absolute(), videos.resolve(), settings) for n, path in enumerate(paths)]
    if on_cluster:
        done = index_on_cluster(parts.netloc, updates, checkpoint, on_progress)
    else:
        done = [update.run(checkpoint, _with_shard(on_progress, update)) for update in updates]
    added, kept, dropped = (
        tuple(sorted(id for one in done for id in getattr(one, field))) for field in ("added", "kept", "dropped")
    )
    # What is wrong with the folder is found by each shard.
    problems = {id: problem for one in done for id, problem in one.problems.items()}
    return Indexing(added, kept, dropped, problems)


def _with_shard(on_progress: Progress | None, update: ShardUpdate) -> Progress | None:
    if on_progress is None:
        return None
    return lambda text, done, total: on_progress(f"shard {update.number + 1} of {update.count}: {text}", done, total)
