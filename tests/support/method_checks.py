"""What is true of every method, whatever it computes and whatever its loss terms are called: the tests of methods call these.

`check_method` calls them all for a method of one's own; docs/tutorials/method.md says how.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from toy_world import READS, READS_SUBTITLES, SAID, toy_world

from prvr.batch import Batch, collate, pad, pad_clips, read_clips, read_frames, video_item
from prvr.evaluate.evaluation import evaluate_model
from prvr.features.sources import FeatureSources
from prvr.features.subtitles import SubtitledFrames
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.methods import checkpoint as checkpoints
from prvr.methods import open_method, register_method
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Terms, embed, encode_videos
from prvr.methods.distiller import Distiller
from prvr.methods.plugins import check_answers
from prvr.nn.distillation import Distillation
from prvr.train.loop import Data, Recipe, Training, train_student

PROFILE = Distillation(distillation_weight=0.1)
MATRIX = Distillation(distillation_target="batch_matrix", distillation_weight=0.1)
SOFT = Distillation(soft_targets="teacher")
# An epoch at which targets are soft.
HALF_WAY = 60
FRAMES_OF, WORDS_OF = (5, 1, 7, 2, 6), (3, 1, 4, 6, 2, 5)

agree = partial(torch.testing.assert_close, atol=2e-5, rtol=1e-4)


def check_method(method: str | type, out: Path, *, lr: float = 2e-3, epochs: int = 20) -> None:
    """All checks of this file, for a method of one's own with its default settings, on features of 20 columns and words of 16.

    It must learn a world of 150 videos in some seconds, and its checkpoint must come back as it was.

    Args:
        method: the class, or its name `package.module:Class`. out: an empty folder.
        lr, epochs: of the training on the toy world.
    """
    name = register_method(method)
    made = open_method(name)
    settings = made.config()
    model = build(name, settings)
    check_answers(model, name)
    check_invariants(model)
    if made.objective is None:
        return
    batch = toy_batch(model)
    check_learning(name, model, batch, toy_batch(model, most=1))
    along = made.profile is not None or (model.score_weights is not None and bool(model.frame_fields))
    check_taught(name, model, batch, by=(MATRIX, *([PROFILE] if along else []), *([SOFT] if made.contrasts else [])))
    best = check_learns(name, settings, out / "run", lr=lr, epochs=epochs)
    check_kept(best, out / "again")


def check_subtitles(method: str, settings: Any) -> None:
    """What is true of a method that reads subtitles beside the pictures, in a second."""
    model = build(method, settings, READS_SUBTITLES)
    check_invariants(model)
    check_hears(model)
    batch = toy_batch(model)
    check_learning(method, model, batch, toy_batch(model, most=1))
    check_taught(method, model, batch, by=(PROFILE, MATRIX, *([SOFT] if open_method(method).contrasts else [])))


def check_learns_subtitles(method: str, settings: Any, out: Path) -> None:
    """It learns the toy world whose subtitles say what is not shown, keeps that it reads them, and needs them."""
    spoken = toy_world(videos=90, things=6, spoken=True)
    best = check_learns(method, settings, out / "run", data=spoken, lr=3e-3, batch_videos=16)
    check_kept(best, out / "again")
    again = checkpoints.load(out / "again")
    assert again.sources == READS_SUBTITLES
    frames: Any = spoken.features.frames
    silent = replace(spoken.features, frames=SubtitledFrames(frames.frames, {"nobody": np.zeros((1, SAID))}))
    found, lost = (evaluate_model(again.model, spoken.dev, features).retrieval for features in (spoken.features, silent))
    assert found.sumr > lost.sumr + 20


@torch.no_grad()
def check_hears(model: Any) -> None:
    """A score changes with the pictures alone, and with the subtitles alone."""
    seen, mask = padded(sequences(FRAMES_OF, model.reading.frame_columns))
    queries = model.encode_queries(*padded(sequences(WORDS_OF, model.reading.text_columns)))
    before = model.score(queries, model.encode_videos(seen, mask), mask)
    at = seen.shape[-1] - model.reading.subtitle_columns
    for side in (slice(at), slice(at, None)):
        changed = seen.clone()
        changed[..., side] = changed[..., side].flip(0)
        assert (model.score(queries, model.encode_videos(changed, mask), mask) - before).abs().max() > 1e-3


@torch.inference_mode()
def check_kept(checkpoint: Checkpoint, out: Path) -> None:
    """A checkpoint that is written and read again is the same model."""
    checkpoints.save(checkpoint, out)
    again = checkpoints.load(out)
    assert again.fingerprint == checkpoint.fingerprint
    model: Any = checkpoint.model
    read: Any = again.model
    batch = toy_batch(model)
    ours, theirs = (embed(each.eval(), batch)[:2] for each in (model, read))
    agree(read.score(*theirs, batch.frame_mask), model.score(*ours, batch.frame_mask), atol=0, rtol=0)


def lively(model: Any) -> Any:
    """In evaluation, with weights as large as after training: as drawn, the scores of a fresh model are nearly the same.

    Running figures, if it has any, are not those of a fresh one either.
    """
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3, generator=draw)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=draw) + 0.5)
    return model.eval()


def build(method: str, settings: Any, sources: FeatureSources = READS) -> Any:
    """A lively model of a method."""
    torch.manual_seed(0)
    return lively(checkpoints.build(method, settings, sources).model)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sequences(lengths: tuple[int, ...], columns: int, *, seed: int = 0) -> list[Tensor]:
    """Rows of noise."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(n, columns, generator=draw) for n in lengths]


