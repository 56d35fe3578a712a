"""What the processes of a data-parallel run say to one another, so that N of them train as one would.

Of each batch a process reads and encodes every N-th video, with all its captions. The embeddings, and what teachers say,
are gathered by all, who compute the same loss of the whole batch from them: negatives come from all processes. In the
backward pass each goes on through its own embeddings alone, and the gradients of the weights are added up over the
processes before the optimiser sees them (docs/decisions/0013).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn, final

import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from prvr.batch import Batch, TeacherBatch
from prvr.device import open_device
from prvr.errors import ProcessLost, SettingError
from prvr.methods.contract import Embeddings, Gather, as_they_are

# Where the processes of one machine meet; without it they meet where `torchrun` says.
RENDEZVOUS = "PRVR_RENDEZVOUS"

# Others wait so long for one that loads or evaluates. One that has ended is missed at once, whatever stands here.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Share:
    """What a process does of a batch: the places of the videos that it reads, and how it comes by the rest."""

    videos: Sequence[int]
    gather: Gather


@final
class Alone:
    """The only process: it has all of a batch, and there is nobody to send anything to."""

    rank, leads = 0, True

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def share(self, captions: Sequence[int]) -> Share:
        """All of it."""
        return Share(range(len(captions)), as_they_are)

    def draw_apart(self, seed: tuple[int, ...]) -> None:
        """There is one source of random numbers."""

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """They are what they are."""

    def hand_out(self, tensors: Iterable[Tensor]) -> None:
        """There is nobody to hand them to."""

    def hand_out_bytes(self, data: bytes) -> bytes:
        """The same."""
        return data

    def leave(self) -> None:
        """Nothing stands open."""


@final
class Team:
    """One of several processes; the first of them leads: it alone writes files and speaks.

    Every process calls the same methods in the same order.
    """

    def __init__(self, device: str) -> None:
        self.device, self.rank, self.size = device, dist.get_rank(), dist.get_world_size()
        self.leads = self.rank == 0
        self._random_states: list[Tensor] = []

    def share(self, captions: Sequence[int]) -> Share:
        """Every N-th video of a batch, which is given by the captions of each of its videos.

        Counted in the order of `collate`, so that no process gets all the videos with many captions.
        """
        order = sorted(range(len(captions)), key=lambda video: -captions[video])
        # Where there are fewer videos than processes the others encode the first again, and what they make is not used.
        own = order[self.rank :: self.size] or order[:1]
        return Share(own, partial(self._gather, captions=torch.tensor([captions[video] for video in order])))

    def draw_apart(self, seed: tuple[int, ...]) -> None:
        """From here to the next `Share.gather` each process draws random numbers of its own: what drops out of its videos.

        What is drawn before and after is drawn alike by all: which negatives the loss takes.
        """
        self._random_states = self._states()
        torch.manual_seed(random.Random(repr((*seed, self.rank))).getrandbits(32))

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Gives each process the mean of all processes' gradients."""
        with_gradient = [p for p in parameters if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in with_gradient if p.grad is not None])
        with _loss_told():
            dist.all_reduce(flat)
        flat /= self.size
        for parameter, mean in zip(with_gradient, flat.split([p.numel() for p in with_gradient]), strict=True):
            parameter.grad = mean.view_as(parameter)

    @torch.no_grad()
    def hand_out(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites each process's tensors with the leader's."""
        for tensor in tensors:
            with _loss_told():
                dist.broadcast(tensor, 0)

    def hand_out_bytes(self, data: bytes) -> bytes:
        """The leader's bytes, whatever the others give."""
        own = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
        size = torch.tensor(len(own))
        self.hand_out([size])
        leaders = own if self.leads else torch.empty(int(size), dtype=torch.uint8)
        self.hand_out([leaders])
        return leaders.numpy().tobytes()

    def leave(self) -> None:
        """Ends the process, whose work is done."""
        end_process()

    def _gather(
        self, queries: Embeddings, videos: Embeddings, batch: Batch, *, captions: Int[Tensor, "V"]
    ) -> tuple[Embeddings, Embeddings, Batch]:
        self._restore(self._random_states)
        where, target = places(captions, processes=self.size)
        by_query = self._whole([*queries, *(teacher.queries for teacher in batch.teachers)], where[0])
        by_video = self._whole([*videos, *(teacher.frames for teacher in batch.teachers), batch.frame_mask], where[1])
        frame_mask = by_video.pop()
        teachers = map(TeacherBatch, by_video[len(videos) :], by_query[len(queries) :])
        # Features stay where they were read: of the whole batch they have no columns.
        frames = batch.frames.new_empty(*frame_mask.shape, 0)
        words = batch.words.new_empty(len(target), 1, 0)
        word_mask = batch.word_mask.new_ones(len(target), 1)
        whole = Batch(frames, frame_mask, words, word_mask, target.to(batch.target.device), tuple(teachers))
        return tuple(by_query[: len(queries)]), tuple(by_video[: len(videos)]), whole

    def _whole(self, tensors: Sequence[Tensor], where: tuple[Tensor, Tensor]) -> list[Tensor]:
        """The rows of all processes, in the order of the whole batch, each tensor padded with zeros to the longest."""
        longest = torch.tensor([length for tensor in tensors for length in tensor.shape])
        with _loss_told():
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


Group = Alone | Team


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group of processes that the environment tells of, as `torchrun` sets it; alone where it tells of none.

    Args:
        device: cpu, or cuda for the GPU whose number is the process's on its machine.

    Raises:
        SettingError: the environment is not whole, or there is no such device.
        ProcessLost: the others cannot be reached.
    """
    size = _number("WORLD_SIZE", otherwise=1)
    if size == 1:
        yield Alone(device)
        return
    rank, place = _number("RANK"), _own_device(device, _number("LOCAL_RANK"))
    backend = "cpu:gloo,cuda:nccl" if place.startswith("cuda") else "gloo"
    with _loss_told():
        meeting = os.environ.get(RENDEZVOUS, "env://")
        dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=size, timeout=PATIENCE)
    yield Team(place)
    # Not where something failed: others may wait for what will not come.
    dist.destroy_process_group()


def end_process() -> NoReturn:
    """Ends a process at once, all of whose work is on disk and said: typer's echo flushes, and stderr is not buffered.

    Threads of torch's backends may outlive what they use while Python is taken down, and abort the process.
    """
    os._exit(0)


def places(
    captions: Int[Tensor, "V"], *, processes: int
) -> tuple[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], Int[Tensor, "Q"]]:
    """Where a batch's queries and its videos are after `Team.share`, as (process, row) each; and the queries' targets."""
    video = torch.arange(len(captions))
    target = video.repeat_interleave(captions)
    rank, row = video % processes, video // processes
    rounds = pad(captions, (0, -len(captions) % processes)).view(-1, processes)
    first = (rounds.cumsum(0) - rounds).flatten()[: len(captions)]
    within = torch.arange(len(target)) - (captions.cumsum(0) - captions)[target]
    return ((rank[target], first[target] + within), (rank, row)), target


class _AllGather(torch.autograd.Function):
    """A tensor of each process, (N, ...).

    All compute the same loss from them, so each has the gradient of its own already and nothing need be sent. It is taken
    N times, because `mean_gradients` divides: weights that the loss itself uses have their whole gradient on each process.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size = rank, size
        everyones = own.new_empty(size, *own.shape)
        with _loss_told():
            dist.all_gather(list(everyones.unbind()), own.contiguous())
        return everyones

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.rank] * ctx.size, None, None


@contextmanager
def _loss_told() -> Iterator[None]:
    try:
        yield
    # A meeting place that is nowhere is a ValueError.
    except (RuntimeError, ValueError) as problem:
        reason = str(problem).partition("\n")[0][:200]
        raise ProcessLost(
            f"the other processes cannot be reached ({reason}); see what they say, and run the same command to go on"
        ) from problem


def _own_device(name: str, local_rank: int) -> str:
    if name == "cpu":
        return name
    if name != "cuda":
        raise SettingError(f"device {name!r} is one device, and each process takes one of its own; take cuda, or cpu")
    own = f"cuda:{local_rank}"
    open_device(own)
    torch.cuda.set_device(own)
    return own


def _number(variable: str, otherwise: int | None = None) -> int:
    text = os.environ.get(variable, "" if otherwise is None else str(otherwise))
    if not text.isdecimal():
        raise SettingError(
            f"{variable} is {text!r} in the environment, where a number is wanted; start with torchrun, or unset WORLD_SIZE"
        )
    return int(text)
