"""Questions of several sentences, pictures and moments: what is searched for, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoders import make_textual, make_visual

from prvr.encoders import open_encoder
from prvr.errors import SettingError
from prvr.features.sources import FeatureSources
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.index.moments import BAR, find_spans, frame_rows, relevance
from prvr.index.rescoring import Rescoring, with_rescoring
from prvr.index.sequence import best_in_order
from prvr.methods import checkpoint as checkpoints
from prvr.search import zero_shot
from prvr.search.asking import VideoSearch
from prvr.search.question import Moment, Question, parse_moment

# Longer than what a template of the encoder is put around.
A, B, C = "a dog runs over the grass", "a man cooks in the kitchen", "the red beach in summer"


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> VideoSearch:
    folder = tmp_path_factory.mktemp("question")
    checkpoint = zero_shot(make_textual(make_visual(folder / "tiny", size=[8, 12])))
    encoder: Any = open_encoder(folder / "tiny")
    index = DiskIndex.make(folder / "index", checkpoint.model, Header(checkpoint.fingerprint, "float32", str(folder)))
    draw = np.random.default_rng(0)
    for n in range(40):
        rows = draw.normal(size=(12, encoder.image_columns)).astype(np.float32)
        index.add([Entry(f"{n:02}.mp4", (rows,), (12,), tuple(float(t) for t in range(13)), {"copies": [f"copy {n}.mp4"]})])
    return VideoSearch(checkpoint, index, encoder, videos=folder)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows)


def vector(search: VideoSearch, text: str) -> np.ndarray:
    return unit(search.encoder.encode_sentences([text])[0])  # type: ignore[attr-defined]


def row(search: VideoSearch, video: str, frame: int) -> np.ndarray:
    return unit(search.index.fetch([video])[video].fields[0][frame])


def by_loop(search: VideoSearch, query: np.ndarray) -> list[tuple[str, float]]:
    """Every video's best cosine, best first."""
    scores = {id: max(float(unit(r) @ unit(query)) for r in entry.fields[0]) for id, entry in fetched(search).items()}
    return sorted(scores.items(), key=lambda one: -one[1])


def fetched(search: VideoSearch) -> dict[str, Entry]:
    return search.index.fetch(search.index.ids)


def check(search: VideoSearch, question: Question, query: np.ndarray, *, without: tuple[str, ...] = ()) -> None:
    hits = search.search(question, k=5)
    expected = [one for one in by_loop(search, query) if one[0] not in without][:5]
    assert [hit.video for hit in hits] == [video for video, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-5)
    one = search.explain(question, hits[2].video)
    assert one is not None
    assert (one.video, one.score, one.spans) == (hits[2].video, pytest.approx(hits[2].score, abs=1e-6), hits[2].spans)


def test_other_words_are_averaged(search: VideoSearch) -> None:
    check(search, Question(A, also=(B, C)), vector(search, A) + vector(search, B) + vector(search, C))
    assert search.search(Question(A), k=4) == search.search(A, k=4)


def test_what_is_not_wanted_is_taken_away(search: VideoSearch) -> None:
    check(search, Question(A, without=(B,)), vector(search, A) - 0.5 * vector(search, B))
    check(search, Question(A, without=(B, C)), vector(search, A) - 0.5 * (vector(search, B) + vector(search, C)) / 2)


def test_feedback_moves_the_query(search: VideoSearch) -> None:
    up, down = Moment("07.mp4", 3.2), Moment("09.mp4", 0.0)
    check(search, Question(A, more=(up,)), vector(search, A) + 0.5 * row(search, "07.mp4", 3))
    moved = vector(search, A) + 0.5 * row(search, "07.mp4", 3) - 0.1 * row(search, "09.mp4", 0)
    check(search, Question(A, more=(up,), less=(down,)), moved, without=("09.mp4",))


