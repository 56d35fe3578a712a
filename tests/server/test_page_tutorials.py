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

# tests/test_docs.py runs the one of a method of one's own, which needs its file.
TUTORIALS = [path for path in sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md")) if path.stem != "method"]


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
    script = runpy.run_path(str(TUTORIALS[0].parent / "pictures.py"))
    shown = {name for tutorial in TUTORIALS for name in re.findall(r"!\[.*?\]\((.+?)\.jpg\)", tutorial.read_text())}
    assert {name for name, *_ in script["PICTURES"]} == shown
    # The narrow one goes through all that the others do.
    ((name, scheme, size, what),) = (one for one in script["PICTURES"] if one[0] == "telephone")
    with chromium() as browser, running(make_world(tmp_path / "world").index) as service:
        script["take"](browser, service.url, tmp_path, name=name, scheme=scheme, size=size, what=what)
    assert (tmp_path / "telephone.jpg").read_bytes().startswith(b"\xff\xd8")
