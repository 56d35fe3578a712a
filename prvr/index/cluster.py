"""Shards asked by the actors of a Ray cluster, each of which has one file open.

ray://ADDRESS/FOLDER?shards=4   ADDRESS: HOST:PORT of a cluster, auto for the one of this machine, local to start one here

All machines see the folder under the same path. An actor that is lost with its machine is started on another one, opens its
file there, and is asked again: what it was asked to add or to delete is the same when it is done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, final
from urllib.parse import urlsplit

from prvr.device import connect, gist
from prvr.errors import DataError, PrvrError, SettingError, require
from prvr.index.contract import Header
from prvr.index.disk import DiskIndex
from prvr.index.shards import ShardedIndex, made, shards_of
from prvr.methods.contract import Model

Answer = TypeVar("Answer")

# Several actors share a processor: each waits most of the time.
PROCESSORS = 0.25
# Seconds after which an actor that answers nothing is asked whether it is there at all, and for it to say so.
PATIENCE = 180
PINGS = "pings"


class Shard:
    """What runs on a machine of the cluster."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index: DiskIndex | None = None

    def is_up(self) -> bool:
        """An answer, whatever else the actor is at."""
        return True

    def ask(self, question: Callable[[DiskIndex], Answer], model: list[Any]) -> Answer | PrvrError:
        """What the shard answers, or what it cannot do.

        Args:
            model: a reference to it, which Ray leaves alone within a list. It comes with each question: as an argument of
                the actor's start it might be gone when that is started again.
        """
        try:
            if self._index is None:
                self._index = DiskIndex(self._path, require("ray", extra="ray").get(model[0]))
            return question(self._index)
        except PrvrError as problem:
            return problem


@final
class Actors:
    """One actor for each shard, spread over the machines of a cluster.

    Raises:
        MissingExtra: Ray is not installed.
        SettingError: there is no cluster at the address.
    """

    def __init__(self, address: str, paths: Sequence[Path], model: Model) -> None:
        self._ray, self._connects = connect(address, otherwise="write ray://local/FOLDER")
        self._paths = paths
        options = {"num_cpus": PROCESSORS, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
        kind = self._ray.remote(concurrency_groups={PINGS: 1}, **options)(Shard)
        self._model = [self._ray.put(model)]
        self._actors = [kind.remote(path) for path in paths]

    def ask(self, questions: Mapping[int, Callable[[DiskIndex], Answer]]) -> dict[int, Answer]:
        """All at once.

        Raises:
            DataError: a shard is served by no machine.
            PrvrError: what the first shard that cannot answer says.
        """
        waiting = {self._actors[number].ask.remote(question, self._model): number for number, question in questions.items()}
        answers: dict[int, Any] = {}
        while waiting:
            ready, _ = self._ray.wait(list(waiting), timeout=PATIENCE)
            for answer in ready:
                number = waiting.pop(answer)
                answers[number] = self._given(answer, number)
            if not ready:
                for number in waiting.values():
                    self._given(self._actors[number].is_up.options(concurrency_group=PINGS).remote(), number)
        for _, answer in sorted(answers.items()):
            if isinstance(answer, PrvrError):
                raise answer
        return answers

    def close(self) -> None:
        """Ends the actors, and the connection if it was made here."""
        for actor in self._actors:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(actor)
        if self._connects:
            self._ray.shutdown()

    def _given(self, answer: Any, number: int) -> Any:
        try:
            return self._ray.get(answer, timeout=PATIENCE)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as problem:
            raise DataError(
                f"no machine of the Ray cluster serves {self._paths[number]}: {gist(problem)}; see that one has "
                f"{PROCESSORS} processors to spare (ray status), the same prvr, and the folder under this path"
            ) from problem


def make_index(url: str, model: Model, header: Header) -> ShardedIndex:
    """The shards at a URL, made if they are not there, and served by a cluster.

    Raises:
        SettingError: the URL is none of shards, says another number than there are, or there is no cluster.
        ModelError: a shard is missing or broken.
        MissingExtra: Ray is not installed.
        DataError: the cluster does not serve them.
    """
    address = _address(url)
    paths = made(url, model, header)
    return ShardedIndex(Actors(address, paths, model), len(paths), model)


def open_index(url: str, model: Model) -> ShardedIndex:
    """The shards at a URL, served by a cluster; errors as `make_index`."""
    address = _address(url)
    paths = shards_of(url)
    return ShardedIndex(Actors(address, paths, model), len(paths), model)


def _address(url: str) -> str:
    address = urlsplit(url).netloc
    if not address:
        raise SettingError(f"{url!r} names no cluster; write ray://HOST:PORT/FOLDER, ray://auto/FOLDER or ray://local/FOLDER")
    require("ray", extra="ray")
    return address
