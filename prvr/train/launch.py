"""Several processes of one command on this machine, as `torchrun` would start them: when one ends, all do, with its reason."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory
from types import FrameType

import torch
from torch.multiprocessing.spawn import start_processes

from prvr.errors import ProcessLost, PrvrError, SettingError
from prvr.train.distributed import RENDEZVOUS, end_process

# So long has a process to end by itself when it is told to, before it is killed.
GRACE = 5.0
INTERRUPTED = 130


def launch(work: Callable[[], None], processes: int, *, device: str) -> None:
    """Runs `work` in so many processes, each with the environment that `joined` reads.

    Args:
        work: what can be sent to another process.

    Raises:
        SettingError: there are not so many devices, or `torchrun` has started processes already.
        PrvrError, OSError: what the process raised that failed first.
        ProcessLost: a process was killed, or failed by a fault of the program.
    """
    _check(processes, device)
    # Pipes and not a queue, whose locks would be left over where this process is killed.
    ours, theirs = zip(*(Pipe(duplex=False) for _ in range(processes)), strict=True)
    # Started by Python with the first process, it would undo `_interrupts_held`.
    resource_tracker.ensure_running()
    with TemporaryDirectory() as folder:
        running: list[BaseProcess] = []
        try:
            with _interrupts_held():
                given = (work, processes, f"file://{folder}/rendezvous", theirs)
                running = start_processes(_run, given, nprocs=processes, join=False).processes
            failed = _first_failed(running)
        finally:
            _stop(running)
    if failed is None:
        return
    if ours[failed].poll():
        problem, trace = ours[failed].recv()
        raise problem from RuntimeError(trace)
    raise ProcessLost(
        f"process {failed + 1} of {processes} was ended {_how(running[failed])}; "
        "what was finished is kept: run the same command to go on"
    )


def _check(processes: int, device: str) -> None:
    if "WORLD_SIZE" in os.environ:
        size = os.environ["WORLD_SIZE"]
        raise SettingError(f"--devices {processes} within {size} processes that torchrun has started; leave one of them out")
    if device.startswith("cuda") and processes > (there := torch.cuda.device_count()):
        raise SettingError(f"--devices {processes} on {device}: torch sees {there} GPUs here; take as many, or --device cpu")


def _run(rank: int, work: Callable[[], None], size: int, meeting: str, reports: Sequence[Connection]) -> None:
    """What each process does."""
    interrupt = _interrupt_once()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update({name: str(number) for name, number in numbers.items()}, **{RENDEZVOUS: meeting})
    # All are on this machine, whose name need not lead anywhere.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
    try:
        work()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as problem:
        if isinstance(problem, ProcessLost):
            # One that ended is why; it is found by the process that started us, who then ends this one.
            _sleep(2 * GRACE)
        reports[rank].send((_sendable(problem), traceback.format_exc()))
        sys.exit(1)
    end_process()


def _sleep(seconds: float) -> None:
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _sendable(problem: Exception) -> Exception:
    if isinstance(problem, PrvrError):
        return problem
    if isinstance(problem, OSError):
        return OSError(problem.errno, problem.strerror or str(problem), problem.filename)
    reason = f"{type(problem).__name__}: {problem}".partition("\n")[0]
    return ProcessLost(f"a process failed ({reason}); --debug says where, and what was finished is kept")


def _interrupt_once() -> Callable[[int, FrameType | None], None]:
    told = False

    def handler(number: int, frame: FrameType | None) -> None:
        # The terminal interrupts all, and then the process that started us tells us, too: once is enough.
        nonlocal told
        if not told:
            told = True
            raise KeyboardInterrupt

    return handler


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Puts an interrupt off, here and in the processes that are started meanwhile, until they can take it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _first_failed(processes: Sequence[BaseProcess]) -> int | None:
    """Waits until all have ended, or one has failed; which."""
    while True:
        codes = [process.exitcode for process in processes]
        failed = next((rank for rank, code in enumerate(codes) if code), None)
        running = [process.sentinel for process, code in zip(processes, codes, strict=True) if code is None]
        if failed is not None or not running:
            return failed
        wait(running)


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        process.kill()
        process.join()


def _how(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code >= 0:
        return f"with status {code}"
    name = signal.Signals(-code).name
    return f"by {name}{' (a machine out of memory does that)' if name == 'SIGKILL' else ''}"
