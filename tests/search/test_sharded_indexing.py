"""Videos are indexed straight into shards: the answers are those of one file, and an interrupted call is gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Prvr
from tiny_encoders import make_textual, make_visual
from tiny_videos import SECONDS, plain, write_video

from prvr.errors import ModelError, SettingError
from prvr.index.disk import DiskIndex
from prvr.index.shards import shard_of
from prvr.methods.checkpoint import Checkpoint
from prvr.search import MODEL, Indexing, copy_index, index_folder, open_index, zero_shot
from prvr.search.indexing import folder_to_index
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
