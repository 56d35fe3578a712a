"""The generated pages of the documentation site: nothing of the command line, of Python or of REST is missing on them."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

pytest.importorskip("mkdocs")
pytest.importorskip("griffe")
pytest.importorskip("fastapi")

import prvr
from prvr.cli import app
from prvr.server.app import description

SITE = Path(__file__).parent.parent / "docs" / "site"


@pytest.fixture(scope="module")
def hook() -> dict[str, Any]:
    return runpy.run_path(str(SITE / "pages.py"))


@pytest.fixture(scope="module")
def pages(hook: dict[str, Any]) -> dict[str, str]:
    return hook["pages"]()


def commands(command: Any, path: str = "prvr") -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    for name, one in inner.items():
        yield from commands(one, f"{path} {name}")
    if not inner:
        yield path, command


def test_every_command_and_option_is_there(pages: dict[str, str]) -> None:
    sections = dict(re.findall(r"^### (.+?)\n(.*?)(?=^###? |\Z)", pages["reference/commands.md"], flags=re.M | re.S))
    typed = {path.replace("prvr index update", "prvr index"): command for path, command in commands(typer.main.get_command(app))}
    assert set(sections) == set(typed)
    assert len(typed) > 25
    for path, command in typed.items():
        for parameter in command.params:
            names = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name]
            for name in [] if getattr(parameter, "hidden", False) else names:
                assert re.search(rf"^\| `[^`]*{re.escape(name)}[ ,`.]", sections[path], flags=re.M), (path, name)
        example = re.search(r"Example: (.+?)(?:\. See also|$)", re.sub(r"\s+", " ", command.epilog or "").strip())
        assert example, path
        assert f"$ {example[1]}\n" in sections[path]


def test_every_public_name_is_there_once(pages: dict[str, str], hook: dict[str, Any]) -> None:
    shown = [name for text in pages.values() for name in re.findall(r"^::: prvr\.(\w+)$", text, flags=re.M)]
    assert sorted([*shown, *hook["FORMER"]]) == prvr.__all__
    for old, new in hook["FORMER"].items():
        assert getattr(prvr, old) is getattr(prvr, new)
        assert f"`{old}` (now `{new}`)" in pages["reference/python.md"]
    for name in shown:
        assert f"`{name}`" in pages["reference/python.md"]


def test_every_route_parameter_and_field_is_there(pages: dict[str, str]) -> None:
    text, described = pages["reference/rest.md"], description()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            (section,) = re.findall(
                rf"^## {method.upper()} {re.escape(path.replace('{video}', 'VIDEO'))}\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S
            )
            assert operation["description"] in section
            assert all(f"| `{parameter['name']}` |" in section for parameter in operation.get("parameters", ()))
            assert all(f"`{status}`" in section for status in operation["responses"])
    for name, schema in described["components"]["schemas"].items():
        (section,) = re.findall(rf"^### {name}\n(.*?)(?=^### |\Z)", text, flags=re.M | re.S)
        assert all(f"| `{field}` |" in section for field in schema.get("properties", {}))


def test_the_rooms_are_in_the_order_of_their_imports(hook: dict[str, Any]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*?) \|$", hook["rooms"](), flags=re.M)
    names = [name for name, _, _ in rows]
    assert {"datasets", "nn", "methods", "search", "cli"} <= set(names)
    for place, (name, what, imports) in enumerate(rows):
        assert what
        assert set(filter(None, imports.split(", "))) <= set(names[:place]), name


def test_links_out_of_the_documents_lead_to_their_pages(hook: dict[str, Any]) -> None:
    def at(source: str, text: str) -> str:
        page = type("Page", (), {"file": type("File", (), {"src_uri": source})})
        return hook["on_page_markdown"](text, page, {}, [])

    assert at("paper.md", "[LOG.md](../LOG.md)") == "[LOG.md](log.md)"
    assert at("tutorials/train.md", "[LOG.md](../../LOG.md#x)") == "[LOG.md](../log.md#x)"
    assert at("encoders.md", "[prvr/a.py](../prvr/a.py)") == "`prvr/a.py`"
    assert at("tutorials/train.md", "[it](../training.md#a)") == "[it](../training.md#a)"


def test_fields_of_a_class_are_a_list() -> None:
    as_list = runpy.run_path(str(SITE / "fields.py"))["as_list"]
    text = "A hit.\n\nvideo: its name. score, rank: how well\n    it fits.\nOther: no field of it."
    assert as_list(text, {"video"}) == text
    assert as_list(text.rpartition("\n")[0], {"video", "score", "rank"}) == (
        "A hit.\n\n- `video`: its name.\n- `score, rank`: how well it fits."
    )
