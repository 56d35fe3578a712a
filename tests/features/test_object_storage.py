"""Packed features in a store, which is in memory here, and a folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import Prvr

from prvr.errors import DataError, NoSpace, PrvrError, SettingError, VideoError
from prvr.features.object_storage import download_features, require_folder, upload_features
from prvr.features.packed import HEADER, ITEMS, ROWS, Packed, PackedWriter
from prvr.features.shelf import open_shelf
from prvr.files import lock_for_writing

fsspec = pytest.importorskip("fsspec")
NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    for kind, factor in (("frames", 1), ("sentences", 2)):
        with PackedWriter(tmp_path / "features" / "tiny" / kind, columns=4, about={"kind": kind}) as writer:
            writer.append("a.mp4", factor * NUMBERS)
    return tmp_path / "features"


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield "memory://features" if request.param == "memory" else (tmp_path / "store").as_uri()
    fsspec.filesystem("memory").store.clear()


def silent(note: str, done: int, total: int) -> None:
    assert 0 <= done <= total


def objects(url: str) -> list[str]:
    system, path = fsspec.core.url_to_fs(url)
    return sorted(Path(name).name for name in system.find(path))


def test_there_and_back(features: Path, url: str, tmp_path: Path, prvr: Prvr) -> None:
    assert prvr("data", "upload", features, url).out == f"{url}: 6 files\n"
    assert prvr("data", "download", url, tmp_path / "back").out == f"{tmp_path}/back: 6 files\n"
    for kind, factor in (("frames", 1), ("sentences", 2)):
        back = Packed(tmp_path / "back" / "tiny" / kind)
        assert np.array_equal(back["a.mp4"], factor * NUMBERS)
        assert back.about == {"kind": kind}
    with pytest.raises(DataError, match="is there already"):
        download_features(url, tmp_path / "back", silent)
    # What has changed takes the place of what was there, which nobody names any more.
    before = objects(url)
    with PackedWriter(features / "tiny" / "frames", columns=4, about={"kind": "frames"}) as writer:
        writer.append("b.mp4", NUMBERS)
    upload_features(features, url, silent)
    assert len(objects(url)) == len(before)
    assert download_features(url, tmp_path / "new", silent) == 6
    assert [*Packed(tmp_path / "new" / "tiny" / "frames")] == ["a.mp4", "b.mp4"]


def test_what_was_not_copied_to_the_end_is_not_taken_for_whole(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, system = "memory://half", type(fsspec.filesystem("memory"))
    real, written = system.put_file, []

    def put(self: object, source: str, target: str, **options: object) -> None:
        if len(written) == 2:
            raise OSError("the network is away")
        written.append(source)
        real(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(system, "put_file", put)
        with pytest.raises(DataError, match=r"cannot write memory://half/objects/.*the network is away; .* run again"):
            upload_features(features, url, silent)
    with pytest.raises(DataError, match="no features in memory://half, or not all of them"):
        download_features(url, tmp_path / "back", silent)
    with monkeypatch.context() as patch:
        patch.setattr(system, "put_file", lambda self, source, target, **_: (written.append(source), real(self, source, target)))
        upload_features(features, url, silent)
    # Those that are there are not written again.
    assert len(written) == len(set(written)) == 6
    # And back: what arrived is not read again.
    read: list[str] = []
    get = system.get_file

    def broken(self: object, source: str, target: str, **options: object) -> None:
        if len(read) == 2:
            raise OSError("the network is away")
        read.append(source)
        get(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(system, "get_file", broken)
        with pytest.raises(VideoError, match="the network is away"):
            download_features(url, tmp_path / "back", silent)
        assert not (tmp_path / "back").exists()
    monkeypatch.setattr(system, "get_file", lambda self, source, target, **_: (read.append(source), get(self, source, target)))
    download_features(url, tmp_path / "back", silent)
    assert len(read) == len(set(read)) == 6
    fsspec.filesystem("memory").store.clear()


def test_damage_and_a_full_disk(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, system = "memory://store", fsspec.filesystem("memory")
    upload_features(features, url, silent)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
        with pytest.raises(NoSpace, match=r"no space for memory://store in .*: \d+ bytes are needed, 10 are free"):
            download_features(url, tmp_path / "back", silent)
    content = hashlib.sha256((features / "tiny" / "frames" / "rows.bin").read_bytes()).hexdigest()
    system.pipe_file(f"/store/objects/{content}", bytes(48))
    damaged = rf"tiny/frames/rows.bin in memory://store is not what was written; delete memory://store/objects/{content} and copy"
    with pytest.raises(DataError, match=damaged):
        download_features(url, tmp_path / "back", silent)
    # What the line says is what helps.
    system.rm(f"/store/objects/{content}")
    missing = r"tiny/frames/rows.bin is no longer in memory://store; run again, and if it is still missing, copy it there again"
    with pytest.raises(DataError, match=missing):
        download_features(url, tmp_path / "back", silent)
    upload_features(features, url, silent)
    download_features(url, tmp_path / "back", silent)
    for name in ("../rows.bin", "/etc/rows.bin", "a/../../rows.bin", "tiny/frames/evil.py", "C:/rows.bin", ""):
        manifest = {"format": 1, "files": {name: {"sha256": content, "size": 48}}}
        system.pipe_file("/store/prvr-features.json", json.dumps(manifest).encode())
        with pytest.raises(DataError, match=r"prvr-features.json is damaged"):
            download_features(url, tmp_path / "other", silent)
    for text, line in (
        ("[]", "is damaged"),
        ('{"format": 1, "files": {}}', "no features in memory://store, or not all of them"),
        ('{"format": 2, "files": {}}', "has format 2, and this prvr reads format 1; install a later one"),
    ):
        system.pipe_file("/store/prvr-features.json", text.encode())
        with pytest.raises(DataError, match=line):
            download_features(url, tmp_path / "other", silent)
    assert not (tmp_path / "other").exists()
    system.store.clear()


@pytest.mark.parametrize(
    "command",
    [
        ["extract", "videos", "URL", "--encoder", "x"],
        ["data", "convert", "videos", "URL"],
        ["train", "videos", "URL", "run", "--words", "x", "--teacher", "x"],
    ],
)
def test_features_at_a_url_are_refused_with_what_to_do(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prvr: Prvr
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    answer = prvr(*(part.replace("URL", "s3://bucket/features") for part in command))
    assert answer.status == 1
    assert "is the URL of a store" in answer.err
    assert "prvr data upload FEATURES URL, prvr data download URL FEATURES" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_what_is_no_store_or_no_features(features: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    wrong: list[tuple[type[PrvrError], object]] = [
        (SettingError, lambda: upload_features(features, str(tmp_path), silent)),
        (DataError, lambda: upload_features(tmp_path / "empty", "memory://a", silent)),
        (SettingError, lambda: open_shelf("gs://bucket/features")),
    ]
    for kind, call in wrong:
        with pytest.raises(kind):
            call()  # type: ignore[operator]
    require_folder(Path("a:b/c"))
    require_folder("C:/features")


def test_files_of_others_are_never_deleted(features: Path, url: str) -> None:
    system, path = fsspec.core.url_to_fs(url)
    others = ["notes.txt", "0" * 64]
    for name in others:
        system.makedirs(f"{path}/objects", exist_ok=True)
        system.pipe_file(f"{path}/objects/{name}", b"mine")
    upload_features(features, url, silent)
    # Nor because of a list that is damaged.
    (manifest,) = (name for name in system.find(path) if name.endswith(".json"))
    listed = system.cat_file(manifest)
    for text in (listed, b"[]"):
        system.pipe_file(manifest, text)
        upload_features(features, url, silent)
        assert {*others} <= {*objects(url)}


def test_what_an_earlier_copy_left_is_no_part_of_the_features(features: Path, url: str, tmp_path: Path) -> None:
    upload_features(features, url, silent)
    for name in (f"other/frames/{HEADER}", "tiny/frames/old.bin", f"tiny/words/{ROWS}", "tiny/sentences"):
        left = tmp_path / "back.part" / name
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"left")
    assert download_features(url, tmp_path / "back", silent) == 6
    kinds = [f"tiny/{kind}" for kind in ("frames", "sentences")]
    names = sorted(["tiny", *kinds, *(f"{kind}/{name}" for kind in kinds for name in (HEADER, ROWS, ITEMS))])
    assert sorted(path.relative_to(tmp_path / "back").as_posix() for path in (tmp_path / "back").rglob("*")) == names


def test_one_download_at_a_time_into_a_folder(features: Path, tmp_path: Path) -> None:
    upload_features(features, "memory://store", silent)
    lock = lock_for_writing(tmp_path / "back")
    with pytest.raises(DataError, match=r"another process is writing to .*back; wait for it to end"):
        download_features("memory://store", tmp_path / "back", silent)
    lock.release()
    fsspec.filesystem("memory").store.clear()


def test_what_another_upload_deleted_meanwhile_is_written_again(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, system = "memory://store", fsspec.filesystem("memory")
    upload_features(features, url, silent)
    with PackedWriter(features / "tiny" / "frames", columns=4, about={"kind": "frames"}) as writer:
        writer.append("b.mp4", NUMBERS)
    kept = hashlib.sha256((features / "tiny" / "sentences" / ROWS).read_bytes()).hexdigest()
    real = type(system).put_file

    def put(self: Any, source: str, target: str, **options: Any) -> None:
        real(self, source, target, **options)
        if system.exists(f"/store/objects/{kept}") and kept not in target:
            system.rm(f"/store/objects/{kept}")

    monkeypatch.setattr(type(system), "put_file", put)
    upload_features(features, url, silent)
    assert download_features(url, tmp_path / "back", silent) == 6
    system.store.clear()


def test_the_folder_of_the_call_is_copied(features: Path, url: str, monkeypatch: pytest.MonkeyPatch, prvr: Prvr) -> None:
    monkeypatch.chdir(features / "tiny" / "frames")
    assert prvr("data", "upload", ".", url) == (0, f"{url}: 3 files\n", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["a:b", "a\\b"])
def test_a_name_that_no_download_takes_is_refused_before_anything_is_copied(features: Path, name: str) -> None:
    (features / "tiny").rename(features / name)
    with pytest.raises(DataError, match=rf"{re.escape(name)}.*: or a backslash.* rename"):
        upload_features(features, "memory://store", silent)
    assert objects("memory://store") == []


def test_features_that_only_others_may_write_are_copied(features: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("prvr.features.object_storage.lock_for_writing", refuse)
    assert upload_features(features, url, silent) == 6
