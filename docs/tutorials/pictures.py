"""The pictures of the tutorials, taken of the page over the demo's rendered videos.

    prvr demo demo && python docs/tutorials/pictures.py demo [OUT]

Needs Chromium and playwright (the extra `dev`). Writes beside itself, or into the folder OUT.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from prvr.server.app import make_service
from prvr.server.run import listen, server_of

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--autoplay-policy=user-gesture-required",
]
SENTENCE = "two yellow fish move across the sea"
# Name, light or dark, width and height, and what is opened.
PICTURES = [
    ("home", "light", (1200, 760), ""),
    ("hits", "light", (1200, 760), "?q="),
    ("moment", "light", (1200, 860), "?q=&open"),
    ("moment-dark", "dark", (1200, 860), "?q=&open"),
    ("telephone", "dark", (390, 780), "?q=&open"),
]


def take(browser: Any, base: str, out: Path, *, name: str, scheme: str, size: tuple[int, int], what: str) -> None:
    """Takes one picture of the service at an address: OUT/NAME.jpg."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    # A video that stands still gives the same picture each time.
    page.add_init_script("HTMLMediaElement.prototype.play = () => Promise.resolve();")
    page.goto(base + ("?q=" + SENTENCE.replace(" ", "+") if "q=" in what else ""))
    page.wait_for_selector("body.ready")
    if "open" in what:
        page.locator("li.card a").first.click()
        page.locator(".track .curve").wait_for()
        # The page forbids evaluated strings, and `wait_for_function` evaluates one whenever it has to wait.
        page.locator("video").first.evaluate(
            "v => v.readyState == 4 || new Promise(done => v.addEventListener('canplaythrough', () => done(true), {once: true}))"
        )
    # The pictures of the cards that are in view.
    page.wait_for_load_state("networkidle")
    # The player's wheel goes on turning for a while.
    page.wait_for_timeout(1500)
    page.screenshot(path=out / f"{name}.jpg", type="jpeg", quality=82, animations="disabled")
    context.close()


def main() -> None:
    """Serves the demo's index and takes all pictures of it."""
    demo, out = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent)
    opened = listen("127.0.0.1", 0)
    server = server_of(make_service(demo / "gallery"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            for name, scheme, size, what in PICTURES:
                base = f"http://127.0.0.1:{opened.getsockname()[1]}/"
                take(browser, base, out, name=name, scheme=scheme, size=size, what=what)
            browser.close()
    finally:
        server.should_exit = True
        thread.join()
    curves = next(iter(sorted((demo / "runs").glob("dl-dkd*/curves.png"))))
    shutil.copyfile(curves, out / "curves.png")


if __name__ == "__main__":
    main()
