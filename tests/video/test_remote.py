"""Videos below a URL, in stores that need no network: memory, a zip file and the local file system, all through fsspec."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_encoders import make_textual, make_visual
from tiny_videos import colourful, write_video

from prvr.errors import DataError, MissingExtra, NoSpace, PrvrError, SettingError, VideoError, VideoGone
from prvr.extract.folder import extract_folder
from prvr.features.packed import Packed
from prvr.search import index_folder, open_index, verify_index, zero_shot
from prvr.video import RemotePath, find_videos, local_copy, place_of

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    make_visual(folder, size=[8, 12])
    make_textual(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    (folder / "in").mkdir()
    write_video(folder / "a.mp4", colourful())
    write_video(folder / "in" / "b.mkv", colourful(seconds=3))
    (folder / "videos.jsonl").write_text('{"video": "a.mp4", "camera": "north"}\n')
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture
def store(folder: Path) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for path in folder.rglob("*.*"):
        system.pipe_file(f"/bucket/{path.relative_to(folder).as_posix()}", path.read_bytes())
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


@pytest.fixture(params=["memory", "file", "zip"])
def url(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> str:
    if request.param == "memory":
        return str(request.getfixturevalue("store"))
    if request.param == "file":
        return folder.as_uri()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for path in folder.rglob("*.*"):
            packed.write(path, path.relative_to(folder).as_posix())
    return f"zip://::{(tmp_path / 'a.zip').as_uri()}"


def test_features_are_those_of_the_folder(url: str, folder: Path, encoder: Path, tmp_path: Path) -> None:
    extract_folder(folder, tmp_path / "here", encoders=[encoder])
    for _ in range(2):
        done = extract_folder(url, tmp_path / "there", encoders=[encoder])["tiny/frames"]
    assert done.kept == ("a.mp4", "in/b.mkv")
    assert done.problems == {}
    here, there = (Packed(tmp_path / name / "tiny" / "frames") for name in ("here", "there"))
    for video in done.kept:
        assert np.array_equal(here[video], there[video])
        assert here.info(video)["times"] == there.info(video)["times"]
        assert here.info(video)["file"]["sha256"] == there.info(video)["file"]["sha256"]


def test_an_index_follows_its_store(store: str, encoder: Path, tmp_path: Path) -> None:
    system, gallery = fsspec.filesystem("memory"), tmp_path / "gallery"
    model = zero_shot(encoder)
    assert index_folder(store, gallery, model).added == ("a.mp4", "in/b.mkv")
    assert index_folder(store, gallery, model).kept == ("a.mp4", "in/b.mkv")
    hits = open_index(gallery).search("a dog", k=5, where=["camera=north"])
    assert [hit.video for hit in hits] == ["a.mp4"]
    assert verify_index(gallery).faults == {}
    # Another content, a new name for the old one, and one that is gone.
    system.mv("/bucket/a.mp4", "/bucket/c.mp4")
    system.pipe_file("/bucket/in/b.mkv", system.cat_file("/bucket/c.mp4") + b"more")
    done = index_folder(store, gallery, model)
    assert done.dropped == ("a.mp4",)
    assert set(done.added) == {"c.mp4", "in/b.mkv"}
    with pytest.raises(SettingError, match="texts of videos are read from files of this machine"):
        index_folder(store, gallery, model, texts={"speech": "tiny"})


def test_a_reading_that_breaks_off_costs_one_video(
    store: str, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = type(fsspec.filesystem("memory"))
    whole = system.get_file

    def cut(self: object, path: str, target: str, **options: object) -> None:
        whole(self, path, target, **options)
        if path.endswith("a.mp4"):
            Path(target).write_bytes(Path(target).read_bytes()[:1000])

    with monkeypatch.context() as patch:
        patch.setattr(system, "get_file", cut)
        done = extract_folder(store, tmp_path / "f", encoders=[encoder])["tiny/frames"]
    assert done.done == ("in/b.mkv",)
    assert done.problems["a.mp4"].startswith("memory://bucket/a.mp4 broke off after 1000 of ")
    assert extract_folder(store, tmp_path / "f", encoders=[encoder])["tiny/frames"].done == ("a.mp4",)


def test_what_a_store_does_not_give_now_stays_known(
    store: str, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, gallery, model = fsspec.filesystem("memory"), tmp_path / "gallery", zero_shot(encoder)
    index_folder(store, gallery, model)
    # The same file, written again: its stamp says that it may have changed.
    system.pipe_file("/bucket/a.mp4", system.cat_file("/bucket/a.mp4") + b"more")

    def refuse(self: object, path: str, target: str, **options: object) -> None:
        raise OSError("the network is away: https://host/a.mp4?X-Amz-Signature=secret is refused")

    with monkeypatch.context() as patch:
        patch.setattr(type(system), "get_file", refuse)
        done = index_folder(store, gallery, model)
    assert (done.dropped, set(done.kept)) == ((), {"a.mp4", "in/b.mkv"})
    assert "https://host/a.mp4?... is refused" in done.problems["a.mp4"]
    assert open_index(gallery).index.count() == 2
    assert index_folder(store, gallery, model).added == ("a.mp4",)


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = type(fsspec.filesystem("file"))
    listed = local.ls

    def ls(self: object, path: str, *given: object, **options: object) -> object:
        if path.rstrip("/").endswith("/in"):
            raise OSError("timed out")
        return listed(self, path, *given, **options)

    monkeypatch.setattr(local, "ls", ls)
    with pytest.raises(DataError, match=r"cannot list file:///.*timed out"):
        find_videos(place_of(folder.as_uri()))


@pytest.mark.parametrize("name", ["what?.mp4", "me@home.mp4", "a\\d.mp4", f"{'long' * 70}.mp4"])
def test_names_that_only_stores_have_cost_nothing(name: str, store: str, encoder: Path, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.pipe_file(f"/bucket/{name}", b"no video at all")
    done = extract_folder(store, tmp_path / "f", encoders=[encoder])["tiny/frames"]
    assert done.done == ("a.mp4", "in/b.mkv")
    assert name in done.problems[name]
    assert "/tmp" not in done.problems[name]


@pytest.mark.parametrize(
    ("listed", "seconds"),
    [
        ({"mtime": 5.5}, 5.5),
        ({"modificationTime": 1_700_000_000_500}, 1_700_000_000.5),
        ({"date_time": (1980, 1, 2, 0, 0, 0)}, 315_619_200),
        ({"LastModified": "Thu, 01 Jan 1970 00:00:09 GMT"}, 9),
        ({"modify": "20240102"}, 0),
        ({}, 0),
    ],
)
def test_the_time_of_a_file_in_the_words_of_its_store(listed: dict[str, object], seconds: float) -> None:
    path = RemotePath("memory://bucket/a.mp4", {"size": 3, **listed})
    assert path.stamp(fresh=False) == {"size": 3, "mtime_ns": round(seconds * 1e9)}


def test_a_damaged_video_is_named_by_its_url(store: str, encoder: Path, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/a.mp4", b"no video at all")
    problems = extract_folder(store, tmp_path / "f", encoders=[encoder])["tiny/frames"].problems
    assert problems["a.mp4"].startswith("memory://bucket/a.mp4 is ") or "cannot read memory://bucket/a.mp4" in problems["a.mp4"]
    assert "/tmp" not in problems["a.mp4"]


@pytest.mark.parametrize(
    ("url", "kind", "line"),
    [
        ("s33://bucket/videos", SettingError, "unknown protocol 's33' in s33://bucket/videos; did you mean 's3'?"),
        ("memory://none", DataError, "no files below memory://none; check the URL"),
        ("zip://::file:///none/a.zip", DataError, "cannot "),
        ("https://me:secret@host/videos", SettingError, "this https:// URL holds credentials"),
        ("https://host/videos?X-Amz-Signature=secret", SettingError, "this https:// URL holds credentials"),
        ("s3://KEY:sec/secret@bucket", SettingError, "this s3:// URL holds credentials"),
    ],
)
def test_what_is_wrong_with_a_url_is_one_line_without_secrets(url: str, kind: type[PrvrError], line: str) -> None:
    with pytest.raises(kind) as problem:
        find_videos(place_of(url))
    assert str(problem.value).startswith(line)
    assert "secret" not in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_store_whose_package_is_missing_names_the_install() -> None:
    with pytest.raises(MissingExtra, match=r"s3:// needs a package .*pip install 'prvr\[storage\]'"):
        find_videos(RemotePath("s3://bucket/videos"))


def test_the_root_of_a_store_stays_one() -> None:
    assert [str(place_of(url)) for url in ("file:///", "file:///a/", "memory://", "http://host:80/me@home/")] == [
        "file:///",
        "file:///a",
        "memory://",
        "http://host:80/me@home",
    ]


def test_a_file_that_is_gone_is_one_line(store: str) -> None:
    with (
        pytest.raises(VideoGone, match=r"cannot open memory://bucket/z.mp4: it is not there"),
        local_copy(RemotePath(f"{store}/z.mp4")),
    ):
        pass


def test_a_file_larger_than_the_disk_costs_itself_alone(
    store: str, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {path: fsspec.filesystem("memory").size(f"/bucket/{path}") for path in ("a.mp4", "in/b.mkv")}
    smaller, larger = sorted(sizes, key=lambda name: sizes[name])
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=sizes[smaller]))
        done = extract_folder(store, tmp_path / "f", encoders=[encoder])["tiny/frames"]
    assert done.done == (smaller,)
    said = f"it has {sizes[larger]} bytes, {sizes[smaller]} are free; make room, or set TMPDIR to a folder of another disk"
    assert done.problems[larger].endswith(said)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "get_file", full)
    with pytest.raises(NoSpace, match="no space for a copy of"), local_copy(RemotePath(f"{store}/a.mp4")):
        pass


def test_the_next_run_removes_copies_of_processes_that_were_killed(
    store: str, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_folder(store, tmp_path / "f", encoders=[encoder])
    temporary = tmp_path / "tmp"
    (temporary / "prvr-copy-of-mine").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    code = f"""
