"""What a release is: one version, a wheel and a source distribution that work where only they and their dependencies are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import prvr

ROOT = Path(__file__).parent.parent
VERSION = prvr.__version__
# Tests of the source distribution that take seconds; whoever packages it runs all of them.
SOME = ["tests/test_config.py", "tests/features/test_packed.py", "tests/datasets/test_folder.py"]


class Release:
    """The two files, and an environment in which the wheel is installed beside this environment's dependencies."""

    def __init__(self, folder: Path) -> None:
        (self.sdist,) = folder.glob("*.tar.gz")
        (self.wheel,) = folder.glob("*.whl")
        self.python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(self, *arguments: object, here: Path, **environment: str) -> str:
        """What Python prints in the environment, in a folder in which no checkout is."""
        command = [str(self.python), *map(str, arguments)]
        own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COVERAGE_PROCESS_START")}
        done = subprocess.run(command, cwd=here, env={**own, **environment}, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("release")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False)
    built = Release(folder)
    # This environment's packages as a plain folder: its own .pth files, so an editable prvr, are not read there.
    (site,) = (folder / "venv").rglob("site-packages")
    (site / "beside.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    install = [sys.executable, "-m", "pip", "--python", str(built.python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, str(built.wheel)], check=True, capture_output=True)
    return built


def tracked(*below: str) -> set[str]:
    """The files of the checkout below some folders, without what is made there."""
    files = [path for name in below for path in (ROOT / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_the_version_is_a_literal_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"] == {"path": "prvr/__init__.py"}
    newest = re.search(r"^## (\S+), \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert newest is not None
    assert newest[1] == VERSION


def test_the_changelog_is_by_version_and_kind() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (?:(\d+\.\d+\.\d+), \d{4}-\d\d-\d\d|Unreleased)$", text, flags=re.M)
    assert len(versions) == len(re.findall(r"^## ", text, flags=re.M)) == len(set(versions))
    kinds = re.findall(r"^### (.+)$", text, flags=re.M)
    assert set(kinds) == {"Breaking", "Added", "Changed", "Fixed"}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(release: Release) -> None:
    assert release.wheel.name == f"prvr-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(release.wheel) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"prvr-{VERSION}.dist-info/METADATA").decode()
    assert {name for name in names if not PurePosixPath(name).parts[0].endswith(".dist-info")} == tracked("prvr")
    # Without these the page, the report, the types and the strength of hits are missing.
    assert {"prvr/py.typed", "prvr/index/unrelated.txt", "prvr/server/page/index.html", "prvr/server/page/main.js"} <= names
    assert {"prvr/report/templates/page.html", "prvr/demo/templates/demo.html", "prvr/server/page/icon.svg"} <= names
    assert f"prvr-{VERSION}.dist-info/licenses/LICENSE" in names
    assert f"Version: {VERSION}\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata


@pytest.mark.slow
def test_the_installed_wheel_works(release: Release, tmp_path: Path) -> None:
    where = release.run("-c", "import prvr; print(prvr.__version__, prvr.__file__)", here=tmp_path)
    assert where.startswith(f"{VERSION} {release.python.parent.parent}"), where
    command = release.python.with_name("prvr.exe" if os.name == "nt" else "prvr")
    assert VERSION in subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    read = """
from importlib.metadata import version
from importlib.resources import files
from prvr.index.reference import unrelated_sentences
assert version("prvr") == __import__("prvr").__version__
assert len(unrelated_sentences()) >= 300
assert (files("prvr.server") / "page" / "index.html").is_file()
assert (files("prvr") / "py.typed").is_file()
"""
    release.run("-c", read, here=tmp_path)


@pytest.mark.slow
def test_the_source_distribution_passes_its_own_tests(release: Release, tmp_path: Path) -> None:
    with tarfile.open(release.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / f"prvr-{VERSION}"
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert tracked("prvr", "tests", "docs", "benchmarks", "experiments") <= there
    assert {"README.md", "CHANGELOG.md", "LICENSE", "LOG.md", "CITATION.cff", "constraints.txt", "pyproject.toml"} <= there
    out = release.run("-m", "pytest", "-p", "no:cacheprovider", *SOME, here=unpacked, PRVR_SHARED=str(tmp_path / "none"))
    assert " passed" in out
    assert "failed" not in out
