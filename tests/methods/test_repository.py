"""Checkpoints on the hub, by its real client and a hub on this machine: what is pushed, and what is read of a stranger's."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from commands import Prvr, says
from tiny_hub import tiny_hub

from prvr.encoders import open_encoder
from prvr.errors import DataError, ModelError, SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.repository import open_checkpoint, pull_checkpoint
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.train.experiment import Experiment, recipe_text
from prvr.train.publishing import _without_places, push_checkpoint

ROOT = Path(__file__).parents[2]
FIGURES = {"queries": 16, "videos": 8, "r1": 12.5, "r5": 50.0, "r10": 75.0, "r100": 100.0, "sumr": 237.5, "medr": 4.5, "mrr": 0.3}
ABOUT = {
    "collection": "holidays",
    "protocol": "honest",
    "split_seed": 3,
    "teachers": ["clip_vit_b32"],
    "epoch": 6,
    "dev": FIGURES,
    "imported": {"file": "/data/someone/model.ckpt", "sha256": "ab" * 32},
}


def make_run(root: Path, sources: FeatureSources, **about: Any) -> Checkpoint:
    torch.manual_seed(0)
    made = checkpoints.build("dl_dkd", DlDkdConfig(hidden=8, heads=2), sources)
    checkpoints.save(Checkpoint(made.method, made.settings, sources, made.model, {**ABOUT, **about}), root)
    return checkpoints.load(root)


SOURCES = FeatureSources(
    Source("siglip", 6, "google/siglip2-base-patch16-224", "1" * 16, 2.0), Source("mine", 5, "/data/someone/mine", "2" * 16)
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", SOURCES)
    recipe = Experiment("/data/someone/videos", "/data/someone/features", str(tmp_path / "run"), words="mine", preset="dl-dkd")
    (tmp_path / "run" / "recipe.toml").write_text(recipe_text(recipe))
    return tmp_path / "run"


def test_what_is_pushed_is_pulled(run: Path, tmp_path: Path) -> None:
    pushed = push_checkpoint(run, str(tmp_path / "there"), licence="cc-by-4.0")
    assert pushed.encoders_elsewhere == {"mine": "2" * 16}
    assert sorted(os.listdir(tmp_path / "there")) == ["README.md", "config.json", "model.safetensors", "recipe.toml"]
    pulled = pull_checkpoint(str(tmp_path / "there"), tmp_path / "here")
    ours = checkpoints.load(run)
    assert pulled.fingerprint == ours.fingerprint == checkpoints.load(tmp_path / "here").fingerprint == pushed.fingerprint
    assert pulled.sources.frames == ours.sources.frames
    assert pulled.sources.text.source is None
    assert sorted(os.listdir(tmp_path)) == ["here", "run", "there"]


def test_no_path_of_this_machine_is_pushed(run: Path, tmp_path: Path) -> None:
    push_checkpoint(run, str(tmp_path / "there"), licence="mit")
    for file in (tmp_path / "there").iterdir():
        assert b"someone" not in file.read_bytes(), file
        assert str(tmp_path).encode() not in file.read_bytes(), file


def test_the_card_says_what_the_run_holds_and_no_more(run: Path, tmp_path: Path) -> None:
    push_checkpoint(run, str(tmp_path / "holidays"), licence="cc-by-4.0")
    card = (tmp_path / "holidays" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\nlibrary_name: prvr\n")
    for line in (
        "- frames: `google/siglip2-base-patch16-224` on the hub, 6 columns, fingerprint `1111111111111111`, 2 frames per second",
        "- text: `mine`, which is not on the hub, 5 columns, fingerprint `2222222222222222`",
        "- collection: holidays",
        "- protocol: honest",
        "- seed of the splits: 3",
        "On the split that chose the epoch, epoch 7 (16 queries, 8 videos):",
        "| R@1 | R@5 | R@10 | R@100 | SumR | MedR | MRR |",
        "| 12.5 | 50.0 | 75.0 | 100.0 | 237.5 | 4.5 | 0.300 |",
        "prvr train DATA FEATURES OUT --recipe recipe.toml",
        "Of these weights: cc-by-4.0. Encoders and data have licences of their own.",
    ):
        assert line in card.splitlines(), line
    (run / "recipe.toml").unlink()
    bare = checkpoints.load(run)
    checkpoints.save(Checkpoint(bare.method, bare.settings, bare.sources, bare.model), run)
    push_checkpoint(run, str(tmp_path / "bare"), licence="mit")
    card = (tmp_path / "bare" / "README.md").read_text()
    assert re.findall(r"^## (.*)$", card, re.M) == ["What it reads", "Licence"]
    assert "recipe" not in card


def test_an_encoder_that_the_hub_does_not_have_is_named_by_who_pulls(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dog 1 2\ncat 3 4\n")
    (tmp_path / "other.txt").write_text("dog 1 2\ncat 3 5\n")
    encoder = open_encoder(tmp_path / "mine.txt")
    source = Source(encoder.name, 2, encoder.source, encoder.fingerprint)
    make_run(tmp_path / "run", FeatureSources(Source("frames", 6), source))
    push_checkpoint(tmp_path / "run", str(tmp_path / "there"), licence="mit")
    moved = (tmp_path / "mine.txt").rename(tmp_path / "moved.txt")
    pulled = pull_checkpoint(str(tmp_path / "there"), tmp_path / "here", encoders=[moved])
    assert pulled.sources.text.source == f"vectors:{moved}"
    with pytest.raises(ModelError, match=rf"fingerprint \w+, and the model reads mine \({encoder.fingerprint}\)"):
        pull_checkpoint(str(tmp_path / "there"), tmp_path / "again", encoders=[tmp_path / "other.txt"])
    assert not (tmp_path / "again").exists()


def test_what_is_not_pushed(run: Path, tmp_path: Path, prvr: Prvr) -> None:
    says(prvr("checkpoint", "push", run, "me/x", "--licence", "MIT licence"), "the licence is 'MIT licence'", "apache-2.0, mit")
    says(prvr("checkpoint", "push", run, "a/b/c", "--licence", "mit"), "'a/b/c' is no name on the hub and no folder")
    says(prvr("checkpoint", "push", run, tmp_path, "--licence", "mit"), "is there already")
    says(prvr("checkpoint", "push", tmp_path / "none", "me/x", "--licence", "mit"), "no checkpoint in", "prvr train")
    alone = Source("clip", 6, "openai/clip", "1" * 16, 1.0)
    checkpoints.save(checkpoints.build("zero_shot", ZeroShotConfig(), FeatureSources(alone, alone)), tmp_path / "alone")
    says(prvr("checkpoint", "push", tmp_path / "alone", "me/x", "--licence", "mit"), "no weights", "--encoder openai/clip")


# Repositories of strangers


def change(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_repository_names_no_files_of_this_machine(run: Path, tmp_path: Path) -> None:
    push_checkpoint(run, str(tmp_path / "there"), licence="mit")
    reads = json.loads((tmp_path / "there" / "config.json").read_text())["reads"]
    for place in ("/etc/passwd", "../run", "vectors:/etc/passwd", "roles:a+b", "~/x", "file:///etc/passwd", "a/b/c", "a\\b"):
        change(tmp_path / "there", reads={**reads, "text": {**reads["text"], "source": place}})
        with pytest.raises(ModelError, match=r"names .* as its encoder; a repository may name encoders of the hub alone"):
            pull_checkpoint(str(tmp_path / "there"), tmp_path / "here")
        part = {"name": "p", "columns": 5, "source": place}
        change(tmp_path / "there", reads={**reads, "text": {**reads["text"], "source": None, "parts": [part]}})
        with pytest.raises(ModelError, match="a repository may name encoders of the hub alone"):
            pull_checkpoint(str(tmp_path / "there"), tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_repository_imports_nothing_and_unpickles_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    push_checkpoint(run, str(there), licence="mit")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "strange.py").write_text("raise SystemExit('imported')")
    change(there, method="strange:Strange")
    with pytest.raises(ModelError, match="strange:Strange is not installed, and no code is imported because a file names it"):
        pull_checkpoint(str(there), tmp_path / "here")
    change(there, method="dl_dkd")
    weights = safetensors.torch.load_file(there / "model.safetensors")
    torch.save(weights, tmp_path / "pickled")
    (tmp_path / "pickled").replace(there / "model.safetensors")
    with pytest.raises(ModelError, match="does not hold this model's weights"):
        pull_checkpoint(str(there), tmp_path / "here")
    (there / "model.safetensors").unlink()
    torch.save(weights, there / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"model.safetensors is missing"):
        pull_checkpoint(str(there), tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_stranger_s_settings_allocate_nothing(run: Path, tmp_path: Path) -> None:
    push_checkpoint(run, str(tmp_path / "there"), licence="mit")
    settings = json.loads((tmp_path / "there" / "config.json").read_text())["settings"]
    # 200,000 squared are 160 GB.
    change(tmp_path / "there", settings={**settings, "hidden": 200_000})
    with pytest.raises(ModelError, match=r"its settings make a model of [\d,]+ numbers, and model.safetensors has"):
        pull_checkpoint(str(tmp_path / "there"), tmp_path / "here")


def test_a_stranger_s_recipe_and_card(run: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    push_checkpoint(run, str(there), licence="mit")
    for recipe, words in (('data = "/etc"', r"names folders \(data\)"), ("=", "is not TOML")):
        (there / "recipe.toml").write_text(recipe)
        with pytest.raises(ModelError, match=words):
            pull_checkpoint(str(there), tmp_path / "here")
    (there / "recipe.toml").unlink()
    (there / "README.md").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(DataError, match="more than the 1048576"):
        pull_checkpoint(str(there), tmp_path / "here")
    assert sorted(os.listdir(tmp_path)) == ["run", "there"]


@pytest.mark.slow
def test_an_encoder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "siglip").mkdir()
    (tmp_path / "siglip" / "model.safetensors").write_bytes(b"large")
    (tmp_path / "siglip" / "config.json").write_text('{"model_type": "siglip"}')
    with tiny_hub({"me/siglip": tmp_path / "siglip"}, licence="mit") as address:
        pulled = command(tmp_path, address, "checkpoint", "pull", "me/siglip", tmp_path / "here")
    assert pulled.returncode == 1
    (line,) = pulled.stderr.splitlines()
    assert line.endswith("me/siglip on the hub is no checkpoint of prvr; an encoder alone: --encoder me/siglip")
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_further_files_stay_where_they_are(run: Path, tmp_path: Path) -> None:
    push_checkpoint(run, str(tmp_path / "there"), licence="mit")
    (tmp_path / "there" / "setup.py").write_text("")
    pull_checkpoint(str(tmp_path / "there"), tmp_path / "here")
    assert "setup.py" not in os.listdir(tmp_path / "here")
    with pytest.raises(SettingError, match="is there already; name another folder: prvr checkpoint pull"):
        pull_checkpoint(str(tmp_path / "there"), tmp_path / "here")


def test_a_run_that_is_not_there_is_no_name_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint in"):
        open_checkpoint(tmp_path / "none")


# The hub itself


def command(tmp_path: Path, address: str, *arguments: object, token: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the client reads its settings when it is imported."""
    own = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    own |= {"HF_TOKEN": token, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "prvr", *map(str, arguments)]
    return subprocess.run(line, env={**os.environ, **own}, capture_output=True, text=True, check=False, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.thorough
def test_push_and_pull_by_the_client_of_the_hub(run: Path, tmp_path: Path) -> None:
    with tiny_hub({}, licence="mit", pushed=tmp_path / "hub") as address:
        pushed = command(tmp_path, address, "checkpoint", "push", run, "me/holidays", "--licence", "mit", token="tiny")
        assert pushed.returncode == 0, pushed.stderr
        assert pushed.stderr == "prvr: mine: is not on the hub; who pulls names its folder: --encoder FOLDER\n"
        assert pushed.stdout.startswith(f"{address}/me/holidays: ")
    there = tmp_path / "hub" / "me" / "holidays"
    assert sorted(os.listdir(there)) == ["README.md", "config.json", "model.safetensors", "recipe.toml"]
    with tiny_hub({"me/holidays": there}, licence="mit") as address:
        pulled = command(tmp_path, address, "checkpoint", "pull", "me/holidays", "--json")
        assert pulled.returncode == 0, pulled.stderr
        assert "downloading the checkpoint me/holidays from the Hugging Face hub" in pulled.stderr
        assert "licence mit" in pulled.stderr
        value = json.loads(pulled.stdout)
        assert (value["checkpoint"], value["fingerprint"]) == ("holidays", checkpoints.load(run).fingerprint)
        assert checkpoints.load(tmp_path / "holidays").fingerprint == value["fingerprint"]
    # Offline, a model by its name comes from the cache, up to the encoder that it lacks.
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"\x00")
    indexed = command(tmp_path, "http://127.0.0.1:9", "index", "videos", "gallery", "--model", "me/holidays")
    (line,) = indexed.stderr.splitlines()
    assert "no encoder 'google/siglip2-base-patch16-224' here" in line


