"""What a model's embeddings look like: their rows and widths, seen on a sentence of two words and a video of two frames."""

from __future__ import annotations

from typing import Any

import torch

from prvr.methods.contract import Embeddings, weights_of_candidates


@torch.no_grad()
def probe(model: Any) -> tuple[Embeddings, Embeddings]:
    """The embeddings of one sentence and of one video, of zeros."""
    was_training = model.training
    model.eval()
    like = next(model.parameters(), torch.zeros(()))
    mask = torch.ones(1, 2, dtype=torch.bool, device=like.device)
    queries: Embeddings = model.encode_queries(like.new_zeros(1, 2, model.reading.text_columns), mask)
    videos: Embeddings = model.encode_videos(like.new_zeros(1, 2, model.reading.frame_columns), mask)
    model.train(was_training)
    return queries, videos


def field_with_rows(model: Any, *, frames_first: bool) -> int | None:
    """The place of a field with several vectors for a video that a query's one vector is compared with, or None.

    Args:
        frames_first: a field with a row for each frame, and one of clips only where there is no such field; else the reverse.
    """
    queries, videos = probe(model)
    # A model without such weights may have vectors of queries in another order, or several of a field.
    aligned = weights_of_candidates(model) is not None or len(queries) == len(videos)
    found: dict[bool, list[int]] = {True: [], False: []}
    for place, (name, query, video) in enumerate(zip(model.embedding_fields, queries, videos, strict=False)):
        framed = name in model.frame_fields
        if aligned and query.ndim == 2 and query.shape[1] == video.shape[2] and (framed or video.shape[1] > 1):
            found[framed].append(place)
    return next(iter(found[frames_first] + found[not frames_first]), None)


def has_frame_scores(model: Any) -> bool:
    """Whether the scores along a video are of its frames or clips, and not of the whole video alone."""
    queries, videos = probe(model)
    with torch.inference_mode():
        return len(model.relevance(tuple(queries), tuple(videos))) > 1
