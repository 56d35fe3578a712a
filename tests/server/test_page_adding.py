"""The page adds videos with the token, says in words why one is refused, and shows how far the index is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from browsing import Tab
from serving import TOKEN, Running, World, running
from tiny_videos import colourful, write_video
from waiting import until


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Running]:
    """A service whose updates are only asked for."""
    with running(world.index, token=TOKEN, upload_limit=500_000) as service, pytest.MonkeyPatch.context() as patch:
        report = service.service.upkeep.now
        patch.setattr(service.service.upkeep, "start", lambda: report)
        yield service


DROP = """(names) => {
  const given = new DataTransfer();
  for (const [name, size] of names) given.items.add(new File([new Uint8Array(size).fill(7)], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
}"""


def drop(tab: Tab, **files: int) -> None:
    tab.page.evaluate(DROP, [[name.replace("__", "."), size] for name, size in files.items()])


def test_dropped_files_wait_for_the_token_and_are_sent_one_after_another(tab: Tab, world: World) -> None:
    tab.open()
    drop(tab, first__mp4=2000, notes__txt=10, second__MOV=3000, large__mp4=600_000, nothing__mp4=0)
    until(lambda: tab.page.evaluate("document.activeElement.id") == "token")
    tab.shows("#adding-note", "Enter the token")
    rows = tab.texts(".arrival")
    assert len(rows) == 5
    assert "does not end like that of a video" in rows[1]
    assert "600 kB; this service takes at most 500 kB" in rows[3]
    assert "The file is empty." in rows[4]
    assert not (world.videos / "first.mp4").exists()
    tab.find("#token").fill("not the token")
    tab.find("#token").press("Enter")
    tab.shows(".arrival", "The token is not the one that this service was started with.")
    until(lambda: tab.page.evaluate("document.activeElement.id") == "token")
    assert not (world.videos / "first.mp4").exists()
    tab.find("#token").fill(TOKEN)
    tab.find("#token").press("Enter")
    until(lambda: sum("arrived" in row for row in tab.texts(".arrival")) == 2, lambda: str(tab.texts(".arrival")))
    assert (world.videos / "first.mp4").read_bytes() == b"\7" * 2000
    assert (world.videos / "second.MOV").read_bytes() == b"\7" * 3000
    assert not (world.videos / "notes.txt.mp4").exists()


def test_a_name_that_is_taken_can_go_into_another_folder(tab: Tab, world: World, tmp_path: Path) -> None:
    before = (world.videos / "beach.mp4").read_bytes()
    tab.open()
    tab.find("#add-videos").click()
    tab.find("#token").fill(TOKEN)
    (tmp_path / "beach.mp4").write_bytes(b"other")
    tab.find("#files").set_input_files([str(tmp_path / "beach.mp4")])
    tab.shows(".arrival", "There is a file of this name already.")
    tab.shows("#spoken", "beach.mp4: There is a file of this name already.")
    assert (world.videos / "beach.mp4").read_bytes() == before
    tab.find("#into").fill("trips/2026 ünï/")
    tab.find("#files").set_input_files([str(tmp_path / "beach.mp4")])
    tab.shows(".arrival", "trips/2026 ünï/beach.mp4")
    until(lambda: (world.videos / "trips/2026 ünï/beach.mp4").is_file())
    tab.find('button[aria-label="Take off the list: beach.mp4"]').click()
    assert len(tab.texts(".arrival")) == 1


def test_a_connection_that_breaks_can_be_tried_again(tab: Tab, world: World) -> None:
    tab.open()
    tab.find("#add-videos").click()
    tab.find("#token").fill(TOKEN)
    tab.page.route("**/api/videos/again.mp4", lambda route: route.abort(), times=1)
    drop(tab, again__mp4=100)
    tab.shows(".arrival", "The connection broke off.")
    tab.find('button[aria-label="Try again to add again.mp4"]').click()
    until(lambda: (world.videos / "again.mp4").is_file())
    tab.shows(".arrival", "arrived")


def test_without_a_token_of_the_service_the_page_says_where_files_go(browser: Any, world: World) -> None:
    context = browser.new_context()
    with running(world.index) as service:
        tab = Tab(context, service.url).open()
        assert tab.find("#add-videos").is_hidden()
        drop(tab, new__mp4=100)
        tab.shows("#adding-note", "started without a token")
        tab.shows("#adding-note", "Put the files into the folder of the videos")
        assert tab.texts(".arrival") == []
    context.close()


REPORT = {"state": "idle", "waiting": False, "added": 0, "kept": 5, "dropped": 0, "problems": [], "error": None, "progress": None}
PROGRESS = {"files": 3, "files_total": 8, "seconds": 75.0, "seconds_total": 300.0, "video": "trips/new.mp4", "title": "new"}


def test_an_update_is_followed_to_its_end(tab: Tab) -> None:
    reports = [
        {**REPORT, "state": "running"},
        {**REPORT, "state": "running", "waiting": True, "progress": PROGRESS},
        {**REPORT, "added": 2, "dropped": 1, "problems": ["broken.mp4: cannot read broken.mp4 as a video"]},
    ]
    at = [0]
    tab.page.route("**/api/upkeep?**", lambda route: route.fulfill(json=reports[at[0]]))
    tab.open()
    tab.shows("#indexing", "Looking for new videos.")
    assert tab.find("#indexing-bar").get_attribute("value") is None
    listed = sum("/api/videos?" in address for address in tab.requests)
    at[0] = 1
    tab.shows("#indexing", "Indexing new: video 3 of 8, 1:15 of 5:00 watched. Another update follows.")
    assert tab.page.evaluate("(({ value, max }) => [value, max])(document.getElementById('indexing-bar'))") == [75, 300]
    at[0] = 2
    tab.shows("#indexing", "The index is up to date: 2 videos added, 1 video taken out.")
    tab.shows("#spoken", "The index is up to date")
    assert tab.find("#indexing-bar").is_hidden()
    # What is listed is read again; requests come in while the tab is looked at.
    until(lambda: tab.videos() and sum("/api/videos?" in address for address in tab.requests) > listed)
    tab.find("#indexing summary").click()
    tab.shows("#indexing li", "broken.mp4: cannot read broken.mp4 as a video")
    tab.find("#indexing-close").click()
    assert tab.find("#indexing").is_hidden()


def test_an_update_that_failed_says_why(tab: Tab) -> None:
    tab.page.route(
        "**/api/upkeep?**", lambda route: route.fulfill(json={**REPORT, "state": "failed", "error": "the disk is full"})
    )
    tab.open()
    tab.shows("#indexing", "The update of the index failed: the disk is full")


@pytest.mark.slow
@pytest.mark.thorough
def test_from_a_drop_to_a_card(browser: Any, world: World, tmp_path: Path) -> None:
    from prvr.search import index_folder, zero_shot

    own = World(tmp_path / "videos", tmp_path / "gallery", world.encoder)
    own.videos.mkdir()
    shutil.copy(world.videos / "kitchen.mp4", own.videos)
    index_folder(own.videos, own.index, zero_shot(own.encoder))
    new = write_video(tmp_path / "new.mp4", colourful())
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    context = browser.new_context()
    context.set_default_timeout(300_000)
    with running(own.index, token=TOKEN) as service:
        tab = Tab(context, service.url).open()
        assert tab.videos() == ["kitchen.mp4"]
        tab.find("#add-videos").click()
        tab.find("#token").fill(TOKEN)
        tab.find("#files").set_input_files([str(new), str(tmp_path / "broken.mp4")])
        tab.shows("#indexing", "Looking for new videos.")
        until(lambda: tab.videos() == ["kitchen.mp4", "new.mp4"], lambda: str(tab.texts(".arrival")))
        until(lambda: "can be searched" in tab.texts(".arrival")[0], lambda: str(tab.texts(".arrival")))
        tab.shows(".arrival", "broken.mp4 is a text file, not a video")
        assert tab.texts("#about") == ["2 videos"]
        assert tab.faults == []
    context.close()
