"""The page shows what is said and written: quotes, the sense that found a hit, where to look, and the transcript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

pytest.importorskip("fastapi")

from browsing import Tab
from serving import MARKUP, Running, make_world, running
from texts import srt
from waiting import until

from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.search.opening import open_index

HOSTILE = "a helicopter lands & <img src=x onerror=alert(3)> leaves"
ASKED = "?q=the+helicopter+lands"
KITCHEN = "?video=kitchen.mp4"
SAID = "look, a helicopter lands"
LINES = [(0.3 * n, 0.3 * n + 0.3, f"line {n} in this kitchen") for n in range(19)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The small world with words: of beach as subtitles, of kitchen in two languages, and hostile ones on a screen."""
    beside = {
        "beach.srt": srt((0.5, 1.5, "hello"), (2, 3, SAID)),
        "kitchen.en.srt": srt(*LINES),
        "kitchen.de.srt": srt((1, 2, "ein Hubschrauber"), (3, 4, "er landet")),
    }
    world = make_world(tmp_path_factory.mktemp("served"), beside=beside)
    opened = open_index(world.index)
    read = TextsPart(6.0, (TimedText(3.0, 4.0, HOSTILE, "screen", 0.9),))
    opened.index.texts.extend(MARKUP, "screen", read, made_of="made up", is_complete=True)
    opened.index.close()
    with running(world.index) as service:
        yield service


def now(tab: Tab) -> list[str]:
    return tab.texts(".line[aria-current] span")


def card(tab: Tab, video: str) -> dict[str, Any]:
    """What the card of a video says: to everybody, as its name, its quotes, and the marks on its curve."""
    return tab.page.evaluate(
        """(video) => {
            const card = [...document.querySelectorAll("li.card")].find((one) => one.dataset.video === video);
            const marks = [...card.querySelectorAll(".bar-of")].map((one) => one.getAttribute("class").split(" ")[1]);
            const quotes = [...card.querySelectorAll(".quote")].map((one) => one.innerText);
            return { text: card.innerText, name: card.firstChild.ariaLabel, quotes, marks };
        }""",
        video,
    )


def test_a_quote_stands_under_its_card_and_leads_to_its_time(tab: Tab) -> None:
    tab.open(ASKED)
    said, written, other = (card(tab, video) for video in ("beach.mp4", MARKUP, "kitchen.mp4"))
    assert (said["quotes"], said["marks"]) == ([f"0:02 {SAID}"], ["said"])
    assert "Said in the video" in said["text"]
    assert "Said in the video" in said["name"]
    # A text is a text, whatever it looks like: nothing of it became an element.
    assert (written["quotes"], written["marks"]) == ([f"0:03 {HOSTILE}"], ["written"])
    assert tab.page.evaluate("document.querySelectorAll('img:not(.frame img, .brand img)').length") == 0
    assert "Written on the screen" in written["text"]
    assert (other["quotes"], other["marks"]) == ([], [])
    assert "Seen in the picture" in other["text"]
    tab.find(".quote.said").click()
    tab.plays_at(2)
    until(lambda: "at=2.00" in tab.query, lambda: tab.query)


@pytest.mark.parametrize(("video", "tone", "start", "text"), [("beach.mp4", "said", 2, SAID), (MARKUP, "written", 3, HOSTILE)])
def test_words_are_marked_in_the_player_with_a_legend(tab: Tab, video: str, tone: str, start: float, text: str) -> None:
    address = f"{ASKED}&{urlencode({'video': video})}"
    tab.open(address)
    bar = tab.find(f".track .bar-of.{tone}")
    bar.wait_for()
    end = float(tab.find(".track").get_attribute("aria-valuemax"))
    assert float(bar.get_attribute("x")) == pytest.approx(1000 * start / end, rel=0.05)
    legend = {"said": "said in the video", "written": "written on the screen"}
    assert tab.texts(".curve-box .legend li") == ["seen in the picture", legend[tone]]
    assert text in tab.find(f".chip.{tone}").inner_text()
    tab.find(f".chip.{tone}").click()
    tab.plays_at(start)
    until(lambda: tab.texts(".line.quoted span") == [text])
    # Where only the picture is meant, no words are marked.
    tab.open(f"{address}&in=picture")
    tab.find(".track .curve").wait_for()
    assert tab.find(".track .bar-of").count() == tab.find(".curve-box .legend").count() == tab.find(".quoted").count() == 0


def test_where_to_look_is_chosen_and_lives_in_the_address(tab: Tab) -> None:
    tab.open()
    assert tab.texts("#sense option") == ["picture and words", "the picture", "what is said", "text on the screen"]
    tab.find("#sense").select_option("speech")
    tab.find("#sentence").fill("the helicopter lands")
    tab.find("#sentence").press("Enter")
    until(lambda: tab.videos() == ["beach.mp4"], lambda: str(tab.videos()))
    assert tab.query == f"{ASKED}&in=speech"
    tab.find("#sense").select_option("screen")
    until(lambda: tab.videos() == [MARKUP], lambda: str(tab.videos()))
    tab.find("#sense").select_option("picture")
    until(lambda: len(tab.videos()) == 5)
    assert tab.query == f"{ASKED}&in=picture"
    assert tab.find(".quote").count() == 0
    tab.page.go_back()
    until(lambda: tab.videos() == [MARKUP])
    assert tab.find("#sense").input_value() == "screen"
    # Moments are those of the picture, and the page says so instead of being refused.
    tab.find("#moments").check()
    until(lambda: len(tab.videos()) >= 5, lambda: str(tab.videos()))
    assert tab.find("#sense").is_disabled()
    assert tab.find("#sense").input_value() == "picture"
    tab.find("#moments").uncheck()
    until(lambda: tab.query == ASKED and tab.find("#sense").is_enabled(), lambda: tab.query)
    assert tab.find("#sense").input_value() == ""


