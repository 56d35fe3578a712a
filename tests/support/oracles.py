"""The equations as slow, obvious loops over lists of Python floats, written from docs/how/dl-dkd.md and decision 0002.

s[n][v] is the score of query n and video v; y[n] is the video that query n describes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

Row = Sequence[float]
Matrix = Sequence[Row]


def log_sum_exp(values: Row) -> float:
    largest = max(values)
    return largest + math.log(sum(math.exp(value - largest) for value in values))


def softmax(values: Row) -> list[float]:
    largest = max(values)
    powers = [math.exp(value - largest) for value in values]
    return [power / sum(powers) for power in powers]


def column(s: Matrix, v: int) -> list[float]:
    return [row[v] for row in s]


def mean(values: Row) -> float:
    return sum(values) / len(values)


# Scores (2.4)


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: Row, b: Row) -> float:
    return dot(a, b) / (max(math.sqrt(dot(a, a)), 1e-12) * max(math.sqrt(dot(b, b)), 1e-12))


def frame_scores(
    queries: Matrix, videos: Sequence[Matrix], lengths: Sequence[int], similarity: Callable[[Row, Row], float]
) -> list[list[list[float]]]:
    """Every query with every real frame: the lists of a video are as long as the video."""
    return [[[similarity(q, video[f]) for f in range(n)] for video, n in zip(videos, lengths, strict=True)] for q in queries]


def video_scores(frames: Sequence[Sequence[Row]]) -> list[list[float]]:
    return [[max(of_video) for of_video in of_query] for of_query in frames]


# Losses (2.5)


def hardest_wrong_videos(s: Matrix, y: Sequence[int], n: int, pool: int) -> list[int]:
    """The wrong videos of query n, hardest first, as many as the pool holds."""
    wrong = [v for v in range(len(s[n])) if v != y[n]]
    return sorted(wrong, key=lambda v: -s[n][v])[:pool]


def triplet(s: Matrix, y: Sequence[int], *, margin: float, negatives: Sequence[int | None]) -> float:
    """`negatives` holds neg_n, None where a query has no wrong video; the negative of a video is the hardest query.

    Beyond the specification: what has no negative costs nothing, and a video that no query describes does not count.
    """
    text_to_video = []
    for n, negative in enumerate(negatives):
        text_to_video.append(0.0 if negative is None else max(0.0, margin + s[n][negative] - s[n][y[n]]))
    video_to_text = []
    for v in range(len(s[0])):
        right = [s[n][v] for n in range(len(s)) if y[n] == v]
        wrong = [s[n][v] for n in range(len(s)) if y[n] != v]
        if right:
            video_to_text.append(max(0.0, margin + max(wrong) - mean(right)) if wrong else 0.0)
    return mean(text_to_video) + mean(video_to_text)


def info_nce(d: Matrix, y: Sequence[int]) -> float:
    """A video that no query describes adds nothing to the second mean, and counts in it."""
    text_to_video = [log_sum_exp(d[n]) - d[n][y[n]] for n in range(len(d))]
    video_to_text = []
    for v in range(len(d[0])):
        right = [d[n][v] for n in range(len(d)) if y[n] == v]
        video_to_text.append(log_sum_exp(column(d, v)) - log_sum_exp(right) if right else 0.0)
    return mean(text_to_video) + mean(video_to_text)


def soft_info_nce(
    d: Matrix,
    y: Sequence[int],
    *,
    relevance: Sequence[Matrix],
    b: float,
    a: float,
    hard_queries: Sequence[bool],
    hard_videos: Sequence[bool],
) -> float:
    """With several sources of relevance the soft target is the mean of their softmaxes; a video without a query adds nothing."""
    queries, videos = range(len(d)), range(len(d[0]))

    def soft_row(n: int, v: int) -> float:
        return mean([softmax(sims[n])[v] for sims in relevance])

    def soft_column(n: int, v: int) -> float:
        return mean([softmax(column(sims, v))[n] for sims in relevance])

    t, u = [], []
    for n in queries:
        one_hot = [1.0 if y[n] == v else 0.0 for v in videos]
        target = one_hot if hard_queries[n] else [(1 - b) * soft_row(n, v) + b * one_hot[v] for v in videos]
        t.append(log_sum_exp(d[n]) * sum(target) - sum(target[v] * d[n][v] for v in videos))
    for v in videos:
        one_hot = [1.0 if y[n] == v else 0.0 for n in queries]
        target = one_hot if hard_videos[v] else [(1 - b) * soft_column(n, v) + b * one_hot[n] for n in queries]
        if not any(one_hot):
            u.append(0.0)
            continue
        u.append(log_sum_exp(column(d, v)) - log_sum_exp([math.log(target[n] + 1e-12) + d[n][v] for n in queries]))

    def part(hard: bool) -> float:
        rows = [t[n] for n in queries if hard_queries[n] is hard]
        columns = [u[v] for v in videos if hard_videos[v] is hard]
        return mean(rows) + mean(columns) if rows and columns else 0.0

    return a * part(True) + (1 - a) * part(False)


def frame_kl(student: Sequence[Row], teacher: Sequence[Row], *, temperature: float) -> float:
    """A sum over queries; each list holds the scores of the real frames of the query's own video."""
    total = 0.0
    for own, guide in zip(student, teacher, strict=True):
        p = softmax([score / temperature for score in own])
        t = softmax([score / temperature for score in guide])
        total += sum(t[f] * math.log(t[f] / p[f]) for f in range(len(t)) if t[f] > 0)
    return total


# Sampling (2.2)


def resample(rows: Sequence[Row], most: int | None) -> list[list[float]]:
    n = len(rows)
    if most is None or n <= most:
        return [list(row) for row in rows]
    # i / m * n and not i * n / m: in binary they round differently where the edge is half a frame, m no power of two.
    edges = [min(round(i / most * n), n - 1) for i in range(most + 1)]
    slots = [rows[e:f] or [rows[e]] for e, f in itertools.pairwise(edges)]
    return [[mean(values) for values in zip(*slot, strict=True)] for slot in slots]


# Metrics (2.8; ties as we define them: a wrong video with the same score stands first)


def ranks(s: Matrix, correct: Sequence[Sequence[bool]]) -> list[int]:
    found = []
    for row, right in zip(s, correct, strict=True):
        order = sorted(range(len(row)), key=lambda v: (-row[v], right[v]))
        found.append(1 + min(place for place, v in enumerate(order) if right[v]))
    return found


def recall_at(k: int, rank: Sequence[int]) -> float:
    return 100 * sum(r <= k for r in rank) / len(rank)


def median(values: Row) -> float:
    order = sorted(values)
    half = len(order) // 2
    return float(order[half]) if len(order) % 2 else (order[half - 1] + order[half]) / 2


def mean_reciprocal_rank(rank: Sequence[int]) -> float:
    return mean([1 / r for r in rank])
