"""Searches without torch: the same answers, and no import of torch in the process of the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Prvr, says
from tiny_encoders import make_textual, make_visual

from prvr.encoders import open_encoder
from prvr.features.sources import FeatureSources, Source
from prvr.index.contract import Header
from prvr.index.disk import DiskIndex
from prvr.index.encode import Sampled, encode_long
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.exported import EXPORT, FOLDER, copy_export
from prvr.search import open_index, zero_shot
from prvr.search.answering import answer
from prvr.search.asking import VideoSearch
from prvr.search.copying import copy_index
from prvr.search.starting import open_without_torch

ROOT = Path(__file__).parents[2]
WITHOUT_TORCH = """
import sys
from prvr.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended
assert "torch" not in sys.modules, "torch was imported"
"""
QUESTIONS: list[dict[str, Any]] = [
    {"text": "a dog runs"},
    {"text": "cat"},
    {"text": "a dog runs", "also": ["the dog sits"], "without": ["the cat"]},
    {"text": "a dog runs", "then": ["the man cooks"]},
    {"text": "a dog", "like": "v3.mp4@2.0", "more": ["v4.mp4@1.0"], "less": ["v5.mp4@3.0"]},
    {"like": "v3.mp4@2.0"},
]


def fill(root: Path, checkpoint: Checkpoint) -> Path:
    """An index of videos of noise."""
    checkpoints.save(checkpoint, root / "model")
    store = DiskIndex.make(root, checkpoint.model, Header(checkpoint.fingerprint, "float16", str(root)))
    draw, width = np.random.default_rng(0), checkpoint.sources.frames.columns
    videos = []
    for number in range(12):
        frames = 3 + 2 * number
        rows = draw.normal(size=(frames, width)).astype(np.float32)
        videos.append(Sampled(f"v{number}.mp4", rows, tuple(map(float, range(frames))), float(frames), {"camera": number % 2}))
    store.add(encode_long(checkpoint.model, videos))
    store.close()
    return root


def answers(gallery: VideoSearch, **settings: Any) -> list[dict[str, Any]]:
    found = [answer(gallery, question, {"k": 5, "curve": True, **settings}) for question in QUESTIONS]
    gallery.index.close()
    return found


def assert_same(one: Any, other: Any) -> None:
    """Equal values, numbers to 1e-5."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-5)
    else:
        assert one == other


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of an ONNX encoder alone."""
    root = tmp_path_factory.mktemp("alone")
    make_visual(root / "tiny", size=[8, 12])
    make_textual(root / "tiny")
    return fill(root / "index", zero_shot(root / "tiny"))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of a student that reads word vectors, with its export."""
    from prvr.methods.export import export_checkpoint

    pytest.importorskip("onnxscript")
    root = tmp_path_factory.mktemp("student")
    draw = np.random.default_rng(1)
    words = "a the dog cat man runs sits cooks".split()  # noqa: SIM905
    (root / "words.txt").write_text("".join(f"{word} {' '.join(f'{n:.3f}' for n in draw.normal(size=10))}\n" for word in words))
    encoder = open_encoder(root / "words.txt")
    sources = FeatureSources(Source("frames", 12), Source(encoder.name, 10, encoder.source, encoder.fingerprint))
    torch.manual_seed(0)
    made = checkpoints.build("dl_dkd", DlDkdConfig(hidden=8, heads=2, max_frames=8, max_words=9), sources)
    made.model.eval()  # type: ignore[attr-defined]
    index = fill(root / "index", made)
    export_checkpoint(made, index / "model" / FOLDER)
    return index


@pytest.mark.parametrize(
    "settings", [{}, {"moments": True}, {"where": ["camera=1"], "offset": 2}], ids=["videos", "moments", "where"]
)
def test_an_encoder_alone_answers_as_with_torch(alone: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if settings.get("moments"):
        monkeypatch.setattr(sys.modules[__name__], "QUESTIONS", [one for one in QUESTIONS if "then" not in one])
    light = open_without_torch(alone)
    assert light is not None
    assert_same(answers(light, **settings), answers(open_index(alone), **settings))


@pytest.mark.slow
def test_a_student_with_its_export_answers_as_with_torch(student: Path) -> None:
    light = open_without_torch(student)
    assert light is not None
    assert light.checkpoint.method == "dl_dkd"
    assert_same(answers(light), answers(open_index(student)))


def search_in_a_process(index: Path, tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    line = [sys.executable, "-c", WITHOUT_TORCH, "search", str(index), *arguments, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    hits: list[dict[str, Any]] = json.loads(done.stdout)["hits"]
    return hits


@pytest.mark.slow
def test_the_command_imports_no_torch(alone: Path, student: Path, tmp_path: Path) -> None:
    for index in (alone, student):
        hits = search_in_a_process(index, tmp_path, "a dog runs", "-k", "3", "--then", "the cat sits")
        expected = open_index(index)
        assert_same(hits, answer(expected, {"text": "a dog runs", "then": ["the cat sits"]}, {"k": 3})["hits"])
        expected.index.close()


def test_what_takes_torch(alone: Path, tmp_path: Path) -> None:
    assert open_without_torch(tmp_path) is None
    assert open_without_torch("qdrant://somewhere/else") is None
    # An index without videos, and one whose checkpoint is damaged: `open_index` says what is wrong.
    one = zero_shot(alone.parent / "tiny")
    DiskIndex.make(tmp_path / "empty", one.model, Header(one.fingerprint, "float16", "")).close()
    checkpoints.save(one, tmp_path / "empty" / "model")
    assert open_without_torch(tmp_path / "empty") is None
    torn = fill(tmp_path / "torn", one)
    (torn / "model" / "config.json").write_text("{")
    assert open_without_torch(torn) is None
    both = fill(tmp_path / "both", zero_shot(alone.parent / "tiny", parts="clips_and_frames"))
    assert open_without_torch(both) is None


@pytest.mark.slow
def test_an_export_that_is_not_the_index_s(alone: Path, student: Path, tmp_path: Path, prvr: Prvr) -> None:
    copy_index(student, tmp_path / "copy")
    about = tmp_path / "copy" / "model" / FOLDER / EXPORT
    # The copy has the export, too.
    assert prvr("search", tmp_path / "copy", "a dog").status == 0
    about.write_text(json.dumps({**json.loads(about.read_text()), "fingerprint": "0" * 16}))
    says(prvr("search", tmp_path / "copy", "a dog"), "the export in", f"is of checkpoint {'0' * 16}, and the index of", "delete")
    # A changed text encoder is told as with torch.
    words = student.parent / "words.txt"
    kept = words.read_text()
    words.write_text(kept + "beach 1 2 3 4 5 6 7 8 9 10\n")
    says(prvr("search", student, "a dog"), "has fingerprint", "put the old one back")
    words.write_text(kept)


@pytest.mark.slow
@pytest.mark.thorough
def test_an_index_takes_the_export_beside_its_checkpoint(student: Path, tmp_path: Path) -> None:
    (tmp_path / "index" / "model").mkdir(parents=True)
    made = checkpoints.load(student / "model")
    copy_export(student / "model", tmp_path / "index" / "model", made)
    assert sorted(os.listdir(tmp_path / "index" / "model" / FOLDER)) == sorted(os.listdir(student / "model" / FOLDER))
    copy_export(student / "model", tmp_path / "index" / "model", made)
    copy_export(None, tmp_path / "index" / "model", made)
    assert os.listdir(tmp_path / "index" / "model") == [FOLDER]
