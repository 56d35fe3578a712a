"""Shared by all tests: one thread (or PRVR_TEST_THREADS), the command line, the real videos and models if they exist."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import shapes
import torch
import typer
from commands import Answer, Prvr

THREADS = os.environ.get("PRVR_TEST_THREADS", "1")
torch.set_num_threads(int(THREADS))
# In the processes that tests start, too: threads of several processes on two cores wait for each other, and wait busily.
os.environ.setdefault("OMP_NUM_THREADS", THREADS)

# What is imported and collected stays: to look through it for garbage again and again took two fifths of the time of collecting.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


HERE = Path(__file__).parent


def modules_with_shapes() -> list[str]:
    """Modules of the product that annotate shapes."""
    product = HERE.parent / "prvr"
    files = [path for path in product.rglob("*.py") if "from jaxtyping import" in path.read_text()]
    return [".".join(path.relative_to(product.parent).with_suffix("").parts).removesuffix(".__init__") for path in files]


# In modules without any shapes there are plain types alone, which are mypy's: to check these, too, took a tenth of the time
# of all tests.
shapes.install(modules_with_shapes())


def pytest_runtest_setup() -> None:
    shapes.calls.clear()


def shared_folder() -> Path:
    return Path(os.environ.get("PRVR_SHARED", HERE.parent.parent / "shared"))


@pytest.fixture
def shared() -> Path:
    """The folder of real videos, captions and models; the test is skipped where it is absent."""
    folder = shared_folder()
    if not (folder / "data").is_dir():
        pytest.skip(f"no real videos and models at {folder}; set PRVR_SHARED to their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def few_unrelated_sentences() -> Iterator[None]:
    """Of the sentences that each index of a folder is measured with, every tenth: all took two thirds of `prvr index`.

    `tests/index/test_reference.py` looks at all of them, and so does every process that a test starts.
    """
    from prvr.index import reference

    some = reference.unrelated_sentences()[::10]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "unrelated_sentences", lambda: some)
        yield


@pytest.fixture(scope="session", autouse=True)
def curves_are_not_painted() -> Iterator[None]:
    """A run's curves are put together and not painted: to paint them took as long as to train three epochs.

    Those of tests with `painted_curves` are, and so are those of the commands that a test starts.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prvr.train.run_state.write_picture", lambda path, figure: path.write_bytes(b""))
        yield


@pytest.fixture
def painted_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    from prvr.files import write_picture

    monkeypatch.setattr("prvr.train.run_state.write_picture", write_picture)


# Read from the annotations of all commands, at each call: a third of what a short command takes.
commands_of = cache(typer.main.get_command)


@pytest.fixture
def prvr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Prvr:
    """The command as one types it, in this process."""
    from prvr import cli

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["prvr", *map(str, arguments)])
        monkeypatch.setattr(typer.main, "get_command", commands_of)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture(params=["torch", "onednn"])
def either_product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs a test with torch's default products, and with those of oneDNN."""
    from prvr import cpu

    if request.param == "onednn" and not cpu.onednn_keeps_float32():
        pytest.skip("this torch or this processor has no float32 products by oneDNN")
    monkeypatch.setattr(cpu, "onednn_is_faster", lambda: request.param == "onednn")
    with cpu.fast_products():
        yield
