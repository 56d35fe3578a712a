"""Videos are indexed straight into shards: the answers are those of one file, and an interrupted call is gone on with."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import Prvr
from tiny_encoders import make_textual, make_visual
from tiny_videos import SECONDS, plain, write_video

from prvr.errors import DataError, MissingExtra, ModelError, SettingError
from prvr.features.sources import Source
from prvr.files import lock_for_writing
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE
from prvr.index.shards import shard_of
from prvr.methods.checkpoint import Checkpoint
from prvr.search import MODEL, Indexing, copy_index, index_folder, open_index, zero_shot
from prvr.search.indexing import folder_to_index
from prvr.search.shard_updates import ShardUpdate
from prvr.video import VideoReader

NAMES = ("a.mp4", "b.mp4", "c.mp4", "deep/d.mp4", "e.mp4")
SHARDS = 3


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return zero_shot(make_textual(make_visual(tmp_path_factory.mktemp("encoder") / "tiny", size=[8, 12])), rate=2.0)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Videos of two seconds, each of another colour."""
    root = tmp_path_factory.mktemp("stock")
    return [write_video(root / f"{colour}.mp4", [(100 * n, plain(colour)) for n in range(20)]) for colour in SECONDS]


@pytest.fixture
def videos(stock: list[Path], tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    for name, video in zip(NAMES, stock, strict=True):
        shutil.copy2(video, folder / name)
    return folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, as it happens."""
    seen: list[str] = []
    real = VideoReader.__iter__

    def counted(self: VideoReader) -> Iterator[tuple[float, np.ndarray]]:
        seen.append(self.path.name)
        return real(self)

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    return seen


def videos_of_shards(folder: Path, checkpoint: Checkpoint) -> list[set[str]]:
    return [set(DiskIndex(folder / f"{n}-of-{SHARDS}", checkpoint.model).ids) for n in range(SHARDS)]


def answers(place: Any) -> list[dict[str, Any]]:
    """What two queries find, without the strength, which an index at a URL has not."""
    index = open_index(place)
    hits = [hit for query in ("a red picture", "white") for hit in index.search(query, k=9)]
    known = [hit.as_dict(curve=True) | {"strength": None, "weak": None} for hit in hits]
    index.index.close()
    return known


def test_shards_answer_as_one_file_does_and_follow_their_folder(
    videos: Path, stock: list[Path], teacher: Checkpoint, decoded: list[str], tmp_path: Path
) -> None:
    folder, one = tmp_path / "shards", tmp_path / "one"
    url = f"shards://{folder}"
    (videos / "videos.jsonl").write_text('{"video": "c.mp4", "camera": "north"}\n{"video": "none.mp4", "camera": "x"}\n')
    problems = {"videos.jsonl, line 2": f"no video 'none.mp4' in {videos}"}
    assert index_folder(videos, f"{url}?shards={SHARDS}", teacher) == Indexing(tuple(sorted(NAMES)), (), (), problems)
    placed = [{name for name in NAMES if shard_of(name, SHARDS) == n} for n in range(SHARDS)]
    assert videos_of_shards(folder, teacher) == placed
    assert sum(map(bool, placed)) > 1
    index_folder(videos, one, teacher)
    assert answers(url) == answers(one) != []
    assert [hit.video for hit in open_index(url).search("red", where=["camera=north"])] == ["c.mp4"]
    decoded.clear()
    # By its absolute and its relative URL: nothing has changed.
    assert index_folder(videos, url, teacher).kept == tuple(sorted(NAMES))
    assert decoded == []
    (videos / "b.mp4").unlink()
    shutil.copy2(stock[0], videos / "e.mp4")
    (videos / "new").mkdir()
    shutil.copy2(stock[1], videos / "new" / "f.mp4")
    done = index_folder(videos, url, teacher)
    assert (done.added, done.dropped) == (("e.mp4", "new/f.mp4"), ("b.mp4",))
    index_folder(videos, one, teacher)
    assert {hit["video"] for hit in answers(url)} == {hit["video"] for hit in answers(one)}
    for n, there in enumerate(videos_of_shards(folder, teacher)):
        assert all(shard_of(id, SHARDS) == n for id in there)


def test_an_interrupted_call_is_gone_on_with(
    videos: Path, teacher: Checkpoint, decoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, real = f"shards://{tmp_path}/shards?shards={SHARDS}", DiskIndex.add
    written: list[str] = []

    def add(self: DiskIndex, entries: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        real(self, entries)
        written.extend(entry.video for entry in entries)

    with monkeypatch.context() as patch:
        patch.setattr(DiskIndex, "add", add)
        with pytest.raises(KeyboardInterrupt):
            index_folder(videos, url, teacher)
    # What is there can be searched.
    assert {hit.video for hit in open_index(url).search("red", k=9)} == set(written)
    decoded.clear()
    done = index_folder(videos, url, teacher)
    assert (set(done.kept), set(done.added)) == (set(written), set(NAMES) - set(written))
    assert len(decoded) == len(NAMES) - 2


def test_the_shards_of_a_copy_hold_their_model_and_are_brought_up_to_date(
    videos: Path, stock: list[Path], teacher: Checkpoint, tmp_path: Path
) -> None:
    shutil.copy2(stock[0], videos / "z.mp4")
    index_folder(videos, tmp_path / "one", teacher)
    url = f"shards://{tmp_path}/shards"
    copy_index(tmp_path / "one", f"{url}?shards={SHARDS}")
    assert answers(url) == answers(tmp_path / "one")
    # A copy of another video is one of its own where it is in another shard.
    done = index_folder(videos, url, teacher)
    assert set(done.kept) | set(done.added) == {*NAMES, "z.mp4"}
    assert ("z.mp4" in done.added) == (shard_of("z.mp4", SHARDS) != shard_of("a.mp4", SHARDS))
    shutil.rmtree(tmp_path / "shards" / MODEL)
    with pytest.raises(ModelError, match=r"does not hold its model; .* --model RUN"):
        open_index(url)


def test_the_command(videos: Path, teacher: Checkpoint, tmp_path: Path, prvr: Prvr) -> None:
    url = f"shards://{tmp_path}/shards?shards=2"
    index = ["index", videos, url, "--encoder", teacher.sources.frames.source, "--rate", "2"]
    assert prvr(*index).out == f"{url}: 5 added, 0 kept, 0 dropped, 0 problems\n"
    # Later the shards know their model.
    assert prvr("index", videos, url).out == f"{url}: 0 added, 5 kept, 0 dropped, 0 problems\n"
    assert len(json.loads(prvr("search", url, "a red picture", "--json").out)["hits"]) == 5
    assert "--watch is for an index in a folder" in prvr("index", videos, url, "--watch").err
    server = "qdrant://localhost/a"
    assert f"prvr index copy INDEX {server}" in prvr("index", videos, server).err


KNOWN = "known are qdrant://, qdrant+https://, ray://, shards://"


@pytest.mark.parametrize(
    ("scheme", "line"),
    [
        ("shard", f"no index is known by shard://; did you mean shards://? {KNOWN}"),
        ("rays", f"no index is known by rays://; did you mean ray://? {KNOWN}"),
        ("SHARDS", f"no index is known by SHARDS://; did you mean shards://? {KNOWN}"),
        ("s3", f"no index is known by s3://; {KNOWN}"),
    ],
)
def test_a_mistyped_scheme(
    scheme: str, line: str, videos: Path, teacher: Checkpoint, tmp_path: Path, prvr: Prvr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"{scheme}:///x"
    with pytest.raises(SettingError) as refused:
        index_folder(videos, url, teacher)
    assert str(refused.value) == line
    for command in (["index", videos, url], ["search", url, "red"], ["index", "verify", url], ["index", "copy", url, "there"]):
        assert prvr(*command) == (1, "", f"prvr: {line}\n")
    assert in_folder(tmp_path) == sorted(["videos", "videos/deep", *(f"videos/{name}" for name in NAMES)])


def test_what_is_refused(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    url = f"shards://{tmp_path}/shards"
    index_folder(videos, f"{url}?shards=2", teacher)
    with pytest.raises(SettingError, match="has 2 shards, not 3"):
        index_folder(videos, f"{url}?shards=3", teacher)
    with pytest.raises(SettingError, match="holds float16, not float32"):
        index_folder(videos, url, teacher, dtype="float32")
    with pytest.raises(ModelError, match="was built with checkpoint"):
        index_folder(videos, url, zero_shot(teacher.sources.frames.source or "", rate=1.0))
    with pytest.raises(SettingError, match=r"ray://auto/a names its cluster, .*; leave out --ray"):
        index_folder(videos, "ray://auto/a", teacher, ray="auto")
    with pytest.raises(SettingError, match=r"is filled by a copy: .*prvr index copy INDEX qdrant://x/a"):
        folder_to_index("qdrant://x/a")
    # The checkpoint that is kept there is still the one of the shards.
    assert open_index(url).search("red", k=1)


def test_what_is_there_is_not_replaced_and_a_lost_shard_is_made_like_the_others(
    videos: Path, teacher: Checkpoint, tmp_path: Path
) -> None:
    url, folder = f"shards://{tmp_path / 'g'}?shards={SHARDS}", tmp_path / "g"
    index_folder(videos, url, teacher, dtype="float32")
    shutil.rmtree(next(path for path in sorted(folder.glob("*-of-*"))))
    index_folder(videos, url, teacher)
    assert open_index(url).index.count() == len(NAMES)
    index_folder(videos, tmp_path / "one", teacher)
    with pytest.raises(SettingError, match="holds an index in one file, whose model shards would replace"):
        index_folder(videos, f"shards://{tmp_path / 'one'}", teacher)
    with pytest.raises(SettingError, match="names a machine"):
        index_folder(videos, "shards://data/gallery", teacher)


def in_folder(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("target", ["shards://{}/g", "{}/g"])
def test_nothing_is_made_before_all_is_checked(
    target: str, videos: Path, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a shard, not an index, not a checkpoint."""
    place = target.format(tmp_path)
    sources = teacher.sources
    gone = replace(sources, frames=replace(sources.frames, source=str(tmp_path / "gone"), fingerprint="0" * 16))
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingExtra, match=r"prvr\[speech\]"):
        index_folder(videos, place, teacher, texts={"speech": "tiny"})
    with pytest.raises(ModelError):
        index_folder(videos, place, replace(teacher, sources=gone))
    with pytest.raises(ModelError, match="has frames alone"):
        index_folder(videos, place, replace(teacher, sources=replace(sources, subtitles=Source("asr", 4))))
    with pytest.raises(SettingError):
        index_folder(videos, place, replace(teacher, sources=replace(sources, frames=replace(sources.frames, rate=-1.0))))
    assert in_folder(tmp_path) == sorted(["videos", "videos/deep", *(f"videos/{name}" for name in NAMES)])


