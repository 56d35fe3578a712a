"""Every view of the page: no finding of axe, no side scrolling, and all of it by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")

from browsing import Tab
from serving import TOKEN, Running, make_world, running
from waiting import until

ASKED = "?q=a+red+dog+runs+on+the+beach"


@pytest.fixture(scope="module")
def served(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(make_world(tmp_path_factory.mktemp("page")).index, token=TOKEN) as service:
        yield service


def filters(tab: Tab) -> None:
    tab.open(ASKED + "&then=a+cat&where=folder%3Dtrips%3B+camera%3Dnone")
    tab.find("#narrow").is_visible()


def adding(tab: Tab) -> None:
    tab.open()
    tab.page.evaluate("document.getElementById('add-videos').click()")
    tab.find("#token").fill("wrong")
    files = [{"name": name, "mimeType": "video/mp4", "buffer": b"data"} for name in ("new.mp4", "beach.mp4", "notes.txt")]
    tab.find("#files").set_input_files(files)
    tab.shows(".arrival", "The token is not the one")


def player(tab: Tab) -> None:
    tab.open(ASKED)
    tab.find("li.card a").first.click()
    tab.find(".track .curve").wait_for()
    tab.find(".parts summary").click()
    tab.find(".track").focus()
    tab.page.keyboard.press("ArrowRight")
    tab.find(".still img").wait_for()


def unplayable(tab: Tab) -> None:
    tab.page.route("**/media/**", lambda route: route.fulfill(body=b"RIFF" * 99, content_type="video/x-msvideo"))
    tab.page.route(
        "**/proxies/**", lambda route: route.fulfill(status=422, json={"error": "it takes too long; download it whole"})
    )
    tab.open("?video=beach.mp4")
    tab.find(".unplayable").wait_for()


def error(tab: Tab) -> None:
    tab.page.route("**/api/search?**", lambda route: route.abort())
    tab.open(ASKED)
    tab.shows("#notice", "The service does not answer.")


def doubtful(tab: Tab) -> None:
    def unsure(route: Any) -> None:
        answer = route.fetch().json()
        route.fulfill(json={**answer, "hits": [{**hit, "probability": 0.2} for hit in answer["hits"]]})

    tab.page.route("**/api/search?**", unsure)
    tab.open(ASKED)
    tab.find("#doubt").wait_for()


def indexing(tab: Tab) -> None:
    progress = {"files": 3, "files_total": 8, "seconds": 75, "seconds_total": 300, "video": "new.mp4", "title": "new"}
    report = {"state": "running", "waiting": False, "added": 0, "kept": 5, "dropped": 0, "problems": [], "error": None}
    tab.page.route("**/api/upkeep?**", lambda route: route.fulfill(json={**report, "progress": progress}))
    tab.open()
    tab.shows("#indexing", "Indexing new")


def helping(tab: Tab) -> None:
    tab.open()
    tab.page.keyboard.press("?")
    tab.find("#help").wait_for()


def described(tab: Tab) -> None:
    tab.page.goto(tab.url + "api.html")
    tab.shows(".route", "/api/videos/{video}")


VIEWS: dict[str, Callable[[Tab], object]] = {
    "start": lambda tab: tab.open(),
    "results": lambda tab: tab.open(ASKED),
    "nothing": lambda tab: tab.open(ASKED + "&where=duration%3E60"),
    "refused": lambda tab: tab.open(ASKED + "&where=nonsense"),
    **{view.__name__: view for view in (filters, adding, player, unplayable, error, doubtful, indexing, helping, described)},
}
# Light or dark, and the width and height: a desk, a telephone, and the desk's half for 200 %.
SCREENS = {
    "light": ("light", 1200, 800),
    "dark": ("dark", 1200, 800),
    "telephone": ("dark", 390, 780),
    "zoomed": ("light", 600, 400),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "screen", [screen if screen == "telephone" else pytest.param(screen, marks=pytest.mark.thorough) for screen in SCREENS]
)
def test_axe_finds_nothing_in_any_view(browser: Any, served: Running, screen: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT
    scheme, width, height = SCREENS[screen]
    for name, view in VIEWS.items():
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
        context.set_default_timeout(300_000)
        tab = Tab(context, served.url)
        view(tab)
        tab.page.wait_for_load_state("networkidle")
        tab.page.evaluate(axe)
        found = tab.page.evaluate("() => axe.run(document)")
        problems = [(one["id"], one["impact"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
        assert (name, problems) == (name, [])
        assert len(found["passes"]) > 15
        assert (name, tab.page.evaluate("document.documentElement.scrollWidth")) == (name, width)
        assert tab.faults == []
        context.close()


def test_all_of_it_by_keyboard(browser: Any, served: Running) -> None:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(300_000)
    tab = Tab(context, served.url).open()

    def press(*keys: str) -> None:
        for key in keys:
            tab.page.keyboard.press(key)

    def tab_to(id: str) -> None:
        for _ in range(40):
            press("Tab")
            if tab.page.evaluate("document.activeElement.id") == id:
                break
        assert tab.page.evaluate("document.activeElement.id") == id
        # What has the focus shows it.
        assert tab.page.evaluate("document.activeElement.matches(':focus-visible')")

    tab_to("sentence")
    tab.page.keyboard.type("a red dog runs on the beach")
    tab_to("narrow")
    press("Enter")
    until(lambda: tab.page.evaluate("document.activeElement.id") == "in-folder")
    until(lambda: "trips (2)" in tab.texts("#in-folder option"))
    press("t")
    until(lambda: tab.find("#where").input_value() == "folder=trips")
    tab_to("where")
    press("Enter")
    until(lambda: len(tab.videos()) == 2 and "q=a+red" in tab.query, lambda: tab.query)
    tab_to("sort")
    press("n")
    until(lambda: "sort=n" in tab.query, lambda: tab.query)
    until(lambda: tab.videos() == sorted(tab.videos()), lambda: str(tab.videos()))
    # Should the answer in that order come only now, the focus stays at its video.
    press("Tab")
    until(lambda: tab.page.evaluate("document.activeElement.closest('li')?.dataset.video") == tab.videos()[0])
    press("Enter")
    tab.find(".track .curve").wait_for()
    press("Escape")
    until(tab.find("#watch").is_hidden)
    press("/")
    assert tab.page.evaluate("document.activeElement.id") == "sentence"
    tab_to("add-videos")
    press("Enter")
    until(lambda: tab.page.evaluate("document.activeElement.id") == "token")
    tab_to("files")
    tab.find("#adding-close").focus()
    press("Enter")
    until(lambda: tab.page.evaluate("document.activeElement.id") == "add-videos")
    assert tab.faults == []
    context.close()
