"""Levels of a sequence beside slow loops: GRU, convolutions, means, bags of words, and where dropout is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_checks import padded, sequences
from torch import Tensor

from prvr.errors import DataError
from prvr.methods.dual_encoding import DualEncoding, DualEncodingConfig
from prvr.nn.levels import FrameLevels, LevelSettings, Mapping, MultiLevelEncoder, SentenceLevels


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


def test_a_batch_of_one_is_normalised_by_the_running_figures() -> None:
    torch.manual_seed(0)
    mapping, rows = Mapping(3, 4), torch.randn(6, 3)
    for _ in range(50):
        mapping(rows)
    alone = mapping(rows[:1])
    torch.testing.assert_close(alone, mapping.eval()(rows[:1]))
    assert mapping.norm.num_batches_tracked == 50


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
