"""Dual Encoding (Dong et al., CVPR 2019): one vector per sentence and one per whole video, each from three levels.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
level 1, global              `MultiLevelEncoder`: the mean of the rows
level 2, temporal-aware      the mean over time of a bidirectional GRU's states, `frame_gru`, `word_gru`
level 3, local-enhanced      convolutions over those states, the largest response over time, `frame_kernels`, `word_kernels`
bag of words                 the mean of the words' features: see below
common space, FC and BN      `Mapping`, `hidden` columns; the cosine makes the vectors unit
improved marginal ranking    `losses.hardest_triplet`, `margin`: hardest wrong partner of the batch, both directions
S(q, v)                      `DualEncoding.score`: the cosine of the two vectors, field "video"

The paper counts words in a vocabulary. Features of words are at hand here and vocabularies are not: a bag of words that a
linear layer reads is a sum of one vector a word, and with the mean of the words' features the vectors are those features
under the same layer. Static word vectors, such as the paper's word2vec, give one vector for each word of a vocabulary;
words that a language model encoded give one that knows its sentence.

Source: spec/methods 2.6. It leaves open, and we decided: convolutions reach over both ends, with zeros there; drop-out on
the states that the convolutions read and on the levels that are mapped; rows of unit length, 128 frames and 30 words,
as all students of this field read them; initial weights are torch's. A video's captions are each a pair of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_shares
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn import losses, scores
from prvr.nn.layers import Dropout
from prvr.nn.text_backbones import BiGru


@dataclass(frozen=True)
class DualEncodingConfig:
    """Settings of the paper.

    hidden: columns of the common space. frame_gru, word_gru: states of each direction. filters: of each kernel.
    """

    hidden: int = 2048
    frame_gru: int = 1024
    word_gru: int = 512
    frame_kernels: tuple[int, ...] = (2, 3, 4, 5)
    word_kernels: tuple[int, ...] = (2, 3, 4)
    filters: int = 512
    max_frames: int = 128
    max_words: int = 30
    dropout: float = 0.2
    margin: float = 0.2

    def __post_init__(self) -> None:
        check_above_zero(self, "hidden", "frame_gru", "word_gru", "filters", "max_frames", "max_words")
        check_shares(self, "dropout")


class MultiLevelEncoder(nn.Module):
    """A sequence as one row, three levels side by side: what is there, in which order, and which few things in a row.

    [mean_t x_t, mean_t h_t, max_t relu(conv_k(h))_t for each width k], h = BiGRU(x); padding takes part in none of them.
    """

    def __init__(self, columns: int, gru: int, kernels: Sequence[int], filters: int, dropout: float) -> None:
        super().__init__()
        self.columns = columns + 2 * gru + len(kernels) * filters
        self.gru = BiGru(columns, gru)
        self.dropout = Dropout(dropout)
        self.convolutions = nn.ModuleList(nn.Conv1d(2 * gru, filters, width, padding=width - 1) for width in kernels)

    def forward(self, rows: Float[Tensor, "N L E"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N X"]:
        states, _ = self.gru(rows, mask)
        # A copy, because drop-out writes over its input.
        read = self.dropout(states.mT.clone())
        lengths = mask.sum(1)
        largest = [_largest_response(convolution, read, lengths) for convolution in self.convolutions]
        return self.dropout(torch.cat([mean_row(rows, mask), mean_row(states, mask), *largest], dim=1))


class Mapping(nn.Module):
    """Linear and batch normalisation: levels to a space.

    A batch of one row has no spread to be normalised by, and takes the running figures. Where several processes share a
    batch each normalises its own part, so that these runs differ from those of one process.
    """

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, hidden)
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, levels: Float[Tensor, "N X"]) -> Float[Tensor, "N D"]:
        mapped, norm = self.linear(levels), self.norm
        if self.training and len(mapped) == 1:
            return batch_norm(mapped, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(mapped)


class DualEncoding(nn.Module):
    """S(q, v) = cos(f(sentence), g(video)): a video is one vector, whatever it shows."""

    def __init__(self, config: DualEncodingConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.embedding_fields: tuple[str, ...] = ("video",)
        self.frame_fields: tuple[str, ...] = ()
        self.score_weights: tuple[float, ...] | None = (1.0,)
        self.words = MultiLevelEncoder(word_columns, config.word_gru, config.word_kernels, config.filters, config.dropout)
        self.word_mapping = Mapping(self.words.columns, config.hidden)
        self.frames = MultiLevelEncoder(frame_columns, config.frame_gru, config.frame_kernels, config.filters, config.dropout)
        self.frame_mapping = Mapping(self.frames.columns, config.hidden)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per sentence."""
        return (self.word_mapping(self.words(words, mask)),)

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """One vector per video, as one row."""
        return (self.frame_mapping(self.frames(frames, mask))[:, None],)

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The cosine."""
        return cosines(queries[0], videos[0])

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The cosine with the whole video, its one part."""
        return cosines(query[0], video[0])[0]


def objective(model: DualEncoding, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The hinge against the hardest wrong partner of the batch, in both directions."""
    found = model.score(queries, videos, batch.frame_mask)
    return {"triplet": losses.hardest_triplet(found, batch.target, margin=model.config.margin)}


def cosines(queries: Float[Tensor, "Q D"], videos: Float[Tensor, "V 1 D"]) -> Float[Tensor, "Q V"]:
    """Of every query with every video, where a video is one row."""
    return scores.frame_cosines(queries, videos, scores.every_row(videos))[..., 0]


def mean_row(rows: Float[Tensor, "N L E"], mask: Bool[Tensor, "N L"]) -> Float[Tensor, "N E"]:
    """The mean of the real rows."""
    return rows.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)


def _largest_response(convolution: nn.Module, states: Float[Tensor, "N S L"], lengths: Int[Tensor, "N"]) -> Float[Tensor, "N X"]:
    assert isinstance(convolution, nn.Conv1d)
    responses = convolution(states).relu()
    # Beyond a sequence's own end by a kernel less one there is only padding under the kernel; responses are at least 0.
    real = torch.arange(responses.shape[2], device=lengths.device) < (lengths + convolution.kernel_size[0] - 1)[:, None]
    return responses.masked_fill(~real[:, None], 0).amax(2)


METHOD = Method(DualEncodingConfig, DualEncoding, objective)