def padded(rows: list[Tensor], *, more: int = 0, filled: float = 0.0) -> tuple[Tensor, Tensor]:
    """Side by side, with so many places of padding more than the longest needs."""
    longest = max(map(len, rows)) + more
    values = torch.full((len(rows), longest, rows[0].shape[1]), filled)
    for place, row in enumerate(rows):
        values[place, : len(row)] = row
    return values, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]


def check_invariants(model: Any, words: list[Tensor] | None = None, frames: list[Tensor] | None = None) -> None:
    """A score is that of one query and one video, by the fields that the contract names, and an index gives the same.

    By default of noise, sequences of one row among them.
    """
    words = words or sequences(WORDS_OF, model.reading.text_columns)
    frames = frames or sequences(FRAMES_OF, model.reading.frame_columns, seed=1)
    _check_padding_and_company(model, words, frames)
    _check_fields(model, words, frames)
    _check_index(model, words, frames)


@torch.no_grad()
def _check_padding_and_company(model: Any, words: list[Tensor], frames: list[Tensor]) -> None:
    """Whatever pads a query and a video, and whoever stands beside them."""
    spoken, seen = padded(words), padded(frames)
    queries, videos = model.encode_queries(*spoken), model.encode_videos(*seen)
    together = model.score(queries, videos, seen[1])
    assert together.shape == (len(words), len(frames))
    assert together.isfinite().all()
    assert together.std(0).min() > 1e-3
    assert together.std(1).min() > 1e-3
    more_words, more_frames = padded(words, more=3), padded(frames, more=4, filled=7.0)
    again = model.score(model.encode_queries(*more_words), model.encode_videos(*more_frames), more_frames[1])
    agree(again, together)
    order = torch.randperm(len(frames), generator=torch.Generator().manual_seed(1))
    shuffled = tuple(field[order] for field in videos)
    agree(model.score(queries, shuffled, seen[1][order]), together[:, order])
    for n, word in enumerate(words):
        for v, frame in enumerate(frames):
            query, (one, mask) = model.encode_queries(*padded([word])), padded([frame])
            alone = model.score(query, model.encode_videos(one, mask), mask)
            agree(alone[0, 0], together[n, v])


@torch.no_grad()
def _check_fields(model: Any, words: list[Tensor], frames: list[Tensor]) -> None:
    """Fields have the rows that the contract says, and where a score is said to be a sum of best cosines, it is."""
    (seen, mask), queries = padded(frames), model.encode_queries(*padded(words))
    videos = model.encode_videos(seen, mask)
    assert len(videos) == len(model.embedding_fields)
    fields = list(zip(model.embedding_fields, videos, strict=True))
    assert all(field.shape[1] == mask.shape[1] for name, field in fields if name in model.frame_fields)
    first = tuple(field[:1, : len(frames[0])] if name in model.frame_fields else field[:1] for name, field in fields)
    parts = model.relevance(tuple(field[:1] for field in queries), first)
    assert parts.shape == (len(frames[0]) if model.frame_fields else max(field.shape[1] for field in videos),)
    if model.score_weights is not None:
        best = torch.zeros(len(words), len(frames))
        for weight, (name, video), query in zip(model.score_weights, fields, queries, strict=True):
            for v, frame in enumerate(frames):
                real = video[v, : len(frame)] if name in model.frame_fields else video[v]
                best[:, v] += weight * torch.cosine_similarity(query[:, None], real[None], dim=-1).amax(1)
        agree(model.score(queries, videos, mask), best)


