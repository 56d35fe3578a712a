"""Word vectors with the semantic roles of a parser, the input of the graph backbone (HGR, Chen et al., CVPR 2020).

HGR makes a graph of a sentence: the event (the whole sentence), its actions (verbs), their entities (noun phrases), and the role
of each entity in each action. HGR uses a semantic role labeller; we use a dependency parse with the labels of spaCy's English
pipelines or of Universal Dependencies. The graph is stored in the last `LABEL_COLUMNS` numbers of a word's row, small integers
that float16 represents exactly:

    column         of each word
    0              the number of the action that the word is, 1 to `ACTIONS`; 0 for none
    1              the number of the entity that the word belongs to, 1 to `ENTITIES`; 0 for none
    2 .. 5         the role of that entity in action 1 .. `ACTIONS`, from 1, in the order of `ROLES`; 0 for none

Each word has all values of its node, so a sentence that is cut keeps the graph of its remaining words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float32, Int

from prvr.encoders import name_of
from prvr.encoders.vectors import WordVectors
from prvr.errors import ModelError, SettingError, require

SCHEME = "roles:"

ACTIONS, ENTITIES = 4, 6
ROLES = ("agent", "patient", "recipient", "oblique", "time", "other")
LABEL_COLUMNS = 2 + ACTIONS

# The role for each relation to the verb: spaCy's English labels first, then those of Universal Dependencies that differ.
RELATIONS = {
    "nsubj": "agent",
    "agent": "agent",
    "nsubjpass": "patient",
    "dobj": "patient",
    "attr": "patient",
    "dative": "recipient",
    "prep": "oblique",
    "npadvmod": "time",
    "nsubj:pass": "patient",
    "obj": "patient",
    "iobj": "recipient",
    "obl": "oblique",
    "obl:agent": "agent",
    "obl:tmod": "time",
}
NOMINALS = ("NOUN", "PROPN", "PRON")
# What can precede a noun in its phrase, and what can be between two of these: "a big, black and white dog".
MODIFIERS = (*NOMINALS, "DET", "ADJ", "ADV", "NUM", "PART")
CONNECTIVES = ("CCONJ", "PUNCT")
# Nouns with these relations are part of another noun's phrase, or the "there" of "there is".
NO_ENTITIES = ("compound", "poss", "nmod:poss", "amod", "det", "nummod", "flat", "expl")
AUXILIARIES = ("aux", "auxpass", "aux:pass", "cop")
# A verb with these relations to another verb or to a noun takes its subject from there if it has none of its own.
SHARES_SUBJECT = ("conj", "xcomp", "advcl", "acl")

# Components of a pipeline that roles do not need.
UNREAD = ["ner", "lemmatizer", "textcat", "textcat_multilabel", "entity_linker"]

# Part of the fingerprint: it changes with the rules, so that features made with other rules are refused.
RULES = "roles 1"


class Token(NamedTuple):
    """A parsed word: its universal part of speech, its relation to its head, and the head's index; a root is its own head."""

    text: str
    part: str
    relation: str
    head: int


def role_labels(tokens: Sequence[Token]) -> Float32[np.ndarray, "W L"]:
    """Returns the label columns of a parsed sentence."""
    phrases = _phrases(tokens)
    inside = {place for phrase in phrases for place in phrase}
    verbs = [place for place, token in enumerate(tokens) if _is_action(token) and place not in inside]
    entities = {phrase[-1]: number for number, phrase in enumerate(phrases[:ENTITIES])}
    roles = _roles(tokens, actions={place: number for number, place in enumerate(verbs[:ACTIONS])}, entities=entities)
    labels = np.zeros((len(tokens), LABEL_COLUMNS), np.float32)
    for number, place in enumerate(verbs[:ACTIONS]):
        labels[place, 0] = number + 1
    for number, phrase in enumerate(phrases[:ENTITIES]):
        labels[phrase, 1] = number + 1
        labels[phrase, 2:] = roles[number]
    return labels


