"""Every index against the model itself, by one contract; and what is evaluated is what is served."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prvr.batch import Reading, pad, read_frames
from prvr.datasets import Caption, Dataset
from prvr.errors import DataError, SettingError
from prvr.evaluate.evaluation import evaluate_model
from prvr.features import FeatureSet
from prvr.features.packed import Packed, PackedWriter
from prvr.features.sources import FeatureSources, Source
from prvr.index.conditions import parse
from prvr.index.contract import Header, Store
from prvr.index.disk import DiskIndex
from prvr.index.encode import Sampled, add_videos, encode, encode_queries
from prvr.index.exact import ExactIndex
from prvr.index.moments import frame_edges, relevance
from prvr.index.stores import make_store
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Model
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.nn.scores import frame_cosines, video_scores
from prvr.search.asking import VideoSearch
from prvr.search.hits import find

COLUMNS = 6
SOURCES = FeatureSources(Source("frames", COLUMNS), Source("words", COLUMNS))
HEADER = Header("0123456789abcdef", "float32", "videos")
SMALL = DlDkdConfig(hidden=16, heads=2, max_frames=9, max_words=8, exploration_weight=0.4)


def dl_dkd(**changes: Any) -> Model:
    torch.manual_seed(0)
    model = DlDkd(dataclasses.replace(SMALL, **changes), frame_columns=COLUMNS, word_columns=COLUMNS)
    for parameter in model.parameters():  # as drawn, all scores of a fresh model are nearly the same
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter)
    return model.eval()


class ClipsAndFrames(torch.nn.Module):
    """A field with four rows for every video beside one with a row for each frame; the frames are the lesser part."""

    config: Any = None
    embedding_fields: tuple[str, ...] = ("clips", "frames")
    frame_fields: tuple[str, ...] = ("frames",)
    score_weights: tuple[float, ...] | None = (0.7, 0.3)

    def __init__(self) -> None:
        super().__init__()
        self.reading = Reading(COLUMNS, COLUMNS, 9, None, unit=False, text="sentences")

    def encode_queries(self, words: Tensor, mask: Tensor, places: Tensor | None = None) -> Embeddings:
        return words[:, 0], words[:, 0].flip(1)

    def encode_videos(self, frames: Tensor, mask: Tensor, places: Tensor | None = None) -> Embeddings:
        whole = (frames * mask[..., None]).sum(1, keepdim=True)
        return whole * torch.arange(1.0, 5.0)[:, None] + frames[:, :1], frames

    def score(self, queries: Embeddings, videos: Embeddings, mask: Tensor) -> Tensor:
        masks = mask.new_ones(videos[0].shape[:2]), mask
        parts = [video_scores(frame_cosines(q, v, m)) for q, v, m in zip(queries, videos, masks, strict=True)]
        return 0.7 * parts[0] + 0.3 * parts[1]

    def relevance(self, query: Embeddings, video: Embeddings) -> Tensor:
        return frame_cosines(query[0], video[0], torch.ones(1, 4, dtype=torch.bool))[0, 0]


class Together(ClipsAndFrames):
    """Clips and frames multiplied: no sum of best cosines."""

    score_weights = None

    def score(self, queries: Embeddings, videos: Embeddings, mask: Tensor) -> Tensor:
        masks = mask.new_ones(videos[0].shape[:2]), mask
        parts = [video_scores(frame_cosines(q, v, m)) for q, v, m in zip(queries, videos, masks, strict=True)]
        return (1 + parts[0]) * (1 + parts[1])


MODELS: dict[str, Callable[[], Model]] = {
    "zero-shot": lambda: ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS),
    "two branches": dl_dkd,
    "one branch": lambda: dl_dkd(branches=("exploration",)),
    "clips and frames": lambda: ClipsAndFrames().eval(),
    "no sum of cosines": lambda: Together().eval(),
}
every_model = pytest.mark.parametrize("model", [make() for make in MODELS.values()], ids=list(MODELS))


def on_disk(dtype: str) -> Callable[[Model, Path], Store]:
    return lambda model, path: DiskIndex.make(path, model, dataclasses.replace(HEADER, dtype=dtype))


def in_shards(model: Model, path: Path) -> Store:
    return make_store(f"shards://{path}?shards=2", model, HEADER)


def on_qdrant(model: Model, path: Path) -> Store:
    pytest.importorskip("qdrant_client")
    import qdrant_server

    return qdrant_server.on_qdrant(model, path)


# Whoever writes a backend adds it here: these tests are what it must do.
BACKENDS: dict[str, Callable[[Model, Path], Store]] = {
    "memory": lambda model, path: ExactIndex(model),
    "disk": on_disk("float32"),
    "disk float16": on_disk("float16"),
    "shards": in_shards,
    "qdrant": on_qdrant,
}
# Rows encoded one by one and together differ by the rounding of float32 products, the more without fused ones.
FLOAT32 = 2e-6
TOLERANCE = {"memory": FLOAT32, "disk": FLOAT32, "disk float16": 2e-3, "shards": FLOAT32, "qdrant": 2e-3}
ROUNDED = ("disk float16", "qdrant")
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def video(seed: int, frames: int | None = None) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(frames or random.integers(1, 14), COLUMNS)).astype(np.float32)


def gallery(count: int = 11) -> dict[str, np.ndarray]:
    return {f"{place:02d}.mp4": video(place) for place in range(count)}


def asked(model: Model, count: int = 3) -> Embeddings:
    random = np.random.default_rng(99)
    return encode_queries(model, [random.normal(size=(1 + n % 4, COLUMNS)).astype(np.float32) for n in range(count)])


@torch.inference_mode()
def direct(model: Model, videos: dict[str, np.ndarray], queries: Embeddings) -> Tensor:
    """All videos padded together, encoded together and scored by the model: no index."""
    frames, mask = pad([read_frames(rows, model.reading) for rows in videos.values()])
    return model.score(queries, model.encode_videos(frames, mask), mask)


def assert_serves(index: Store, videos: dict[str, np.ndarray], *, tolerance: float) -> None:
    """The index holds exactly these videos, with the scores that the model gives them, best first."""
    assert sorted(index.ids) == sorted(videos)
    assert index.count() == len(videos)
    assert all(id in index for id in videos)
    queries = asked(index.model)
    expected = direct(index.model, videos, queries) if videos else torch.empty(3, 0)
    for row, found in zip(expected.tolist(), index.search(queries, len(videos) + 3), strict=True):
        scores = dict(zip(videos, row, strict=True))
        assert {f.video: f.score for f in found} == pytest.approx(scores, abs=tolerance)
        assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    assert index.search(queries, 2) == [found[:2] for found in index.search(queries, len(videos) + 3)]
    for entry in index.fetch([*videos, "never there"]).values():
        assert [len(rows) for rows in entry.fields][-1] == sum(entry.windows)
    assert list(index.fetch([*videos, "never there"])) == list(videos)
    assert index.verify() == {}


@every_backend
@every_model
def test_an_index_is_the_model_over_what_was_added(backend: str, model: Model, tmp_path: Path) -> None:
    videos, tolerance = gallery(), TOLERANCE[backend]
    index = BACKENDS[backend](model, tmp_path)

    def check() -> None:
        assert_serves(index, videos, tolerance=tolerance)
        if backend != "memory":
            assert_serves(BACKENDS[backend](model, tmp_path), videos, tolerance=tolerance)

    assert index.ids == []
    assert index.search(asked(model), 3) == [[]] * 3
    add_videos(index, videos, videos)
    check()
    gone = ["03.mp4", "07.mp4", "10.mp4"]
    index.delete([*gone, "never there"])
    videos = {id: rows for id, rows in videos.items() if id not in gone}
    check()
    assert not any(id in index for id in [*gone, "never there"])
    added = {"07.mp4": video(50), "new.mp4": video(51, frames=1)}
    add_videos(index, added, added)
    videos |= added
    check()
    index.delete(index.ids)
    videos = {}
    check()


@every_backend
@every_model
def test_a_video_added_again_replaces_the_old_one(backend: str, model: Model, tmp_path: Path) -> None:
    videos = gallery(6)
    index = BACKENDS[backend](model, tmp_path)
    add_videos(index, videos, videos)
    for turn in range(3):  # more than half of what a reader has seen is gone then
        videos |= {"02.mp4": video(60 + turn, frames=13), "05.mp4": video(70 + turn, frames=1), "00.mp4": video(80 + turn)}
        add_videos(index, list(videos)[::-1], videos)
        assert_serves(index, videos, tolerance=TOLERANCE[backend])
    if backend != "memory":
        assert_serves(BACKENDS[backend](model, tmp_path), videos, tolerance=TOLERANCE[backend])


@every_model
@pytest.mark.parametrize("most", [1, 9, 20])
def test_a_gallery_in_parts_scores_as_a_whole(model: Model, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    videos, sizes = gallery(), []
    index = ExactIndex(model)
    add_videos(index, videos, videos)
    whole = index.scores(asked(model, 7))
    index = ExactIndex(model)  # another one: an index may keep its parts ready for the next query
    add_videos(index, videos, videos)
    real = type(model).score

    def counted(self: Any, queries: Embeddings, embeddings: Embeddings, mask: Tensor) -> Tensor:
        sizes.append((len(queries[0]), mask.numel()))
        return real(self, queries, embeddings, mask)

    monkeypatch.setattr("prvr.index.exact.FRAMES_AT_ONCE", most)
    monkeypatch.setattr("prvr.index.exact.QUERIES_AT_ONCE", 3)
    monkeypatch.setattr(type(model), "score", counted)
    torch.testing.assert_close(index.scores(asked(model, 7)), whole, rtol=0, atol=1e-6)
    assert len(sizes) > 3
    assert {queries for queries, _ in sizes} == {3, 1}
    longest = max(min(len(rows), model.reading.max_frames or 99) for rows in videos.values())
    assert all(frames <= max(most, longest) for _, frames in sizes)


@every_model
@pytest.mark.parametrize("kept", [0, 1500, 1 << 30])
def test_what_is_kept_ready_changes_no_score(model: Model, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.index.exact.FRAMES_AT_ONCE", 20)
    monkeypatch.setattr("prvr.index.exact.KEPT_BYTES", kept)
    videos, index = gallery(), ExactIndex(model)
    add_videos(index, videos, videos)
    for _ in range(3):
        assert_serves(index, videos, tolerance=FLOAT32)
    again = {"04.mp4": video(90), "00.mp4": video(91)}
    add_videos(index, again, again)
    assert_serves(index, videos | again, tolerance=FLOAT32)


@every_model
def test_a_gallery_encoded_in_parts_is_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.index.encode.VIDEOS_AT_ONCE", 3)
    videos, index = gallery(), ExactIndex(model)
    add_videos(index, videos, videos)
    assert_serves(index, videos, tolerance=FLOAT32)


@every_backend
@every_model
def test_relevance_is_the_curve_whose_peak_is_the_score(backend: str, model: Model, tmp_path: Path) -> None:
    videos = gallery(4)
    index = BACKENDS[backend](model, tmp_path)
    add_videos(index, videos, videos)
    queries = asked(model, 1)
    (row,) = index.search(queries, 4)
    for found in row:
        curve, edges = relevance(model, queries, index.fetch([found.video])[found.video])
        assert edges is None
        if isinstance(model, ClipsAndFrames):
            assert curve.shape == (4,)
            continue
        assert curve.shape == (min(len(videos[found.video]), model.reading.max_frames or 99),)
        # Branches are fused per video, so the peak of the fused curve may lie below the score, never above.
        assert float(curve.max()) <= found.score + 1e-6
        if len(model.embedding_fields) == 1:
            assert float(curve.max()) == pytest.approx(found.score, abs=1e-6)


@every_backend
def test_what_each_branch_adds_to_a_score(backend: str, tmp_path: Path) -> None:
    model = ClipsAndFrames().eval()
    videos, queries = gallery(4), asked(model, 2)
    index = BACKENDS[backend](model, tmp_path)
    add_videos(index, videos, videos)
    for place, hits in enumerate(find(index, queries, 4)):
        for hit in hits:
            rows = videos[hit.video] if len(videos[hit.video]) <= 9 else read_frames(videos[hit.video], model.reading)
            query = queries[1][place].numpy()
            best = max(float(row @ query / np.linalg.norm(row) / np.linalg.norm(query)) for row in rows)
            assert list(hit.branches) == ["clips", "frames"]
            assert hit.branches["frames"] == pytest.approx(0.3 * best, abs=TOLERANCE[backend])
            assert sum(hit.branches.values()) == pytest.approx(hit.score, abs=1e-6)


@every_backend
def test_a_search_among_some_of_the_videos(backend: str, tmp_path: Path) -> None:
    model, videos = dl_dkd(), gallery(9)
    index = BACKENDS[backend](model, tmp_path)
    sampled = [Sampled(id, rows, about={"number": place}) for place, (id, rows) in enumerate(videos.items())]
    index.add(encode(model, sampled))
    assert index.about() == {id: {"number": place} for place, id in enumerate(videos)}
    for text, places in (("number<3", [0, 1, 2]), ("number=7", [7]), ("number>8", [])):
        some = {id: rows for id, rows in videos.items() if int(id[:2]) in places}
        for k in (2, 9):
            found, all_of_them = index.search(asked(model), k, where=[parse(text)]), index.search(asked(model), 9)
            expected = [[f for f in row if f.video in some][:k] for row in all_of_them]
            assert [[f.video for f in row] for row in found] == [[f.video for f in row] for row in expected]
    with pytest.raises(SettingError, match="no video has a field 'numbre'; did you mean 'number'"):
        index.search(asked(model), 3, where=[parse("numbre=3")])


@every_backend
def test_of_equal_scores_the_first_by_name_comes_first(backend: str, tmp_path: Path) -> None:
    model = MODELS["zero-shot"]()
    same = video(1)
    videos = {"c": same, "a": video(2), "b": same, "d": same}
    index = BACKENDS[backend](model, tmp_path)
    add_videos(index, videos, videos)
    (found,) = index.search(asked(model, 1), 4)
    assert [f.video for f in found if f.video != "a"] == ["b", "c", "d"]


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in ROUNDED])
@every_model
def test_copies_of_a_video_come_in_the_order_of_their_ids(backend: str, model: Model, tmp_path: Path) -> None:
    # Encoded beside others, with other padding: the last digits of their rows differ.
    index, names = BACKENDS[backend](model, tmp_path), [f"{n}.mp4" for n in range(8)]
    for name in reversed(names):
        others = {f"other {name} {n}": video(int(name[0]) + n, frames=9 + n) for n in range(4)}
        add_videos(index, [name, *others], {name: video(3, frames=7), **others})
    for queries in (asked(model, 5), *[tuple(field[n : n + 1] for field in asked(model, 5)) for n in range(5)]):
        for found in index.search(queries, 40):
            assert [hit.video for hit in found if hit.video in names] == names


@every_backend
@every_model
def test_a_search_returns_the_rows_that_it_scored(backend: str, model: Model, tmp_path: Path) -> None:
    index, videos = BACKENDS[backend](model, tmp_path), gallery(6)
    add_videos(index, videos, videos)
    fetched = index.fetch(list(videos))
    for found in index.search(asked(model), 4):
        assert len(found) == 4
        for hit in found:
            assert hit.entry.video == hit.video
            assert all(rows.dtype == np.float32 for rows in hit.entry.fields)
            for ours, theirs in zip(hit.entry.fields, fetched[hit.video].fields, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert len(hit.parts) == (0 if model.score_weights is None else len(model.embedding_fields))
            assert not hit.parts or sum(hit.parts) == pytest.approx(hit.score, abs=1e-6)


def test_encoding_leaves_the_model_in_training_and_without_dropout() -> None:
    model = DlDkd(dataclasses.replace(SMALL, dropout=0.5, input_dropout=0.5), frame_columns=COLUMNS, word_columns=COLUMNS)
    videos = gallery(3)
    index = ExactIndex(model.train())
    add_videos(index, videos, videos)
    assert model.training
    model.eval()
    assert_serves(index, videos, tolerance=FLOAT32)


# What is refused


@every_backend
@every_model
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_embeddings_that_are_not_numbers_are_refused(backend: str, model: Model, bad: float, tmp_path: Path) -> None:
    videos = gallery(3)
    index = BACKENDS[backend](model, tmp_path)
    add_videos(index, videos, videos)
    entries = encode(model, [Sampled("00.mp4", video(70)), Sampled("01.mp4", video(71))])
    entries[1].fields[-1][0, 0] = bad
    with pytest.raises(DataError, match=r"'01\.mp4'"):
        index.add(entries)
    # Neither was replaced: an index never holds half of what it was given.
    assert_serves(index, videos, tolerance=TOLERANCE[backend])


@every_model
def test_features_that_are_not_numbers_are_refused(model: Model) -> None:
    videos = gallery(3)
    videos["01.mp4"][0, 0] = np.nan
    with pytest.raises(DataError, match=r"'01\.mp4' .* NaN"):
        add_videos(ExactIndex(model), videos, videos)


# What is evaluated is what is served


def packed(path: Path, videos: dict[str, np.ndarray]) -> Packed:
    """Features as extraction leaves them: a frame every half second, the file a second longer."""
    with PackedWriter(path, columns=COLUMNS, about={}) as writer:
        for id, rows in videos.items():
            times = [0.5 * n for n in range(len(rows))]
            writer.append(id, rows, {"times": times, "duration": times[-1] + 1, "size": 7, "mtime_ns": 8})
    return Packed(path)


class FakeEncoder:
    """Knows a few sentences by heart, as words and as one vector."""

    name, source, fingerprint = "fake", "here/fake", "00112233aabbccdd"
    word_columns = sentence_columns = COLUMNS

    def __init__(self, texts: dict[str, np.ndarray]) -> None:
        self.texts = texts

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self.texts[text] for text in texts]

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        return np.concatenate([self.texts[text][:1] for text in texts])


@every_backend
@every_model
def test_search_finds_what_was_evaluated(backend: str, model: Model, tmp_path: Path) -> None:
    frames = packed(tmp_path / "features", gallery())
    random = np.random.default_rng(3)
    text, captions = {}, []
    for n in range(6):
        caption = Caption(f"#{n}", f"{n % 9:02d}.mp4", f"sentence {n}", 0.5, 2.0)
        rows = 1 if model.reading.text == "sentences" else 1 + n % 4
        text[caption.id] = random.normal(size=(rows, COLUMNS)).astype(np.float32)
        captions.append(caption)
    dataset = Dataset("toy", "test", tuple(captions), tuple(frames))
    evaluation = evaluate_model(model, dataset, FeatureSet(frames, text, SOURCES))
    assert evaluation.videos == tuple(frames)

    index = BACKENDS[backend](model, tmp_path / "index")
    add_videos(index, frames, frames)
    source = Source("fake", COLUMNS)
    encoder = FakeEncoder({caption.text: text[caption.id] for caption in captions})
    searcher = VideoSearch(Checkpoint("any", None, FeatureSources(source, source), model), index, encoder, videos=tmp_path)
    together = find(index, encode_queries(model, list(text.values())), 11)
    right, overlaps = 0, []
    for place, caption in enumerate(captions):
        hits = searcher.search(caption.text, k=11)
        ours = {hit.video: hit.score for hit in hits}
        theirs = dict(zip(evaluation.videos, evaluation.scores[place].tolist(), strict=True))
        assert ours == pytest.approx(theirs, abs=TOLERANCE[backend])
        assert {hit.video: hit.score for hit in together[place]} == pytest.approx(ours, abs=1e-6)
        if backend not in ROUNDED:
            assert [hit.video for hit in hits] == sorted(theirs, key=lambda id: -theirs[id])
            assert [(h.video, h.start, h.end) for h in hits] == [(h.video, h.start, h.end) for h in together[place]]
        best = hits[0]
        right += best.video == caption.video
        shared = max(0.0, min(best.end, 2.0) - max(best.start, 0.5))
        overlaps.append(shared / (best.end - best.start + 1.5 - shared) if best.video == caption.video else 0.0)
        for hit in hits[:3]:
            curve, edges = searcher.relevance(caption.text, hit.video)
            if not isinstance(model, ClipsAndFrames):
                info = frames.info(hit.video)
                assert edges == frame_edges(info["times"], info["duration"], limit=model.reading.max_frames)
            assert (tuple(curve.tolist()), tuple(edges)) == (hit.curve, hit.edges)
            at = int(curve.argmax())
            assert hit.start <= edges[at] < edges[at + 1] <= hit.end
    if backend not in ROUNDED:
        assert evaluation.retrieval.r1 == pytest.approx(100 * right / 6)
        expected = {least: 100 * sum(o >= least for o in overlaps) / 6 for least in (0.3, 0.5, 0.7)}
        assert evaluation.moments == pytest.approx(expected)


def test_where_times_are_unknown_there_are_no_moments() -> None:
    model, videos = MODELS["two branches"](), gallery(3)
    index = ExactIndex(model)
    add_videos(index, videos, videos)
    assert {(hit.start, hit.end) for row in find(index, asked(model), 3) for hit in row} == {(None, None)}
    captions = (Caption("#0", "00.mp4", "a", 0.0, 1.0),)
    evaluation = evaluate_model(
        model, Dataset("toy", "test", captions, tuple(videos)), FeatureSet(videos, {"#0": video(5)}, SOURCES)
    )
    assert evaluation.moments is None


def test_a_split_without_captions_is_refused() -> None:
    model, videos = MODELS["two branches"](), gallery(3)
    with pytest.raises(DataError, match="no captions"):
        evaluate_model(model, Dataset("toy", "test", (), tuple(videos)), FeatureSet(videos, {"#0": video(5)}, SOURCES))


def test_empty_questions_and_videos_that_are_not_there() -> None:
    model, videos = MODELS["two branches"](), gallery(3)
    index, source = ExactIndex(model), Source("fake", COLUMNS)
    add_videos(index, videos, videos)
    searcher = VideoSearch(
        Checkpoint("any", None, FeatureSources(source, source), model), index, FakeEncoder({"a dog": video(1)}), videos=Path()
    )
    with pytest.raises(SettingError, match="the query is empty"):
        searcher.search("  \n")
    with pytest.raises(SettingError, match="not UTF-8"):
        searcher.search("a\udcff dog")
    with pytest.raises(SettingError, match="k is 0"):
        searcher.search("a dog", k=0)
    with pytest.raises(SettingError, match=r"no video '9\.mp4'"):
        searcher.relevance("a dog", "9.mp4")
    assert len(searcher.search("a dog", k=2)) == 2
