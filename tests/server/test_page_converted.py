"""What no browser plays is shown from windows that the service converts, at the player's time; moments are downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from browsing import Tab, chromium
from numbered_videos import number_of, write_numbered
from serving import Running, running
from tiny_encoders import make_clip
from waiting import until

from prvr.search import index_folder, zero_shot
from prvr.video import VideoReader

EVERY = 1000.0
# The number that the player shows, by the bars of its picture (`numbered_videos`).
NUMBER = """() => {
  const player = document.querySelector('video'), canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [player.videoWidth, player.videoHeight];
  const context = canvas.getContext('2d');
  context.drawImage(player, 0, 0);
  const isWhite = (bit) => context.getImageData(16 * bit + 8, 24, 1, 1).data[1] > 127;
  return [...Array(10).keys()].reduce((sum, bit) => sum + (isWhite(bit) ? 1 << bit : 0), 0);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def videos(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos with sound that Chromium does not play, and one that it does; the AVI has three windows, the others one."""
    folder = tmp_path_factory.mktemp("converted") / "videos"
    folder.mkdir()
    write_numbered(folder / "hevc.mp4", 75, codec="libx265", sound_codec="aac", tone_at=1.0)
    write_numbered(folder / "mpeg2.mpg", 75, format="vob", codec="mpeg2video", gop=12, tone_at=1.0)
    write_numbered(folder / "old.avi", 150, rate=5, codec="mpeg4", b_frames=0, tone_at=1.0)
    write_numbered(
        folder / "prores.mov", 75, codec="prores_ks", sound_codec="aac", pix_fmt="yuv422p10le", b_frames=0, tone_at=1.0
    )
    write_numbered(folder / "camera.mts", 75, format="mpegts", container_options={"mpegts_m2ts_mode": "1"}, tone_at=1.0)
    write_numbered(folder / "plays.mp4", 75, tone_at=1.0)
    return folder


@pytest.fixture(scope="module")
def served(videos: Path) -> Iterator[Running]:
    index, encoder = videos.parent / "gallery", videos.parent / "tiny-clip"
    make_clip(encoder)
    index_folder(videos, index, zero_shot(encoder))
    with running(index) as service:
        yield service


@pytest.fixture(scope="module")
def tab(browser: Any, served: Running) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    context.set_default_timeout(300_000)
    opened = Tab(context, served.url)
    yield opened
    assert opened.faults == []
    context.close()


def shown(path: Path, seconds: float) -> int:
    """The number of the picture that a player shows at a time."""
    return [number_of(image) for time, image in VideoReader(path, rate=EVERY) if time <= seconds + 0.001][-1]


def shows(tab: Tab, path: Path, seconds: float) -> None:
    tab.plays_at(seconds)
    until(
        lambda: (
            not tab.page.evaluate("document.querySelector('video').seeking") and tab.page.evaluate(NUMBER) == shown(path, seconds)
        ),
        lambda: f"{path.name} at {seconds}: {tab.page.evaluate(NUMBER)}, not {shown(path, seconds)}; {tab.texts('.blind')}",
    )


def test_five_kinds_that_no_browser_plays(tab: Tab, videos: Path) -> None:
    for name in ("hevc.mp4", "mpeg2.mpg", "old.avi", "prores.mov", "camera.mts"):
        tab.open(f"?video={name}&at=1.52")
        shows(tab, videos / name, 1.52)
        tab.shows(".blind", f"This browser cannot play the file ({name[-3:]}): you see a converted copy.")
        assert tab.find(".blind a").get_attribute("download") == name
        assert tab.texts(".unplayable") == []
        length = tab.page.evaluate("document.querySelector('video').duration")
        assert length == pytest.approx(30.0 if name == "old.avi" else 3.0, abs=0.1)
        assert tab.page.evaluate("document.querySelector('video').webkitAudioDecodedByteCount") > 0
        for seconds in (0.42, 2.66):
            tab.page.evaluate(f"document.querySelector('video').currentTime = {seconds}")
            shows(tab, videos / name, seconds)


def test_other_windows_are_made_when_they_are_sought_or_reached(tab: Tab, videos: Path) -> None:
    avi = videos / "old.avi"
    tab.open("?video=old.avi&at=18.9")
    shows(tab, avi, 18.9)
    tab.page.evaluate("document.querySelector('video').currentTime = 25.3")
    shows(tab, avi, 25.3)
    assert "at=25.30" in tab.query
    tab.page.evaluate("document.querySelector('video').currentTime = 0.7")
    shows(tab, avi, 0.7)
    # Played over the end of a window.
    asked = [address for address in tab.requests if "/proxies/" in address]
    tab.page.evaluate("document.querySelector('video').currentTime = 19.5")
    tab.plays_at(19.5)
    tab.page.evaluate(
        "const all = HTMLMediaElement.prototype, player = document.querySelector('video');"
        "all.play = all.reallyPlay; player.muted = true; player.play()"
    )
    until(lambda: tab.time > 20.5, lambda: f"{tab.time}")
    assert len([address for address in tab.requests if "/proxies/" in address]) > len(asked)


def test_keys_go_on_from_the_time_that_is_awaited(tab: Tab, videos: Path) -> None:
    held: list[Any] = []
    tab.page.route("**/proxies/**window=2", lambda route: held.append(route) if not held else route.continue_())
    tab.open("?video=old.avi&at=12.5")
    tab.plays_at(12.5)
    tab.page.evaluate("document.querySelector('video').currentTime = 25.3")
    tab.shows(".blind", "Preparing this stretch")
    tab.page.evaluate("document.activeElement.blur()")
    tab.page.keyboard.press("ArrowRight")
    held[0].continue_()
    shows(tab, videos / "old.avi", 26.3)
    tab.page.unroute("**/proxies/**window=2")


def test_a_busy_service_is_asked_again(tab: Tab, videos: Path) -> None:
    refused = []

    def refuse(route: Any) -> None:
        if refused:
            return route.continue_()
        refused.append(route.request.url)
        route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "20 conversions are waiting"})

    tab.page.route("**/proxies/**", refuse)
    tab.open("?video=old.avi&at=5")
    shows(tab, videos / "old.avi", 5)
    assert refused
    tab.page.unroute("**/proxies/**")


def test_what_the_browser_plays_is_not_converted(tab: Tab, served: Running) -> None:
    tab.requests.clear()
    tab.open("?video=plays.mp4&at=1")
    tab.plays_at(1)
    assert not [address for address in tab.requests if "/proxies/" in address]


def test_a_moment_is_downloaded(tab: Tab, videos: Path, tmp_path: Path) -> None:
    tab.open("?video=plays.mp4&at=1")
    tab.plays_at(1)
    assert tab.find("#take").is_hidden()
    tab.open("?q=a+picture+with+bars&video=plays.mp4&at=1")
    tab.find(".track .curve").wait_for()
    with tab.page.expect_download() as waiting:
        tab.find("#take").click()
    waiting.value.save_as(tmp_path / "moment.mp4")
    assert waiting.value.suggested_filename.startswith("plays ")
    assert waiting.value.suggested_filename.endswith(".mp4")
    found = [number_of(image) for _, image in VideoReader(tmp_path / "moment.mp4", rate=EVERY)]
    assert found
    assert set(found) <= set(range(75))


def test_why_a_video_is_not_converted(tab: Tab, served: Running) -> None:
    tab.page.route("**/proxies/**", lambda route: route.fulfill(status=422, json={"error": "no space left; free some"}))
    tab.open("?video=camera.mts&at=1")
    tab.shows(".unplayable", "This browser cannot play the file (mts).")
    tab.shows(".unplayable", "It cannot be converted: no space left; free some")
    assert tab.find(".unplayable a").get_attribute("download") == "camera.mts"
    tab.page.unroute("**/proxies/**")
