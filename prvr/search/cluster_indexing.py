"""Shards that are indexed by the actors of a Ray cluster: each decodes, encodes and writes the videos of its shard.

All machines have the videos, the encoder and the folder of the shards under the same paths. An actor that is lost with its
machine is started on another one, and goes on in its shard: what was written there is kept.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, final

import torch

from prvr.device import connect, device_name, gist, processor_count
from prvr.errors import DataError, PrvrError, require
from prvr.extract.extraction import Progress
from prvr.methods.checkpoint import Checkpoint
from prvr.search.update import Indexing, ShardUpdate

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

    def progress(self) -> tuple[str, float, float]:
        """Returns the current video, the seconds of video that are read, and of all; also while another call is executed."""
        return self._seen

    def update(self, shard: ShardUpdate, checkpoint: list[Any]) -> Indexing | PrvrError:
        """The result of the update, or the error that it raises.

        Args:
            checkpoint: a reference, in a list so that Ray does not resolve it. It comes with the call, since an actor that is
                started again may not get what its constructor got.
        """
        try:
            return shard.run(require("ray", extra="ray").get(checkpoint[0]), self._note)
        except PrvrError as problem:
            return problem

    def _note(self, text: str, done: float, total: float) -> None:
        self._seen = (text, done, total)


def index_on_cluster(
    address: str, updates: Sequence[ShardUpdate], checkpoint: Checkpoint, on_progress: Progress | None
) -> list[Indexing]:
    """Brings shards up to date, as many at a time as the cluster has room for.

    Raises:
        MissingExtra: Ray is not installed.
        SettingError: there is no cluster at the address.
        DataError: no machine works, or one shard lost several.
        PrvrError: the error of the first shard that raises one; what the others have finished is kept.
    """
    ray, is_ours = connect(address, otherwise="write shards:///FOLDER")
    actors: list[Any] = []
    try:
        device = device_name(updates[0].settings["device"])
        nodes = sum(node["Alive"] for node in ray.nodes())
        options = {"num_cpus": PROCESSORS, "num_gpus": int(device.startswith("cuda")), "scheduling_strategy": "SPREAD"}
        retries = {"max_restarts": RESTARTS, "max_task_retries": RESTARTS, "concurrency_groups": {PINGS: 1}}
        kind = ray.remote(**options, **retries)(ShardIndexer)
        actors += [kind.remote(-(-len(updates) // nodes)) for _ in updates]
        there = [replace(update, settings={**update.settings, "device": device}) for update in updates]
        return _Work(ray, actors, there, [ray.put(checkpoint)]).results(on_progress)
    finally:
        for actor in actors:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(actor)
        if is_ours:
            ray.shutdown()


@final
class _Work:
    """The pending answers of the actors: results of updates, and where each of them is."""

    def __init__(self, ray: Any, actors: Sequence[Any], updates: Sequence[ShardUpdate], checkpoint: list[Any]) -> None:
        self._ray, self._actors, self._updates = ray, actors, updates
        self._pending = {
            actor.update.remote(update, checkpoint): number
            for number, (actor, update) in enumerate(zip(actors, updates, strict=True))
        }
        self._pings: dict[Any, int] = {}
        self._seen: dict[int, tuple[str, float, float]] = {}
        self._results: dict[int, Indexing] = {}

    def results(self, on_progress: Progress | None) -> list[Indexing]:
        last_answer = time.monotonic()
        while self._pending:
            for number in set(self._pending.values()) - set(self._pings.values()):
                self._pings[self._actors[number].progress.options(concurrency_group=PINGS).remote()] = number
            answers = [*self._pending, *self._pings]
            ready, _ = self._ray.wait(answers, num_returns=len(answers), timeout=LOOK)
            for answer in ready:
                last_answer = time.monotonic()
                self._receive(answer)
            if on_progress is not None and self._seen:
                text = list(self._seen.values())[-1][0]
                done, total = sum(seen[1] for seen in self._seen.values()), sum(seen[2] for seen in self._seen.values())
                on_progress(f"{len(self._results)} of {len(self._actors)} shards, {text}", done, total)
            if time.monotonic() - last_answer > PATIENCE:
                raise DataError(
                    f"no machine of the Ray cluster indexes within {PATIENCE} s; check that one has {PROCESSORS} processors to "
                    "spare (ray status), and run again: what was finished is kept"
                )
        return [self._results[number] for number in range(len(self._actors))]

    def _receive(self, answer: Any) -> None:
        if answer in self._pings:
            number = self._pings.pop(answer)
            with suppress(self._ray.exceptions.RayError):
                self._seen[number] = self._ray.get(answer)
            return
        number = self._pending.pop(answer)
        try:
            result = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as problem:
            raise DataError(
                f"the machines that index {self._updates[number].path} are lost again and again: {gist(problem)}; run again, "
                "what was finished is kept. If a file ends its reader, --workers 1 names it"
            ) from problem
        if isinstance(result, PrvrError):
            raise result
        self._results[number] = result
        # Its place is free for a shard that waits.
        self._ray.kill(self._actors[number])