@torch.inference_mode()
def _check_index(model: Any, words: list[Tensor], frames: list[Tensor]) -> None:
    """The exact index scores as the model does."""
    features = {f"video {place}": rows.numpy() for place, rows in enumerate(frames)}
    index, queries = ExactIndex(model), model.encode_queries(*padded(words))
    add_videos(index, features, features)
    assert index.ids == list(features)
    seen, mask = pad([read_frames(rows, model.reading) for rows in features.values()])
    clips = pad_clips([read_clips(rows, model.reading) for rows in features.values()])
    agree(index.scores(queries), model.score(queries, encode_videos(model, seen, mask, clips=clips), mask))


def toy_batch(model: Any, *, data: Data | None = None, most: int | None = None) -> Batch:
    """The training videos of a small toy world, or the first of them."""
    data = data or toy_world(videos=12, spoken=model.reading.subtitle_columns > 0)
    captions: dict[str, list[str]] = {}
    for caption in data.train.captions:
        captions.setdefault(caption.video, []).append(caption.id)
    items = [video_item(video, ids, data.features, model.reading) for video, ids in list(captions.items())[:most]]
    return collate(items)


def terms_of(method: str, model: Any, batch: Batch, *, epoch: int = 0) -> tuple[Terms, Embeddings, Embeddings]:
    """The objective's terms, and the embeddings that it had."""
    model.train()
    queries, videos, _ = embed(model, batch)
    objective = open_method(method).objective
    assert objective is not None
    return objective(model, queries, videos, batch, epoch), queries, videos


def check_learning(method: str, model: Any, batch: Batch, alone: Batch) -> None:
    """All that learns gets a gradient, which is a number; also from a batch of one video, which has no negatives."""
    for given in (batch, alone):
        model.zero_grad()
        terms, *_ = terms_of(method, model, given)
        torch.stack(list(terms.values())).sum().backward()
        assert all(value.isfinite() for value in terms.values())
        learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert [name for name, p in learned.items() if p.grad is None] == []
        assert all(p.grad.isfinite().all() for p in learned.values())


def check_taught(method: str, model: Any, batch: Batch, *, by: tuple[Distillation, ...]) -> None:
    """What a teacher says can be added to the objective, or changes its terms, and reaches the student."""
    columns = [teacher.queries.shape[1] for teacher in batch.teachers]
    epoch = HALF_WAY
    for settings in by:
        distiller = Distiller(settings, method=method, student=model, teacher_columns=columns)
        model.train().zero_grad()
        torch.manual_seed(0)
        own, *_ = terms_of(method, model, batch, epoch=epoch)
        torch.manual_seed(0)
        queries, videos, _ = embed(model, batch)
        terms = distiller.objective(model, queries, videos, batch, epoch)
        assert all(value.isfinite() for value in terms.values())
        assert own.keys() <= terms.keys()
        told = [value for name, value in terms.items() if name not in own or not torch.equal(value, own[name])]
        assert told, f"{settings} changes no term of {method}"
        torch.stack(told).sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def check_learns(
    method: str,
    settings: Any,
    out: Path,
    *,
    data: Data | None = None,
    lr: float = 2e-3,
    epochs: int = 20,
    batch_videos: int = 32,
) -> Checkpoint:
    """A student that was trained on the toy world finds more on its dev split than one that was not."""
    data = data or toy_world(videos=150, things=15)
    torch.manual_seed(0)
    before = evaluate_model(
        checkpoints.build(method, settings, data.features.sources).model, data.dev, data.features
    ).retrieval.sumr
    training = Training(lr=lr, epochs=epochs, batch_videos=batch_videos, patience=epochs, seed=1)
    best = train_student(out, Recipe(method, settings, training), data=data)
    assert evaluate_model(best.model, data.dev, data.features).retrieval.sumr > before + 30
    return best
