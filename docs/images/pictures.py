"""The pictures of the page, light and dark, taken of a service over an index of real videos.

    python docs/images/pictures.py FOLDER ENCODER [OUT]

Indexes the clips of FOLDER that pictures.md names by ENCODER as `prvr index --encoder` does, serves the index, asks in Chromium
(playwright, of the extra `dev`), and writes NAME-light.webp and NAME-dark.webp beside itself, or into the folder OUT.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from prvr.search import index_folder, zero_shot
from prvr.server.app import make_service
from prvr.server.run import listen, server_of

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--autoplay-policy=user-gesture-required",
]
SENTENCE = "a person pours coffee into a blue mug"
# The clips in the pictures, with names that a gallery would have; pictures.md has their sources.
CLIPS = {
    "facebookresearch__02_cups.mp4": "table/three cups.mp4",
    "facebookresearch__03_blocks.mp4": "table/letters.mp4",
    "facebookresearch__04_coffee.mp4": "table/coffee.mp4",
    "facebookresearch__05_default_juggle.mp4": "outdoors/football.mp4",
    "facebookresearch__dog.mp4": "outdoors/dog.mp4",
    "flutter__butterfly.mp4": "outdoors/butterfly.mp4",
    "intel-iot-devkit__book.mkv": "indoors/sign language.mkv",
    "intel-iot-devkit__car-detection.mp4": "roads/from above.mp4",
    "meta-pytorch__nasa_13013.mp4": "indoors/telescope.mp4",
    "udacity__solidWhiteRight.mp4": "roads/highway.mp4",
}
# Name, width and height, and what is opened.
PICTURES = [
    ("home", (1200, 760), ""),
    ("hits", (1200, 760), "?q="),
    ("moment", (1200, 860), "?q=&open"),
    ("telephone", (390, 780), "?q=&open"),
]
SCHEMES = ("light", "dark")


def take(browser: Any, base: str, out: Path, *, name: str, scheme: str, size: tuple[int, int], what: str) -> None:
    """Takes one picture of the service at an address: OUT/NAME-SCHEME.webp."""
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
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.save(out / f"{name}-{scheme}.webp", quality=85, method=6)
    context.close()


def main() -> None:
    """Indexes the videos, serves them, and takes all pictures."""
    clips, encoder = map(Path, sys.argv[1:3])
    out = Path(sys.argv[3] if len(sys.argv) > 3 else Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        for clip, name in CLIPS.items():
            place = Path(folder) / "videos" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clips / clip, place)
        index_folder(Path(folder) / "videos", Path(folder) / "gallery", zero_shot(encoder))
        opened = listen("127.0.0.1", 0)
        server = server_of(make_service(Path(folder) / "gallery"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
                for name, size, what in PICTURES:
                    for scheme in SCHEMES:
                        base = f"http://127.0.0.1:{opened.getsockname()[1]}/"
                        take(browser, base, out, name=name, scheme=scheme, size=size, what=what)
                browser.close()
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
