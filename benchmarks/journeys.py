"""Counts the files that a command enters: `python -m benchmarks.journeys COMMAND…`, COMMAND as after `prvr`.

`sys.setprofile` follows every call of a function of the package in the main thread; bodies of modules and classes are left out.
Prints the number of files, the number of functions, and how often a call was in another file than the call before it.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import FrameType

import prvr
from prvr import cli

PACKAGE = str(Path(prvr.__file__).parent)


def trace(arguments: list[str]) -> tuple[list[str], int, int]:
    """Returns the files that a command enters, the number of its functions, and the changes of file."""
    files: dict[str, None] = {}
    functions: set[tuple[str, int]] = set()
    last, changes = "", 0

    def follow(frame: FrameType, event: str, _: object) -> None:
        nonlocal last, changes
        code = frame.f_code
        # Bodies of classes are not optimised code; bodies of modules, comprehensions and lambdas have names such as <module>.
        named = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
        if event != "call" or not named or not code.co_filename.startswith(PACKAGE):
            return
        files[code.co_filename] = None
        functions.add((code.co_filename, code.co_firstlineno))
        changes += code.co_filename != last
        last = code.co_filename

    sys.argv = ["prvr", *arguments]
    sys.setprofile(follow)
    try:
        cli.main()
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        sys.setprofile(None)
    return [str(Path(file).relative_to(PACKAGE)) for file in files], len(functions), changes


def main() -> None:
    """Traces one command and prints its files and counts on stderr."""
    files, functions, changes = trace(sys.argv[1:])
    print(*sorted(files), sep="\n", file=sys.stderr)
    print(f"{len(files)} files, {functions} functions, {changes} changes of file", file=sys.stderr)


if __name__ == "__main__":
    main()
