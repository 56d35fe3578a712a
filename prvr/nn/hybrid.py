"""Hybrid spaces, a latent one and one of concepts: what DE++ and RIVRL share.

The papers normalise each space's scores by the least and the greatest of the whole matrix of test queries and test videos: a
score then depends on what else is searched, and one query alone has none. Here a query is calibrated by itself, against a
`Cohort`: the last videos of training, kept with the model. `published_fusion` is the papers' way.

A video's concepts are the nouns, verbs and adjectives of its captions among the 512 that training captions use most. With
word ids they are the first words of the vocabulary file. With word features the words are not at hand, and are hashed: a
word's concept is that of the fixed random directions which is nearest to its features, once these are standardised over the
batch. A word of static vectors is the same concept wherever it stands (but for what differs between batches), and two words
may be one; of words that a language model encoded a concept is a cluster of likenesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, normalize, one_hot

from prvr.config import check_above_zero, check_shares
from prvr.nn import losses, scores
from prvr.nn.layers import Rows
from prvr.nn.levels import LevelSettings, Mapping, count_words, word_ids
from prvr.nn.shapes import Words

Fusion = Literal["per_query", "raw"]
InSpace = tuple[Tensor, Tensor]
"""A latent vector and the probability of each concept, of queries (Q, D) and (Q, K) or of videos (V, 1, D) and (V, 1, K)."""

LEAST_SPREAD = 1e-6
DIRECTIONS_SEED = 2021


@dataclass(frozen=True)
class HybridSettings(LevelSettings):
    """Settings of hybrid spaces beside those of the levels.

    latent, concepts: columns of the two spaces. latent_weight: of the latent score in the sum.
    concept_margin: of the hinge in the space of concepts; `margin` is that in the latent space.
    least_said: how often the captions of a video must say a word, for it to be a concept of the video.
    fusion: what is summed: scores calibrated for each query, or the scores as they are.
    cohort: how many videos of training a query is calibrated against.
    """

    latent: int = 1536
    concepts: int = 512
    latent_weight: float = 0.6
    concept_margin: float = 0.2
    least_said: int = 2
    fusion: Fusion = "per_query"
    cohort: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above_zero(self, "latent", "concepts", "least_said", "cohort")
        check_shares(self, "latent_weight")

    @property
    def margins(self) -> tuple[float, float]:
        """Of the latent space and of the concepts."""
        return self.margin, self.concept_margin


class HybridSpace(nn.Module):
    """A row of levels as a latent vector of unit length and as the probability of each concept."""

    def __init__(self, columns: int, settings: HybridSettings) -> None:
        super().__init__()
        self.latent = Mapping(columns, settings.latent, settings.dropout)
        self.concepts = Mapping(columns, settings.concepts)

    def forward(self, levels: Float[Tensor, "N X"]) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N K"]]:
        return normalize(self.latent(levels), dim=-1), self.concepts(levels).sigmoid()


class Cohort(nn.Module):
    """The last videos of training in a hybrid space, against which a query's scores are calibrated.

    Each space's score s becomes (s - least) / (greatest - least), both over the query's scores with the cohort: the
    published normalisation, with what is known before a search in place of the whole test.
    """

    latent: Tensor
    concepts: Tensor
    filled: Tensor

    def __init__(self, settings: HybridSettings) -> None:
        super().__init__()
        self.size = settings.cohort
        self.register_buffer("latent", torch.zeros(self.size, 1, settings.latent))
        self.register_buffer("concepts", torch.zeros(self.size, 1, settings.concepts))
        self.register_buffer("filled", torch.zeros(self.size, dtype=torch.bool))

    @torch.no_grad()
    def remember(self, latent: Float[Tensor, "V 1 D"], concepts: Float[Tensor, "V 1 K"]) -> None:
        """Adds videos in place of the oldest ones."""
        filled = torch.ones(len(latent), dtype=torch.bool, device=latent.device)
        for kept, new in ((self.latent, latent), (self.concepts, concepts), (self.filled, filled)):
            kept.copy_(torch.cat([new.detach(), kept])[: self.size])

    def fuse(self, queries: InSpace, videos: InSpace, *, latent_weight: float, fusion: Fusion) -> Float[Tensor, "Q V"]:
        """The weighted sum of a hybrid space's two scores; as they are while the cohort is empty."""
        latent, concept = hybrid_scores(queries, videos)
        if fusion == "per_query" and self.filled.any():
            known = hybrid_scores(queries, (self.latent[self.filled], self.concepts[self.filled]))
            latent, concept = _scale(latent, known[0]), _scale(concept, known[1])
        return latent_weight * latent + (1 - latent_weight) * concept


