"""A queue of jobs for workers that may crash, which finds the file at fault.

The jobs of a worker that died become suspects. A suspect is tried again by a worker that has no other job: if that worker
dies, too, its one file is at fault, and all other files are encoded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from prvr.extract.engine import Job, Outcome, Part, Refused


@dataclass
class Assignment:
    """The unfinished jobs of one worker. `alone` is True for a single suspect, and None before the first job."""

    jobs: dict[str, Job] = field(default_factory=dict)
    alone: bool | None = None


@final
class JobQueue:
    """The jobs that wait for a worker.

    Args:
        deaths: a job is refused after this many workers died while it was their only job.
    """

    def __init__(self, jobs: Sequence[Job], *, deaths: int) -> None:
        self._waiting, self._suspects = deque(jobs), deque[Job]()
        self._max_deaths, self._deaths = deaths, Counter[str]()

    def __len__(self) -> int:
        """The number of jobs that wait for a worker."""
        return len(self._waiting) + len(self._suspects)

    def assign(self, assignment: Assignment, *, limit: int = 1) -> list[Job]:
        """Adds up to `limit` jobs to an assignment and returns them; an assignment with a suspect gets no further job."""
        if assignment.alone:
            return []
        if assignment.alone is None:
            assignment.alone = bool(self._suspects)
        if assignment.alone:
            jobs = [self._suspects.popleft()]
        else:
            jobs = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        assignment.jobs.update({job.id: job for job in jobs})
        return jobs

    @staticmethod
    def receive(assignment: Assignment, outcome: Outcome) -> None:
        """Takes note of an outcome: its job is finished, or another worker need not encode again what a part holds."""
        if not isinstance(outcome, Part):
            del assignment.jobs[outcome.id]
        elif outcome.times:
            assignment.jobs[outcome.id] = replace(
                assignment.jobs[outcome.id], after=outcome.times[-1], look=outcome.look, row=outcome.rows[-1]
            )

    def worker_died(self, assignment: Assignment, reason: str) -> Iterator[Refused]:
        """Puts the jobs of a dead worker back as suspects, and yields those that are refused."""
        for job in assignment.jobs.values():
            self._deaths[job.id] += bool(assignment.alone)
            if self._deaths[job.id] >= self._max_deaths:
                yield Refused(job.id, f"{job.path} ends the process that reads it ({reason}); convert it or take it out")
            else:
                self._suspects.append(job)
        assignment.jobs.clear()
