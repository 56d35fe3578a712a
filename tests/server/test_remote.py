"""The service of an index whose videos are in a store: they are copied when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from serving import TOKEN, Running, pictures, running
from tiny_encoders import make_textual, make_visual
from tiny_videos import write_video

from prvr.search import index_folder, zero_shot

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("remote")
    system = fsspec.filesystem("memory")
    for seed, name in enumerate(("a.mp4", "in/b.mp4")):
        system.pipe_file(f"/served/{name}", write_video(root / "a.mp4", pictures(seed)).read_bytes())
    make_textual(make_visual(root / "tiny", size=[8, 12]))
    index_folder("memory://served", root / "gallery", zero_shot(root / "tiny"))
    with running(root / "gallery", token=TOKEN) as service:
        yield service
    system.rm("/served", recursive=True)


def test_videos_are_played_shown_and_cut(service: Running) -> None:
    whole = fsspec.filesystem("memory").cat_file("/served/in/b.mp4")
    answer = service.client.get("/media/in/b.mp4", headers={"Range": "bytes=100-199"})
    assert (answer.status_code, answer.content) == (206, whole[100:200])
    assert answer.headers["content-type"] == "video/mp4"
    assert service.client.get("/media/in/b.mp4").content == whole
    assert service.client.get("/thumbnails/in/b.mp4", params={"t": 2}).headers["content-type"] == "image/jpeg"
    assert service.client.get("/cuts/in/b.mp4", params={"start": 2, "end": 3}).status_code == 200
    (hit, *_) = service.client.get("/api/search", params={"q": "a dog"}).json()["hits"]
    assert hit["video"] in ("a.mp4", "in/b.mp4")
    # One copy for all of it.
    assert len(list(Path(service.service.index.folder).iterdir())) == 1


def test_what_is_gone_is_one_line_and_nothing_is_written(service: Running) -> None:
    system = fsspec.filesystem("memory")
    data = system.cat_file("/served/a.mp4")
    system.rm("/served/a.mp4")
    answer = service.client.get("/media/a.mp4")
    assert answer.status_code == 503
    assert answer.json()["error"] == "cannot open a.mp4: it is not there; check the URL and the credentials"
    system.pipe_file("/served/a.mp4", data)
    assert service.client.get("/media/none.mp4").status_code == 404
    changed = service.client.put("/api/videos/c.mp4", content=data, headers={"Authorization": f"Bearer {TOKEN}"})
    assert changed.status_code == 403
    assert "in a store" in changed.json()["error"]
