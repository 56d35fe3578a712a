"""A folder that lives: what is new, changed, moved, gone, half written or broken; copies; and what a kill leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_encoders import make_textual, make_visual
from tiny_videos import SECONDS, colourful, plain, write_video

from prvr.encoders import image_encoder
from prvr.errors import DataError, ModelError, SettingError
from prvr.extract import extract_videos
from prvr.extract.encoding import ThisProcess
from prvr.extract.engine import Encoded, FrameSampling, Job, Outcome
from prvr.extract.update import READS
from prvr.features.packed import Packed, is_packed
from prvr.index.contract import Entry
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.search import Indexing, copy_index, index_folder, open_index, verify_index, watch_folder, zero_shot
from prvr.search.copying import is_same
from prvr.search.opening import FEATURES, store_of
from prvr.search.update import Indexer, IndexRows
from prvr.search.video_fields import read_video_fields
from prvr.video import VideoReader, find_videos


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    root = tmp_path_factory.mktemp("encoder")
    return zero_shot(make_textual(make_visual(root / "tiny", size=[8, 12])), rate=2.0)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A video of two seconds of each colour."""
    root = tmp_path_factory.mktemp("stock")
    return {colour: write_video(root / f"{colour}.mp4", [(100 * n, plain(colour)) for n in range(20)]) for colour in SECONDS}


