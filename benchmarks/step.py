"""A training step beside a plain one, with anomaly detection off and on (the published code always has it on); its memory."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain
from benchmarks.batches import make_batch
from benchmarks.counting import Launches, count_launches
from benchmarks.measure import MIB, Line, Size, product_rate, take_turns
from prvr.batch import Batch
from prvr.cpu import fast_products
from prvr.features.sources import Reads, Source
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.papers.complexity import StepSizes, training_memory
from prvr.train.optimiser import BertAdam, decay_groups, learning_rate
from prvr.train.presets import preset

RATE, STEPS = 3e-4, 16_440
# DL-DKD's supplementary, Table 4.
PUBLISHED_MIB = 4455.0


def step_lines(size: Size) -> list[Line]:
    """Times of a step, its share of the machine's speed at matrix products, and the kernels that it launches."""
    batch, ours, baseline = (
        make_batch(size),
        OurStep(make_student(size), teacher_columns=size.teacher_columns),
        PlainStep(make_student(size)),
    )

    def step_with_anomaly_detection() -> None:
        with warnings.catch_warnings(action="ignore"), torch.autograd.detect_anomaly(check_nan=True):
            baseline.step(batch)

    contenders = {"ours": lambda: ours.step(batch), "off": lambda: baseline.step(batch), "on": step_with_anomaly_detection}
    times = take_turns(contenders, runs=size.runs, device=size.device)
    with FlopCounterMode(display=False) as counter:
        ours.step(batch)
    flops = counter.get_total_flops()
    rate = flops / sorted(times["ours"])[len(times["ours"]) // 2]
    note = f"{flops / 1e9:.0f} GFLOP a step, {rate / 1e9:.1f} GFLOP/s"
    if size.device == "cpu":
        best = product_rate()
        note += f", {100 * rate / best:.0f} % of the {best / 1e9:.1f} of a matrix product"
    mine, other = count_launches(lambda: ours.step(batch)), count_launches(lambda: baseline.step(batch))
    kernels = count_launches_without_values(size).kernels
    return [
        Line("train step, anomaly detection off", times["ours"], times["off"], wanted=2.5, note=note),
        Line("train step, anomaly detection on", times["ours"], times["on"], wanted=5.0),
        Line("kernels a step", (float(kernels),), (float(other.kernels),), unit="", note="at most 800 wanted"),
        Line("host synchronisations a step", (float(mine.syncs),), (float(other.syncs),), unit="", note="0 wanted"),
    ]


def memory_lines(size: Size) -> list[Line]:
    """The peak memory of a step of DL-DKD and of DL-DKD++ in MiB, without padding, beside the published figure."""
    reads = Reads(Source("frames", size.frame_columns), Source("words", size.word_columns))
    sizes = StepSizes(size.videos, size.queries, size.frames, size.words, size.teacher_columns)
    lines = []
    settings = DlDkdConfig(hidden=size.hidden, max_frames=size.frames, max_words=size.words)
    for name in ("DL-DKD", "DL-DKD++"):
        recipe = replace(preset(f"{name.lower()}/tvr"), settings=settings)
        peak = training_memory(recipe, reads, sizes=sizes, device=size.device) / MIB
        baseline = (PUBLISHED_MIB,) if (size.videos, size.frames) == (128, 128) and name == "DL-DKD" else ()
        lines.append(Line(f"memory of a training step, {name}", (peak,), baseline, unit="MiB", note="beside: as published"))
    return lines


def make_student(size: Size) -> DlDkd:
    """Returns a DL-DKD++ student with TVR's settings, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = DlDkdConfig(hidden=size.hidden, max_frames=size.frames, max_words=size.words)
        return DlDkd(config, frame_columns=size.frame_columns, word_columns=size.word_columns).to(size.device).train()


class OurStep:
    """A step as the training loop performs it."""

    def __init__(self, model: DlDkd, *, teacher_columns: int) -> None:
        self.model = model
        distillation = preset("dl-dkd++/tvr").distillation
        self.distiller = Distiller(distillation, method="dl_dkd", student=model, teacher_columns=[teacher_columns])
        groups = decay_groups(model.parameters(), weight_decay=0.01)
        self._optimiser = BertAdam(groups, lr=RATE, total_steps=STEPS)

    @fast_products()
    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Updates the model once; returns the terms of the loss."""
        terms = self.distiller.objective(self.model, *embed(self.model, batch), 0)
        self._optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        self._optimiser.step()
        return {name: term.detach() for name, term in terms.items()}


class PlainStep:
    """A step as the published code is described to perform it: a tensor at a time, and the host waits for each logged number."""

    def __init__(self, model: DlDkd) -> None:
        self.model = model
        self._moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()}
        self._steps = 0

    def step(self, batch: Batch) -> dict[str, float]:
        """Updates the model once; returns the terms of the loss."""
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


def count_launches_without_values(size: Size) -> Launches:
    """Counts the kernels of a step on tensors without values, as any device launches them; the CPU has its own dropout.

    A step that reads a value on the host fails.
    """
    batch, ours = make_batch(size).to(torch.device("meta")), OurStep(make_student(size).to("meta"))
    ours.step(batch)
    return count_launches(lambda: ours.step(batch))
