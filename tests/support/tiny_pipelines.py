"""Parsed sentences, and pipelines that parse them: a real one of spaCy, trained here, and a stand-in where spaCy is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from prvr.encoders.roles import Token

OPENS = (
    "a|DET|det|1 man|NOUN|nsubj|2 opens|VERB|ROOT|2 the|DET|det|4 door|NOUN|dobj|2 "
    "and|CCONJ|cc|2 enters|VERB|conj|2 the|DET|det|8 room|NOUN|dobj|6"
)
RUNS = "the|DET|det|1 dog|NOUN|nsubj|2 runs|VERB|ROOT|2"


def parsed(words: str) -> list[Token]:
    """Words written as text|part|relation|head, the head by its place."""
    fields = [word.rsplit("|", 3) for word in words.split()]
    return [Token(text, part, relation, int(head)) for text, part, relation, head in fields]


def text_of(words: str) -> str:
    return " ".join(token.text for token in parsed(words))


def make_pipeline(folder: Path, spacy: Any) -> Path:
    """A spaCy pipeline with tagger and parser that has learned two sentences by heart; under a second."""
    layers = {"@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": None, "width": 16, "depth": 2}
    layers |= {"embed_size": 50, "window_size": 1, "maxout_pieces": 2, "subword_features": False}
    parser = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser", "extra_state_tokens": False}
    parser |= {"hidden_width": 16, "maxout_pieces": 2, "use_upper": False, "tok2vec": layers}
    spacy.util.fix_random_seed(0)
    pipeline = spacy.blank("en")
    pipeline.add_pipe("morphologizer", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": layers}})
    pipeline.add_pipe("parser", config={"min_action_freq": 1, "model": parser})
    examples = []
    for tokens in (parsed(OPENS), parsed(RUNS)):
        words, parts, relations, heads = (list(field) for field in zip(*tokens, strict=True))
        gold = spacy.tokens.Doc(pipeline.vocab, words=words, pos=parts, deps=relations, heads=heads)
        examples.append(spacy.training.Example(spacy.tokens.Doc(pipeline.vocab, words=words), gold))
    optimiser = pipeline.initialize(lambda: examples)
    for _ in range(80):
        pipeline.update(examples, sgd=optimiser)
    pipeline.to_disk(folder)
    return folder


@dataclass(frozen=True)
class StandIn:
    """As much of spaCy's pipeline as roles need, for the sentences in its folder's parses.txt; others have no verbs."""

    path: Path

    def __call__(self, text: str) -> Any:
        known = {text_of(line): parsed(line) for line in (self.path / "parses.txt").read_text().splitlines()}
        other = [Token(word, "X", "dep", 0) for word in text.split()]
        words = [
            SimpleNamespace(i=place, text=token.text, pos_=token.part, dep_=token.relation, head=token.head, is_space=False)
            for place, token in enumerate(known.get(" ".join(text.split()), other))
        ]
        for word in words:
            word.head = words[word.head]
        return _Doc(words)

    def pipe(self, texts: Sequence[str]) -> Iterator[Any]:
        return map(self, texts)


class _Doc(list[Any]):
    def has_annotation(self, what: str) -> bool:
        return what in ("POS", "DEP")


def make_stand_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "parses.txt").write_text(f"{OPENS}\n{RUNS}\n")
    return folder


def stand_in_spacy() -> ModuleType:
    """What `import spacy` gives where it is not installed; its pipelines are folders of `make_stand_in`."""

    def load(folder: Path | str, *, exclude: Sequence[str]) -> StandIn:
        if not (Path(folder) / "parses.txt").is_file():
            raise OSError(f"no pipeline {folder}")
        return StandIn(Path(folder))

    module = ModuleType("spacy")
    vars(module)["load"] = load
    return module
