"""Decision 0011, where the sources disagree: what it says that we accept and print is what we do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prvr.datasets.sizes import SIZES
from prvr.papers.tables import PEERS

DOCS = Path(__file__).parent.parent / "docs"


def ours(row: str) -> tuple[str, str]:
    """What the sources say and what we do, of one row."""
    text = (DOCS / "decisions" / "0011-where-the-sources-disagree.md").read_text()
    ((said, done),) = re.findall(rf"^\| {re.escape(row)} \| (.*) \| (.*) \|$", text, re.MULTILINE)
    return said, done


def numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d+,\d{3}", text)]


def test_the_training_sizes_of_charades() -> None:
    said, done = ours("Charades training videos")
    note, counted = said.split(";")
    accepted, refused = done.split(";")
    pairs = [(size.videos, size.captions) for size in SIZES["charades"]["train"]]
    assert pairs == [(5_338, 12_408), (5_336, 12_404)]
    assert numbers(counted) == [number for pair in pairs for number in pair]
    assert numbers(accepted) == [videos for videos, _ in pairs]
    assert numbers(note) == [5_538, 12_408]
    assert numbers(refused) == [5_538]
    (paragraph,) = [part for part in (DOCS / "data.md").read_text().split("\n\n") if part.startswith("**Charades-STA**")]
    assert {number for pair in pairs for number in pair} | {5_538} <= set(numbers(paragraph))


def test_the_counts_of_msc() -> None:
    whole, listed = (numbers(part) for part in ours("ActivityNet videos in MSC's text")[0].split(";"))
    sizes = SIZES["activitynet"]
    assert {whole[0], listed[0]} == {size.videos for size in sizes["train"]}
    assert {whole[1], listed[1]} == {size.videos for size in sizes["val"]}
    msc, counted = (numbers(part) for part in ours("Charades pairs in MSC's text")[0].split(";"))
    for split, theirs, of_file in zip(("train", "test"), msc, counted, strict=True):
        assert theirs not in {size.captions for size in SIZES["charades"][split]}
        assert of_file in {size.captions for size in SIZES["charades"][split]}


def test_the_figure_of_de_plus_plus_on_activitynet() -> None:
    said, done = ours("DE++ on ActivityNet")
    *recalls, printed = PEERS["dual-encoding++"].published["activitynet"]
    assert ", ".join(map(str, recalls)) in said
    assert done.startswith(f"{printed} ")
    assert f"sum to {sum(recalls):.1f}" in done
    assert sum(recalls) == pytest.approx(printed, abs=4 * 0.05)
    assert PEERS["dual-encoding"].published["activitynet"] == (121.7,)
    assert done.endswith("DE has 121.7")
