"""Shards in the actors of a Ray cluster, each of which has one file open.

ray://ADDRESS/FOLDER?shards=4   ADDRESS: HOST:PORT of a cluster, auto for the one of this machine, local to start one here

All machines see the folder under the same path. An actor that is lost with its machine is started on another one, opens its
file there, and is called again: to add or to delete a video twice is the same as once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar, final
from urllib.parse import urlsplit

from prvr.device import connect, gist
from prvr.errors import DataError, PrvrError, SettingError, require
from prvr.index.contract import Header
from prvr.index.disk import DiskIndex
from prvr.index.shards import ShardedIndex, find_shards, make_shards, shard_folders
from prvr.methods.contract import Model

Answer = TypeVar("Answer")

# Several actors share a processor: each waits most of the time.
PROCESSORS = 0.25
# Seconds after which an actor without an answer is checked to be alive, and the timeout of that check.
PATIENCE = 180
PINGS = "pings"


class Shard:
    """The actor: one open shard."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index: DiskIndex | None = None

    def is_up(self) -> bool:
        """True, also while another call is executed."""
        return True

    def call(self, function: Callable[[DiskIndex], Answer], model: list[Any]) -> Answer | PrvrError:
        """The result of a function of the shard, or the error that it raises.

        Args:
            model: a reference to the model, in a list so that Ray does not resolve it. It comes with each call: as an
                argument of the constructor it might be gone when the actor is started again.
        """
        try:
            if self._index is None:
                self._index = DiskIndex(self._path, require("ray", extra="ray").get(model[0]))
            return function(self._index)
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
        self._paths = paths
        options = {"num_cpus": PROCESSORS, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
        with ExitStack() as opened:
            self._ray = opened.enter_context(connect(address, otherwise="write ray://local/FOLDER"))
            kind = self._ray.remote(concurrency_groups={PINGS: 1}, **options)(Shard)
            self._model = [self._ray.put(model)]
            self._actors = [kind.remote(path) for path in paths]
            self._connection = opened.pop_all()

    def call(self, functions: Mapping[int, Callable[[DiskIndex], Answer]]) -> dict[int, Answer]:
        """Calls a function with each of some shards at the same time, by their numbers; returns the results.

        Raises:
            DataError: no machine serves a shard.
            PrvrError: the error of the first shard that raised one.
        """
        waiting = {self._actors[shard].call.remote(function, self._model): shard for shard, function in functions.items()}
        answers: dict[int, Any] = {}
        while waiting:
            ready, _ = self._ray.wait(list(waiting), timeout=PATIENCE)
            for answer in ready:
                shard = waiting.pop(answer)
                answers[shard] = self._get(answer, shard)
            if not ready:
                for shard in waiting.values():
                    self._get(self._actors[shard].is_up.options(concurrency_group=PINGS).remote(), shard)
        for _, answer in sorted(answers.items()):
            if isinstance(answer, PrvrError):
                raise answer
        return answers

    def close(self) -> None:
        """Ends the actors, and the connection if this object made it."""
        for actor in self._actors:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(actor)
        self._connection.close()

    def _get(self, answer: Any, shard: int) -> Any:
        try:
            return self._ray.get(answer, timeout=PATIENCE)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as problem:
            raise DataError(
                f"no machine of the Ray cluster serves {self._paths[shard]}: {gist(problem)}; see that one has "
                f"{PROCESSORS} processors to spare (ray status), the same prvr, and the folder under this path"
            ) from problem


def make_index(url: str, model: Model, header: Header) -> ShardedIndex:
    """The shards at a URL, served by a cluster; created if they do not exist.

    Raises:
        SettingError: the URL has another form, or another number of shards than the folder, or there is no cluster.
        ModelError: a shard is missing or damaged.
        MissingExtra: Ray is not installed.
        DataError: the cluster does not serve them.
    """
    paths = shard_folders(url)
    # The cluster is there before files are made; an actor opens its file when it is first called.
    actors = Actors(_address(url), paths, model)
    try:
        make_shards(url, model, header)
    except BaseException:
        actors.close()
        raise
    return ShardedIndex(actors, len(paths), model)


def open_index(url: str, model: Model) -> ShardedIndex:
    """The shards at a URL, served by a cluster; errors as `make_index`."""
    address = _address(url)
    paths = find_shards(url)
    return ShardedIndex(Actors(address, paths, model), len(paths), model)


def _address(url: str) -> str:
    address = urlsplit(url).netloc
    if not address:
        raise SettingError(f"{url!r} names no cluster; write ray://HOST:PORT/FOLDER, ray://auto/FOLDER or ray://local/FOLDER")
    require("ray", extra="ray")
    return address
