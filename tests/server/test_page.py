"""The page, driven in a real browser against a real service over a real index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from browsing import Tab
from serving import MARKUP, ODD, Running, running
from waiting import until

QUERY = "a red dog runs on the beach"
ASKED = "?q=a+red+dog+runs+on+the+beach"


def hits(served: Running) -> list[dict[str, Any]]:
    return served.client.get("/api/search", params={"q": QUERY, "k": 24}).json()["hits"]


def ask(tab: Tab, text: str) -> None:
    tab.find("#sentence").fill(text)
    tab.find("#sentence").press("Enter")


def test_search_open_seek_and_back(tab: Tab, served: Running) -> None:
    expected = hits(served)
    tab.open()
    tab.shows("#results-title", "All videos")
    assert len(tab.videos()) == 5
    ask(tab, QUERY)
    tab.shows("#results-title", QUERY)
    assert tab.query == ASKED
    assert tab.videos() == [hit["video"] for hit in expected]
    second = expected[1]
    picture = tab.find(f'li[data-video="{second["video"]}"] img').get_attribute("src")
    assert f"{second['peak']:.2f}"[:-1] in picture
    tab.find(f'li[data-video="{second["video"]}"] a').click()
    tab.plays_at(second["peak"])
    assert 206 in tab.media
    # A click on the middle of the curve seeks to the middle of the video, and the address keeps it.
    tab.find(".track .curve").wait_for()
    box = tab.find(".track").bounding_box()
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.plays_at(second["duration"] / 2)
    until(lambda: f"at={second['duration'] / 2:.2f}"[:-1] in tab.query, lambda: tab.query)
    tab.page.go_back()
    until(lambda: tab.query == ASKED)
    until(tab.find("#watch").is_hidden)
    assert tab.videos() == [hit["video"] for hit in expected]
    until(lambda: tab.page.evaluate("document.activeElement.closest('li')?.dataset.video") == second["video"])
    tab.page.go_forward()
    tab.plays_at(second["duration"] / 2)
    tab.page.go_back()
    tab.page.go_back()
    tab.shows("#results-title", "All videos")


@pytest.mark.slow
def test_spans_are_marked_and_lead_to_their_moments(tab: Tab, served: Running) -> None:
    hit = hits(served)[0]
    tab.open(ASKED)
    tab.find("li.card a").first.click()
    tab.find(".track .curve").wait_for()
    assert tab.find(".track .span").count() == tab.find(".chip").count() == len(hit["spans"])
    assert float(tab.find(".track .span").first.get_attribute("x")) == pytest.approx(
        1000 * hit["spans"][0]["start"] / hit["edges"][-1], abs=0.5
    )
    # The player opens at the instant that the card shows.
    tab.plays_at(hit["peak"])
    tab.find(".track").focus()
    tab.page.keyboard.press("End")
    tab.plays_at(hit["duration"], within=0.3)
    tab.find(".chip").first.click()
    tab.plays_at(hit["spans"][0]["start"])
    # Numbers are there for those who open them.
    assert "score" not in tab.texts(".parts")[0]
    tab.find(".parts summary").click()
    tab.shows(".parts", f"{hit['score']:.3f}")
    tab.shows(".legend", "picture and words compared")


@pytest.mark.slow
def test_two_tabs_and_an_address_that_is_passed_on(tab: Tab, context: Any, served: Running) -> None:
    first, second = (hit["video"] for hit in hits(served)[:2])
    tab.open(ASKED)
    tab.find("li.card a").nth(0).click()
    until(lambda: "video=" in tab.query)
    other = Tab(context, served.url).open(ASKED)
    other.find("li.card a").nth(1).click()
    until(lambda: "video=" in other.query)
    tab.shows(".heading", first)
    other.shows(".heading", second)
    other.find(".track").focus()
    other.page.keyboard.press("Home")
    other.page.keyboard.press("ArrowRight")
    other.page.keyboard.press("ArrowRight")
    other.plays_at(2.0)
    until(lambda: "at=2.00" in other.query)
    third = Tab(context, served.url).open(other.query)
    third.plays_at(2.0)
    third.shows(".heading", second)
    assert third.videos() == other.videos() == tab.videos()
    assert abs(tab.time - hits(served)[0]["peak"]) < 0.1


@pytest.mark.slow
def test_more_like_this_moment(tab: Tab) -> None:
    tab.open("?video=kitchen.mp4&at=3.5")
    tab.plays_at(3.5)
    assert tab.find(".track").count() == 0
    tab.find("#similar").click()
    tab.shows("#results-title", "Like a moment of kitchen")
    until(lambda: tab.videos()[:1] == ["trips/again.mp4"], lambda: str(tab.videos()))
    tab.find("li.card a").first.click()
    tab.find(".track .curve").wait_for()
    tab.find(".parts summary").click()
    tab.shows(".parts", "1.000")
    assert "like=kitchen.mp4" in tab.query


def test_names_with_markup_are_shown_not_run(tab: Tab) -> None:
    tab.open()
    assert {MARKUP, ODD} <= set(tab.videos())
    tab.shows(".title", "<img src=x onerror=alert(1)> & 'more'")
    for name in (MARKUP, ODD):
        tab.open()
        tab.find("li.card a").nth(tab.videos().index(name)).click()
        tab.plays_at(0)
        tab.shows(".heading .folder", name)
    ask(tab, "<img src=x onerror=alert(3)> dog")
    tab.shows("#results-title", "<img src=x onerror=alert(3)> dog")
    assert tab.find("img[src=x]").count() == 0
    # Each picture is there, whatever its video is called.
    until(lambda: tab.find("img.there").count() == 5, lambda: str(tab.find("img.there").count()))


COUNTED = """() => {
  window.played = window.paused = 0;
  const video = document.querySelector('video');
  video.play = () => { played += 1; return Promise.resolve(); };
  video.pause = () => { paused += 1; };
  Object.defineProperty(video, 'paused', { get: () => played === paused });
}"""


def keys_of_the_player(tab: Tab, hit: dict[str, Any]) -> None:
    """Presses those that the help lists, as one does who has just opened a hit."""
    tab.page.evaluate(COUNTED)
    for told in ([1, 0], [1, 1], [2, 1]):
        tab.page.keyboard.press(" ")
        assert tab.page.evaluate("[played, paused]") == told
    at, end = hit["peak"], tab.page.evaluate("document.querySelector('video').duration")
    for key, by in (("ArrowRight", 1), ("ArrowLeft", -1), ("ArrowLeft", -1), ("ArrowRight", 1)):
        tab.page.keyboard.press(key)
        at = min(max(at + by, 0), end)
        tab.plays_at(at)
    starts = sorted(span["start"] for span in hit["spans"])
    tab.page.keyboard.press("s")
    tab.plays_at(next((start for start in starts if start > at + 0.2), starts[0]))


@pytest.mark.slow
def test_keys(tab: Tab, served: Running) -> None:
    first, second = hits(served)[:2]
    tab.open()
    tab.page.keyboard.press("/")
    tab.page.keyboard.type(QUERY)
    tab.page.keyboard.press("Enter")
    tab.shows("#results-title", QUERY)
    # From the box, tabbing reaches the first card; Enter opens it.
    tab.find("li.card a").first.focus()
    tab.page.keyboard.press("Enter")
    tab.plays_at(first["peak"])
    tab.find(".track .curve").wait_for()
    keys_of_the_player(tab, first)
    tab.page.keyboard.press("n")
    tab.shows(".heading", second["video"])
    tab.plays_at(second["peak"])
    tab.shows("#spoken", f"Player: {second['title']} at 0:0")
    tab.find(".track .curve").wait_for()
    keys_of_the_player(tab, second)
    tab.page.keyboard.press("p")
    tab.shows(".heading", first["video"])
    tab.page.keyboard.press("Escape")
    until(tab.find("#watch").is_hidden)
    # With a click as well.
    tab.find("li.card a").nth(1).click()
    tab.plays_at(second["peak"])
    tab.find(".track .curve").wait_for()
    keys_of_the_player(tab, second)
    tab.page.keyboard.press("m")
    tab.shows("#results-title", f"Like a moment of {second['title']}")
    until(lambda: tab.page.evaluate("document.activeElement.id") == "results-title")
    tab.page.go_back()
    tab.page.go_back()
    tab.shows("#results-title", QUERY)
    tab.page.keyboard.press("?")
    until(tab.find("#help").is_visible)
    tab.page.keyboard.press("Escape")
    until(tab.find("#help").is_hidden)
    tab.shows("#results-title", QUERY)


@pytest.mark.slow
def test_what_the_page_says_when_nothing_comes(tab: Tab) -> None:
    tab.open(ASKED + "&where=duration%3E60")
    tab.shows("#notice", "No video meets these conditions.")
    tab.open(ASKED + "&where=nonsense")
    tab.shows("#notice", "'nonsense' is not a condition")
    tab.open()
    tab.page.route("**/api/search?**", lambda route: route.abort())
    ask(tab, QUERY)
    tab.shows("#notice", "The service does not answer.")
    tab.shows("#spoken", "The service does not answer.")
    tab.page.unroute("**/api/search?**")
    tab.find("#notice button").click()
    tab.shows("#results-title", QUERY)
    until(lambda: len(tab.videos()) == 5)


@pytest.mark.slow
def test_conditions_without_a_sentence_narrow_the_list(tab: Tab) -> None:
    tab.open("?where=folder%3Dtrips")
    tab.shows("#results-title", "Videos with folder=trips")
    assert tab.videos() == [MARKUP, "trips/again.mp4"]
    assert tab.find("#where").input_value() == "folder=trips"
    tab.find("#where").fill("folder=trips; duration>60")
    tab.find("#where").press("Enter")
    tab.shows("#notice", "No video meets these conditions.")
    tab.find("#where").fill("camara=1")
    tab.find("#where").press("Enter")
    tab.shows("#notice", "did you mean 'camera'?")
    tab.find("#where").fill("")
    tab.find("#where").press("Enter")
    tab.shows("#results-title", "All videos")
    until(lambda: len(tab.videos()) == 5)
    assert tab.query == ""


@pytest.mark.slow
def test_a_link_shows_what_opening_the_hit_showed(tab: Tab, served: Running) -> None:
    # As a calibrated model answers, and late.
    likely = [{**hit, "title": f"The {hit['title']}", "probability": 0.2} for hit in hits(served)]
    held: list[Any] = []
    tab.page.route("**/api/search?**", lambda route: held.append(route))
    tab.page.goto(tab.url + ASKED + "&video=trips/again.mp4&at=1")
    tab.shows(".heading h2", "again")
    tab.shows("#spoken", "Player: again at 0:01")
    tab.find(".parts").wait_for()
    assert "%" not in tab.texts(".parts")[0]
    until(lambda: tab.videos() is not None and bool(held))
    held[0].fulfill(json={"hits": likely, "seconds": 0.01})
    tab.shows(".heading h2", "The again")
    tab.shows(".parts", "20 %")
    until(lambda: tab.page.title() == f"The again · {QUERY} · prvr", tab.page.title)
    assert tab.texts("#spoken") == ["Player: again at 0:01"]
    # What was likely for one sentence is not for another.
    tab.page.unroute("**/api/search?**")
    tab.open("?q=a+cat+sits&video=trips/again.mp4")
    tab.find(".parts").wait_for()
    assert "likely" not in tab.texts(".parts")[0]
    tab.open("?video=trips/again.mp4")
    assert tab.texts(".heading h2") == ["again"]
    assert tab.page.title() == "again · prvr"


@pytest.mark.slow
def test_more_videos_that_do_not_come(tab: Tab, served: Running) -> None:
    listed = served.client.get("/api/videos").json()
    first, rest = {**listed, "videos": listed["videos"][:3]}, {**listed, "videos": listed["videos"][3:]}
    tab.page.route("**/api/videos?**", lambda route: route.fulfill(json=rest if "offset=3" in route.request.url else first))
    tab.page.route("**/api/videos?**offset=**", lambda route: route.abort(), times=1)
    tab.open()
    tab.find("#more").click()
    tab.shows("#notice", "The service does not answer.")
    assert len(tab.videos()) == 3
    tab.find("#more").click()
    until(lambda: len(tab.videos()) == 5)
    until(tab.find("#notice").is_hidden)
    assert tab.find("#more").is_hidden()


@pytest.mark.slow
def test_while_an_answer_is_awaited_cards_are_hinted_at(tab: Tab) -> None:
    held: list[Any] = []
    given_up: list[str] = []
    tab.open()
    tab.page.on("requestfailed", lambda request: given_up.append(request.url))
    tab.page.route("**/api/search?**", lambda route: route.continue_() if held else held.append(route))
    ask(tab, QUERY)
    until(lambda: tab.find(".ghost").count() > 0)
    # Another question overtakes the first, which nobody waits for any longer.
    ask(tab, "a cat sits")
    tab.shows("#results-title", "a cat sits")
    until(lambda: tab.videos() is not None and any("red+dog" in url for url in given_up), lambda: str(given_up))
    assert tab.find(".ghost").count() == 0
    assert len(tab.videos()) == 5


@pytest.mark.slow
def test_a_doubtful_answer_says_so(tab: Tab, served: Running) -> None:
    # As a calibrated model answers.
    likely = [{**hit, "probability": 0.2 / (n + 1)} for n, hit in enumerate(hits(served))]
    tab.page.route("**/api/search?**", lambda route: route.fulfill(json={"hits": likely, "seconds": 0.01}))
    tab.open(ASKED)
    tab.shows("#doubt", "Probably nothing here matches: the best video is 20 % likely to.")
    assert tab.texts(".score")[:2] == ["20 % likely", "10 % likely"]
    tab.find("li.card a").first.click()
    tab.shows(".parts", "20 %")


@pytest.mark.slow
def test_a_file_that_a_browser_cannot_play_is_offered(tab: Tab) -> None:
    tab.page.route("**/media/**", lambda route: route.fulfill(body=b"RIFF" * 99, content_type="video/x-msvideo"))
    tab.page.route(
        "**/proxies/**", lambda route: route.fulfill(status=422, json={"error": "it takes too long; download it whole"})
    )
    tab.open("?video=beach.mp4")
    tab.shows(".unplayable", "It cannot be converted: it takes too long; download it whole")
    tab.shows(".unplayable", "This browser cannot play the file (mp4).")
    assert tab.find(".unplayable a").get_attribute("download") == "beach.mp4"


@pytest.mark.slow
def test_a_file_that_is_gone_is_not_offered(tab: Tab) -> None:
    tab.open("?q=dog&video=never.mp4")
    tab.shows(".unplayable", "The file is no longer there.")
    tab.shows(".curve-box", "the index holds no video 'never.mp4'")
    assert tab.find(".unplayable a").count() == 0
    tab.page.route("**/media/**", lambda route: route.fulfill(status=503, body=""))
    tab.open("?video=beach.mp4")
    tab.shows(".unplayable", "The service answered with status 503.")
    assert tab.find(".unplayable a").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_in_light_and_dark(browser: Any, served: Running, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    tab = Tab(context, served.url)
    for address in ("", ASKED, ASKED + "&video=trips/again.mp4&at=1&where=folder%3Dtrips"):
        tab.open(address)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 320, address
    red, green, blue = json.loads("[" + tab.page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()") + "]")
    assert (red + green + blue > 600) == (scheme == "light")
    context.close()
    assert tab.faults == []


NAMELESS = """[...document.querySelectorAll('a[href], button, input, video, [role]')].filter((one) => one.offsetParent
  && !one.ariaLabel && !one.getAttribute('aria-labelledby') && !one.innerText?.trim() && !one.labels?.length
  && !['list', 'status', 'search'].includes(one.role ?? '')).map((one) => one.outerHTML)"""


@pytest.mark.slow
def test_everything_that_can_be_used_has_a_name(tab: Tab, served: Running) -> None:
    best = hits(served)[0]
    tab.open(ASKED)
    assert tab.page.evaluate(NAMELESS) == []
    tab.shows("#spoken", "5 videos found.")
    tab.find("li.card a").first.click()
    tab.find(".track .curve").wait_for()
    assert tab.page.evaluate(NAMELESS) == []
    tab.plays_at(best["peak"])
    track = tab.find(".track")
    until(
        lambda: track.get_attribute("aria-valuenow") == f"{best['peak']:.1f}",
        lambda: track.get_attribute("aria-valuenow"),
    )
    assert "relevance" in track.get_attribute("aria-valuetext")
    assert tab.page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.slow
def test_the_interface_is_described(tab: Tab) -> None:
    tab.page.goto(tab.url + "api.html")
    tab.shows(".route", "/api/videos/{video}")
    assert len(tab.texts(".route")) == 19
    tab.shows(".route", "Authorization: Bearer TOKEN")


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.thorough
def test_real_clips(browser: Any, shared: Path, tmp_path: Path) -> None:
    from prvr.search import index_folder, zero_shot

    source, names = (
        shared / "data" / "videos" / "clips",
        ("skateboarding_dog.mp4", "pancake.mkv", "02_cups.mp4", "man-skiing.mp4"),
    )
    (tmp_path / "videos").mkdir()
    for path in source.iterdir():
        if path.name.endswith(names):
            (tmp_path / "videos" / path.name).write_bytes(path.read_bytes())
    index_folder(tmp_path / "videos", tmp_path / "gallery", zero_shot(shared / "data" / "models" / "mobilenet-minilm"))
    with running(tmp_path / "gallery") as served:
        context = browser.new_context()
        tab = Tab(context, served.url).open()
        for text, video in (("a dog rides a skateboard", "skateboarding_dog"), ("a woman flips a pancake in a pan", "pancake")):
            ask(tab, text)
            tab.shows("#results-title", text)
            until(lambda video=video: video in tab.videos()[0], lambda: str(tab.videos()))  # type: ignore[misc]
            (peak,) = [hit["peak"] for hit in served.client.get("/api/search", params={"q": text, "k": 1}).json()["hits"]]
            tab.find("li.card a").first.click()
            tab.plays_at(peak)
        assert tab.faults == []
        context.close()
