"""Shards that are indexed by the actors of a Ray cluster: each decodes, encodes and writes the videos of its shard.

All machines have the videos, the encoder and the folder of the shards under the same paths. An actor that is lost with its
machine is started on another one, and goes on in its shard: what was written there is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any, final

import torch

from prvr.device import device_name, gist, processor_count
from prvr.errors import DataError, PrvrError, require
from prvr.extract.extraction import Progress
from prvr.methods.checkpoint import Checkpoint
from prvr.search.indexing_tools import IndexingTools
from prvr.search.shard_updates import ShardUpdate
from prvr.search.update import Indexing

# Half a processor: actors that ask for a whole one would wait for ever where searches have a part of it.
PROCESSORS = 0.5
# How often an actor is started again. A file that ends its reader would otherwise do so for ever.
RESTARTS = 3
# Seconds between two looks at the actors, and after which it is an error that none of them answers.
LOOK = 0.5
PATIENCE = 180
PINGS = "pings"


class ShardIndexer:
    """The actor: it brings one shard up to date.

    Args:
        sharing: the number of actors on one machine.
    """

    def __init__(self, sharing: int) -> None:
        # Ray would have one thread.
        torch.set_num_threads(max(1, processor_count() // sharing))
        self._seen: tuple[str, float, float] = ("", 0.0, 0.0)
        self._tools: IndexingTools | None = None

    def progress(self) -> tuple[str, float, float]:
        """Returns the current video, the seconds of video that are read, and of all; also while another call is executed."""
        return self._seen

    def check(self, shard: ShardUpdate, checkpoint: list[Any], stored: Mapping[str, str | None]) -> PrvrError | OSError | None:
        """Opens what the update needs; arguments and errors as of `update`."""
        try:
            self._tools = shard.check(require("ray", extra="ray").get(checkpoint[0]), stored)
        except (PrvrError, OSError) as problem:
            return problem
        return None

    def update(self, shard: ShardUpdate, checkpoint: list[Any]) -> Indexing | PrvrError | OSError:
        """The result of the update, or the error that it raises.

        Args:
            checkpoint: a reference, in a list so that Ray does not resolve it. It comes with the call, since an actor that is
                started again may not get what its constructor got.
        """
        try:
            return shard.run(require("ray", extra="ray").get(checkpoint[0]), self._note, tools=self._tools)
        except (PrvrError, OSError) as problem:
            return problem

    def _note(self, text: str, done: float, total: float) -> None:
        self._seen = (text, done, total)


@final
class ShardIndexers:
    """The actors of a cluster, one for each shard; as many are at work at a time as it has room for.

    Args:
        ray: connected to the cluster.
    """

    def __init__(self, ray: ModuleType, updates: Sequence[ShardUpdate], checkpoint: Checkpoint) -> None:
        self._ray = ray
        device = device_name(updates[0].settings["device"])
        self._updates = [replace(update, settings={**update.settings, "device": device}) for update in updates]
        options = {"num_cpus": PROCESSORS, "num_gpus": int(device.startswith("cuda")), "scheduling_strategy": "SPREAD"}
        retries = {"max_restarts": RESTARTS, "max_task_retries": RESTARTS, "concurrency_groups": {PINGS: 1}}
        kind = self._ray.remote(**options, **retries)(ShardIndexer)
        self._checkpoint = [self._ray.put(checkpoint)]
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        self._actors = [kind.remote(-(-len(updates) // nodes)) for _ in updates]

    def check(self, stored: Mapping[str, str | None]) -> None:
        """Opens what the updates need, and waits for one of the actors to have it; nothing is written.

        Args:
            stored: the readers of texts that the shards keep.

        Raises:
            PrvrError: it cannot be opened, or no machine works.
        """
        calls = zip(self._actors, self._updates, strict=True)
        # All are called: those that the cluster has no room for wait until others have ended.
        answers = [actor.check.remote(update, self._checkpoint, stored) for actor, update in calls]
        _, problem = next(self._answers(answers, None))
        if problem is not None:
            raise problem

    def update(self, on_progress: Progress | None) -> list[Indexing | Exception]:
        """Brings the shards up to date; returns what each has done, or its error. All go on when one has an error.

        Raises:
            DataError: no machine works; what was finished is kept.
        """
        calls = zip(self._actors, self._updates, strict=True)
        results: dict[int, Any] = {}
        for number, result in self._answers(
            [actor.update.remote(update, self._checkpoint) for actor, update in calls], on_progress
        ):
            results[number] = result
            # Its place is free for a shard that waits.
            self._ray.kill(self._actors[number])
        return [results[number] for number in range(len(self._actors))]

    def close(self) -> None:
        """Ends the actors."""
        for actor in self._actors:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(actor)

    def _answers(self, calls: Sequence[Any], on_progress: Progress | None) -> Iterator[tuple[int, Any]]:
        """Yields the results of calls, one for each shard, or their errors, with the number of the shard, as they come."""
        pending = {answer: number for number, answer in enumerate(calls)}
        pings: dict[Any, int] = {}
        seen: dict[int, tuple[str, float, float]] = {}
        last_answer = time.monotonic()
        while pending:
            for number in set(pending.values()) - set(pings.values()):
                pings[self._actors[number].progress.options(concurrency_group=PINGS).remote()] = number
            answers = [*pending, *pings]
            ready, _ = self._ray.wait(answers, num_returns=len(answers), timeout=LOOK)
            for answer in ready:
                last_answer = time.monotonic()
                if answer in pings:
                    number = pings.pop(answer)
                    with suppress(self._ray.exceptions.RayError):
                        seen[number] = self._ray.get(answer)
                else:
                    number = pending.pop(answer)
                    yield number, self._result(answer, number)
            if on_progress is not None and seen:
                text = list(seen.values())[-1][0]
                done, total = sum(one[1] for one in seen.values()), sum(one[2] for one in seen.values())
                on_progress(f"{len(calls) - len(pending)} of {len(calls)} shards, {text}", done, total)
            if time.monotonic() - last_answer > PATIENCE:
                raise DataError(
                    f"no machine of the Ray cluster indexes within {PATIENCE} s; check that one has {PROCESSORS} processors to "
                    "spare (ray status), and run again: what was finished is kept"
                )

    def _result(self, answer: Any, number: int) -> Any:
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as problem:
            return problem
        except self._ray.exceptions.RayError as problem:
            return DataError(
                f"the machines that index {self._updates[number].path} are lost again and again: {gist(problem)}; run again, "
                "what was finished is kept. If a file ends its reader, --workers 1 names it"
            )
