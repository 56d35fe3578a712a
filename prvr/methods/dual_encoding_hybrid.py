"""DE++ (Dong et al., TPAMI 2021): Dual Encoding by hybrid space, a latent one and one of concepts.

The paper's words            our names
---------------------------  ------------------------------------------------------------------------
dual encoding, three levels  `MultiLevelEncoder`, as in prvr.methods.dual_encoding
latent space                 `HybridSpace`, `latent` columns, cosine
concept space                `HybridSpace`, `concepts` columns: the probability of each, generalised Jaccard
sim in the hybrid space      `latent_weight` of the latent score, the rest of the concept score, each calibrated: `Cohort`
triplet ranking losses       `losses.hardest_triplet` in each space, `margin`
BCE, weight = batch size     `concept_loss`; it and the hinges are means here, and not sums: the same ratio
ground-truth concepts        `HashedConcepts`: see below
min-max over all scores      `published_fusion`

The paper normalises each space's scores by the least and the greatest of the whole matrix of test queries and test videos: a
score then depends on what else is asked and searched, and one query alone has none. Here a query is calibrated by itself,
against a `Cohort`: the last videos of training, kept with the model. `published_fusion` is the paper's way, for comparison.

The paper's concepts are the words that training captions use most. Features of words are at hand here and the words are
not, so the vocabulary is hashed: a word's concept is that of the fixed random directions which is nearest to its features,
once these are standardised over the batch. A word of static vectors is the same concept wherever it stands (but for what
differs between batches), and so may two words be; of words that a language model encoded a concept is a cluster of likenesses.

Source: spec/methods 2.6. It leaves open, and we decided: a sentence's concepts are its own; a video's are those of all its
captions, each as often as it is said, over that of the most frequent one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, one_hot

from prvr.batch import Batch, Reading
from prvr.config import check_above_zero, check_shares
from prvr.methods.contract import Embeddings, Method, Terms
from prvr.methods.dual_encoding import Mapping, MultiLevelEncoder, cosines
from prvr.nn import losses
from prvr.nn.layers import Rows

Fusion = Literal["per_query", "raw"]

LEAST_SPREAD = 1e-6
DIRECTIONS_SEED = 2021


@dataclass(frozen=True)
class DualEncodingHybridConfig:
    """Settings of the paper.

    latent, concepts: columns of the two spaces. latent_weight: of the latent score in the sum.
    fusion: what is summed: scores calibrated for each query, or the scores as they are.
    cohort: how many videos of training a query is calibrated against.
    """

    latent: int = 1536
    concepts: int = 512
    latent_weight: float = 0.6
    fusion: Fusion = "per_query"
    cohort: int = 256
    frame_gru: int = 512
    word_gru: int = 512
    frame_kernels: tuple[int, ...] = (2, 3, 4, 5)
    word_kernels: tuple[int, ...] = (2, 3, 4)
    filters: int = 512
    max_frames: int = 128
    max_words: int = 30
    dropout: float = 0.2
    margin: float = 0.2

    def __post_init__(self) -> None:
        check_above_zero(self, "latent", "concepts", "cohort", "frame_gru", "word_gru", "filters", "max_frames", "max_words")
        check_shares(self, "dropout", "latent_weight")


class HybridSpace(nn.Module):
    """A row of levels as a latent vector and as the probability of each concept."""

    def __init__(self, columns: int, latent: int, concepts: int) -> None:
        super().__init__()
        self.latent = Mapping(columns, latent)
        self.concepts = Mapping(columns, concepts)

    def forward(self, levels: Float[Tensor, "N X"]) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N K"]]:
        return self.latent(levels), self.concepts(levels).sigmoid()


class Cohort(nn.Module):
    """The last videos of training in a hybrid space, against which a query's scores are calibrated.

    Each space's score s becomes (s - least) / (greatest - least), both over the query's scores with the cohort: the
    published normalisation, with what is known before anything is searched in place of the whole test.
    """

    latent: Tensor
    concepts: Tensor
    filled: Tensor

    def __init__(self, size: int, latent: int, concepts: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("latent", torch.zeros(size, 1, latent))
        self.register_buffer("concepts", torch.zeros(size, 1, concepts))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def remember(self, latent: Float[Tensor, "V 1 D"], concepts: Float[Tensor, "V 1 K"]) -> None:
        """Takes videos in, for the oldest ones."""
        filled = torch.ones(len(latent), dtype=torch.bool, device=latent.device)
        for kept, new in ((self.latent, latent), (self.concepts, concepts), (self.filled, filled)):
            kept.copy_(torch.cat([new.detach(), kept])[: self.size])

    def fused(self, queries: Embeddings, videos: Embeddings, *, latent_weight: float, fusion: Fusion) -> Float[Tensor, "Q V"]:
        """The weighted sum of a hybrid space's two scores; as they are before anything was remembered."""
        latent, concept = hybrid_scores(queries, videos)
        if fusion == "per_query" and self.filled.any():
            known = hybrid_scores(queries, (self.latent[self.filled], self.concepts[self.filled]))
            latent, concept = _scaled(latent, known[0]), _scaled(concept, known[1])
        return latent_weight * latent + (1 - latent_weight) * concept


