"""Encoders of the hub, by its real client: what is said before a download, where the files go, and what happens without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_encoders import make_bert, make_siglip
from tiny_hub import tiny_hub

from prvr.encoders.hub import DEFAULT_ENCODER, in_bytes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    torch.manual_seed(0)
    make_siglip(tmp_path / "published")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    (bare / "pytorch_model.bin").write_bytes(b"pickled")
    make_bert(tmp_path / "sentences")
    (tmp_path / "sentences" / "modules.json").write_text("[]")
    (tmp_path / "sentences" / "1_Pooling").mkdir()
    (tmp_path / "sentences" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    models = {DEFAULT_ENCODER: tmp_path / "published", "some/pickled": bare, "some/sentences": tmp_path / "sentences"}
    with tiny_hub(models, licence="apache-2.0") as address:
        yield address


def run(tmp_path: Path, address: str, *arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the client reads its settings when it is imported."""
    own = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **own}
    command = [sys.executable, *(("-m", "prvr", *arguments) if code is None else ("-c", code))]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.thorough
def test_setup_says_what_it_downloads_and_downloads_it_once(tmp_path: Path, hub: str) -> None:
    first = run(tmp_path, hub, "setup")
    assert first.returncode == 0, first.stderr
    (line,) = first.stderr.splitlines()
    size = sum(one.stat().st_size for one in (tmp_path / "published").iterdir())
    assert line.startswith(
        f"prvr: downloading the encoder {DEFAULT_ENCODER} from the Hugging Face hub: {in_bytes(size)}, licence apache-2.0;"
    )
    # Offline, from the cache.
    again = run(tmp_path, "http://127.0.0.1:9", "setup")
    assert (again.returncode, again.stderr) == (0, "")
    assert "ready" in run(tmp_path, "http://127.0.0.1:9", "doctor").stdout

    carried = run(tmp_path, hub, "setup", "carried")
    assert f"--encoder {tmp_path / 'carried'}" in carried.stdout
    assert (tmp_path / "carried" / "model.safetensors").read_bytes() == (
        tmp_path / "published" / "model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_what_the_hub_does_not_give(tmp_path: Path, hub: str) -> None:
    # Of sentences, how their words are pooled comes, too.
    code = (
        "from prvr.encoders import open_encoder; from prvr.encoders.sentence_embeddings import sentence_embedder;"
        "print(sentence_embedder(open_encoder('some/sentences'))(['a dog']).shape)"
    )
    assert run(tmp_path, hub, code=code).stdout == "(1, 16)\n"
    for arguments, parts in (
        (("setup", "--encoder", "some/other"), ("no encoder 'some/other' here", "404", "--encoder FOLDER")),
        (("setup", "--encoder", "some/pickled"), ("no weights as safetensors", "not opened")),
    ):
        answer = run(tmp_path, hub, *arguments)
        (line,) = answer.stderr.splitlines()
        assert answer.returncode == 1
        assert all(part in line for part in parts), line


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"\x00")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = run(tmp_path, f"http://127.0.0.1:{port}", "index", "videos")
    (line,) = answer.stderr.splitlines()
    assert answer.returncode == 1
    assert line.startswith(f"prvr: no encoder '{DEFAULT_ENCODER}' here, and the Hugging Face hub does not give it (")
    assert line.endswith(f"(there: prvr setup FOLDER --encoder {DEFAULT_ENCODER}) and name that: --encoder FOLDER")
    # Nothing half-made is left.
    assert not (tmp_path / "videos" / ".prvr").exists()
