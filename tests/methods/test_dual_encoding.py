"""Dual Encoding and DE++: levels, spaces, fusion and losses beside slow loops, and what is true of every method."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch
from method_checks import (
    MATRIX,
    PROFILE,
    build,
    check_invariants,
    check_learning,
    check_learns,
    check_taught,
    padded,
    sequences,
    terms_of,
    toy_batch,
)
from torch import Tensor
from toy_world import READS, toy_world

from prvr.errors import DataError, SettingError
from prvr.methods.dual_encoding import DualEncoding, DualEncodingConfig
from prvr.methods.dual_encoding_hybrid import DualEncodingHybridConfig
from prvr.nn import losses
from prvr.nn.hybrid import (
    Cohort,
    HybridSettings,
    SaidConcepts,
    concepts_of_videos,
    hybrid_scores,
    hybrid_terms,
    jaccard,
    published_fusion,
)
from prvr.nn.layers import Rows
from prvr.nn.levels import FrameLevels, LevelSettings, Mapping, MultiLevelEncoder, SentenceLevels
from prvr.train.loop import Recipe, Training, train_student

LEVELS = {"frame_gru": 8, "word_gru": 8, "filters": 8, "dropout": 0.0}
SETTINGS = {
    "dual_encoding": DualEncodingConfig(hidden=16, **LEVELS),
    "dual_encoding_hybrid": DualEncodingHybridConfig(latent=16, concepts=12, cohort=7, **LEVELS),
}
each = pytest.mark.parametrize("method", SETTINGS)


@each
def test_what_pads_and_who_stands_beside_changes_nothing(method: str) -> None:
    model = build(method, SETTINGS[method])
    if method == "dual_encoding_hybrid":
        model.cohort.remember(torch.randn(7, 1, 16), torch.rand(7, 1, 12))
    check_invariants(model)


@each
def test_all_that_learns_gets_a_gradient(method: str) -> None:
    model = build(method, SETTINGS[method])
    check_learning(method, model, toy_batch(model), toy_batch(model, most=1))


@each
def test_a_teacher_can_tell_whole_videos_apart_and_no_frames(method: str) -> None:
    model = build(method, SETTINGS[method])
    check_taught(method, model, toy_batch(model), by=(MATRIX,))
    with pytest.raises(SettingError, match="does not score along a video; take distillation_target=batch_matrix"):
        check_taught(method, model, toy_batch(model), by=(PROFILE,))


@pytest.mark.slow
@each
def test_learns_the_toy_world(method: str, tmp_path: Path) -> None:
    space = {"hidden": 32} if method == "dual_encoding" else {"latent": 32, "concepts": 32}
    settings = replace(SETTINGS[method], frame_gru=16, word_gru=16, filters=16, **space)
    check_learns(method, settings, tmp_path)


@each
def test_a_run_that_was_cut_off_goes_on_with_its_running_figures(method: str, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(note: str, done: int, total: int) -> None:
        if done == 4:
            raise Killed

    data, recipe = toy_world(videos=30), Recipe(method, SETTINGS[method], Training(lr=3e-3, epochs=3, batch_videos=10, seed=1))
    whole = train_student(tmp_path / "whole", recipe, reads=READS, data=data)
    with pytest.raises(Killed):
        train_student(tmp_path / "cut", recipe, reads=READS, data=data, on_progress=kill)
    resumed = train_student(tmp_path / "cut", recipe, reads=READS, data=data)
    assert resumed.fingerprint == whole.fingerprint
    for name, tensor in resumed.model.state_dict().items():
        assert torch.equal(tensor, whole.model.state_dict()[name]), name


# Dual Encoding


def slow_levels(encoder: MultiLevelEncoder, rows: Tensor, reach: dict[int, int]) -> list[float]:
    """One sequence without padding: every level by itself. `reach`: zeros at both ends, by the width of a convolution."""
    states = encoder.gru.gru(rows[None])[0][0]
    found = states.mean(0).tolist()
    zero = torch.zeros(states.shape[1])
    for convolution in encoder.convolutions:
        (width,) = convolution.kernel_size
        read = [zero] * reach[width] + list(states) + [zero] * reach[width]
        read += [zero] * (width - len(read))
        for weight, bias in zip(convolution.weight, convolution.bias, strict=True):
            responses = []
            for start in range(len(read) - width + 1):
                total = float(bias) + sum(float(weight[:, k] @ read[start + k]) for k in range(width))
                responses.append(max(total, 0.0))
            found.append(max(responses))
    return found


@pytest.mark.parametrize(("half", "reach"), [(False, {2: 1, 3: 2, 4: 3}), (True, {2: 0, 3: 1, 4: 1})])
@torch.no_grad()
def test_levels_against_slow_loops(half: bool, reach: dict[int, int]) -> None:
    torch.manual_seed(0)
    encoder = MultiLevelEncoder(3, (2, 3, 4), gru=2, filters=4, dropout=0.0, half=half)
    rows = sequences((5, 1, 3), 3)
    found = encoder(*padded(rows, more=2, filled=9.0))
    assert found.shape == (3, encoder.columns) == (3, 4 + 12)
    for place, row in enumerate(rows):
        assert found[place].tolist() == pytest.approx(slow_levels(encoder, row, reach), abs=1e-5)


@torch.no_grad()
def test_gru_and_convolutions_read_the_first_frames_and_the_mean_is_of_all() -> None:
    torch.manual_seed(0)
    levels = FrameLevels(3, (2,), LevelSettings(frame_gru=2, filters=4, sequence_frames=4, dropout=0.0))
    frames = sequences((6, 2), 3)
    found = levels(*padded(frames, more=1, filled=9.0))
    assert found.shape == (2, levels.columns) == (2, 4 + 4 + 3)
    for place, rows in enumerate(frames):
        wanted = slow_levels(levels.encoder, rows[:4], {2: 1}) + rows.mean(0).tolist()
        assert found[place].tolist() == pytest.approx(wanted, abs=1e-5)


@torch.no_grad()
def test_padding_is_read_where_the_released_code_reads_it() -> None:
    settings = replace(SETTINGS["dual_encoding"], reads_padding=True)
    model = build("dual_encoding", settings)
    long, short = sequences((7, 3), READS.frames.columns)
    alone = model.encode_videos(*padded([short]))[0]
    beside = model.encode_videos(*padded([short, long]))[0]
    assert not torch.allclose(beside[0], alone[0], atol=1e-4)
    words = sequences((3, 1), READS.text.columns)
    # The released code packs sentences, so that only their convolutions see padding.
    states = [model.words.encoder.gru(*padded(given))[0][0, 0] for given in (words[1:], words[::-1])]
    torch.testing.assert_close(*states)


@torch.no_grad()
def test_a_sentence_of_word_ids() -> None:
    torch.manual_seed(0)
    settings = LevelSettings(vocabulary=9, word_vectors=3, word_gru=2, filters=4, word_kernels=(2,), dropout=0.0)
    levels = SentenceLevels(1, settings)
    words, mask = padded([torch.tensor([[1.0], [6], [3], [6], [8], [2]]), torch.tensor([[1.0], [2]])], filled=7.0)
    found = levels(words, mask)
    assert found.shape == (2, levels.columns) == (2, 4 + 4 + 5)
    # Start, end and the unknown word are not counted.
    assert found[:, -5:].tolist() == [[0, 0, 2, 0, 1], [0] * 5]
    vectors = levels.table(torch.tensor([1, 6, 3, 6, 8, 2]))
    assert found[0, :8].tolist() == pytest.approx(slow_levels(levels.encoder, vectors, {2: 1}), abs=1e-5)
    fewer = SentenceLevels(1, replace(settings, bag_words=3))
    assert fewer(words, mask)[:, -3:].tolist() == [[0, 0, 2], [0] * 3]
    for wrong in (9.0, 2.5, -1.0):
        with pytest.raises(DataError, match=f"a word has the id {wrong:g}, and the vocabulary ids from 0 to 8; read words of"):
            levels(torch.full((1, 1, 1), wrong), torch.ones(1, 1, dtype=torch.bool))


@torch.no_grad()
def test_word_features_and_the_vector_of_a_sentence() -> None:
    torch.manual_seed(0)
    levels = SentenceLevels(5, LevelSettings(word_gru=2, filters=4, word_kernels=(2,), dropout=0.0), sentence_columns=2)
    rows = sequences((4, 2), 5)
    for row in rows:
        row[:, 3:] = row[0, 3:].clone()
    found = levels(*padded(rows))
    assert found.shape == (2, levels.columns) == (2, 4 + 4 + 3 + 2)
    for place, row in enumerate(rows):
        wanted = slow_levels(levels.encoder, row[:, :3], {2: 1}) + row[:, :3].mean(0).tolist() + row[0, 3:].tolist()
        assert found[place].tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_order_of_words_matters() -> None:
    torch.manual_seed(0)
    levels = SentenceLevels(3, LevelSettings(word_gru=4, filters=4, word_kernels=(2,), dropout=0.0))
    (row,) = sequences((4,), 3)
    forth, back = (levels(*padded([rows]))[0] for rows in (row, row.flip(0)))
    torch.testing.assert_close(forth[-3:], back[-3:])
    assert not torch.allclose(forth[:8], back[:8], atol=1e-3)
    assert not torch.allclose(forth[8:-3], back[8:-3], atol=1e-3)


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
    model = build("dual_encoding", SETTINGS["dual_encoding"])
    batch = toy_batch(model)
    terms, (query,), (video,) = terms_of("dual_encoding", model, batch)
    s = torch.tensor([[oracles.cosine(q, v[0]) for v in video.tolist()] for q in query.tolist()])
    assert terms["triplet"].item() == pytest.approx(losses.hardest_triplet(s, batch.target, margin=0.2).item(), abs=1e-5)
    assert list(terms) == ["triplet"]


def test_a_batch_of_one_is_normalised_by_the_running_figures() -> None:
    torch.manual_seed(0)
    mapping, rows = Mapping(3, 4), torch.randn(6, 3)
    for _ in range(50):
        mapping(rows)
    alone = mapping(rows[:1])
    torch.testing.assert_close(alone, mapping.eval()(rows[:1]))
    assert mapping.norm.num_batches_tracked == 50


# DE++


def slow_jaccard(a: list[float], b: list[float]) -> float:
    return sum(map(min, a, b)) / sum(map(max, a, b))


def test_jaccard_against_slow_loops() -> None:
    queries, videos = torch.rand(5, 9), torch.rand(3, 9)
    wanted = [[slow_jaccard(q, v) for v in videos.tolist()] for q in queries.tolist()]
    torch.testing.assert_close(jaccard(queries, videos), torch.tensor(wanted))
    assert jaccard(videos, videos).diagonal().tolist() == pytest.approx([1, 1, 1])
    assert jaccard(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item() == 0


def test_what_concepts_are_worth_against_slow_loops() -> None:
    # Video 0: the first concept in both captions, twice in one, the third in two of them; video 2 says nothing.
    said = torch.tensor([[2.0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    target = torch.tensor([0, 0, 1, 2])
    once = torch.tensor([[1, 1 / 3, 2 / 3, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(concepts_of_videos(said, target, 3, least=1), once)
    shown = concepts_of_videos(said, target, 3, least=2)
    torch.testing.assert_close(shown, torch.tensor([[1, 0, 2 / 3, 0], [0] * 4, [0] * 4]))
    queries, videos = torch.rand(4, 4), torch.rand(3, 1, 4)

    def cross_entropy(p: list[list[float]], y: list[list[float]]) -> float:
        each = [
            -(t * math.log(x) + (1 - t) * math.log(1 - x)) for a, b in zip(p, y, strict=True) for x, t in zip(a, b, strict=True)
        ]
        return oracles.mean(each)

    latent = torch.randn(4, 2), torch.randn(3, 1, 2)
    terms = hybrid_terms((latent[0], queries), (latent[1], videos), shown, target, margins=(0.2, 0.1))
    # A caption is trained towards the concepts of its video.
    wanted = cross_entropy(queries.tolist(), shown[target].tolist())
    assert terms["query_concepts"].item() == pytest.approx(wanted, abs=1e-6)
    assert terms["video_concepts"].item() == pytest.approx(cross_entropy(videos[:, 0].tolist(), shown.tolist()), abs=1e-6)


def test_a_word_is_the_same_concept_wherever_it_stands() -> None:
    settings = HybridSettings(concepts=64)
    hashed, vocabulary = SaidConcepts(8, settings), torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    sentences = [[0, 1, 2], [2, 2], [3, 4, 5, 6], [7, 8, 9, 0]]
    words, mask = padded([vocabulary[list(sentence)] for sentence in sentences], filled=50.0)
    said = hashed(words, Rows.of(mask))
    assert said.shape == (4, 64)
    assert said.sum(1).tolist() == [3, 2, 4, 4]
    assert said[1].max() == 2
    named = said > 0
    assert (named[0] & named[1]).sum() == 1
    assert (named[0] & named[3]).sum() >= 1
    # 10 words hashed to 64 concepts: most keep one of their own.
    assert named.any(0).sum() >= 7
    assert "directions" not in hashed.state_dict()
    assert torch.equal(SaidConcepts(8, settings).directions, hashed.directions)


def test_of_word_ids_the_first_words_of_the_vocabulary_are_the_concepts() -> None:
    said = SaidConcepts(1, HybridSettings(vocabulary=12, concepts=3))
    words, mask = padded([torch.tensor([[1.0], [4], [6], [9], [6], [2]]), torch.tensor([[1.0], [2]])], filled=5.0)
    assert said(words, Rows.of(mask)).tolist() == [[1, 0, 2], [0, 0, 0]]


def test_the_concepts_of_a_sentence_are_read_in_training_alone() -> None:
    model = build("dual_encoding_hybrid", SETTINGS["dual_encoding_hybrid"])
    batch = toy_batch(model)
    assert [len(model.train(training).encode_queries(batch.words, batch.word_mask)) for training in (True, False)] == [3, 2]


@torch.no_grad()
def test_a_query_is_calibrated_by_itself_against_slow_loops() -> None:
    torch.manual_seed(0)
    cohort = Cohort(HybridSettings(cohort=4, latent=3, concepts=5))
    queries, videos = (torch.randn(6, 3), torch.rand(6, 5)), (torch.randn(2, 1, 3), torch.rand(2, 1, 5))
    latent, concept = hybrid_scores(queries, videos)
    fresh = cohort.fuse(queries, videos, latent_weight=0.6, fusion="per_query")
    torch.testing.assert_close(fresh, 0.6 * latent + 0.4 * concept)
    known = torch.randn(3, 1, 3), torch.rand(3, 1, 5)
    cohort.remember(*known)
    found = cohort.fuse(queries, videos, latent_weight=0.6, fusion="per_query")
    for n in range(6):
        cosines = [oracles.cosine(queries[0][n].tolist(), v[0].tolist()) for v in known[0]]
        overlaps = [slow_jaccard(queries[1][n].tolist(), v[0].tolist()) for v in known[1]]
        for v in range(2):
            one = (float(latent[n, v]) - min(cosines)) / (max(cosines) - min(cosines))
            two = (float(concept[n, v]) - min(overlaps)) / (max(overlaps) - min(overlaps))
            assert float(found[n, v]) == pytest.approx(0.6 * one + 0.4 * two, abs=1e-4)
    raw = cohort.fuse(queries, videos, latent_weight=0.6, fusion="raw")
    torch.testing.assert_close(raw, fresh)


def test_the_cohort_is_of_the_last_videos() -> None:
    cohort = Cohort(HybridSettings(cohort=3, latent=1, concepts=1))
    for value in (1.0, 2.0, 3.0):
        cohort.remember(torch.full((2, 1, 1), value), torch.full((2, 1, 1), value))
    assert cohort.latent.flatten().tolist() == cohort.concepts.flatten().tolist() == [3, 3, 2]
    assert cohort.filled.all()
    cohort.remember(torch.arange(5.0).view(5, 1, 1), torch.zeros(5, 1, 1))
    assert cohort.latent.flatten().tolist() == [0, 1, 2]


def test_the_published_fusion_depends_on_the_whole_test() -> None:
    latent, concept = torch.tensor([[0.0, 1.0], [0.5, 0.25]]), torch.tensor([[2.0, 4.0], [3.0, 6.0]])
    found = published_fusion(latent, concept, latent_weight=0.6)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.6 + 0.2], [0.3 + 0.1, 0.15 + 0.4]]))
    fewer = published_fusion(latent[:, :1], concept[:, :1], latent_weight=0.6)
    assert not torch.allclose(fewer, found[:, :1])


def test_the_terms_of_a_hybrid_space() -> None:
    model = build("dual_encoding_hybrid", SETTINGS["dual_encoding_hybrid"])
    batch = toy_batch(model)
    terms, queries, videos = terms_of("dual_encoding_hybrid", model, batch)
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
    with pytest.raises(SettingError, match="sentences have 16 columns, and these settings need 1 of word ids; with word features"):
        build(method, replace(SETTINGS[method], vocabulary=6))


def test_dropout_is_where_the_released_code_has_it() -> None:
    torch.manual_seed(0)
    (rows,) = sequences((5,), 3)
    given = padded([rows, rows])
    levels = FrameLevels(3, (2,), LevelSettings(frame_gru=50, filters=50, dropout=0.5)).train()
    found, still = levels(*given), levels.eval()(*given)
    dropped = found == 0
    assert 0.2 < dropped[:, :100].float().mean() < 0.8
    torch.testing.assert_close(found[~dropped][:50], 2 * still[~dropped][:50])
    # Neither what the convolutions read nor the mean of the frames.
    convolved = found[:, 100:150]
    torch.testing.assert_close(convolved[convolved > 0], 2 * still[:, 100:150][convolved > 0])
    torch.testing.assert_close(found[:, 150:], still[:, 150:])
    mapping = Mapping(3, 200, 0.5).train()
    assert 0.3 < (mapping(torch.randn(4, 3)) == 0).float().mean() < 0.7
    model = DualEncoding(DualEncodingConfig(hidden=64, frame_gru=8, word_gru=8, filters=8), frame_columns=3, word_columns=4)
    kept = given[0].clone()
    model.train().encode_videos(*given)[0].sum().backward()
    assert torch.equal(given[0], kept)
