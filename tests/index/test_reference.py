"""How strong a hit is beside the hits of unrelated sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prvr.errors import ModelError
from prvr.features.sources import FeatureSources, Source
from prvr.index import reference as module
from prvr.index.contract import Header
from prvr.index.disk import DiskIndex
from prvr.index.encode import Sampled, encode
from prvr.index.exact import ExactIndex
from prvr.index.reference import EVERY, Reference, measure, reference_of, unrelated_sentences, update_reference
from prvr.methods import checkpoint as checkpoints
from prvr.methods.calibration import Calibration
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig

COLUMNS = 6
CALIBRATION = Calibration(0.0, 1.0, 1.0, 0.0)


def teacher(parts: Any = "frames", text: str = "f" * 16) -> Checkpoint:
    sources = FeatureSources(Source("tiny", COLUMNS, "tiny", "f" * 16, 1.0), Source("tiny", COLUMNS, "tiny", text))
    return checkpoints.build("zero_shot", ZeroShotConfig(parts), sources)


def rows(seed: int, count: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, COLUMNS)).astype(np.float32)


def spoken(sentence: str) -> tuple[torch.Tensor, ...]:
    return (torch.from_numpy(rows(sum(sentence.encode()), 1)),)


def videos(model: Any, seeds: range) -> list[Any]:
    return encode(model, [Sampled(f"{seed:03d}.mp4", rows(seed, 3 + seed % 4)) for seed in seeds])


def index_at(path: Path, checkpoint: Checkpoint, count: int = 16) -> DiskIndex:
    index = DiskIndex.make(path, checkpoint.model, Header(checkpoint.fingerprint, "float32", "videos"))
    index.add(videos(checkpoint.model, range(count)))
    return index


def slowly(galleries: list[np.ndarray], sentences: np.ndarray) -> tuple[Callable[[np.ndarray, np.ndarray], float], list[float]]:
    """The excess of a sentence in a video, and of each sentence's best video, in loops."""

    def unit(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    def score(sentence: np.ndarray, video: np.ndarray) -> float:
        return max(float(unit(sentence) @ unit(frame)) for frame in video)

    frames = [unit(frame) for video in galleries for frame in video]
    mean = sum(frames) / len(frames)

    def excess(sentence: np.ndarray, video: np.ndarray) -> float:
        others = [score(other, video) - float(unit(other) @ mean) for other in sentences[::EVERY]]
        return score(sentence, video) - float(unit(sentence) @ mean) - sum(others) / len(others)

    best = [max(galleries, key=lambda video: score(sentence, video)) for sentence in sentences]
    return excess, sorted(excess(sentence, video) for sentence, video in zip(sentences, best, strict=True))


def test_against_loops() -> None:
    model = ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS)
    index = ExactIndex(model)
    index.add(videos(model, range(7)))
    sentences = rows(100, 23)
    reference = measure(index, (torch.from_numpy(sentences),))
    excess, reached = slowly([rows(seed, 3 + seed % 4) for seed in range(7)], sentences)
    assert reference.reached == pytest.approx(reached, abs=1e-5)
    asked = rows(200, 1)
    found = index.search((torch.from_numpy(asked),), 7)[0]
    wanted = [excess(asked[0], rows(int(hit.video[:3]), 3 + int(hit.video[:3]) % 4)) for hit in found]
    assert reference.strengths((torch.from_numpy(asked),), found) == pytest.approx(
        [sum(one < value for one in reached) / len(reached) for value in wanted], abs=1e-9
    )


def test_the_best_of_all_is_stronger_than_all_and_the_opposite_of_everything_is_the_weakest() -> None:
    model = ZeroShot(ZeroShotConfig(), frame_columns=COLUMNS, word_columns=COLUMNS)
    index = ExactIndex(model)
    index.add(encode(model, [Sampled("one.mp4", np.eye(COLUMNS, dtype=np.float32)[:2])]))
    reference = measure(index, (torch.from_numpy(np.abs(rows(3, 40))),))
    for asked, strength in ((np.eye(COLUMNS)[:1], 1.0), (-np.ones((1, COLUMNS)), 0.0)):
        query = (torch.from_numpy(asked.astype(np.float32)),)
        assert reference.strengths(query, index.search(query, 1)[0]) == [strength]
    assert reference.strengths(query, []) == []


def test_strength_rises_with_the_score_in_a_video() -> None:
    model = ZeroShot(ZeroShotConfig("clips_and_frames"), frame_columns=COLUMNS, word_columns=COLUMNS)
    index = ExactIndex(model)
    index.add(videos(model, range(5)))
    queries = torch.from_numpy(rows(9, 30))
    reference = measure(index, (queries, queries))
    (hit,) = index.search((queries[:1], queries[:1]), 1)[0]
    scores = np.linspace(-3, 3, 21)
    found = reference.strengths((queries[:1], queries[:1]), [replace(hit, score=float(score)) for score in scores])
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0.0, 1.0)