def test_more_like_a_moment_leaves_it_out(search: VideoSearch) -> None:
    for seconds, frame in ((12.0, 11), (12.4, 11), (5.999, 5), (0.0, 0)):
        check(search, Question(like=Moment("copy 3.mp4", seconds)), row(search, "03.mp4", frame), without=("03.mp4",))
    check(search, Question(A, like=Moment("03.mp4", 5)), vector(search, A) + 0.3 * row(search, "03.mp4", 5), without=("03.mp4",))
    assert "03.mp4 is not listed" in (search.note_on(Question(like=Moment("03.mp4", 5))) or "")
    moments = search.search_moments(Question(like=Moment("03.mp4", 5.5)), k=400)
    assert not [hit for hit in moments if hit.video == "03.mp4" and hit.spans[0].start <= 5.5 <= hit.spans[0].end]


def test_a_picture_is_a_query(search: VideoSearch) -> None:
    picture = np.random.default_rng(5).integers(0, 255, (16, 24, 3), np.uint8)
    seen = search.encoder.encode_images([picture])[0]  # type: ignore[attr-defined]
    check(search, Question(image=picture), seen)
    check(search, Question(A, image=picture), vector(search, A) + 0.3 * unit(seen))
    first = search.search(Question(image=picture, then=(A,)), k=1)[0]
    assert [part.said for part in first.parts] == ["picture", A]


def test_parts_in_order(search: VideoSearch) -> None:
    question = Question(A, then=(B, C), without=("a cat on the mat",))
    cat = 0.5 * vector(search, "a cat on the mat")
    queries = [unit(vector(search, text) - cat) for text in (A, B, C)]
    expected = []
    for id, entry in fetched(search).items():
        found = best_in_order(np.array([[float(unit(r) @ query) for r in entry.fields[0]] for query in queries]))
        assert found is not None
        expected.append((-found.score, id, found.places))
    for k, offset in ((5, 0), (3, 4), (100, 0)):
        hits = search.search(question, k=k, offset=offset)
        wanted = sorted(expected)[offset : offset + k]
        assert [hit.video for hit in hits] == [id for _, id, _ in wanted]
        assert [hit.score for hit in hits] == pytest.approx([-score for score, _, _ in wanted], abs=1e-5)
        for hit, (_, _, places) in zip(hits, wanted, strict=True):
            assert [part.said for part in hit.parts] == [A, B, C]
            assert all(part.start <= place < part.end for part, place in zip(hit.parts, places, strict=True))
            assert (hit.start, hit.end) == (hit.parts[0].start, hit.parts[-1].end)
            assert hit.probability is None
    assert search.explain(question, hits[0].video) == replace(hits[0], near_identical=())
    json = hits[0].as_dict()
    assert json["parts"][1]["said"] == B


