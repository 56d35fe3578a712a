"""DE++ (Dong et al., TPAMI 2021): Dual Encoding by hybrid space, a latent one and one of concepts.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
dual encoding, three levels  `FrameLevels`, `SentenceLevels` (prvr.nn.levels), as in Dual Encoding
latent space                 `HybridSpace`, `latent` columns, cosine
concept space                `HybridSpace`, `concepts` columns: the probability of each, generalised Jaccard
sim in the hybrid space      `latent_weight` of the latent score, the rest of the concept score, each calibrated: `Cohort`
triplet ranking losses       the hinge against the hardest in each space, `margin`, `concept_margin`
ground-truth concepts        `concepts_of_videos`, `least_said`: a caption is trained towards those of its video, too
BCE, weight = batch size     `hybrid_terms`: the cross-entropies and the hinges are means here, and not sums: the same ratio
min-max over all scores      `fusion`: see prvr.nn.hybrid

Equal to the released code (danieljf24/hybrid_space, b934eff) where sentences are word ids, frames are read as they are and
`reads_padding` is set, but for where concepts come from and how scores are fused: prvr.nn.hybrid, docs/decisions/0040.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.nn.hybrid import Cohort, HybridSettings, HybridSpace, SaidConcepts, concepts_of_videos, hybrid_terms
from prvr.nn.layers import Rows
from prvr.nn.levels import FrameLevels, SentenceLevels
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words


@dataclass(frozen=True)
class DualEncodingHybridConfig(HybridSettings):
    """Settings of the paper, beside those of hybrid spaces and of levels."""

    frame_kernels: tuple[int, ...] = (2, 3, 4, 5)


class DualEncodingHybrid(nn.Module):
    """S(q, v) = 0.6 cos(latent) + 0.4 Jaccard(concepts), each calibrated for the query.

    In training the concepts that a query says follow its embeddings: only the objective reads them.
    """

    def __init__(self, config: DualEncodingHybridConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = config.reading(frame_columns, word_columns)
        self.embedding_fields: tuple[str, ...] = ("latent", "concepts")
        self.frame_fields: tuple[str, ...] = ()
        self.score_weights: tuple[float, ...] | None = None
        self.words = SentenceLevels(word_columns, config)
        self.word_space = HybridSpace(self.words.columns, config)
        self.said = SaidConcepts(word_columns, config)
        self.frames = FrameLevels(frame_columns, config.frame_kernels, config)
        self.frame_space = HybridSpace(self.frames.columns, config)
        self.cohort = Cohort(config)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """A latent vector and the probability of each concept, for each sentence."""
        found = self.word_space(self.words(words, mask))
        return (*found, self.said(words, Rows.of(mask, places))) if self.training else found

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """The same for each video, as one row."""
        return tuple(field[:, None] for field in self.frame_space(self.frames(frames, mask)))

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The weighted sum of both spaces' scores."""
        weight, fusion = self.config.latent_weight, self.config.fusion
        return self.cohort.fuse((queries[0], queries[1]), (videos[0], videos[1]), latent_weight=weight, fusion=fusion)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The score of the whole video, its one part."""
        return self.score(query, video, torch.ones(1, 1, dtype=torch.bool))[0]


def objective(model: DualEncodingHybrid, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """A hinge in each space, and the cross-entropies of the concepts."""
    latent, concepts, said = queries
    model.cohort.remember(videos[0], videos[1])
    shown = concepts_of_videos(said, batch.target, len(batch.frames), least=model.config.least_said)
    return hybrid_terms((latent, concepts), (videos[0], videos[1]), shown, batch.target, margins=model.config.margins)


METHOD = Method(DualEncodingHybridConfig, DualEncodingHybrid, objective, revision=2)
