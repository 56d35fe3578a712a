"""A headless Chromium of the system, for tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from waiting import until

# The shell is the same engine without a window of a browser around the page: less than half of the processor time.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser"))), "")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Whether a player starts by itself is the browser's choice, and where it has got to is the clock's: tests hold it.
HOLD = "const all = HTMLMediaElement.prototype; [all.reallyPlay, all.play] = [all.play, () => Promise.resolve()];"


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no chromium on this machine; install it to test the page (apt install chromium-headless-shell)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """A tab that keeps what was asked and what went wrong in it."""

    def __init__(self, context: Any, url: str) -> None:
        self.page, self.url = context.new_page(), url
        self.requests: list[str] = []
        self.media: list[int] = []
        self.faults: list[str] = []
        self.page.add_init_script(HOLD)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", lambda answer: self.media.append(answer.status) if "/media/" in answer.url else None)
        self.page.on("pageerror", lambda problem: self.faults.append(str(problem)))
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("console", lambda said: self.faults.append(said.text) if "Content Security" in said.text else None)

    def open(self, address: str = "") -> Tab:
        self.page.goto(self.url + address)
        self.page.wait_for_selector("body.ready")
        return self

    def find(self, selector: str) -> Any:
        return self.page.locator(selector)

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()

    def videos(self) -> list[str]:
        """The videos of the cards, in order."""
        cards = "document.querySelectorAll('li.card:not(.ghost)')"
        return self.page.evaluate(f"[...{cards}].map((card) => card.dataset.video)")

    @property
    def time(self) -> float:
        """Where the player is, in seconds; -1 where there is none, or it knows nothing yet."""
        return self.page.evaluate(
            "(() => { const v = document.querySelector('video'); return v?.readyState ? v.currentTime : -1 })()"
        )

    @property
    def query(self) -> str:
        return self.page.evaluate("location.search")

    def plays_at(self, seconds: float, *, within: float = 0.05) -> None:
        until(lambda: abs(self.time - seconds) <= within, lambda: f"at {self.time}, not {seconds}")

    def shows(self, selector: str, text: str) -> None:
        until(lambda: any(text in one for one in self.texts(selector)), lambda: f"{text!r} not in {self.texts(selector)}")
