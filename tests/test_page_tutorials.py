"""The tutorials: every command runs, in their order, on a small folder; every picture and link is there."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from tiny_encoders import make_clip, make_roberta
from tiny_videos import SECONDS, plain, write_video

from prvr import cli, presets

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.md"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder in which the tutorials' names stand for small things."""
    (tmp_path / "videos").mkdir()
    make_clip(tmp_path / "openai" / "clip-vit-base-patch32")
    make_roberta(tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2")
    lines = []
    for number in range(8):
        name = f"video_{number}.mp4"
        write_video(tmp_path / "videos" / name, [(200 * n, plain(SECONDS[(number + n // 10) % 5])) for n in range(20)])
        lines.append({"video": name, "text": f"a {SECONDS[number % 5]} picture", "start": 0.0, "end": 2.0})
    (tmp_path / "videos" / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_the_commands(tutorial: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
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
    recipe = presets.PRESETS["dl-dkd++"]
    small = replace(recipe, settings=replace(recipe.settings, hidden=8), training=replace(recipe.training, epochs=1))
    monkeypatch.setitem(presets.PRESETS, "dl-dkd++", small)
    blocks = re.findall(r"```console\n(.*?)```", tutorial.read_text(), flags=re.S)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ prvr ")]
    assert len(commands) >= 3
    for command in commands:
        # Training for 40 epochs says no more here than for one.
        words = [word.replace("epochs=40", "epochs=1") for word in shlex.split(command)]
        words += ["--port", "0"] if words[1] == "serve" else []
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, (command, capsys.readouterr().err)
    assert found == [8]


def test_pictures_and_links_lead_somewhere() -> None:
    assert len(TUTORIALS) == 2
    for tutorial in [*TUTORIALS, FOLDER.parent / "serve.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", tutorial.read_text()):
            assert (tutorial.parent / target).exists(), (tutorial.name, target)
