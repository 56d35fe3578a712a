"""What the documents say is so: links lead somewhere, the README's commands and code run, presets build, the names in a
paper's map exist."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Prvr
from peer_fixtures import GRADIENTS, SCORES
from tiny_folder import make_folder

import prvr
from prvr.config import to_dict
from prvr.features.sources import FeatureSources, Source
from prvr.methods import METHODS, open_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.plugins import import_method
from prvr.nn.distillation import Distillation
from prvr.papers import toy
from prvr.papers.toy import write_toy
from prvr.train import presets
from prvr.train.presets.published import FIGURES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TUTORIALS = ROOT / "docs" / "tutorials"
REPRODUCE = (TUTORIALS / "reproduce.md").read_text()
TRAIN = (TUTORIALS / "train.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's names stand for small things."""
    root = make_folder(tmp_path_factory.mktemp("readme"))
    _toy_as_tvr(root / "packages")
    return root


@pytest.mark.parametrize(
    ("text", "least"), [(README, 3), pytest.param(REPRODUCE, 10, marks=pytest.mark.slow)], ids=["README", "reproduce"]
)
def test_the_commands(text: str, least: int, place: Path, monkeypatch: pytest.MonkeyPatch, prvr: Prvr) -> None:
    import uvicorn

    # What a page shows is seen in test_page.py; here nobody waits for visitors.
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: None)
    monkeypatch.chdir(place)
    _shorten(monkeypatch)
    commands = [line[2:] for block in blocks("console", text) for line in block.splitlines() if line.startswith("$ prvr ")]
    assert len(commands) >= least
    for command in commands:
        answer = prvr(*shlex.split(command)[1:])
        assert answer.status == 0, (command, answer.err)


