"""Every index against the model itself, in memory and on disk; and what is evaluated is what is served."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prvr.batch import pad, read_frames
from prvr.checkpoint import Checkpoint, Reads, Source
from prvr.datasets import Caption, Dataset
from prvr.errors import DataError, SettingError
from prvr.evaluate import evaluate_model
from prvr.features import FeatureSet
from prvr.features.packed import ITEMS, Packed, PackedWriter
from prvr.index.encode import add_videos
from prvr.index.exact import DiskStore, ExactIndex
from prvr.methods.contract import Embeddings, Model
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.moments import frame_edges
from prvr.search import VideoSearch, encode_queries, find

COLUMNS = 6
ABOUT = {"kind": "embeddings", "model": "0123456789abcdef"}
SMALL = DlDkdConfig(hidden=16, heads=2, max_frames=9, max_words=8, exploration_weight=0.4)


def dl_dkd(**changes: Any) -> Model:
    torch.manual_seed(0)
    model = DlDkd(dataclasses.replace(SMALL, **changes), frame_columns=COLUMNS, word_columns=COLUMNS)
    for parameter in model.parameters():  # as drawn, all scores of a fresh model are nearly the same
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter)
    return model.eval()


MODELS: dict[str, Callable[[], Model]] = {
    "zero-shot": lambda: ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS),
    "two branches": dl_dkd,
    "one branch": lambda: dl_dkd(branches=("exploration",)),
}
every_model = pytest.mark.parametrize("model", [make() for make in MODELS.values()], ids=list(MODELS))
two_fields = pytest.mark.parametrize("model", [dl_dkd()], ids=["two branches"])

BACKENDS: dict[str, Callable[[Model, Path], ExactIndex]] = {
    "memory": lambda model, path: ExactIndex.in_memory(model),
    "disk": lambda model, path: ExactIndex.on_disk(model, path, about=ABOUT, dtype="float32"),
    "disk float16": lambda model, path: ExactIndex.on_disk(model, path, about=ABOUT, dtype="float16"),
}
TOLERANCE = {"memory": 1e-6, "disk": 1e-6, "disk float16": 2e-3}
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def video(seed: int, frames: int | None = None) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(frames or random.integers(1, 14), COLUMNS)).astype(np.float32)


def gallery(count: int = 11) -> dict[str, np.ndarray]:
    return {f"{place:02d}.mp4": video(place) for place in range(count)}


def asked(model: Model, count: int = 5) -> Embeddings:
    random = np.random.default_rng(99)
    return encode_queries(model, [random.normal(size=(1 + n % 4, COLUMNS)).astype(np.float32) for n in range(count)])


@torch.inference_mode()
def direct(model: Model, videos: dict[str, np.ndarray], queries: Embeddings) -> Tensor:
    """All videos padded together, encoded together and scored by the model: no index."""
    frames, mask = pad([read_frames(rows, model.reading) for rows in videos.values()])
    return model.score(queries, model.encode_videos(frames, mask), mask)


def assert_serves(index: ExactIndex, videos: dict[str, np.ndarray], *, tolerance: float) -> None:
    """The index holds exactly these videos, in this order, with the scores that the model gives them."""
    assert index.ids == list(videos)
    assert all(id in index for id in videos)
    queries = asked(index.model)
    scores = index.scores(queries)
    torch.testing.assert_close(scores, direct(index.model, videos, queries), rtol=0, atol=tolerance)
    for row, found in zip(scores.tolist(), index.search(queries, len(videos) + 3), strict=True):
        assert [(f.video, f.score) for f in found] == sorted(zip(videos, row, strict=True), key=lambda pair: -pair[1])
    assert [found[:2] for found in index.search(queries, len(videos))] == index.search(queries, 2)


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
    assert index.search(asked(model), 3) == [[]] * 5
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
    assert index.ids == []
    assert index.scores(asked(model)).shape == (5, 0)


@every_backend
@every_model
def test_a_video_added_again_replaces_the_old_one(backend: str, model: Model, tmp_path: Path) -> None:
    videos = gallery(6)
    index = BACKENDS[backend](model, tmp_path)
    add_videos(index, videos, videos)
    replaced = {"02.mp4": video(60, frames=13), "05.mp4": video(61, frames=1)}
    add_videos(index, replaced, replaced)
    assert_serves(index, videos | replaced, tolerance=TOLERANCE[backend])
    if backend != "memory":
        assert_serves(BACKENDS[backend](model, tmp_path), videos | replaced, tolerance=TOLERANCE[backend])


@every_model
@pytest.mark.parametrize("most", [1, 9, 20])
def test_a_gallery_in_parts_scores_as_a_whole(model: Model, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    videos, sizes = gallery(), []
    index = ExactIndex.in_memory(model)
    add_videos(index, videos, videos)
    whole = index.scores(asked(model, 7))
    index = ExactIndex.in_memory(model)  # another one: an index may keep its parts ready for the next query
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
    videos, index = gallery(), ExactIndex.in_memory(model)
    add_videos(index, videos, videos)
    for _ in range(3):
        assert_serves(index, videos, tolerance=1e-6)
    again = {"04.mp4": video(90), "00.mp4": video(91)}
    add_videos(index, again, again)
    assert_serves(index, videos | again, tolerance=1e-6)


@every_model
def test_a_gallery_encoded_in_parts_is_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.index.encode.VIDEOS_AT_ONCE", 3)
    videos, index = gallery(), ExactIndex.in_memory(model)
    add_videos(index, videos, videos)
    assert_serves(index, videos, tolerance=1e-6)


@every_backend
@every_model
def test_relevance_is_the_curve_whose_peak_is_the_score(backend: str, model: Model, tmp_path: Path) -> None:
    videos = gallery(4)
    index = BACKENDS[backend](model, tmp_path)
    add_videos(index, videos, videos)
    queries = asked(model, 1)
    scores = index.scores(queries)[0]
    for place, (id, rows) in enumerate(videos.items()):
        curve = index.relevance(queries, id)
        assert curve.shape == (min(len(rows), model.reading.max_frames or 99),)
        # Branches are fused per video, so the peak of the fused curve may lie below the score, never above.
        assert float(curve.max()) <= float(scores[place]) + 1e-6
        if len(model.embedding_fields) == 1:
            assert float(curve.max()) == pytest.approx(float(scores[place]), abs=1e-6)


def test_of_equal_scores_the_first_added_comes_first() -> None:
    model = MODELS["zero-shot"]()
    same = video(1)
    videos = {"c": same, "a": video(2), "b": same, "d": same}
    index = ExactIndex.in_memory(model)
    add_videos(index, videos, videos)
    (found,) = index.search(asked(model, 1), 4)
    assert [f.video for f in found if f.video != "a"] == ["c", "b", "d"]


def test_encoding_leaves_the_model_in_training_and_without_dropout() -> None:
    model = DlDkd(dataclasses.replace(SMALL, dropout=0.5, input_dropout=0.5), frame_columns=COLUMNS, word_columns=COLUMNS)
    videos = gallery(3)
    index = ExactIndex.in_memory(model.train())
    add_videos(index, videos, videos)
    assert model.training
    model.eval()
    assert_serves(index, videos, tolerance=1e-6)


# What is refused


@every_backend
@every_model
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_embeddings_that_are_not_numbers_are_refused(backend: str, model: Model, bad: float, tmp_path: Path) -> None:
    videos = gallery(3)
    index = BACKENDS[backend](model, tmp_path)
    add_videos(index, videos, videos)
    frames, mask = pad([read_frames(rows, model.reading) for rows in (video(70), video(71))])
    embeddings = tuple(field.detach().clone() for field in model.encode_videos(frames, mask))
    embeddings[-1][1, 0, 0] = bad
    with pytest.raises(DataError, match=r"'01\.mp4'"):
        index.add(["00.mp4", "01.mp4"], embeddings, mask)
    # Neither was replaced: an index never holds half of what it was given.
    assert_serves(index, videos, tolerance=TOLERANCE[backend])


@every_model
def test_features_that_are_not_numbers_are_refused(model: Model) -> None:
    videos = gallery(3)
    videos["01.mp4"][0, 0] = np.nan
    with pytest.raises(DataError, match=r"'01\.mp4' .* NaN"):
        add_videos(ExactIndex.in_memory(model), videos, videos)


@every_model
def test_the_index_of_another_model_or_precision_is_refused(model: Model, tmp_path: Path) -> None:
    add_videos(BACKENDS["disk"](model, tmp_path), ["00.mp4"], gallery(1))
    other = {**ABOUT, "model": "ffffffffffffffff"}
    for about, dtype in ((other, "float32"), (ABOUT, "float16")):
        with pytest.raises(DataError, match="was made with"):
            ExactIndex.on_disk(model, tmp_path, about=about, dtype=dtype)


# Kills


class Killed(BaseException):
    """Nothing may catch this."""


def kill_at_the_second_field(patch: pytest.MonkeyPatch) -> None:
    real = DiskStore.add

    def add(self: DiskStore, items: Sequence[Any]) -> None:
        if self.path.name == "exploration":
            raise Killed
        real(self, items)

    patch.setattr(DiskStore, "add", add)


def reopened_after_a_kill(model: Model, path: Path, videos: dict[str, np.ndarray]) -> ExactIndex:
    """An index that was killed between the two fields of these videos."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at_the_second_field(patch)
        with pytest.raises(Killed):
            add_videos(BACKENDS["disk"](model, path), videos, videos)
    return BACKENDS["disk"](model, path)


