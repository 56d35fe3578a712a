"""An engine of Ray actors on several machines. If a machine is lost, only the jobs in progress there are repeated.

Actors return features, never decoded frames, and only this process writes. Every machine must have the videos and the
encoder under the same paths. Actors and not Ray Data: a stage of Ray Data repeats a block when its process dies, so that one
file that kills its reader would stop the job.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, final

from prvr.device import connect, gist, processor_count
from prvr.encoders import needs_torch
from prvr.errors import DataError, PrvrError, SettingError, require
from prvr.extract.encoding import encode_jobs
from prvr.extract.engine import EncoderOpener, FrameSampling, Job, Outcome
from prvr.extract.job_queue import Assignment, JobQueue

# Limit on the jobs of one call, so that short videos share batches; fewer towards the end, so that all workers end together.
JOBS_AT_ONCE = 16
# Half a processor: an actor that asks for a whole one waits for ever if other actors of the job have all of them.
PROCESSORS = 0.5
# The first death may have been that of a lost machine.
DEATHS = 2
# Seconds for a worker to start while no other works, and the number of failed starts in a row that ends the job.
START_SECONDS = 180
FAILED_STARTS = 8
OTHERWISE = "take --ray local"


def check_cluster(address: str) -> None:
    """Checks that Ray is installed, and that there is a cluster at an address; `local` starts one when videos are encoded.

    Raises:
        MissingExtra: Ray is not installed.
        SettingError: there is no cluster.
    """
    require("ray", extra="ray")
    if address != "local":
        with connect(address, otherwise=OTHERWISE):
            pass


@final
class Cluster:
    """An engine of workers on the machines of a Ray cluster.

    Args:
        address: HOST:PORT of a cluster, `auto` for the one that this machine belongs to, `local` to start one here.
        number: how many workers; by default one for each machine, or one for each GPU.
    """

    def __init__(self, address: str, opener: EncoderOpener, *, number: int | None = None) -> None:
        self._address, self._opener, self._number = address, opener, number

    def encode(self, jobs: Sequence[Job], *, sampling: FrameSampling) -> Iterator[Outcome]:
        """Yields the outcome of each job as soon as it is ready.

        Raises:
            MissingExtra: Ray is not installed.
            SettingError: there is no cluster at the address, or it has no room for so many workers.
            DataError: no worker starts there, or all machines are lost.
        """
        if not jobs:
            return
        with (
            connect(self._address, otherwise=OTHERWISE) as ray,
            closing(_Workers(ray, jobs, self._number, self._opener, sampling)) as workers,
        ):
            yield from workers.outcomes()


class Worker:
    """A worker process on a machine of the cluster.

    Args:
        sharing: the number of workers on one machine.
    """

    def __init__(self, opener: EncoderOpener, sampling: FrameSampling, sharing: int) -> None:
        self._opener, self._sampling = opener, sampling
        self._threads = max(1, processor_count() // sharing)
        # Ray sets it to 1. The libraries of networks read it when they are imported, which is later.
        os.environ["OMP_NUM_THREADS"] = str(self._threads)
        self._encoder: Any = None

    def is_ready(self) -> bool:
        """Returns when the worker has started."""
        return True

    def encode(self, jobs: list[Job]) -> Iterator[Outcome | PrvrError]:
        """Yields the outcome of each job as soon as it is ready; as the last an error that belongs to no single file."""
        try:
            if self._encoder is None:
                self._encoder = self._opener.open()
            yield from encode_jobs(iter(jobs), self._encoder, sampling=self._sampling, threads=self._threads)
        except PrvrError as problem:
            yield problem


@dataclass
class _RemoteWorker:
    """A worker's actor and its pending answer: that it has started, or the next outcome. None while it has no job."""

    actor: Any
    answer: Any
    assignment: Assignment | None = None


