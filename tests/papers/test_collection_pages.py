"""The commands of docs/collections, from their own text, on small packages with the names and widths of the published ones."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Prvr
from sized_package import LAYOUTS, write_sized

from prvr.datasets.sizes import SIZES, Size
from prvr.papers import reproduce, tables
from prvr.train import presets

PAGES = Path(__file__).parents[2] / "docs" / "collections"
SMALL = ((6, 12), (3, 7))


def commands(name: str) -> list[str]:
    return re.findall(r"^\$ (.*)$", (PAGES / f"{name}.md").read_text(), flags=re.MULTILINE)


def test_there_is_a_page_for_each_collection() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(LAYOUTS)
    for name, layout in LAYOUTS.items():
        page = (PAGES / f"{name}.md").read_text()
        assert f"`FeatureData/{layout.frames}/`" in page
        # Sizes of the splits are the published ones.
        for split, (videos, captions) in zip(("train", "test"), layout.sizes, strict=True):
            assert (videos, captions) in [(size.videos, size.captions) for size in SIZES[name][split]]
            assert f"{videos:,}" in page
            assert f"{captions:,}" in page
        for command in commands(name):
            assert "--device cuda" in command or command.split()[1] in ("data", "leaderboard"), command


def small_presets(monkeypatch: pytest.MonkeyPatch, collection: str) -> None:
    """Eight columns in place of hundreds, and one epoch; every other setting is the preset's."""
    for name, preset in list(presets.PRESETS.items()):
        if name.endswith(f"/{collection}") or "/" not in name:
            narrow = {"hidden": 8} if "hidden" in preset.settings else {}
            few = preset._replace(settings={**preset.settings, **narrow}, training={**preset.training, "epochs": 1})
            monkeypatch.setitem(presets.PRESETS, name, few)
    peers = tables.TABLES["peers"]
    monkeypatch.setitem(reproduce.TABLES, "peers", replace(peers, rows=(peers.rows[0], peers.rows[-1])))


def write_annotations(package: Path, folder: Path) -> None:
    """The test split's spans as the collection's release has them."""
    lines: list[dict[str, Any]] = list(map(json.loads, (package / "annotations" / "test.jsonl").read_text().splitlines()))
    folder.mkdir(parents=True)
    tvr = [{**line, "desc_id": number, "type": "v"} for number, line in enumerate(lines)]
    (folder / "tvr_val_release.jsonl").write_text("".join(json.dumps(line) + "\n" for line in tvr))
    by_video: dict[str, dict[str, Any]] = {}
    for line in lines:
        about = by_video.setdefault(line["vid_name"], {"duration": line["duration"], "timestamps": [], "sentences": []})
        about["timestamps"].append(line["ts"])
        about["sentences"].append(line["desc"])
    (folder / "val_1.json").write_text(json.dumps(by_video))
    (folder / "charades_sta_test.txt").write_text(
        "".join(f"{line['vid_name']} {line['ts'][0]} {line['ts'][1]}##{line['desc']}.\n" for line in lines)
    )
    lengths = "".join(f"{video},{about['duration']}\n" for video, about in by_video.items())
    (folder / "Charades_v1_test.csv").write_text(f"id,length\n{lengths}")


@pytest.mark.parametrize("name", ["tvr", "activitynet"])
def test_other_pages_have_the_same_commands(name: str) -> None:
    frames, names = LAYOUTS[name].frames, LAYOUTS["charades"].frames
    assert [
        one.replace(name, "charades").replace(f"--frames {frames} ", f"--frames {names} ") for one in commands(name)
    ] == commands("charades")


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", ["charades", "msrvtt"])
def test_every_command_of_a_page(name: str, prvr: Prvr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_presets(monkeypatch, name)
    package = write_sized(Path("packages"), name, sizes=SMALL)
    write_annotations(package, Path("annotations") / name)
    monkeypatch.setitem(SIZES, name, {"train": (Size(*SMALL[0], "small"),), "test": (Size(*SMALL[1], "small"),)})
    typed = commands(name)
    assert len(typed) >= 6
    for command in typed:
        arguments = shlex.split(command.replace(" --device cuda", "").replace("--seeds 3", "--seeds 1"))
        assert arguments[0] == "prvr"
        answer = prvr(*arguments[1:])
        assert answer.status == 0, (command, answer.err)
    board = Path(f"{name}.md").read_text()
    assert typed[-1 if "leaderboard" in typed[-1] else -3].startswith(f"prvr leaderboard {name} ")
    assert "| yours |" in board
    assert "Set apart" not in board or "did not learn" in board, board