@two_fields
@pytest.mark.parametrize("before", [0, 4])
def test_killed_between_two_fields_a_new_video_is_not_there_and_can_be_added(model: Model, before: int, tmp_path: Path) -> None:
    old, new = gallery(before), {"new.mp4": video(80), "next.mp4": video(81)}
    add_videos(BACKENDS["disk"](model, tmp_path), old, old)
    index = reopened_after_a_kill(model, tmp_path, new)
    assert not any(id in index for id in new)
    if old:
        assert_serves(index, old, tolerance=1e-6)
    add_videos(index, new, new)
    assert_serves(index, old | new, tolerance=1e-6)


@two_fields
@pytest.mark.parametrize("frames", [1, 13])
def test_killed_between_two_fields_a_replaced_video_is_never_half_old(model: Model, frames: int, tmp_path: Path) -> None:
    videos, again = gallery(4), {"01.mp4": video(80, frames=frames)}
    add_videos(BACKENDS["disk"](model, tmp_path), videos, videos)
    index = reopened_after_a_kill(model, tmp_path, again)
    there = {id: (videos | again)[id] for id in index.ids}
    assert set(videos) - set(there) <= set(again)
    assert_serves(index, there, tolerance=1e-6)
    add_videos(index, again, again)
    assert_serves(index, videos | again, tolerance=1e-6)


