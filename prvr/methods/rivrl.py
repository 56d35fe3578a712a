"""RIVRL (Dong et al., TCSVT 2022): reading a video twice, a preview first and then with the preview in mind.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
previewing branch            the mean over time of a bidirectional GRU's states, `frame_gru`
intensive-reading branch     `IntensiveReading`: a map of the frames, and strided convolutions over it, `segment_widths`,
                             `segment_strides`, `segment_filters`; one stream of the frames and one for each convolution
previewing-aware attention   the preview is the query, rows are the keys: `attention` columns, the same weights for all streams
text encoder                 `SentenceLevels`, mapped once for each branch; `sentence_columns` for BERT's vector
hybrid space of each branch  `HybridSpace`: `latent` and `concepts` columns, the losses of DE++ (`hybrid_terms`)
S(q, v)                      `Rivrl.score`: the sum of both branches' scores, each calibrated as in DE++: `Cohort`

Equal to the released code (LiJiaBei-7/rivrl, f6078e4) where sentences are word ids, frames are read as they are and
`reads_padding` is set, but for where concepts come from and how scores are fused: prvr.nn.hybrid, docs/decisions/0040.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from prvr.batch import Batch
from prvr.config import check_above_zero, check_shares
from prvr.errors import SettingError
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn.hybrid import Cohort, HybridSettings, HybridSpace, InSpace, SaidConcepts, concepts_of_videos, hybrid_terms
from prvr.nn.layers import Dropout, Rows
from prvr.nn.levels import MultiLevelEncoder, SentenceLevels
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words

BRANCHES = ("preview", "intensive")
NORM_EPS = 1e-6
# What the released code adds to the logits of places that are not real: where none is, all places share the attention.
MASKED = -1e4


@dataclass(frozen=True)
class RivrlConfig(HybridSettings):
    """Settings of the paper, those of MSR-VTT, beside those of hybrid spaces and of levels.

    segment_filters: columns of the map of the frames, and of each convolution.
    sentence_columns: how many of the last word columns hold BERT's vector of the whole sentence, if they do.
    """

    latent: int = 1024
    segment_widths: tuple[int, ...] = (3,)
    segment_strides: tuple[int, ...] = (2,)
    segment_filters: int = 2048
    attention: int = 512
    sentence_columns: int = 0
    feed_forward_dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "segment_filters", "attention")
        check_shares(self, "feed_forward_dropout")
        sizes = (*self.segment_widths, *self.segment_strides)
        if len(self.segment_widths) != len(self.segment_strides) or min(sizes, default=1) < 1:
            raise SettingError(
                f"segment_widths are {self.segment_widths} and segment_strides {self.segment_strides}; a convolution needs one "
                "of each, above 0"
            )


class IntensiveReading(nn.Module):
    """A video in the light of its preview p: streams of rows, each attended by p, side by side.

    Streams: the frames y = relu(W_o x + b_o), and segments relu(conv_i(y)) for each convolution. Of each stream z

    a = softmax_l(<W_q p, W_k z_l> / sqrt(columns)), r = LN(W_f sum_l a_l W_v z_l + b_f + max_l z_l), u = LN(r + FFN(r)).

    With `reads_padding`, as in the released code, the maximum is over all places, where padding answers relu(bias) to a
    convolution; and of a video shorter than a convolution all places share the attention. Otherwise such a video has one
    segment, with zeros beyond its end.
    """

    def __init__(self, columns: int, preview: int, config: RivrlConfig) -> None:
        super().__init__()
        width = config.segment_filters
        self.columns = width * (1 + len(config.segment_widths))
        self.reads_padding = config.reads_padding
        self.frames = nn.Linear(columns, width)
        sizes = zip(config.segment_widths, config.segment_strides, strict=True)
        self.segments = nn.ModuleList(nn.Conv1d(width, width, size, stride=stride) for size, stride in sizes)
        self.query = nn.Linear(preview, config.attention, bias=False)
        self.key = nn.Linear(width, config.attention, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.attended = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, NORM_EPS)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.last_norm = nn.LayerNorm(width, NORM_EPS)
        self.dropout = Dropout(config.dropout)
        self.last_dropout = Dropout(config.feed_forward_dropout)

    def forward(self, frames: Frames, mask: FrameMask, preview: Float[Tensor, "V S"]) -> Float[Tensor, "V X"]:
        lengths = mask.sum(1)
        longest = int(lengths.max())
        seen = self.frames(frames[:, :longest]).relu() * mask[:, :longest, None]
        streams = [(seen, lengths)]
        streams += [self._segments(convolution, seen, lengths) for convolution in self.segments]
        asked = self.query(preview)
        return torch.cat([self._read(rows, counts, asked) for rows, counts in streams], dim=1)

    def _segments(
        self, convolution: nn.Module, seen: Float[Tensor, "V F X"], lengths: Int[Tensor, "V"]
    ) -> tuple[Float[Tensor, "V S X"], Int[Tensor, "V"]]:
        """A convolution's rows, and how many of them are real."""
        assert isinstance(convolution, nn.Conv1d)
        (width,), (stride,) = convolution.kernel_size, convolution.stride
        padded = pad(seen, (0, 0, 0, max(width - seen.shape[1], 0)))
        # The released code divides towards 0: a video one row too short has a segment, too.
        counts = torch.div(lengths - width, stride, rounding_mode="trunc") + 1
        return convolution(padded.mT).relu().mT, counts.clamp(min=0 if self.reads_padding else 1)

    def _read(self, rows: Float[Tensor, "V S X"], counts: Int[Tensor, "V"], asked: Float[Tensor, "V A"]) -> Float[Tensor, "V X"]:
        real = torch.arange(rows.shape[1], device=rows.device) < counts[:, None]
        logits = torch.einsum("va,vsa->vs", asked, self.key(rows)) / math.sqrt(asked.shape[1])
        logits = logits + MASKED * ~real if self.reads_padding else logits.masked_fill(~real, -float("inf"))
        # A copy, because dropout writes over its input, which the softmax needs for its gradient.
        share = self.dropout(logits.softmax(-1).clone())
        # Rows are at least 0, so that 0 hides those of the padding.
        largest = (rows if self.reads_padding else rows.masked_fill(~real[..., None], 0)).amax(1)
        read = self.norm(self.attended(torch.einsum("vs,vsx->vx", share, self.value(rows))) + largest)
        last: Tensor = self.last_norm(read + self.last_dropout(self.feed_forward(read)))
        return last


