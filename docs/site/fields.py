"""Fields and parameters in docstrings as lists: our classes describe theirs as lines `name: what it is`."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Fields(griffe.Extension):
    """Turns `name: what it is. other: what that is.` of a class's own fields into a list."""

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        if cls.docstring:
            cls.docstring.value = as_list(cls.docstring.value, set(cls.members))


def as_list(text: str, names: set[str]) -> str:
    """A docstring in which each field begins an item; text without fields is as it was."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        one_line = re.sub(r"\s*\n\s*", " ", paragraph)
        parts = re.split(r"(?:^|(?<=[.;] ))(\w+(?:, \w+)*): ", one_line)
        known = len(parts) > 1 and all(name in names for part in parts[1::2] for name in part.split(", "))
        if known and not paragraph.startswith((" ", "Args:", "Raises:")):
            items = [f"- `{name}`: {what.strip()}" for name, what in zip(parts[1::2], parts[2::2], strict=True)]
            paragraph = "\n\n".join([*([parts[0].strip()] if parts[0].strip() else []), "\n".join(items)])
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)
