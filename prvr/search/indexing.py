"""Indexes a folder of videos: into an index in a folder, or straight into shards.

A shard reads, encodes and writes the videos that belong to it, as an index on its own does: so whatever ends the call, all
finished videos are kept, and the next call goes on in each shard. By shards:// they do so in this process, one after the other;
by ray:// each in an actor of a Ray cluster (`prvr.search.cluster_indexing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from prvr.device import connect
from prvr.errors import SettingError
from prvr.extract.extraction import Progress
from prvr.index.contract import Header
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE
from prvr.index.shards import make_shards, shard_folders
from prvr.index.stores import folder_of
from prvr.methods.checkpoint import Checkpoint
from prvr.search.cluster_indexing import ShardIndexers
from prvr.search.indexing_tools import IndexingTools
from prvr.search.opening import check_moved, is_remote, keep_checkpoint, open_existing
from prvr.search.shard_updates import ERRORS_OF_SHARDS, ShardUpdate, join_outcomes
from prvr.search.update import Indexer, Indexing, IndexRows
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

    Of shards, some of which raise an error, the others are finished; the errors are among the problems.
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
    folder, parts, files = folder_to_index(url), urlsplit(url), find_videos(videos)
    if (folder / FILE).exists():
        raise SettingError(f"{folder} holds an index in one file, whose model shards would replace; name another folder")
    on_cluster = parts.scheme == "ray"
    if on_cluster and settings["ray"] is not None:
        raise SettingError(f"{url} names its cluster, whose machines decode and encode; leave out --ray")
    paths = shard_folders(url)
    before, stored = _check_shards(paths, checkpoint, videos=videos, dtype=settings["dtype"])
    updates = [ShardUpdate(n, len(paths), path.absolute(), videos.resolve(), settings) for n, path in enumerate(paths)]
    # Nothing is made before all that can be refused was.
    if on_cluster:
        with (
            connect(parts.netloc, otherwise="write shards:///FOLDER") as ray,
            closing(ShardIndexers(ray, updates, checkpoint)) as indexers,
        ):
            indexers.check(stored)
            _make(url, checkpoint, videos=videos, dtype=settings["dtype"])
            outcomes = indexers.update(on_progress)
    else:
        tools = updates[0].check(checkpoint, stored)
        _make(url, checkpoint, videos=videos, dtype=settings["dtype"])
        outcomes = [_run(update, checkpoint, on_progress, tools) for update in updates]
    return join_outcomes(updates, outcomes, checkpoint, files=files, before=before)


def _check_shards(
    paths: Sequence[Path], checkpoint: Checkpoint, *, videos: VideoPath, dtype: Literal["float16", "float32"] | None
) -> tuple[list[set[str]], dict[str, str | None]]:
    """Checks the shards that exist; returns the videos of each, and the readers of texts that they keep."""
    before: list[set[str]] = []
    stored: dict[str, str | None] = {}
    moved: dict[Path, Header] = {}
    for path in paths:
        shard = open_existing(path, checkpoint, dtype=dtype)
        before.append(set())
        if shard is None:
            continue
        with closing(shard):
            before[-1] = {*IndexRows(shard, {}).infos()}
            stored |= shard.texts.readers()
            if shard.header.videos != str(videos.resolve()):
                moved[path.parent] = shard.header
    for folder, header in moved.items():
        # Together: of a shard with few videos, each may be gone.
        check_moved(folder, header, set().union(*before), videos)
    return before, stored


def _make(url: str, checkpoint: Checkpoint, *, videos: VideoPath, dtype: Literal["float16", "float32"] | None) -> None:
    """Creates the shards that do not exist, and their copy of the checkpoint; all follow their folder of videos."""
    header = Header(checkpoint.fingerprint, dtype or "float16", str(videos.resolve()))
    for path in make_shards(url, checkpoint.model, header):
        with closing(DiskIndex(path, checkpoint.model)) as shard:
            if shard.header.videos != header.videos:
                shard.move(header.videos)
    keep_checkpoint(checkpoint, folder_to_index(url))


def _run(update: ShardUpdate, checkpoint: Checkpoint, on_progress: Progress | None, tools: IndexingTools) -> Indexing | Exception:
    """The result of the update of a shard, or an error of its own: the other shards go on."""
    try:
        return update.run(checkpoint, _with_shard(on_progress, update), tools=tools)
    except ERRORS_OF_SHARDS as problem:
        return problem


def _with_shard(on_progress: Progress | None, update: ShardUpdate) -> Progress | None:
    if on_progress is None:
        return None
    return lambda text, done, total: on_progress(f"shard {update.number + 1} of {update.count}: {text}", done, total)
