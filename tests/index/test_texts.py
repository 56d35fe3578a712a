"""Timed texts in the file of an index: found by words, kept with their video, read on after an interruption, verified."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.errors import ModelError, SettingError, VideoError
from prvr.index.contract import Entry, Header
from prvr.index.disk import DiskIndex
from prvr.index.exact import ExactIndex
from prvr.index.place import FILE
from prvr.index.text_tables import CANDIDATES, MOST_OF_VIDEO
from prvr.index.texts import require_texts
from prvr.index.words import terms_of, words_of
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig

MODEL = ZeroShot(ZeroShotConfig(), frame_columns=4, word_columns=4).eval()


def entry(id: str, seed: int = 0) -> Entry:
    rows = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    return Entry(id, (rows,), (3,), (0.0, 1.0, 2.0, 3.0), {"seed": seed})


@pytest.fixture
def index(tmp_path: Path) -> DiskIndex:
    index = DiskIndex.make(tmp_path, MODEL, Header("model", "float16", "videos"))
    index.add([entry("a", 1), entry("b", 2), entry("c", 3)])
    return index


def say(index: DiskIndex, video: str, *texts: str, kind: str = "speech", made_of: str = "one") -> None:
    timed = tuple(TimedText(float(n), n + 1.0, text, kind, 0.9, "en") for n, text in enumerate(texts))
    index.texts.extend(video, kind, TextsPart(float(len(texts)), timed), made_of=made_of, is_complete=True)


def said(index: DiskIndex, video: str) -> list[str]:
    return [text.text for text in index.texts.read(video)]


def found(index: DiskIndex, query: str, *kinds: str, videos: list[str] | None = None) -> list[tuple[str, str]]:
    texts = index.texts.find(terms_of(query), kinds=kinds or ("speech",), videos=videos).texts
    return [(one.video, one.text.text) for one in texts]


def test_words_are_folded() -> None:
    assert words_of("L'Été, ÇA va? snow_ball ½ ﬁre") == ["l", "ete", "ca", "va", "snow", "ball", "1", "2", "fire"]
    assert words_of("STRASSE") == words_of("Straße") == ["strasse"]
    assert words_of("滑板 dog") == ["滑", "板", "dog"]


def test_marks_that_are_letters_stay_and_accents_do_not() -> None:
    assert words_of("हिन्दी में गाना") == ["हिन्दी", "में", "गाना"]
    assert words_of("தமிழ்") == ["தமிழ்"]
    # Thai is written without spaces: a letter with its vowel and tone is a word.
    assert words_of("กิน") == ["กิ", "น"] != words_of("กัน")
    assert words_of("ガ") != words_of("カ")
    assert words_of("ё Ά ǖ") == ["е", "α", "u"]
    assert words_of("שָׁלוֹם مَرْحَبًا") == words_of("שלום مرحبا")
    assert words_of("❤️ love") == ["love"]


def test_words_of_marks_are_found_and_counted(index: DiskIndex) -> None:
    say(index, "a", "मैं हिन्दी बोलता हूँ", "ฉันกินข้าว")
    say(index, "b", "हद", "กันชน")
    assert found(index, "हिन्दी") == [("a", "मैं हिन्दी बोलता हूँ")]
    assert index.texts.find(terms_of("हिन्दी हद"), kinds=("speech",)).videos_with_term == [1, 1]
    assert found(index, "กินข้าว") == [("a", "ฉันกินข้าว")]
    assert found(index, "กัน") == [("b", "กันชน")]
    assert found(index, "हि*") == [("a", "मैं हिन्दी बोलता हूँ")]
    assert index.verify() == {}


def test_terms_of_a_query() -> None:
    shown = [(term.words, term.is_prefix, term.is_required) for term in terms_of('"On a  Skateboard" dogs fa* dogs 滑板 “x” ""')]
    assert shown == [
        (("on", "a", "skateboard"), False, True),
        (("x",), False, True),
        (("dogs",), False, False),
        (("fa",), True, False),
        (("滑", "板"), False, False),
    ]


@pytest.mark.parametrize(
    "query", ['"', "*", "( OR )", "NEAR(a b)", "a AND NOT b", "video:x", "^a", "x'; DROP TABLE texts; --", "\x00"]
)
def test_signs_of_the_language_of_fts_are_no_signs(index: DiskIndex, query: str) -> None:
    say(index, "a", "nothing of this")
    assert found(index, query) == []


def test_texts_are_found_by_words_accents_prefixes_phrases_and_scripts(index: DiskIndex) -> None:
    say(index, "a", "The Café is open", "a dog on a skateboard")
    say(index, "b", "on the board a skate", "一只狗在玩滑板")
    assert found(index, "cafe") == [("a", "The Café is open")]
    assert found(index, "CAFÉ") == [("a", "The Café is open")]
    assert found(index, "skateb*") == [("a", "a dog on a skateboard")]
    assert found(index, "kate*") == []
    assert found(index, '"on a skateboard"') == [("a", "a dog on a skateboard")]
    assert {video for video, _ in found(index, "on a skate board")} == {"a", "b"}
    assert found(index, '"a skateboard" board open') == [("a", "a dog on a skateboard")]
    assert found(index, "滑板") == [("b", "一只狗在玩滑板")]
    assert found(index, "板滑") == []


def test_the_rare_word_is_first_and_each_term_is_counted_by_videos(index: DiskIndex) -> None:
    say(index, "a", "the dog", "the cat", "the dog again")
    say(index, "b", "the dog")
    say(index, "c", "the skateboard")
    texts = index.texts.find(terms_of("the dog skateboard"), kinds=("speech",))
    assert texts.texts[0][:2] == ("c", index.texts.read("c")[0])
    assert texts.texts[0].terms == {0, 2}
    assert texts.videos_with_term == [3, 2, 1]


def test_only_texts_of_the_kinds_and_videos_are_found(index: DiskIndex) -> None:
    say(index, "a", "a dog", kind="subtitle")
    say(index, "a", "a dog on a sign", kind="screen")
    say(index, "b", "a dog", kind="speech")
    assert {video for video, _ in found(index, "dog", "subtitle", "speech")} == {"a", "b"}
    assert found(index, "dog", "screen") == [("a", "a dog on a sign")]
    assert found(index, "dog", "subtitle", "speech", videos=["b", "unknown"]) == [("b", "a dog")]
    # A word is as rare in one video as in all.
    assert index.texts.find(terms_of("dog"), kinds=("subtitle", "speech"), videos=["b"]).videos_with_term == [2]
    assert index.texts.count() == {"subtitle": 1, "screen": 1, "speech": 1}


def test_a_film_that_repeats_a_word_leaves_room_for_others(index: DiskIndex) -> None:
    say(index, "a", *["dog"] * (CANDIDATES + 5))
    say(index, "b", "this is a longer text with a dog")
    videos = [video for video, _ in found(index, "dog")]
    assert (videos.count("a"), videos.count("b")) == (MOST_OF_VIDEO, 1)


def test_texts_of_a_part_of_a_video(index: DiskIndex) -> None:
    say(index, "a", "zero", "one", "two", "three")
    assert [text.text for text in index.texts.read("a", start=1.0, end=2.0)] == ["one", "two"]
    assert [text.text for text in index.texts.read("a", start=2.5)] == ["three"]
    # A damaged time is damage, and not left out.
    with index._database.writing():
        index._database._connection.execute("UPDATE texts SET start = 'x' WHERE text = 'one'")
    assert "damaged" in index.verify()["a"]


def test_parts_are_added_and_texts_of_something_else_are_replaced(index: DiskIndex) -> None:
    first, second = (
        TextsPart(n + 1.0, (TimedText(float(n), n + 1.0, f"second {n}", "speech"),), (f"problem {n}",)) for n in (0, 1)
    )
    index.texts.extend("a", "speech", first, made_of="one", is_complete=False)
    assert not index.texts.sources()["a"]["speech"].is_complete
    index.texts.extend("a", "speech", second, made_of="one", is_complete=True)
    source = index.texts.sources()["a"]["speech"]
    assert (source.seconds, source.is_complete, source.problems) == (2.0, True, ("problem 0", "problem 1"))
    assert said(index, "a") == ["second 0", "second 1"]
    index.texts.extend("a", "speech", second, made_of="another", is_complete=True)
    assert said(index, "a") == ["second 1"]
    assert index.texts.sources()["a"]["speech"].problems == ("problem 1",)
    assert found(index, "0") == []


def test_a_later_part_without_those_before_is_not_written(index: DiskIndex) -> None:
    part = TextsPart(2.0, (TimedText(1.0, 2.0, "second 1", "speech"),))
    say(index, "a", "second 0", made_of="another")
    for video in "ab":
        with pytest.raises(VideoError, match="its texts were removed while it was read; run again"):
            index.texts.extend(video, "speech", part, made_of="one", is_complete=True, after=1.0)
    assert (said(index, "a"), said(index, "b"), index.texts.sources().keys()) == (["second 0"], [], {"a"})


def test_a_deleted_or_replaced_video_has_no_texts_and_no_words(index: DiskIndex, tmp_path: Path) -> None:
    for video in "abc":
        say(index, video, f"dog {video}")
    index.delete(["a"])
    index.add([entry("b", 9)])
    assert [said(index, video) for video in "abc"] == [[], [], ["dog c"]]
    assert found(index, "dog") == [("c", "dog c")]
    assert index.texts.sources().keys() == {"c"}
    with sqlite3.connect(tmp_path / FILE) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("texts", "texts_words")]
    assert counts == [1, 1]


def test_texts_go_with_their_video_to_another_name(index: DiskIndex) -> None:
    for video in "abc":
        say(index, video, f"dog {video}")
    index.rearrange({"a": ("b", {}), "b": ("a", {}), "unknown": ("x", {})}, ["c"])
    assert (said(index, "a"), said(index, "b"), said(index, "c")) == (["dog b"], ["dog a"], [])
    assert sorted(found(index, "dog")) == [("a", "dog b"), ("b", "dog a")]
    assert index.verify() == {}


def test_a_video_that_takes_the_name_of_a_deleted_one(index: DiskIndex) -> None:
    say(index, "a", "dog a")
    say(index, "b", "dog b")
    index.rearrange({"a": ("b", {})}, ["b"])
    assert found(index, "dog") == [("b", "dog a")]


def test_texts_of_a_video_that_is_not_there_are_not_kept(index: DiskIndex) -> None:
    say(index, "unknown", "a dog")
    assert said(index, "unknown") == []
    assert index.texts.count() == {}


def test_an_index_without_texts_has_no_tables_of_them(index: DiskIndex, tmp_path: Path) -> None:
    assert (said(index, "a"), found(index, "dog"), index.texts.sources(), index.texts.count()) == ([], [], {}, {})
    assert index.texts.readers() == {}
    index.texts.keep_readers({})
    index.delete(["a"])
    assert index.verify() == {}
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name LIKE 'text%'").fetchall()


def test_a_kind_that_is_not_read_any_more_is_removed(index: DiskIndex) -> None:
    say(index, "a", "a dog", kind="speech")
    say(index, "a", "a sign", kind="screen")
    index.texts.keep_readers({"speech": "tiny.en", "screen": None})
    assert index.texts.readers() == {"speech": "tiny.en", "screen": None}
    assert said(index, "a") == ["a dog"]
    assert index.texts.sources()["a"].keys() == {"speech"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE texts SET text = 'a cat' WHERE video = 1",
        "UPDATE texts SET start = 7 WHERE video = 1",
        "UPDATE texts SET start = 'x' WHERE video = 1",
        "UPDATE texts SET text = x'ff' WHERE video = 1",
        "UPDATE texts SET crc32 = 'x' WHERE video = 1",
        "DELETE FROM texts_words WHERE rowid = 1",
        "UPDATE texts_words SET words = 'cat' WHERE rowid = 1",
    ],
)
def test_damage_is_found_and_said_of_the_video(index: DiskIndex, tmp_path: Path, statement: str) -> None:
    say(index, "a", "a dog")
    say(index, "b", "a dog")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(statement)
    faults = index.verify()
    assert faults.keys() == {"a"}
    assert "prvr index verify INDEX --drop" in faults["a"]


def test_words_of_an_older_rule_are_no_fault_and_are_folded_again(index: DiskIndex, tmp_path: Path) -> None:
    say(index, "a", "ガラス")
    say(index, "b", "मैं हिन्दी")
    index.texts.keep_readers({"speech": "tiny"})
    index.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        for statement in (
            "DROP TABLE texts_words",
            "DROP TABLE IF EXISTS words_rule",
            "CREATE VIRTUAL TABLE texts_words USING fts5(words, prefix = '2 3', tokenize = 'unicode61 remove_diacritics 2')",
            "INSERT INTO texts_words (rowid, words) VALUES (1, 'カ ラ ス'), (2, 'म हनद')",
        ):
            connection.execute(statement)
    index = DiskIndex(tmp_path, MODEL)
    assert (index.verify(), found(index, "हिन्दी")) == ({}, [])
    index.texts.keep_readers({"speech": "tiny"})
    assert (found(index, "हिन्दी"), found(index, "ガラス")) == ([("b", "मैं हिन्दी")], [("a", "ガラス")])
    assert index.verify() == {}
    index.close()


def test_a_damaged_text_is_not_shown(index: DiskIndex, tmp_path: Path) -> None:
    say(index, "a", "a dog")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE texts SET text = 'a dog and a cat'")
    for read in (lambda: said(index, "a"), lambda: found(index, "dog")):
        with pytest.raises(ModelError, match="texts are damaged"):
            read()


def test_texts_are_seen_by_another_connection_at_once(index: DiskIndex, tmp_path: Path) -> None:
    reader = DiskIndex(tmp_path, MODEL)
    assert found(reader, "dog") == []
    say(index, "a", "a dog")
    assert found(reader, "dog") == [("a", "a dog")]
    reader.close()


def test_an_index_that_holds_no_texts_is_named() -> None:
    with pytest.raises(SettingError, match="ExactIndex holds no timed texts, which a search in speech needs; copy the index"):
        require_texts(ExactIndex(MODEL), "a search in speech")
