"""Files as strangers, broken disks and half copies leave them, for hypothesis; and a watch over which files are opened."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st

SECRET = "secret"
PLACES = st.sampled_from(
    [SECRET, f"../{SECRET}", f"/{SECRET}", "/etc/passwd", "file:secret?mode=ro", "-", "\\\\x\\y", "a\0b", ""]
)
TEXTS = st.text(max_size=12) | PLACES | st.sampled_from(["\ud800", "a\nb", "1e400", "nan", "…", "x" * 5000])
NUMBERS = st.one_of(
    st.integers(-3, 9),
    st.floats(width=64),
    st.sampled_from([10**30, -(10**30), 2**31, 2**63, 10**400, 1e300, 1e-300, 0.0, -0.0]),
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """Other bytes, the first ones alone, some bits flipped, or some bytes in place of others."""
    place, last = st.integers(0, len(data)), max(len(data) - 1, 0)
    flips = st.lists(st.tuples(st.integers(0, last), st.integers(0, 7)), min_size=1, max_size=6)
    splices = st.tuples(place, place, st.binary(max_size=12))
    return st.one_of(
        st.binary(max_size=200),
        place.map(lambda end: data[:end]),
        flips.map(lambda bits: _flip(data, bits)),
        splices.map(lambda cut: data[: min(cut[:2])] + cut[2] + data[max(cut[:2]) :]),
    )


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with any value in one of its places, or with one of its places left out or doubled."""
    paths = list(_paths(value))
    path = draw(st.sampled_from(paths))
    if not path:
        return draw(VALUES)
    copy = json.loads(json.dumps(value))
    holder = copy
    for step in path[:-1]:
        holder = holder[step]
    change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "repeat"]))
    if change == "replace":
        holder[path[-1]] = draw(_like(holder[path[-1]]) | VALUES)
    elif change == "remove":
        del holder[path[-1]]
    elif isinstance(holder, list):
        holder.append(holder[path[-1]])
    else:
        holder[draw(st.text(max_size=6)) if change == "rename" else path[-1]] = holder.pop(path[-1])
    return copy


def _like(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type, which a check of types lets through."""
    if isinstance(value, str):
        return TEXTS
    if isinstance(value, list):
        return st.just([]) | st.lists(st.sampled_from(value) | VALUES if value else VALUES, max_size=4)
    return st.just({}) if isinstance(value, dict) else st.booleans() if isinstance(value, bool) else NUMBERS


def as_json(value: Any) -> bytes:
    """The bytes of a value; JSON as Python writes it, NaN, Infinity and lone surrogates included."""
    return json.dumps(value).encode()


def altered_json(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes of an altered JSON value, or one that is nested too deeply."""
    return altered(json.loads(data)).map(as_json) | st.just(b"[" * 100_000)


def altered_lines(data: bytes) -> st.SearchStrategy[bytes]:
    """JSON lines of which one is altered, left out or repeated."""
    lines = [json.loads(line) for line in data.splitlines()]
    return altered(lines).map(lambda value: b"\n".join(map(as_json, value if isinstance(value, list) else [value])) + b"\n")


def altered_words(data: bytes, separators: str) -> st.SearchStrategy[bytes]:
    """A text in which one of the words between separators is another."""
    words = data.decode().split(separators[0])
    word = (TEXTS | NUMBERS.map(str)).filter(lambda text: text.isprintable() or text == "")
    change = st.tuples(st.integers(0, len(words) - 1), word)
    return change.map(lambda one: separators[0].join([*words[: one[0]], one[1], *words[one[0] + 1 :]]).encode(errors="replace"))


def _flip(data: bytes, bits: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data or b"\0")
    for place, bit in bits:
        changed[place] ^= 1 << bit
    return bytes(changed)


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        for path in _paths(inner):
            yield (key, *path)


class _Watch:
    """What an audit hook, which Python never removes, has to look at."""

    folder: Path | None = None
    outside: ClassVar[list[str]] = []
    is_hooked = False


# Modules that are imported late, and what the system itself reads.
_OWN = tuple(
    os.path.realpath(path)
    for path in (
        sys.prefix,
        sys.base_prefix,
        Path(__file__).parents[2] / "prvr",
        "/dev",
        "/proc",
        "/sys",
        "/usr",
        "/etc/localtime",
    )
)


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if _Watch.folder is None or event not in ("open", "sqlite3.connect", "os.listdir", "os.scandir"):
        return
    place = arguments[0]
    if isinstance(place, str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(place).removeprefix("file:").partition("?")[0])
        # Where modules and plugins are looked for.
        is_search = event in ("os.listdir", "os.scandir") and path in map(os.path.realpath, sys.path)
        if not is_search and not path.startswith((str(_Watch.folder), *_OWN)):
            _Watch.outside.append(path)


@contextmanager
def only_within(folder: Path) -> Iterator[None]:
    """Asserts that no file outside of a folder is opened, beside those of Python and of the package."""
    if not _Watch.is_hooked:
        sys.addaudithook(_look)
        _Watch.is_hooked = True
    _Watch.folder, _Watch.outside = Path(os.path.realpath(folder)), []
    try:
        yield
    finally:
        _Watch.folder = None
    assert not _Watch.outside, f"opened {_Watch.outside}"
