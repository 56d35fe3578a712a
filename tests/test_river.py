"""The order of the modules, read from their imports, and a few habits that a reader can count on."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import prvr
from prvr.nn import scores

PACKAGE = Path(prvr.__file__).parent

# From upstream to downstream: a room imports only from those before it.
RIVER = [
    *("errors", "child", "files", "config", "device", "cpu", "video"),
    *("datasets", "encoders", "features", "batch", "extract"),
    *("nn", "methods"),
    *("index", "search", "evaluate", "train"),
    *("papers", "report", "demo", "server"),
    *("cli", "__main__", "prvr"),
]

LONGEST = 400


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a package with the part of the river that it belongs to: a module or a package directly below."""
    for path in sorted(root.rglob("*.py")):
        first = path.relative_to(root).parts[0].removesuffix(".py")
        yield (root.name if first == "__init__" else first), path


def imported(path: Path, root: Path, parts: set[str]) -> Iterator[tuple[str, int]]:
    """The parts of the package that a file imports, anywhere in it, with the lines."""
    package = [root.name, *path.relative_to(root).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            outer, _, inner = name.partition(".")
            if outer == root.name:
                part = inner.split(".")[0]
                # `from prvr import name` is of the package itself, unless `name` is a part of it.
                yield (part if part in parts else root.name), node.lineno


def upstream_imports(root: Path, river: list[str]) -> list[str]:
    """Every import that runs against the river, and every module without a place in it."""
    faults, files = [], list(modules(root))
    parts = {name for name, _ in files}
    for part, path in files:
        if part not in river:
            faults.append(f"{path.relative_to(root)} has no place in the river; give {part!r} one")
            continue
        for source, line in imported(path, root, parts):
            if source != part and (source not in river or river.index(source) > river.index(part)):
                faults.append(f"{path.relative_to(root)}:{line} imports {source!r}, which is downstream of {part!r}")
    return faults


def test_a_wrong_shape_does_not_pass_unseen() -> None:
    with pytest.raises(TypeCheckError):
        scores.video_scores(torch.zeros(2, 3))


def test_a_module_imports_only_from_upstream() -> None:
    assert upstream_imports(PACKAGE, RIVER) == []


def test_the_river_names_nothing_that_is_not_there() -> None:
    assert sorted(RIVER) == sorted({part for part, _ in modules(PACKAGE)})


SMALL_RIVER = ["errors", "batch", "methods", "train", "small"]
TREE = {
    "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from small.train import run",
    "errors.py": "import json",
    "batch.py": "from small.errors import Problem",
    "methods/__init__.py": "from small.methods import one",
    "methods/one.py": "from small import batch\nfrom small.methods.two import Thing",
    "methods/two.py": "from . import one\nfrom ..errors import Problem",
    "train.py": "import small.methods.one\nfrom small import batch, errors",
}


def tree(root: Path, **changes: str) -> Path:
    for name, text in {**TREE, **changes}.items():
        path = root / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "small"


def test_a_small_river_that_runs_down(tmp_path: Path) -> None:
    assert upstream_imports(tree(tmp_path), SMALL_RIVER) == []


@pytest.mark.parametrize(
    ("name", "text", "source"),
    [
        ("batch.py", "from small.train import run", "train"),
        ("batch.py", "import small.train", "train"),
        ("batch.py", "import small.methods.one as one", "methods"),
        ("batch.py", "from small import train", "train"),
        ("batch.py", "from small import errors, train as loop", "train"),
        ("batch.py", "from small.methods.one import Thing", "methods"),
        ("batch.py", "from . import train", "train"),
        ("batch.py", "from .methods import one", "methods"),
        ("methods/two.py", "from .. import train", "train"),
        ("methods/two.py", "from ..train import run", "train"),
        ("errors.py", "def late():\n    from small.batch import pad", "batch"),
        ("errors.py", "class A:\n    def late(self):\n        if 1:\n            import small.batch", "batch"),
        ("train.py", "from small import run", "small"),
        ("train.py", "import small", "small"),
    ],
)
def test_an_import_against_the_river_is_found(tmp_path: Path, name: str, text: str, source: str) -> None:
    (fault,) = upstream_imports(tree(tmp_path, **{name: text}), SMALL_RIVER)
    assert fault.startswith(f"{name}:")
    assert f"imports {source!r}, which is downstream of" in fault


def test_a_new_module_needs_a_place(tmp_path: Path) -> None:
    root = tree(tmp_path, **{"news/one.py": "", "train.py": "from small.news import one"})
    assert upstream_imports(root, SMALL_RIVER) == [
        "news/one.py has no place in the river; give 'news' one",
        "train.py:1 imports 'news', which is downstream of 'train'",
    ]


# Habits


def name_of(node: ast.expr) -> str:
    """`torch.load` of a call to it."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def evaluates(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and name_of(node.func) in ("eval", "exec", "builtins.eval", "builtins.exec")


def unpickles(node: ast.AST) -> bool:
    names = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    if loads_by_torch(node):
        return not restricted(node)
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in names for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in names or any(alias.name in names for alias in node.names)
    if isinstance(node, ast.Call) and name_of(node.func) == "torch.save":
        return True
    return isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", None) is not False


def loads_by_torch(node: ast.AST) -> bool:
    """A call of torch's reader, or an import that gives it another name."""
    if isinstance(node, ast.ImportFrom):
        return node.module in ("torch", "torch.serialization") and any(alias.name == "load" for alias in node.names)
    return isinstance(node, ast.Call) and name_of(node.func) in ("torch.load", "torch.serialization.load")


def restricted(node: ast.AST) -> bool:
    """Whether `weights_only=True` stands there, in so many letters."""
    given = {keyword.arg: keyword.value for keyword in node.keywords} if isinstance(node, ast.Call) else {}
    only = given.get("weights_only")
    return isinstance(only, ast.Constant) and only.value is True


def squeezes_every_axis(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr not in ("squeeze", "squeeze_"):
        return False
    a_function = name_of(node.func.value) in ("torch", "np", "numpy")
    return len(node.args) + len(node.keywords) <= (1 if a_function else 0)


def prints(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and (name_of(node.func) == "print" or name_of(node.func).startswith("sys.stdout."))


# `but`: files, as paths in the package, that a habit is not of.
HABITS: dict[str, tuple[Callable[[ast.AST], bool], tuple[str, ...]]] = {
    "no eval": (evaluates, ()),
    "no pickle": (unpickles, ()),
    "strangers' tensors are read in the quarantine alone": (loads_by_torch, ("papers/authors/quarantine.py",)),
    "no squeeze without an axis": (squeezes_every_axis, ()),
    "no print outside the command line": (prints, ()),
}


def breaches(breaks: Callable[[ast.AST], bool], text: str) -> list[int]:
    return sorted(getattr(node, "lineno", 0) for node in ast.walk(ast.parse(text)) if breaks(node))


def test_habits() -> None:
    found = []
    for _, path in modules(PACKAGE):
        name, nodes = path.relative_to(PACKAGE).as_posix(), list(ast.walk(ast.parse(path.read_text())))
        for habit, (breaks, but) in HABITS.items():
            found += [(name, getattr(node, "lineno", 0), habit) for node in nodes if name not in but and breaks(node)]
    assert found == []


@pytest.mark.parametrize(
    ("habit", "good", "bad"),
    [
        ("no eval", ["model.eval()", "ast.literal_eval(x)"], ["eval(x)", "def f():\n    return exec(x)"]),
        (
            "no pickle",
            [
                *("np.load(f, allow_pickle=False)", "safetensors.torch.load(x)", "import json"),
                *("torch.load(f, weights_only=True)", "from torch import nn"),
            ],
            [
                *("import pickle", "from pickle import loads", "torch.save(x, f)", "np.load(f, allow_pickle=True)"),
                *("torch.load(f)", "torch.load(f, weights_only=False)", "torch.load(f, weights_only=1)"),
                *("torch.load(f, weights_only=safe)", "torch.load(f, **{'weights_only': True})", "torch.load(f, True)"),
                *("torch.serialization.load(f)", "from torch import load", "from torch.serialization import load as read"),
            ],
        ),
        (
            "strangers' tensors are read in the quarantine alone",
            ["safetensors.torch.load(x)", "checkpoints.load(x)", "from torch import nn"],
            ["torch.load(f, weights_only=True)", "torch.load(f)", "from torch import load"],
        ),
        (
            "no squeeze without an axis",
            ["x.squeeze(0)", "x.squeeze(dim=-1)", "torch.squeeze(x, 0)", "x.unsqueeze(0)"],
            ["x.squeeze()", "y = f(x).squeeze()", "x.squeeze_()", "torch.squeeze(x)", "np.squeeze(x)"],
        ),
        (
            "no print outside the command line",
            ["file.write(x)", "printer.print_it()"],
            ["print(x)", "sys.stdout.write(x)"],
        ),
    ],
)
def test_a_habit_that_is_broken_is_found(habit: str, good: list[str], bad: list[str]) -> None:
    breaks, _ = HABITS[habit]
    for text in good:
        assert not breaches(breaks, text), text
    for text in bad:
        assert len(breaches(breaks, text)) == 1, text


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for _, path in modules(PACKAGE)}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
    assert len(lengths) > 30
