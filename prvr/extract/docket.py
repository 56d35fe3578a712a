"""Which jobs wait, which are in whose hands, and what becomes of them when a worker dies.

What it had in hand is then under suspicion, and tried once more by a worker that has nothing else: so the one at
fault is known, and the others lose nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import final

from prvr.extract.jobs import Job, Refused


@dataclass
class Hand:
    """What one worker was given and has not done yet; `alone` says whether it is a single one under suspicion."""

    jobs: dict[str, Job] = field(default_factory=dict)
    alone: bool | None = None


@final
class Docket:
    """The jobs of a run.

    Args:
        deaths: so many workers must die of a job alone until it is given up.
    """

    def __init__(self, jobs: Sequence[Job], *, deaths: int) -> None:
        self._waiting, self._suspects = deque(jobs), deque[Job]()
        self._needed, self._deaths = deaths, Counter[str]()

    def __len__(self) -> int:
        """How many jobs wait for a worker."""
        return len(self._waiting) + len(self._suspects)

    def give(self, hand: Hand, *, most: int = 1) -> list[Job]:
        """Puts up to so many jobs into a hand; one that holds a suspect gets nothing else."""
        if hand.alone:
            return []
        if hand.alone is None:
            hand.alone = bool(self._suspects)
        given = (
            [self._suspects.popleft()] if hand.alone else [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        )
        hand.jobs.update({job.id: job for job in given})
        return given

    def buried(self, hand: Hand, reason: str) -> Iterator[Refused]:
        """Takes back what a dead worker had in hand, and says what is given up."""
        for job in hand.jobs.values():
            self._deaths[job.id] += bool(hand.alone)
            if self._deaths[job.id] >= self._needed:
                problem = f"{job.path} ends the process that reads it ({reason}); convert it or take it out"
                yield Refused(job.id, problem)
            else:
                self._suspects.append(job)
        hand.jobs.clear()
