"""Search in what is said and written, alone and beside the picture; and what `prvr index` reads of a folder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Prvr
from qdrant_server import url_for
from texts import srt, write_sound, write_with_subtitles
from tiny_encoders import make_textual, make_visual
from tiny_videos import SECONDS, plain, write_video

from prvr.datasets import Caption
from prvr.encoders.timed_texts import TextsPart, TimedText
from prvr.errors import DataError, SettingError
from prvr.index.codes import rotation
from prvr.index.exact import ExactIndex
from prvr.index.text_embeddings import TextBackground, TextEmbedding
from prvr.index.text_tables import FoundText, FoundTexts
from prvr.index.text_windows import embedded_by
from prvr.methods.calibration import Calibration
from prvr.search import copy_index, index_folder, open_index, zero_shot
from prvr.search.asking import VideoSearch
from prvr.search.hits import Hit
from prvr.search.question import Question
from prvr.search.senses import Example, FusionWeights, Senses
from prvr.search.text_matches import WINDOW, MeaningMatcher, TextMatch, match_words
from prvr.search.update import Indexer
from prvr.search.weighing import fit_weights


class Fixed:
    """A store that finds what it is given."""

    def __init__(self, texts: list[tuple[str, float, str, set[int]]], counts: list[int]) -> None:
        found = [
            FoundText(video, TimedText(start, start + 1, text, "speech"), frozenset(terms)) for video, start, text, terms in texts
        ]
        self._found = FoundTexts(found, counts)

    def find(self, terms: object, *, kinds: object, videos: object = None) -> FoundTexts:
        return self._found


def weight(count: int, of: int) -> float:
    return math.log(1 + (of - count + 0.5) / (count + 0.5))


def test_the_share_is_of_the_weight_of_what_is_said_together() -> None:
    near, far = WINDOW, WINDOW + 0.1
    texts = [("a", 0.0, "dog", {0}), ("a", near, "skateboard", {1}), ("b", 0.0, "dog", {0}), ("b", far, "skateboard", {1})]
    said = match_words(Fixed(texts, [2, 2, 0]), "dog skateboard moon", "speech", of=10)
    all_weights = 2 * weight(2, 10) + weight(0, 10)
    assert [(one.video, round(one.score, 9)) for one in said] == [
        ("a", round(2 * weight(2, 10) / all_weights, 9)),
        ("b", round(weight(2, 10) / all_weights, 9)),
    ]
    assert [quote.text for quote in said[0].quotes] == ["dog", "skateboard"]
    assert said[0].span[:2] == (0.0, near + 1)


def test_quotes_are_the_fewest_that_say_the_words() -> None:
    texts = [("a", 0.0, "a dog", {0, 1}), ("a", 1.0, "a", {0}), ("a", 2.0, "a dog too", {0, 1}), ("a", 3.0, "skate", {2})]
    (said,) = match_words(Fixed(texts, [5, 2, 1]), "a dog skate", "speech", of=10)
    assert [quote.text for quote in said.quotes] == ["a dog", "skate"]


WORDS = {
    "red.mp4": [(0.2, 0.9, "welcome to the café"), (1.1, 1.8, "the helicopter lands on the roof")],
    "green.mp4": [(0.2, 0.9, "welcome back to the show")],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("senses")
    (root / "videos").mkdir()
    for colour in SECONDS:
        write_video(root / "videos" / f"{colour}.mp4", [(100 * n, plain(colour)) for n in range(20)])
    for video, cues in WORDS.items():
        (root / "videos" / video).with_suffix(".en.srt").write_text(srt(*cues))
    lines = [json.dumps({"video": f"{colour}.mp4", "colour": colour}) for colour in SECONDS]
    (root / "videos" / "videos.jsonl").write_text("\n".join(lines))
    encoder = make_textual(make_visual(root / "tiny", size=[8, 12]))
    index_folder(root / "videos", root / "gallery", zero_shot(encoder, rate=2.0))
    return root


@pytest.fixture(scope="module")
def search(folder: Path) -> Iterator[VideoSearch]:
    opened = open_index(folder / "gallery")
    yield opened
    opened.index.close()


def test_subtitles_are_read_with_the_folder(search: VideoSearch) -> None:
    for video, cues in WORDS.items():
        assert [(one.start, one.end, one.text) for one in search.index.texts.read(video)] == cues
    assert search.index.texts.count() == {"subtitle": 2}


def test_speech_alone_finds_the_video_that_says_it_and_quotes_it(search: VideoSearch) -> None:
    (hit,) = search.search("a helicopter lands", sense="speech")
    assert (hit.video, hit.found_by, hit.start, hit.end) == ("red.mp4", ("speech",), 1.1, 1.8)
    assert [quote.text for quote in hit.quotes] == ["the helicopter lands on the roof"]
    # "a" is said nowhere.
    assert 0 < hit.score < 1
    assert len(hit.curve) > 0
    assert search.search("helicopter", sense="speech")[0].score == 1.0
    assert search.search("helicopter", sense="speech", min_score=0.9)
    assert search.search("a helicopter lands", sense="speech", min_score=0.9) == []
    assert search.search("helicopter", sense="screen") == []
    assert search.search("submarine", sense="speech") == []


def test_pages_and_conditions_of_speech(search: VideoSearch) -> None:
    both = search.search("welcome", sense="speech")
    assert [hit.video for hit in both] == ["green.mp4", "red.mp4"]
    assert search.search("welcome", sense="speech", k=1, offset=1) == both[1:]
    assert [hit.video for hit in search.search("welcome", sense="speech", where=["colour=red"])] == ["red.mp4"]


def test_what_is_said_comes_first_among_pictures_that_say_nothing(search: VideoSearch) -> None:
    pictures = search.search("the helicopter lands on the roof", sense="picture")
    hits = search.search("the helicopter lands on the roof")
    assert hits[0].video == "red.mp4"
    assert hits[0].found_by[0] == "speech"
    assert hits[0].start == 1.1
    assert hits[0].quotes
    assert {hit.video for hit in hits} == {hit.video for hit in pictures}
    # Others keep the scores of their pictures.
    seen = {hit.video: hit.score for hit in pictures}
    silent = [hit for hit in hits if hit.video not in WORDS]
    assert silent
    assert all(hit.score == seen[hit.video] for hit in silent)
    # "the" is said in green.mp4, too, and names nothing.
    assert all((hit.found_by, hit.quotes) == (("picture",), ()) for hit in hits[1:])
    green = search.explain("the helicopter lands on the roof", "green.mp4")
    assert green is not None
    assert green.quotes == ()
    assert all(hit.score > seen[hit.video] for hit in hits if hit.quotes)


def test_a_question_about_which_nothing_is_said_is_answered_by_the_picture(search: VideoSearch) -> None:
    assert search.search("purple submarine") == search.search("purple submarine", sense="picture")


def test_a_video_beyond_the_best_pictures_is_found_by_its_words(search: VideoSearch) -> None:
    query = "the helicopter lands on the roof"
    assert search.search(query, k=1)[0].video == "red.mp4"
    assert search.search(query, k=1, offset=1) == search.search(query, k=2)[1:]
    assert search.search(query, where=["colour=blue"])[0].video == "blue.mp4"


def test_the_best_by_both_are_found_exactly(search: VideoSearch) -> None:
    query, random = search.encode("a thing"), np.random.default_rng(0)
    pictures = search.index.search(query, 9)[0]
    quote = (TimedText(0.0, 1.0, "x", "speech"),)
    for _ in range(50):
        said = {one.video: TextMatch(one.video, "speech", 1.0, random.uniform(0.1, 1), quote) for one in pictures[1:]}
        every = search.senses.fuse(query, pictures, said, len(pictures))
        assert sorted(every, key=lambda one: -one.score) == every
        for count in range(1, len(pictures)):
            best = search.senses.fuse(query, pictures[:count], said, count)
            assert [one.video for one in best] == [one.video for one in every[:count]]
        seen = {one.video: one.score for one in search.senses.seen(query, every, said)}
        assert seen == pytest.approx({one.video: one.score for one in pictures})


def test_the_probability_and_the_strength_are_those_of_the_picture(search: VideoSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = Calibration(intercept=0.0, per_score=3.0, per_margin=2.0, per_size=0.0)
    monkeypatch.setattr(search, "calibration", lambda **_: calibration)
    query = "the helicopter lands on the roof"
    pictures = {hit.video: hit.probability for hit in search.search(query, sense="picture")}
    assert {hit.video: hit.probability for hit in search.search(query)} == pytest.approx(pictures, rel=1e-4)
    assert Hit("a", 1.0, strength=0.1).weak
    assert Hit("a", 1.0, strength=0.1, found_by=("picture",)).weak
    assert not Hit("a", 1.0, strength=0.1, found_by=("speech", "picture")).weak


def test_the_margin_of_a_probability_is_that_of_pictures(search: VideoSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = Calibration(intercept=0.0, per_score=3.0, per_margin=2.0, per_size=0.0)
    monkeypatch.setattr(search, "calibration", lambda **_: calibration)
    query = "the helicopter lands on the roof"
    # The best picture is none of the two best hits.
    order = [hit.video for hit in search.search(query, sense="picture")]
    quote = (TimedText(0.0, 1.0, "x", "speech"),)
    said = {video: TextMatch(video, "speech", 1.0, 50.0 - place, quote) for place, video in enumerate(order[-2:])}
    monkeypatch.setattr(search.senses, "best_matches", lambda *_, **__: said)
    all_hits = {hit.video: hit.probability for hit in search.search(query)}
    few = search.search(query, k=2)
    assert [hit.video for hit in few] == order[-2:]
    assert {hit.video: hit.probability for hit in few} == pytest.approx({video: all_hits[video] for video in order[-2:]})


def test_options_of_the_picture_are_refused_for_speech(search: VideoSearch) -> None:
    with pytest.raises(SettingError, match="'approximate' and 'rescore' are of pictures; leave them out"):
        search.search("helicopter", sense="speech", approximate=True)


def test_where_in_one_video_it_is_said(search: VideoSearch) -> None:
    found = search.explain("the helicopter lands", "red.mp4")
    assert found is not None
    assert [quote.text for quote in found.quotes] == ["the helicopter lands on the roof"]
    silent = search.explain("the helicopter lands", "blue.mp4")
    assert silent is not None
    assert silent.quotes == ()


@pytest.mark.parametrize(
    ("question", "sense", "problem"),
    [
        ("a dog", "smell", "nothing is searched in 'smell'; known: any, picture, screen, speech"),
        (Question("a dog", then=("a cat",)), "speech", "one sentence is looked for in speech"),
        (Question("a dog", without=("a cat",)), "screen", "one sentence is looked for in screen"),
    ],
)
def test_refusals(search: VideoSearch, question: str | Question, sense: str, problem: str) -> None:
    with pytest.raises(SettingError, match=problem):
        search.search(question, sense=sense)


def test_a_question_of_more_than_a_sentence_is_one_about_the_picture(search: VideoSearch) -> None:
    asked = Question("the helicopter lands on the roof", without=("a cat",))
    assert search.search(asked) == search.search(asked, sense="picture")


def test_worth_grows_with_share_and_evidence() -> None:
    (half,) = match_words(Fixed([("a", 0.0, "dog", {0})], [1, 1]), "dog cat", "speech", of=10)
    (whole,) = match_words(Fixed([("a", 0.0, "dog cat", {0, 1})], [1, 1]), "dog cat", "speech", of=10)
    assert 0 < FusionWeights().gain(half) < FusionWeights().gain(whole)


# By meaning


@pytest.fixture
def by_meaning(search: VideoSearch, monkeypatch: pytest.MonkeyPatch) -> VideoSearch:
    """A search for which a query about rotors means what is said in red.mp4."""
    background = search.index.texts.background()
    # What is indexed is embedded: the window of both lines of red.mp4.
    (embedding,) = search.index.texts.embeddings("red.mp4")
    rows = np.frombuffer(embedding.codes, np.int8) * embedding.scale @ rotation(len(background.rows[0])).T

    def embed(text: str) -> np.ndarray:
        return (rows / np.linalg.norm(rows)).astype(np.float32) if "rotor" in text else -background.rows[0]

    # Random encoders have all sentences near each other: here unrelated ones are not.
    monkeypatch.setattr(search.index.texts, "background", lambda: background._replace(rows=np.zeros_like(background.rows)))
    monkeypatch.setattr(search, "senses", Senses(search.index, MeaningMatcher(search.index.texts, embed, background.made_by)))
    return search


def test_a_hit_by_meaning_quotes_the_text_and_comes_first(by_meaning: VideoSearch) -> None:
    query = "rotor craft touches down"
    for sense in ("speech", "any"):
        hit = by_meaning.search(query, sense=sense)[0]
        assert (hit.video, hit.found_by[0]) == ("red.mp4", "speech")
        assert [quote.text for quote in hit.quotes] == [text for _, _, text in WORDS["red.mp4"]]
        assert (hit.start, hit.end) == (0.2, 1.8)
    (alone,) = [hit for hit in by_meaning.search(query, sense="speech") if hit.video == "red.mp4"]
    assert alone.score == pytest.approx(1, abs=0.01)
    assert by_meaning.explain(query, "red.mp4").quotes  # type: ignore[union-attr]
    assert by_meaning.search(query, sense="screen") == []


def test_words_in_quotes_and_prefixes_are_looked_for_as_they_are(by_meaning: VideoSearch) -> None:
    for query in ('"rotor craft" touches down', "rotor craf*"):
        assert by_meaning.search(query, sense="speech") == []
        assert by_meaning.search(query) == by_meaning.search(query, sense="picture")


def test_an_index_without_embeddings_is_searched_by_words(by_meaning: VideoSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_meaning.index.texts, "background", lambda: None)
    assert by_meaning.search("rotor craft touches down", sense="speech") == []
    assert by_meaning.search("helicopter", sense="speech")


def test_a_model_whose_text_encoder_is_gone_indexes_and_says_so(
    folder: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (videos / "blue.srt").write_text(srt((0, 1, "new")))
    checkpoint = zero_shot(folder / "tiny", rate=2.0)
    text = replace(checkpoint.sources.text, fingerprint="0" * 16, source=str(folder / "gone"))
    indexer = Indexer(videos, videos.parent / "gallery", checkpoint)
    monkeypatch.setattr(indexer, "_checkpoint", replace(checkpoint, sources=replace(checkpoint.sources, text=text)))
    assert "is no longer in" in indexer.update().problems["search by meaning"]
    # It is not opened where it is known to give no embeddings of sentences.
    indexer._index.texts.keep_background(TextBackground(embedded_by("0" * 16), np.empty((0, 0), np.float32)))
    assert indexer.update().problems == {}
    indexer.close()


# The folder as it changes


@pytest.fixture
def videos(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder / "videos", tmp_path / "videos")
    index_folder(tmp_path / "videos", tmp_path / "gallery", zero_shot(folder / "tiny", rate=2.0))
    return tmp_path / "videos"


def texts_after(folder: Path, videos: Path, **texts: str | None) -> dict[str, list[str]]:
    index_folder(videos, videos.parent / "gallery", zero_shot(folder / "tiny", rate=2.0), texts=texts or None)
    opened = open_index(videos.parent / "gallery")
    found = {id: [text.text for text in opened.index.texts.read(id)] for id in sorted(opened.index.ids)}
    assert opened.index.verify() == {}
    opened.index.close()
    return {id: texts for id, texts in found.items() if texts}


def test_files_beside_videos_that_come_change_and_go(folder: Path, videos: Path) -> None:
    (videos / "blue.srt").write_text(srt((0, 1, "new")))
    (videos / "green.en.srt").write_text(srt((0, 1, "changed")))
    (videos / "red.en.srt").unlink()
    assert texts_after(folder, videos) == {"blue.mp4": ["new"], "green.mp4": ["changed"]}


def test_a_video_that_is_renamed_with_its_subtitles_or_deleted(folder: Path, videos: Path) -> None:
    (videos / "red.mp4").rename(videos / "rot.mp4")
    (videos / "red.en.srt").rename(videos / "rot.en.srt")
    (videos / "green.mp4").unlink()
    assert texts_after(folder, videos) == {"rot.mp4": [text for _, _, text in WORDS["red.mp4"]]}


def test_subtitles_beside_any_copy_of_a_video(folder: Path, videos: Path) -> None:
    shutil.copy(videos / "blue.mp4", videos / "copy.mp4")
    (videos / "copy.srt").write_text(srt((0, 1, "of the copy")))
    assert texts_after(folder, videos)["blue.mp4"] == ["of the copy"]


def test_a_video_that_was_replaced_has_its_own_texts(folder: Path, videos: Path) -> None:
    (videos / "red.en.srt").unlink()
    write_with_subtitles(videos / "red.mp4", [("mov_text", "eng", [(0.5, 1.0, "inside")])])
    assert texts_after(folder, videos)["red.mp4"] == ["inside"]


def test_subtitles_can_be_left_out_for_good_and_read_again(folder: Path, videos: Path) -> None:
    assert texts_after(folder, videos, subtitle=None) == {}
    assert texts_after(folder, videos) == {}
    assert texts_after(folder, videos, subtitle="").keys() == WORDS.keys()


def test_an_unknown_kind_is_refused_before_anything_is_read(folder: Path, videos: Path) -> None:
    with pytest.raises(SettingError, match="no texts are known by 'smell'"):
        texts_after(folder, videos, smell="")


def test_sound_without_pictures_is_named(folder: Path, videos: Path) -> None:
    write_sound(videos / "sound.mp4", np.zeros(8000, np.float32), rate=8000)
    done = index_folder(videos, videos.parent / "gallery", zero_shot(folder / "tiny", rate=2.0))
    assert done.problems == {"sound.mp4": f"{videos / 'sound.mp4'} holds no video, only: audio; take it out"}


# The command line


def test_the_command_line_says_which_words_and_takes_a_sense(folder: Path, prvr: Prvr) -> None:
    answer = prvr("search", folder / "gallery", "the helicopter lands", "--in", "speech")
    assert answer.out.splitlines()[1].strip() == "0:01.1 - 0:01.8  subtitle: “the helicopter lands on the roof”"
    shown = json.loads(prvr("search", folder / "gallery", "the helicopter lands", "--json").out)["hits"][0]
    assert (shown["video"], shown["found_by"][0]) == ("red.mp4", "speech")
    quote = {"start": 1.1, "end": 1.8, "text": "the helicopter lands on the roof", "kind": "subtitle", "confidence": 1.0}
    assert shown["quotes"] == [{**quote, "language": "en"}]
    refused = prvr("search", folder / "gallery", "x", "--in", "speech", "--moments")
    assert refused.status == 1
    assert "moments are listed by their pictures" in refused.err


def test_prvr_index_can_leave_out_subtitles(folder: Path, videos: Path, prvr: Prvr) -> None:
    gallery = videos.parent / "gallery"
    assert prvr("index", videos, gallery, "--no-subtitles").status == 0
    assert json.loads(prvr("search", gallery, "helicopter", "--in", "speech", "--json").out)["hits"] == []


def test_a_part_of_a_video_can_be_searched_before_the_rest_is_read(videos: Path) -> None:
    search = open_index(videos.parent / "gallery")
    text = TimedText(0.0, 1.0, "a submarine", "speech")
    search.index.texts.extend("white.mp4", "speech", TextsPart(1.0, (text,)), made_of="x", is_complete=False)
    assert [hit.video for hit in search.search("submarine", sense="speech")] == ["white.mp4"]


# Copies


def test_a_copy_has_the_texts_and_is_brought_up_to_date(folder: Path, videos: Path) -> None:
    gallery, copy = videos.parent / "gallery", videos.parent / "copy"
    copy_index(gallery, copy)
    assert texts_in(copy) == {video: [text for _, _, text in cues] for video, cues in WORDS.items()}
    (videos / "red.en.srt").unlink()
    (videos / "blue.srt").write_text(srt((0, 1, "new")))
    texts_after(folder, videos)
    done = copy_index(gallery, copy)
    assert done.written == ()
    assert done.without_texts is None
    assert texts_in(copy) == texts_in(gallery) != {}
    assert embeddings_in(copy) == embeddings_in(gallery)
    assert embeddings_in(copy).keys() == {"blue.mp4", "green.mp4"}
    texts_after(folder, videos, subtitle=None)
    copy_index(gallery, copy)
    assert texts_in(copy) == {}


def test_the_setting_that_is_kept_is_read_in_any_folder(folder: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_whisper")
    (videos.parent / "whisper").mkdir()
    (videos.parent / "whisper" / "model.bin").write_bytes(b"weights")
    monkeypatch.chdir(videos.parent)
    checkpoint = zero_shot(folder / "tiny", rate=2.0)
    indexer = Indexer(videos, videos.parent / "gallery", checkpoint, texts={"speech": "./whisper"})
    indexer.update()
    kept = indexer._index.texts.readers()
    assert json.loads(kept["speech"])["model"] == str(videos.parent / "whisper")
    # One that was kept otherwise is found, and kept, too.
    indexer._index.texts.keep_readers({"speech": json.dumps({"model": "./whisper"})})
    indexer.close()
    indexer = Indexer(videos, videos.parent / "gallery", checkpoint)
    indexer.update()
    assert json.loads(indexer._index.texts.readers()["speech"])["model"] == str(videos.parent / "whisper")
    indexer.close()


def texts_in(place: str | Path, **model: Path) -> dict[str, list[str]]:
    opened = open_index(place, **model)
    found = {id: [text.text for text in opened.index.texts.read(id)] for id in sorted(opened.index.ids)}
    assert opened.index.verify() == {}
    opened.index.close()
    return {id: texts for id, texts in found.items() if texts}


def embeddings_in(place: str | Path, **model: Path) -> dict[str, list[TextEmbedding]]:
    opened = open_index(place, **model)
    found = {id: opened.index.texts.embeddings(id) for id in sorted(opened.index.ids)}
    assert opened.index.texts.videos_to_embed(embedded_by(opened.encoder.fingerprint)) == []
    opened.index.close()
    return {id: texts for id, texts in found.items() if texts}


def answers(search: VideoSearch, query: str, sense: str) -> list[tuple[str, float, tuple[TimedText, ...]]]:
    return [(hit.video, round(hit.score, 5), hit.quotes) for hit in search.search(query, sense=sense)]


def test_shards_carry_texts_and_answer_alike(folder: Path, tmp_path: Path) -> None:
    copy_index(folder / "gallery", tmp_path / "one")
    url = f"shards://{tmp_path / 'shards'}?shards=3"
    copy_index(folder / "gallery", url)
    model = folder / "gallery" / "model"
    assert texts_in(url, model=model) == texts_in(tmp_path / "one")
    assert embeddings_in(url, model=model) == embeddings_in(tmp_path / "one") != {}
    one, several = open_index(tmp_path / "one"), open_index(url, model=model)
    for query in ("the helicopter lands", '"welcome back"', "welcome", "purple submarine"):
        for sense in ("speech", "any"):
            assert answers(one, query, sense) == answers(several, query, sense)
    assert one.index.texts.count() == several.index.texts.count() == {"subtitle": 2}
    sentence = one.index.texts.background().rows[0]
    nearest = [index.index.texts.nearest(sentence, 8, kinds=["subtitle"]) for index in (one, several)]
    assert nearest[0] == nearest[1] != []
    one.index.close()
    several.index.close()


def test_a_copy_on_a_qdrant_server_says_that_it_has_no_texts(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    url = url_for(tmp_path)
    done = copy_index(folder / "gallery", url)
    assert done.without_texts == "QdrantIndex holds no timed texts: in the copy, pictures alone are searched"
    there = open_index(url, model=folder / "gallery" / "model")
    assert answers(there, "the helicopter lands", "any")
    with pytest.raises(SettingError, match="QdrantIndex holds no timed texts, which a search in speech needs; copy the index"):
        there.search("the helicopter lands", sense="speech")


def test_an_index_of_pictures_alone_refuses_speech_by_name(search: VideoSearch) -> None:
    gallery = ExactIndex(search.index.model)
    gallery.add([*search.index.fetch(search.index.ids).values()])
    pictures = VideoSearch(search.checkpoint, gallery, search.encoder, videos=search.videos)
    query = "the helicopter lands"
    assert answers(pictures, query, "any") == [(*hit[:2], ()) for hit in answers(search, query, "picture")]
    with pytest.raises(SettingError, match="ExactIndex holds no timed texts, which a search in speech needs"):
        pictures.search("the helicopter lands", sense="speech")


# What words are worth


def test_half_of_the_words_are_worth_next_to_nothing() -> None:
    texts = [("a", 0.0, "dog cat", {0, 1}), ("b", 0.0, "dog", {0})]
    whole, half = match_words(Fixed(texts, [2, 2]), "dog cat", "speech", of=100)
    assert (whole.score, half.score) == (1.0, 0.5)
    assert whole.strength == pytest.approx(math.log1p(2 * weight(2, 100)))
    assert half.strength == pytest.approx(math.log1p(weight(2, 100)) / 16)
    assert FusionWeights(words=2.0).gain(whole) == pytest.approx(2 * whole.strength)


@pytest.mark.parametrize("text", ['{"weight": -1}', '{"weight": NaN}', '{"weight": "x"}', "[]", '{"other": 1}', "x"])
def test_a_damaged_weight_is_said_in_one_line(text: str) -> None:
    with pytest.raises(DataError, match="weigh again: prvr index weigh"):
        FusionWeights.from_json(text)


def test_a_weight_of_words_alone_is_read() -> None:
    assert FusionWeights.from_json('{"weight": 2.5}') == FusionWeights(words=2.5)


class Examples:
    """A search whose words and meanings are right, and whose pictures are right by chance."""

    def __init__(self, says: bool = True, means: bool = True) -> None:
        self.senses, self._says, self._means = self, says, means

    def encode(self, text: str) -> None:
        return None

    def examples(self, query: None, text: str, right: str, others: int) -> list[Example]:
        place = int(text)
        words = 2.0 if self._says and place % 3 else 0.0
        meaning = 0.2 if self._means and place % 4 else 0.0
        others_found = [Example(f"x{n}", (place + n) % 7 - 3.0, 0.3 * self._says, 0.01 * self._means) for n in range(5)]
        return [Example(right, 1.0 + place % 5, words, meaning), *others_found]


def test_the_weight_is_fitted_on_captions_and_not_on_too_few() -> None:
    captions = [Caption(str(n), f"v{n}", str(n)) for n in range(60)]
    done = fit_weights(Examples(), captions)  # type: ignore[arg-type]
    assert done.captions == 60
    assert done.weights.words > 0
    assert done.weights.meaning > 0
    assert fit_weights(Examples(means=False), captions).weights == FusionWeights(words=done.weights.words)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="49 of 49 captions have words that are said or written in a video; 50 are needed"):
        fit_weights(Examples(), captions[:49])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="0 of 60 captions"):
        fit_weights(Examples(says=False, means=False), captions)  # type: ignore[arg-type]


def test_a_kept_weight_is_used(folder: Path, tmp_path: Path) -> None:
    copy_index(folder / "gallery", tmp_path / "copy")
    plain = open_index(tmp_path / "copy")
    query = "the helicopter lands on the roof"
    before = plain.search(query)[0].score
    plain.index.texts.keep_weights(FusionWeights(17.0).to_json())
    # As by a service that runs.
    assert plain.search(query)[0].score > before
    heavier = open_index(tmp_path / "copy")
    seen = {hit.video: hit.score for hit in heavier.search(query, sense="picture")}
    assert heavier.search(query)[0].score - seen["red.mp4"] == pytest.approx(10 * (before - seen["red.mp4"]), rel=1e-4)
    copy_index(tmp_path / "copy", tmp_path / "again")
    assert open_index(tmp_path / "again").index.texts.weights() == FusionWeights(17.0).to_json()
    # A damaged weight is said, and can be weighed again.
    plain.index.texts.keep_weights("x")
    with pytest.raises(DataError, match="weigh again"):
        plain.search(query)
    assert plain.senses.examples(plain.encode(query), query, "red.mp4", 2)
    plain.index.texts.keep_weights(None)
    assert plain.search(query)[0].score == before


def test_weighing_without_texts_or_captions_says_what_is_missing(folder: Path, videos: Path, prvr: Prvr) -> None:
    answer = prvr("index", "weigh", videos.parent / "gallery")
    assert answer.status == 1
    assert "captions.jsonl" in answer.err
    texts_after(folder, videos, subtitle=None)
    answer = prvr("index", "weigh", videos.parent / "gallery")
    assert "holds no texts to weigh" in answer.err
