"""Pages that are made when the site is built (a hook of mkdocs): reference, rooms, decisions, the documents beside docs/."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import typer
from mkdocs.structure.files import File, Files

import prvr
from prvr.cli import app as commands
from prvr.cli.groups import GROUPS
from prvr.server.app import description

ROOT = Path(__file__).parents[2]
# Documents of the repository that are pages of the site.
BESIDE = {"LOG.md": "log.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
# Public objects that functions return, and nobody makes.
RETURNED = ("prvr.search.asking.VideoSearch",)
FORMER = {"Run": "SavedScores", "load_run": "load_scores", "save_run": "save_scores", "run_of": "scores_of"}
# The pages of the reference of Python: their titles, and the rooms of the names on them.
PYTHON = {
    "python-data": ("Data and features", ("config", "datasets", "encoders", "errors", "extract", "features")),
    "python-train": ("Train", ("demo", "methods", "train")),
    "python-evaluate": ("Evaluate and compare", ("evaluate", "report")),
    "python-search": ("Index and search", ("search",)),
}


def on_config(config: Any) -> Any:
    """Adds the decisions to the navigation."""
    (section,) = (part["Decisions"] for part in config.nav if "Decisions" in part)
    section += [f"decisions/{path.name}" for path in _decisions()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Leads links out of docs/ to the page of that document; other files of the repository are named without a link."""
    here = posixpath.dirname(page.file.src_uri)
    if "<!-- rooms -->" in markdown:
        markdown = markdown.replace("<!-- rooms -->", rooms())
    return re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)]*)?\)", lambda found: _inside(found, here), markdown)


def pages() -> dict[str, str]:
    """Every generated page by its path."""
    made = {f"reference/{name}.md": _python(*about) for name, about in PYTHON.items()}
    made["reference/python.md"] = _python_overview()
    made["reference/commands.md"] = "\n".join(_command_line())
    made["reference/rest.md"] = "\n".join(_rest(description()))
    made["decisions/index.md"] = (
        "# Decisions\n\nWhy it is as it is: a question, the choice, and what would change it.\n\n"
        + "".join(f"- [{path.read_text().partition(chr(10))[0].removeprefix('# ')}]({path.name})\n" for path in _decisions())
    )
    for name, page in BESIDE.items():
        made[page] = re.sub(r"\]\(docs/", "](", (ROOT / name).read_text())
    return made


def _decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def _inside(found: re.Match[str], here: str) -> str:
    text, target, anchor = found.group(1), found.group(2), found.group(3) or ""
    path = posixpath.normpath(posixpath.join("docs", here, target))
    if path.startswith("docs/"):
        return found.group(0)
    if path in BESIDE:
        return f"[{text}]({posixpath.relpath(BESIDE[path], here or '.')}{anchor})"
    return text if "`" in text else f"`{text}`"


# Python


def names_of(rooms: tuple[str, ...]) -> list[str]:
    """The public names that are defined in some rooms, without former names."""
    places = {name: place.split(".")[1].partition(":")[0] for name, place in prvr._PLACES.items()}
    return [name for name in prvr.__all__ if places[name] in rooms and name not in FORMER]


def _python(title: str, rooms: tuple[str, ...]) -> str:
    names = [*(f"prvr.{name}" for name in names_of(rooms)), *(path for path in RETURNED if path.split(".")[1] in rooms)]
    return f"# {title}\n\n" + "".join(f"::: {name}\n\n" for name in names)


def _python_overview() -> str:
    # Read from the sources: to import every name takes three times as long as all else.
    package = griffe.load("prvr", search_paths=[ROOT])
    lines = ["# Python", "", "`import prvr` is fast: each name is imported when it is first used.", ""]
    for page, (title, rooms) in PYTHON.items():
        lines += [f"**[{title}]({page}.md)**", "", "| | |", "|---|---|"]
        for name in names_of(rooms):
            first = re.sub(r"\s+", " ", package[name].docstring.value).partition(". ")[0].removesuffix(".")
            lines.append(f"| [`{name}`]({page}.md#prvr.{name}) | {_cell(first)} |")
        lines.append("")
    former = ", ".join(f"`{old}` (now `{new}`)" for old, new in FORMER.items())
    return "\n".join([*lines, f"Former names that still work: {former}.", ""])


# The command line


def _command_line() -> Iterator[str]:
    yield "# The command line"
    yield "\nMade from `prvr COMMAND --help`. `prvr --debug …` shows the traceback of an error.\n"
    root = typer.main.get_command(commands)
    context = root.context_class(root, info_name="prvr")
    for title, names in GROUPS.items():
        yield f"## {title}\n"
        for name in names:
            yield from _command(root.get_command(context, name), context, ["prvr", name])


