"""A training step beside a plain one, with anomaly detection off and on, as every published epoch has it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain
from benchmarks.batches import make_batch
from benchmarks.counting import launches
from benchmarks.measure import Line, Size, product_rate, take_turns
from prvr.batch import Batch
from prvr.cpu import as_torch_does
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.train.optimiser import BertAdam, decay_groups, learning_rate
from prvr.train.presets import preset

Objective = Callable[[DlDkd, Batch, int], dict[str, Tensor]]
RATE, STEPS = 3e-4, 16_440


def step_lines(size: Size) -> list[Line]:
    """Times of a step, how near it comes to the machine's matrix products, and what it launches."""
    batch, ours, theirs = make_batch(size), Ours(student(size), teacher_columns=size.teacher_columns), Plain(student(size))

    def watched() -> None:
        with warnings.catch_warnings(action="ignore"), torch.autograd.detect_anomaly(check_nan=True):
            theirs.step(batch)

    contenders = {"ours": lambda: ours.step(batch), "off": lambda: theirs.step(batch), "on": watched}
    times = take_turns(contenders, runs=size.runs, device=size.device)
    with as_torch_does(), FlopCounterMode(display=False) as counter:
        ours.step(batch)
    flops = counter.get_total_flops()
    rate = flops / sorted(times["ours"])[len(times["ours"]) // 2]
    note = f"{flops / 1e9:.0f} GFLOP a step, {rate / 1e9:.1f} GFLOP/s"
    if size.device == "cpu":
        best = product_rate()
        note += f", {100 * rate / best:.0f} % of the {best / 1e9:.1f} of a matrix product"
    # Tiles and NumPy's part of dropout are the CPU's: what any device would be given is counted.
    with as_torch_does():
        mine, other = launches(lambda: ours.step(batch)), launches(lambda: theirs.step(batch))
    return [
        Line("train step, anomaly detection off", times["ours"], times["off"], wanted=2.5, note=note),
        Line("train step, anomaly detection on", times["ours"], times["on"], wanted=5.0),
        Line("kernels a step", (float(mine.kernels),), (float(other.kernels),), unit="", note="at most 800 wanted"),
        Line("host synchronisations a step", (float(mine.syncs),), (float(other.syncs),), unit="", note="0 wanted"),
    ]


def student(size: Size) -> DlDkd:
    """A DL-DKD++ student with TVR's settings; always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = DlDkdConfig(hidden=size.hidden, max_frames=size.frames, max_words=size.words)
        return DlDkd(config, frame_columns=size.frame_columns, word_columns=size.word_columns).to(size.device).train()


class Ours:
    """A step as the training loop makes it."""

    def __init__(self, model: DlDkd, *, teacher_columns: int) -> None:
        self.model = model
        distillation = preset("dl-dkd++/tvr").distillation
        self.distiller = Distiller(distillation, method="dl_dkd", student=model, teacher_columns=[teacher_columns])
        groups = decay_groups(model.parameters(), weight_decay=0.01)
        self._optimiser = BertAdam(groups, lr=RATE, total_steps=STEPS)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update; the terms of the loss."""
        terms = self.distiller.objective(self.model, *embed(self.model, batch), 0)
        self._optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        self._optimiser.step()
        return {name: term.detach() for name, term in terms.items()}


class Plain:
    """A step as the published code is described to make it: a tensor at a time, and each logged number is waited for."""

    def __init__(self, model: DlDkd) -> None:
        self.model = model
        self._moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()}
        self._steps = 0

    def step(self, batch: Batch) -> dict[str, float]:
        """One update; the terms of the loss."""
        terms = plain.objective(self.model, batch, 0)
        for parameter in self.model.parameters():
            parameter.grad = None
        torch.stack(list(terms.values())).sum().backward()
        self._update()
        return {name: term.item() for name, term in terms.items()}

    @torch.no_grad()
    def _update(self) -> None:
        rate = learning_rate(self._steps, lr=RATE, total_steps=STEPS, warmup=0.01)
        for parameter, (mean, square) in self._moments.items():
            assert parameter.grad is not None
            torch.nn.utils.clip_grad_norm_(parameter, 1.0, foreach=False)
            mean.mul_(0.9).add_(parameter.grad, alpha=0.1)
            square.mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
            update = mean / (square.sqrt() + 1e-6)
            if parameter.ndim >= 2:
                update += 0.01 * parameter
            parameter.sub_(rate * update)
        self._steps += 1
