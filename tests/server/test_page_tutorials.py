"""The tutorials: every command runs, in their order, on a small folder, and their pictures can be taken."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from browsing import chromium
from commands import Prvr
from serving import make_world, running
from tiny_folder import make_folder

from prvr.train import presets

DOCS = Path(__file__).parents[2] / "docs"
# tests/test_docs.py runs those of a method of one's own and of papers, which need other files.
TUTORIALS = [path for path in sorted((DOCS / "tutorials").glob("*.md")) if path.stem not in ("method", "reproduce")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder in which the tutorials' names stand for small things."""
    return make_folder(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_the_commands(tutorial: Path, place: Path, monkeypatch: pytest.MonkeyPatch, prvr: Prvr) -> None:
    import uvicorn
    from starlette.testclient import TestClient

    found: list[int] = []

    def visit(server: uvicorn.Server, sockets: list) -> None:
        """What a reader does with the service, instead of waiting for one."""
        with TestClient(server.config.app, base_url=f"http://localhost:{sockets[0].getsockname()[1]}") as client:
            assert "Say what the moment shows." in client.get("/").text
            found.append(len(client.get("/api/search", params={"q": "a dog rides a skateboard"}).json()["hits"]))

    monkeypatch.setattr(uvicorn.Server, "run", visit)
    monkeypatch.chdir(place)
    preset = presets.PRESETS["dl-dkd++"]
    small = preset._replace(settings={**preset.settings, "hidden": 8}, training={**preset.training, "epochs": 1})
    monkeypatch.setitem(presets.PRESETS, "dl-dkd++", small)
    blocks = re.findall(r"```console\n(.*?)```", tutorial.read_text(), flags=re.S)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ prvr ")]
    assert len(commands) >= 3
    for command in commands:
        # Training for 40 epochs says no more here than for one.
        words = [word.replace("epochs=40", "epochs=1") for word in shlex.split(command)]
        words += ["--port", "0"] if words[1] == "serve" else []
        answer = prvr(*words[1:])
        assert answer.status == 0, (command, answer.err)
    assert found == [8]


@pytest.mark.slow
def test_the_pictures(tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api")
    script = runpy.run_path(str(DOCS / "images" / "pictures.py"))
    texts = [path.read_text() for path in (*TUTORIALS, DOCS / "index.md", DOCS.parent / "README.md")]
    shown = {name for text in texts for name in re.findall(r"images/(\w+-\w+)\.webp", text)}
    assert {f"{name}-{scheme}" for name, *_ in script["PICTURES"] for scheme in script["SCHEMES"]} == shown
    assert all(0 < (DOCS / "images" / f"{name}.webp").stat().st_size < 200_000 for name in shown)
    # Every clip has its source and licence.
    credits = re.findall(
        r"^\| `(.+?)` \| \[(?:.+?)\]\((.+?)\) \| .+ \|$", (DOCS / "images" / "pictures.md").read_text(), flags=re.M
    )
    assert [name for name, _ in credits] == list(script["CLIPS"].values())
    for clip, (_, source) in zip(script["CLIPS"], credits, strict=True):
        assert source.endswith(clip.partition("__")[2])
    # The narrow one goes through all that the others do.
    ((name, size, what),) = (one for one in script["PICTURES"] if one[0] == "telephone")
    with chromium() as browser, running(make_world(tmp_path / "world").index) as service:
        script["take"](browser, service.url, tmp_path, name=name, scheme="dark", size=size, what=what)
    assert (tmp_path / "telephone-dark.webp").read_bytes()[8:12] == b"WEBP"
