"""Files that are renamed, moved, copied, linked, or named in another way: content decides, and nothing is decoded twice."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_encoders import make_textual, make_visual
from tiny_videos import SECONDS, plain, write_video

from prvr.datasets.folder import load as load_folder
from prvr.errors import DataError
from prvr.extract.folder import extract_folder
from prvr.features.compaction import compact
from prvr.features.packed import Packed
from prvr.index.contract import Entry
from prvr.index.disk import DiskIndex
from prvr.methods.checkpoint import Checkpoint
from prvr.search import Indexing, index_folder, open_index, zero_shot
from prvr.search.opening import store_of
from prvr.video import VideoReader, find_videos


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_textual(make_visual(tmp_path_factory.mktemp("encoder") / "tiny", size=[8, 12]))


@pytest.fixture(scope="module", params=["frames", "clips"])
def teacher(encoder: Path, request: pytest.FixtureRequest) -> Checkpoint:
    """One whose rows are kept as they are, and one with a cache of features."""
    return zero_shot(encoder, rate=2.0, parts=request.param)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    for name, colour in (("a.mp4", "red"), ("b.mp4", "green"), ("deep/c.mp4", "blue")):
        write_video(folder / name, [(100 * n, plain(colour)) for n in range(20 + 5 * SECONDS.index(colour))])
    return folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    real = VideoReader.__iter__

    def counted(self: VideoReader) -> Iterator[tuple[float, np.ndarray]]:
        seen.append(self.path.name)
        return real(self)

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    return seen


def entries(gallery: Path) -> dict[str, Entry]:
    _, store = store_of(gallery)
    assert store.verify() == {}
    there = store.fetch(store.ids)
    store.close()
    return there


def same(ours: Entry, theirs: Entry) -> bool:
    return ours.edges == theirs.edges and np.array_equal(ours.fields[0], theirs.fields[0])


def test_a_rename_a_move_and_a_swap_decode_nothing(videos: Path, teacher: Checkpoint, decoded: list[str], tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    index_folder(videos, gallery, teacher)
    before = entries(gallery)
    decoded.clear()
    (videos / "a.mp4").rename(videos / "deep" / "new.mp4")
    assert index_folder(videos, gallery, teacher) == Indexing(("deep/new.mp4",), ("b.mp4", "deep/c.mp4"), ("a.mp4",), {})
    (videos / "b.mp4").rename(videos / "x")
    (videos / "deep/c.mp4").rename(videos / "b.mp4")
    (videos / "x").rename(videos / "deep/c.mp4")
    assert index_folder(videos, gallery, teacher) == Indexing(("b.mp4", "deep/c.mp4"), ("deep/new.mp4",), (), {})
    after = entries(gallery)
    assert decoded == []
    assert set(after) == {"deep/new.mp4", "b.mp4", "deep/c.mp4"}
    for new, old in (("deep/new.mp4", "a.mp4"), ("b.mp4", "deep/c.mp4"), ("deep/c.mp4", "b.mp4")):
        assert same(after[new], before[old])
        assert "copies" not in after[new].about
    assert index_folder(videos, gallery, teacher).added == ()


def test_a_renamed_video_is_there_at_every_moment(
    videos: Path, teacher: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    index_folder(videos, gallery, teacher)
    reader = DiskIndex(gallery, teacher.model)
    (videos / "a.mp4").rename(videos / "z.mp4")
    seen = []
    for name in ("put", "drop"):
        real = getattr(type(reader._database), name)

        def watched(self: object, *args: object, real: object = real, **named: object) -> object:
            result = real(self, *args, **named)  # type: ignore[operator]
            seen.append({"a.mp4", "z.mp4"} & set(reader.ids))
            return result

        monkeypatch.setattr(type(reader._database), name, watched)
    index_folder(videos, gallery, teacher)
    assert {"z.mp4"} & set(reader.ids)
    assert seen
    assert all(seen)


def test_copies_are_encoded_stored_and_shown_once_with_all_their_places(
    videos: Path, teacher: Checkpoint, decoded: list[str], tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    (videos / "trips").mkdir()
    shutil.copy(videos / "a.mp4", videos / "trips" / "again.mp4")
    (videos / "videos.jsonl").write_text(json.dumps({"video": "trips/again.mp4", "camera": "north"}) + "\n")
    assert index_folder(videos, gallery, teacher).added == ("a.mp4", "b.mp4", "deep/c.mp4", "trips/again.mp4")
    assert sorted(decoded) == ["a.mp4", "b.mp4", "c.mp4"]
    decoded.clear()
    hits = {hit.video: hit for hit in open_index(gallery).search("a dog", k=9)}
    assert set(hits) == {"a.mp4", "b.mp4", "deep/c.mp4"}
    assert hits["a.mp4"].copies == ("trips/again.mp4",)
    for condition in ("folder=trips", "camera=north", "copies=trips/again.mp4"):
        assert [hit.video for hit in open_index(gallery).search("a dog", where=[condition])] == ["a.mp4"]
    assert index_folder(videos, gallery, teacher) == Indexing((), ("a.mp4", "b.mp4", "deep/c.mp4", "trips/again.mp4"), (), {})
    # The first one goes: the other one has its rows.
    rows = entries(gallery)["a.mp4"]
    (videos / "a.mp4").unlink()
    assert index_folder(videos, gallery, teacher).dropped == ("a.mp4",)
    assert same(entries(gallery)["trips/again.mp4"], rows)
    assert "copies" not in entries(gallery)["trips/again.mp4"].about
    # A copy that becomes another video leaves the first one alone.
    shutil.copy(videos / "trips/again.mp4", videos / "d.mp4")
    assert index_folder(videos, gallery, teacher).added == ("d.mp4",)
    assert decoded == []
    write_video(videos / "trips/again.mp4", [(100 * n, plain("white")) for n in range(20)])
    assert index_folder(videos, gallery, teacher).added == ("trips/again.mp4",)
    assert decoded == ["again.mp4"]
    after = entries(gallery)
    assert set(after) == {"b.mp4", "d.mp4", "deep/c.mp4", "trips/again.mp4"}
    assert same(after["d.mp4"], rows)
    assert not same(after["trips/again.mp4"], rows)


def test_features_share_rows(videos: Path, encoder: Path, decoded: list[str], tmp_path: Path) -> None:
    extract_folder(videos, tmp_path / "f", encoders=[encoder])
    (header,) = (tmp_path / "f").glob("*/frames/packed.json")
    before = {id: rows.copy() for id, rows in Packed(header.parent).items()}
    decoded.clear()
    size = (header.parent / "rows.bin").stat().st_size
    shutil.copy(videos / "a.mp4", videos / "copy.mp4")
    (videos / "b.mp4").rename(videos / "bb.mp4")
    (done,) = extract_folder(videos, tmp_path / "f", encoders=[encoder]).values()
    assert (done.done, done.dropped) == (("bb.mp4", "copy.mp4"), ("b.mp4",))
    assert decoded == []
    for compacted in (False, True):
        if compacted:
            compact(header.parent)
        features = Packed(header.parent)
        assert (header.parent / "rows.bin").stat().st_size == size
        assert features.dead_rows == 0
        for new, old in (("copy.mp4", "a.mp4"), ("a.mp4", "a.mp4"), ("bb.mp4", "b.mp4"), ("deep/c.mp4", "deep/c.mp4")):
            assert np.array_equal(features[new], before[old])
            assert features.is_sound(new)
    (videos / "a.mp4").unlink()
    extract_folder(videos, tmp_path / "f", encoders=[encoder])
    assert np.array_equal(Packed(header.parent)["copy.mp4"], before["a.mp4"])


def test_a_link_that_leads_out_is_no_video_and_is_named(videos: Path, encoder: Path, tmp_path: Path) -> None:
    secret = shutil.copy(videos / "a.mp4", tmp_path / "secret.mp4")
    (videos / "out.mp4").symlink_to(secret)
    (videos / "in.mp4").symlink_to("b.mp4")
    (videos / "folder").symlink_to(tmp_path)
    done = index_folder(videos, tmp_path / "gallery", zero_shot(encoder))
    assert done.added == ("a.mp4", "b.mp4", "deep/c.mp4", "in.mp4")
    assert list(done.problems) == ["folder", "out.mp4"]
    assert "link to a folder outside" in done.problems["folder"]
    assert "leads out of the folder" in done.problems["out.mp4"]
    (extracted,) = extract_folder(videos, tmp_path / "f", encoders=[encoder]).values()
    assert list(extracted.problems) == ["folder", "out.mp4"]
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "out.mp4").symlink_to(secret)
    with pytest.raises(DataError, match=r"out\.mp4 is a link that leads out of the folder"):
        find_videos(alone)


@pytest.mark.parametrize(("on_disk", "named"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_caption_names_a_video_in_another_normal_form(
    videos: Path, encoder: Path, tmp_path: Path, on_disk: str, named: str
) -> None:
    name = unicodedata.normalize(on_disk, "café.mp4")  # type: ignore[arg-type]
    (videos / "a.mp4").rename(videos / name)
    line = {"video": unicodedata.normalize(named, "café.mp4"), "text": "a dog"}  # type: ignore[arg-type]
    (videos / "captions.jsonl").write_text(json.dumps(line) + "\n")
    assert {caption.video for caption in load_folder(videos, "all").captions} == {name}
    (videos / "videos.jsonl").write_text(json.dumps({"video": line["video"], "camera": "north"}) + "\n")
    assert index_folder(videos, tmp_path / "gallery", zero_shot(encoder)).problems == {}
    assert entries(tmp_path / "gallery")[name].about["camera"] == "north"


def test_names_with_line_feeds_and_escapes_are_videos(videos: Path, encoder: Path, tmp_path: Path) -> None:
    name = "line\nfeed\x1b]0;title\x07.mp4"
    os.rename(videos / "a.mp4", videos / name)
    assert name in index_folder(videos, tmp_path / "gallery", zero_shot(encoder)).added
    assert name in {hit.video for hit in open_index(tmp_path / "gallery").search("a dog")}
