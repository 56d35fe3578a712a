"""Texts found by meaning: their windows, their embeddings in the file of an index, and what is done again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.errors import ModelError
from prvr.index import text_embeddings
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.index.place import FILE
from prvr.index.reference import unrelated_sentences
from prvr.index.scan import products_by_numpy
from prvr.index.text_windows import embedded_by, windows_of
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.search import text_embedding
from prvr.search.copying import _copy_embeddings
from prvr.search.text_embedding import embed_texts
from prvr.search.text_matches import NEIGHBOUR, MeaningMatcher, TextMatch

MODEL = ZeroShot(ZeroShotConfig(), frame_columns=4, word_columns=4).eval()
COLUMNS = 24


class Topics:
    """An encoder of sentences: all of one topic, which their last word names, are near each other."""

    name, source, sentence_columns = "topics", "topics", COLUMNS

    def __init__(self, fingerprint: str = "1") -> None:
        self.fingerprint = fingerprint
        self.encoded: list[str] = []

    def encode_sentences(self, texts: list[str]) -> np.ndarray:
        self.encoded += texts
        return np.stack([_row(text.split()[-1]) + 0.2 * _row(text) for text in texts])


def _row(text: str) -> np.ndarray:
    row = np.random.default_rng([*text.encode()]).normal(size=COLUMNS)
    return 3 * row / np.linalg.norm(row)


def line(start: float, end: float, text: str, kind: str = "speech", language: str = "en") -> TimedText:
    return TimedText(start, end, text, kind, 0.9, language)


def test_lines_are_joined_up_to_the_end_of_a_sentence() -> None:
    lines = [line(0, 2, "The helicopter lands"), line(2, 4, "on the roof."), line(4, 6, "Who flies it?"), line(6, 9, "She does.")]
    assert [(one.start, one.end, one.text) for one in windows_of(lines)] == [
        (0, 4, "The helicopter lands on the roof."),
        # "Who flies it?" alone is shorter than three seconds.
        (4, 9, "Who flies it? She does."),
    ]


def test_a_long_sentence_is_in_windows_that_overlap_and_a_pause_ends_one() -> None:
    lines = [line(2 * n, 2 * n + 2, f"word{n}") for n in range(6)] + [line(20, 21, "later")]
    windows = [(one.start, one.end, one.text) for one in windows_of(lines)]
    assert windows == [(0, 8, "word0 word1 word2 word3"), (4, 12, "word2 word3 word4 word5"), (20, 21, "later")]


def test_languages_and_kinds_have_windows_of_their_own_and_a_long_line_is_one() -> None:
    lines = [line(0, 2, "a dog"), line(0, 2, "ein Hund", language="de"), line(1, 3, "DOG", "screen"), line(2, 30, "long")]
    assert {(one.kind, one.text) for one in windows_of(lines)} == {
        ("speech", "a dog"),
        ("speech", "ein Hund"),
        ("screen", "DOG"),
        ("speech", "long"),
    }
    assert windows_of([]) == []


@pytest.fixture
def index(tmp_path: Path) -> Iterator[DiskIndex]:
    index = DiskIndex.make(tmp_path, MODEL, Header("model", "float16", "videos"))
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    index.add([Entry(id, (rows,), (3,), (0.0, 1.0, 2.0, 3.0), {}) for id in "abc"])
    yield index
    index.close()


def say(index: DiskIndex, video: str, *texts: str, kind: str = "speech", made_of: str = "one") -> None:
    timed = tuple(line(10.0 * n, 10.0 * n + 1, text, kind) for n, text in enumerate(texts))
    index.texts.extend(video, kind, TextsPart(10.0 * len(texts), timed), made_of=made_of, is_complete=True)


def matches(index: DiskIndex, query: str, videos: list[str] | None = None, sense: str = "speech") -> list[TextMatch]:
    encoder = Topics()
    matcher = MeaningMatcher(
        index.texts, lambda text: _unit(encoder.encode_sentences([text])[0]), embedded_by(encoder.fingerprint)
    )
    return matcher.match(query, sense, videos=videos)


def _unit(row: np.ndarray) -> np.ndarray:
    return (row / np.linalg.norm(row)).astype(np.float32)


def count_rows(folder: Path, table: str) -> int:
    with sqlite3.connect(folder / FILE) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_other_words_are_found_and_quoted(index: DiskIndex) -> None:
    say(index, "a", "about cooking", "the pilot lands a helicopter")
    say(index, "b", "a painting")
    encoder = Topics()
    embed_texts(index.texts, encoder)
    (match,) = matches(index, "an aircraft, that is a helicopter")
    assert (match.video, [quote.text for quote in match.quotes]) == ("a", ["the pilot lands a helicopter"])
    assert (match.span.start, match.span.end, match.is_by_meaning, match.shows_quotes) == (10.0, 11.0, True, True)
    # The cosine, and that beyond the eighth nearest of videos and unrelated sentences, from a loop.
    embed = {text: _unit(encoder.encode_sentences([text])[0]) for text in [*unrelated_sentences(), *said(index)]}
    query = _unit(encoder.encode_sentences(["an aircraft, that is a helicopter"])[0])
    best = [max(float(embed[text] @ query) for text in said(index, video)) for video in "ab"]
    usual = sorted([*best, *(float(embed[text] @ query) for text in unrelated_sentences())])[-NEIGHBOUR]
    assert match.score == pytest.approx(best[0], abs=0.01)
    assert match.strength == pytest.approx((best[0] - usual) ** 2, abs=0.02)


def said(index: DiskIndex, videos: str = "ab") -> list[str]:
    return [text.text for video in videos for text in index.texts.read(video)]


def test_what_nobody_speaks_of_is_not_found(index: DiskIndex) -> None:
    say(index, "a", "about cooking")
    assert matches(index, "something else") == []
    embed_texts(index.texts, Topics())
    assert all(match.strength < 0.05 for match in matches(index, "volcano"))
    # By another encoder than the one of the embeddings, nothing is.
    index.texts.keep_background(index.texts.background()._replace(made_by="2"))  # type: ignore[union-attr]
    assert matches(index, "more cooking") == []


def test_only_videos_and_senses_that_are_asked_for(index: DiskIndex) -> None:
    for video in "ab":
        say(index, video, "about cooking")
    say(index, "c", "signs of cooking", kind="screen")
    embed_texts(index.texts, Topics())
    assert {match.video for match in matches(index, "more cooking")} == {"a", "b"}
    assert [match.video for match in matches(index, "more cooking", videos=["b", "c", "unknown"])] == ["b"]
    assert [match.video for match in matches(index, "more cooking", sense="screen")] == ["c"]


def test_only_what_changed_is_embedded_again(index: DiskIndex, tmp_path: Path) -> None:
    say(index, "a", "about cooking", "about dancing")
    say(index, "b", "about cooking")
    encoder = Topics()
    embed_texts(index.texts, encoder)
    assert len(encoder.encoded) == len(unrelated_sentences()) + 3
    embed_texts(index.texts, encoder)
    assert len(encoder.encoded) == len(unrelated_sentences()) + 3
    # The rest of a film is read later.
    index.texts.extend("a", "speech", TextsPart(40.0, (line(30.0, 31.0, "x y"),)), made_of="one", is_complete=True)
    say(index, "b", "about painting", made_of="two")
    embed_texts(index.texts, encoder)
    assert encoder.encoded[-2:] == ["x y", "about painting"]
    assert len(encoder.encoded) == len(unrelated_sentences()) + 5
    assert count_rows(tmp_path, "text_embeddings") == 4
    # Another encoder embeds all again.
    other = Topics("2")
    embed_texts(index.texts, other)
    assert len(other.encoded) == len(unrelated_sentences()) + 4
    assert count_rows(tmp_path, "text_embeddings") == 4


def test_a_kill_costs_one_batch(index: DiskIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_embedding, "BATCH", 2)
    say(index, "a", *(f"text number{n}" for n in range(7)))
    encoder = Topics()
    embed_texts(index.texts, encoder)
    before, again = len(encoder.encoded), Topics("2")
    keep, kept = index.texts.keep_embeddings, []

    def killed(*args: object, **settings: object) -> None:
        if len(kept) == 2:
            raise KeyboardInterrupt
        kept.append(args)
        keep(*args, **settings)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(index.texts, "keep_embeddings", killed)
        with pytest.raises(KeyboardInterrupt):
            embed_texts(index.texts, again)
    embed_texts(index.texts, again)
    # Six of seven were embedded before the kill, four kept: three again.
    assert len(again.encoded) == before + 2
    assert index.texts.videos_to_embed(embedded_by("2")) == []
    assert len(index.texts.embeddings("a")) == 7


def test_embeddings_go_with_their_video(index: DiskIndex, tmp_path: Path) -> None:
    for video in "abc":
        say(index, video, "about cooking")
    embed_texts(index.texts, Topics())
    index.rearrange({"a": ("renamed", {})}, ["b"])
    assert {match.video for match in matches(index, "more cooking")} == {"renamed", "c"}
    index.texts.keep_readers({"speech": None})
    assert matches(index, "more cooking") == []
    assert [count_rows(tmp_path, table) for table in ("text_embeddings", "text_embedded")] == [0, 0]


def test_damage_is_found(index: DiskIndex, tmp_path: Path) -> None:
    say(index, "a", "about cooking")
    embed_texts(index.texts, Topics())
    assert index.verify() == {}
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE text_embeddings SET scale = 2 * scale")
    connection.close()
    assert index.verify().keys() == {"a"}
    assert "the embeddings of its texts are damaged; remove damaged videos with: prvr index verify" in index.verify()["a"]
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE text_embeddings SET codes = x'00'")
        connection.execute("UPDATE text_background SET rows = x'00'")
    connection.close()
    # Unreadable rows of unrelated sentences are made again.
    assert matches(index, "more cooking") == []
    embed_texts(index.texts, Topics())
    with pytest.raises(ModelError, match="are damaged"):
        matches(index, "more cooking")


def test_a_damaged_embedding_is_said_at_each_query_and_found_once_repaired(index: DiskIndex, tmp_path: Path) -> None:
    say(index, "a", "about cooking")
    embed_texts(index.texts, Topics())
    assert matches(index, "more cooking")
    say(index, "b", "some cooking")
    embed_texts(index.texts, Topics())
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE text_embeddings SET start = scale, scale = 'x' WHERE video = 2")
    connection.close()
    for _ in range(2):
        with pytest.raises(ModelError, match="are damaged"):
            matches(index, "more cooking")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE text_embeddings SET scale = start, start = 0.0 WHERE video = 2")
    connection.close()
    assert {match.video for match in matches(index, "more cooking")} == {"a", "b"}


def test_embeddings_are_compared_in_blocks(index: DiskIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    for video in "abc":
        say(index, video, "about cooking", f"number {video}")
    embed_texts(index.texts, Topics())
    whole, sizes = matches(index, "more cooking"), []

    def products(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return products_by_numpy(rows, vectors)

    monkeypatch.setattr(text_embeddings, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(text_embeddings, "kernel", lambda: products)
    assert matches(index, "more cooking") == whole != []
    assert sizes == [4, 2]


def test_a_video_that_fails_is_named_and_the_others_are_embedded(index: DiskIndex) -> None:
    class Fails(Topics):
        def encode_sentences(self, texts: list[str]) -> np.ndarray:
            if "too long" in texts:
                raise ModelError("no memory")
            return super().encode_sentences(texts)

    say(index, "a", "too long")
    say(index, "b", "about cooking")
    assert embed_texts(index.texts, Fails()) == {"a": "no memory"}
    assert index.texts.videos_to_embed(embedded_by("1")) == ["a"]
    assert [match.video for match in matches(index, "more cooking")] == ["b"]


def test_an_encoder_without_embeddings_of_sentences_is_remembered(index: DiskIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    say(index, "a", "about cooking")
    monkeypatch.setattr(text_embedding, "sentence_embedder", lambda encoder: None)
    assert embed_texts(index.texts, Topics()) == {}
    noted = index.texts.background()
    assert (noted.made_by, noted.rows.shape) == (embedded_by("1"), (0, 0))  # type: ignore[union-attr]
    assert matches(index, "more cooking") == []
    assert index.verify() == {}


def test_a_copy_lists_what_is_to_be_embedded_once(index: DiskIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = DiskIndex.make(tmp_path / "copy", MODEL, Header("model", "float16", "videos"))
    there.add([*index.fetch("abc").values()])
    for video in "abc":
        say(index, video, "about cooking")
        say(there, video, "about cooking")
    embed_texts(index.texts, Topics())
    to_embed, calls = there.texts.videos_to_embed, []
    monkeypatch.setattr(there.texts, "videos_to_embed", lambda made_by: calls.append(made_by) or to_embed(made_by))
    for _ in range(2):
        _copy_embeddings(index.texts, there.texts, ids=["a", "b", "c"])
    assert len(calls) == 2
    assert to_embed(embedded_by("1")) == []
    assert [there.texts.embeddings(video) for video in "abc"] == [index.texts.embeddings(video) for video in "abc"]
    there.close()
