"""What the service says of words: quotes on hits, the sense that found them, and the transcript of a video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from serving import MARKUP, Running, make_world, running
from texts import srt

QUERY = "the helicopter lands"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    words = srt((0.5, 1.5, "<b>the</b> helicopter"), (2, 3, "lands & leaves"))
    world = make_world(tmp_path_factory.mktemp("served"), beside={MARKUP.replace(".mp4", ".en.srt"): words})
    with running(world.index) as service:
        yield service


def test_a_hit_has_its_quotes_and_the_senses_that_found_it(served: Running) -> None:
    (hit,) = served.client.get("/api/search", params={"q": QUERY, "in": "speech"}).json()["hits"]
    quote = {"start": 0.5, "end": 1.5, "text": "the helicopter", "kind": "subtitle", "confidence": 1.0, "language": "en"}
    assert hit["video"] == MARKUP
    assert hit["found_by"] == ["speech"]
    assert hit["quotes"] == [quote, {**quote, "start": 2.0, "end": 3.0, "text": "lands & leaves"}]
    assert (hit["spans"][0]["start"], hit["spans"][0]["end"]) == (0.5, 3.0)


def test_without_a_sense_all_are_searched(served: Running) -> None:
    hits = served.client.get("/api/search", params={"q": QUERY}).json()["hits"]
    assert [hit["found_by"] for hit in hits if hit["video"] != MARKUP] == [["picture"]] * (len(hits) - 1)
    (found,) = (hit for hit in hits if hit["video"] == MARKUP)
    assert "speech" in found["found_by"]
    assert served.client.get("/api/search", params={"q": QUERY, "in": "picture"}).json()["hits"][0]["quotes"] == []


def test_the_transcript_of_a_video(served: Running) -> None:
    shown = served.client.get("/api/transcript", params={"video": MARKUP}).json()
    assert shown["video"] == MARKUP
    assert [text["text"] for text in shown["texts"]] == ["the helicopter", "lands & leaves"]
    assert served.client.get("/api/transcript", params={"video": "beach.mp4"}).json()["texts"] == []


def test_the_service_says_which_texts_there_are(served: Running) -> None:
    assert served.client.get("/api/about").json()["texts"] == {"subtitle": 1}


def test_in_one_video(served: Running) -> None:
    found = served.client.get("/api/moments", params={"q": QUERY, "video": MARKUP}).json()
    assert [quote["start"] for quote in found["quotes"]] == [0.5, 2.0]
    for sense, count in (("speech", 2), ("screen", 0), ("picture", 0)):
        found = served.client.get("/api/moments", params={"q": QUERY, "video": MARKUP, "in": sense}).json()
        assert (sense, len(found["quotes"])) == (sense, count)


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("transcript", {"video": "unknown.mp4"}, 404),
        ("transcript", {}, 422),
        ("search", {"q": QUERY, "in": "smell"}, 422),
        ("moments", {"q": QUERY, "video": MARKUP, "in": "smell"}, 422),
        ("search", {"like": "beach.mp4", "in": "speech"}, 422),
        ("search", {"q": QUERY, "then": "it leaves", "in": "speech"}, 422),
        ("search", {"q": QUERY, "moments": "true", "in": "speech"}, 422),
    ],
)
def test_refusals(served: Running, path: str, params: dict[str, str], status: int) -> None:
    answer = served.client.get(f"/api/{path}", params=params)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_the_description_names_the_option_in(served: Running) -> None:
    parameters = served.client.get("/openapi.json").json()["paths"]["/api/search"]["get"]["parameters"]
    assert {"in", "q"} <= {one["name"] for one in parameters}
    assert "sense" not in {one["name"] for one in parameters}


def test_a_path_outside_is_no_video(served: Running, tmp_path: Path) -> None:
    assert served.client.get("/api/transcript", params={"video": "../gallery/index.sqlite"}).status_code == 404
