"""What the service lists: choices, orders, and titles that tell files apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import av
import numpy as np
from serving import Running, make_world, running
from tiny_videos import copy_as_another

from prvr.search import index_folder, zero_shot
from prvr.server.names import alike
from prvr.video import SUFFIXES

# Days since 1970 on which the files were written, by video.
WRITTEN = {"beach.mp4": 20_003, "kitchen.mp4": 20_001, "trips/again.mp4": 20_002, "kitchen.mov": 20_004}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    world = make_world(tmp_path_factory.mktemp("listing"))
    copy_as_another(world.videos / "kitchen.mp4", world.videos / "kitchen.mov")
    for path in world.videos.rglob("*.m*"):
        name = str(path.relative_to(world.videos))
        os.utime(path, (86_400 * WRITTEN.get(name, 20_000),) * 2)
    index_folder(world.videos, world.index, zero_shot(world.encoder))
    with running(world.index) as service:
        yield service


def names(served: Running, **asked: object) -> list[str]:
    return [video["video"] for video in served.client.get("/api/videos", params=asked).json()["videos"]]


def test_facets_are_those_of_all_videos(served: Running) -> None:
    found = served.client.get("/api/facets").json()
    assert found["folders"] == {"trips": 2}
    assert found["dates"] == ["2024-10-04", "2024-10-08"]
    durations = [video["duration"] for video in served.client.get("/api/videos").json()["videos"]]
    assert found["durations"] == pytest.approx([min(durations), max(durations)])


def test_videos_in_each_order_page_by_page(served: Running) -> None:
    by_name = names(served)
    assert by_name == names(served, sort="name") == sorted(by_name)
    assert names(served, sort="newest")[:4] == ["kitchen.mov", "beach.mp4", "trips/again.mp4", "kitchen.mp4"]
    assert names(served, sort="oldest")[-4:] == ["kitchen.mp4", "trips/again.mp4", "beach.mp4", "kitchen.mov"]
    assert names(served, sort="shortest")[0] == names(served, sort="longest")[-1] == "trips/again.mp4"
    paged = [name for offset in range(0, 6, 2) for name in names(served, sort="newest", offset=offset, limit=2)]
    assert paged == names(served, sort="newest")
    assert names(served, sort="newest", where="folder=trips")[0] == "trips/again.mp4"
    assert served.client.get("/api/videos?sort=colour").status_code == 422


def test_a_title_has_its_suffix_where_another_file_would_have_the_same(served: Running) -> None:
    titles = {video["video"]: video["title"] for video in served.client.get("/api/videos").json()["videos"]}
    assert (titles["kitchen.mp4"], titles["kitchen.mov"]) == ("kitchen.mp4", "kitchen.mov")
    assert (titles["beach.mp4"], titles["trips/again.mp4"]) == ("beach", "again")
    hits = served.client.get("/api/search", params={"q": "dog"}).json()["hits"]
    assert {hit["video"]: hit["title"] for hit in hits}.items() <= titles.items()
    one = served.client.get("/api/moments", params={"q": "dog", "video": "kitchen.mp4"}).json()
    assert one["title"] == "kitchen.mp4"
    # The folder tells these two apart already.
    assert alike(["a/my_dog.mp4", "b/my_dog.mp4", "cat.mp4"]) == frozenset()
    assert alike(["a/my_dog.mp4", "b/My dog.mp4", "cat.mp4"]) == {"a/my_dog.mp4", "b/My dog.mp4"}


def test_hits_have_their_dates(served: Running) -> None:
    hits = served.client.get("/api/search", params={"q": "dog"}).json()["hits"]
    assert {hit["video"]: hit["date"] for hit in hits}["beach.mp4"] == "2024-10-07T00:00:00+00:00"


def test_what_can_be_added_is_said(served: Running) -> None:
    about = served.client.get("/api/about").json()
    assert about["suffixes"] == sorted(SUFFIXES)
    assert about["upload_limit"] == served.service.upload_limit


def test_a_file_with_sound_alone_has_no_picture_and_one_that_is_broken_another_answer(served: Running) -> None:
    path = served.service.index.folder / "beach.mp4"
    whole = path.read_bytes()
    write_sound(path)
    answer = served.client.get("/thumbnails/beach.mp4?t=1")
    assert (answer.status_code, "holds no video, only: audio" in answer.json()["error"]) == (415, True)
    path.write_bytes(b"\0" * 1000)
    assert served.client.get("/thumbnails/beach.mp4?t=1").status_code == 404
    path.write_bytes(whole)
    assert served.client.get("/thumbnails/beach.mp4?t=1").status_code == 200


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
