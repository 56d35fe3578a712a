"""Parts in order against all choices of places; a search for several parts against a loop over all videos."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from prvr.errors import SettingError
from prvr.index import ranking
from prvr.index.conditions import parse
from prvr.index.contract import Entry, Header, Store
from prvr.index.disk import DiskIndex
from prvr.index.exact import ExactIndex
from prvr.index.moments import BAR, find_spans, frame_rows, relevance
from prvr.index.ranking import has_curve_as_score, rank
from prvr.index.sequence import best_in_order, spans_in_order
from prvr.index.setting import Setting
from prvr.index.stores import make_store
from prvr.methods.contract import Embeddings, Model
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search.question import EncodedQuestion, Question, QuestionPart

COLUMNS = 6
HEADER = Header("0123456789abcdef", "float32", "videos")


def slow_in_order(curves: np.ndarray) -> tuple[float, tuple[int, ...]] | None:
    """All choices of increasing places, one after another."""
    parts, places = curves.shape
    best = None
    for chosen in combinations(range(places), parts):
        score = sum(float(curves[part, place]) for part, place in enumerate(chosen)) / parts
        if best is None or score > best[0] + 1e-9:
            best = score, chosen
    return best


@pytest.mark.parametrize(("parts", "places"), [(1, 1), (1, 5), (2, 1), (2, 2), (2, 7), (3, 3), (3, 8), (4, 9), (3, 2)])
def test_the_best_places_in_order_are_those_of_a_slow_loop(parts: int, places: int) -> None:
    draw = np.random.default_rng(parts * 100 + places)
    for _ in range(20):
        curves = draw.normal(size=(parts, places)).astype(np.float32)
        found, expected = best_in_order(curves), slow_in_order(curves)
        if expected is None:
            assert found is None
            continue
        assert found is not None
        assert found.score == pytest.approx(expected[0], abs=1e-6)
        assert found.places == expected[1]


def test_by_hand() -> None:
    # The best of the second part comes before the best of the first: the order costs one of them.
    curves = np.array([[0.1, 0.2, 0.9, 0.1], [0.1, 0.8, 0.2, 0.3]])
    found = best_in_order(curves)
    assert found is not None
    assert found.places == (2, 3)
    assert found.score == pytest.approx((0.9 + 0.3) / 2)
    # Backwards the same frames are in order.
    found = best_in_order(curves[:, ::-1])
    assert found is not None
    assert (found.score, found.places) == (pytest.approx((0.9 + 0.8) / 2), (1, 2))
    # Of ties, the first places.
    found = best_in_order(np.ones((2, 4)))
    assert found is not None
    assert found.places == (0, 1)


def test_spans_of_parts_are_in_order_and_hold_their_places() -> None:
    draw = np.random.default_rng(0)
    for places, parts in ((2, 2), (9, 2), (30, 3), (5, 5)):
        for _ in range(20):
            curves = draw.normal(size=(parts, places)).astype(np.float32)
            edges = np.cumsum(draw.uniform(0.5, 2, places + 1))
            found = best_in_order(curves)
            assert found is not None
            spans = spans_in_order(curves, edges.tolist(), found.places)
            for number, (span, place) in enumerate(zip(spans, found.places, strict=True)):
                assert span.start <= edges[place] + 1e-9
                assert span.end >= edges[place + 1] - 1e-9
                assert span.score == pytest.approx(curves[number, place])
            assert all(one.end <= other.start + 1e-9 for one, other in pairwise(spans))


def test_a_span_in_order_by_hand() -> None:
    curves = np.array([[0, 1, 1, 0, 0, 0, 0, 0.0], [0, 0, 0, 0, 0, 1, 1, 0]])
    found = best_in_order(curves)
    assert found is not None
    first, second = spans_in_order(curves, [float(t) for t in range(9)], found.places)
    assert (first.start, first.end) == find_spans(curves[0][:5], [float(t) for t in range(6)])[0][:2]
    assert first.end <= second.start <= 5


class OtherScore(ZeroShot):
    """A model without weights: every video is scored by itself."""

    def __init__(self) -> None:
        super().__init__(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS)
        self.score_weights = None

    def score(self, queries: Embeddings, videos: Embeddings, mask: Tensor) -> Tensor:
        return (
            torch.relu(1 + super().relevance((queries[0][:1],), (videos[0][:1],))).amax().expand(len(queries[0]), len(videos[0]))
        )


def zero_shot(parts: str = "frames") -> Model:
    return ZeroShot(ZeroShotConfig(parts=parts), frame_columns=COLUMNS, word_columns=COLUMNS).eval()  # type: ignore[arg-type]


def entries(model: Model, count: int) -> list[Entry]:
    draw = np.random.default_rng(1)
    made = []
    for number in range(count):
        frames = int(draw.integers(1, 12))
        clips = draw.normal(size=(4, COLUMNS)).astype(np.float32)
        rows = draw.normal(size=(frames, COLUMNS)).astype(np.float32)
        fields = tuple(clips if name == "clips" else rows for name in model.embedding_fields)
        about = {"take": number % 3}
        made.append(Entry(f"{number:03}.mp4", fields, (frames,), tuple(float(t) for t in range(frames + 1)), about))
    return made


STORES: dict[str, Callable[[Model, Path], Store]] = {
    "exact": lambda model, path: ExactIndex(model),
    "disk": lambda model, path: DiskIndex.make(path / "disk", model, HEADER),
    "shards": lambda model, path: make_store(f"shards://{path}/shards?shards=3", model, HEADER),
}
MODELS = {"frames": zero_shot, "clips": lambda: zero_shot("clips"), "both": lambda: zero_shot("clips_and_frames")}


def question(model: Model, parts: int) -> EncodedQuestion:
    draw = np.random.default_rng(2)
    queries = [torch.from_numpy(draw.normal(size=(1, COLUMNS)).astype(np.float32)) for _ in range(parts)]
    said = [QuestionPart(str(n), ((query,) * len(model.embedding_fields),)) for n, query in enumerate(queries)]
    return EncodedQuestion(Question("0"), said, model, {})


@pytest.mark.parametrize("store", ["exact", "disk", "shards"])
@pytest.mark.parametrize("of", [*MODELS, "without weights"])
@pytest.mark.parametrize("parts", [2, 3])
def test_a_search_in_order_is_that_of_a_loop(
    store: str, of: str, parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "LEAST", 2)
    model = OtherScore().eval() if of == "without weights" else MODELS[of]()
    if of == "without weights" and store == "shards":
        pytest.skip("shards of such a model are searched one by one, as here")
    index, videos = STORES[store](model, tmp_path), entries(model, 40)
    index.add(videos)
    asked = question(model, parts)
    for where, k in ((), 5), (("take=1",), 3), ((), 100):
        conditions = [parse(one) for one in where]
        expected = []
        for entry in videos:
            if where and entry.about["take"] != 1:
                continue
            curves = np.stack([relevance(model, part.queries[0], entry)[0] for part in asked.parts])
            if (slow := slow_in_order(curves)) is not None:
                expected.append((-slow[0], entry.video, slow[1]))
        found = rank(index, asked.queries, k, asked.in_order, where=conditions)
        assert [one.entry.video for one in found] == [video for _, video, _ in sorted(expected)[:k]]
        assert [one.score for one in found] == pytest.approx([-score for score, _, _ in sorted(expected)[:k]], abs=1e-5)
        assert [one.value.places for one in found] == [places for _, _, places in sorted(expected)[:k]]
    with pytest.raises(SettingError, match="did you mean 'take'"):
        rank(index, asked.queries, 3, asked.in_order, where=[parse("tak=1")])
    index.close()


def test_most_videos_are_not_read_where_the_score_bounds_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "LEAST", 8)
    model = zero_shot()
    index = ExactIndex(model)
    index.add(entries(model, 400))
    asked = question(model, 2)
    read: list[str] = []

    def in_order(entry: Entry) -> list[tuple[float, object]]:
        read.append(entry.video)
        return list(asked.in_order(entry))

    assert has_curve_as_score(model)
    assert not has_curve_as_score(zero_shot("clips_and_frames"))
    found = rank(index, asked.queries, 3, in_order)
    assert len(found) == 3
    assert len(set(read)) == len(read) < 300


@pytest.mark.parametrize("store", ["exact", "disk", "shards"])
def test_all_moments_of_the_gallery(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "LEAST", 2)
    model = zero_shot()
    index, videos = STORES[store](model, tmp_path), entries(model, 30)
    index.add(videos)
    asked = question(model, 1)
    expected = []
    for entry in videos:
        curve, edges = relevance(model, asked.queries[0], entry)
        assert edges is not None
        spans = find_spans(curve, edges, limit=99, frames=frame_rows(model, entry), another=BAR)
        expected += [(-span.score, entry.video, n, span[:2]) for n, span in enumerate(spans)]
    expected.sort()
    for k in (1, 7, len(expected) + 5):
        found = rank(index, asked.queries, k, asked.moments)
        assert [(one.entry.video, one.value[0][:2]) for one in found] == [(video, span) for _, video, _, span in expected[:k]]
    index.close()


def test_moments_are_all_that_reach_the_bar_by_hand() -> None:
    model = ZeroShot(ZeroShotConfig(), frame_columns=2, word_columns=2).eval()
    # Shots of three seconds whose cosines with the query are 1, .8, .7 and .5; in between, nothing.
    curve = np.repeat([0, 1, 0, 0.8, 0, 0.7, 0, 0.5, 0], 3)
    rows = np.stack([curve, np.sqrt(1 - curve**2)], axis=1).astype(np.float32)
    entry = Entry("a.mp4", (rows,), (len(rows),), tuple(map(float, range(len(rows) + 1))))
    asked = EncodedQuestion(Question("0"), [QuestionPart("0", ((torch.tensor([[1.0, 0.0]]),),))], model, {})
    # The bar is at .6 of the best: a video's own hit lists what is .9 as high, the list of moments all above the bar.
    assert [span[:2] for span in find_spans(curve, entry.edges or (), frames=rows)] == [(3, 6)]
    found = [(round(score, 4), span[:2]) for score, (span, _, _) in asked.moments(entry)]
    assert found == [(1.0, (3, 6)), (0.8, (9, 12)), (0.7, (15, 18))]


def test_an_approximate_first_stage_keeps_the_candidates_of_all_parts(tmp_path: Path) -> None:
    columns, draw = 32, np.random.default_rng(3)
    model = ZeroShot(ZeroShotConfig(), frame_columns=columns, word_columns=columns).eval()
    index = DiskIndex.make(tmp_path, model, HEADER)
    first, second = (draw.normal(size=columns).astype(np.float32) for _ in range(2))
    rows = draw.normal(size=(400, 10, columns)).astype(np.float32)
    # One video shows both in order, its twin in the other, and a third one the second part alone, and better.
    rows[7, [2, 6]] = np.stack([first, second]) + 0.7 * draw.normal(size=(2, columns))
    rows[8], rows[9, 5] = rows[7, ::-1], second
    index.add([Entry(f"{n:03}.mp4", (of,), (10,), None) for n, of in enumerate(rows)])
    parts = [QuestionPart(str(n), ((torch.from_numpy(query)[None],),)) for n, query in enumerate((first, second))]
    asked = EncodedQuestion(Question("0", then=("1",)), parts, model, {})
    exact = rank(index, asked.queries, 10, asked.in_order)
    assert exact[0].entry.video == "007.mp4"
    learned = index.learn_stage((torch.from_numpy(np.stack([first, second])),))
    index.keep_setting(Setting(1.0), learned, recall=1.0, queries=20)
    everything = rank(index, asked.queries, 10, asked.in_order, approximate=True)
    assert [(one.entry.video, one.score) for one in everything] == [(one.entry.video, one.score) for one in exact]
    index.keep_setting(Setting(0.1), learned, recall=0.9, queries=20)
    few = rank(index, asked.queries, 10, asked.in_order, approximate=True)
    assert (few[0].entry.video, few[0].score, few[0].value) == (exact[0].entry.video, exact[0].score, exact[0].value)
    with pytest.raises(SettingError, match="copy the index to a folder"):
        rank(ExactIndex(model), asked.queries, 10, asked.in_order, approximate=True)
    index.close()