def test_the_choice_and_the_transcript_are_not_there_without_texts(tab: Tab) -> None:
    tab.open("?video=trips/again.mp4")
    assert tab.find("#senses").is_visible()
    tab.page.route("**/api/about?", lambda route: route.fulfill(json={**route.fetch().json(), "texts": {}}))
    tab.open("?video=trips/again.mp4")
    tab.page.wait_for_load_state("networkidle")
    assert tab.find("#senses").is_hidden()
    assert tab.find("#transcript").is_hidden()


def test_the_transcript_follows_the_time_and_leads_to_it(tab: Tab) -> None:
    tab.open(f"{KITCHEN}&at=0.1")
    tab.find("#transcript").wait_for()
    until(lambda: now(tab) == ["line 0 in this kitchen"], lambda: str(now(tab)))
    tab.find(".line").filter(has_text="line 2 in").click()
    tab.plays_at(0.6)
    until(lambda: now(tab) == ["line 2 in this kitchen"], lambda: str(now(tab)))
    # Two languages at a time; a line says which it is.
    tab.find(".heading h2").focus()
    tab.page.keyboard.press("ArrowRight")
    until(lambda: now(tab) == ["ein Hubschrauber", "line 5 in this kitchen"], lambda: str(now(tab)))
    assert tab.texts("#transcript-of option") == ["all texts", "English", "German"]
    assert tab.texts(".line[aria-current] small") == ["German", "English"]
    assert tab.find(".line[aria-current] span").first.get_attribute("lang") == "de"
    tab.find("#transcript-of").select_option("German")
    until(lambda: tab.find(".line:visible").count() == 2)


def test_the_transcript_does_not_pull_away_who_scrolls(tab: Tab) -> None:
    tab.open(f"{KITCHEN}&at=0.1")
    tab.find("#transcript").wait_for()
    scrolled = "document.getElementById('transcript-lines').scrollTop"
    play = "(seconds) => (document.querySelector('video').currentTime = seconds)"
    tab.plays_at(0.1)
    tab.page.evaluate(play, 4.6)
    until(lambda: tab.page.evaluate(scrolled) > 100)
    assert tab.find("#transcript-follow").is_hidden()
    tab.find("#transcript-lines").hover()
    tab.page.mouse.wheel(0, -4000)
    until(lambda: tab.page.evaluate(scrolled) == 0)
    until(tab.find("#transcript-follow").is_visible)
    tab.page.evaluate(play, 5.0)
    until(lambda: "line 16 in this kitchen" in now(tab), lambda: str(now(tab)))
    assert tab.page.evaluate(scrolled) == 0
    tab.find("#transcript-follow").click()
    assert tab.page.evaluate(scrolled) > 100
    assert tab.find("#transcript-follow").is_hidden()
    assert tab.page.evaluate("document.activeElement.innerText").split("\n")[1].startswith("line 16 in")


def test_the_transcript_by_keyboard(tab: Tab) -> None:
    tab.open(f"{KITCHEN}&at=0.1")
    until(lambda: now(tab) == ["line 0 in this kitchen"])
    # One stop for all lines; the arrow keys lead on.
    assert tab.find(".line[tabindex='0']").count() == 1
    tab.find("#transcript-of").focus()
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("ArrowDown")
    assert "line 2 in" in tab.page.evaluate("document.activeElement.innerText")
    tab.page.keyboard.press("Enter")
    tab.plays_at(0.6)
    tab.page.keyboard.press("End")
    tab.page.keyboard.press("Enter")
    tab.plays_at(5.4)
    tab.page.keyboard.press("Escape")
    until(tab.find("#transcript").is_hidden)
    assert tab.find(".line").count() == 0


def test_axe_finds_nothing_with_texts(browser: Any, served: Running) -> None:
    axe = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT
    for scheme, width, height in (("light", 1200, 800), ("dark", 390, 780)):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
        tab = Tab(context, served.url)
        tab.open("?q=line+3+in+this+kitchen&video=kitchen.mp4&at=1.1")
        tab.find(".track .bar-of").first.wait_for()
        tab.find(".line.quoted").first.wait_for()
        tab.page.evaluate(axe)
        found = tab.page.evaluate("() => axe.run(document)")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        # Beside the player where there is room, otherwise below it.
        player, transcript = (tab.find(selector).bounding_box() for selector in (".screen", "#transcript"))
        assert (transcript["x"] >= player["x"] + player["width"]) == (width == 1200)
        assert (transcript["y"] >= player["y"] + player["height"]) == (width == 390)
        assert tab.faults == []
        context.close()