def test_nothing_is_made_before_a_machine_of_the_cluster_has_checked_all(
    videos: Path, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself: tests/index/test_cluster.py."""
    connected = in_place(monkeypatch)
    frames = replace(teacher.sources.frames, source=str(tmp_path / "gone"), fingerprint="0" * 16)
    with pytest.raises(ModelError):
        index_folder(videos, f"ray://auto{tmp_path}/g", replace(teacher, sources=replace(teacher.sources, frames=frames)))
    assert in_folder(tmp_path) == sorted(["videos", "videos/deep", *(f"videos/{name}" for name in NAMES)])
    assert index_folder(videos, f"ray://auto{tmp_path}/g?shards=2", teacher).added == NAMES
    assert connected == ["auto", "-", "auto", "-"]


def in_place(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A cluster of this process, at any address; returns what it is connected to, with a "-" where that ended."""
    seen: list[str] = []
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda address, **_: seen.append(address),
        shutdown=lambda: seen.append("-"),
        get=lambda answer: getattr(answer, "value", answer),
        put=lambda value: value,
        kill=lambda actor: None,
        nodes=lambda: [{"Alive": True}],
    )
    ray.remote = lambda **_: lambda kind: SimpleNamespace(remote=lambda sharing: InPlace(kind(sharing)))
    ray.wait = lambda answers, **_: (answers, [])
    ray.exceptions = SimpleNamespace(RayError=OSError, RayTaskError=OSError)
    for module in ("device", "extract.cluster", "search.cluster_indexing", "index.cluster"):
        monkeypatch.setattr(f"prvr.{module}.require", lambda *_, **__: ray)
    return seen


