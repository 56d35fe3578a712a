"""DL-DKD++ whose exploration branch scores frames by words: a method of one's own, for the comparison (docs/paper.md).

    S(q, v) = (1 - beta) max_f cos(q, f) + beta sum_t g_t max_f cos(h_t, f)

The first term is inheritance, as published. In the second, h_t is the row of word t before exploration's pooling and g_t the
share that this pooling gives it: no parameter is added. Published nowhere.

    prvr train DATA FEATURES RUN --method experiments.late_interaction:LateDlDkd --teacher clip_vit_b32 \\
        soft_targets=teacher distillation_weight=0.1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from prvr.batch import Batch
from prvr.errors import SettingError
from prvr.methods.contract import Contrast, Embeddings, Terms, compare_fields
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.nn import losses, scores
from prvr.nn.layers import Rows
from prvr.nn.losses import ranking
from prvr.nn.scores import Comparison
from prvr.nn.shapes import FrameMask, Places, WordMask, Words
from prvr.nn.word_scores import compare_words, sum_over_words


@dataclass(frozen=True)
class LateDlDkdConfig(DlDkdConfig):
    """DL-DKD++'s settings for a folder of one's own (`prvr.train.presets.dl_dkd.OWN`)."""

    hidden: int = 128
    nce_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.branches != ("inheritance", "exploration") or self.text_backbone != "words" or self.shared_query_projection:
            raise SettingError("late interaction is of inheritance and exploration, over words, each with its own projection")


@final
class LateDlDkd(DlDkd):
    """The student of DL-DKD++, exploration by late interaction."""

    Config = LateDlDkdConfig
    contrasts = True
    # No floor under short videos (`prvr.nn.word_scores.raise_to_floor`).
    padded_to = 0

    def __init__(self, config: LateDlDkdConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__(config, frame_columns=frame_columns, word_columns=word_columns)
        self.candidate_weights, self.score_weights = self.weights, None

    @staticmethod
    def taught_fields(config: LateDlDkdConfig) -> tuple[str, ...]:
        """A teacher is compared with inheritance alone."""
        return ("inheritance",)

    def confidence(self, words: Float[Tensor, "Q W D"], real: WordMask) -> Float[Tensor, "Q W"]:
        """The shares of exploration's pooling."""
        return self._branches()[1].pooling.weight(words)[..., 0].masked_fill(~real, losses.LOWEST).softmax(-1)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """One vector per query and branch; exploration's row for each word, and which words are real."""
        rows = Rows.of(mask, places)
        packed = rows.packed(words)
        inheritance, exploration = self._branches()
        pooled = inheritance.encode_queries(inheritance.word_projection(packed), rows)
        of_words = rows.padded(exploration.words(exploration.word_projection(packed), rows))
        return pooled, exploration.pooling(of_words, mask), of_words, mask

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """Inheritance's best frame, and the weighted sum of each word's best frame."""
        words, real = queries[2], queries[3]
        best = scores.best_cosines(words[real], videos[1], mask)
        of_words = sum_over_words(best, self.confidence(words, real), real)
        return self.weights[0] * scores.best_cosines(queries[0], videos[0], mask) + self.weights[1] * of_words

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "F"]:
        """The same weighted sum at each frame."""
        real, mask = query[3][0], scores.every_row(video[0])
        of_words = scores.frame_cosines(query[2][0][real], video[1], mask)[:, 0]
        share = self.confidence(query[2], query[3])[0][real]
        first = scores.frame_cosines(query[0], video[0], mask)[0, 0]
        return self.weights[0] * first + self.weights[1] * torch.einsum("w,wf->f", share, of_words)

    def objective(
        self,
        queries: Embeddings,
        videos: Embeddings,
        batch: Batch,
        epoch: int,
        contrast: Contrast = losses.info_nce,
        self_contrast: Contrast = losses.info_nce,
        comparisons: Sequence[Comparison] = (),
    ) -> Terms:
        """DL-DKD's terms, exploration's by words."""
        config, inheritance = self.config, (comparisons or compare_fields(queries, videos, batch))[0]
        cosines, dots = compare_words(self, queries, videos[1], batch.frame_mask, batch.target)
        terms = Terms()
        for name, of, inner, by in (
            ("inheritance", inheritance.cosines, inheritance.dots, contrast),
            ("exploration", cosines, dots, self_contrast),
        ):
            terms[f"{name}_triplet"] = ranking(of, batch.target, margin=config.margin, pool=config.negative_pool)
            terms[f"{name}_nce"] = config.nce_weight * by(inner, batch.target)
        return terms