class SaidConcepts(nn.Module):
    """How often a sentence says each concept: the first words of the vocabulary, or, of word features, hashed ones.

    The random directions are the same in every run, and not kept with the weights.
    """

    directions: Tensor

    def __init__(self, columns: int, settings: HybridSettings) -> None:
        super().__init__()
        self.vocabulary, self.concepts = settings.vocabulary, settings.concepts
        if not self.vocabulary:
            draw = torch.Generator().manual_seed(DIRECTIONS_SEED)
            directions = torch.randn(columns, self.concepts, generator=draw, device="cpu")
            self.register_buffer("directions", directions, persistent=False)

    @torch.no_grad()
    def forward(self, words: Words, rows: Rows) -> Float[Tensor, "Q K"]:
        if self.vocabulary:
            ids = word_ids(words[..., :1], rows.mask, self.vocabulary)
            return count_words(ids, rows.mask, self.concepts).to(words.dtype)
        real = rows.packed(words[..., : len(self.directions)])
        standard = (real - real.mean(0)) / (real.std(0, correction=0) + LEAST_SPREAD)
        named = one_hot((standard @ self.directions).argmax(1), self.concepts)
        return rows.padded(named.to(words.dtype)).sum(1)


def concepts_of_videos(said: Float[Tensor, "Q K"], target: Int[Tensor, "Q"], videos: int, *, least: int) -> Float[Tensor, "V K"]:
    """Of each video how often its captions say a concept, over that of the most frequent one; 0 below `least` times."""
    often = losses.ownership(target, videos).to(said.dtype).T @ said
    kept = often.masked_fill(often < least, 0)
    return kept / kept.amax(1, keepdim=True).clamp(min=1)


def hybrid_terms(
    queries: InSpace, videos: InSpace, shown: Float[Tensor, "V K"], target: Int[Tensor, "Q"], *, margins: tuple[float, float]
) -> dict[str, Float[Tensor, ""]]:
    """The losses of one hybrid space; `shown` are the concepts of each video.

    The papers sum the hinges over a batch of N pairs and weigh the cross-entropies, which are means, by N. Here all are
    means: the same ratio.
    """
    latent, concept = hybrid_scores(queries, videos)
    return {
        "latent_triplet": losses.hardest_triplet(latent, target, margin=margins[0]),
        "concept_triplet": losses.hardest_triplet(concept, target, margin=margins[1]),
        "query_concepts": binary_cross_entropy(queries[1], shown[target]),
        "video_concepts": binary_cross_entropy(videos[1][:, 0], shown),
    }


def hybrid_scores(queries: InSpace, videos: InSpace) -> tuple[Float[Tensor, "Q V"], Float[Tensor, "Q V"]]:
    """The latent cosine and the concepts' generalised Jaccard of every query with every video."""
    return whole_cosines(queries[0], videos[0]), jaccard(queries[1], videos[1][:, 0])


def whole_cosines(queries: Float[Tensor, "Q D"], videos: Float[Tensor, "V 1 D"]) -> Float[Tensor, "Q V"]:
    """The cosine of every query with every video, where a video is one row."""
    return scores.frame_cosines(queries, videos, scores.every_row(videos))[..., 0]


def jaccard(queries: Float[Tensor, "Q K"], videos: Float[Tensor, "V K"]) -> Float[Tensor, "Q V"]:
    """sum_k min(q_k, v_k) / sum_k max(q_k, v_k), by their sums s and their distance d = sum_k |q_k - v_k|: (s - d) / (s + d)."""
    both = queries.sum(1)[:, None] + videos.sum(1)
    apart = torch.cdist(queries, videos, p=1)
    return (both - apart) / (both + apart).clamp(min=LEAST_SPREAD)


def published_fusion(
    latent: Float[Tensor, "Q V"], concept: Float[Tensor, "Q V"], *, latent_weight: float
) -> Float[Tensor, "Q V"]:
    """The papers' fusion of a whole test: each matrix scaled by its own least and greatest score."""
    return latent_weight * _scale(latent, latent.flatten()) + (1 - latent_weight) * _scale(concept, concept.flatten())


def _scale(values: Float[Tensor, "*S"], among: Float[Tensor, "*A"]) -> Float[Tensor, "*S"]:
    """Where values lie between the least and the greatest of others, row by row, or of all."""
    least, greatest = among.amin(-1, keepdim=True), among.amax(-1, keepdim=True)
    return (values - least) / (greatest - least).clamp(min=LEAST_SPREAD)
