"""A training step of one process, beside the same step of several processes that share its batch.

    python -m benchmarks.distributed [--processes 2 --videos 48 --frames 64 --columns 3072]

Each process has one thread; features are random. Prints the median, minimum and maximum of alternating steps, the ratio of
wall-clock times and of the leader's CPU times, and the difference of the losses. While one process works alone, the others wait.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch

from prvr.batch import Item, collate
from prvr.cpu import fast_products
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.train.distributed import Group, SingleProcess, join_group
from prvr.train.launch import launch
from prvr.train.optimiser import BertAdam, decay_groups
from prvr.train.presets import preset

CAPTIONS, WORDS, WORD_COLUMNS, TEACHER = 5, 12, 768, 512


def items(size: argparse.Namespace) -> list[Item]:
    draw = np.random.default_rng(0)

    def rows(*shape: int) -> np.ndarray:
        return draw.normal(size=shape).astype(np.float32)

    return [
        Item(
            rows(size.frames, size.columns),
            [rows(WORDS, WORD_COLUMNS) for _ in range(CAPTIONS)],
            [(rows(size.frames, TEACHER), rows(CAPTIONS, TEACHER))],
        )
        for _ in range(size.videos)
    ]


class Student:
    """A model that is trained on the same batch in every step."""

    def __init__(self, size: argparse.Namespace, group: Group) -> None:
        torch.manual_seed(0)
        self.group, self.items = group, items(size)
        self.model = DlDkd(DlDkdConfig(dropout=0.0, input_dropout=0.0), frame_columns=size.columns, word_columns=WORD_COLUMNS)
        distillation = preset("dl-dkd++/tvr").distillation
        self.distiller = Distiller(distillation, method="dl_dkd", student=self.model, teacher_columns=[TEACHER])
        self.optimiser = BertAdam(decay_groups(self.model.parameters(), weight_decay=0.01), lr=1e-4, total_steps=None)

    def step(self, number: int) -> float:
        torch.manual_seed(number)
        share = self.group.share([CAPTIONS] * len(self.items))
        batch = collate([self.items[place] for place in share.videos])
        self.group.draw_apart((number,))
        terms = self.distiller.objective(self.model, *embed(self.model, batch, share.gather), 0)
        loss = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad()
        loss.backward()
        self.group.mean_gradients(self.model.parameters())
        self.optimiser.step()
        return loss.item()


@fast_products()
def measure(size: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    with join_group("cpu") as group:
        students = {"together": Student(size, group)} | ({"alone": Student(size, SingleProcess())} if group.leads else {})
        times: dict[str, list[tuple[float, float]]] = {"alone": [], "together": []}
        apart = 0.0
        for number in range(1 + size.runs):
            losses = {}
            for name in ("alone", "together"):
                group.bytes_from_leader(b"")  # all processes begin here
                if name in students:
                    began = time.perf_counter(), time.process_time()
                    losses[name] = students[name].step(number)
                    times[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
            if group.leads:
                apart = max(apart, abs(losses["alone"] - losses["together"]) / losses["alone"])
        if group.leads:
            for place, clock in enumerate(("clock", "processor")):
                # The first step warms up.
                taken = {name: [pair[place] * 1000 for pair in pairs[1:]] for name, pairs in times.items()}
                for name, ms in taken.items():
                    print(f"{clock:>9}, {name:>8}: {statistics.median(ms):8.1f} ms  ({min(ms):.1f} to {max(ms):.1f})")
                one, several = map(statistics.median, taken.values())
                print(f"a step shared by {size.processes} processes, {clock}: ratio {one / several:.2f}x")
            print(f"losses within {apart:.1e} of each other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("processes", 2), ("videos", 48), ("frames", 64), ("columns", 3072), ("runs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    launch(partial(measure, size), size.processes, device="cpu")


if __name__ == "__main__":
    main()
