"""Dual Encoding and DE++: levels, spaces, fusion and losses beside slow loops, and what is true of every method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import method_checks as checks
import oracles
import pytest
import torch
from toy_world import READS, toy_world

from prvr.encoders.vocabulary import SPECIAL, Vocabulary, write_vocabulary
from prvr.errors import SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.methods import open_method
from prvr.methods.dual_encoding import DualEncodingConfig
from prvr.methods.dual_encoding_hybrid import DualEncodingHybridConfig
from prvr.nn import losses
from prvr.nn.hybrid import (
    concepts_of_videos,
    hybrid_scores,
    hybrid_terms,
)
from prvr.train.loop import Recipe, Training, train_student

LEVELS = {"frame_gru": 8, "word_gru": 8, "filters": 8, "dropout": 0.0}
SETTINGS = {
    "dual_encoding": DualEncodingConfig(hidden=16, **LEVELS),
    "dual_encoding_hybrid": DualEncodingHybridConfig(latent=16, concepts=12, cohort=7, **LEVELS),
}
each = pytest.mark.parametrize("method", SETTINGS)


@each
def test_what_pads_and_who_stands_beside_changes_nothing(method: str) -> None:
    model = checks.build(method, SETTINGS[method])
    if method == "dual_encoding_hybrid":
        model.cohort.remember(torch.randn(7, 1, 16), torch.rand(7, 1, 12))
    checks.check_invariants(model)


@each
def test_all_that_learns_gets_a_gradient(method: str) -> None:
    model = checks.build(method, SETTINGS[method])
    checks.check_learning(method, model, checks.toy_batch(model), checks.toy_batch(model, most=1))


@each
def test_a_teacher_can_tell_whole_videos_apart_and_no_frames(method: str) -> None:
    model = checks.build(method, SETTINGS[method])
    checks.check_taught(method, model, checks.toy_batch(model), by=(checks.MATRIX,))
    with pytest.raises(SettingError, match="does not score along a video; take distillation_target=batch_matrix"):
        checks.check_taught(method, model, checks.toy_batch(model), by=(checks.PROFILE,))


@pytest.mark.slow
@pytest.mark.thorough
@each
def test_learns_the_toy_world(method: str, tmp_path: Path) -> None:
    space = {"hidden": 32} if method == "dual_encoding" else {"latent": 32, "concepts": 32}
    settings = replace(SETTINGS[method], frame_gru=16, word_gru=16, filters=16, **space)
    checks.check_learns(method, settings, tmp_path)


@each
def test_a_run_that_was_cut_off_goes_on_with_its_running_figures(method: str, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(note: str, done: int, total: int) -> None:
        if done == 4:
            raise Killed

    data, recipe = toy_world(videos=30), Recipe(method, SETTINGS[method], Training(lr=3e-3, epochs=3, batch_videos=10, seed=1))
    whole = train_student(tmp_path / "whole", recipe, data=data)
    with pytest.raises(Killed):
        train_student(tmp_path / "cut", recipe, data=data, on_progress=kill)
    resumed = train_student(tmp_path / "cut", recipe, data=data)
    assert resumed.fingerprint == whole.fingerprint
    for name, tensor in resumed.model.state_dict().items():
        assert torch.equal(tensor, whole.model.state_dict()[name]), name


@torch.no_grad()
def test_padding_is_read_where_the_released_code_reads_it() -> None:
    settings = replace(SETTINGS["dual_encoding"], reads_padding=True)
    model = checks.build("dual_encoding", settings)
    long, short = checks.sequences((7, 3), READS.frames.columns)
    alone = model.encode_videos(*checks.padded([short]))[0]
    beside = model.encode_videos(*checks.padded([short, long]))[0]
    assert not torch.allclose(beside[0], alone[0], atol=1e-4)
    words = checks.sequences((3, 1), READS.text.columns)
    # The released code packs sentences, so that only their convolutions see padding.
    states = [model.words.encoder.gru(*checks.padded(given))[0][0, 0] for given in (words[1:], words[::-1])]
    torch.testing.assert_close(*states)


@pytest.mark.parametrize("captions", [(1,), (2, 1), (3, 1, 2), (1,) * 6])
def test_the_hardest_triplet_against_slow_loops(captions: tuple[int, ...]) -> None:
    y = [v for v, count in enumerate(captions) for _ in range(count)]
    s = torch.randn(len(y), len(captions), generator=torch.Generator().manual_seed(3)).double()
    total = 0.0
    for n, v in enumerate(y):
        videos = [0.2 + float(s[n, w] - s[n, v]) for w in range(len(captions)) if w != v]
        queries = [0.2 + float(s[k, v] - s[n, v]) for k in range(len(y)) if y[k] != v]
        total += max([0.0, *videos]) + max([0.0, *queries])
    found = losses.hardest_triplet(s, torch.tensor(y), margin=0.2)
    assert found.item() == pytest.approx(total / len(y))


def test_the_hardest_triplet_by_hand() -> None:
    s, target = torch.tensor([[0.5, 0.4], [0.9, 0.6]]), torch.tensor([0, 1])
    # Text to video 0.1 and 0.5, video to text 0.6 and 0.
    assert losses.hardest_triplet(s, target, margin=0.2).item() == pytest.approx((0.1 + 0.5 + 0.6 + 0.0) / 2)


def test_the_objective_is_that_triplet_of_cosines() -> None:
    model = checks.build("dual_encoding", SETTINGS["dual_encoding"])
    batch = checks.toy_batch(model)
    terms, (query,), (video,) = checks.terms_of("dual_encoding", model, batch)
    s = torch.tensor([[oracles.cosine(q, v[0]) for v in video.tolist()] for q in query.tolist()])
    assert terms["triplet"].item() == pytest.approx(losses.hardest_triplet(s, batch.target, margin=0.2).item(), abs=1e-5)
    assert list(terms) == ["triplet"]


def test_the_concepts_of_a_sentence_are_read_in_training_alone() -> None:
    model = checks.build("dual_encoding_hybrid", SETTINGS["dual_encoding_hybrid"])
    batch = checks.toy_batch(model)
    assert [len(model.train(training).encode_queries(batch.words, batch.word_mask)) for training in (True, False)] == [3, 2]


def test_the_terms_of_a_hybrid_space() -> None:
    model = checks.build("dual_encoding_hybrid", SETTINGS["dual_encoding_hybrid"])
    batch = checks.toy_batch(model)
    terms, queries, videos = checks.terms_of("dual_encoding_hybrid", model, batch)
    latent, concept = hybrid_scores(queries[:2], videos)
    assert terms["latent_triplet"].item() == pytest.approx(losses.hardest_triplet(latent, batch.target, margin=0.2).item())
    assert terms["concept_triplet"].item() == pytest.approx(losses.hardest_triplet(concept, batch.target, margin=0.2).item())
    shown = concepts_of_videos(queries[2], batch.target, len(batch.frames), least=2)
    by_hand = hybrid_terms((queries[0], queries[1]), (videos[0], videos[1]), shown, batch.target, margins=(0.2, 0.2))
    assert {name: value.item() for name, value in terms.items()} == {name: value.item() for name, value in by_hand.items()}
    assert model.cohort.filled.sum() == min(7, len(batch.frames))
    torch.testing.assert_close(model.cohort.latent[: len(videos[0])], videos[0][:7].detach())


@each
def test_settings_that_cannot_be(method: str) -> None:
    with pytest.raises(SettingError, match="filters is 0; it must be above 0"):
        replace(SETTINGS[method], filters=0)
    with pytest.raises(SettingError, match=r"dropout is -0.1; it takes a share"):
        replace(SETTINGS[method], dropout=-0.1)


@each
def test_settings_of_word_ids_and_words_that_do_not_fit(method: str) -> None:
    with pytest.raises(SettingError, match=r"vocabulary is 3; it is 4 \+ the number of words, or 0 for word features"):
        replace(SETTINGS[method], vocabulary=3)
    with pytest.raises(SettingError, match="bag_words is 3, and the vocabulary has 2 words"):
        replace(SETTINGS[method], vocabulary=6, bag_words=3)
    with pytest.raises(
        SettingError, match="sentences have 16 columns, and these settings need 1 of word ids; with word features"
    ):
        checks.build(method, replace(SETTINGS[method], vocabulary=6))


@pytest.mark.parametrize("method", ["dual_encoding", "dual_encoding_hybrid", "rivrl"])
def test_sentences_of_word_ids_from_captions_to_a_gradient(method: str, tmp_path: Path) -> None:
    data = toy_world(videos=12)
    captions = [*data.train.captions, *data.dev.captions]
    path = tmp_path / "words.txt"
    vocabulary = SPECIAL + write_vocabulary(path, [caption.text for caption in captions], least=1)
    encoder = Vocabulary(path)
    ids = dict(zip([c.id for c in captions], encoder.encode_words([c.text for c in captions]), strict=True))
    data = replace(data, features=replace(data.features, text=ids))
    small: dict[str, Any] = {"vocabulary": vocabulary, "word_vectors": 6, "unit": True, **LEVELS}
    if method != "dual_encoding":
        small |= {"latent": 8, "concepts": 4, "least_said": 1}
    if method == "rivrl":
        small |= {"segment_filters": 6, "attention": 4}
    settings = open_method(method).config(**small)
    model = checks.build(method, settings, FeatureSources(READS.frames, Source("words", encoder.word_columns)))
    checks.check_learning(method, model, checks.toy_batch(model, data=data), checks.toy_batch(model, data=data, most=1))
    if method != "dual_encoding":
        queries = model.train().encode_queries(*checks.padded([torch.from_numpy(ids[captions[0].id])]))
        # "thing N": both words are said, and the first words of the vocabulary are concepts.
        assert 1 <= queries[-1].sum() <= 2
