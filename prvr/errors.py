"""The exceptions of the package.

PrvrError            an error that a user can fix; its text has the problem, the value and the next step
├── SettingError     a setting, an option or a name that does not exist or does not fit
├── DataError        captions, features or splits that do not fit together, or broken feature values
│   └── RowsError    rows that hold NaN or infinite values, or do not fit where they are stored
├── VideoError       a file that cannot be decoded
│   ├── NoPictures   a file without pictures, such as sound alone
│   ├── VideoGone    a remote file that its store no longer has
│   └── NoSpace      no room for the copy of a remote file
├── ModelError       a checkpoint, an encoder or an index that is broken or belongs to another model
├── MissingExtra     an optional dependency that is not installed
└── ProcessLost      one of several processes that work together has ended, or cannot be reached
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

MOST_NAMED = 40


class PrvrError(Exception):
    """An error that a user can fix; the command line prints its text as one line."""


class SettingError(PrvrError):
    """A setting, an option or a name that does not exist or does not fit."""


class DataError(PrvrError):
    """Captions, features or splits that do not fit together, or broken feature values."""


class RowsError(DataError):
    """Rows that hold NaN or infinite values, or do not fit where they are stored."""


class VideoError(PrvrError):
    """A file that cannot be decoded."""


class NoPictures(VideoError):
    """A file without pictures, such as sound alone."""


class VideoGone(VideoError):
    """A remote file that its store no longer has; a store that does not answer is no such error."""


class NoSpace(VideoError):
    """No room for the copy of a remote file."""


class ModelError(PrvrError):
    """A checkpoint, an encoder or an index that is broken or belongs to another model."""


class MissingExtra(PrvrError):
    """An optional dependency that is not installed."""


class ProcessLost(PrvrError):
    """One of several processes that work together has ended, or cannot be reached."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the end of an error line about an unknown name: the nearest known name, or the known names."""
    names = sorted(known)
    by_lower = {known_name.lower(): known_name for known_name in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if close:
        return f"did you mean {by_lower[close[0]]!r}?"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"known: {', '.join(names[:MOST_NAMED])}{more}"


def one_line(problem: BaseException) -> str:
    """Returns an error's text as one line of at most 200 characters."""
    return " ".join(str(problem).split())[:200] or type(problem).__name__


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether a device or the machine had too little memory; torch's errors are known by their text, not to import it here."""
    text = str(problem)
    signs = ("out of memory", "can't allocate memory", "not enough memory", "calculation overflowed")
    return isinstance(problem, MemoryError) or (isinstance(problem, RuntimeError) and any(one in text for one in signs))


def require(module: str, *, extra: str) -> ModuleType:
    """Imports an optional module.

    Raises:
        MissingExtra: the module is not installed; the text has the `pip install` command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name is None or problem.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(f"{module} is not installed; pip install 'prvr[{extra}]'") from problem
