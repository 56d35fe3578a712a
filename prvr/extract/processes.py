"""An engine of several processes on this machine; one that dies takes nothing with it but the file that killed it.

Each worker has a pipe of its own. It asks for a job when a decoder is free, and sends each outcome as it is done;
decoded frames never leave it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import final

from prvr.errors import ModelError, PrvrError
from prvr.extract.docket import Docket, Hand
from prvr.extract.jobs import Job, Opening, Outcome, Sampling
from prvr.extract.stream import cores, encode_stream

# Not fork: the threads of a network's libraries do not survive it.
CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Asking:
    """A worker's decoder is free."""


@dataclass(frozen=True)
class Finished:
    """A worker got no further job, and all it had is done."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    hand: Hand = field(default_factory=Hand)
    has_asked: bool = False


@final
class Processes:
    """`number` processes that share the work; each opens the encoder for itself."""

    def __init__(self, number: int, opening: Opening) -> None:
        self._number, self._opening = number, opening

    def encode(self, jobs: Sequence[Job], *, sampling: Sampling) -> Iterator[Outcome]:
        """The outcomes of the jobs, as they are done.

        Raises:
            ModelError: the workers cannot open the encoder, or die before they do anything.
        """
        with closing(_Pool(jobs, min(self._number, len(jobs)), self._opening, sampling)) as pool:
            yield from pool.outcomes()


@final
class _Pool:
    def __init__(self, jobs: Sequence[Job], number: int, opening: Opening, sampling: Sampling) -> None:
        self._docket, self._number = Docket(jobs, deaths=1), number
        self._orders = (opening, sampling, max(1, cores() // max(1, number)))
        self._workers: dict[Connection, _Worker] = {}
        self._leaving: list[BaseProcess] = []

    def outcomes(self) -> Iterator[Outcome]:
        while len(self._docket) or self._workers:
            while len(self._workers) < min(self._number, len(self._workers) + len(self._docket)):
                self._hire()
            for pipe in wait(list(self._workers)):
                assert isinstance(pipe, Connection)
                yield from self._heard(self._workers[pipe])

    def close(self) -> None:
        for worker in list(self._workers.values()):
            self._dismiss(worker)
        for process in self._leaving:
            process.terminate()
            process.join()

    def _hire(self) -> None:
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=work, args=(theirs, *self._orders), daemon=True)
        process.start()
        # What is left open only over there tells us when it is gone.
        theirs.close()
        self._workers[ours] = _Worker(process, ours)

    def _heard(self, worker: _Worker) -> Iterator[Outcome]:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._dismiss(worker)
            worker.process.join()
            reason = _reason(worker.process.exitcode)
            if not worker.has_asked:
                raise ModelError(f"a worker ended before its first video ({reason}); try fewer workers") from None
            yield from self._docket.buried(worker.hand, reason)
            return
        if isinstance(message, Asking):
            worker.has_asked = True
            job = next(iter(self._docket.give(worker.hand)), None)
            # That it has died is heard when its next message does not come.
            with suppress(OSError):
                worker.pipe.send(job)
        elif isinstance(message, Finished):
            self._dismiss(worker)
        elif isinstance(message, PrvrError):
            raise message
        else:
            del worker.hand.jobs[message.id]
            yield message

    def _dismiss(self, worker: _Worker) -> None:
        del self._workers[worker.pipe]
        worker.pipe.close()
        # An end takes its time, and the others should not wait for it.
        self._leaving.append(worker.process)


def work(pipe: Connection, opening: Opening, sampling: Sampling, threads: int) -> None:
    """What a worker process does: asks for jobs, encodes them and sends outcomes, until there is no further job."""
    # An interrupt is for the one that hands out jobs, who ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The libraries of networks read it when they are imported, which is later.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            pipe.send(message)

    def jobs() -> Iterator[Job]:
        send(Asking())
        while (job := pipe.recv()) is not None:
            yield job
            send(Asking())

    # The other end closes when no one is there any more to tell.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            encoder = opening.open()
            for outcome in encode_stream(jobs(), encoder, sampling=sampling, decoders=threads):
                send(outcome)
            send(Finished())
        except PrvrError as problem:
            send(problem)


def _reason(code: int | None) -> str:
    return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
