"""All figures of a score matrix, beside an argsort for every query, which is how the published code ranks.

    python benchmarks/metrics.py [--queries 10895 --videos 2179]

Medians of alternating runs; prints the times and their ratio, and sees that both give the same numbers. The size is TVR's.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from prvr.metrics import RECALLS, retrieval


def argsort_per_query(scores: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """Rank, recalls and mean reciprocal rank of the best correct video, a query at a time."""
    ranks = []
    for row, right in zip(scores, correct, strict=True):
        order = np.argsort(-row)
        ranks.append(1 + int(right[order].argmax()))
    rank = np.array(ranks)
    shares = {f"r{k}": float((rank <= k).mean() * 100) for k in RECALLS}
    middle = {"medr": float(np.median(rank)), "meanr": float(rank.mean()), "mrr": float((1 / rank).mean())}
    return {**shares, "sumr": sum(shares.values()), **middle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("queries", 10_895), ("videos", 2_179), ("runs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    size = parser.parse_args()
    draw = np.random.default_rng(0)
    # No ties: an unstable sort has no rule for them.
    scores = draw.permuted(np.tile(np.arange(size.videos, dtype=np.float32), (size.queries, 1)), axis=1)
    correct = np.zeros(scores.shape, bool)
    target = draw.integers(0, size.videos, size.queries)
    correct[np.arange(size.queries), target] = True
    scores[np.arange(size.queries), target] += size.videos / 4 + 0.5
    times: dict[str, list[float]] = {"ours": [], "loop": []}
    for _ in range(size.runs):
        began = time.perf_counter()
        ours = retrieval(scores, correct).as_dict()
        times["ours"].append(time.perf_counter() - began)
        began = time.perf_counter()
        theirs = argsort_per_query(scores, correct)
        times["loop"].append(time.perf_counter() - began)
    assert all(abs(ours[name] - value) <= 1e-9 * max(1, abs(value)) for name, value in theirs.items()), (ours, theirs)
    quick, slow = (statistics.median(times[name]) for name in ("ours", "loop"))
    print(f"{size.queries} queries x {size.videos} videos: the same figures, SumR {ours['sumr']:.1f}")
    print(f"prvr.metrics {quick * 1000:.0f} ms, argsort per query {slow * 1000:.0f} ms, {slow / quick:.1f} times as long")


if __name__ == "__main__":
    main()