class HashedConcepts(nn.Module):
    """1 for each concept that a sentence names: of each word the random direction that its standardised features point to.

    The directions are the same in every run, and not kept with the weights.
    """

    directions: Tensor

    def __init__(self, columns: int, concepts: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(DIRECTIONS_SEED)
        self.register_buffer("directions", torch.randn(columns, concepts, generator=draw), persistent=False)

    @torch.no_grad()
    def forward(self, words: Float[Tensor, "Q W C"], rows: Rows) -> Float[Tensor, "Q K"]:
        real = rows.packed(words)
        standard = (real - real.mean(0)) / (real.std(0, correction=0) + LEAST_SPREAD)
        named = one_hot((standard @ self.directions).argmax(1), self.directions.shape[1])
        return rows.padded(named.to(words.dtype)).amax(1)


class DualEncodingHybrid(nn.Module):
    """S(q, v) = 0.6 cos(latent) + 0.4 Jaccard(concepts), each calibrated for the query.

    In training a query's concepts, as hashed, follow its embeddings: the objective alone reads them.
    """

    def __init__(self, config: DualEncodingHybridConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        self.config = config
        self.reading = Reading(frame_columns, word_columns, config.max_frames, config.max_words, unit=True, text="words")
        self.embedding_fields: tuple[str, ...] = ("latent", "concepts")
        self.frame_fields: tuple[str, ...] = ()
        self.score_weights: tuple[float, ...] | None = None
        self.words = MultiLevelEncoder(word_columns, config.word_gru, config.word_kernels, config.filters, config.dropout)
        self.word_space = HybridSpace(self.words.columns, config.latent, config.concepts)
        self.said = HashedConcepts(word_columns, config.concepts)
        self.frames = MultiLevelEncoder(frame_columns, config.frame_gru, config.frame_kernels, config.filters, config.dropout)
        self.frame_space = HybridSpace(self.frames.columns, config.latent, config.concepts)
        self.cohort = Cohort(config.cohort, config.latent, config.concepts)

    def encode_queries(
        self, words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """A latent vector and the probability of each concept, for each sentence."""
        found = self.word_space(self.words(words, mask))
        return (*found, self.said(words, Rows.of(mask, places))) if self.training else found

    def encode_videos(
        self, frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], places: Int[Tensor, "R"] | None = None
    ) -> Embeddings:
        """The same for each video, as one row."""
        return tuple(field[:, None] for field in self.frame_space(self.frames(frames, mask)))

    def score(self, queries: Embeddings, videos: Embeddings, mask: Bool[Tensor, "V F"]) -> Float[Tensor, "Q V"]:
        """The weighted sum of both spaces' scores."""
        config = self.config
        return self.cohort.fused(queries[:2], videos, latent_weight=config.latent_weight, fusion=config.fusion)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The score of the whole video, its one part."""
        return self.score(query, video, torch.ones(1, 1, dtype=torch.bool))[0]


def objective(model: DualEncodingHybrid, queries: Embeddings, videos: Embeddings, batch: Batch, epoch: int) -> Terms:
    """A hinge in each space, and what the concepts are worth."""
    model.cohort.remember(*videos)
    return hybrid_terms(queries[:2], videos, queries[2], batch.target, margin=model.config.margin)


def hybrid_terms(
    queries: Embeddings, videos: Embeddings, said: Float[Tensor, "Q K"], target: Int[Tensor, "Q"], *, margin: float
) -> Terms:
    """The losses of one hybrid space."""
    latent, concept = hybrid_scores(queries, videos)
    return {
        "latent_triplet": losses.hardest_triplet(latent, target, margin=margin),
        "concept_triplet": losses.hardest_triplet(concept, target, margin=margin),
        "concepts": concept_loss(queries[1], videos[1], said, target),
    }


def concept_loss(
    queries: Float[Tensor, "Q K"], videos: Float[Tensor, "V 1 K"], said: Float[Tensor, "Q K"], target: Int[Tensor, "Q"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the queries' probabilities, plus that of the videos'.

    The paper weighs it by the size of the batch, beside hinges that are sums over the batch: here all are means.
    """
    often = losses.ownership(target, len(videos)).to(said.dtype).T @ said
    shown = often / often.amax(1, keepdim=True).clamp(min=1)
    return binary_cross_entropy(queries, said) + binary_cross_entropy(videos[:, 0], shown)


def hybrid_scores(queries: Embeddings, videos: Embeddings) -> tuple[Float[Tensor, "Q V"], Float[Tensor, "Q V"]]:
    """The latent cosine and the concepts' generalised Jaccard of every query with every video."""
    return cosines(queries[0], videos[0]), jaccard(queries[1], videos[1][:, 0])


def jaccard(queries: Float[Tensor, "Q K"], videos: Float[Tensor, "V K"]) -> Float[Tensor, "Q V"]:
    """sum_k min(q_k, v_k) / sum_k max(q_k, v_k), by their sums s and their distance d = sum_k |q_k - v_k|: (s - d) / (s + d)."""
    both = queries.sum(1)[:, None] + videos.sum(1)
    apart = torch.cdist(queries, videos, p=1)
    return (both - apart) / (both + apart).clamp(min=LEAST_SPREAD)


def published_fusion(
    latent: Float[Tensor, "Q V"], concept: Float[Tensor, "Q V"], *, latent_weight: float
) -> Float[Tensor, "Q V"]:
    """The paper's fusion of a whole test: each matrix by its own least and greatest score."""
    return latent_weight * _scaled(latent, latent.flatten()) + (1 - latent_weight) * _scaled(concept, concept.flatten())


def _scaled(scores: Float[Tensor, "*S"], among: Float[Tensor, "*A"]) -> Float[Tensor, "*S"]:
    """Where scores lie between the least and the greatest of others, row by row, or of all."""
    least, greatest = among.amin(-1, keepdim=True), among.amax(-1, keepdim=True)
    return (scores - least) / (greatest - least).clamp(min=LEAST_SPREAD)


METHOD = Method(DualEncodingHybridConfig, DualEncodingHybrid, objective)
