"""GMMFormer v2, Holmes, its version of two queries, and DreamPRVR, written down from their formulas for one query and one video.

The published fixtures have one set of sizes each; here are videos of one frame and of more than are read, sentences of one word
and of more than are read, other numbers of frames, clips, words, heads and registers. No batch, no mask, no packed rows.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_checks import lively
from torch import Tensor
from torch.nn.functional import layer_norm, linear
from torch.nn.utils.rnn import pad_sequence

from prvr.batch import read_clips, read_frames, read_words
from prvr.methods import open_method
from prvr.methods.contract import encode_videos

SIZES = {"hidden": 12, "heads": 3, "max_frames": 10, "clips": 6, "max_words": 4}
CASES: dict[str, dict[str, Any]] = {
    "gmmformer_v2": {"widths": (0.0, 5.0, 0.1)},
    "holmes": {"widths": (0.0, 0.5, 32.0)},
    "holmes_dual": {"widths": (0.0, 1.0, 16.0)},
    "dreamprvr": {"widths": (0.0, 0.25, 16.0), "registers": 3, "steps": 5},
}
FRAMES, WORDS = (1, 5, 10, 37), (1, 3, 9)


class Text:
    """The formulas, with the weights of a model."""

    def __init__(self, model: Any) -> None:
        self.w, self.config = dict(model.state_dict()), model.config

    def ln(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], 1e-5)

    def lin(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def project(self, x: Tensor, name: str) -> Tensor:
        return self.lin(self.ln(x, f"{name}.norm"), f"{name}.linear").relu()

    def place(self, x: Tensor, name: str) -> Tensor:
        return self.ln(x + self.w[f"{name}.table.weight"][: len(x)], f"{name}.norm")

    def attend(self, asking: Tensor, given: Tensor, name: str, *, real: int, width: float = 0.0, registers: int = 0) -> Tensor:
        """Keys are the first `real` of the given rows, and the last ones, which are registers."""
        query, key, value = (self.lin(x, f"{name}.{part}") for part, x in (("query", asking), ("key", given), ("value", given)))
        size, heads, places = query.shape[1] // self.config.heads, [], len(asking)
        keys = [*range(real), *range(len(given) - registers, len(given))]
        for head in range(self.config.heads):
            part = slice(head * size, (head + 1) * size)
            rows = []
            for i in range(places):
                logits = []
                for j in keys:
                    near = self.window(i, j, places, width) if width and j < places else 1.0
                    logits.append(near * (query[i, part] @ key[j, part]) / math.sqrt(size))
                rows.append(torch.stack(logits).softmax(0) @ value[keys][:, part])
            heads.append(torch.stack(rows))
        return torch.cat(heads, 1)

    def window(self, i: int, j: int, places: int, width: float) -> float:
        deviation = max(width, 0.01) / 9
        row = [math.exp(-((k / (places - 1) - i / places) ** 2) / (2 * deviation**2)) for k in range(places)]
        return row[j] / max(row)

    def block(self, asking: Tensor, given: Tensor, name: str, *, real: int, width: float = 0.0, registers: int = 0) -> Tensor:
        part = name if f"{name}.query.weight" in self.w else f"{name}.attention"
        y = self.ln(asking + self.attend(asking, given, part, real=real, width=width, registers=registers), f"{name}.norm")
        fed = self.lin(self.lin(y, f"{name}.feed_forward.widen").relu(), f"{name}.feed_forward.narrow")
        return self.ln(y + fed, f"{name}.feed_forward.norm")

    def query(self, words: Tensor) -> Tensor:
        placed = self.place(self.project(words, "queries.projection"), "queries.positions")
        h = self.block(placed, placed, "queries.block", real=len(words))
        return self.lin(h, "queries.pooling.weight")[:, 0].softmax(0) @ h

    def branch(self, rows: Tensor, name: str, *, real: int, registers: Tensor | None = None) -> Tensor:
        x = self.place(self.project(rows, f"{name}.projection"), f"{name}.positions")
        given = x if registers is None else torch.cat([x, self.project(registers, f"registers_of_{name}")])
        views = [
            self.block(x, given, f"{name}.views.{number}", real=real, width=width, registers=len(given) - len(x))
            for number, width in enumerate(self.config.widths)
        ]
        token = self.w["token"][0] if "token" in self.w else torch.stack(views).mean((0, 1))[None]
        numbers = []
        for view in views:
            t = self.block(token, view, f"{name}.consolidation", real=real)
            numbers.append(self.lin(self.lin(t, f"{name}.consolidation.first").relu(), f"{name}.consolidation.second")[0])
        shares = (torch.stack(numbers) / self.config.consolidation_temperature).softmax(0)
        return torch.stack([sum(shares[k, i] * view[i] for k, view in enumerate(views)) for i in range(len(rows))])

    def registers(self, clips: Tensor) -> Tensor:
        placed = self.place(self.project(clips, "clips.projection"), "clips.positions")
        x, count, steps = self.block(placed, placed, "plain_block", real=len(clips)), len(clips), self.config.steps
        condition = self.block(self.w["register_queries"][0], x, "asking", real=count)
        pooled = self.pooled(x)
        seen = (self.lin(self.lin(x, "sampler.mean_pooling.first").tanh(), "sampler.mean_pooling.second")[:, 0].softmax(0)) @ x
        mean = self.ln(pooled + self.lin(seen, "sampler.mean_map").sigmoid(), "sampler.norm")
        mean = mean / mean.norm()
        f = [math.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(steps + 1)]
        beta = [min(max(1 - f[t + 1] / f[t], 0), 0.999) for t in range(steps)]
        kept = [math.prod(1 - b for b in beta[: t + 1]) for t in range(steps)]
        state = mean.expand(self.config.registers, -1)
        for t in range(steps - 1, -1, -1):
            before = kept[t - 1] if t else 1.0
            guess = (state - math.sqrt(1 - kept[t]) * self.denoised(state, t, condition)) / math.sqrt(kept[t])
            guess = guess.clamp(-1, 1)
            state = (
                beta[t] * math.sqrt(before) / (1 - kept[t]) * guess
                + (1 - before) * math.sqrt(1 - beta[t]) / (1 - kept[t]) * state
            )
            if t:
                state = state + math.sqrt(beta[t] * (1 - before) / (1 - kept[t])) * mean
        return state

    def pooled(self, x: Tensor) -> Tensor:
        codes = torch.tensor(
            [[(math.cos if i % 2 else math.sin)(k * 10_000 ** (-2 * (i // 2) / 32)) for i in range(32)] for k in range(len(x))],
            dtype=torch.float64,
        )
        gru = torch.nn.GRU(32, 32, bidirectional=True).double()
        gru.load_state_dict(
            {name.removeprefix("pooling.gru."): v for name, v in self.w.items() if name.startswith("pooling.gru.")}
        )
        out = gru(codes)[0]
        weights = (self.lin((out[:, :32] + out[:, 32:]) / 2, "pooling.linear")[:, 0] / 0.1).softmax(0)
        columns = [sorted(x[:, d].tolist(), reverse=True) for d in range(x.shape[1])]
        return torch.tensor(columns, dtype=torch.float64) @ weights

    def denoised(self, x: Tensor, t: int, condition: Tensor) -> Tensor:
        def swish(v: Tensor) -> Tensor:
            return v * v.sigmoid()

        time = self.lin(swish(self.lin(self.w["denoiser.times.weight"][t], "denoiser.time.0")), "denoiser.time.2")
        told, h = self.lin(self.ln(condition, "denoiser.condition.0").relu(), "denoiser.condition.2"), x
        for number in range(2):
            name = f"denoiser.layers.{number}"
            inner = self.lin(swish(self.ln(h, f"{name}.norm")), f"{name}.inward") + self.lin(swish(time), f"{name}.time")
            inner = self.ln(inner + self.lin(swish(told), f"{name}.condition"), f"{name}.second_norm")
            h = self.lin(swish(inner), f"{name}.outward") + self.lin(h, f"{name}.shortcut")
        return self.lin(h + x, "denoiser.outward")

    def score(self, raw_words: Tensor, raw_frames: Tensor) -> float:
        config = self.config
        words = unit(raw_words)[: config.max_words]
        query, most = self.query(words), config.max_frames
        clips = unit(sample(raw_frames, config.clips))
        frames = unit(raw_frames if len(raw_frames) <= most else sample(raw_frames, most))
        registers = self.registers(clips) if "register_queries" in self.w else None
        of_clips = self.branch(clips, "clips", real=len(clips), registers=registers)
        padded = torch.cat([frames, frames.new_zeros(most - len(frames), frames.shape[1])])
        of_frames = self.branch(padded, "frames", real=len(frames), registers=registers)
        of_frames[len(frames) :] = 0
        best_clip = max(cos(query, clip) for clip in of_clips)
        best_frame = max(cos(query, frame) for frame in of_frames)
        if "confidence.first.weight" in self.w:
            placed = self.place(self.project(words, "words.projection"), "queries.positions")
            rows = self.block(placed, placed, "words.block", real=len(words))
            told = self.lin(self.lin(rows / rows.norm(dim=1, keepdim=True), "confidence.first").relu(), "confidence.second")
            shares = told[:, 0].softmax(0)
            best_frame = sum(float(g) * max(cos(row, frame) for frame in of_frames) for g, row in zip(shares, rows, strict=True))
        return (1 - config.frame_weight) * best_clip + config.frame_weight * best_frame


def cos(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / (max(float(a.norm()), 1e-12) * max(float(b.norm()), 1e-12))


def unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + 1e-5)


def sample(x: Tensor, count: int) -> Tensor:
    edges = [min(round(k * len(x) / count), len(x) - 1) for k in range(count + 1)]
    return torch.stack([x[a:b].mean(0) if b > a else x[a] for a, b in itertools.pairwise(edges)])


def side_by_side(rows: list[Any]) -> tuple[Tensor, Tensor]:
    """As `prvr.batch.pad` does it, in float64."""
    lengths = torch.tensor([len(its) for its in rows])
    padded = pad_sequence([torch.from_numpy(its).double() for its in rows], batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_scores(name: str) -> None:
    method = open_method(name)
    torch.manual_seed(0)
    model: Any = method.model(method.config(**SIZES, **CASES[name]), frame_columns=7, word_columns=5)
    model = lively(model).double()
    model.reading = replace(model.reading, precision="float64")
    draw = torch.Generator().manual_seed(1)
    frames, words = (
        [3 * torch.randn(n, columns, generator=draw) for n in lengths] for lengths, columns in ((FRAMES, 7), (WORDS, 5))
    )
    seen, mask = side_by_side([read_frames(rows.numpy(), model.reading) for rows in frames])
    clips, _ = side_by_side([read_clips(rows.numpy(), model.reading) for rows in frames])
    said, word_mask = side_by_side([read_words(rows.numpy(), model.reading) for rows in words])
    found = model.score(model.encode_queries(said, word_mask), encode_videos(model, seen, mask, clips=clips), mask)
    text = Text(model)
    wanted = torch.tensor([[text.score(one.double(), video.double()) for video in frames] for one in words], dtype=torch.float64)
    assert wanted.std() > 1e-2
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)
