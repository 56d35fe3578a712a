"""Writes the encoders of a checkpoint as ONNX, for searches without torch and for other programs (`prvr.methods.exported`).

One sentence or video at a time, of any length: batches would bring padding, which some methods see. What was written is run by
onnxruntime before it gets its name, and compared with the model.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from prvr.config import to_dict
from prvr.encoders.onnx import open_session
from prvr.errors import ModelError, SettingError, one_line, require
from prvr.files import new_folder, write_json
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Model, encode_videos
from prvr.methods.exported import EXPORT, FORMAT, QUERIES, VIDEOS, config_of, output_name, run, sum_of_cosines, text_needs_torch
from prvr.methods.probe import has_frame_scores

# The largest difference of a value from the model's own, beside the largest value.
TOLERANCE = 1e-5
# Lengths of sentences and videos that are compared, as far as the model reads them, beside the longest that it reads.
LENGTHS = (1, 2, 3, 7, 30)
# The longest for a model that reads any.
LONGEST = 128
# Methods that are not tried: on one, the exporter of torch 2.13 ends the whole process (a segmentation fault, seen twice).
REFUSED = {"hlformer": "torch's exporter crashes", "hgr": "its words have roles, which vectors of noise have not"}
# The length of what the exporter follows through the model; below 2 it takes lengths as fixed.
EXAMPLE = 5


class Exported(NamedTuple):
    """The largest differences, by the largest value.

    without_torch: whether a search can do without torch. reason: why it cannot; empty if it can.
    """

    queries: float
    videos: float
    without_torch: bool
    reason: str


def export_checkpoint(checkpoint: Checkpoint, folder: str | Path) -> Exported:
    """Writes an export to a new folder, completely or not at all.

    Raises:
        SettingError: the folder exists, or the checkpoint is an encoder alone.
        ModelError: the method cannot be exported, or its export computes something else.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
    """
    folder, model = Path(folder), checkpoint.model
    assert isinstance(model, nn.Module)
    if not model.state_dict():
        raise SettingError("an encoder alone has nothing to export; a search with an ONNX encoder starts without torch as it is")
    if checkpoint.method in REFUSED:
        why = REFUSED[checkpoint.method]
        raise ModelError(f"{checkpoint.method} cannot be exported as ONNX ({why}); search its indexes with torch")
    if folder.exists():
        raise SettingError(f"{folder} is there already; delete it, or name another folder")
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, extra="export")
    with new_folder(folder) as part:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            queries = _export(_Queries(model), _words(model, EXAMPLE), part / QUERIES, checkpoint.method)
            videos = _export(_Videos(model), _frames(model, EXAMPLE), part / VIDEOS, checkpoint.method)
            curve = _curve_weights(cast(Model, model))
        write_json(part / EXPORT, _about(checkpoint, curve))
    reason = _why_torch(checkpoint, curve)
    return Exported(queries, videos, not reason, reason)


def _why_torch(checkpoint: Checkpoint, curve: Sequence[float] | None) -> str:
    """Why a search with the export takes torch; empty if it does not."""
    text = checkpoint.sources.text
    if curve is None:
        return "its score is no weighted sum of best cosines, or its curve no sum of cosines"
    return f"its text encoder, {text.source or text.name}, takes it" if text_needs_torch(text) else ""


class _Queries(nn.Module):
    """The query encoder of one sentence."""

    inputs = ("words",)

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, words: Tensor) -> Embeddings:
        return self.model.encode_queries(words, *_whole(words))

    def examples(self) -> Iterator[tuple[Tensor, ...]]:
        is_of_words = self.model.reading.text == "words"
        return (_words(self.model, length) for length in (_lengths(self.model.reading.max_words) if is_of_words else [1]))

    def names(self, count: int) -> list[str]:
        own = self.model.embedding_fields
        return [*map(output_name, own[:count]), *(f"query_{number}" for number in range(len(own), count))]


class _Videos(nn.Module):
    """The video encoder of one video."""

    inputs = ("frames", "clips")

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, clips: Tensor | None = None) -> Embeddings:
        return encode_videos(self.model, frames, *_whole(frames), clips)

    def examples(self) -> Iterator[tuple[Tensor, ...]]:
        return (_frames(self.model, length) for length in _lengths(self.model.reading.max_frames))

    def names(self, count: int) -> list[str]:
        return list(map(output_name, self.model.embedding_fields))


def _lengths(most: int | None) -> list[int]:
    return sorted({length for length in (*LENGTHS, most or LONGEST) if length <= (most or LONGEST)})


def _whole(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The mask of a sequence without padding, and the places of its rows."""
    return torch.ones(rows.shape[:2], dtype=torch.bool), torch.arange(rows.shape[1])


