"""What holds for every method: padding changes nothing, and a video's score is its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from prvr.batch import Batch, Item, collate, pad, read_frames, read_words
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.methods.contract import Embeddings, Model

LENGTHS = (7, 1, 12, 3)


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def lively(model: Model) -> Model:
    """In evaluation, its weights so large that scores differ: as drawn, those of a fresh model are nearly the same."""
    assert isinstance(model, nn.Module)
    draws = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3, generator=draws)
    return model.eval()


def some_videos(model: Model, lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    columns = model.reading.frame_columns
    return [read_frames(drawn((length, columns), seed), model.reading) for seed, length in enumerate(lengths)]


def asked(model: Model, queries: int = 5) -> Embeddings:
    rows = [read_words(drawn((1 + n % 3, model.reading.text_columns), 50 + n), model.reading) for n in range(queries)]
    if model.reading.text == "sentences":
        rows = [row[:1] for row in rows]
    return model.encode_queries(*pad(rows))


def some_batch(model: Model, captions: tuple[int, ...] = (3, 2, 1, 1)) -> Batch:
    """Videos with so many captions each."""
    items = []
    for place, (frames, count) in enumerate(zip(some_videos(model), captions, strict=True)):
        words = [
            read_words(drawn((2 + n, model.reading.text_columns), 100 + 10 * place + n), model.reading) for n in range(count)
        ]
        items.append(Item(frames, words, []))
    return collate(items)


def encoded(model: Model, videos: list[np.ndarray], padding: int = 0) -> tuple[Embeddings, Tensor]:
    frames, mask = pad(videos)
    frames = torch.nn.functional.pad(frames, (0, 0, 0, padding), value=9.0)
    mask = torch.nn.functional.pad(mask, (0, padding), value=False)
    return model.encode_videos(frames, mask), mask


@torch.inference_mode()
def see_that_padding_changes_nothing(model: Model) -> None:
    """Neither more of it, nor other videos beside one: the score of each is as if it were alone."""
    queries, videos = asked(model), some_videos(model)
    together = model.score(queries, *encoded(model, videos))
    assert together.std() > 1e-3
    torch.testing.assert_close(model.score(queries, *encoded(model, videos, padding=5)), together, atol=2e-5, rtol=1e-4)
    for place, video in enumerate(videos):
        alone = model.score(queries, *encoded(model, [video]))
        torch.testing.assert_close(alone[:, 0], together[:, place], atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def see_that_order_does_not_matter(model: Model) -> None:
    """Permuted videos have permuted scores, and permuted queries too."""
    queries, videos = asked(model), some_videos(model)
    before = model.score(queries, *encoded(model, videos))
    order, asking = [2, 0, 3, 1], [4, 2, 0, 1, 3]
    after = model.score(tuple(field[asking] for field in queries), *encoded(model, [videos[v] for v in order]))
    torch.testing.assert_close(after, before[asking][:, order], atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def see_that_weights_give_the_score(model: Model) -> None:
    """Where a model says that its score is a weighted sum of best cosines, it is."""
    assert model.score_weights is not None
    queries, (videos, mask) = asked(model), encoded(model, some_videos(model))
    sums = torch.zeros(len(queries[0]), len(mask))
    for name, weight, query, video in zip(model.embedding_fields, model.score_weights, queries, videos, strict=True):
        for v, rows in enumerate(video):
            real = rows[mask[v]] if name in model.frame_fields else rows
            sums[:, v] += weight * torch.cosine_similarity(query[:, None], real[None], dim=-1).amax(1)
    torch.testing.assert_close(model.score(queries, videos, mask), sums, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def see_that_an_index_agrees(model: Model) -> None:
    """The exact index scores as the model does, videos with fewer frames than clips among them."""
    features = {f"video {place}": drawn((length, model.reading.frame_columns), place) for place, length in enumerate(LENGTHS)}
    index, queries = ExactIndex(model), asked(model)
    add_videos(index, features, features)
    assert index.ids == list(features)
    direct = model.score(queries, *encoded(model, some_videos(model)))
    torch.testing.assert_close(index.scores(queries), direct, atol=2e-5, rtol=1e-4)