@final
class RoleWords:
    """Word vectors with the roles of a spaCy pipeline in the last `label_columns` of each row.

    Args:
        pipeline: the name of an installed pipeline, or a folder.

    Raises:
        MissingExtra: spaCy is not installed.
        ModelError: the vectors or the pipeline are missing or broken, or the pipeline does not parse.
    """

    def __init__(self, vectors: WordVectors, pipeline: str) -> None:
        self._vectors = vectors
        self._pipeline = _open_pipeline(pipeline)
        place = str(Path(pipeline).absolute()) if Path(pipeline).is_dir() else pipeline
        self.name = f"{vectors.name}_{name_of(pipeline)}"
        self.source = f"{SCHEME}{vectors.path.absolute()}+{place}"
        self.fingerprint = _fingerprint(vectors, Path(self._pipeline.path))
        self.label_columns = LABEL_COLUMNS
        self.word_columns = vectors.word_columns + LABEL_COLUMNS

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns a row per word of each text, (W, word_columns); spaCy splits the text."""
        parsed = [_tokens(doc) for doc in self._pipeline.pipe(texts)]
        return [
            np.concatenate([self._vectors.rows([token.text for token in tokens]), role_labels(tokens)], axis=1)
            for tokens in parsed
        ]


def open_roles(source: str) -> RoleWords:
    """Opens `VECTORS.txt+PIPELINE`.

    Raises:
        SettingError: one of the two is missing.
        MissingExtra, ModelError: as for `RoleWords`.
    """
    vectors, _, pipeline = source.rpartition("+")
    if not vectors or not pipeline:
        raise SettingError(f"{SCHEME}{source} names no vectors or no parser; write {SCHEME}VECTORS.txt+PIPELINE")
    return RoleWords(WordVectors(Path(vectors)), pipeline)


def _is_action(token: Token) -> bool:
    return token.part == "VERB" or (token.part == "AUX" and token.relation not in AUXILIARIES)


def _phrases(tokens: Sequence[Token]) -> list[list[int]]:
    # A noun with the words before it that depend on it: "the tall man", "his dog", "a running horse".
    phrases = []
    for place, token in enumerate(tokens):
        if _is_entity(token):
            start = place
            for before in range(place - 1, -1, -1):
                modifies = _is_modifier(tokens[before])
                if place not in _above(tokens, before) or not (modifies or tokens[before].part in CONNECTIVES):
                    break
                start = before if modifies else start
            phrases.append(list(range(start, place + 1)))
    return phrases


def _is_entity(token: Token) -> bool:
    return token.part in NOMINALS and token.relation not in NO_ENTITIES


def _is_modifier(token: Token) -> bool:
    within = token.part in MODIFIERS or (token.part == "VERB" and token.relation == "amod")
    return within and not _is_entity(token)


def _above(tokens: Sequence[Token], place: int) -> list[int]:
    """Returns the heads of a word, nearest first."""
    above: list[int] = []
    while tokens[place].head not in (place, *above):
        place = tokens[place].head
        above.append(place)
    return above


def _roles(tokens: Sequence[Token], *, actions: dict[int, int], entities: dict[int, int]) -> Int[np.ndarray, "E A"]:
    roles = np.zeros((ENTITIES, ACTIONS), np.int64)
    for place, entity in entities.items():
        below, possessed = place, False
        for above in _above(tokens, place):
            relation = tokens[below].relation
            if above in actions:
                roles[entity, actions[above]] = 1 + ROLES.index("other" if possessed else _role(relation))
                break
            # "a man in a shirt": an entity that belongs to another one has no role of its own in the action.
            possessed = possessed or (above in entities and relation not in ("conj", "appos"))
            below = above
    _share_subjects(tokens, roles, actions=actions, entities=entities)
    return roles


def _role(relation: str) -> str:
    # Universal Dependencies have subtypes: obl:npmod is an obl.
    return RELATIONS.get(relation) or RELATIONS.get(relation.partition(":")[0], "other")


def _share_subjects(
    tokens: Sequence[Token], roles: Int[np.ndarray, "E A"], *, actions: dict[int, int], entities: dict[int, int]
) -> None:
    agent = 1 + ROLES.index("agent")
    subjects = {token.head for token in tokens if token.relation.startswith(("nsubj", "csubj"))}
    for place, action in actions.items():
        head = tokens[place].head
        if place in subjects or tokens[place].relation not in SHARES_SUBJECT:
            continue
        if head in actions:
            roles[roles[:, actions[head]] == agent, action] = agent
        elif head in entities:
            roles[entities[head], action] = agent


def _tokens(doc: Any) -> list[Token]:
    # spaCy makes tokens of runs of spaces; no other token depends on them.
    words = [word for word in doc if not word.is_space]
    places = {word.i: place for place, word in enumerate(words)}
    return [Token(word.text, word.pos_, word.dep_, places.get(word.head.i, place)) for place, word in enumerate(words)]


def _open_pipeline(pipeline: str) -> Any:
    spacy = require("spacy", extra="graph")
    try:
        loaded = spacy.load(Path(pipeline) if Path(pipeline).is_dir() else pipeline, exclude=UNREAD)
        probe = loaded("a man opens the door")
    # spaCy and its components raise types of their own, and OSError for a missing pipeline.
    except Exception as problem:
        reason = " ".join(str(problem).split())[:200]
        raise ModelError(
            f"cannot open the spaCy pipeline {pipeline!r}: {reason}; install one (python -m spacy download en_core_web_sm) "
            "or give the folder of one"
        ) from problem
    lacking = [what for what in ("POS", "DEP") if not probe.has_annotation(what)]
    if lacking:
        raise ModelError(f"the spaCy pipeline {pipeline!r} gives no {' and no '.join(lacking)}; take one with tagger and parser")
    return loaded


def _fingerprint(vectors: WordVectors, folder: Path) -> str:
    digest = hashlib.sha256(f"{RULES} {vectors.fingerprint}\n".encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]
