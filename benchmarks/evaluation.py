"""An evaluation from packed features to figures, beside a baseline that works as the published code is described to.

The baseline reads a frame at a time, encodes 200 videos and 50 queries at once with all their padding, normalises the gallery
for every 50 queries, computes their scores with every frame as (query, frame, video), compares every pair of names to find the
correct videos, and sorts each query's scores. If only some of its blocks of 50 queries are scored, their time is scaled to all.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain
from benchmarks.measure import MIB, Line, Size, peak_memory, product_rate, take_turns, time_of
from benchmarks.package import Captions, PlainReader, make_dataset, make_package, pack_features, pad_rows
from benchmarks.step import make_student
from prvr.errors import ModelError
from prvr.evaluate.evaluation import evaluate_model
from prvr.evaluate.metrics import RECALLS, retrieval
from prvr.methods.dl_dkd import DlDkd, DlDkdBranch

VIDEOS_AT_ONCE, QUERIES_AT_ONCE = 200, 50


def evaluation_lines(size: Size) -> list[Line]:
    """Seconds of an evaluation and of the baseline's parts, and the peak memory of ours."""
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        package = Path(folder) / "tvr"
        captions = make_package(package, size.gallery, size.asked, size)
        features = pack_features(package, Path(folder) / "packed", dtype="float32")
        model, split = make_student(size).eval(), make_dataset(captions)
        times = []
        with peak_memory() as peak:
            for _ in range(max(1, size.runs)):
                times.append(time_of(lambda: evaluate_model(model, split, features), device=size.device))
        with FlopCounterMode(display=False) as counter:
            evaluate_model(model, split, features)
        baseline = PlainEvaluation(model, package, captions, size)
        baseline.run()
    middle = sorted(times)[len(times) // 2]
    rate = counter.get_total_flops() / middle
    parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in baseline.seconds.items())
    note = f"plain: {parts}; ours {counter.get_total_flops() / 1e12:.2f} TFLOP, {rate / 1e9:.1f} GFLOP/s"
    if size.device == "cpu":
        note += f" of the {product_rate() / 1e9:.1f} of a matrix product"
    memory = Line("memory of an evaluation", (peak[0] / MIB,), (), unit="MiB", note="memory-mapped files are counted")
    return [Line("evaluation", tuple(times), (sum(baseline.seconds.values()),), wanted=20.0, note=note), memory]


def ranking_lines(size: Size) -> list[Line]:
    """Seconds of all figures of a score matrix, beside a sort for every query; both must return the same numbers."""
    draw = np.random.default_rng(0)
    # Without ties: an unstable sort has no rule for them.
    scores = draw.permuted(np.tile(np.arange(size.gallery, dtype=np.float32), (size.asked, 1)), axis=1)
    target = draw.integers(0, size.gallery, size.asked)
    correct = np.zeros(scores.shape, bool)
    correct[np.arange(size.asked), target] = True
    scores[np.arange(size.asked), target] += size.gallery / 4 + 0.5
    ours, theirs = retrieval(scores, correct).as_dict(), rank_by_sorting(scores, correct)
    wrong = {name: value for name, value in theirs.items() if abs(ours[name] - value) > 1e-9 * max(1, abs(value))}
    if wrong:
        raise ModelError(f"the figures differ ({wrong}), so their times mean nothing; report this with the size")
    turns = {"ours": lambda: retrieval(scores, correct), "loop": lambda: rank_by_sorting(scores, correct)}
    times = take_turns(turns, runs=size.runs)
    return [Line("figures of a score matrix", times["ours"], times["loop"])]


