"""Data-parallel training: N processes share each batch and compute what one process would.

Each process reads and encodes every N-th video of a batch, with all its captions. The embeddings and the teachers' features are
gathered by all processes, which compute the same loss of the whole batch: negatives come from all of it. In the backward pass
each process continues through its own embeddings alone, and the gradients of the weights are averaged over the processes before
the optimiser's step (docs/decisions/0013).
"""

from __future__ import annotations

import atexit
import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, final

import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from prvr.batch import Batch, TeacherBatch
from prvr.device import device_name, open_device
from prvr.errors import ProcessLost, SettingError
from prvr.methods.contract import Embeddings, Gather, keep_batch

# How long processes wait for one that loads or evaluates. One that has ended is noticed at once.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Share:
    """A process's part of a batch: the positions of the videos that it reads, and how it gathers the rest."""

    videos: Sequence[int]
    gather: Gather


@final
class SingleProcess:
    """The only process: it has the whole batch, and nothing is sent."""

    rank, leads = 0, True

    def __init__(self, device: str = "cpu") -> None:
        self.device = device_name(device)

    def share(self, captions: Sequence[int]) -> Share:
        """All of the batch."""
        return Share(range(len(captions)), keep_batch)

    def draw_apart(self, seed: tuple[int, ...]) -> None:
        """No-op: there is one source of random numbers."""

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """No-op: the gradients are already those of the whole batch."""

    def copy_from_leader(self, tensors: Iterable[Tensor]) -> None:
        """No-op: there is one process."""

    def from_leader(self, value: Any) -> Any:
        """Returns the value."""
        return value

    def bytes_from_leader(self, data: bytes) -> bytes:
        """Returns the data."""
        return data

    def leave(self) -> None:
        """No-op: nothing is open."""


@final
class ProcessGroup:
    """One of several processes; the first one leads: it alone writes files and prints.

    Every process calls the same methods in the same order.
    """

    def __init__(self, device: str) -> None:
        self.device, self.rank, self.size = device, dist.get_rank(), dist.get_world_size()
        self.leads = self.rank == 0
        self._random_states: list[Tensor] = []

    def share(self, captions: Sequence[int]) -> Share:
        """Every N-th video of a batch, from the number of captions of each of its videos.

        Counted in the order of `collate`, so that no process gets all the videos with many captions.
        """
        order = sorted(range(len(captions)), key=lambda video: -captions[video])
        # Where there are fewer videos than processes, the others encode the first one again, and the result is not used.
        own = order[self.rank :: self.size] or order[:1]
        return Share(own, partial(self._gather, captions=torch.tensor([captions[video] for video in order])))

    def draw_apart(self, seed: tuple[int, ...]) -> None:
        """From here to the next `Share.gather` each process draws its own random numbers: the dropout of its videos.

        Before and after, all processes draw the same numbers: the negatives of the loss.
        """
        self._random_states = self._states()
        torch.manual_seed(random.Random(repr((*seed, self.rank))).getrandbits(32))

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces the gradients by their mean over all processes."""
        with_gradient = [p for p in parameters if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in with_gradient if p.grad is not None])
        with _process_lost():
            dist.all_reduce(flat)
        flat /= self.size
        for parameter, mean in zip(with_gradient, flat.split([p.numel() for p in with_gradient]), strict=True):
            parameter.grad = mean.view_as(parameter)

    @torch.no_grad()
    def copy_from_leader(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites the tensors of every process with the leader's."""
        for tensor in tensors:
            with _process_lost():
                dist.broadcast(tensor, 0)

    def from_leader(self, value: Any) -> Any:
        """The leader's value, on every process.

        Args:
            value: lists, dictionaries, texts and numbers, as JSON can hold them.
        """
        return json.loads(self.bytes_from_leader(json.dumps(value).encode() if self.leads else b""))

    def bytes_from_leader(self, data: bytes) -> bytes:
        """The leader's data, on every process."""
        own = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
        size = torch.tensor(len(own))
        self.copy_from_leader([size])
        leaders = own if self.leads else torch.empty(int(size), dtype=torch.uint8)
        self.copy_from_leader([leaders])
        return leaders.numpy().tobytes()

    def leave(self) -> None:
        """Makes the process exit without taking torch down, once its work is on disk and printed.

        Threads of torch's backends may outlive what they use while Python exits, and abort the process.
        """
        atexit.register(os._exit, 0)

    def _gather(
        self, queries: Embeddings, videos: Embeddings, batch: Batch, *, captions: Int[Tensor, "V"]
    ) -> tuple[Embeddings, Embeddings, Batch]:
        self._restore(self._random_states)
        where, target = places(captions, processes=self.size)
        by_query = self._whole([*queries, *(teacher.queries for teacher in batch.teachers)], where[0])
        by_video = self._whole([*videos, *(teacher.frames for teacher in batch.teachers), batch.frame_mask], where[1])
        frame_mask = by_video.pop()
        teachers = map(TeacherBatch, by_video[len(videos) :], by_query[len(queries) :])
        # Features stay on the process that read them: the whole batch has none of their columns.
        frames = batch.frames.new_empty(*frame_mask.shape, 0)
        words = batch.words.new_empty(len(target), 1, 0)
        word_mask = batch.word_mask.new_ones(len(target), 1)
        whole = Batch(frames, frame_mask, words, word_mask, target.to(batch.target.device), tuple(teachers))
        return tuple(by_query[: len(queries)]), tuple(by_video[: len(videos)]), whole

    def _whole(self, tensors: Sequence[Tensor], where: tuple[Tensor, Tensor]) -> list[Tensor]:
        """The rows of all processes, in the order of the whole batch, each tensor padded with zeros to the longest."""
        longest = torch.tensor([length for tensor in tensors for length in tensor.shape])
        with _process_lost():
            dist.all_reduce(longest, dist.ReduceOp.MAX)
        rank, row = where
        index = (rank * longest[0] + row).to(tensors[0].device, non_blocking=True)
        wholes = []
        for tensor, lengths in zip(tensors, longest.split([tensor.ndim for tensor in tensors]), strict=True):
            missing = [(0, most - there) for most, there in zip(lengths.tolist(), tensor.shape, strict=True)]
            padded = pad(tensor, [width for pair in reversed(missing) for width in pair])
            gathered: Tensor = _AllGather.apply(padded, self.rank, self.size)
            wholes.append(gathered.flatten(0, 1).index_select(0, index))
        return wholes

    def _states(self) -> list[Tensor]:
        on_gpu = [torch.cuda.get_rng_state(self.device)] if self.device.startswith("cuda") else []
        return [torch.random.get_rng_state(), *on_gpu]

    def _restore(self, states: list[Tensor]) -> None:
        on_cpu, *on_gpu = states
        torch.random.set_rng_state(on_cpu)
        for state in on_gpu:
            torch.cuda.set_rng_state(state, self.device)


