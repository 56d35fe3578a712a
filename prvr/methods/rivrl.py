"""RIVRL (Dong et al., TCSVT 2022): reading a video twice, a preview first and then with the preview in mind.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
previewing branch            the mean over time of a bidirectional GRU's states, `frame_gru`
intensive-reading branch     `IntensiveReading`: strided convolution over those states, `segment_width`, `segment_stride`,
                             `segment_filters`
previewing-aware attention   the preview asks, segments answer: `attention` columns of query and key
text encoder                 `MultiLevelEncoder`, as in Dual Encoding, mapped once for each branch
hybrid space of each branch  `HybridSpace`: `latent` and `concepts` columns, the losses of DE++ (`hybrid_terms`)
S(q, v)                      `Rivrl.score`: the sum of both branches' scores, each calibrated as in DE++: `Cohort`

Concepts and calibration are those of prvr.methods.dual_encoding_hybrid, which says what differs from the papers.

Source: spec/methods 2.8. It leaves open, and we decided: both branches read one GRU; one convolution, zeros at both ends;
what is attended and the maximum over segments are added, then LayerNorm, then a feed-forward layer of twice the width with a
residual and LayerNorm of its own; BERT's sentence vector, an option of the paper, is not read; margin and weights of DE++.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_shares
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.methods.dual_encoding import MultiLevelEncoder, mean_row
from prvr.methods.dual_encoding_hybrid import Cohort, Fusion, HashedConcepts, HybridSpace, hybrid_terms
from prvr.nn.layers import Dropout, Rows
from prvr.nn.text_backbones import BiGru

BRANCHES = ("preview", "intensive")


@dataclass(frozen=True)
class RivrlConfig:
    """Settings of the paper, those of MSR-VTT; see `DualEncodingHybridConfig` for the rest."""

    latent: int = 1024
    concepts: int = 512
    latent_weight: float = 0.6
    fusion: Fusion = "per_query"
    cohort: int = 256
    frame_gru: int = 512
    segment_width: int = 3
    segment_stride: int = 2
    segment_filters: int = 2048
    attention: int = 512
    word_gru: int = 512
    word_kernels: tuple[int, ...] = (2, 3, 4)
    filters: int = 512
    max_frames: int = 128
    max_words: int = 30
    dropout: float = 0.2
    margin: float = 0.2

    def __post_init__(self) -> None:
        check_above_zero(self, "latent", "concepts", "cohort", "frame_gru", "word_gru", "filters", "max_frames", "max_words")
        check_above_zero(self, "segment_width", "segment_stride", "segment_filters", "attention")
        check_shares(self, "dropout", "latent_weight")


class IntensiveReading(nn.Module):
    """A video in the light of its preview: segments s_i = relu(conv(h))_i, attended by the preview p.

    x = LayerNorm(sum_i a_i W_v s_i + max_i s_i), a = softmax_i(<W_q p, W_k s_i> / sqrt(columns)), y = LayerNorm(x + FFN(x)).
    """

    def __init__(self, columns: int, config: RivrlConfig) -> None:
        super().__init__()
        width, stride, filters = config.segment_width, config.segment_stride, config.segment_filters
        self.columns = filters
        self.segments = nn.Conv1d(columns, filters, width, stride=stride, padding=width // 2)
        self.query = nn.Linear(columns, config.attention)
        self.key = nn.Linear(filters, config.attention)
        self.value = nn.Linear(filters, filters)
        self.norm = nn.LayerNorm(filters)
        self.feed_forward = nn.Sequential(nn.Linear(filters, 2 * filters), nn.ReLU(), nn.Linear(2 * filters, filters))
        self.last_norm = nn.LayerNorm(filters)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, states: Float[Tensor, "V F S"], mask: Bool[Tensor, "V F"], preview: Float[Tensor, "V S"]
    ) -> Float[Tensor, "V X"]:
        # A segment is real where its middle frame is; a kernel of even width makes one more at times.
        real = mask[:, :: self.segments.stride[0]]
        segments = self.segments(states.mT).relu().mT[:, : real.shape[1]]
        logits = torch.einsum("va,vsa->vs", self.query(preview), self.key(segments)) / math.sqrt(self.query.out_features)
        share = logits.masked_fill(~real, -float("inf")).softmax(-1)
        attended = torch.einsum("vs,vsx->vx", share, self.value(segments))
        read = self.norm(attended + segments.masked_fill(~real[..., None], 0).amax(1))
        return self.last_norm(read + self.dropout(self.feed_forward(read)))


class Rivrl(nn.Module):
    """S(q, v) = the preview's score + the intensive reading's, each as in DE++.

    In training a query's concepts, as hashed, follow its embeddings: the objective alone reads them.
    """

    def __init__(self, config: RivrlConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.embedding_fields: tuple[str, ...] = tuple(f"{name}_{space}" for name in BRANCHES for space in ("latent", "concepts"))
        self.frame_fields: tuple[str, ...] = ()
        self.score_weights: tuple[float, ...] | None = None
        self.words = MultiLevelEncoder(word_columns, config.word_gru, config.word_kernels, config.filters, config.dropout)
        self.word_spaces = nn.ModuleList(HybridSpace(self.words.columns, config.latent, config.concepts) for _ in BRANCHES)
        self.said = HashedConcepts(word_columns, config.concepts)
        self.frames = BiGru(frame_columns, config.frame_gru)
        self.intensive = IntensiveReading(self.frames.columns, config)
        widths = (self.frames.columns, self.intensive.columns)
        self.frame_spaces = nn.ModuleList(HybridSpace(columns, config.latent, config.concepts) for columns in widths)
        self.cohorts = nn.ModuleList(Cohort(config.cohort, config.latent, config.concepts) for _ in BRANCHES)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """A latent vector and the probability of each concept, for each branch."""
        levels = self.words(words, mask)
        found = tuple(field for space in self.word_spaces for field in space(levels))
        return (*found, self.said(words, Rows.of(mask, places))) if self.training else found

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The same for each video, as one row."""
        states, _ = self.frames(frames, mask)
        preview = mean_row(states, mask)
        both = zip(self.frame_spaces, (preview, self.intensive(states, mask, preview)), strict=True)
        return tuple(field[:, None] for space, levels in both for field in space(levels))

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The sum over branches of the weighted sums of both spaces' scores."""
        weight, fusion = self.config.latent_weight, self.config.fusion
        branches = zip(self.remembered(), _pairs(queries), _pairs(videos), strict=True)
        return torch.stack([cohort.fused(q, v, latent_weight=weight, fusion=fusion) for cohort, q, v in branches]).sum(0)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The score of the whole video, its one part."""
        return self.score(query, video, torch.ones(1, 1, dtype=torch.bool))[0]

    def remembered(self) -> list[Cohort]:
        """The videos that scores are calibrated against, for each branch."""
        return [cohort for cohort in self.cohorts if isinstance(cohort, Cohort)]


def objective(model: Rivrl, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """The losses of DE++ for each branch."""
    terms: Terms = {}
    branches = zip(BRANCHES, model.remembered(), _pairs(queries), _pairs(videos), strict=True)
    for name, cohort, its_queries, its_videos in branches:
        cohort.remember(*its_videos)
        found = hybrid_terms(its_queries, its_videos, queries[-1], batch.target, margin=model.config.margin)
        terms |= {f"{name}_{term}": value for term, value in found.items()}
    return terms


def _pairs(embeddings: Embeddings) -> tuple[Embeddings, Embeddings]:
    """Latent vectors and concepts of each branch."""
    return embeddings[:2], embeddings[2:4]


METHOD = Method(RivrlConfig, Rivrl, objective)