@final
class _Workers:
    def __init__(
        self, ray: ModuleType, jobs: Sequence[Job], number: int | None, opener: EncoderOpener, sampling: FrameSampling
    ) -> None:
        self._ray, self._queue = ray, JobQueue(jobs, deaths=DEATHS)
        on_gpus = takes_gpus(opener, _nodes(ray))
        unit, share = ("GPU", 1.0) if on_gpus else ("CPU", PROCESSORS)
        self._number = min(_worker_count(ray, number, unit=unit, share=share), len(jobs))
        sharing = -(-self._number // len(_nodes(ray)))
        # Spread over the machines. Ray restarts none of them: the queue has to know which job a worker died of.
        options = {"num_cpus": PROCESSORS, "num_gpus": int(on_gpus), "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        kind = ray.remote(**options)(Worker)
        self._new_actor = lambda: kind.remote(opener, sampling, sharing)
        self._workers: list[_RemoteWorker] = []
        self._failed_starts = 0

    def outcomes(self) -> Iterator[Outcome]:
        last_answer = time.monotonic()
        while len(self._queue) or any(worker.assignment for worker in self._workers):
            self._assign()
            pending = {id(worker.answer): worker for worker in self._workers if worker.answer is not None}
            ready, _ = self._ray.wait([worker.answer for worker in pending.values()], timeout=1)
            if ready:
                last_answer = time.monotonic()
                yield from self._receive(pending[id(ready[0])])
            elif time.monotonic() - last_answer > START_SECONDS and not any(worker.assignment for worker in self._workers):
                raise DataError(
                    f"no worker starts on the Ray cluster within {START_SECONDS} s; check that it has free processors "
                    "(ray status) and run again: what was finished is kept"
                )

    def close(self) -> None:
        for worker in self._workers:
            self._kill(worker)

    def _assign(self) -> None:
        while len(self._workers) < self._number:
            actor = self._new_actor()
            self._workers.append(_RemoteWorker(actor, actor.is_ready.remote()))
        for worker in self._workers:
            if worker.answer is None and len(self._queue):
                worker.assignment = Assignment()
                limit = max(1, min(JOBS_AT_ONCE, len(self._queue) // (2 * self._number)))
                jobs = self._queue.assign(worker.assignment, limit=limit)
                worker.answer = worker.actor.encode.options(num_returns="streaming").remote(jobs)

    def _receive(self, worker: _RemoteWorker) -> Iterator[Outcome]:
        try:
            if worker.assignment is not None:
                outcome = self._ray.get(next(worker.answer))
                if isinstance(outcome, PrvrError):
                    raise outcome
                self._queue.receive(worker.assignment, outcome)
                yield outcome
                return
            self._ray.get(worker.answer)
            self._failed_starts = 0
        except StopIteration:
            pass
        except self._ray.exceptions.RayError as problem:
            yield from self._bury(worker, problem)
            return
        worker.assignment = worker.answer = None

    def _bury(self, worker: _RemoteWorker, problem: Exception) -> Iterator[Outcome]:
        self._workers.remove(worker)
        self._kill(worker)
        if worker.assignment is not None:
            yield from self._queue.worker_died(worker.assignment, gist(problem))
            return
        self._failed_starts += 1
        if self._failed_starts == FAILED_STARTS:
            raise DataError(
                f"workers do not start on the Ray cluster: {gist(problem)}; "
                "every machine needs the same prvr with the same extras; what was finished is kept"
            )

    def _kill(self, worker: _RemoteWorker) -> None:
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(worker.actor)


def takes_gpus(opener: EncoderOpener, nodes: Sequence[Mapping[str, float]]) -> bool:
    """Returns whether each worker takes a GPU: with `cuda`; with `auto` where the cluster has any and torch runs the encoder.

    Args:
        nodes: the resources of each machine.
    """
    if opener.device != "auto":
        return opener.device.startswith("cuda")
    # An onnxruntime that can use a GPU is another package; whether the machines have it is not known here.
    by_torch = any(needs_torch(part.source) for part in opener.parts or (opener,))
    return by_torch and any(resources.get("GPU", 0) >= 1 for resources in nodes)


def _nodes(ray: ModuleType) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _worker_count(ray: ModuleType, number: int | None, *, unit: str, share: float) -> int:
    """Returns the number of workers: `number`, or one for each machine, or one for each GPU.

    Raises:
        SettingError: they do not fit.
    """
    rooms = [int(resources.get(unit, 0) / share) for resources in _nodes(ray)]
    wanted = number or (sum(rooms) if unit == "GPU" else max(1, sum(room > 0 for room in rooms)))
    if max(1, wanted) > sum(rooms):
        raise SettingError(f"{wanted} workers do not fit on the Ray cluster, which has room for {sum(rooms)}; ask for fewer")
    return wanted
