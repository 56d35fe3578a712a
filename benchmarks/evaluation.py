"""An evaluation from packed features to figures, beside one that works as the published code is described to.

The plain one reads a frame at a time, encodes 200 videos and 50 queries at once with all their padding, makes the gallery
to unit length anew for every 50 queries, finds the correct videos by comparing every pair of names, and sorts each
query's scores. Where only some of its blocks of 50 queries are scored, the time of the rest is that of as many alike.
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
from benchmarks.measure import MIB, Line, Size, peak_memory, product_rate, timed
from benchmarks.package import Captions, PlainReader, dataset, filled, make_package, packed
from benchmarks.step import student
from prvr.cpu import as_torch_does
from prvr.evaluate.evaluation import evaluate_model
from prvr.evaluate.metrics import RECALLS
from prvr.methods.dl_dkd import DlDkd, DlDkdBranch

VIDEOS_AT_ONCE, QUERIES_AT_ONCE = 200, 50


def evaluation_lines(size: Size) -> list[Line]:
    """Seconds of an evaluation, of the plain one's parts, and the most memory that ours holds."""
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder:
        package = Path(folder) / "tvr"
        captions = make_package(package, size.gallery, size.asked, size)
        features = packed(package, Path(folder) / "packed", dtype="float32")
        model, split = student(size).eval(), dataset(captions)
        times = []
        with peak_memory() as peak:
            for _ in range(max(1, size.runs)):
                times.append(timed(lambda: evaluate_model(model, split, features), device=size.device))
        with as_torch_does(), FlopCounterMode(display=False) as counter:
            evaluate_model(model, split, features)
        theirs = PlainEvaluation(model, package, captions, size)
        theirs.run()
    middle = sorted(times)[len(times) // 2]
    rate = counter.get_total_flops() / middle
    parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in theirs.seconds.items())
    note = f"plain: {parts}; ours {counter.get_total_flops() / 1e12:.2f} TFLOP, {rate / 1e9:.1f} GFLOP/s"
    if size.device == "cpu":
        note += f" of the {product_rate() / 1e9:.1f} of a matrix product"
    held = Line("memory of an evaluation", (peak[0] / MIB,), (), unit="MiB", note="files that are mapped not counted")
    return [Line("evaluation", tuple(times), (sum(theirs.seconds.values()),), wanted=20.0, note=note), held]


class PlainEvaluation:
    """The scores and figures of a package, a little at a time; `seconds` by part, `blocks` scored of all there are."""

    def __init__(self, model: DlDkd, package: Path, captions: Captions, size: Size) -> None:
        self.model, self.size, self.captions = model, size, captions
        self.reader = PlainReader(package, captions, size)
        self.videos, self.queries = list(captions), [id for ids in captions.values() for id in ids]
        self.seconds: dict[str, float] = {}
        self._began = 0.0

    @torch.no_grad()
    def run(self) -> tuple[Float[np.ndarray, "Q V"], dict[str, float]]:
        """Scores, those of blocks that are left out being 0, and the figures."""
        self._start()
        gallery, mask = self._gallery()
        asked = self._asked()
        scores = self._scores(asked, gallery, mask)
        correct = self._correct()
        figures = ranked(scores, correct)
        self._note("figures")
        self.reader.close()
        return scores, figures

    def _gallery(self) -> tuple[list[Tensor], Tensor]:
        videos, longest = self.videos, min(max(map(len, self.reader.frames.values())), self.size.frames)
        mask = torch.zeros(len(videos), longest, dtype=torch.bool)
        gallery = [torch.zeros(len(videos), longest, self.size.hidden) for _ in self.model.embedding_fields]
        for start in range(0, len(videos), VIDEOS_AT_ONCE):
            rows, real = filled([self.reader.video(video) for video in videos[start : start + VIDEOS_AT_ONCE]])
            self._note("loading")
            mask[start : start + len(rows), : rows.shape[1]] = real
            for field, branch in zip(gallery, self._branches(), strict=True):
                encoded = plain.encode_videos(self.model, branch, rows.to(self.size.device), real.to(self.size.device))
                field[start : start + len(rows), : rows.shape[1]] = encoded.cpu()
            self._note("encoding")
        return [field.to(self.size.device) for field in gallery], mask.to(self.size.device)

    def _asked(self) -> list[Tensor]:
        words = [self.reader.caption(id) for id in self.queries]
        self._note("loading")
        order = sorted(range(len(words)), key=lambda place: -len(words[place]))
        asked = [torch.zeros(len(words), self.size.hidden) for _ in self.model.embedding_fields]
        for start in range(0, len(order), QUERIES_AT_ONCE):
            part = order[start : start + QUERIES_AT_ONCE]
            rows, real = filled([words[place] for place in part])
            for field, branch in zip(asked, self._branches(), strict=True):
                field[part] = plain.encode_queries(self.model, branch, rows.to(self.size.device), real.to(self.size.device)).cpu()
        self._note("encoding")
        return [field.to(self.size.device) for field in asked]

    def _scores(self, asked: list[Tensor], gallery: list[Tensor], mask: Tensor) -> Float[np.ndarray, "Q V"]:
        starts = range(0, len(asked[0]), QUERIES_AT_ONCE)
        few = starts if self.size.blocks is None else starts[:: max(1, len(starts) // self.size.blocks)]
        scores = np.zeros((len(asked[0]), len(mask)), np.float32)
        self._start()
        for start in few:
            block = slice(start, start + QUERIES_AT_ONCE)
            parts = [
                weight * plain.cosines(queries[block], videos, mask).amax(-1)
                for weight, queries, videos in zip((0.7, 0.3), asked, gallery, strict=True)
            ]
            scores[block] = sum(parts[1:], parts[0]).cpu().numpy()
        self._note("scoring", times=len(starts) / len(few))
        return scores

    def _correct(self) -> Bool[np.ndarray, "Q V"]:
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


def ranked(scores: Float[np.ndarray, "Q V"], correct: Bool[np.ndarray, "Q V"]) -> dict[str, float]:
    """Rank, recalls and mean reciprocal rank of the best correct video, a query at a time by sorting."""
    ranks = []
    for row, right in zip(scores, correct, strict=True):
        order = np.argsort(-row)
        ranks.append(1 + int(right[order].argmax()))
    rank = np.array(ranks)
    shares = {f"r{k}": float((rank <= k).mean() * 100) for k in RECALLS}
    middle = {"medr": float(np.median(rank)), "meanr": float(rank.mean()), "mrr": float((1 / rank).mean())}
    return {**shares, "sumr": sum(shares.values()), **middle}