def test_what_is_kept_is_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # All of them, and not those of the other tests alone.
    monkeypatch.setattr(module, "unrelated_sentences", unrelated_sentences)
    checkpoint = teacher()
    index = index_at(tmp_path, checkpoint)
    assert reference_of(checkpoint, index) is None
    update_reference(checkpoint, index, spoken)
    kept = reference_of(checkpoint, index)
    queries = tuple(torch.cat(fields) for fields in zip(*map(spoken, module.unrelated_sentences()), strict=True))
    made = measure(index, queries)
    assert isinstance(kept, Reference)
    assert np.array_equal(kept.reached, made.reached)
    assert all(np.array_equal(a, b) for a, b in zip((*kept.means, *kept.some), (*made.means, *made.some), strict=True))
    # Another process sees it; another model, or one with probabilities, has none.
    assert reference_of(checkpoint, DiskIndex(tmp_path, checkpoint.model)) is not None
    assert reference_of(replace(checkpoint, calibration=CALIBRATION), index) is None
    assert reference_of(teacher("clips"), index) is None
    assert index.verify() == {}


def test_it_is_measured_again_when_an_eighth_has_changed(tmp_path: Path) -> None:
    checkpoint, said = teacher(), []

    def heard(sentence: str) -> tuple[torch.Tensor, ...]:
        said.append(sentence)
        return spoken(sentence)

    index = index_at(tmp_path, checkpoint)
    update_reference(checkpoint, index, heard)
    assert said == list(module.unrelated_sentences())
    first = index.reference()
    index.add(videos(checkpoint.model, range(16, 18)))
    update_reference(checkpoint, index, heard)
    assert index.reference() == first
    # A video that is replaced has changed, too.
    index.add(videos(checkpoint.model, range(3, 4)))
    update_reference(checkpoint, index, heard)
    assert index.reference() != first
    # The sentences are encoded once.
    assert len(said) == len(module.unrelated_sentences())
    second = index.reference()
    index.delete([f"{seed:03d}.mp4" for seed in range(5, 9)])
    update_reference(checkpoint, index, heard)
    assert index.reference() != second
    assert json.loads(index.reference()[0])["videos"] == 14


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("", b""),
        ("[]", b"1234"),
        ('{"made_of": 3}', b""),
        (None, b""),
        (None, b"\0" * 7),
        ("nan", None),
        ("short", None),
        ("videos", None),
    ],
)
def test_a_damaged_one_is_none_and_is_made_again(tmp_path: Path, text: str | None, queries: bytes | None) -> None:
    checkpoint = teacher()
    index = index_at(tmp_path, checkpoint)
    update_reference(checkpoint, index, spoken)
    sound = index.reference()
    assert sound is not None
    known = json.loads(sound[0])
    changes: dict[str, dict[str, Any]] = {
        "nan": {"reached": [float("nan")] * len(known["reached"])},
        "short": {"reached": known["reached"][1:]},
        "videos": {"videos": "many"},
    }
    if text is None:
        text = sound[0]
    elif text in changes:
        text = json.dumps({**known, **changes[text]})
    index.keep_reference(text, sound[1] if queries is None else queries)
    assert reference_of(checkpoint, index) is None
    update_reference(checkpoint, index, spoken)
    assert index.reference() == sound


def test_who_has_none(tmp_path: Path) -> None:
    for checkpoint in (teacher("segments"), teacher(text="0" * 16), replace(teacher(), calibration=CALIBRATION)):
        index = index_at(tmp_path / checkpoint.fingerprint / str(checkpoint.calibration), checkpoint, 2)
        update_reference(checkpoint, index, spoken)
        assert index.reference() is None
        assert reference_of(checkpoint, index) is None
    empty = index_at(tmp_path / "empty", teacher(), 0)
    update_reference(teacher(), empty, spoken)
    assert empty.reference() is None
    # An index that is not in a folder keeps none.
    assert reference_of(teacher(), ExactIndex(teacher().model)) is None
    with pytest.raises(ModelError, match=r"^ZeroShot does not score by a weighted sum of best cosines, .* a reference supports"):
        measure(ExactIndex(teacher("segments").model), spoken("a dog"))


def test_the_sentences_are_different_and_many() -> None:
    sentences = unrelated_sentences()
    assert len(sentences) == len(set(sentences)) > 200
    assert all(sentence == sentence.strip() and sentence.isascii() for sentence in sentences)