def test_pages_follow_one_another(search: VideoSearch) -> None:
    hits = search.search(A, k=9)
    assert [*search.search(A, k=4), *search.search(A, k=5, offset=4)] == hits
    moments = search.search_moments(A, k=200)
    expected = []
    for id, entry in fetched(search).items():
        curve, edges = relevance(search.index.model, search.encode(A), entry)
        assert edges is not None
        spans = find_spans(curve, edges, limit=12, frames=frame_rows(search.index.model, entry), another=BAR)
        expected += [(-span.score, id, span) for span in spans]
    assert [(hit.video, hit.spans) for hit in moments] == [(id, (span,)) for _, id, span in sorted(expected)]
    assert [*search.search_moments(A, k=3), *search.search_moments(A, k=4, offset=3)] == moments[:7]
    assert search.search_moments(A, k=200, min_score=moments[5].score) == moments[:6]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"without": ("a cat",)}, "there is nothing to look for: 'without' can only change a query"),
        ({"then": ("a cat",), "without": ("a dog",)}, "'then' and 'without'"),
        ({"text": A, "then": "a cat"}, "'then' takes a list of at most 10, not 'a cat'"),
        ({"text": A, "also": ("a",) * 11}, "'also' takes a list of at most 10"),
        ({"like": Moment("00.mp4", 1), "also": (A,)}, "there is no sentence"),
        ({"text": A, "then": (B,), "more": (Moment("00.mp4", 1),)}, "leave them out, or 'then'"),
        ({"like": Moment("0.mp4", 1)}, "the index holds no video '0.mp4'"),
        ({"like": Moment("00.mp4", 12.6)}, "'00.mp4' ends at 12.0 seconds, before 12.6"),
        ({"text": A, "less": (Moment("00.mp4", 99),)}, "ends at 12.0 seconds"),
        ({"text": A, "then": ("",)}, "the query is empty"),
        ({"text": A, "without": ("x" * 1001,)}, "1001 characters"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(search: VideoSearch, question: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said) as refused:
        search.search(Question(**question))
    assert "\n" not in str(refused.value)


def test_moments_and_new_scores_are_of_one_query(search: VideoSearch) -> None:
    with pytest.raises(SettingError, match="leave out 'then'"):
        search.search_moments(Question(A, then=(B,)))
    kept = VideoSearch(with_rescoring(search.checkpoint, Rescoring(4, 0.7)), search.index, search.encoder, videos=Path())
    with pytest.raises(SettingError, match="leave out 'rescore'"):
        kept.search(Question(A, also=(B,)), rescore=True)


def test_a_method_of_whole_videos_has_no_order_and_no_moments(search: VideoSearch) -> None:
    checkpoint = checkpoints.build("zero_shot", search.checkpoint.settings, search.checkpoint.sources)
    model: Any = checkpoint.model
    model.relevance = lambda query, video: torch.zeros(1)
    whole = VideoSearch(checkpoint, _with_model(search, model), search.encoder, videos=Path())
    for ask in (lambda: whole.search(Question(A, then=(B,))), lambda: whole.search_moments(A)):
        with pytest.raises(SettingError, match="compares a query with whole videos and has no scores of frames"):
            ask()


def _with_model(search: VideoSearch, model: Any) -> DiskIndex:
    assert isinstance(search.index, DiskIndex)
    return DiskIndex(search.index.path, model)


def test_a_model_without_vectors_takes_sentences_alone(search: VideoSearch) -> None:
    checkpoint = checkpoints.build("zero_shot", search.checkpoint.settings, search.checkpoint.sources)
    model: Any = checkpoint.model
    model.score_weights = None
    other = VideoSearch(checkpoint, _with_model(search, model), search.encoder, videos=Path())
    for question in (
        Question(A, without=(B,)),
        Question(like=Moment("00.mp4", 1)),
        Question(image=np.zeros((8, 8, 3), np.uint8)),
    ):
        with pytest.raises(SettingError, match="without pictures, moments, feedback and 'without'"):
            other.search(question)
    # The wordings' curves are averaged along each video.
    hits = other.search(Question(A, also=(B,)), k=3)
    scores = {
        id: max(float(unit(r) @ (vector(search, A) + vector(search, B)) / 2) for r in entry.fields[0])
        for id, entry in fetched(search).items()
    }
    assert [hit.video for hit in hits] == sorted(scores, key=lambda id: -scores[id])[:3]
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores.values())[::-1][:3], abs=1e-5)


def test_an_index_without_an_encoder_of_pictures(search: VideoSearch) -> None:
    sources = FeatureSources(replace(search.checkpoint.sources.frames, fingerprint="f" * 16), search.checkpoint.sources.text)
    other = VideoSearch(replace(search.checkpoint, sources=sources), search.index, search.encoder, videos=Path())
    with pytest.raises(SettingError, match="no encoder here makes 'tiny' of a picture"):
        other.search(Question(image=np.zeros((8, 8, 3), np.uint8)))


@pytest.mark.parametrize(
    "text", ["beach.mp4", "beach.mp4@", "@3", "beach.mp4@x", "beach.mp4@-1", "beach.mp4@nan", "beach.mp4@inf"]
)
def test_no_moment(text: str) -> None:
    with pytest.raises(SettingError, match="is not a moment; write VIDEO@SECONDS"):
        parse_moment(text)


def test_a_moment() -> None:
    assert parse_moment("trips/a@b.mp4@12.5") == Moment("trips/a@b.mp4", 12.5)
