"""The page offers choices: filters, orders, frames along the curve; and says what it cannot show."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import av
import numpy as np
from browsing import Tab
from serving import MARKUP, ODD, Running, World
from tiny_videos import HEIGHT, WIDTH, colourful
from waiting import until

ASKED = "?q=a+red+dog+runs+on+the+beach"


def option(tab: Tab, select: str) -> str:
    return tab.find(f"{select} option:checked").inner_text()


def test_choices_and_typed_conditions_follow_each_other(tab: Tab) -> None:
    tab.open()
    tab.find("#narrow").click()
    until(lambda: "trips (2)" in tab.texts("#in-folder option"), lambda: str(tab.texts("#in-folder option")))
    # Nothing is offered that finds nothing.
    assert tab.texts("#of-length option") == ["any length", "under 1 minute"]
    tab.find("#in-folder").select_option("trips")
    until(lambda: tab.videos() == [MARKUP, "trips/again.mp4"])
    assert tab.find("#where").input_value() == "folder=trips"
    assert tab.texts("#narrow") == ["Filter · 1"]
    tab.find("#of-length").select_option(label="under 1 minute")
    until(lambda: "where=folder%3Dtrips%3B+duration%3C60" in tab.query, lambda: tab.query)
    assert len(tab.videos()) == 2
    # Typed: choices show what they can, and leave the rest as it is.
    tab.find("#where").fill("duration > 600; date >= 2001-02-03; camera=north; folder=trips/")
    assert option(tab, "#of-length") == "over 10:00"
    assert option(tab, "#in-folder") == "trips (2)"
    assert tab.find("#since").input_value() == "2001-02-03"
    tab.find("#until").fill("2999-12-31")
    tab.find("#of-length").select_option("")
    assert tab.find("#where").input_value() == "folder=trips; date>=2001-02-03; date<=2999-12-31; camera=north"
    tab.shows("#notice", "No video meets these conditions.")
    tab.find("#where").fill("folder=trips; date>=2001-02-03; date<=2999-12-31")
    tab.find("#where").press("Enter")
    until(lambda: tab.videos() == [MARKUP, "trips/again.mp4"])
    tab.page.go_back()
    tab.page.go_back()
    until(lambda: tab.find("#where").input_value() == "folder=trips; duration<60")
    assert option(tab, "#of-length") == "under 1 minute"
    assert tab.find("#since").input_value() == ""


def test_videos_and_hits_in_another_order(tab: Tab, served: Running) -> None:
    tab.open()
    tab.find("#sort").select_option("shortest")
    until(lambda: tab.videos()[0] == "trips/again.mp4")
    assert "sort=shortest" in tab.query
    tab.open(ASKED)
    best = tab.videos()
    assert option(tab, "#sort") == "best match"
    tab.find("#sort").select_option("name")
    until(lambda: tab.videos() != best)
    assert tab.videos() == [MARKUP, ODD, "trips/again.mp4", "beach.mp4", "kitchen.mp4"]
    # Each keeps its rank in its name.
    labels = tab.page.evaluate(
        "[...document.querySelectorAll('li.card')].map((one) => [one.dataset.video, one.firstChild.ariaLabel])"
    )
    assert {video: int(label.split(".")[0]) for video, label in labels} == {video: n + 1 for n, video in enumerate(best)}
    tab.find("#sort").select_option("shortest")
    until(lambda: tab.videos()[0] == "trips/again.mp4")
    tab.find("#sort").select_option("")
    until(lambda: tab.videos() == best)


def test_more_hits_are_put_into_the_order(tab: Tab, served: Running) -> None:
    def some(route: Any) -> None:
        answer = route.fetch().json()
        offset = 3 if "offset=3" in route.request.url else 0
        hits = served.client.get("/api/search", params={"q": "a red dog runs on the beach", "k": 5}).json()["hits"]
        route.fulfill(json={**answer, "hits": hits[offset : offset + 3], "more": offset == 0})

    tab.page.route("**/api/search?**", some)
    tab.open(ASKED + "&sort=name")
    assert len(tab.videos()) == 3
    tab.find("#more").click()
    until(lambda: tab.videos() == [MARKUP, ODD, "trips/again.mp4", "beach.mp4", "kitchen.mp4"], lambda: str(tab.videos()))
    assert tab.find("#more").is_hidden()


def test_nothing_on_the_page_is_a_number_without_a_meaning(tab: Tab) -> None:
    tab.open(ASKED)
    shown = tab.page.evaluate("document.body.innerText")
    for word in ("zero-shot", "teacher", "score"):
        assert word not in shown, shown
    # Times have tenths where they are short; nothing else has a decimal point.
    assert not re.search(r"(?<![:\d])\d+\.\d", shown), shown
    assert tab.texts(".about") == ["5 videos"]
    tab.find("#keys").click()
    tab.shows("#service", "ranked by zero-shot on tiny-clip")


def test_the_curve_shows_the_frame_of_a_second(tab: Tab, served: Running) -> None:
    tab.open(ASKED + "&video=kitchen.mp4")
    track = tab.find(".track")
    tab.find(".track .curve").wait_for()
    box = track.bounding_box()
    shown = "document.querySelector('.still img')?.src.split('t=')[1]"
    # One picture is loaded at a time: of those that are wanted meanwhile only the last.
    tab.requests.clear()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        tab.page.mouse.move(box["x"] + box["width"] * share, box["y"] + 20)
    end = float(track.get_attribute("aria-valuemax"))
    until(lambda: tab.page.evaluate(shown) == f"{int(0.9 * end)}.00", lambda: tab.page.evaluate(shown))
    assert tab.texts(".tip")[0].strip() == f"0:0{int(0.9 * end)}"
    pictures = [address for address in tab.requests if "/thumbnails/kitchen.mp4" in address]
    assert len(pictures) < 5
    # What was shown is not asked for again.
    tab.page.mouse.move(box["x"] + box["width"] * 0.02, box["y"] + 20)
    until(lambda: tab.page.evaluate(shown) == "0.00")
    before = len(tab.requests)
    tab.page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20)
    until(lambda: tab.page.evaluate(shown) == f"{int(0.9 * end)}.00")
    assert len(tab.requests) == before
    tab.page.mouse.move(5, 5)
    until(tab.find(".tip").is_hidden)
    # With the keys as well.
    track.focus()
    tab.page.keyboard.press("Home")
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("ArrowRight")
    until(lambda: tab.page.evaluate(shown) == "2.00", lambda: tab.page.evaluate(shown))
    assert tab.find(".tip").is_visible()
    assert "2 of" in track.get_attribute("aria-valuetext")
    tab.page.keyboard.press("Tab")
    until(tab.find(".tip").is_hidden)


def test_the_curve_of_a_card_does_so_in_its_picture(tab: Tab) -> None:
    tab.open(ASKED)
    card = tab.find('li[data-video="kitchen.mp4"]')
    first = card.locator("img").get_attribute("src")
    badge = card.locator(".badge").inner_text()
    box = card.locator(".curve").bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + box["height"] / 2)
    until(lambda: card.locator("img").get_attribute("src").endswith("t=5.00"), lambda: card.locator("img").get_attribute("src"))
    assert card.locator(".badge").inner_text() == "0:05"
    tab.page.mouse.move(2, 2)
    until(lambda: first in card.locator("img").get_attribute("src"))
    assert card.locator(".badge").inner_text() == badge


@pytest.mark.parametrize(
    ("status", "said"),
    [(415, "no picture"), (404, "nothing to show here"), (422, "cannot be shown"), (503, "the picture does not come")],
)
def test_why_a_card_has_no_picture(tab: Tab, status: int, said: str) -> None:
    tab.page.clock.install()
    tab.page.route("**/thumbnails/kitchen.mp4?**", lambda route: route.fulfill(status=status, json={"error": "told"}))
    tab.open()
    for _ in range(4):
        tab.page.clock.run_for(3100)
        tab.page.wait_for_load_state("networkidle")
    tab.shows('li[data-video="kitchen.mp4"] .lacking', said)
    until(lambda: tab.find("img.there").count() == 4, lambda: str(tab.find("img.there").count()))


def test_a_picture_that_comes_late_is_shown(tab: Tab) -> None:
    tab.page.clock.install()
    tab.page.route("**/thumbnails/kitchen.mp4?**", lambda route: route.fulfill(status=503, json={"error": "later"}), times=2)
    tab.open()
    for _ in range(4):
        tab.page.clock.run_for(3100)
        tab.page.wait_for_load_state("networkidle")
    until(lambda: tab.find("img.there").count() == 5)
    assert "does not come" not in tab.page.evaluate("document.body.innerText")


def write_with_sound(path: Path, codec: str | None) -> Path:
    """Five seconds of a tone, with a colour a second in a codec that no browser knows."""
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=16000)
        if codec is not None:
            pictures = out.add_stream(codec, rate=25)
            pictures.width, pictures.height = WIDTH, HEIGHT
            pictures.pix_fmt = "yuv422p10le" if codec.startswith("prores") else "yuv420p"
            pictures.codec_context.time_base = Fraction(1, 25)
            for milliseconds, picture in colourful():
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = milliseconds // 40, Fraction(1, 25)
                out.mux(pictures.encode(frame))
            out.mux(pictures.encode())
        for n in range(78):
            frame = av.AudioFrame.from_ndarray(
                np.sin(np.arange(1024) / 9)[None].astype(np.float32) / 9, format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16000, 1024 * n
            out.mux(sound.encode(frame))
        out.mux(sound.encode())
    return path


@pytest.mark.parametrize(
    ("codec", "said"),
    [("prores_ks", "but cannot show its pictures, and it cannot be converted: too long"), (None, "This file has sound alone")],
)
def test_a_black_picture_with_sound_is_told(tab: Tab, world: World, tmp_path: Path, codec: str | None, said: str) -> None:
    data = write_with_sound(tmp_path / "a.mov", codec).read_bytes()
    kept = world.videos / "beach.mp4"
    whole = kept.read_bytes()
    try:
        kept.write_bytes(data)
        tab.page.route("**/proxies/**", lambda route: route.fulfill(status=422, json={"error": "too long"}))
        tab.open("?video=beach.mp4&at=3.5")
        tab.shows(".blind", said)
        if codec is None:
            assert tab.find(".blind a").count() == 0
            return
        assert tab.find(".blind a").get_attribute("download") == "beach.mp4"
        # Single pictures of the service stand in.
        until(lambda: "t=3.00" in tab.find("video").get_attribute("poster"), lambda: tab.find("video").get_attribute("poster"))
        tab.find(".heading h2").focus()
        tab.page.keyboard.press("ArrowLeft")
        until(lambda: "t=2.00" in tab.find("video").get_attribute("poster"))
    finally:
        kept.write_bytes(whole)


def test_a_picture_and_sound_that_play_need_no_words(tab: Tab) -> None:
    tab.open("?video=kitchen.mp4&at=2")
    tab.plays_at(2)
    assert tab.find(".blind").is_hidden()
