"""The page asks with more than one sentence: later parts, pictures, moments and thumbs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from browsing import Tab
from PIL import Image
from serving import Running, World
from waiting import until

from prvr.video import VideoReader

QUERY = "a red dog runs on the beach"


def found(served: Running, **asked: Any) -> list[dict[str, Any]]:
    return served.client.get("/api/search", params={"k": 24, **asked}).json()["hits"]


def test_a_later_sentence(tab: Tab, served: Running) -> None:
    tab.open()
    tab.find("#sentence").fill(QUERY)
    tab.find("#add-sentence").click()
    tab.find(".addition input").fill("a cat sits")
    tab.find(".addition input").press("Enter")
    tab.shows("#results-title", f"“{QUERY}”, then “a cat sits”")
    expected = found(served, q=QUERY, then="a cat sits")
    assert tab.videos() == [hit["video"] for hit in expected]
    tab.find("li.card a").first.click()
    tab.find(".track .curve").wait_for()
    # A chip for each part, which leads to it.
    assert tab.find(".chip").count() == 2
    assert tab.texts(".chip")[1].endswith("a cat sits")
    tab.find(".chip").nth(1).click()
    tab.plays_at(expected[0]["parts"][1]["start"])
    # The address has all of it, and the row is there after the page is opened again.
    tab.open(tab.query)
    assert tab.find(".addition input").input_value() == "a cat sits"
    tab.find(".addition select").select_option("without")
    tab.find(".addition input").press("Enter")
    tab.shows("#results-title", f"“{QUERY}”, without “a cat sits”")
    until(lambda: tab.videos() == [hit["video"] for hit in found(served, q=QUERY, without="a cat sits")])


def test_all_of_it_fits_a_telephone(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 390, "height": 800})
    tab.open(f"?q={QUERY}&then=a+cat+sits&without={'snow+' * 30}")
    tab.shows("#results-title", "then “a cat sits”")
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390


def test_every_moment(tab: Tab, served: Running) -> None:
    tab.open(f"?q={QUERY}")
    tab.find("#moments").check()
    expected = found(served, q=QUERY, moments=True)
    tab.shows("#took", f"{len(expected)} moments")
    assert tab.videos() == [hit["video"] for hit in expected]
    tab.find("li.card a").nth(1).click()
    tab.plays_at(expected[1]["peak"])
    until(lambda: tab.find("li.card.current").count() == 1)
    assert tab.find("li.card").nth(1).get_attribute("class") == "card current"


def test_a_thumb_changes_the_question_and_the_same_again_takes_it_back(tab: Tab, served: Running) -> None:
    tab.open(f"?q={QUERY}")
    before = tab.videos()
    peak = found(served, q=QUERY)[0]["peak"]
    card = tab.find(f'li[data-video="{before[0]}"]')
    card.get_by_role("button", name="Not this").click()
    moment = f"{before[0]}@{peak:.2f}"
    until(lambda: tab.videos() == [hit["video"] for hit in found(served, q=QUERY, less=moment)])
    assert before[0] not in tab.videos()
    # Its card is gone; what was said of it stands beside the sentence.
    tab.find("#further").get_by_role("button", name="Take back: less like").click()
    until(lambda: tab.videos() == before)
    card.get_by_role("button", name="More like this").click()
    until(lambda: tab.videos() == [hit["video"] for hit in found(served, q=QUERY, more=moment)])
    until(lambda: card.get_by_role("button", name="More like this").get_attribute("aria-pressed") == "true")
    title = served.client.get("/api/search", params={"q": QUERY}).json()["hits"][0]["title"]
    assert tab.texts("#further .addition span") == [f"more like {title} at 0:0{int(peak + 0.05)}"]
    card.get_by_role("button", name="More like this").click()
    until(lambda: tab.videos() == before)
    assert tab.texts("#further .addition") == []


def test_what_was_not_read_is_noted(tab: Tab) -> None:
    # The tiny encoder reads twelve tokens, a start and an end among them.
    tab.open("?q=" + "red+" * 30)
    tab.shows("#notice", "reads the first 10 of these 30 words; say it in fewer.")
    assert len(tab.videos()) == 5
    tab.open("?like=beach.mp4&t=2")
    tab.shows("#notice", "Note: beach.mp4 is not listed")


def test_a_hit_says_how_far_it_is_above_unrelated_sentences(tab: Tab, served: Running) -> None:
    strengths = [1.0, 0.8349, 0.3, 0.2, 0.1]
    hits = [{**hit, "strength": one, "weak": one < 0.5} for hit, one in zip(found(served, q=QUERY), strengths, strict=True)]
    tab.page.route("**/api/search?**", lambda route: route.fulfill(json={"hits": hits, "seconds": 0.01}))
    tab.open(f"?q={QUERY}")
    said = [one for one in tab.texts(".card .names .folder") if "fits" in one]
    assert said == ["fits better than all unrelated sentences", "fits better than 83 % of unrelated sentences"]
    assert tab.texts(".score") == ["weak match"] * 3
    tab.find("li.card a").nth(2).click()
    tab.shows(".parts", "Fits better than 30 % of unrelated sentences.")


@pytest.mark.parametrize("is_link", [False, True])
def test_the_curve_of_the_player_is_that_of_the_card(tab: Tab, served: Running, is_link: bool) -> None:
    last = found(served, q=QUERY)[-1]["video"]
    link = tab.open(f"?q={QUERY}").find(f'li[data-video="{last}"] a')
    if is_link:
        # The video is there before the answer whose scale it has.
        tab.open(link.get_attribute("href"))
    else:
        link.click()
    tab.find(".track .curve").wait_for()
    curves = [tab.find(f"{of} .curve .line") for of in (f'li[data-video="{last}"]', ".track")]
    until(lambda: len({curve.get_attribute("d") for curve in curves}) == 1)


def test_a_picture_from_a_file_and_from_the_clipboard(tab: Tab, world: World, tmp_path: Path) -> None:
    data = io.BytesIO()
    with VideoReader(world.videos / "kitchen.mp4", rate=1.0) as reader:
        Image.fromarray(reader.still(3.0)).save(data, "PNG")
    (tmp_path / "still.png").write_bytes(data.getvalue())
    tab.open()
    tab.find("#picture-file").set_input_files(str(tmp_path / "still.png"))
    tab.shows("#results-title", "Like the picture still.png")
    until(lambda: set(tab.videos()[:2]) == {"kitchen.mp4", "trips/again.mp4"}, lambda: str(tab.videos()))
    tab.find('li[data-video="kitchen.mp4"] a').click()
    # Where the frame begins that its second was sampled from.
    tab.plays_at(3.0, within=0.15)
    tab.find(".track .curve").wait_for()
    # Pasted, with a sentence beside it.
    tab.open()
    tab.find("#sentence").fill(QUERY)
    tab.page.evaluate(
        """async (bytes) => {
          const given = new DataTransfer();
          given.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: given, bubbles: true }));
        }""",
        list(data.getvalue()),
    )
    tab.shows("#results-title", f"“{QUERY}”, like the picture pasted.png")
    # A page that is opened again no longer has it, and says so.
    tab.open(tab.query)
    tab.shows("#notice", "no longer has the picture")
