"""A sequence as one row of levels: what Dual Encoding, DE++ and RIVRL share.

Level 1 is the mean over time of a bidirectional GRU's states, level 2 the largest response over time of convolutions over
those states, level 3 what the whole says: the mean of all frames, or a bag of words.

A sentence is a sequence of word ids (`prvr.encoders.vocabulary`), whose vectors are learned, as published; or of features
that an encoder made. The bag of words is then the mean of the features: a bag that a linear layer reads is a sum of one
vector a word, and with the mean these vectors are the features under that layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from prvr.batch import Reading
from prvr.config import check_above_zero, check_shares
from prvr.encoders.vocabulary import SPECIAL
from prvr.errors import DataError, SettingError
from prvr.nn.layers import Dropout
from prvr.nn.shapes import FrameMask, Frames, WordMask, Words
from prvr.nn.text_backbones import BiGru

FIRST_WORD_VECTORS = 0.1


@dataclass(frozen=True)
class LevelSettings:
    """Settings of the levels, of which each method has more.

    frame_gru, word_gru: states of each direction. filters: of each width of convolution.
    max_frames, max_words: more frames are resampled, more words cut; none for all, as published.
    sequence_frames: how many of the first frames GRU and convolutions read; level 3 reads all.
    unit: features are scaled to unit length; published are features as they are.
    vocabulary: 4 + the number of words in the vocabulary file, where sentences are word ids; 0 where they are features.
    word_vectors: columns of the learned vectors of word ids. bag_words: how many of the vocabulary's first words the bag
        counts; 0 for all.
    reads_padding: as the released code does: a vector depends on the longest sequence of its batch (`MultiLevelEncoder`).
    """

    frame_gru: int = 512
    word_gru: int = 512
    word_kernels: tuple[int, ...] = (2, 3, 4)
    filters: int = 512
    max_frames: int | None = None
    max_words: int | None = None
    sequence_frames: int = 64
    unit: bool = False
    vocabulary: int = 0
    word_vectors: int = 500
    bag_words: int = 0
    dropout: float = 0.2
    margin: float = 0.2
    reads_padding: bool = False

    def __post_init__(self) -> None:
        check_above_zero(self, "frame_gru", "word_gru", "filters", "sequence_frames", "word_vectors")
        check_above_zero(self, *(name for name in ("max_frames", "max_words") if getattr(self, name) is not None))
        check_shares(self, "dropout")
        if self.vocabulary < 0 or 0 < self.vocabulary <= SPECIAL:
            raise SettingError(f"vocabulary is {self.vocabulary}; it is {SPECIAL} + the number of words, or 0 for word features")
        if not 0 <= self.bag_words <= max(self.vocabulary - SPECIAL, 0):
            raise SettingError(f"bag_words is {self.bag_words}, and the vocabulary has {max(self.vocabulary - SPECIAL, 0)} words")

    def reading(self, frame_columns: int, word_columns: int, *, sentence_columns: int = 0) -> Reading:
        """How features are read; word ids and the vector of a whole sentence are never scaled."""
        labels = word_columns if self.vocabulary else sentence_columns
        lengths = (self.max_frames, self.max_words)
        return Reading(frame_columns, word_columns, *lengths, unit=self.unit, text="words", label_columns=labels)


class MultiLevelEncoder(nn.Module):
    """Levels 1 and 2 of a sequence, side by side: [mean_t h_t, max_t relu(conv_k(h))_t for each width k], h = BiGRU(x).

    With `reads_padding` a sequence depends on the longest of its batch, as in the released code: a GRU that is not packed
    starts backwards in the padding, and where only padding lies under a convolution, that answers relu(bias).

    Args:
        gru: states of each direction. filters: of each width.
        half: convolutions reach (width - 1) // 2 over both ends (RIVRL's text), in place of width - 1.
        packed: whether the GRU stops at a sequence's end even where padding is read (the released code over words).
    """

    def __init__(
        self,
        columns: int,
        kernels: Sequence[int],
        *,
        gru: int,
        filters: int,
        dropout: float,
        half: bool = False,
        reads_padding: bool = False,
        packed: bool = False,
    ) -> None:
        super().__init__()
        self.columns = 2 * gru + len(kernels) * filters
        self.reads_padding = reads_padding
        self.gru = BiGru(columns, gru, packed=packed or not reads_padding)
        self.dropout = Dropout(dropout)
        reach = [(width - 1) // 2 if half else width - 1 for width in kernels]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(2 * gru, filters, width, padding=over) for width, over in zip(kernels, reach, strict=True)
        )

    def forward(self, rows: Float[Tensor, "N L E"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N X"]:
        longest = int(mask.sum(1).max())
        rows, mask = rows[:, :longest], mask[:, :longest]
        states, _ = self.gru(rows, mask)
        levels = [self.dropout(mean_row(states, mask))]
        if self.convolutions:
            states = states.masked_fill(~mask[..., None], 0).mT
            lengths = None if self.reads_padding else mask.sum(1)
            largest = [largest_response(convolution, states, lengths) for convolution in self.convolutions]
            levels.append(self.dropout(torch.cat(largest, dim=1)))
        return torch.cat(levels, dim=1)


class FrameLevels(nn.Module):
    """The three levels of a video; the third is the mean of all frames."""

    def __init__(self, columns: int, kernels: Sequence[int], settings: LevelSettings) -> None:
        super().__init__()
        self.first = settings.sequence_frames
        self.encoder = MultiLevelEncoder(
            columns,
            kernels,
            gru=settings.frame_gru,
            filters=settings.filters,
            dropout=settings.dropout,
            reads_padding=settings.reads_padding,
        )
        self.columns = self.encoder.columns + columns

    def forward(self, frames: Frames, mask: FrameMask) -> Float[Tensor, "V X"]:
        levels = self.encoder(frames[:, : self.first], mask[:, : self.first])
        return torch.cat([levels, mean_row(frames, mask)], dim=1)


class SentenceLevels(nn.Module):
    """The three levels of a sentence; the third is its bag of words.

    Args:
        half: as in `MultiLevelEncoder`.
        sentence_columns: how many of the last word columns hold a vector of the whole sentence, the same in each row: a
            level of its own (BERT's, an option of RIVRL).
    """

    def __init__(self, columns: int, settings: LevelSettings, *, half: bool = False, sentence_columns: int = 0) -> None:
        super().__init__()
        self.vocabulary, self.sentence_columns = settings.vocabulary, sentence_columns
        own = columns - sentence_columns
        if own < 1 or (self.vocabulary and own != 1):
            raise SettingError(
                f"sentences have {columns} columns, and these settings need {'1 of word ids' if self.vocabulary else 'words'}"
                f"{f' beside {sentence_columns} of a sentence' if sentence_columns else ''}; with word features set "
                "vocabulary=0, with those of prvr extract --words ids:VOCABULARY set it to 4 + the words of that file"
            )
        self.table = nn.Embedding(self.vocabulary, settings.word_vectors) if self.vocabulary else None
        if self.table is not None:
            nn.init.uniform_(self.table.weight, -FIRST_WORD_VECTORS, FIRST_WORD_VECTORS)
        self.encoder = MultiLevelEncoder(
            settings.word_vectors if self.vocabulary else own,
            settings.word_kernels,
            gru=settings.word_gru,
            filters=settings.filters,
            dropout=settings.dropout,
            half=half,
            reads_padding=settings.reads_padding,
            packed=True,
        )
        self.bag = settings.bag_words or self.vocabulary - SPECIAL
        self.columns = self.encoder.columns + (self.bag if self.vocabulary else own) + sentence_columns

    def forward(self, words: Words, mask: WordMask) -> Float[Tensor, "Q X"]:
        own = words[..., : words.shape[-1] - self.sentence_columns]
        if self.table is None:
            rows, bag = own, mean_row(own, mask)
        else:
            ids = word_ids(own, mask, self.vocabulary)
            rows, bag = self.table(ids), count_words(ids, mask, self.bag).to(words.dtype)
        whole = words[:, 0, words.shape[-1] - self.sentence_columns :]
        return torch.cat([self.encoder(rows, mask), bag, whole], dim=1)


class Mapping(nn.Module):
    """Linear, batch normalisation and dropout: levels to a space.

    A batch of one row has no spread to be normalised by, and is normalised by the running figures. Where several processes
    share a batch each normalises its own part, so that these runs differ from those of one process.
    """

    def __init__(self, columns: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, hidden)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.norm = nn.BatchNorm1d(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, levels: Float[Tensor, "N X"]) -> Float[Tensor, "N D"]:
        return self.dropout(batch_normalise(self.norm, self.linear(levels)))


def batch_normalise(norm: nn.BatchNorm1d, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Batch normalisation that takes a single row, too: by the running figures."""
    if norm.training and len(rows) == 1:
        return functional.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    normalised: Tensor = norm(rows)
    return normalised


def mean_row(rows: Float[Tensor, "N L E"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N E"]:
    """The mean of the real rows."""
    return rows.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)


def largest_response(
    convolution: nn.Module, states: Float[Tensor, "N S L"], lengths: Int[Tensor, "N"] | None
) -> Float[Tensor, "N X"]:
    """The largest rectified response over time: over all places, or over those that a sequence of its length has alone."""
    assert isinstance(convolution, nn.Conv1d)
    width, over = convolution.kernel_size[0], int(convolution.padding[0])
    missing = width - states.shape[2] - 2 * over
    if missing > 0:
        states = functional.pad(states, (0, missing))
    responses = convolution(states).relu()
    if lengths is not None:
        # Responses are at least 0, so that 0 hides those of the padding.
        places = (lengths + 2 * over - width + 1).clamp(min=1)
        beyond = torch.arange(responses.shape[2], device=lengths.device) >= places[:, None]
        responses = responses.masked_fill(beyond[:, None], 0)
    return responses.amax(2)


def word_ids(words: Float[Tensor, "Q W 1"], mask: Bool[Tensor, "Q W"], vocabulary: int) -> Int[Tensor, "Q W"]:
    """Word ids from features, 0 where padded.

    Raises:
        DataError: a number is not the id of a word.
    """
    ids = words[..., 0].masked_fill(~mask, 0)
    wrong = ids[(ids != ids.round()) | (ids < 0) | (ids >= vocabulary)]
    if len(wrong):
        raise DataError(
            f"a word has the id {wrong[0].item():.6g}, and the vocabulary ids from 0 to {vocabulary - 1}; read words of "
            "prvr extract --words ids:VOCABULARY, with vocabulary set to 4 + the words of that file"
        )
    return ids.long()


def count_words(ids: Int[Tensor, "Q W"], mask: Bool[Tensor, "Q W"], words: int) -> Int[Tensor, "Q B"]:
    """How often each of the first `words` words of the vocabulary stands in each sentence."""
    places = (ids - SPECIAL + 1).clamp(min=0, max=words + 1)
    counts = torch.zeros(len(ids), words + 2, dtype=torch.long, device=ids.device)
    # The first and the last column take the special words and those that are not counted.
    return counts.scatter_add_(1, places, mask.long())[:, 1:-1]