def test_a_hub_that_refuses_or_is_not_there(run: Path, tmp_path: Path, prvr: Prvr, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    push = ("checkpoint", "push", run, "me/holidays", "--licence", "mit")
    pull = ("checkpoint", "pull", "me/none", tmp_path / "none")
    with tiny_hub({}, licence="mit") as missing, tiny_hub({}, licence="mit", refuses=401) as closed:
        for address, arguments, parts in (
            (missing, pull, ("no checkpoint 'me/none' here", "(404)", "check the name")),
            (missing, ("evaluate", "data", "features", "--model", "me/none"), ("no checkpoint 'me/none' here", "(404)")),
            (closed, pull, ("wants a login (401): hf auth login",)),
            (nobody, pull, ("no checkpoint 'me/none' here", "go online")),
            (closed, push, ("cannot push to me/holidays", "wants a login (401)")),
            (nobody, push, ("cannot push to me/holidays",)),
        ):
            monkeypatch.setattr(constants, "ENDPOINT", address)
            says(prvr(*arguments), *parts)
    assert sorted(os.listdir(tmp_path)) == ["run"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/data/me/x", "x"),
        ("vectors:/data/me/glove.txt", "vectors:glove.txt"),
        ("../me/x", "x"),
        ("~/x", "x"),
        ("C:\\me\\x", "x"),
        ("see /data/me/a.b for it", "see a.b for it"),
        *((text, text) for text in ("https://x.org/a/b", "HuiGuanLab/DL-DKD", "24/7", "a teacher")),
    ],
)
def test_of_a_path_the_last_name_leaves(text: str, left: str) -> None:
    assert _without_places({text: [text]}) == {left: [left]}
