"""Hours of video: windows, and what a search makes of them."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from prvr.batch import pad, read_frames
from prvr.index.contract import Store
from prvr.index.disk import DiskIndex
from prvr.index.encode import LONG, Sampled, encode, encode_long, encode_queries
from prvr.index.exact import ExactIndex
from prvr.index.moments import relevance
from prvr.methods.contract import Model
from prvr.nn.scores import tolerance
from prvr.search.hits import find
from tests.index.test_contract import COLUMNS, HEADER, ClipsAndFrames, Together, dl_dkd, video

MOST = 9
MODELS = {"two branches": dl_dkd, "clips and frames": lambda: ClipsAndFrames().eval(), "no sum": lambda: Together().eval()}
every_model = pytest.mark.parametrize("model", [make() for make in MODELS.values()], ids=list(MODELS))


def sampled(id: str, frames: int) -> Sampled:
    return Sampled(id, video(frames, frames=frames), tuple(0.5 * n for n in range(frames)), 0.5 * frames)


@every_model
@pytest.mark.parametrize("frames", [1, MOST, MOST + 1, LONG * MOST])
def test_a_short_video_is_read_as_in_evaluation(model: Model, frames: int) -> None:
    (ours,), (theirs,) = encode_long(model, [sampled("a", frames)]), encode(model, [sampled("a", frames)])
    assert (ours.windows, ours.edges) == (theirs.windows, theirs.edges) == ((min(frames, MOST),), theirs.edges)
    for a, b in zip(ours.fields, theirs.fields, strict=True):
        np.testing.assert_array_equal(a, b)


@every_model
@torch.inference_mode()
def test_windows_of_a_long_video_are_encoded_alone(model: Model) -> None:
    given = sampled("long", LONG * MOST + 2)
    (entry,) = encode_long(model, [given])
    assert entry.windows == (7, 7, 6)
    # Every frame is read as it is, and keeps its own time.
    assert entry.edges == tuple(0.5 * n for n in range(21))
    expected = []
    for start, end in itertools.pairwise((0, 7, 14, 20)):
        frames, mask = pad([read_frames(given.rows[start:end], model.reading)])
        expected.append([field[0].numpy() for field in model.encode_videos(frames, mask)])
    for field, parts in zip(entry.fields, zip(*expected, strict=True), strict=True):
        # Rows are of any length: float32 rounds in proportion to their largest numbers.
        np.testing.assert_allclose(field, np.concatenate(parts), rtol=0, atol=tolerance(field))


@every_model
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_long_video_scores_as_the_best_of_its_windows(model: Model, kind: str, tmp_path: Path) -> None:
    index: Store = ExactIndex(model) if kind == "memory" else DiskIndex.make(tmp_path, model, HEADER)
    given = [sampled("long", 40), sampled("short", 5), sampled("longer", 61)]
    index.add(encode_long(model, given))
    queries = encode_queries(model, [np.random.default_rng(5).normal(size=(1, COLUMNS)).astype(np.float32)])
    windows = ExactIndex(model)
    parts = {video.video: np.array_split(video.rows, {40: 5, 5: 1, 61: 7}[len(video.rows)]) for video in given}
    windows.add(encode(model, [Sampled(f"{id} {n}", part) for id, cut in parts.items() for n, part in enumerate(cut)]))
    alone = {hit.video: hit for hit in find(windows, queries, 99)[0]}
    for hit in find(index, queries, 3)[0]:
        own = [alone[f"{hit.video} {n}"] for n in range(len(parts[hit.video]))]
        best = max(part.score for part in own)
        if model.score_weights is not None:
            # Parts are fused for each video: one window may be the best for one field, another for another.
            best = sum(max(part.branches[field] for part in own) for field in model.embedding_fields)
        assert hit.score == pytest.approx(best, abs=1e-5)
        assert hit.curve == pytest.approx(list(itertools.chain(*(part.curve for part in own))), abs=1e-5)
        assert len(hit.edges) == len(hit.curve) + 1
        assert hit.edges[-1] == 0.5 * sum(len(part) for part in parts[hit.video])
        assert list(hit.edges) == sorted(set(hit.edges))
        assert all(0 <= span.start < span.end <= hit.edges[-1] for span in hit.spans)


def test_clips_of_windows_divide_the_time_of_their_window() -> None:
    model = ClipsAndFrames().eval()
    (entry,) = encode_long(model, [sampled("long", 20)])
    _, edges = relevance(model, encode_queries(model, [video(3, frames=1)]), entry)
    # Windows of 7, 7 and 6 frames of half a second, four clips each.
    assert edges == pytest.approx([*np.linspace(0, 3.5, 5), *np.linspace(3.5, 7, 5)[1:], *np.linspace(7, 10, 5)[1:]])


def test_two_hours_take_no_gigabytes() -> None:
    model = dl_dkd(max_frames=128, hidden=128, heads=4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (entry,) = encode_long(model, [sampled("film", 7200)])
    assert [len(rows) for rows in entry.fields] == [7200, 7200]
    assert len(entry.windows) == 57
    # Kilobytes. At once, attention alone would take 2 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250_000