def _command(command: Any, parent: Any, path: list[str]) -> Iterator[str]:
    context = command.context_class(command, info_name=path[-1], parent=parent)
    inner = command.list_commands(context) if hasattr(command, "list_commands") else []
    if not inner:
        yield f"### {' '.join(path)}\n\n{_plain(command.help)}\n"
        yield f"```text\n{' '.join([*path, *command.collect_usage_pieces(context)])}\n```\n"
    for title, kind in (("Argument", "argument"), ("Option", "option")):
        given = [record for one in command.params if one.param_type_name == kind and (record := one.get_help_record(context))]
        if given and not inner:
            yield f"| {title} | |\n|---|---|"
            yield from (f"| `{name}` | {_cell(text)} |" for name, text in given)
            yield ""
    if command.epilog:
        yield f"{_example(command.epilog)}\n"
    for name in inner:
        # `prvr index VIDEOS` is short for `prvr index update VIDEOS`.
        yield from _command(command.get_command(context, name), context, [*path, name] if name != "update" else path)


def _plain(text: str | None) -> str:
    """A help text as Markdown that shows it as it is."""
    paragraphs = re.split(r"\n\s*\n", (text or "").replace("\b", "").strip())
    return "\n\n".join(_escape(re.sub(r"\s*\n\s*", " ", paragraph)) for paragraph in paragraphs)


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, but for `code`."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([<>*_`|\[\]])", r"\\\1", part) for part in parts)


def _cell(text: str) -> str:
    return _escape(re.sub(r"\s+", " ", text))


def _example(text: str) -> str:
    command = text.partition("Example: ")[2]
    command, _, rest = command.partition(". See also")
    return f"```console\n$ {command.strip()}\n```" + (f"\n\nSee also{_escape(rest)}" if rest else "") if command else _plain(text)


# REST


def _rest(described: dict[str, Any]) -> Iterator[str]:
    yield "# REST"
    yield "\nMade from the description that a service has at `/openapi.json`; rules and examples: [the service](../serve.md).\n"
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            yield f"## {method.upper()} {path}\n".replace("{video}", "VIDEO")
            yield f"{operation['description']}{' Needs the token.' if operation.get('security') else ''}\n"
            if operation.get("parameters"):
                yield "| Parameter | | Type | Default |\n|---|---|---|---|"
                yield from map(_parameter, operation["parameters"])
                yield ""
            yield f"Answers: {', '.join(_answers(operation))}.\n"
    yield "## Values\n"
    for name, schema in described["components"]["schemas"].items():
        yield f"### {name}\n"
        yield f"{_plain(schema.get('description', ''))}\n"
        yield "| Field | | Type |\n|---|---|---|"
        for field, about in schema.get("properties", {}).items():
            yield f"| `{field}` | {_cell(about.get('description', ''))} | {_type(about)} |"
        yield ""


def _parameter(one: dict[str, Any]) -> str:
    schema = one["schema"]
    default = "required" if one["required"] else f"`{schema['default']!r}`" if schema.get("default") not in (None, []) else ""
    return f"| `{one['name']}` | {_cell(one['description'])} | {_type(schema)} | {default} |"


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        content = next(iter(answer.get("content", {}).items()), None)
        kind = _type(content[1].get("schema", {})) if content else ""
        yield f"`{status}` {kind or (content[0] if content else answer['description'])}"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        inner = [_type(one) for one in schema.get("prefixItems", [])] or [_type(schema.get("items", {}))]
        return f"list of {', '.join(filter(None, inner))}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("type", ""))


# The rooms


def rooms() -> str:
    """A table of the rooms of the package, with the first sentence of each and the rooms that it imports."""
    package = ROOT / "prvr"
    names = [
        *(path.name for path in package.iterdir() if (path / "__init__.py").exists()),
        *(p.stem for p in package.glob("[a-z]*.py")),
    ]
    imports = {name: _imported(package, name, set(names)) for name in names}
    # Upstream first: a room after all that it imports.
    ordered: list[str] = []
    while len(ordered) < len(names):
        ordered += sorted(name for name in names if name not in ordered and imports[name] <= set(ordered))
    lines = ["| room | what it is | imports |", "|---|---|---|"]
    for name in ordered:
        sentence = (
            re.sub(r"\s+", " ", ast.get_docstring(ast.parse(_first(package, name).read_text())) or "").split(". ")[0].rstrip(".")
        )
        lines.append(f"| `{name}` | {_escape(sentence)} | {', '.join(sorted(imports[name], key=ordered.index))} |")
    return "\n".join(lines)


def _first(package: Path, room: str) -> Path:
    return package / room / "__init__.py" if (package / room).is_dir() else package / f"{room}.py"


def _imported(package: Path, room: str, names: set[str]) -> set[str]:
    files = (package / room).rglob("*.py") if (package / room).is_dir() else [package / f"{room}.py"]
    found = re.findall(r"(?:from|import) prvr\.(\w+)", "\n".join(path.read_text() for path in files))
    return (set(found) & names) - {room}
