"""What may be asked: every script, anything that a keyboard or a broken program sends, and a least score."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoders import make_clip, make_roberta, make_textual, make_visual

from prvr.encoders import SentenceEncoder, WordEncoder, open_encoder
from prvr.errors import SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.index.contract import Entry
from prvr.index.exact import ExactIndex
from prvr.methods import checkpoint as checkpoints
from prvr.methods.calibration import Calibration
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search.asking import VideoSearch
from prvr.search.hits import Hit, first_of_weak
from prvr.search.question import Question
from prvr.search.sentences import MOST_CHARACTERS, readable

SENTENCES = {
    "Latin": "Ein Hund fährt Skateboard, ça va?",
    "Greek": "ένας σκύλος",
    "Cyrillic": "собака на скейтборде",
    "Hebrew": "כלב על סקייטבורד",
    "Arabic": "كلب يركب لوح تزلج",
    "Devanagari": "एक कुत्ता स्केटबोर्ड पर",
    "Thai": "สุนัขเล่นสเก็ตบอร์ด",
    "Han": "一只狗在玩滑板",
    "Kana": "スケートボードに乗る犬",
    "Hangul": "스케이트보드를 타는 개",
    "Georgian": "ძაღლი სკეიტბორდზე",
    "emoji": "🐕🛹👩‍👩‍👧",
    "marks upon marks": "d̴̨̛o̷̢g̵",
    "right to left override": "\u202egod a",
    "digits and signs": "3 > 2 !",
    "markup": "<script>alert(1)</script> '; DROP TABLE videos; -- %s {0} \\",
    "control characters": "a\x00dog\x07 on\x1b[31m\r\na\tskateboard\x7f",
    "one letter": "x",
    "very long": "dog " * (MOST_CHARACTERS // 4),
}


@pytest.fixture(scope="module", params=["words", "CLIP", "ONNX"])
def search(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VideoSearch:
    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp("encoder") / "tiny"
    if request.param == "ONNX":
        make_textual(make_visual(folder, size=[8, 12]))
    else:
        (make_roberta if request.param == "words" else make_clip)(folder)
    encoder = open_encoder(folder)
    if request.param == "words":
        assert isinstance(encoder, WordEncoder)
        reads = FeatureSources(Source("frames", 12), Source("words", encoder.word_columns))
        checkpoint = checkpoints.build("dl_dkd", DlDkdConfig(hidden=8, heads=2), reads)
    else:
        assert isinstance(encoder, SentenceEncoder)
        reads = FeatureSources(Source("frames", encoder.sentence_columns), Source("text", encoder.sentence_columns))
        checkpoint = checkpoints.build("zero_shot", ZeroShotConfig(), reads)
    checkpoint.model.eval()  # type: ignore[attr-defined]
    index, draw = ExactIndex(checkpoint.model), np.random.default_rng(0)
    columns = 8 if request.param == "words" else reads.frames.columns
    for n in range(5):
        fields = tuple(draw.normal(size=(6, columns)).astype(np.float32) for _ in checkpoint.model.embedding_fields)
        index.add([Entry(f"{n}.mp4", fields, (6,), tuple(float(t) for t in range(7)))])
    return VideoSearch(checkpoint, index, encoder, videos=Path())


@pytest.mark.parametrize("text", SENTENCES.values(), ids=list(SENTENCES))
def test_every_script_is_answered(search: VideoSearch, text: str) -> None:
    hits = search.search(text, k=5)
    assert len(hits) == 5
    assert all(np.isfinite(hit.score) and hit.spans for hit in hits)


@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=80))
def test_whatever_is_asked_is_answered_or_refused_in_one_line(search: VideoSearch, text: str) -> None:
    told = ""
    try:
        told = f"the query is answered by {len(search.search(text, k=2))}"
    except SettingError as refused:
        told = str(refused)
    assert told.startswith("the query is ")


@settings(max_examples=150)
@given(text=st.text())
def test_an_encoder_is_given_text_that_says_something(text: str) -> None:
    visible = any(unicodedata.category(c)[0] in "LMNPS" for c in text)
    if any(unicodedata.category(c) == "Cs" for c in text) or not visible:
        with pytest.raises(SettingError):
            readable(text)
        return
    read = readable(text)
    assert not any(unicodedata.category(c) == "Cc" for c in read)
    assert [c for c in read if c != " "] == [c for c in text if c != " " and unicodedata.category(c) != "Cc"]


@pytest.mark.parametrize("text", ["", "   ", "\n\t\r", "\x00", "\u200b\u200d", "\u00a0\u3000", "\ufeff"])
def test_a_query_without_a_word_is_empty(text: str) -> None:
    with pytest.raises(SettingError, match="the query is empty"):
        readable(text)


def test_a_query_that_is_no_sentence(search: VideoSearch) -> None:
    with pytest.raises(SettingError, match=rf"the query has 100000 characters, at most {MOST_CHARACTERS}"):
        search.search("x" * 100_000)
    with pytest.raises(SettingError, match="not UTF-8"):
        search.search("a dog\udcff")
    with pytest.raises(SettingError, match="k is -1"):
        search.search("a dog", k=-1)
    with pytest.raises(SettingError, match="'duration' is not a condition"):
        search.search("a dog", where=["duration"])
    for least in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(SettingError, match=f"the least score is {least}; give a finite number, such as 0.5"):
            search.search("a dog", min_score=least)


def test_a_least_score_leaves_out_the_rest(search: VideoSearch) -> None:
    hits = search.search("a dog", k=5)
    assert search.search("a dog", k=5, min_score=hits[2].score) == hits[:3]
    assert search.search("a dog", k=5, min_score=hits[0].score + 1) == []


def test_probabilities_where_the_checkpoint_is_calibrated(search: VideoSearch) -> None:
    calibration = Calibration(intercept=0.5, per_score=3.0, per_margin=2.0, per_size=0.1)
    known = VideoSearch(replace(search.checkpoint, calibration=calibration), search.index, search.encoder, videos=Path())
    hits, bare = known.search("a dog", k=5), search.search(Question("a dog", prompt=""), k=5)
    scores = np.array([hit.score for hit in bare])
    # By hand: the best against the second, the others against the best.
    margins = scores - np.array([scores[1], *[scores[0]] * 4])
    expected = 1 / (1 + np.exp(-(0.5 + 3 * scores + 2 * margins - 0.1 * np.log(5))))
    assert [hit.probability for hit in hits] == pytest.approx(expected.tolist())
    assert [replace(hit, probability=None) for hit in hits] == bare
    # One hit has the probability that it has among all, and it is that which a least score is compared with.
    assert known.search("a dog", k=1) == hits[:1]
    assert known.search("a dog", k=5, min_score=hits[1].probability) == hits[:2]
    assert known.search("a dog", k=5, min_score=0.999) == []


def test_weak_hits_are_those_that_unrelated_sentences_exceed() -> None:
    hits = [Hit(f"{n}.mp4", 0.5, strength=strength) for n, strength in enumerate((0.9, 0.2, 0.5, 0.49, 0.0))]
    assert [hit.weak for hit in hits] == [False, True, False, True, True]
    assert [hit.as_dict()["weak"] for hit in hits] == [hit.weak for hit in hits]
    assert first_of_weak(hits) == 3
    assert first_of_weak(hits[:3]) == 3
    assert first_of_weak(hits[3:]) == first_of_weak([]) == 0
    unknown = Hit("a.mp4", 0.5)
    assert unknown.weak is unknown.peak is None
    assert first_of_weak([unknown]) == 1
    assert Hit("a.mp4", 0.5, curve=(0.1, 0.5, 0.2), edges=(0.0, 0.5, 1.5, 2.0)).as_dict()["peak"] == 1.0
