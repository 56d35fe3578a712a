"""A function in a process of its own, while this process does something else: two of them keep two processors busy."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Generic, TypeVar, final

from prvr.errors import ProcessLost, PrvrError, is_out_of_memory, one_line

Result = TypeVar("Result")

# Not fork: the threads of a network's libraries do not survive it.
CONTEXT = multiprocessing.get_context("spawn")
SHOWN_EVERY = 1.0
# The status of Python after an error that nobody caught, such as a script that cannot be imported.
PYTHON_FAILED = 1


@final
class SideProcess(Generic[Result]):
    """Runs a function until the end of a `with` block at the latest; it also ends with the process that started it.

    Args:
        function: can be pickled, as its result can.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._pipe, theirs = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_run, args=(theirs, function), daemon=True)
        self._process.start()
        # Only the other process holds its end open, so that our end reports its death.
        theirs.close()
        self._outcome: tuple[Result | None, Exception | None] | None = None

    def __enter__(self) -> SideProcess[Result]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def poll(self, *, within: float = 0) -> bool:
        """Returns whether there is a result, and waits for it for a number of seconds.

        Raises:
            PrvrError, OSError, MemoryError: what the function raised.
            ProcessLost: the process has died.
        """
        try:
            if self._outcome is None and self._pipe.poll(within):
                self._outcome = self._pipe.recv()
        except (EOFError, OSError):  # Windows has an error of its own, and a message may be cut off.
            self._process.join()
            raise ProcessLost(_end(self._process.exitcode)) from None
        if self._outcome is None:
            return False
        if self._outcome[1] is not None:
            raise self._outcome[1]
        return True

    def result(self, show: Callable[[], None]) -> Result:
        """Waits for the result, and calls `show` every second until it is there.

        Raises:
            PrvrError, OSError, MemoryError, ProcessLost: as `poll`.
        """
        while not self.poll(within=SHOWN_EVERY):
            show()
        assert self._outcome is not None
        return self._outcome[0]  # type: ignore[return-value]  # None only where the function returns it


def _run(pipe: Connection, function: Callable[[], object]) -> None:
    # An interrupt reaches both processes; the one that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome: tuple[object, Exception | None]
    try:
        outcome = function(), None
    except PrvrError as problem:
        outcome = None, problem
    except OSError as problem:
        # A plain one, of the type that its number has: a library's own may not survive the pipe.
        outcome = None, OSError(problem.errno, problem.strerror or str(problem), problem.filename)
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        outcome = None, MemoryError(one_line(problem))
    pipe.send(outcome)


def _end(status: int | None) -> str:
    """A line about a process that ended without a result."""
    if status == PYTHON_FAILED:
        return (
            "a process ended with the error above; a script calls this in a file (not from standard input), "
            'below `if __name__ == "__main__":`'
        )
    return f"a process ended with status {status}; start it again: it continues"


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