@two_fields
def test_killed_between_two_fields_a_deleted_video_is_gone(model: Model, tmp_path: Path) -> None:
    videos = gallery(4)
    add_videos(BACKENDS["disk"](model, tmp_path), videos, videos)
    DiskStore(tmp_path / "inheritance", ABOUT, "float32").delete(["02.mp4"])
    index = BACKENDS["disk"](model, tmp_path)
    rest = {id: rows for id, rows in videos.items() if id != "02.mp4"}
    assert_serves(index, rest, tolerance=1e-6)
    again = {"02.mp4": video(80)}
    add_videos(index, again, again)
    assert_serves(index, rest | again, tolerance=1e-6)


@two_fields
@pytest.mark.parametrize("field", ["inheritance", "exploration"])
def test_a_journal_that_was_cut_off_loses_its_last_video_alone(model: Model, field: str, tmp_path: Path) -> None:
    videos = gallery(4)
    add_videos(BACKENDS["disk"](model, tmp_path), videos, videos)
    journal = tmp_path / field / ITEMS
    journal.write_bytes(journal.read_bytes()[:-7])
    index = BACKENDS["disk"](model, tmp_path)
    last = {"03.mp4": videos["03.mp4"]}
    assert_serves(index, {id: rows for id, rows in videos.items() if id not in last}, tolerance=1e-6)
    add_videos(index, last, last)
    assert_serves(index, videos, tolerance=1e-6)
    assert len(journal.read_bytes().splitlines()) == len([json.loads(line) for line in journal.read_text().splitlines()])


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
    for n in range(20):
        caption = Caption(f"#{n}", f"{n % 9:02d}.mp4", f"sentence {n}", 0.5, 2.0)
        rows = 1 if model.reading.text == "sentences" else 1 + n % 4
        text[caption.id] = random.normal(size=(rows, COLUMNS)).astype(np.float32)
        captions.append(caption)
    dataset = Dataset("toy", "test", tuple(captions), tuple(frames))
    evaluation = evaluate_model(model, dataset, FeatureSet(frames, text))
    assert evaluation.videos == tuple(frames)

    index = BACKENDS[backend](model, tmp_path / "index")
    add_videos(index, frames, frames)
    source = Source("fake", COLUMNS)
    encoder = FakeEncoder({caption.text: text[caption.id] for caption in captions})
    searcher = VideoSearch(Checkpoint("any", None, Reads(source, source), model), index, encoder, videos=tmp_path)
    together = find(index, encode_queries(model, list(text.values())), 11)
    right, overlaps = 0, []
    for place, caption in enumerate(captions):
        hits = searcher.search(caption.text, k=11)
        ours = {hit.video: hit.score for hit in hits}
        theirs = dict(zip(evaluation.videos, evaluation.scores[place].tolist(), strict=True))
        assert ours == pytest.approx(theirs, abs=TOLERANCE[backend])
        assert {hit.video: hit.score for hit in together[place]} == pytest.approx(ours, abs=1e-6)
        if backend != "disk float16":
            assert [hit.video for hit in hits] == sorted(theirs, key=lambda id: -theirs[id])
            assert [(h.video, h.start, h.end) for h in hits] == [(h.video, h.start, h.end) for h in together[place]]
        best = hits[0]
        right += best.video == caption.video
        shared = max(0.0, min(best.end, 2.0) - max(best.start, 0.5))
        overlaps.append(shared / (best.end - best.start + 1.5 - shared) if best.video == caption.video else 0.0)
        for hit in hits:
            curve, edges = searcher.relevance(caption.text, hit.video)
            assert edges == frame_edges(
                frames.info(hit.video)["times"], frames.info(hit.video)["duration"], most=model.reading.max_frames
            )
            at = int(curve.argmax())
            assert hit.start <= edges[at] < edges[at + 1] <= hit.end
    if backend != "disk float16":
        assert evaluation.retrieval.r1 == pytest.approx(100 * right / 20)
        expected = {least: 100 * sum(o >= least for o in overlaps) / 20 for least in (0.3, 0.5, 0.7)}
        assert evaluation.moments == pytest.approx(expected)


