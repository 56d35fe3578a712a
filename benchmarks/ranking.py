"""All figures of a score matrix, beside an argsort for every query, which is how the published code ranks."""

from __future__ import annotations

import numpy as np

from benchmarks.evaluation import ranked
from benchmarks.measure import Line, Size, take_turns
from prvr.errors import ModelError
from prvr.evaluate.metrics import retrieval


def ranking_lines(size: Size) -> list[Line]:
    """Seconds of ranks, recalls and the rest; both must give the same numbers."""
    draw = np.random.default_rng(0)
    # No ties: an unstable sort has no rule for them.
    scores = draw.permuted(np.tile(np.arange(size.gallery, dtype=np.float32), (size.asked, 1)), axis=1)
    target = draw.integers(0, size.gallery, size.asked)
    correct = np.zeros(scores.shape, bool)
    correct[np.arange(size.asked), target] = True
    scores[np.arange(size.asked), target] += size.gallery / 4 + 0.5
    ours, theirs = retrieval(scores, correct).as_dict(), ranked(scores, correct)
    wrong = {name: value for name, value in theirs.items() if abs(ours[name] - value) > 1e-9 * max(1, abs(value))}
    if wrong:
        raise ModelError(f"the figures disagree ({wrong}), so their times mean nothing; report this with the size that was given")
    turns = {"ours": lambda: retrieval(scores, correct), "loop": lambda: ranked(scores, correct)}
    times = take_turns(turns, runs=size.runs)
    return [Line("figures of a score matrix", times["ours"], times["loop"])]
