"""A checkpoint that is used without torch: an encoder alone, or a student that was exported as ONNX (`prvr.methods.export`).

FOLDER/export.json    what is needed of the model, and the fingerprint of its checkpoint
FOLDER/queries.onnx   words (1, W, C) -> FIELD_embedding (1, D) for each embedding field
FOLDER/videos.onnx    frames (1, F, E), clips (1, N, E) if the model reads clips -> FIELD_embedding (1, P, D)

Scores and curves are sums of cosines with stored rows, by NumPy; `prvr.nn.scores` has the definition, and tests compare the two.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import numpy as np
from jaxtyping import Float

from prvr.config import from_dict as settings_from_dict
from prvr.encoders import needs_torch, one_line_errors
from prvr.encoders.onnx import open_session
from prvr.errors import MissingExtra, ModelError, PrvrError
from prvr.features.reading import Reading
from prvr.features.sources import FeatureSources, Source, sources_from_dict
from prvr.files import new_folder, parse_json, read_bytes
from prvr.methods.calibration import Calibration, from_dict
from prvr.methods.model import Described, Embeddings, digest_of
from prvr.nn.ranks import unit

EXPORT = "export.json"
QUERIES, VIDEOS = "queries.onnx", "videos.onnx"
# The folder of an export, beside the config.json of its checkpoint.
FOLDER = "onnx"
FORMAT = 1
LOG = logging.getLogger("prvr")
ZERO_SHOT = "zero_shot"
# The embedding fields of an encoder alone that are its frames, or means of them; by `ZeroShotConfig.parts`.
ALONE = {"frames": "teacher", "clips": "clips"}


@final
@dataclass
class RowsModel:
    """A model with the weighted sum over fields of the best stored row's cosine as its score (`methods.model.ArrayModel`).

    curve_weights: of the fields in the relevance along a video. encode: makes the vectors of the fields from a sentence's rows.
    """

    reading: Reading
    embedding_fields: tuple[str, ...]
    frame_fields: tuple[str, ...]
    score_weights: tuple[float, ...] | None
    curve_weights: tuple[float, ...]
    has_frame_scores: bool
    keeps_rows: bool
    encode: Callable[[np.ndarray], Sequence[np.ndarray]]

    def encode_sentence(self, rows: Float[np.ndarray, "W C"]) -> Embeddings:
        """The query embeddings of a sentence, a first axis of 1."""
        return cast(Embeddings, tuple(self.encode(np.ascontiguousarray(rows, np.float32)[None])))

    def relevance(self, query: Sequence[np.ndarray], video: Sequence[np.ndarray]) -> Float[np.ndarray, "P"]:
        """The weighted sum of the cosines along a video's rows (P, D), for one query (1, D)."""
        return sum_of_cosines(self.curve_weights, query, video)


@dataclass(frozen=True)
class ExportedCheckpoint:
    """What a search needs of a checkpoint (`methods.model.Described`)."""

    method: str
    settings: Mapping[str, Any]
    sources: FeatureSources
    model: RowsModel
    about: dict[str, Any]
    calibration: Calibration | None
    fingerprint: str


def open_exported(
    folder: str | Path, *, fingerprint: str, accept: Callable[[FeatureSources], bool] = lambda _: True
) -> ExportedCheckpoint | None:
    """Opens the checkpoint in a folder without torch; None if it was not exported or is of another kind, or without onnxruntime.

    Args:
        fingerprint: of the checkpoint that the caller has rows of.
        accept: whether the caller can do something with its sources; if not, no network is opened, and the result is None.

    Raises:
        ModelError: its export is of another checkpoint, or broken.
    """
    folder = Path(folder)
    try:
        text = parse_json(read_bytes(folder / "config.json"))
        sources = sources_from_dict(text["reads"])
        calibration = from_dict(text["calibration"]) if "calibration" in text else None
        method, settings, about = str(text["method"]), dict(text["settings"]), dict(text.get("about", {}))
    # What is wrong with it, the whole reader of checkpoints says.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, PrvrError):
        return None
    if not accept(sources):
        return None
    model: RowsModel | None = None
    parts = str(settings.get("parts"))
    if method == ZERO_SHOT and parts in ALONE and config_of(method, {"parts": parts}, sources) == fingerprint:
        model = _encoder_alone(ALONE[parts], sources)
    elif (folder / FOLDER / EXPORT).is_file():
        # Without onnxruntime the student itself is there.
        with suppress(MissingExtra):
            model = _student(folder / FOLDER, fingerprint, config_of(method, settings, sources))
    return model and ExportedCheckpoint(method, settings, sources, model, about, calibration, fingerprint)