def _words(model: Any, length: int) -> tuple[Tensor, ...]:
    reading = model.reading
    length = 1 if reading.text == "sentences" else min(length, reading.max_words or length)
    return (torch.randn(1, length, reading.text_columns),)


def _frames(model: Any, length: int) -> tuple[Tensor, ...]:
    reading = model.reading
    frames = torch.randn(1, min(length, reading.max_frames or length), reading.frame_columns)
    return (frames, torch.randn(1, reading.clips, reading.frame_columns)) if reading.clips else (frames,)


def _export(encoder: _Queries | _Videos, example: tuple[Tensor, ...], path: Path, method: str) -> float:
    """Writes an encoder, and returns its largest difference from the model."""
    encoder.eval()
    names = encoder.names(len(encoder(*example)))
    is_fixed = isinstance(encoder, _Queries) and encoder.model.reading.text == "sentences"
    dynamic = tuple({1: torch.export.Dim.DYNAMIC} if place == 0 and not is_fixed else None for place in range(len(example)))
    with _quiet():
        try:
            program = torch.onnx.export(
                encoder,
                example,
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=list(encoder.inputs[: len(example)]),
                output_names=names,
                custom_translation_table={torch.ops.aten.remainder.Scalar: _remainder()},
                verbose=False,
            )
            assert program is not None
            program.save(path)
        # The exporter raises many types, with pages of text.
        except Exception as problem:
            reason = one_line(problem.__cause__ if isinstance(problem.__cause__, Exception) else problem)
            raise ModelError(f"{method} cannot be exported as ONNX ({reason}); search its indexes with torch") from problem
    session, worst = open_session(path, "cpu"), 0.0
    for inputs in encoder.examples():
        given = {name: tensor.numpy() for name, tensor in zip(encoder.inputs, inputs, strict=False)}
        for ours, theirs in zip(encoder(*inputs), run(session, names, given), strict=True):
            difference = _difference(ours.float().numpy(), theirs)
            # Not NaN either, which no maximum keeps.
            if not difference <= TOLERANCE:
                raise ModelError(
                    f"{method} computes something else as ONNX (a difference of {difference:.1e}); search its indexes with torch"
                )
            worst = max(worst, difference)
    return worst


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, by the largest value."""
    return float(np.abs(ours - theirs).max()) / (float(np.abs(ours).max()) or 1.0)


def _remainder() -> Callable[..., Any]:
    """The translation of `aten.remainder` by a length, which the exporter has for constants alone."""
    from onnxscript import opset18

    def remainder(self: Any, other: Any) -> Any:
        return opset18.Mod(self, opset18.Cast(other, to=7))  # INT64

    return remainder


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the exporter prints, warns and logs of its own steps."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _curve_weights(model: Model) -> tuple[float, ...] | None:
    """The weights of the fields in `relevance`, if it is a weighted sum of cosines along rows of one number; else None."""
    if model.score_weights is None:
        return None
    count = len(model.embedding_fields)
    query = model.encode_queries(*_with_mask(_words(model, EXAMPLE)[0]))
    possible = [model.score_weights, *(tuple(float(place == one) for place in range(count)) for one in range(count))]
    for frames, *clips in _Videos(model).examples():
        video = encode_videos(model, frames, *_whole(frames), clips[0] if clips else None)
        curve, rows = model.relevance(query, video).numpy(), [one[0].numpy() for one in video]
        possible = [weights for weights in possible if _is_curve(weights, [one.numpy() for one in query], rows, curve)]
    return possible[0] if possible else None


def _with_mask(words: Tensor) -> tuple[Tensor, Tensor]:
    return words, _whole(words)[0]


def _is_curve(weights: Sequence[float], query: Sequence[np.ndarray], rows: Sequence[np.ndarray], curve: np.ndarray) -> bool:
    lengths = {len(one) for weight, one in zip(weights, rows, strict=True) if weight}
    return lengths == {len(curve)} and np.allclose(sum_of_cosines(weights, query, rows), curve, atol=TOLERANCE)


def _about(checkpoint: Checkpoint, curve: Sequence[float] | None) -> dict[str, Any]:
    model = checkpoint.model
    return {
        "format": FORMAT,
        "method": checkpoint.method,
        "fingerprint": checkpoint.fingerprint,
        "config": config_of(checkpoint.method, to_dict(checkpoint.settings), checkpoint.sources),
        "embedding_fields": model.embedding_fields,
        "frame_fields": model.frame_fields,
        "score_weights": model.score_weights,
        "curve_weights": curve,
        "has_frame_scores": has_frame_scores(model),
        "reading": json.loads(json.dumps(asdict(model.reading))),
    }