@pytest.mark.parametrize("target", ["shards://{}/g?shards=2", "{}/g"])
def test_nothing_is_made_where_there_is_no_cluster(
    target: str, videos: Path, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prvr: Prvr
) -> None:
    in_place(monkeypatch)
    encoder = ["--encoder", teacher.sources.frames.source]
    answer = prvr("index", videos, target.format(tmp_path), *encoder, "--ray", "127.0.0.1:9")
    assert (answer.status, answer.out) == (1, "")
    assert answer.err.splitlines()[-1].startswith("prvr: no Ray cluster at '127.0.0.1:9': ")
    assert in_folder(tmp_path) == sorted(["videos", "videos/deep", *(f"videos/{name}" for name in NAMES)])


@pytest.mark.parametrize("module", ["search.cluster_indexing", "index.cluster"])
def test_the_connection_ends_where_no_actor_can_be_made(
    module: str, videos: Path, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{tmp_path}/g?shards=2"
    index_folder(videos, f"shards://{url}", teacher)
    connected = in_place(monkeypatch)

    def refuse(value: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules[f"prvr.{module}"].require("ray", extra="ray"), "put", refuse)
    with pytest.raises(MemoryError):
        index_folder(videos, f"ray://auto{url}", teacher) if module.startswith("search") else open_index(f"ray://auto{url}")
    assert connected == ["auto", "-"]


class Done:
    """The answer of an actor, compared by identity."""

    def __init__(self, value: Any) -> None:
        self.value = value


class InPlace:
    """An actor whose calls are executed at once."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            return Done(getattr(self._actor, name)(*arguments))

        return SimpleNamespace(remote=call, options=lambda **_: SimpleNamespace(remote=call))


def test_a_folder_that_moved_is_followed_although_a_shard_has_none_of_its_videos(
    videos: Path, teacher: Checkpoint, tmp_path: Path
) -> None:
    url = f"shards://{tmp_path}/g?shards={SHARDS}"
    index_folder(videos, url, teacher)
    held = [there for there in videos_of_shards(tmp_path / "g", teacher) if there]
    assert len(held) > 1
    moved = videos.rename(tmp_path / "moved")
    for name in held[0]:
        (moved / name).unlink()
    done = index_folder(moved, url, teacher)
    assert (set(done.kept), set(done.dropped)) == (set(NAMES) - held[0], held[0])
    assert open_index(url).index.header.videos == str(moved)
    # One in which no shard has any of its videos is another folder.
    (tmp_path / "other").mkdir()
    shutil.copy2(moved / next(iter(held[1])), tmp_path / "other" / "z.mp4")
    with pytest.raises(SettingError, match=rf"the index in .*/g is of {moved}, and none of its \d videos is in .*other"):
        index_folder(tmp_path / "other", url, teacher)


def test_the_other_shards_are_finished_when_one_has_an_error(
    videos: Path, teacher: Checkpoint, tmp_path: Path, prvr: Prvr
) -> None:
    url, folder = f"shards://{tmp_path}/g?shards={SHARDS}", tmp_path / "g"
    (videos / "a.mp4").rename(tmp_path / "a.mp4")
    index_folder(videos, url, teacher)
    (tmp_path / "a.mp4").rename(videos / "a.mp4")
    number = shard_of("a.mp4", SHARDS)
    (videos / "new").mkdir()
    others = [f"new/{n}.mp4" for n in range(9) if shard_of(f"new/{n}.mp4", SHARDS) != number][:2]
    for name in others:
        write_video(videos / name, [(100 * n, plain("white")) for n in range(3)])
    lock = lock_for_writing(folder / f"{number}-of-{SHARDS}" / FILE)
    try:
        answer = prvr("index", videos, url)
    finally:
        lock.release()
    assert answer.status == 1
    assert answer.out == f"{url}: 2 added, 4 kept, 0 dropped, 1 problems\n"
    mine = sum(shard_of(name, SHARDS) == number for name in NAMES)
    lacks = f"another process is writing to .*; wait for it to end; 1 of its {mine} videos are not finished: a.mp4; run again"
    assert re.search(rf"shard {number + 1} of 3 \(.*/{number}-of-3\): {lacks}", answer.err)
    done = index_folder(videos, url, teacher)
    assert (done.added, set(done.kept), done.problems) == (("a.mp4",), {*NAMES, *others} - {"a.mp4"}, {})


def test_an_error_of_all_shards_is_one_of_the_call(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    url = f"shards://{tmp_path}/g?shards=1"
    index_folder(videos, url, teacher)
    lock = lock_for_writing(tmp_path / "g" / "0-of-1" / FILE)
    with pytest.raises(DataError, match="another process is writing"):
        index_folder(videos, url, teacher)
    lock.release()


def test_a_shard_without_videos_is_no_success(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    url = f"shards://{tmp_path}/g?shards={SHARDS}"
    for name in NAMES[1:]:
        (videos / name).unlink()
    index_folder(videos, url, teacher)
    lock = lock_for_writing(tmp_path / "g" / f"{shard_of('a.mp4', SHARDS)}-of-{SHARDS}" / FILE)
    with pytest.raises(DataError, match="another process is writing"):
        index_folder(videos, url, teacher)
    lock.release()


@pytest.mark.parametrize("scheme", ["shards://", "ray://auto"])
def test_an_error_that_is_not_the_shards_own_is_one_of_the_call(
    scheme: str, videos: Path, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place(monkeypatch)
    real = ShardUpdate.run

    def run(self: ShardUpdate, *arguments: Any, **settings: Any) -> Indexing:
        if self.number == shard_of("a.mp4", SHARDS):
            raise ModelError("another encoder")
        return real(self, *arguments, **settings)

    monkeypatch.setattr(ShardUpdate, "run", run)
    with pytest.raises(ModelError, match="another encoder"):
        index_folder(videos, f"{scheme}{tmp_path}/g?shards={SHARDS}", teacher)