def test_where_times_are_unknown_there_are_no_moments() -> None:
    model, videos = MODELS["two branches"](), gallery(3)
    index = ExactIndex.in_memory(model)
    add_videos(index, videos, videos)
    assert {(hit.start, hit.end) for row in find(index, asked(model), 3) for hit in row} == {(None, None)}
    captions = (Caption("#0", "00.mp4", "a", 0.0, 1.0),)
    evaluation = evaluate_model(model, Dataset("toy", "test", captions, tuple(videos)), FeatureSet(videos, {"#0": video(5)}))
    assert evaluation.moments is None


def test_a_split_without_captions_is_refused() -> None:
    model, videos = MODELS["two branches"](), gallery(3)
    with pytest.raises(DataError, match="no captions"):
        evaluate_model(model, Dataset("toy", "test", (), tuple(videos)), FeatureSet(videos, {"#0": video(5)}))


def test_empty_questions_and_videos_that_are_not_there() -> None:
    model, videos = MODELS["two branches"](), gallery(3)
    index, source = ExactIndex.in_memory(model), Source("fake", COLUMNS)
    add_videos(index, videos, videos)
    searcher = VideoSearch(
        Checkpoint("any", None, Reads(source, source), model), index, FakeEncoder({"a dog": video(1)}), videos=Path()
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