class PlainEvaluation:
    """Computes the scores and figures of a package, a few videos and queries at a time; `seconds` holds the time of each part."""

    def __init__(self, model: DlDkd, package: Path, captions: Captions, size: Size) -> None:
        self.model, self.size, self.captions = model, size, captions
        self.reader = PlainReader(package, captions, size)
        self.videos, self.queries = list(captions), [id for ids in captions.values() for id in ids]
        self.seconds: dict[str, float] = {}
        self._began = 0.0

    @torch.no_grad()
    def run(self) -> tuple[Float[np.ndarray, "Q V"], dict[str, float]]:
        """Returns the scores, 0 in the blocks that are left out, and the figures."""
        self._start()
        gallery, mask = self._encode_gallery()
        scores = self._scores(self._encode_queries(), gallery, mask)
        figures = rank_by_sorting(scores, self._find_correct())
        self._note("figures")
        self.reader.close()
        return scores, figures

    def _encode_gallery(self) -> tuple[list[Tensor], Tensor]:
        videos, longest = self.videos, min(max(map(len, self.reader.frames.values())), self.size.frames)
        mask = torch.zeros(len(videos), longest, dtype=torch.bool)
        gallery = [torch.zeros(len(videos), longest, self.size.hidden) for _ in self.model.embedding_fields]
        for start in range(0, len(videos), VIDEOS_AT_ONCE):
            rows, real = pad_rows([self.reader.video(video) for video in videos[start : start + VIDEOS_AT_ONCE]])
            self._note("loading")
            mask[start : start + len(rows), : rows.shape[1]] = real
            for field, branch in zip(gallery, self._branches(), strict=True):
                encoded = plain.encode_videos(self.model, branch, rows.to(self.size.device), real.to(self.size.device))
                field[start : start + len(rows), : rows.shape[1]] = encoded.cpu()
            self._note("encoding")
        return [field.to(self.size.device) for field in gallery], mask.to(self.size.device)

    def _encode_queries(self) -> list[Tensor]:
        words = [self.reader.caption(id) for id in self.queries]
        self._note("loading")
        encoded = [torch.zeros(len(words), self.size.hidden) for _ in self.model.embedding_fields]
        for start in range(0, len(words), QUERIES_AT_ONCE):
            # Sorted within a batch alone, so the longest of any 50 sentences pads the others.
            part = sorted(range(len(words))[start : start + QUERIES_AT_ONCE], key=lambda place: -len(words[place]))
            rows, real = pad_rows([words[place] for place in part])
            for field, branch in zip(encoded, self._branches(), strict=True):
                field[part] = plain.encode_queries(self.model, branch, rows.to(self.size.device), real.to(self.size.device)).cpu()
        self._note("encoding")
        return [field.to(self.size.device) for field in encoded]

    def _scores(self, encoded: list[Tensor], gallery: list[Tensor], mask: Tensor) -> Float[np.ndarray, "Q V"]:
        starts = range(0, len(encoded[0]), QUERIES_AT_ONCE)
        chosen = starts if self.size.blocks is None else starts[:: max(1, len(starts) // self.size.blocks)]
        scores = np.zeros((len(encoded[0]), len(mask)), np.float32)
        self._start()
        for start in chosen:
            block = slice(start, start + QUERIES_AT_ONCE)
            parts = [
                weight * plain.cosines(queries[block], videos, mask).amax(1)
                for weight, queries, videos in zip((0.7, 0.3), encoded, gallery, strict=True)
            ]
            scores[block] = sum(parts[1:], parts[0]).cpu().numpy()
        self._note("scoring", times=len(starts) / len(chosen))
        return scores

    def _find_correct(self) -> Bool[np.ndarray, "Q V"]:
        return np.array([[query.split("#")[0] == video for video in self.videos] for query in self.queries])

    def _branches(self) -> list[DlDkdBranch]:
        return [branch for branch in self.model.branches if isinstance(branch, DlDkdBranch)]

    def _start(self) -> None:
        self._began = self._clock()

    def _note(self, part: str, *, times: float = 1.0) -> None:
        self.seconds[part] = self.seconds.get(part, 0.0) + (self._clock() - self._began) * times
        self._start()

    def _clock(self) -> float:
        return time.process_time() if self.size.device == "cpu" else time.perf_counter()


def rank_by_sorting(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> dict[str, float]:
    """Returns rank, recalls and mean reciprocal rank of the best correct video; sorts the scores of one query at a time."""
    ranks = []
    for row, right in zip(scores, correct, strict=True):
        order = np.argsort(-row)
        ranks.append(1 + int(right[order].argmax()))
    rank = np.array(ranks)
    shares = {f"r{k}": float((rank <= k).mean() * 100) for k in RECALLS}
    middle = {"medr": float(np.median(rank)), "meanr": float(rank.mean()), "mrr": float((1 / rank).mean())}
    return {**shares, "sumr": sum(shares.values()), **middle}