@pytest.mark.slow
def test_the_python_of_the_readme_and_the_tutorials(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(place)
    _shorten(monkeypatch)
    (search,), (own,), (published,) = (blocks("python", text) for text in (README, TRAIN, REPRODUCE))
    # What a newcomer has to type after `import prvr`.
    assert max(sum(map(bool, block.splitlines())) - 1 for block in (own, published)) <= 8
    assert len(list(filter(None, search.splitlines()))) <= 6
    exec(compile(search, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3
    exec(compile(own, "train.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 1 + 5
    exec(compile(published, "reproduce.md", "exec"), {})
    assert ", 6 videos" in capsys.readouterr().out


# Presets in the README's table of methods, and the columns of published figures there.
ROWS = re.findall(r"^\| [^|]*`([\w.+-]+)`[^|]*\| ([^|]+) \| [^|]+ \| [^|]+ \|$", README, flags=re.M)


def test_the_readme_is_short_and_its_published_figures_are_the_published_ones() -> None:
    assert len(README.splitlines()) <= 120
    assert len(ROWS) >= 14
    for name, figures in ROWS:
        for collection, figure in zip(("tvr", "activitynet", "charades"), figures.split(" / "), strict=True):
            known = FIGURES.get(f"{name}/{collection}", {}).get("SumR")
            assert figure == ("–" if known is None else f"{known:.1f}"), (name, collection)


def test_the_fixtures_of_the_readme_are_there() -> None:
    folders = {"ms-sl+matching": "bgm_net", "msc-prvr": "msc"}
    for name, _ in ROWS:
        if not name.startswith("dl-dkd"):
            assert (
                ROOT / "tests" / "parity" / "peers" / folders.get(name, name.replace("gmmformer-v2", "gmmformer_v2"))
            ).is_dir()
    said = {tuple(map(float, found)) for found in re.findall(r"scores, losses (1e-\d+); gradients (1e-\d+)", README)}
    assert said == {(SCORES, GRADIENTS)}


@pytest.mark.shared
@pytest.mark.thorough
def test_what_the_readme_prints(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prvr: Prvr) -> None:
    pytest.importorskip("playwright.sync_api")
    monkeypatch.chdir(tmp_path)
    for clip, name in runpy.run_path(str(ROOT / "docs" / "images" / "pictures.py"))["CLIPS"].items():
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared / "data" / "videos" / "clips" / clip, tmp_path / "videos" / name)
    (block,) = (block for block in blocks("console") if block.startswith("$ prvr index"))
    index, search, _ = (part.split("\n", 1) for part in block.removeprefix("$ prvr ").rstrip("\n").split("\n$ prvr "))
    made = prvr(*shlex.split(index[0]), "--encoder", str(shared / "data" / "models" / "mobilenet-minilm"))
    found = prvr(*shlex.split(search[0]))
    assert (made.out.strip("\n"), found.out.strip("\n")) == (index[1], search[1])


def test_every_extra_is_on_the_first_page() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    everything = re.search(r"\[(.+)\]", extras.pop("all")[0])
    assert everything
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no) \|$", (ROOT / "docs" / "index.md").read_text(), flags=re.M)
    assert {name for name, _ in rows} == {*extras} - {"dev", "test"}
    assert {name for name, within in rows if within == "yes"} == set(everything[1].split(","))


# What only a measurement says; its section has the date of it, or a link to the section that has it.
MEASURED = re.compile(r"EPYC|Zen \d|processor seconds|seconds of (a )?processor|\d s of (a )?processor|busy( CPU)? cores|time -v")


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.stem != "LOG" and "decisions" not in path.parts], ids=str
)
def test_every_measurement_has_its_date(document: Path) -> None:
    for section in re.split(r"^#+ ", document.read_text(), flags=re.M):
        if found := MEASURED.search(section):
            assert re.search(r"20\d\d-\d\d-\d\d|(LOG|performance)\.md#", section), (section.splitlines()[0], found[0])


OWN_METHOD = TUTORIALS / "method.md"


@pytest.fixture
def own_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """A folder with the file of the tutorial, in which it can be imported; and the tutorial's other pieces of Python."""
    template, *others = blocks("python", OWN_METHOD.read_text())
    assert template == (OWN_METHOD.parent / "mymethod.py").read_text()
    (tmp_path / "mymethod.py").write_text(template)
    monkeypatch.setattr(METHODS, "_registered", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path, others
    sys.modules.pop("mymethod", None)
    import_method.cache_clear()


def test_a_method_of_ones_own_by_its_tutorial(
    own_method: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, prvr: Prvr
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: None)
    folder, (_, of_python, elsewhere) = own_method
    make_folder(folder)
    commands = [line[2:] for block in blocks("console", OWN_METHOD.read_text()) for line in block.splitlines()]
    assert len(commands) == 8
    for command in commands:
        answer = prvr(*shlex.split(command)[1:])
        assert answer.status == 0, (command, answer.err)
    assert json.loads((folder / "mine" / "config.json").read_text())["method"] == "mymethod:Mine"
    _shorten(monkeypatch)
    names: dict[str, Any] = {}
    exec(compile(of_python, str(OWN_METHOD), "exec"), names)
    torch.save(names["student"].model.state_dict(), folder / "mine.pt")
    exec(compile(elsewhere, str(OWN_METHOD), "exec"), names)
    assert checkpoints.load(folder / "imported").fingerprint == names["student"].fingerprint
    figures, *_, video = capsys.readouterr().out.splitlines()
    assert "R@1/5/10/100" in figures
    assert video.startswith("video_")


@pytest.mark.slow
def test_the_check_of_a_method_of_ones_own(own_method: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, (check, *_) = own_method
    monkeypatch.syspath_prepend(folder)
    names: dict[str, Any] = {}
    exec(compile(check, str(OWN_METHOD), "exec"), names)
    names["test_my_method"](folder / "checked")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Padding is part of the mean, and of the best frame.
        ("hidden.sum(1) / mask.sum(1, keepdim=True)", "self.words(words).mean(1)"),
        ("videos[0], mask)", "videos[0], mask | True)"),
        # Weights that nothing is learned by.
        ("self.words = nn", "self.unused = nn.Linear(2, 2)\n        self.words = nn"),
        # A score that is not what `score_weights` says.
        ("return scores.best_cosines(queries[0]", "return 2 * scores.best_cosines(queries[0]"),
        # Nothing is learned.
        ('{"contrast": contrast(', '{"contrast": 0 * contrast('),
    ],
)
def test_the_check_finds_what_is_wrong(
    own_method: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    folder, (check, *_) = own_method
    text = (folder / "mymethod.py").read_text()
    assert old in text
    (folder / "mymethod.py").write_text(text.replace(old, new))
    monkeypatch.syspath_prepend(folder)
    names: dict[str, Any] = {}
    exec(compile(check, str(OWN_METHOD), "exec"), names)
    with pytest.raises(AssertionError):
        names["test_my_method"](folder / "checked")


def test_the_package_of_a_method_of_ones_own(own_method: tuple[Path, list[str]]) -> None:
    pytest.importorskip("setuptools")
    folder, _ = own_method
    (folder / "pyproject.toml").write_text(*blocks("toml", OWN_METHOD.read_text()))
    # What the tutorial has put beside it by then.
    (folder / "test_mymethod.py").touch()
    for name in ("videos", "features", "mine"):
        (folder / name).mkdir()
    build = "from setuptools.build_meta import build_wheel; build_wheel('made')"
    (folder / "made").mkdir()
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "made").glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        assert {name for name in files.namelist() if "/" not in name} == {"mymethod.py"}
        (about,) = (name for name in files.namelist() if name.endswith("entry_points.txt"))
        assert files.read(about).decode().split() == ["[prvr.methods]", "mine", "=", "mymethod:Mine"]


def _toy_as_tvr(root: Path) -> None:
    """A small toy package under the names of TVR's files."""
    package = write_toy(root, collection="tvr", train_videos=12, test_videos=6)
    names = {
        "FeatureData/toy_frames": "FeatureData/i3d_resnet",
        "TextData/words_tvr_query_feat.hdf5": "TextData/roberta_tvr_query_feat.hdf5",
        "FeatureData/strong_tvr_vid_features.hdf5": "FeatureData/new_clip_vit_32_tvr_vid_features.hdf5",
        "TextData/strong_tvr_query_feat.hdf5": "TextData/clip_ViT_B_32_tvr_query_feat.hdf5",
    }
    for toys, published in names.items():
        (package / toys).rename(package / published)


def _shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dl-dkd++", "dl-dkd++/tvr", "dl-dkd/toy"):
        preset = presets.PRESETS[name]
        small = preset._replace(settings={**preset.settings, "hidden": 8}, training={**preset.training, "epochs": 1})
        monkeypatch.setitem(presets.PRESETS, name, small)
    for name, function in (("write_toy", toy.write_toy), ("is_toy", toy.is_toy)):
        monkeypatch.setattr(toy, name, partial(function, train_videos=24, test_videos=12))


def test_the_captions_of_the_tutorial_are_read(tmp_path: Path) -> None:
    (line,) = blocks("json", TRAIN)
    video = json.loads(line)["video"]
    (tmp_path / video).touch()
    (tmp_path / "captions.jsonl").write_text(line)
    (caption,) = prvr.load_folder(tmp_path, "all").captions
    assert (caption.start, caption.end) == (12.0, 17.5)


def test_every_public_name_is_there() -> None:
    for name in prvr.__all__:
        assert getattr(prvr, name) is not None
    with pytest.raises(AttributeError, match="serach"):
        _ = prvr.serach


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_builds(name: str) -> None:
    recipe = presets.preset(name)
    settings = to_dict(recipe.settings)
    # Published experts have widths of their own, and word ids are one column.
    frames = sum(settings.get("experts", ())) or 20
    words = 1 + settings.get("sentence_columns", 0) if settings.get("vocabulary") else 12
    with torch.device("meta"):
        sources = FeatureSources(Source("frames", frames), Source("words", words))
        model = checkpoints.build(recipe.method, recipe.settings, sources).model
    assert model.embedding_fields


def test_the_published_sizes() -> None:
    # docs/how/dl-dkd.md: 5,755,392 parameters on TVR (3072 and 768 columns), 4,371,968 on the others (1024 and 1024).
    for name, frames, words, expected in (("tvr", 3072, 768, 5_755_392), ("activitynet", 1024, 1024, 4_371_968)):
        recipe = presets.preset(f"dl-dkd++/{name}")
        reads = FeatureSources(Source("frames", frames), Source("words", words))
        model = checkpoints.build(recipe.method, recipe.settings, reads).model
        assert sum(p.numel() for p in model.parameters()) == expected
        assert len(list(model.parameters())) == 74


@pytest.mark.parametrize("module", sorted({path.partition(":")[0] for path in METHODS.values()}))
def test_every_name_in_a_papers_map_is_there(module: str) -> None:
    where = importlib.import_module(module)
    configs = [open_method(name).config for name, path in METHODS.items() if path.partition(":")[0] == module]
    # The papers' words for distillation are settings of every method.
    fields = {field for config in (Distillation, *configs) for field in config.__dataclass_fields__}
    # A block that two papers share is defined in a module of prvr.nn that both import from.
    # So is one of a module that it imports whole.
    origins = {getattr(its, "__module__", None) or getattr(its, "__name__", "") for its in vars(where).values()}
    rooms = {sys.modules[origin] for origin in origins if str(origin).startswith("prvr.nn.")}
    for name in re.findall(r"`([\w.]+)`", where.__doc__ or ""):
        first, _, rest = name.partition(".")
        assert name in fields or any(hasattr(module, first) for module in (where, *rooms)), name
        if rest and name not in fields:
            owner = getattr(where, first)
            assert hasattr(owner, rest), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_links_and_pictures_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)[)#]", document.read_text()):
        assert (document.parent / target).exists(), target
