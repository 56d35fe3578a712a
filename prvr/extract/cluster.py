"""An engine of Ray actors on several machines; a machine that is lost takes nothing with it but what it was at.

Actors give features, never decoded frames, and the one writer is here. Every machine must see the videos and the
encoder under the same paths. Actors rather than Ray Data: a stage of Ray Data runs a block again when its process
dies, so that one file that kills its reader would stop the job.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, final

from prvr.device import connect, gist
from prvr.errors import DataError, PrvrError, SettingError
from prvr.extract.docket import Docket, Hand
from prvr.extract.jobs import Job, Opening, Outcome, Sampling
from prvr.extract.stream import cores, encode_stream

# Videos given at once, so that short ones share batches; fewer towards the end, so that all end together.
MOST_AT_ONCE = 16
# Half a processor: an actor that asks for a whole one waits for ever where other actors of the job took them all.
PROCESSORS = 0.5
# The first may have been a machine that was lost.
DEATHS = 2
# Seconds for a worker to start while no other is at work, and how many may fail to in a row.
PATIENCE = 180
STARTS = 8


@final
class Cluster:
    """Workers on the machines of a Ray cluster: one each, or one for each GPU, unless `number` says how many.

    Args:
        address: HOST:PORT of a cluster, `auto` for the one that this machine belongs to, `local` to start one here.
    """

    def __init__(self, address: str, opening: Opening, *, number: int | None = None) -> None:
        self._address, self._opening, self._number = address, opening, number

    def encode(self, jobs: Sequence[Job], *, sampling: Sampling) -> Iterator[Outcome]:
        """The outcomes of the jobs, as they are done.

        Raises:
            MissingExtra: Ray is not installed.
            SettingError: there is no cluster at the address, or it has no room for so many workers.
            DataError: no worker starts there, or all machines are lost.
        """
        if not jobs:
            return
        ray, is_ours = connect(self._address, otherwise="take --ray local")
        try:
            with closing(_Crew(ray, jobs, self._number, self._opening, sampling)) as crew:
                yield from crew.outcomes()
        finally:
            if is_ours:
                ray.shutdown()


class Worker:
    """What runs on a machine of the cluster."""

    def __init__(self, opening: Opening, sampling: Sampling, sharing: int) -> None:
        # `sharing` workers are on one machine.
        self._opening, self._sampling = opening, sampling
        self._threads = max(1, cores() // sharing)
        # Ray sets it to 1. The libraries of networks read it when they are imported, which is later.
        os.environ["OMP_NUM_THREADS"] = str(self._threads)
        self._encoder: Any = None

    def is_ready(self) -> bool:
        """An answer, when the worker has started."""
        return True

    def encode(self, jobs: list[Job]) -> Iterator[Outcome | PrvrError]:
        """The outcomes of the jobs, as they are done; an error that is no matter of a single file as the last."""
        try:
            if self._encoder is None:
                self._encoder = self._opening.open()
            yield from encode_stream(iter(jobs), self._encoder, sampling=self._sampling, decoders=self._threads)
        except PrvrError as problem:
            yield problem


@dataclass
class _Member:
    """A worker as it is seen from here: `answer` is what is waited for, a start or the next outcome."""

    actor: Any
    answer: Any
    hand: Hand | None = None


@final
class _Crew:
    def __init__(self, ray: ModuleType, jobs: Sequence[Job], number: int | None, opening: Opening, sampling: Sampling) -> None:
        self._ray, self._docket = ray, Docket(jobs, deaths=DEATHS)
        on_gpus = opening.device.startswith("cuda")
        unit, share = ("GPU", 1.0) if on_gpus else ("CPU", PROCESSORS)
        self._number = min(_number(ray, number, unit=unit, share=share), len(jobs))
        sharing = -(-self._number // len(_alive(ray)))
        # Spread over the machines; never again by itself, for who died of what is written in the docket.
        options = {"num_cpus": PROCESSORS, "num_gpus": int(on_gpus), "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        kind = ray.remote(**options)(Worker)
        self._new = lambda: kind.remote(opening, sampling, sharing)
        self._members: list[_Member] = []
        self._failed_starts = 0

    def outcomes(self) -> Iterator[Outcome]:
        heard = time.monotonic()
        while len(self._docket) or any(member.hand for member in self._members):
            self._employ()
            answers = {id(member.answer): member for member in self._members if member.answer is not None}
            ready, _ = self._ray.wait([member.answer for member in answers.values()], timeout=1)
            if ready:
                heard = time.monotonic()
                yield from self._heard(answers[id(ready[0])])
            elif time.monotonic() - heard > PATIENCE and not any(member.hand for member in self._members):
                raise DataError(
                    f"no worker starts on the Ray cluster, not in {PATIENCE} s; see that it has processors to spare "
                    "(ray status) and run again: what was finished is kept"
                )

    def close(self) -> None:
        for member in self._members:
            self._let_go(member)

    def _employ(self) -> None:
        while len(self._members) < self._number:
            actor = self._new()
            self._members.append(_Member(actor, actor.is_ready.remote()))
        for member in self._members:
            if member.answer is None and len(self._docket):
                member.hand = Hand()
                jobs = self._docket.give(member.hand, most=max(1, min(MOST_AT_ONCE, len(self._docket) // (2 * self._number))))
                member.answer = member.actor.encode.options(num_returns="streaming").remote(jobs)

    def _heard(self, member: _Member) -> Iterator[Outcome]:
        try:
            if member.hand is not None:
                outcome = self._ray.get(next(member.answer))
                if isinstance(outcome, PrvrError):
                    raise outcome
                del member.hand.jobs[outcome.id]
                yield outcome
                return
            self._ray.get(member.answer)
            self._failed_starts = 0
        except StopIteration:
            pass
        except self._ray.exceptions.RayError as problem:
            yield from self._buried(member, problem)
            return
        member.hand = member.answer = None

    def _buried(self, member: _Member, problem: Exception) -> Iterator[Outcome]:
        self._members.remove(member)
        self._let_go(member)
        if member.hand is not None:
            yield from self._docket.buried(member.hand, gist(problem))
            return
        self._failed_starts += 1
        if self._failed_starts == STARTS:
            raise DataError(
                f"workers do not start on the Ray cluster: {gist(problem)}; "
                "every machine needs the same prvr with the same extras; what was finished is kept"
            )

    def _let_go(self, member: _Member) -> None:
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(member.actor)


def _alive(ray: ModuleType) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _number(ray: ModuleType, number: int | None, *, unit: str, share: float) -> int:
    """How many workers to have: as asked, or one on each machine, or one for each GPU.

    Raises:
        SettingError: they do not fit.
    """
    rooms = [int(resources.get(unit, 0) / share) for resources in _alive(ray)]
    wanted = number or (sum(rooms) if unit == "GPU" else max(1, sum(room > 0 for room in rooms)))
    if max(1, wanted) > sum(rooms):
        raise SettingError(f"{wanted} workers do not fit on the Ray cluster, which has room for {sum(rooms)}; ask for fewer")
    return wanted