@pytest.fixture
def videos(stock: dict[str, Path], tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    for name, colour in (("a.mp4", "red"), ("b.mp4", "green"), ("deep/c.mp4", "blue")):
        shutil.copy2(stock[colour], folder / name)
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


def entries(gallery: Path) -> dict[str, Entry]:
    _, store = store_of(gallery)
    there = store.fetch(store.ids)
    assert store.verify() == {}
    store.close()
    return there


def shows(entry: Entry) -> str:
    """The colour of a video: the encoder gives the pixels themselves, less their mean, by their spread."""
    pixels = entry.fields[0].astype(np.float32).mean(0).reshape(3, -1).mean(1) * [0.5, 0.25, 1.0] + [0.5, 0.4, 0.3]
    return min(SECONDS, key=lambda colour: float(np.abs(plain(colour)[0, 0] / 255 - pixels).sum()))


def test_a_folder_grows_changes_and_shrinks(
    videos: Path, stock: dict[str, Path], teacher: Checkpoint, decoded: list[str], tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    assert index_folder(videos, gallery, teacher) == Indexing(("a.mp4", "b.mp4", "deep/c.mp4"), (), (), {})
    assert {id: shows(entry) for id, entry in entries(gallery).items()} == {
        "a.mp4": "red",
        "b.mp4": "green",
        "deep/c.mp4": "blue",
    }
    decoded.clear()
    assert index_folder(videos, gallery, teacher) == Indexing((), ("a.mp4", "b.mp4", "deep/c.mp4"), (), {})
    assert decoded == []
    shutil.copy2(stock["white"], videos / "b.mp4")
    shutil.copy2(stock["black"], videos / "d.mp4")
    (videos / "a.mp4").unlink()
    assert index_folder(videos, gallery, teacher) == Indexing(("b.mp4", "d.mp4"), ("deep/c.mp4",), ("a.mp4",), {})
    assert {id: shows(entry) for id, entry in entries(gallery).items()} == {
        "deep/c.mp4": "blue",
        "b.mp4": "white",
        "d.mp4": "black",
    }


def test_the_date_is_when_the_camera_took_it(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    tags = {"creation_time": "2024-05-01T23:30:00.000000Z", "title": "Alps"}
    write_video(videos / "a.mp4", colourful(seconds=1), metadata=tags)
    (videos / "videos.jsonl").write_text('{"video": "a.mp4", "title": "my own"}\n')
    os.utime(videos / "a.mp4", (2_000_000_000, 2_000_000_000))
    os.utime(videos / "b.mp4", (0, 0))
    gallery = tmp_path / "gallery"
    index_folder(videos, gallery, teacher)
    about = entries(gallery)["a.mp4"].about
    assert (about["date"], about["modified"]) == ("2024-05-01T23:30:00+00:00", "2033-05-18T03:33:20+00:00")
    assert (about["captured"], about["title"]) == ("2024-05-01T23:30:00+00:00", "my own")
    about = entries(gallery)["b.mp4"].about
    assert about["date"] == about["modified"] == "1970-01-01T00:00:00+00:00"
    # A renamed file is the same recording; the user's own title goes with its line.
    (videos / "videos.jsonl").unlink()
    (videos / "a.mp4").rename(videos / "z.mp4")
    (videos / "clip").write_bytes((videos / "b.mp4").read_bytes())
    # A file without a suffix is read as what it is: here a copy.
    assert index_folder(videos, gallery, teacher).problems == {}
    assert entries(gallery)["b.mp4"].about["copies"] == ["clip"]
    about = entries(gallery)["z.mp4"].about
    assert (about["date"], about["title"]) == ("2024-05-01T23:30:00+00:00", "Alps")


def test_what_decides_is_the_content(
    videos: Path, stock: dict[str, Path], teacher: Checkpoint, decoded: list[str], tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    index_folder(videos, gallery, teacher)
    decoded.clear()
    # Touched, copied over itself, or written under a clock that has jumped: the same content is not read again.
    os.utime(videos / "a.mp4", (2_000_000_000, 2_000_000_000))
    shutil.copyfile(stock["green"], videos / "b.mp4")
    os.utime(videos / "b.mp4", (0, 0))
    assert index_folder(videos, gallery, teacher).kept == ("a.mp4", "b.mp4", "deep/c.mp4")
    assert decoded == []
    assert entries(gallery)["a.mp4"].about["date"] == "2033-05-18T03:33:20+00:00"
    assert entries(gallery)["b.mp4"].about["date"] == "1970-01-01T00:00:00+00:00"
    # Another content of the same size under the old time of writing is.
    times = (videos / "a.mp4").stat()
    whole = bytearray((videos / "a.mp4").read_bytes())
    whole[whole.index(b"mdat") + 60] ^= 1
    (videos / "a.mp4").write_bytes(whole)
    os.utime(videos / "a.mp4", ns=(times.st_atime_ns, times.st_mtime_ns))
    index_folder(videos, gallery, teacher)
    assert decoded == ["a.mp4"]


def test_a_video_that_is_replaced_while_it_is_read(
    videos: Path, stock: dict[str, Path], teacher: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, turns = VideoReader.__iter__, iter(["white", "black"])

    def replaced(self: VideoReader) -> Iterator[tuple[float, np.ndarray]]:
        yield from real(self)
        if self.path.name == "b.mp4":
            colour = next(turns, None)
            if colour:
                shutil.copyfile(stock[colour], self.path)

    monkeypatch.setattr(VideoReader, "__iter__", replaced)
    done = index_folder(videos, tmp_path / "gallery", teacher)
    assert (done.added, done.problems) == (("a.mp4", "b.mp4", "deep/c.mp4"), {})
    assert shows(entries(tmp_path / "gallery")["b.mp4"]) == "black"


def test_a_video_that_never_rests_is_left_for_the_next_time(
    videos: Path, teacher: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, reads = VideoReader.__iter__, []

    def growing(self: VideoReader) -> Iterator[tuple[float, np.ndarray]]:
        yield from real(self)
        if self.path.name == "b.mp4":
            reads.append(1)
            with open(self.path, "ab") as file:
                file.write(b"more")

    with monkeypatch.context() as patch:
        patch.setattr(VideoReader, "__iter__", growing)
        done = index_folder(videos, tmp_path / "gallery", teacher)
    assert len(reads) == READS
    assert done.added == ("a.mp4", "deep/c.mp4")
    assert "b.mp4 changed each time it was read" in done.problems["b.mp4"]
    assert index_folder(videos, tmp_path / "gallery", teacher).added == ("b.mp4",)


def test_each_video_can_be_searched_as_soon_as_it_is_done(
    videos: Path, teacher: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gallery, seen = tmp_path / "gallery", []

    class Killed(BaseException):
        pass

    put = IndexRows.put

    def stop(self: IndexRows, id: str, *args: Any) -> None:
        put(self, id, *args)
        seen.append(id)
        if len(seen) == 2:
            raise Killed

    monkeypatch.setattr(IndexRows, "put", stop)
    with pytest.raises(Killed):
        index_folder(videos, gallery, teacher)
    assert len(open_index(gallery).search("red", k=9)) == 2
    first = set(entries(gallery))
    done = index_folder(videos, gallery, teacher)
    assert set(done.kept) == first
    assert set(entries(gallery)) == {"a.mp4", "b.mp4", "deep/c.mp4"}


def test_what_was_decoded_before_a_kill_is_not_decoded_again(
    videos: Path, teacher: Checkpoint, decoded: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    teacher = zero_shot(teacher.sources.frames.source, rate=2.0, parts="clips")

    def broken(self: DiskIndex, entries: list[Entry]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DiskIndex, "add", broken)
        with pytest.raises(KeyboardInterrupt):
            index_folder(videos, gallery, teacher)
    decoded.clear()
    assert index_folder(videos, gallery, teacher).added == ("a.mp4", "b.mp4", "deep/c.mp4")
    # One had its features stored when it came to its embeddings.
    assert len(decoded) == 2
    fresh = tmp_path / "fresh"
    index_folder(videos, fresh, teacher)
    for id, entry in entries(fresh).items():
        np.testing.assert_array_equal(entry.fields[0], entries(gallery)[id].fields[0])


def test_rows_are_stored_once(videos: Path, teacher: Checkpoint, decoded: list[str], tmp_path: Path) -> None:
    source = teacher.sources.frames.source
    for parts, keeps_features in (("frames", False), ("clips_and_frames", False), ("clips", True)):
        gallery = tmp_path / parts
        checkpoint = zero_shot(source, rate=2.0, parts=parts)
        index_folder(videos, gallery, checkpoint)
        assert is_packed(gallery / FEATURES) == keeps_features
        decoded.clear()
        assert len(index_folder(videos, gallery, checkpoint).kept) == 3
        assert decoded == []
        if keeps_features:
            # They are no more than a cache.
            shutil.rmtree(gallery / FEATURES)
            assert len(index_folder(videos, gallery, checkpoint).kept) == 3
            assert decoded == []
    # What is stored are the encoder's rows themselves.
    extract_videos(find_videos(videos), tmp_path / "features", encoder=image_encoder(source), rate=2.0)
    for id, rows in Packed(tmp_path / "features").items():
        np.testing.assert_array_equal(entries(tmp_path / "frames")[id].fields[0], rows.astype(np.float16))


def test_an_index_with_features_beside_it_is_read_and_loses_them(
    videos: Path, stock: dict[str, Path], teacher: Checkpoint, decoded: list[str], tmp_path: Path
) -> None:
    gallery, old = tmp_path / "gallery", tmp_path / "old"
    index_folder(videos, gallery, teacher)
    source = teacher.sources.frames.source
    extract_videos(find_videos(videos), gallery / FEATURES, encoder=image_encoder(source), rate=2.0)
    (gallery / FEATURES / "lock").touch()
    _, store = store_of(gallery)
    assert isinstance(store, DiskIndex)
    # One of them was not embedded yet when the older program was killed.
    store.delete(["b.mp4"])
    store.close()
    shutil.copytree(gallery, old)
    shutil.copy2(stock["white"], videos / "d.mp4")
    decoded.clear()
    done = index_folder(videos, gallery, teacher)
    assert (done.added, done.kept) == (("b.mp4", "d.mp4"), ("a.mp4", "deep/c.mp4"))
    assert decoded == ["d.mp4"]
    assert not (gallery / FEATURES).exists()
    assert {id: shows(entry) for id, entry in entries(gallery).items()}["b.mp4"] == "green"
    assert len(open_index(old).search("a red picture")) == 2


@pytest.mark.thorough
def test_several_processes_give_the_same_index_to_the_bit(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    (videos / "bad.mp4").write_text("no video")
    for parts in ("frames", "clips"):
        checkpoint = zero_shot(teacher.sources.frames.source, rate=2.0, parts=parts)
        one = index_folder(videos, tmp_path / parts / "one", checkpoint)
        two = index_folder(videos, tmp_path / parts / "two", checkpoint, workers=2)
        assert one == two
        assert list(two.problems) == ["bad.mp4"]
        expected, made = (entries(tmp_path / parts / which) for which in ("one", "two"))
        assert made.keys() == expected.keys()
        assert all(is_same(made[id], expected[id], "float16") for id in expected)
        assert index_folder(videos, tmp_path / parts / "two", checkpoint, workers=2).kept == two.added


@pytest.mark.thorough
def test_rows_that_cannot_be_stored_stop_only_their_video(
    videos: Path, teacher: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def sick(self: ThisProcess, jobs: list[Job], *, sampling: FrameSampling) -> Iterator[Outcome]:
        for outcome in encode(self, jobs, sampling=sampling):
            if outcome.id == "b.mp4" and isinstance(outcome, Encoded):
                outcome.rows[0, 0] = value
            yield outcome

    encode = ThisProcess.encode
    monkeypatch.setattr(ThisProcess, "encode", sick)
    for parts, value in (("frames", np.nan), ("clips", np.inf), ("clips", np.nan), ("frames", 1e6)):
        checkpoint = zero_shot(teacher.sources.frames.source, rate=2.0, parts=parts)
        gallery = tmp_path / f"{parts}-{value}"
        done = index_folder(videos, gallery, checkpoint)
        assert (done.added, list(done.problems)) == (("a.mp4", "deep/c.mp4"), ["b.mp4"])
        assert "NaN" in done.problems["b.mp4"]
        assert set(entries(gallery)) == {"a.mp4", "deep/c.mp4"}
        # One that was in the index before is no longer of its file.
        value = 0.5
        assert index_folder(videos, gallery, checkpoint).added == ("b.mp4",)


def test_broken_files_stop_nothing_and_go_when_they_break(
    videos: Path, stock: dict[str, Path], teacher: Checkpoint, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    index_folder(videos, gallery, teacher)
    (videos / "a.mp4").write_text("no video any more")
    whole = stock["green"].read_bytes()
    (videos / "b.mp4").write_bytes(whole[: len(whole) // 3])
    (videos / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    for _ in range(2):
        done = index_folder(videos, gallery, teacher)
        assert set(done.problems) == {"a.mp4", "b.mp4", "gone.mp4"}
        assert set(entries(gallery)) == {"deep/c.mp4"}


def test_a_folder_that_is_not_there_empties_no_index(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    index_folder(videos, gallery, teacher)
    videos.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no folder"):
        index_folder(videos, gallery, teacher)
    videos.mkdir()
    with pytest.raises(DataError, match="no video"):
        index_folder(videos, gallery, teacher)
    assert len(entries(gallery)) == 3


def test_a_folder_that_was_moved_is_followed_and_another_one_refused(
    videos: Path, stock: dict[str, Path], teacher: Checkpoint, decoded: list[str], tmp_path: Path
) -> None:
    gallery, moved = tmp_path / "gallery", tmp_path / "moved"
    index_folder(videos, gallery, teacher)
    videos.rename(moved)
    decoded.clear()
    assert len(index_folder(moved, gallery, teacher).kept) == 3
    assert decoded == []
    assert open_index(gallery).videos == moved.resolve()
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy2(stock["red"], other / "x.mp4")
    with pytest.raises(SettingError, match=r"is of .*moved, and none of its 3 videos is in .*other"):
        index_folder(other, gallery, teacher)
    assert len(entries(gallery)) == 3


def test_two_who_index_at_once(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    refused = []

    def index_again(note: str, done: float, total: float) -> None:
        with pytest.raises(DataError, match=r"another process is writing to .*gallery"):
            index_folder(videos, tmp_path / "gallery", teacher)
        refused.append(done)

    assert len(index_folder(videos, tmp_path / "gallery", teacher, on_progress=index_again).added) == 3
    assert refused
    assert len(index_folder(videos, tmp_path / "gallery", teacher).kept) == 3


def test_an_index_of_the_older_format(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "index.json").write_text("{}")
    for attempt in (lambda: index_folder(videos, tmp_path / "gallery", teacher), lambda: open_index(tmp_path / "gallery")):
        with pytest.raises(ModelError, match=r"format 1, which this prvr no longer reads; delete .*gallery and index again"):
            attempt()


# Fields of one's own


def test_fields_of_ones_own(videos: Path, teacher: Checkpoint, decoded: list[str], tmp_path: Path) -> None:
    gallery, own = tmp_path / "gallery", videos / "videos.jsonl"
    own.write_text('{"video": "a.mp4", "camera": "north"}\n\n{"video": "deep/c.mp4", "camera": "south", "tags": ["x"]}\n')
    index_folder(videos, gallery, teacher)
    search = open_index(gallery)
    assert [hit.video for hit in search.search("red", where=["camera=north"])] == ["a.mp4"]
    assert [hit.video for hit in search.search("red", where=["folder=deep", "tags=x"])] == ["deep/c.mp4"]
    assert {hit.video for hit in search.search("red", where=["duration<3"])} == {"a.mp4", "b.mp4", "deep/c.mp4"}
    decoded.clear()
    own.write_text('{"video": "b.mp4", "camera": "west"}\n{"video": "typo.mp4", "camera": "north"}\n')
    done = index_folder(videos, gallery, teacher)
    assert (done.added, decoded) == ((), [])
    assert list(done.problems) == ["videos.jsonl, line 2"]
    # The same reader sees it.
    assert [hit.video for hit in search.search("red", where=["camera=west"])] == ["b.mp4"]
    with pytest.raises(SettingError, match="no video has a field 'tags'"):
        search.search("red", where=["tags=x"])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object with a"),
        ('{"camera": "north"}', "is not a JSON object with a"),
        ('{"video": 3}', "video is 3"),
        ('{"video": "a.mp4", "deep": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        ('{"video": "a.mp4", "camera": "\\ud800"}', "half a character"),
        ('{"video": "a.mp4", "duration": 3}', "the index itself has a field 'duration'"),
    ],
)
def test_fields_that_are_wrong(line: str, told: str, videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    (videos / "videos.jsonl").write_text(f'{{"video": "a.mp4"}}\n{line}\n')
    with pytest.raises(DataError, match=rf"videos\.jsonl, line 2.*{told}"):
        index_folder(videos, tmp_path / "gallery", teacher)


def test_a_line_ends_where_a_line_feed_is(videos: Path) -> None:
    (videos / "videos.jsonl").write_text('{"video": "a.mp4", "note": "one\u2028two\x85three"}\r\n', encoding="utf-8", newline="")
    assert read_video_fields(videos, ["a.mp4"]) == ({"a.mp4": {"note": "one\u2028two\x85three"}}, {})


@pytest.mark.parametrize(
    ("kind", "said"), [("pipe", "not a file"), ("folder", "is a folder, not a file"), ("device", "not a file")]
)
def test_fields_that_cannot_be_read(videos: Path, kind: str, said: str) -> None:
    path = videos / "videos.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=rf"videos\.jsonl .*{said}"):
        read_video_fields(videos, ["a.mp4"])


# Watching


class Enough(Exception):
    """What ends a watch that a test has seen enough of."""


@pytest.fixture
def watched(
    videos: Path, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[int, Indexing]]:
    """What a watch tells, by the look at which it does, where something is done to the folder after each look."""

    def watch(*between: Callable[[], object]) -> dict[int, Indexing]:
        done, told, steps = [0], {}, iter(between)

        def step(seconds: float) -> None:
            done[0] += 1
            next(steps, enough)()

        def enough() -> None:
            raise Enough

        monkeypatch.setattr("prvr.search.watch.time", SimpleNamespace(sleep=step))
        with suppress(Enough):
            told.update((done[0] + 1, one) for one in watch_folder(videos, tmp_path / "gallery", teacher))
        return told

    return watch


def nothing() -> None:
    pass


def test_fields_that_are_being_written_are_awaited(
    videos: Path, watched: Callable[..., dict[int, Indexing]], tmp_path: Path
) -> None:
    own = videos / "videos.jsonl"
    own.write_text('{"video": "a.mp4", "camera": "north"}\n')
    told = watched(
        nothing,
        lambda: own.write_text('{"video": "a.mp'),
        lambda: own.write_text('{"video": "a.mp4", "cam'),
        lambda: own.write_text('{"video": "a.mp4", "camera": "south"}\n{"video": "b.mp4"}\n'),
        nothing,
        nothing,
    )
    everything = ("a.mp4", "b.mp4", "deep/c.mp4")
    assert told == {2: Indexing(everything, (), (), {}), 6: Indexing((), everything, (), {})}
    assert entries(tmp_path / "gallery")["a.mp4"].about["camera"] == "south"


def test_fields_that_stay_broken_are_told_once_and_awaited(
    videos: Path, stock: dict[str, Path], watched: Callable[..., dict[int, Indexing]], tmp_path: Path
) -> None:
    own = videos / "videos.jsonl"
    own.write_text('{"video": "a.mp4", "camera": "north"}\n')
    told = watched(
        nothing,
        lambda: (own.write_text('{"video": "a.mp4"\n'), shutil.copy2(stock["white"], videos / "d.mp4")),
        nothing,
        nothing,
        lambda: shutil.copy2(stock["black"], videos / "e.mp4"),
        nothing,
        lambda: own.write_text('{"video": "a.mp4", "camera": "south"}\n'),
        nothing,
        nothing,
    )
    everything = ("a.mp4", "b.mp4", "deep/c.mp4")
    assert list(told) == [2, 4, 9]
    assert told[4] == Indexing((), everything, (), {"videos.jsonl": told[4].problems["videos.jsonl"]})
    assert re.fullmatch(r".*, line 1 is not JSON .*; until then the index stays as it is", told[4].problems["videos.jsonl"])
    assert told[9] == Indexing(("d.mp4", "e.mp4"), everything, (), {})
    assert entries(tmp_path / "gallery")["a.mp4"].about["camera"] == "south"


def test_fields_that_are_written_at_the_moment_of_an_update(
    videos: Path, watched: Callable[..., dict[int, Indexing]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, real, torn = videos / "videos.jsonl", Indexer.update, ['{"video": "a.mp']

    def update(self: Indexer, **told: Any) -> Indexing:
        if torn:
            own.write_text(torn.pop())
        return real(self, **told)

    monkeypatch.setattr(Indexer, "update", update)
    told = watched(nothing, lambda: own.write_text("\n"), nothing, nothing)
    assert {look: done.problems for look, done in told.items()} == {4: {}}

    def full(self: Indexer, **told: Any) -> Indexing:
        raise DataError("the disk is full")

    monkeypatch.setattr(Indexer, "update", full)
    with pytest.raises(DataError, match="the disk is full"):
        watched(nothing, nothing)


def test_a_rename_in_a_watched_folder_costs_nothing_and_is_never_out_of_the_index(
    videos: Path, watched: Callable[..., dict[int, Indexing]], decoded: list[str], tmp_path: Path
) -> None:
    seen = []

    def look() -> None:
        seen.append({"a.mp4", "deep/z.mp4"} & set(entries(tmp_path / "gallery")))

    told = watched(
        nothing,
        lambda: (decoded.clear(), (videos / "a.mp4").rename(videos / "deep" / "z.mp4")),
        look,
        look,
        lambda: (look(), (videos / "b.mp4").unlink()),
        nothing,
    )
    assert decoded == []
    assert seen == [{"a.mp4"}, {"deep/z.mp4"}, {"deep/z.mp4"}]
    assert told[4] == Indexing(("deep/z.mp4",), ("b.mp4", "deep/c.mp4"), ("a.mp4",), {})
    assert told[6].dropped == ("b.mp4",)


def test_a_watched_folder_is_followed(
    videos: Path, stock: dict[str, Path], teacher: Checkpoint, decoded: list[str], tmp_path: Path
) -> None:
    rounds = watch_folder(videos, tmp_path / "gallery", teacher, every=0.05)
    assert next(rounds).added == ("a.mp4", "b.mp4", "deep/c.mp4")
    decoded.clear()
    (videos / "a.mp4").unlink()

    def write_slowly() -> None:
        whole = stock["white"].read_bytes()
        with open(videos / "new.mp4", "wb", buffering=0) as file:
            for start in range(0, len(whole), len(whole) // 8 + 1):
                file.write(whole[start : start + len(whole) // 8 + 1])
                time.sleep(0.04)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    added, dropped, problems = [], [], {}
    while "new.mp4" not in added:
        done = next(rounds)
        added += done.added
        dropped += done.dropped
        problems |= done.problems
    writer.join()
    assert (added, dropped, problems) == (["new.mp4"], ["a.mp4"], {})
    # A file that grows is let grow.
    assert decoded == ["new.mp4"]
    rounds.close()
    assert shows(entries(tmp_path / "gallery")["new.mp4"]) == "white"


# Elsewhere


def test_a_copy_is_the_same_and_is_brought_up_to_date(
    videos: Path, stock: dict[str, Path], teacher: Checkpoint, tmp_path: Path
) -> None:
    gallery, copy = tmp_path / "gallery", tmp_path / "copy"
    index_folder(videos, gallery, teacher)
    done = copy_index(gallery, copy)
    assert (done.written, done.kept, done.dropped) == (("a.mp4", "b.mp4", "deep/c.mp4"), (), ())
    assert open_index(copy).search("a red picture") == open_index(gallery).search("a red picture")
    shutil.copy2(stock["white"], videos / "b.mp4")
    (videos / "a.mp4").unlink()
    index_folder(videos, gallery, teacher)
    done = copy_index(gallery, copy)
    assert (done.written, done.kept, done.dropped) == (("b.mp4",), ("deep/c.mp4",), ("a.mp4",))
    assert open_index(copy).search("a red picture") == open_index(gallery).search("a red picture")


def test_what_cannot_be_copied(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    index_folder(videos, gallery, teacher)
    with pytest.raises(SettingError, match="to itself"):
        copy_index(gallery, tmp_path / "videos" / ".." / "gallery")
    with pytest.raises(ModelError, match="no index in"):
        copy_index(tmp_path / "none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(SettingError, match="no index is known by carrier://"):
        copy_index(gallery, "carrier://pigeon/gallery")
    with pytest.raises(SettingError, match="no index is known by carrier://"):
        open_index("carrier://pigeon/gallery")
    with pytest.raises(ModelError, match=r"does not hold its model; .* --model RUN"):
        open_index("qdrant://pigeon/gallery")
    other = tmp_path / "other"
    index_folder(videos, other, zero_shot(teacher.sources.frames.source, rate=1.0))
    with pytest.raises(ModelError, match="was built with checkpoint"):
        copy_index(gallery, other)


def test_the_index_of_a_folder_is_found_by_the_folder(videos: Path, teacher: Checkpoint) -> None:
    index_folder(videos, videos / ".prvr", teacher)
    assert len(open_index(videos).search("red", k=9)) == 3
    # It is no folder of videos.
    assert index_folder(videos, videos / ".prvr", teacher).kept == ("a.mp4", "b.mp4", "deep/c.mp4")


def test_damage_is_found_taken_out_and_mended(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    import sqlite3

    gallery = tmp_path / "gallery"
    index_folder(videos, gallery, teacher)
    (tmp_path / "queries.txt").write_text("a red picture\n\nsomething blue\n")
    assert verify_index(gallery, queries=tmp_path / "queries.txt").recall.search == 1.0
    with sqlite3.connect(gallery / FILE) as file, file.blobopen("rows", "data", 2) as blob:
        blob.write(b"\x99" * 8)
    file.close()
    found = verify_index(gallery, queries=tmp_path / "queries.txt")
    assert (found.videos, len(found.faults), found.dropped, found.recall) == (3, 1, (), None)
    found = verify_index(gallery, queries=tmp_path / "queries.txt", drop=True)
    assert len(found.dropped) == 1
    assert found.recall.queries == 2
    assert index_folder(videos, gallery, teacher).added == found.dropped
    assert verify_index(gallery).faults == {}
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no queries"):
        verify_index(gallery, queries=tmp_path / "empty.txt")


def test_a_checkpoint_of_its_own_is_all_that_an_index_needs(videos: Path, teacher: Checkpoint, tmp_path: Path) -> None:
    index_folder(videos, tmp_path / "gallery", teacher)
    own = checkpoints.load(tmp_path / "gallery" / "model")
    assert index_folder(videos, tmp_path / "gallery", own).kept == ("a.mp4", "b.mp4", "deep/c.mp4")
    described: dict[str, Any] = open_index(tmp_path / "gallery").search("red", k=1)[0].as_dict(curve=True)
    assert json.loads(json.dumps(described)) == {**described, "curve": [*described["curve"]], "edges": [*described["edges"]]}
