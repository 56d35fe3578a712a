"""The teacher alone: what a user without captions gets, and what a student is measured against. Nothing is learned.

What a sentence is compared with is `parts` of a video; the score is that of the best one:

parts             compared with                                        score
----------------  ---------------------------------------------------  ---------------------------------------
frames            each frame                                           cosine
clips             the means of 32 clips                                cosine
clips_and_frames  both                                                 mean of the best clip's and best frame's
segments          segments cut where the video changes (TF-PRVR)       cosine
propagated        the same, their relevance spread between them        inner product, the sentence of unit length
consensus         each frame: mean over the segments that it is in     the same

The last three are TF-PRVR's steps (prvr/methods/segments.py) and need the extra "segments"; their memory
and time grow with the square and the cube of a video's length: 7,200 frames take 2.4 GB and 10 seconds of one core, 1,000
frames a tenth of a second. The paper leaves open how clips and frames are weighed against one another (we: alike).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from prvr.batch import Reading
from prvr.errors import DataError
from prvr.methods.contract import Embeddings, Method
from prvr.methods.segments import LEVELS, affinities, levels_of, propagate
from prvr.nn import scores
from prvr.nn.clips import clip_means, over_frames
from prvr.nn.shapes import FrameMask, Frames, Places, WordMask, Words

CLIPS = 32
Levels = list[np.ndarray]


@dataclass(frozen=True)
class ZeroShotConfig:
    """What of a video a sentence is compared with."""

    parts: Literal["frames", "clips", "clips_and_frames", "segments", "propagated", "consensus"] = "frames"


class ZeroShot(nn.Module):
    """Any encoder with images and sentences in one space, as a retrieval model without weights."""

    keeps_rows = True

    def __init__(self, config: ZeroShotConfig, *, frame_columns: int, word_columns: int) -> None:
        super().__init__()
        if frame_columns != word_columns:
            raise DataError(
                f"frames have {frame_columns} columns and sentences {word_columns}: they come from different encoders"
            )
        self.config = config
        self.reading = Reading(frame_columns, word_columns, None, None, unit=False, text="sentences")
        self.embedding_fields: tuple[str, ...] = FIELDS[config.parts]
        self.frame_fields = tuple(field for field in self.embedding_fields if field != "clips")
        self.score_weights: tuple[float, ...] | None = None
        if config.parts not in SEGMENTED:
            self.score_weights = (1 / len(self.embedding_fields),) * len(self.embedding_fields)

    def encode_queries(self, words: Words, mask: WordMask, places: Places = None) -> Embeddings:
        """The one row of each sentence, for each field."""
        return (words[:, 0],) * len(self.embedding_fields)

    def encode_videos(self, frames: Frames, mask: FrameMask, places: Places = None) -> Embeddings:
        """The frames as they are, the means of clips, or for each frame what it is compared with on each level."""
        if self.config.parts in SEGMENTED:
            return _by_video(frames, mask, SEGMENTED[self.config.parts])
        given = {"teacher": lambda: frames, "clips": lambda: clip_means(frames, mask, clips=CLIPS)}
        return tuple(given[field]() for field in self.embedding_fields)

    def score(self, queries: Embeddings, videos: Embeddings, mask: FrameMask) -> Float[Tensor, "Q V"]:
        """The best part's cosine or inner product; the mean where there are clips and frames."""
        if self.score_weights is None:
            query = normalize(queries[0], dim=-1)
            return torch.stack([scores.video_scores(scores.frame_dots(query, v, mask)) for v in videos]).amax(0)
        fields = zip(self.embedding_fields, videos, strict=True)
        masks = [mask if name in self.frame_fields else scores.every_row(video) for name, video in fields]
        return scores.fused(queries, videos, masks, weights=self.score_weights)

    def relevance(self, query: Embeddings, video: Embeddings) -> Float[Tensor, "P"]:
        """The curve of what a frame scores, or a clip where there are only clips."""
        whole = [scores.every_row(field) for field in video]
        if self.config.parts in SEGMENTED:
            unit = normalize(query[0], dim=-1)
            return torch.stack([scores.frame_dots(unit, v, m)[0, 0] for v, m in zip(video, whole, strict=True)]).amax(0)
        curves = [scores.frame_cosines(q, v, m)[0] for q, v, m in zip(query, video, whole, strict=True)]
        if self.config.parts == "clips_and_frames":
            curves[1] = over_frames(curves[1], whole[0])
        return torch.stack(curves).mean(0)[0]


def _by_video(
    frames: Float[Tensor, "V F E"], mask: Bool[Tensor, "V F"], parts: Callable[[Float[np.ndarray, "F E"]], Levels]
) -> Embeddings:
    """Fields made of each video alone, on the CPU."""
    made = [parts(rows[real].cpu().numpy()) for rows, real in zip(frames, mask, strict=True)]
    fields = []
    for rows_of_videos in zip(*made, strict=True):
        field = torch.zeros_like(frames)
        for place, rows in enumerate(rows_of_videos):
            field[place, : len(rows)] = torch.from_numpy(rows)
        fields.append(field)
    return tuple(fields)


def _segments(frames: Float[np.ndarray, "F E"]) -> Levels:
    of_frame, means = levels_of(frames)
    return _every_level([means[segment] for segment in of_frame])


def _propagated_levels(frames: Float[np.ndarray, "F E"]) -> Levels:
    of_frame, means = levels_of(frames)
    spread = propagate(affinities(of_frame, means), means)
    return _every_level([spread[segment] for segment in of_frame])


def _consensus(frames: Float[np.ndarray, "F E"]) -> Levels:
    of_frame, means = levels_of(frames)
    spread = propagate(affinities(of_frame, means), means)
    return [np.mean([spread[segment] for segment in of_frame], axis=0)]


def _every_level(rows: Levels) -> Levels:
    # A short video has fewer levels: its coarsest stands for the rest, which changes no maximum.
    return rows + rows[-1:] * (LEVELS - len(rows))


SEGMENTED: dict[str, Callable[[np.ndarray], Levels]] = {
    "segments": _segments,
    "propagated": _propagated_levels,
    "consensus": _consensus,
}
EVERY_LEVEL = tuple(f"level_{level + 1}" for level in range(LEVELS))
FIELDS: dict[str, tuple[str, ...]] = {
    "frames": ("teacher",),
    "clips": ("clips",),
    "clips_and_frames": ("teacher", "clips"),
    "segments": EVERY_LEVEL,
    "propagated": EVERY_LEVEL,
    "consensus": ("consensus",),
}


METHOD = Method(ZeroShotConfig, ZeroShot, None)