import sys
from pathlib import Path
from prvr.files import owned_folder
with owned_folder(Path({str(temporary)!r})) as folder:
    (folder / "remote-video.mp4").write_bytes(b"half")
    print(folder.name, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        copy = temporary / killed.stdout.readline().strip()
        with local_copy(RemotePath(f"{store}/a.mp4")) as there:
            assert there.is_file()
            assert (copy / "remote-video.mp4").exists()
        killed.kill()
    # Nothing is new: nothing is copied.
    assert extract_folder(store, tmp_path / "f", encoders=[encoder])["tiny/frames"].kept == ("a.mp4", "in/b.mkv")
    assert [path.name for path in temporary.iterdir()] == ["prvr-copy-of-mine"]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A web server that lists a folder."""
    serve = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_web_server_that_is_away_is_no_file_that_is_gone(folder: Path, encoder: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with serving(folder) as url:
        done = extract_folder(f"{url}/", tmp_path / "f", encoders=[encoder])["tiny/frames"]
        assert (done.done, done.problems) == (("a.mp4", "in/b.mkv"), {})
        with pytest.raises(VideoGone, match="it is not there"):
            RemotePath(f"{url}/z.mp4").stamp()
    with pytest.raises(VideoError, match="cannot open") as problem:
        RemotePath(f"{url}/z.mp4").stamp()
    assert not isinstance(problem.value, VideoGone)
    assert "it is not there" not in str(problem.value)
