"""Roles of a sentence from its parse, by hand; word vectors with roles as an encoder like any other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_pipelines import OPENS, RUNS, make_pipeline, make_stand_in, parsed, stand_in_spacy, text_of

from prvr.encoders import WordEncoder, open_encoder, word_encoder
from prvr.encoders.roles import ACTIONS, ENTITIES, LABEL_COLUMNS, ROLES, RoleWords, role_labels
from prvr.errors import MissingExtra, ModelError, SettingError
from prvr.extract import extract_words
from prvr.features.packed import Packed

NO_SPACY = "spaCy is not installed; pip install 'prvr[graph]'"
VECTORS = "a 1 0\nman 2 0\ndoor 3 0\ndog 0 4\nruns 0 5\n"


def test_the_labels_of_two_actions_that_share_a_man() -> None:
    agent, patient = 1, 2
    man, door, room = [0, 1, agent, agent, 0, 0], [0, 2, patient, 0, 0, 0], [0, 3, 0, patient, 0, 0]
    opens, enters, nothing = [1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0], [0] * 6
    wanted = [man, man, opens, door, door, nothing, enters, room, room]
    np.testing.assert_array_equal(role_labels(parsed(OPENS)), wanted)
    universal = OPENS.replace("dobj", "obj").replace("cc|2", "cc|6")
    np.testing.assert_array_equal(role_labels(parsed(universal)), wanted)


def said(words: str) -> set[str]:
    """What the labels say, to be read: `a man is agent of opens`, `a man` where it has no part in any action."""
    tokens, labels = parsed(words), role_labels(parsed(words)).astype(int)
    actions = {n: tokens[place].text for place, n in enumerate(labels[:, 0]) if n}
    lines = set()
    for number in range(1, labels[:, 1].max(initial=0) + 1):
        (places,) = np.nonzero(labels[:, 1] == number)
        name, roles = " ".join(tokens[place].text for place in places), labels[places[0], 2:]
        assert (labels[places, 2:] == roles).all()
        lines |= {f"{name} is {ROLES[role - 1]} of {actions[n]}" for n, role in enumerate(roles, start=1) if role} or {name}
    return lines | {action for action in actions.values() if not any(line.endswith(f"of {action}") for line in lines)}


CASES = {
    "passive": (
        "the|DET|det|1 door|NOUN|nsubjpass|3 is|AUX|auxpass|3 opened|VERB|ROOT|3 by|ADP|agent|3 a|DET|det|6 man|NOUN|pobj|4",
        {"the door is patient of opened", "a man is agent of opened"},
    ),
    "recipient": (
        "a|DET|det|1 boy|NOUN|nsubj|2 gives|VERB|ROOT|2 his|PRON|poss|4 dog|NOUN|dative|2 a|DET|det|6 bone|NOUN|dobj|2",
        {"a boy is agent of gives", "his dog is recipient of gives", "a bone is patient of gives"},
    ),
    "what belongs to another": (
        "a|DET|det|1 man|NOUN|nsubj|5 in|ADP|prep|1 red|ADJ|amod|4 shorts|NOUN|pobj|2 "
        "runs|VERB|ROOT|5 on|ADP|prep|5 sand|NOUN|pobj|6",
        {"a man is agent of runs", "red shorts is other of runs", "sand is oblique of runs"},
    ),
    "the same in universal dependencies": (
        "a|DET|det|1 man|NOUN|nsubj|5 in|ADP|case|4 red|ADJ|amod|4 shorts|NOUN|nmod|1 "
        "runs|VERB|root|5 on|ADP|case|7 sand|NOUN|obl:lmod|5",
        {"a man is agent of runs", "red shorts is other of runs", "sand is oblique of runs"},
    ),
    "two who act": (
        "a|DET|det|1 man|NOUN|nsubj|5 and|CCONJ|cc|1 a|DET|det|4 woman|NOUN|conj|1 dance|VERB|ROOT|5 "
        "and|CCONJ|cc|5 sing|VERB|conj|5",
        {f"{who} is agent of {what}" for who in ("a man", "a woman") for what in ("dance", "sing")},
    ),
    "a verb at a noun": (
        "a|DET|det|1 woman|NOUN|nsubj|5 wearing|VERB|acl|1 a|DET|det|4 hat|NOUN|dobj|2 smiles|VERB|ROOT|5",
        {"a woman is agent of wearing", "a hat is patient of wearing", "a woman is agent of smiles"},
    ),
    "a subject of its own": (
        "a|DET|det|1 man|NOUN|nsubj|2 sings|VERB|ROOT|2 and|CCONJ|cc|2 dogs|NOUN|nsubj|5 bark|VERB|conj|2",
        {"a man is agent of sings", "dogs is agent of bark"},
    ),
    "nouns side by side": ("a|DET|det|1 dog|NOUN|dep|2 cat|NOUN|ROOT|2", {"a dog", "cat"}),
    "a verb within a phrase, and a time": (
        "this|DET|det|1 morning|NOUN|npadvmod|5 a|DET|det|4 running|VERB|amod|4 horse|NOUN|nsubj|5 falls|VERB|ROOT|5",
        {"this morning is time of falls", "a running horse is agent of falls"},
    ),
    "whose": (
        "the|DET|det|1 man|NOUN|poss|4 's|PART|case|1 kitchen|NOUN|compound|4 table|NOUN|nsubj|5 breaks|VERB|ROOT|5",
        {"the man 's kitchen table is agent of breaks"},
    ),
    "no verb": (
        "a|DET|det|6 big|ADJ|amod|6 ,|PUNCT|punct|6 black|ADJ|amod|6 and|CCONJ|cc|3 white|ADJ|conj|3 dog|NOUN|ROOT|6",
        {"a big , black and white dog"},
    ),
    "there is": ("there|PRON|expl|1 is|AUX|ROOT|1 a|DET|det|3 dog|NOUN|attr|1", {"a dog is patient of is"}),
    "a copula is no action": ("the|DET|det|1 dog|NOUN|nsubj|3 is|AUX|cop|3 happy|ADJ|root|3", {"the dog"}),
    "no noun": ("run|VERB|ROOT|0 !|PUNCT|punct|0", {"run"}),
    "nothing": ("quickly|ADV|ROOT|0", set()),
    "heads in a circle": ("a|DET|det|1 dog|NOUN|nsubj|2 cat|NOUN|conj|1", {"a dog", "cat"}),
}


@pytest.mark.parametrize("case", CASES)
def test_who_has_which_part(case: str) -> None:
    words, wanted = CASES[case]
    assert said(words) == wanted


def test_further_actions_and_entities_are_left_out() -> None:
    verbs = [f"verb{n}|VERB|conj|{max(2 * n - 2, 0)} noun{n}|NOUN|dobj|{2 * n}" for n in range(8)]
    labels = role_labels(parsed(" ".join(verbs)))
    assert labels.shape == (16, LABEL_COLUMNS)
    assert labels[::2, 0].tolist() == [1, 2, 3, 4, 0, 0, 0, 0]
    assert labels[1::2, 1].tolist() == [1, 2, 3, 4, 5, 6, 0, 0]
    assert labels[:, 0].max() == ACTIONS
    assert labels[:, 1].max() == ENTITIES
    # The object of the fifth verb hangs below the fourth one.
    assert labels[9, 2:].tolist() == [0, 0, 0, 1 + ROLES.index("other")]
    assert role_labels([]).shape == (0, LABEL_COLUMNS)


@pytest.fixture(scope="module", params=["stand-in", "spacy"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`words.txt` and `parser`, a pipeline of spaCy or of its stand-in, which then takes its place."""
    root = tmp_path_factory.mktemp("roles")
    (root / "words.txt").write_text(VECTORS)
    if request.param == "spacy":
        make_pipeline(root / "parser", pytest.importorskip("spacy", reason=NO_SPACY))
        yield root
        return
    make_stand_in(root / "parser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "spacy", stand_in_spacy())
        yield root


def test_rows_are_vectors_then_labels(folder: Path) -> None:
    encoder = word_encoder(f"roles:{folder}/words.txt+{folder}/parser")
    assert isinstance(encoder, RoleWords)
    assert (encoder.name, encoder.word_columns, encoder.label_columns) == ("words_parser", 2 + 6, 6)
    opens, runs = encoder.encode_words([text_of(OPENS), text_of(RUNS)])
    np.testing.assert_array_equal(opens[:, :2], [[1, 0], [2, 0], [0, 0], [0, 0], [3, 0], [0, 0], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(opens[:, 2:], role_labels(parsed(OPENS)))
    np.testing.assert_array_equal(runs[:, 2:], role_labels(parsed(RUNS)))
    assert opens.dtype == np.float32
    assert encoder.encode_words([]) == []


def test_spaces_are_no_words(folder: Path) -> None:
    encoder = word_encoder(f"roles:{folder}/words.txt+{folder}/parser")
    plain, spaced, blank = encoder.encode_words([text_of(RUNS), "  the   dog\n runs ", " "])
    np.testing.assert_array_equal(plain[:, :2], spaced[:, :2])
    assert blank.shape == (0, 8)


def test_it_opens_again_from_its_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    first = open_encoder("roles:words.txt+parser")
    assert first.source == f"roles:{folder}/words.txt+{folder}/parser"
    monkeypatch.chdir("/")
    again = word_encoder(first.source)
    assert isinstance(again, WordEncoder)
    assert (again.name, again.fingerprint) == (first.name, first.fingerprint)


def test_the_fingerprint_is_of_vectors_and_parser_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    here = open_encoder(f"roles:{folder}/words.txt+{folder}/parser").fingerprint
    shutil.copytree(folder, tmp_path / "moved")
    moved = f"roles:{tmp_path}/moved/words.txt+{tmp_path}/moved/parser"
    assert open_encoder(moved).fingerprint == here
    (tmp_path / "moved/words.txt").write_text(VECTORS + "cat 1 1\n")
    assert open_encoder(moved).fingerprint != here
    (tmp_path / "moved/words.txt").write_text(VECTORS)
    (tmp_path / "moved/parser/more").write_text("learned since")
    assert open_encoder(moved).fingerprint != here


def test_captions_are_extracted(folder: Path, tmp_path: Path) -> None:
    texts = {"one": text_of(OPENS), "two": text_of(RUNS)}
    encoder = word_encoder(f"roles:{folder}/words.txt+{folder}/parser")
    assert extract_words(texts, tmp_path / "words", encoder=encoder).done == ("one", "two")
    assert extract_words(texts, tmp_path / "words", encoder=encoder).kept == ("one", "two")
    packed = Packed(tmp_path / "words")
    assert packed.source == encoder.source
    np.testing.assert_array_equal(packed["two"][:, 2:], role_labels(parsed(RUNS)))


@pytest.mark.parametrize("pipeline", ["no_such_pipeline", "empty"])
def test_a_pipeline_that_is_not_there(folder: Path, tmp_path: Path, pipeline: str) -> None:
    (tmp_path / "empty").mkdir()
    place = tmp_path / pipeline if pipeline == "empty" else pipeline
    with pytest.raises(ModelError, match=rf"cannot open the spaCy pipeline .*{pipeline}.*python -m spacy download") as problem:
        open_encoder(f"roles:{folder}/words.txt+{place}")
    assert "\n" not in str(problem.value)


def test_a_pipeline_that_does_not_parse(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy", reason=NO_SPACY)
    spacy.blank("en").to_disk(tmp_path / "blank")
    (tmp_path / "words.txt").write_text(VECTORS)
    with pytest.raises(ModelError, match="gives no POS and no DEP; take one with tagger and parser"):
        open_encoder(f"roles:{tmp_path}/words.txt+{tmp_path}/blank")


def test_without_spacy_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "words.txt").write_text(VECTORS)
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtra, match=r"spacy is not installed; pip install 'prvr\[graph\]'"):
        open_encoder(f"roles:{tmp_path}/words.txt+en_core_web_sm")


@pytest.mark.parametrize("source", ["roles:words.txt", "roles:+parser", "roles:words.txt+", "roles:"])
def test_both_parts_must_be_named(source: str) -> None:
    with pytest.raises(SettingError, match=r"write roles:VECTORS\.txt\+PIPELINE"):
        open_encoder(source)
