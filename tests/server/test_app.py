"""The service: it says what the index says, and gives nothing away that is not of the index."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import threading
import time
import unicodedata
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urljoin

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from serving import MARKUP, ODD, Running, World, running
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from tiny_videos import COLOURS, colour_of, colourful, write_video
from waiting import until

import prvr
from prvr.index.moments import thin
from prvr.search import index_folder, open_index, zero_shot
from prvr.search.question import Moment, Question
from prvr.server import index_service, reading, run
from prvr.server.app import description, make_app
from prvr.server.names import without_paths
from prvr.server.picture_process import PictureProcess
from prvr.server.request_counts import RequestCounts
from prvr.server.stills import make_picture
from prvr.server.thumbnails import Thumbnails
from prvr.video import VideoReader

QUERY = "a red dog runs on the beach"
ALL = {"beach.mp4", "kitchen.mp4", MARKUP, ODD, "trips/again.mp4"}


# What is asked


def test_a_search_says_what_the_index_says(served: Running, world: World) -> None:
    answer = served.client.get("/api/search", params={"q": QUERY, "k": 3}).json()
    expected = open_index(world.index).search(QUERY, k=3)
    assert [hit["video"] for hit in answer["hits"]] == [hit.video for hit in expected]
    for hit, want in zip(answer["hits"], expected, strict=True):
        assert hit["score"] == pytest.approx(want.score)
        assert (hit["spans"][0]["start"], hit["spans"][0]["end"]) == (want.start, want.end)
        assert hit["curve"] == pytest.approx(want.curve)
        assert hit["edges"] == pytest.approx(want.edges)
        best = int(np.argmax(want.curve))
        assert hit["peak"] == pytest.approx((want.edges[best] + want.edges[best + 1]) / 2) == want.peak
        assert hit["contributions"] == {"teacher": pytest.approx(want.score)}
    assert 0 < answer["seconds"] < 20


def test_a_search_can_be_narrowed(served: Running) -> None:
    def found(*where: str) -> set[str]:
        answer = served.client.get("/api/search", params={"q": QUERY, "where": where})
        return {hit["video"] for hit in answer.json()["hits"]}

    assert found() == ALL
    assert found("folder=trips") == {MARKUP, "trips/again.mp4"}
    assert found("folder=trips", "duration>60") == set()
    assert found("camera=<script>alert(2)</script>") == {"beach.mp4"}


def test_the_moments_of_one_video(served: Running, world: World) -> None:
    ranked = served.client.get("/api/search", params={"q": QUERY, "k": 5}).json()["hits"]
    index = open_index(world.index)
    for hit in ranked:
        moments = served.client.get("/api/moments", params={"q": QUERY, "video": hit["video"]}).json()
        assert moments["score"] == pytest.approx(hit["score"], abs=1e-6)
        assert moments["spans"] == hit["spans"]
        assert moments["curve"] == pytest.approx(index.relevance(QUERY, hit["video"])[0].tolist(), abs=1e-6)


def test_more_like_a_moment_finds_the_same_pictures_elsewhere(served: Running) -> None:
    answer = served.client.get("/api/similar", params={"video": "kitchen.mp4", "t": 3.5, "k": 4}).json()
    videos = [hit["video"] for hit in answer["hits"]]
    assert videos[0] == "trips/again.mp4"
    assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert answer["hits"][0]["peak"] == pytest.approx(3.0, abs=0.11)
    assert set(videos) == ALL - {"kitchen.mp4"}
    asked = {"like": "kitchen.mp4", "t": 3.5, "video": "trips/again.mp4"}
    assert served.client.get("/api/moments", params=asked).json()["curve"] == pytest.approx(answer["hits"][0]["curve"], abs=1e-6)
    # A player's clock may be a little beyond the end.
    assert served.client.get("/api/similar", params={"video": "kitchen.mp4", "t": 6.2}).json()["hits"][0][
        "peak"
    ] == pytest.approx(5.2, abs=0.3)
    beyond = served.client.get("/api/similar", params={"video": "kitchen.mp4", "t": 9999})
    assert (beyond.status_code, "ends at 6.0 seconds" in beyond.json()["error"]) == (422, True)


def test_a_question_of_several_parts_says_what_the_index_says(served: Running, world: World) -> None:
    index = open_index(world.index)
    given = {"q": QUERY, "then": ["a cat", "a blue kitchen"], "also": "a dog", "without": "a man"}
    question = Question(QUERY, then=("a cat", "a blue kitchen"), also=("a dog",), without=("a man",))
    answer = served.client.get("/api/search", params=given).json()
    expected = index.search(question, k=12)
    assert [hit["video"] for hit in answer["hits"]] == [hit.video for hit in expected]
    for hit, want in zip(answer["hits"], expected, strict=True):
        assert hit["score"] == pytest.approx(want.score)
        assert [part["said"] for part in hit["parts"]] == [QUERY, "a cat", "a blue kitchen"]
        assert [(part["start"], part["end"]) for part in hit["parts"]] == [(part.start, part.end) for part in want.parts]
        assert hit["parts"][0]["start"] <= hit["peak"] <= hit["parts"][-1]["end"]
    one = served.client.get("/api/moments", params={**given, "video": "beach.mp4"}).json()
    assert one["parts"] == next(hit["parts"] for hit in answer["hits"] if hit["video"] == "beach.mp4")
    marked = served.client.get("/api/search", params={"q": QUERY, "more": "kitchen.mp4@2.5", "less": "beach.mp4@1"}).json()
    moved = index.search(Question(QUERY, more=(Moment("kitchen.mp4", 2.5),), less=(Moment("beach.mp4", 1),)))
    assert [(hit["video"], hit["score"]) for hit in marked["hits"]] == [(hit.video, pytest.approx(hit.score)) for hit in moved]


def test_a_sentence_that_is_not_read_to_its_end_is_noted(served: Running) -> None:
    assert served.client.get("/api/search", params={"q": QUERY}).json()["note"] is None
    note = served.client.get("/api/search", params={"q": "dog " * 100}).json()["note"]
    assert "reads the first" in note


def test_the_page_works_below_any_prefix(served: Running) -> None:
    """What a proxy does: the service is below /x, and every address of the page is relative to it."""
    app = Starlette(routes=[Mount("/x", make_app(served.service))])
    with TestClient(app, base_url="http://127.0.0.1") as client:
        seen, left = set(), ["/x/"]
        while left:
            address = left.pop()
            seen.add(address)
            answer = client.get(address)
            assert answer.status_code == 200, address
            # What the page and its scripts load and ask.
            found = re.findall(r"""(?:src|href|from |import |fetch\(|ask\(|askQuestion\()=?["']([\w./]+)["']""", answer.text)
            assert not [other for other in found if other.startswith("/")]
            asked = {urljoin(address if address.endswith(".js") and "./" in other else "/x/", other) for other in found}
            left += sorted(
                other for other in asked - seen - set(left) if other.endswith((".js", ".css", ".html", ".svg", ".json"))
            )
        assert {"/x/main.js", "/x/style.css", "/x/openapi.json"} <= seen
        hits = client.get("/x/api/search", params={"q": QUERY}).json()["hits"]
        assert hits == served.client.get("/api/search", params={"q": QUERY}).json()["hits"]
        assert client.get(urljoin("/x/", "media/" + quote(hits[0]["video"]))).status_code == 200


def test_hits_and_moments_come_in_pages(served: Running) -> None:
    def ask(**given: object) -> dict:
        return served.client.get("/api/search", params={"q": QUERY, **given}).json()

    everything = ask(k=10)
    assert (len(everything["hits"]), everything["more"]) == (5, False)
    first, second = ask(k=2), ask(k=3, offset=2)
    assert (first["more"], second["more"]) == (True, False)
    assert first["hits"] + second["hits"] == everything["hits"]
    moments = ask(k=100, moments=True)["hits"]
    assert len(moments) >= 5
    assert all(len(hit["spans"]) == 1 and hit["score"] == hit["spans"][0]["score"] for hit in moments)
    assert [hit["score"] for hit in moments] == sorted((hit["score"] for hit in moments), reverse=True)
    assert all(hit["spans"][0]["start"] <= hit["peak"] < hit["spans"][0]["end"] for hit in moments)
    assert ask(k=2, moments=True)["hits"] + ask(k=100, offset=2, moments=True)["hits"] == moments


def picture_of(world: World, name: str, second: float, kind: str = "PNG") -> bytes:
    from PIL import Image

    data = io.BytesIO()
    with VideoReader(world.videos / name, rate=1.0) as reader:
        Image.fromarray(reader.still(second)).save(data, kind)
    return data.getvalue()


def test_a_picture_finds_its_moment(served: Running, world: World) -> None:
    picture = picture_of(world, "kitchen.mp4", 3.0)
    answer = served.client.post("/api/search", content=picture).json()
    assert {hit["video"] for hit in answer["hits"][:2]} == {"kitchen.mp4", "trips/again.mp4"}
    assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert answer["hits"][0]["peak"] == pytest.approx(3, abs=0.3)
    both = served.client.post("/api/search", params={"q": QUERY, "without": "a cat", "k": 2}, content=picture).json()
    assert len(both["hits"]) == 2
    one = served.client.post("/api/moments", params={"video": "kitchen.mp4"}, content=picture).json()
    assert one["score"] == pytest.approx(1, abs=1e-3)


def test_what_is_no_picture_is_refused_and_the_next_one_is_read(
    served: Running, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = picture_of(world, "kitchen.mp4", 3.0)
    line = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (4000, 2)).save(line, "PNG")
    for data, said in ((b"", "not a picture"), (b"GIF89a", "picture"), (whole[:200], "damaged"), (line.getvalue(), "is a line")):
        answer = served.client.post("/api/search", content=data)
        assert (answer.status_code, list(answer.json())) == (422, ["error"])
        assert said in answer.json()["error"]
        assert "\n" not in answer.json()["error"]
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    assert served.client.post("/api/search", content=whole).status_code == 413
    monkeypatch.undo()
    assert served.client.post("/api/search", content=whole).status_code == 200


def test_a_model_whose_score_is_no_sum_of_cosines_is_not_asked_with_frames(world: World) -> None:
    with running(world.index) as service:
        service.service.index.checkpoint.model.score_weights = None
        assert service.client.get("/api/about").json()["similar"] is False
        answer = service.client.get("/api/similar", params={"video": "kitchen.mp4"})
    assert answer.status_code == 409
    assert "search by a sentence" in answer.json()["error"]


def test_a_model_whose_fields_have_no_row_for_each_frame_is_asked_with_a_moment(world: World) -> None:
    with running(world.index) as service:
        service.service.index.checkpoint.model.frame_fields = ()
        assert service.client.get("/api/about").json()["similar"] is True
        answer = service.client.get("/api/similar", params={"video": "kitchen.mp4", "t": 3.5})
    assert answer.status_code == 200
    assert answer.json()["hits"]


def test_the_list_of_videos(served: Running) -> None:
    everything = served.client.get("/api/videos").json()
    assert everything["total"] == 5
    assert [video["video"] for video in everything["videos"]] == sorted(ALL)
    assert all(video["duration"] == pytest.approx(6, abs=0.3) for video in everything["videos"])
    page = served.client.get("/api/videos", params={"offset": 1, "limit": 2}).json()
    assert [video["video"] for video in page["videos"]] == sorted(ALL)[1:3]
    (beach,) = served.client.get("/api/videos", params={"contains": "BEACH"}).json()["videos"]
    assert beach["title"] == "beach"
    assert beach["fields"]["camera"] == "<script>alert(2)</script>"
    assert "file" not in beach["fields"]
    narrowed = {"where": ["folder=trips", "duration<60"], "limit": 1, "offset": 1}
    page = served.client.get("/api/videos", params=narrowed).json()
    assert (page["total"], [video["video"] for video in page["videos"]]) == (2, ["trips/again.mp4"])
    assert served.client.get("/api/videos", params={"where": "folder=trips", "contains": "beach"}).json()["total"] == 0


def test_health_about_and_metrics(served: Running) -> None:
    assert served.client.get("/health").json() == {"status": "ok", "videos": 5}
    about = served.client.get("/api/about").json()
    assert (about["method"], about["videos"], about["similar"], about["writable"]) == ("zero_shot", 5, True, False)
    assert about["version"] == prvr.__version__
    served.client.get("/no-such-thing")
    text = served.client.get("/metrics").text
    assert 'prvr_requests_total{route="/health",status="200"}' in text
    assert "prvr_videos 5\n" in text
    # A stranger cannot make a new line for every address that he thinks of.
    assert "no-such-thing" not in text


def test_counts_by_hand() -> None:
    counts = RequestCounts()
    for seconds in (0.001, 0.2, 99.0):
        counts.request("/a", 200, seconds)
    counts.request("/a", 404, 0.02)
    lines = counts.text({"videos": 2}).splitlines()
    for line in (
        'prvr_requests_total{route="/a",status="200"} 3',
        'prvr_requests_total{route="/a",status="404"} 1',
        'prvr_request_seconds_bucket{route="/a",le="0.01"} 1',
        'prvr_request_seconds_bucket{route="/a",le="0.025"} 2',
        'prvr_request_seconds_bucket{route="/a",le="0.25"} 3',
        'prvr_request_seconds_bucket{route="/a",le="10.0"} 3',
        'prvr_request_seconds_bucket{route="/a",le="+Inf"} 4',
        'prvr_request_seconds_sum{route="/a"} 99.221000',
        'prvr_request_seconds_count{route="/a"} 4',
        "prvr_videos 2",
    ):
        assert line in lines, line


def test_a_thinned_curve_keeps_its_peaks() -> None:
    curve, edges = np.array([1.0, 5.0, 2.0, 0.0, 3.0]), np.arange(6.0)
    assert [part.tolist() for part in thin(curve, edges, limit=2)] == [[5.0, 3.0], [0.0, 2.0, 5.0]]
    assert [part.tolist() for part in thin(curve, edges, limit=5)] == [curve.tolist(), edges.tolist()]


def test_new_videos_of_another_process_are_noticed(world: World, tmp_path: Path) -> None:
    videos, index = tmp_path / "videos", tmp_path / "gallery"
    shutil.copytree(world.videos, videos)
    index_folder(videos, index, zero_shot(world.encoder))
    with running(index) as service:
        assert service.client.get("/health").json()["videos"] == 5
        write_video(videos / "new.mp4", colourful())
        (videos / "beach.mp4").unlink()
        index_folder(videos, index, zero_shot(world.encoder))
        time.sleep(index_service.FRESH + 0.1)
        names = {video["video"] for video in service.client.get("/api/videos").json()["videos"]}
        assert names == (ALL | {"new.mp4"}) - {"beach.mp4"}
        assert len(service.client.get("/media/new.mp4").content) == (videos / "new.mp4").stat().st_size
        assert service.client.get("/media/beach.mp4").status_code == 404


# What is refused, and how


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/search", 422, "q: Field required"),
        ("/api/search?q=", 422, "q: String should have at least 1 character"),
        ("/api/search?q=%20", 422, "the query is empty"),
        (f"/api/search?q={'dog+' * 300}", 422, "at most 1000 characters"),
        ("/api/search?q=dog&k=0", 422, "k: Input should be greater than or equal to 1"),
        ("/api/search?q=dog&k=1000", 422, "less than or equal to 100"),
        ("/api/search?q=dog&where=nonsense", 422, "'nonsense' is not a condition"),
        ("/api/search?q=dog&where=camara=1", 422, "did you mean 'camera'?"),
        ("/api/search?q=dog&" + "&".join(["where=folder=a"] * 21), 422, "at most 20"),
        ("/api/search?without=dog", 422, "there is nothing to look for: 'without'"),
        ("/api/search?q=dog&more=beach.mp4", 422, "is not a moment; write VIDEO@SECONDS"),
        ("/api/search?q=dog&more=bech.mp4@1", 404, "the index holds no video 'bech.mp4'"),
        ("/api/search?like=bech.mp4&t=1", 404, "the index holds no video 'bech.mp4'"),
        ("/api/search?like=beach.mp4&t=99", 422, "ends at 6.0 seconds"),
        ("/api/search?q=dog&then=a&moments=true", 422, "moments are listed of one query"),
        ("/api/search?q=dog&then=a&more=beach.mp4@1", 422, "leave them out, or 'then'"),
        ("/api/search?q=dog&" + "&".join(["then=a"] * 11), 422, "at most 10"),
        ("/api/search?q=dog&offset=-1", 422, "offset: Input should be greater than or equal to 0"),
        ("/api/moments?q=dog&video=bech.mp4", 404, "the index holds no video 'bech.mp4'"),
        ("/api/moments?video=beach.mp4", 422, "give q, a sentence"),
        ("/api/similar?video=beach.mp4&t=nan", 422, "t: Input should be a finite number"),
        ("/api/similar?video=beach.mp4&t=-1", 422, "t: Input should be greater than or equal to 0"),
        ("/api/videos?where=nonsense", 422, "'nonsense' is not a condition"),
        ("/api/videos?where=camara=1", 422, "did you mean 'camera'?"),
        ("/api/videos?" + "&".join(["where=folder=a"] * 21), 422, "at most 20"),
        ("/api/videos?limit=all", 422, "limit: Input should be a valid integer"),
        ("/api/nothing", 404, "Not Found"),
        ("/thumbnails/beach.mp4?t=inf", 422, "finite"),
    ],
)
def test_a_refusal_is_one_line(served: Running, path: str, status: int, said: str) -> None:
    answer = served.client.get(path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_every_answer_bears_the_headers_that_keep_a_browser_safe(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("/secret/path broke")

    monkeypatch.setattr(served.service.index, "search", fail)
    statuses = {}
    for path in ("/", "/main.js", "/health", "/api/search?q=dog", "/api/nothing", "/api/videos?limit=x", "/media/beach.mp4"):
        answer = served.client.get(path)
        statuses[path] = answer.status_code
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
    assert list(statuses.values()) == [200, 200, 200, 500, 404, 422, 200]
    assert served.client.get("/api/search?q=dog").json() == {"error": "the service failed at this request; see its log"}
    assert served.client.request("TRACE", "/health").status_code == 405


def test_only_its_own_names_are_answered(world: World) -> None:
    with running(world.index, hosts={"localhost", "127.0.0.1", "[::1]"}) as service:
        for host in ("localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]", "[::1]:8000"):
            assert service.raw("/health", Host=host)[0] == 200, host
        for host in ("evil.example", "evil.example:8000", "localhost.evil.example", ""):
            assert service.raw("/health", Host=host)[0] == 421, host


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("cannot read {videos}/trips/a b.mp4 as a video", "cannot read trips/a b.mp4 as a video"),
        ("no video in {videos}; known are .mp4", "no video in the folder of the videos; known are .mp4"),
        ("no index in {index}; build it:\n prvr index VIDEOS {index}", "no index in INDEX; build it: prvr index VIDEOS INDEX"),
        ("{index}/index.sqlite is damaged", "INDEX/index.sqlite is damaged"),
        (
            "the encoder 'clip' is no longer in /srv/models/clip; put it back",
            "the encoder 'clip' is no longer in clip; put it back",
        ),
        ("cannot read /srv/jane doe/models/clip/config.json", "cannot read config.json"),
        (
            "cannot read '/mnt/My Disk/a b/x.bin' and C:\\Own Files\\y.bin; see docs/a.md",
            "cannot read 'x.bin' and y.bin; see docs/a.md",
        ),
        ("cannot open '/data/x.onnx' or C:\\models\\y.onnx", "cannot open 'x.onnx' or y.onnx"),
        ("give a number and/or a URL: https://example.org/a/b", "give a number and/or a URL: https://example.org/a/b"),
    ],
)
def test_messages_name_no_path_of_this_machine(said: str, shown: str, tmp_path: Path) -> None:
    videos, index = tmp_path / "my videos", tmp_path / "my videos" / ".prvr"
    assert without_paths(said.format(videos=videos, index=index), videos=videos, index=index) == shown


def test_a_full_line_turns_away(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_service, "MOST_WAITING", 2)
    hold = threading.Event()
    served.service.index._thread.submit(hold.wait, 300)
    waiting = [threading.Thread(target=served.client.get, args=("/api/search?q=dog",)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    until(lambda: served.service.index.waiting == 2)
    answer = httpx.get(served.url + "api/search?q=dog", trust_env=False, timeout=300)
    hold.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    for thread in waiting:
        thread.join(120)
    assert served.client.get("/api/search?q=dog").status_code == 200


# Files


def test_nothing_but_queries_waits_for_queries(served: Running, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_service, "FRESH", -1.0)  # each request reads the names of the videos again
    hold = threading.Event()
    served.service.index._thread.submit(hold.wait, 600)
    waiting = threading.Thread(
        target=httpx.get, args=(served.url + "api/search?q=dog",), kwargs={"timeout": 600, "trust_env": False}
    )
    waiting.start()
    try:
        until(lambda: served.service.index.waiting == 1)
        # Any of these that waited would end by the time limit of the client.
        for path in ("/", "/main.js", "/api.html", "/health", "/metrics", "/openapi.json", "/api/about", "/api/upkeep"):
            assert served.client.get(path).status_code == 200, path
        narrowed = served.client.get("/api/videos", params={"where": "folder=trips", "contains": "again"}).json()
        assert [video["video"] for video in narrowed["videos"]] == ["trips/again.mp4"]
        assert (
            served.client.get("/media/beach.mp4", headers={"Range": "bytes=5-9"}).content
            == ((world.videos / "beach.mp4").read_bytes()[5:10])
        )
        assert served.client.get("/thumbnails/kitchen.mp4?t=2.25").status_code == 200
        # Whether it is the name of a copy is looked up among the descriptions.
        assert served.client.get("/media/never.mp4").status_code == 404
        assert waiting.is_alive()
    finally:
        hold.set()
        waiting.join(120)
    assert not waiting.is_alive()


def test_no_other_site_may_read_an_answer(served: Running) -> None:
    asking = {"Origin": "https://other.example", "Access-Control-Request-Method": "PUT"}
    for path in (
        "/",
        "/main.js",
        "/health",
        "/api/search?q=dog",
        "/media/beach.mp4",
        "/thumbnails/beach.mp4",
        "/api/videos/a.mp4",
    ):
        for method in ("GET", "OPTIONS"):
            answer = served.client.request(method, path, headers=asking)
            assert not [name for name in answer.headers if name.startswith("access-control-")], path
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert method == "GET" or answer.status_code == 405


def test_more_connections_than_the_limit_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CONNECTIONS", 3)
    with running(world.index) as service:
        held = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(2)]
        for client in held:
            client.sendall(b"GET /health HTTP/1.1\r\n")
        assert service.raw("/health")[0] == 200
        held.append(socket.create_connection(("127.0.0.1", service.port)))
        # Accepted in the order of arrival.
        assert service.raw("/health")[0] == 503
        for client in held:
            client.close()
        until(lambda: service.raw("/health")[0] == 200)


def test_a_least_score_and_an_approximate_search(served: Running, world: World) -> None:
    scores = [hit["score"] for hit in served.client.get("/api/search", params={"q": QUERY}).json()["hits"]]
    # Two videos share frames, and can tie.
    first = max(range(1, len(scores)), key=lambda place: scores[place - 1] - scores[place])
    least = {"q": QUERY, "min_score": (scores[first - 1] + scores[first]) / 2}
    assert [hit["score"] for hit in served.client.get("/api/search", params=least).json()["hits"]] == scores[:first]
    answer = served.client.get("/api/search", params={"q": QUERY, "approximate": True})
    assert (answer.status_code, "verify" in answer.json()["error"]) == (409, True)
    assert str(world.index.parent) not in answer.text


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_video_comes_whole_or_in_ranges(served: Running, world: World, name: str) -> None:
    path = f"/media/{quote(name)}"
    data = (world.videos / name).read_bytes()
    whole = served.client.get(path)
    assert (whole.status_code, whole.headers["content-type"], whole.content) == (200, "video/mp4", data)
    part = served.client.get(path, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, data[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
    assert served.client.get(path, headers={"Range": "bytes=-7"}).content == data[-7:]
    assert served.client.get(path, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    head = served.client.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(data)), b"")


ESCAPES = [
    *("../gallery/model/config.json", "%2e%2e/gallery/model/config.json", "..%2fgallery%2fmodel%2fconfig.json"),
    *(
        "%252e%252e%252fgallery",
        "trips/../notes.txt",
        "trips/..%5cnotes.txt",
        "notes.txt",
        "videos.jsonl",
        "./beach.mp4",
        "/beach.mp4",
    ),
    *(
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "beach.mp4%00.txt",
        "beach.mp4/",
        "beach.mp4/..",
        "BEACH.MP4",
        ".",
        "",
        "%ff%fe",
        "trips",
    ),
    *("..%c0%af..%c0%afetc/passwd", "~root", "beach.mp4;.txt", "a" * 4000),
]


@pytest.mark.parametrize("path", ESCAPES)
def test_nothing_but_files_of_the_index_is_served(served: Running, path: str) -> None:
    for place in ("/media/", "/thumbnails/", "/api/moments?q=dog&video=", "/api/similar?video=", "/"):
        status, body = served.raw(place + path)
        if place == "/" and path in ("", "."):
            continue  # the page itself
        assert status in (404, 422), (place, path)
        assert list(json.loads(body)) == ["error"]


def test_links_that_lead_out_of_the_folder_are_not_followed(world: World, tmp_path: Path) -> None:
    videos, index = tmp_path / "videos", tmp_path / "gallery"
    shutil.copytree(world.videos, videos)
    shutil.copytree(world.index, index)
    secret = tmp_path / "secret.mp4"
    shutil.copy(videos / "beach.mp4", secret)
    (videos / "inside.mp4").symlink_to(videos / "beach.mp4")
    (videos / "outside.mp4").symlink_to(secret)
    index_folder(videos, index, zero_shot(world.encoder))
    with running(index) as service:
        object.__setattr__(service.service.index, "folder", videos)
        assert service.client.get("/media/inside.mp4").status_code == 200
        for place in ("/media/", "/thumbnails/"):
            assert service.client.get(place + "outside.mp4").status_code == 404
            (videos / "kitchen.mp4").unlink(missing_ok=True)
            assert service.client.get(place + "kitchen.mp4").status_code == 404
        # Nor within it, to what is no video.
        (videos / "notes.txt").write_text("not for others")
        for target in ("/etc/hostname", secret, videos / "notes.txt", videos):
            (videos / "kitchen.mp4").unlink(missing_ok=True)
            (videos / "kitchen.mp4").symlink_to(target)
            for place in ("/media/", "/thumbnails/"):
                assert service.client.get(place + "kitchen.mp4").status_code == 404, target


def test_copies_are_one_video_and_names_with_line_feeds_are_served(world: World, tmp_path: Path) -> None:
    videos, index = tmp_path / "videos", tmp_path / "gallery"
    videos.mkdir()
    name = "line\nfeed\x1b[2J.mp4"
    shutil.copy(world.videos / "beach.mp4", videos / name)
    shutil.copy(world.videos / "beach.mp4", videos / "second.mp4")
    index_folder(videos, index, zero_shot(world.encoder))
    with running(index) as service:
        (hit,) = service.client.get("/api/search", params={"q": "dog"}).json()["hits"]
        assert (hit["video"], hit["copies"], hit["problem"]) == (name, ["second.mp4"], None)
        (video,) = service.client.get("/api/videos").json()["videos"]
        assert video["fields"]["copies"] == ["second.mp4"]
        assert [service.client.get("/api/videos", params={"contains": text}).json()["total"] for text in ("SECOND", "third")] == [
            1,
            0,
        ]
        content = (world.videos / "beach.mp4").read_bytes()
        for path in (name, "second.mp4"):
            assert service.client.get("/api/similar", params={"video": path}).json()["hits"] == []
            alike = service.client.get("/api/moments", params={"video": name, "like": path, "t": 1.0}).json()
            assert alike["score"] == pytest.approx(1, abs=1e-3)
            assert service.client.get("/media/" + quote(path)).content == content
            assert service.client.get("/thumbnails/" + quote(path)).status_code == 200
            assert service.client.get("/api/moments", params={"video": path, "q": "dog"}).json()["video"] == name


def test_a_name_that_is_no_utf8_is_shown_and_served(world: World, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    try:
        shutil.copy(world.videos / "beach.mp4", videos / os.fsdecode(b"caf\xe9.mp4"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    index_folder(videos, tmp_path / "gallery", zero_shot(world.encoder))
    with running(tmp_path / "gallery") as service:
        (video,) = service.client.get("/api/videos").json()["videos"]
        assert video["video"] == "caf\\udce9.mp4"
        assert service.client.get("/api/search", params={"q": "dog"}).json()["hits"][0]["video"] == video["video"]
        path = quote(video["video"])
        assert service.client.get(f"/media/{path}").content == (world.videos / "beach.mp4").read_bytes()
        assert service.client.get(f"/thumbnails/{path}").status_code == 200


def test_a_video_without_a_suffix_is_served_and_deleted(world: World, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(world.videos / "beach.mp4", videos / "clip")
    shutil.copy(world.videos / "kitchen.mp4", videos / "kitchen.mp4")
    index_folder(videos, tmp_path / "gallery", zero_shot(world.encoder))
    with running(tmp_path / "gallery", token="t") as service:
        answer = service.client.get("/media/clip")
        assert answer.content == (videos / "clip").read_bytes()
        assert answer.headers["content-type"] == "application/octet-stream"
        assert service.client.get("/thumbnails/clip").status_code == 200
        assert service.client.delete("/api/videos/clip", headers={"Authorization": "Bearer t"}).status_code == 202
        assert not (videos / "clip").exists()
        # Nor is a text that took its place.
        (videos / "clip").write_text("not for others")
        assert service.client.get("/media/clip").status_code == 404


@pytest.mark.parametrize(("on_disk", "named"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_match_in_any_normal_form(world: World, tmp_path: Path, on_disk: str, named: str) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    known, wanted = ([unicodedata.normalize(form, name) for name in ("ä.mp4", "ö.mp4")] for form in (on_disk, named))
    for name in known:
        shutil.copy(world.videos / "beach.mp4", videos / name)
    index_folder(videos, tmp_path / "gallery", zero_shot(world.encoder))
    with running(tmp_path / "gallery") as service:
        for name in wanted:
            for place in ("/media/", "/thumbnails/"):
                assert service.client.get(place + quote(name)).status_code == 200, name
            found = service.client.get("/api/moments", params={"video": name, "q": "dog"}).json()
            assert found["video"] in known
        assert service.client.get("/api/videos", params={"contains": wanted[0][:-4]}).json()["total"] == 1


# Pictures


def test_a_picture_is_of_its_moment(tmp_path: Path) -> None:
    video = write_video(tmp_path / "colours.mp4", colourful())
    from PIL import Image

    for second, colour in enumerate(COLOURS):
        (tmp_path / "picture.jpg").write_bytes(make_picture(video, second + 0.5))
        with Image.open(tmp_path / "picture.jpg") as image:
            assert colour_of(np.asarray(image)) == colour
            assert max(image.size) <= 480


def test_a_still_is_what_reading_the_video_gives(tmp_path: Path) -> None:
    # One keyframe at the start: each still is decoded from there.
    video = write_video(tmp_path / "long.mp4", colourful(fps=10), options={"g": "1000", "bf": "2"})
    with VideoReader(video, rate=10.0) as reader:
        frames = list(reader)
    for time_, frame in frames[::7]:
        with VideoReader(video, rate=1.0) as reader:
            np.testing.assert_array_equal(reader.still(time_ + 0.04), frame)
    with VideoReader(video, rate=1.0) as reader:
        np.testing.assert_array_equal(reader.still(1e5), frames[-1][1])


def test_pictures_are_kept_and_bounded(world: World, tmp_path: Path) -> None:
    import asyncio

    video = world.videos / "beach.mp4"

    async def ask(thumbnails: Thumbnails, times: list[float]) -> list[bytes]:
        return await asyncio.gather(*(thumbnails.picture(video, t) for t in times))

    with closing(Thumbnails(tmp_path / "kept")) as thumbnails:
        first, again, other = asyncio.run(ask(thumbnails, [1.0, 1.0, 3.0]))
        assert first == again != other
        assert len(list(thumbnails.kept.folder.iterdir())) == 2
        # From the disk, without a decoder: nothing else could give what a stranger wrote there.
        for kept in thumbnails.kept.folder.iterdir():
            kept.write_bytes(b"kept")
        assert asyncio.run(ask(thumbnails, [1.0])) == [b"kept"]
    with closing(Thumbnails(tmp_path / "small", most_bytes=4 * len(first))) as small:
        asyncio.run(ask(small, [n / 5 for n in range(25)]))
        size = sum(path.stat().st_size for path in small.kept.folder.iterdir())
        assert 0 < size == small.kept.size <= small.kept.most_bytes
    assert Thumbnails(tmp_path / "small").kept.size == size


def test_pictures_that_are_looked_at_are_kept(world: World, tmp_path: Path) -> None:
    import asyncio

    async def ask(thumbnails: Thumbnails, times: list[float]) -> None:
        for t in times:
            await thumbnails.picture(world.videos / "beach.mp4", t)

    with closing(Thumbnails(tmp_path / "kept")) as thumbnails:
        asyncio.run(ask(thumbnails, [1.0]))
        (first,) = thumbnails.kept.folder.iterdir()
        thumbnails.kept.most_bytes = 5 * first.stat().st_size
        asyncio.run(ask(thumbnails, [t for n in range(12) for t in (1.0, 1.1 + n / 5)]))
        assert first.exists()
        assert len(list(thumbnails.kept.folder.iterdir())) < 6


def test_two_pictures_are_made_at_a_time(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    made = PictureProcess.picture
    both, lock, now = threading.Barrier(2, timeout=300), threading.Lock(), [0, 0]

    def picture(process: PictureProcess, video: Path, seconds: float) -> bytes:
        with lock:
            now[0] += 1
            now[1] = max(now)
        both.wait()
        picture = made(process, video, seconds)
        with lock:
            now[0] -= 1
        return picture

    monkeypatch.setattr(PictureProcess, "picture", picture)

    async def ask(thumbnails: Thumbnails) -> None:
        await asyncio.gather(*(thumbnails.picture(world.videos / "beach.mp4", n / 2) for n in range(6)))

    with closing(Thumbnails(tmp_path / "kept")) as thumbnails:
        asyncio.run(ask(thumbnails))
    assert now == [0, 2]


def test_pictures_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert Thumbnails(tmp_path / "file" / "thumbnails").kept.folder.is_dir()


def test_a_file_that_is_gone_or_broken_has_no_picture(world: World, tmp_path: Path) -> None:
    videos, index = tmp_path / "videos", tmp_path / "gallery"
    shutil.copytree(world.videos, videos)
    index_folder(videos, index, zero_shot(world.encoder))
    with running(index) as service:
        (videos / "beach.mp4").write_bytes(b"no longer a video")
        (videos / "kitchen.mp4").unlink()
        broken, gone = (service.client.get(f"/thumbnails/{name}.mp4") for name in ("beach", "kitchen"))
    assert (broken.status_code, gone.status_code) == (404, 404)
    assert "beach.mp4 is a text file, not a video" in broken.json()["error"]
    assert str(tmp_path) not in broken.text + gone.text


# The description and the page


def test_the_description_names_every_route(served: Running) -> None:
    described = served.client.get("/openapi.json").json()
    # The site of the documentation has this one.
    assert json.loads(json.dumps(description())) == described
    assert set(described["paths"]) == {
        *(
            "/api/about",
            "/api/facets",
            "/api/moments",
            "/api/search",
            "/api/similar",
            "/api/transcript",
            "/api/videos",
            "/api/videos/{video}",
            "/api/upkeep",
            "/cuts/{video}",
            "/proxies/{video}",
        ),
        *("/health", "/metrics", "/media/{video}", "/thumbnails/{video}"),
    }
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert all(given.get("description") for given in operation.get("parameters", ())), (method, path)
    assert described["paths"]["/api/videos/{video}"]["put"]["security"] == [{"HTTPBearer": []}]
    assert served.client.get("/docs").status_code == 404


def test_the_page_asks_no_other_host() -> None:
    folder = Path(prvr.__file__).parent / "server" / "page"
    files = [path for path in folder.iterdir() if path.is_file()]
    assert {"index.html", "main.js", "style.css"} <= {path.name for path in files}
    for path in files:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in "".join(line for line in text.splitlines() if not line.lstrip().startswith("//")), path.name
        assert "innerHTML" not in text
