"""A function in a process beside the tests."""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from prvr.demo.side_process import SideProcess
from prvr.errors import DataError, ProcessLost


def refuse(text: str) -> None:
    raise DataError(text)


def write_and_wait(path: Path) -> None:
    path.with_suffix(".part").write_text(str(os.getpid()))
    path.with_suffix(".part").rename(path)
    time.sleep(600)


def wait_for(path: Path) -> int:
    while not path.exists():
        time.sleep(0.01)
    return int(path.read_text())


def is_running(process: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False).stdout
    # A zombie has ended, and nobody has asked for its status.
    return state.strip() != "" and not state.strip().startswith("Z")


signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")


def test_a_result_comes_from_another_process_and_is_kept() -> None:
    with SideProcess(os.getpid) as process:
        found = process.result(lambda: None)
        assert found != os.getpid()
        assert process.poll()
        assert process.result(lambda: None) == found


def test_an_error_is_raised_here() -> None:
    with SideProcess(partial(refuse, "features are broken")) as process, pytest.raises(DataError, match="features are broken"):
        process.result(lambda: None)


def fail_like_a_library(path: Path) -> None:
    class OfLibrary(FileNotFoundError):
        """Has no name that another process could find."""

    raise OfLibrary(errno.ENOENT, "No such file or directory", str(path))


def run_out_of_memory() -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_errors_of_the_machine_are_raised_here(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for function, kind, words in (
        (partial(os.mkdir, tmp_path / "file"), FileExistsError, "file"),
        (partial(fail_like_a_library, tmp_path / "none"), FileNotFoundError, "none"),
        (run_out_of_memory, MemoryError, "can't allocate memory"),
    ):
        with SideProcess(function) as process, pytest.raises(kind, match=words):
            process.result(lambda: None)


class PipeOfWindows:
    """Raises what the pipe of a dead process raises on Windows."""

    def poll(self, within: float) -> bool:
        raise BrokenPipeError(109, "The pipe has been ended")

    def close(self) -> None: ...


@signals
def test_a_process_that_dies_while_it_sends_is_reported() -> None:
    for kind in ("cut off", "Windows"):
        with SideProcess(partial(os._exit, 7)) as process:
            process._pipe.close()
            read, write = os.pipe()
            os.write(write, struct.pack("!i", 100) + b"abc")
            os.close(write)
            pipe = Connection(read, writable=False)
            process._pipe = pipe if kind == "cut off" else PipeOfWindows()
            with pytest.raises(ProcessLost, match="status 7"):
                process.result(lambda: None)
            pipe.close()


def test_a_script_that_cannot_be_imported_is_told_how(tmp_path: Path) -> None:
    code = "import os\nfrom prvr.demo.side_process import SideProcess\nSideProcess(os.getpid).result(lambda: None)\n"
    (tmp_path / "script.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for arguments, given in ((["-"], code), ([str(tmp_path / "script.py")], None)):
        done = subprocess.run(
            [sys.executable, *arguments], input=given, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert "ProcessLost: " in last
        assert 'below `if __name__ == "__main__":`' in last
        assert "start it again" not in last


def test_a_process_that_dies_is_reported_and_waiting_shows_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.demo.side_process.SHOWN_EVERY", 0.01)
    shown: list[int] = []
    with SideProcess(partial(os._exit, 7)) as process, pytest.raises(ProcessLost, match="status 7; start it again"):
        process.result(lambda: shown.append(1))
    assert shown


@signals
def test_an_interrupt_ends_the_process(tmp_path: Path) -> None:
    found: list[int] = []

    def interrupt() -> None:
        with SideProcess(partial(write_and_wait, tmp_path / "pid")):
            found.append(wait_for(tmp_path / "pid"))
            # As from a terminal, which interrupts both: the process leaves it to the one that started it.
            os.kill(found[0], signal.SIGINT)
            assert is_running(found[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert not is_running(found[0])


@signals
def test_a_process_ends_with_the_one_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom functools import partial\nfrom pathlib import Path\n"
        "from prvr.demo.side_process import SideProcess\nfrom test_side_process import write_and_wait\n"
        "if __name__ == '__main__':\n"
        "    with SideProcess(partial(write_and_wait, Path(sys.argv[1]))): time.sleep(600)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "pid")], env={**os.environ, "PYTHONPATH": path}) as parent:
        other = wait_for(tmp_path / "pid")
        parent.kill()
    limit = time.monotonic() + 30
    while is_running(other) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not is_running(other)