def copy_export(source: Path | None, target: Path, checkpoint: Described) -> None:
    """Gives the checkpoint in a folder the export that another copy of it has, if there is one; completely or not at all.

    An export of another checkpoint, or a broken one, is not copied: one line is logged.
    """
    there = target / FOLDER
    if source is None or not (source / FOLDER / EXPORT).is_file() or there.exists():
        return
    with suppress(OSError, ValueError, AttributeError, PrvrError):
        if parse_json(read_bytes(source / FOLDER / EXPORT)).get("fingerprint") == checkpoint.fingerprint:
            with new_folder(there) as part:
                shutil.copytree(source / FOLDER, part, dirs_exist_ok=True)
            return
    LOG.warning(f"{source / FOLDER} is not of this checkpoint and is not copied; delete it, and export again")


def config_of(method: str, settings: Mapping[str, Any], sources: FeatureSources) -> str:
    """The first 16 hex digits of the SHA-256 over all that identifies a model beside its weights."""
    return digest_of(method, dict(settings), sources).hexdigest()[:16]


def text_needs_torch(text: Source) -> bool:
    """Whether the text encoder takes torch, or cannot be opened by its name."""
    return bool(text.parts) or text.source is None or needs_torch(text.source)


def _encoder_alone(field: str, sources: FeatureSources) -> RowsModel:
    reading = Reading(sources.frames.columns, sources.text.columns, None, None, unit=False, text="sentences")
    frame_fields = (field,) if field == "teacher" else ()
    return RowsModel(reading, (field,), frame_fields, (1.0,), (1.0,), True, True, lambda words: [words[:, 0]])


def _student(folder: Path, fingerprint: str, config: str) -> RowsModel | None:
    try:
        text = parse_json(read_bytes(folder / EXPORT))
        if text["format"] != FORMAT or text["score_weights"] is None or text["curve_weights"] is None:
            return None
        reading, theirs = settings_from_dict(Reading, text["reading"]), str(text["fingerprint"])
        names, frames = (tuple(map(str, text[key])) for key in ("embedding_fields", "frame_fields"))
        score, curve = (tuple(map(float, text[key])) for key in ("score_weights", "curve_weights"))
        framed, made_of = bool(text["has_frame_scores"]), text.get("config")
        if not len(names) == len(score) == len(curve):
            raise ValueError(f"{len(names)} fields, {len(score)} and {len(curve)} weights")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, PrvrError) as problem:
        raise ModelError(f"{folder / EXPORT} is broken ({problem!r:.100}); export the checkpoint again") from None
    if theirs != fingerprint:
        raise ModelError(
            f"the export in {folder} is of checkpoint {theirs}, and the index of {fingerprint}; delete that folder, or "
            f"export the right one: prvr checkpoint export {folder.parent}"
        )
    # Its weights may be those of the index and the text beside them not, which the reader with torch notices.
    if made_of != config:
        return None
    return RowsModel(reading, names, frames, score, curve, framed, False, _sentence_encoder(folder, names))


def _sentence_encoder(folder: Path, fields: Sequence[str]) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
    try:
        session = open_session(folder / QUERIES, "cpu")
    except ModelError as problem:
        raise ModelError(
            f"cannot open {folder / QUERIES}; delete the folder and export again: prvr checkpoint export {folder.parent}"
        ) from problem

    def encode(words: np.ndarray) -> Sequence[np.ndarray]:
        with one_line_errors(str(folder / QUERIES), "cannot run the export"):
            return run(session, map(output_name, fields), {"words": words})

    return encode


def sum_of_cosines(weights: Sequence[float], query: Sequence[np.ndarray], video: Sequence[np.ndarray]) -> Float[np.ndarray, "P"]:
    """The weighted sum over fields of the cosines of one query (1, D) with a video's rows (P, D)."""
    parts = zip(weights, query, video, strict=True)
    terms = [np.float32(weight) * (unit(rows) @ unit(vector)[0]) for weight, vector, rows in parts if weight]
    curve: np.ndarray = np.sum(terms, axis=0)
    return curve


def output_name(field: str) -> str:
    """The name of an embedding field in a graph, where an input may be called frames, too."""
    return f"{field}_embedding"


def run(session: Any, outputs: Iterable[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of an encoder that was exported."""
    return [np.asarray(rows, np.float32) for rows in session.run(list(outputs), dict(inputs))]