class Rivrl(nn.Module):
    """S(q, v) = the preview's score + the intensive reading's, each as in DE++.

    In training the concepts that a query says follow its embeddings: only the objective reads them.
    """

    def __init__(self, config: RivrlConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = config.reading(frame_columns, word_columns, sentence_columns=config.sentence_columns)
        self.embedding_fields: tuple[str, ...] = tuple(f"{name}_{space}" for name in BRANCHES for space in ("latent", "concepts"))
        self.frame_fields: tuple[str, ...] = ()
        self.score_weights: tuple[float, ...] | None = None
        self.words = SentenceLevels(word_columns, config, half=True, sentence_columns=config.sentence_columns)
        self.word_spaces = nn.ModuleList(HybridSpace(self.words.columns, config) for _ in BRANCHES)
        self.said = SaidConcepts(word_columns - config.sentence_columns, config)
        self.preview = MultiLevelEncoder(
            frame_columns, (), gru=config.frame_gru, filters=0, dropout=config.dropout, reads_padding=config.reads_padding
        )
        self.intensive = IntensiveReading(frame_columns, self.preview.columns, config)
        widths = (self.preview.columns, self.intensive.columns)
        self.frame_spaces = nn.ModuleList(HybridSpace(columns, config) for columns in widths)
        self.cohorts = nn.ModuleList(Cohort(config) for _ in BRANCHES)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """A latent vector and the probability of each concept, for each branch."""
        levels = self.words(words, mask)
        found = tuple(field for space in self.word_spaces for field in space(levels))
        return (*found, self.said(words, Rows.of(mask, places))) if self.training else found

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """The same for each video, as one row."""
        first = self.config.sequence_frames
        frames, mask = frames[:, :first], mask[:, :first]
        preview = self.preview(frames, mask)
        both = zip(self.frame_spaces, (preview, self.intensive(frames, mask, preview)), strict=True)
        return tuple(field[:, None] for space, levels in both for field in space(levels))

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The sum over branches of the weighted sums of both spaces' scores."""
        weight, fusion = self.config.latent_weight, self.config.fusion
        branches = zip(self.branch_cohorts(), _pairs(queries), _pairs(videos), strict=True)
        return torch.stack([cohort.fuse(q, v, latent_weight=weight, fusion=fusion) for cohort, q, v in branches]).sum(0)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The score of the whole video, its one part."""
        return self.score(query, video, torch.ones(1, 1, dtype=torch.bool))[0]

    def branch_cohorts(self) -> list[Cohort]:
        """The videos that scores are calibrated against, for each branch."""
        return [cohort for cohort in self.cohorts if isinstance(cohort, Cohort)]


def objective(model: Rivrl, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The losses of DE++ for each branch."""
    shown = concepts_of_videos(queries[-1], batch.target, len(batch.frames), least=model.config.least_said)
    terms: Terms = {}
    branches = zip(BRANCHES, model.branch_cohorts(), _pairs(queries), _pairs(videos), strict=True)
    for name, cohort, its_queries, its_videos in branches:
        cohort.remember(*its_videos)
        found = hybrid_terms(its_queries, its_videos, shown, batch.target, margins=model.config.margins)
        terms |= {f"{name}_{term}": value for term, value in found.items()}
    return terms


def _pairs(embeddings: Embeddings) -> list[InSpace]:
    """Latent vectors and concepts of each branch."""
    return [(embeddings[0], embeddings[1]), (embeddings[2], embeddings[3])]


METHOD = Method(RivrlConfig, Rivrl, objective, revision=2)
