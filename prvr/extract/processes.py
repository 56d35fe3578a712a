"""An engine of several processes on this machine. If one dies, only the file that killed it is lost.

A worker process has its own pipe. It asks for a job when one of its decoder threads is free, and sends each outcome as soon
as it is ready; decoded frames stay in the worker. A `ProcessPoolExecutor` would not do: it gives a process one call at a
time, so that videos could not share batches, and it loses every call in progress when one process dies.
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

from prvr.device import processor_count
from prvr.errors import ModelError, PrvrError
from prvr.extract.encoding import encode_jobs
from prvr.extract.engine import EncoderOpener, FrameSampling, Job, Outcome
from prvr.extract.job_queue import Assignment, JobQueue

# Not fork: the threads of a network's libraries do not survive it.
CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class JobRequest:
    """The message of a worker that has a free decoder thread."""


@dataclass(frozen=True)
class Finished:
    """The message of a worker that got no further job and has finished all its jobs."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    assignment: Assignment = field(default_factory=Assignment)
    has_started: bool = False


@final
class Processes:
    """An engine of `number` processes that share the jobs; each opens the encoder itself."""

    def __init__(self, number: int, opener: EncoderOpener) -> None:
        self._number, self._opener = number, opener

    def encode(self, jobs: Sequence[Job], *, sampling: FrameSampling) -> Iterator[Outcome]:
        """Yields the outcome of each job as soon as it is ready.

        Raises:
            ModelError: the workers cannot open the encoder, or die before their first job.
        """
        with closing(_Pool(jobs, min(self._number, len(jobs)), self._opener, sampling)) as pool:
            yield from pool.outcomes()


@final
class _Pool:
    def __init__(self, jobs: Sequence[Job], number: int, opener: EncoderOpener, sampling: FrameSampling) -> None:
        self._queue, self._number = JobQueue(jobs, deaths=1), number
        self._settings = (opener, sampling, max(1, processor_count() // max(1, number)))
        self._workers: list[_Worker] = []
        self._ending: list[BaseProcess] = []

    def outcomes(self) -> Iterator[Outcome]:
        while len(self._queue) or self._workers:
            while len(self._workers) < min(self._number, len(self._workers) + len(self._queue)):
                self._start_worker()
            ready = wait([worker.pipe for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                yield from self._receive(worker)

    def close(self) -> None:
        for worker in list(self._workers):
            self._dismiss(worker)
        for process in self._ending:
            process.terminate()
            process.join()

    def _start_worker(self) -> None:
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=work, args=(theirs, *self._settings), daemon=True)
        process.start()
        # Only the worker holds its end open, so that our end reports its death.
        theirs.close()
        self._workers.append(_Worker(process, ours))

    def _receive(self, worker: _Worker) -> Iterator[Outcome]:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if isinstance(message, JobRequest):
            worker.has_started = True
            job = next(iter(self._queue.assign(worker.assignment)), None)
            # If the worker has died, `recv` reports it next time.
            with suppress(OSError):
                worker.pipe.send(job)
        elif isinstance(message, Finished):
            self._dismiss(worker)
        elif isinstance(message, PrvrError):
            raise message
        else:
            self._queue.receive(worker.assignment, message)
            yield message

    def _bury(self, worker: _Worker) -> Iterator[Outcome]:
        self._dismiss(worker)
        worker.process.join()
        reason = _exit_reason(worker.process.exitcode)
        if not worker.has_started:
            raise ModelError(f"a worker ended before its first video ({reason}); try fewer workers")
        yield from self._queue.worker_died(worker.assignment, reason)

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        # A process takes time to end; the other workers are served meanwhile.
        self._ending.append(worker.process)


def work(pipe: Connection, opener: EncoderOpener, sampling: FrameSampling, threads: int) -> None:
    """Runs a worker process: asks for jobs, encodes them and sends the outcomes, until there is no further job."""
    # On an interrupt the process that hands out jobs ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The libraries of networks read it when they are imported, which is later.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            pipe.send(message)

    def jobs() -> Iterator[Job]:
        send(JobRequest())
        while (job := pipe.recv()) is not None:
            yield job
            send(JobRequest())

    # The pipe breaks when the process that hands out jobs has ended.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            for outcome in encode_jobs(jobs(), opener.open(), sampling=sampling, threads=threads):
                send(outcome)
            send(Finished())
        except PrvrError as problem:
            send(problem)


def _exit_reason(code: int | None) -> str:
    return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