Group = SingleProcess | ProcessGroup


@contextmanager
def join_group(device: str) -> Iterator[Group]:
    """The group of processes that the environment describes, as `torchrun` sets it; a single process otherwise.

    Args:
        device: cpu, cuda for the GPU with the process's number on its machine, or auto.

    Raises:
        SettingError: the environment is incomplete, or there is no such device.
        ProcessLost: the other processes cannot be reached.
    """
    size = _number("WORLD_SIZE", default=1)
    if size == 1:
        yield SingleProcess(device)
        return
    rank, place = _number("RANK"), _own_device(device, _number("LOCAL_RANK"))
    backend = "cpu:gloo,cuda:nccl" if place.startswith("cuda") else "gloo"
    with _process_lost():
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)
    yield ProcessGroup(place)
    # Not after a failure: other processes may wait for what will never come.
    dist.destroy_process_group()


def places(
    captions: Int[Tensor, "V"], *, processes: int
) -> tuple[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], Int[Tensor, "Q"]]:
    """Where a batch's queries and videos are after `ProcessGroup.share`, as (process, row) each; and the queries' targets."""
    video = torch.arange(len(captions))
    target = video.repeat_interleave(captions)
    rank, row = video % processes, video // processes
    rounds = pad(captions, (0, -len(captions) % processes)).view(-1, processes)
    first = (rounds.cumsum(0) - rounds).flatten()[: len(captions)]
    within = torch.arange(len(target)) - (captions.cumsum(0) - captions)[target]
    return ((rank[target], first[target] + within), (rank, row)), target


class _AllGather(torch.autograd.Function):
    """A tensor of each process, (N, ...).

    All processes compute the same loss from it, so each already has the gradient of its own tensor and nothing is sent. The
    gradient is multiplied by N, because `mean_gradients` divides by N; weights that the loss itself uses have their whole
    gradient on every process.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size = rank, size
        everyones = own.new_empty(size, *own.shape)
        with _process_lost():
            dist.all_gather(list(everyones.unbind()), own.contiguous())
        return everyones

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.rank] * ctx.size, None, None


@contextmanager
def _process_lost() -> Iterator[None]:
    try:
        yield
    # An address that is missing is a ValueError.
    except (RuntimeError, ValueError) as problem:
        reason = str(problem).partition("\n")[0][:200]
        raise ProcessLost(
            f"the other processes cannot be reached ({reason}); read their output, and run the same command to continue"
        ) from problem


def _own_device(name: str, local_rank: int) -> str:
    name = device_name(name, processes=_number("LOCAL_WORLD_SIZE", default=1))
    if name == "cpu":
        return name
    if name != "cuda":
        raise SettingError(f"device {name!r} is one device, and each process needs its own; take cuda, or cpu")
    own = f"cuda:{local_rank}"
    open_device(own)
    torch.cuda.set_device(own)
    return own


def _number(variable: str, default: int | None = None) -> int:
    text = os.environ.get(variable, "" if default is None else str(default))
    if not text.isdecimal():
        raise SettingError(
            f"{variable} is {text!r} in the environment, and must be a number; start with torchrun, or unset WORLD_SIZE"
        )
    return int(text)
