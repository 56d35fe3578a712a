"""Encoders as folders of ONNX files: images, sentences, or both in one space.

NAME/visual/model.onnx             pixel_values (N, 3, height, width) float32 -> embedding (N, E)
NAME/visual/preprocess_cfg.json    size, mean, std (of values in 0..1), interpolation, resize_mode
NAME/textual/model.onnx            input_ids, attention_mask (N, W) int64 -> embedding (N, E)
NAME/textual/tokenizer.json        of Hugging Face `tokenizers`
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np

from prvr.encoders import Encoder, check_rows, name_of, one_line_errors
from prvr.errors import ModelError, nearest, require
from prvr.files import parse_json, read_bytes

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RESIZE_MODES = ("shortest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
# The largest side in pixels that a model reads.
MOST_PIXELS = 4096
FAILED = "cannot run the encoder"


def open_onnx(folder: Path, *, device: str = "cpu") -> Encoder:
    """Opens the encoder in a folder; it has images, sentences, or both, depending on the folder's files."""
    has_images = (folder / "visual" / "model.onnx").is_file()
    has_texts = (folder / "textual" / "model.onnx").is_file()
    with one_line_errors(str(folder)):
        if has_images and has_texts:
            return OnnxDual(folder, device=device)
        return OnnxSentences(folder, device=device) if has_texts else OnnxImages(folder, device=device)


@final
class OnnxImages:
    """An encoder of images only.

    Raises:
        ModelError: a file is missing or broken.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.name, self.source = name_of(str(folder)), str(folder)
        self._images = _Images(folder / "visual", device)
        self.fingerprint = _fingerprint(folder, "visual")
        self.image_columns = self._images.columns

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Encodes frames (height, width, 3), uint8 RGB, as rows (N, image_columns)."""
        return self._images.encode(frames)


@final
class OnnxSentences:
    """An encoder of sentences only.

    Raises:
        ModelError: a file is missing or broken.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.name, self.source = name_of(str(folder)), str(folder)
        self._sentences = _Sentences(folder / "textual", device)
        self.fingerprint = _fingerprint(folder, "textual")
        self.sentence_columns = self._sentences.columns
        self.longest, self.ends = self._sentences.longest, self._sentences.ends

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes sentences as rows (N, sentence_columns)."""
        return self._sentences.encode(texts)

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a whole text, special ones included."""
        return self._sentences.count_tokens(text)


@final
class OnnxDual:
    """An encoder of images and sentences in one space.

    Raises:
        ModelError: a file is missing or broken, or the halves differ in width.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.name, self.source = name_of(str(folder)), str(folder)
        self._images = _Images(folder / "visual", device)
        self._sentences = _Sentences(folder / "textual", device)
        self.fingerprint = _fingerprint(folder, "visual", "textual")
        self.image_columns, self.sentence_columns = self._images.columns, self._sentences.columns
        if self.image_columns != self.sentence_columns:
            raise ModelError(
                f"{folder}: images have {self.image_columns} columns, sentences {self.sentence_columns}; "
                "the two halves come from different models"
            )
        self.longest, self.ends = self._sentences.longest, self._sentences.ends

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Encodes frames (height, width, 3), uint8 RGB, as rows (N, image_columns)."""
        return self._images.encode(frames)

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes sentences as rows (N, sentence_columns)."""
        return self._sentences.encode(texts)

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a whole text, special ones included."""
        return self._sentences.count_tokens(text)


class _Images:
    """The model in `visual/`, with its preprocessing of frames."""

    def __init__(self, folder: Path, device: str) -> None:
        self._pillow = require("PIL.Image", extra="onnx")
        self._session = _session(folder / "model.onnx", device)
        self.columns = _columns(self._session, folder)
        self._source = str(folder.parent)
        path = folder / "preprocess_cfg.json"
        try:
            config = parse_json(read_bytes(path))
            size, mean, std, self._resize_mode, self._interpolation = (
                config[key] for key in ("size", "mean", "std", "resize_mode", "interpolation")
            )
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise ModelError(f"{path} is missing or broken ({problem!r}); get the encoder again") from problem
        self._height, self._width = _size(path, size)
        self._mean, self._std = _numbers(path, "mean", mean, above=-math.inf), _numbers(path, "std", std, above=0)
        for value, known in ((self._resize_mode, RESIZE_MODES), (self._interpolation, INTERPOLATIONS)):
            if value not in known:
                raise ModelError(f"{path}: unknown {value!r:.60}; {nearest(str(value), known)}")
        self._input = _pixel_input(self._session, folder / "model.onnx", (3, self._height, self._width))

    def encode(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        if not frames:
            return np.empty((0, self.columns), np.float32)
        pixels = np.stack([self._fit(frame) for frame in frames]).astype(np.float32) / np.float32(255)
        planes = ((pixels - self._mean) / self._std).transpose(0, 3, 1, 2)
        with one_line_errors(self._source, FAILED):
            rows = np.asarray(self._session.run(["embedding"], {self._input: np.ascontiguousarray(planes)})[0])
        return check_rows(self._source, rows, count=len(frames), columns=self.columns)

    def _fit(self, frame: np.ndarray) -> np.ndarray:
        height, width = self._height, self._width
        image = self._pillow.fromarray(frame)
        resampling = self._pillow.Resampling[self._interpolation.upper()]
        if self._resize_mode == "squash":
            return np.asarray(image.resize((width, height), resampling))
        # The smallest size that covers the crop, each side rounded down as torchvision does.
        scale = max(height / image.height, width / image.width)
        covering = max(width, int(image.width * scale)), max(height, int(image.height * scale))
        left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
        return np.asarray(image.resize(covering, resampling).crop((left, top, left + width, top + height)))


class _Sentences:
    """The model in `textual/`, with its tokenizer."""

    def __init__(self, folder: Path, device: str) -> None:
        tokenizers = require("tokenizers", extra="onnx")
        self._session = _session(folder / "model.onnx", device)
        self.columns = _columns(self._session, folder)
        shapes = {str(entry.name): entry.shape for entry in self._session.get_inputs()}
        if not {"input_ids"} <= shapes.keys() <= {"input_ids", "attention_mask"}:
            raise ModelError(f"{folder / 'model.onnx'} reads {sorted(shapes)}; expected input_ids and attention_mask")
        self._inputs = list(shapes)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(read_bytes(folder / "tokenizer.json").decode())
        # `tokenizers` raises bare Exception.
        except Exception as problem:
            raise ModelError(f"{folder / 'tokenizer.json'} is missing or broken ({problem}); get the encoder again") from problem
        if len(shapes["input_ids"]) != 2:
            raise ModelError(
                f"{folder / 'model.onnx'} reads input_ids {shapes['input_ids']}, not (batch, tokens); export it again"
            )
        self._source, self.ends = str(folder.parent), 0
        self._set_length(shapes["input_ids"][-1])
        self.longest: int | None = (self._tokenizer.truncation or {}).get("max_length")

    def count_tokens(self, text: str) -> int:
        tokens = self._tokenizer.encode(text)
        return sum(sum(part.attention_mask) for part in (tokens, *tokens.overflowing))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        # One at a time: a dynamically quantised model (DynamicQuantizeLinear) scales by the values of the whole batch, which
        # moved a unit vector of mobilenet-minilm by 0.04. Batches would take two thirds of the time.
        rows = [np.empty((0, self.columns), np.float32)]
        for text in texts:
            with one_line_errors(self._source, FAILED):
                tokens = self._tokenizer.encode(text)
                inputs = {
                    "input_ids": np.array([tokens.ids], np.int64),
                    "attention_mask": np.array([tokens.attention_mask], np.int64),
                }
                row = np.asarray(self._session.run(["embedding"], {name: inputs[name] for name in self._inputs})[0])
            rows.append(check_rows(self._source, row, count=1, columns=self.columns, finite=True))
        return np.concatenate(rows)

    def _set_length(self, length: int | str | None) -> None:
        padding = self._tokenizer.padding or {}
        if isinstance(length, int):
            self._tokenizer.enable_truncation(length)
            self._tokenizer.enable_padding(
                length=length, pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]")
            )
        else:
            self._tokenizer.no_padding()


def _size(path: Path, value: Any) -> tuple[int, int]:
    sides = [value, value] if isinstance(value, int) else value
    whole = isinstance(sides, list) and len(sides) == 2 and all(type(side) is int and 1 <= side <= MOST_PIXELS for side in sides)
    if not whole:
        raise ModelError(
            f"{path}: 'size' is {value!r:.60}; it takes a whole number from 1 to {MOST_PIXELS}, or [height, width]; "
            "get the encoder again"
        )
    return sides[0], sides[1]


def _numbers(path: Path, name: str, value: Any, *, above: float) -> np.ndarray:
    numbers = value if isinstance(value, list) else []
    # Within float32, beyond which a pixel becomes infinite.
    fit = [n for n in numbers if type(n) in (int, float) and max(above, -1e6) < n < 1e6 and (above < 0 or n > 1e-6)]
    if len(numbers) != 3 or len(fit) != 3:
        what = "three numbers above 0" if above == 0 else "three numbers"
        raise ModelError(f"{path}: {name!r} is {value!r:.60}; it takes {what}, of values in 0..1; get the encoder again")
    return np.array(numbers, np.float32)


def _pixel_input(session: Any, path: Path, planes: tuple[int, int, int]) -> str:
    """Returns the name of the model's only input, after checking that it takes such planes."""
    inputs = {str(entry.name): entry.shape for entry in session.get_inputs()}
    shapes = list(inputs.values())
    fits = len(shapes) == 1 and len(shapes[0]) == 4
    if not fits or any(isinstance(own, int) and own != given for own, given in zip(shapes[0][1:], planes, strict=True)):
        raise ModelError(f"{path} reads {inputs}, and preprocess_cfg.json makes {planes}: they are of different models")
    return next(iter(inputs))


def _session(path: Path, device: str) -> Any:
    runtime = require("onnxruntime", extra="onnx")
    provider = _provider(runtime, device)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    # Threads that wait actively take a third more CPU time from the threads that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(str(path), options, providers=[provider])
    # The exceptions of onnxruntime have no common class except Exception.
    except Exception as problem:
        reason = " ".join(str(problem).split())[:200]
        raise ModelError(f"cannot open {path}: {reason}; get the encoder again") from problem


def _provider(runtime: ModuleType, device: str) -> str:
    kind = device.partition(":")[0]
    if kind not in PROVIDERS:
        raise ModelError(f"ONNX encoders cannot run on {device!r}; {nearest(kind, PROVIDERS)}")
    if PROVIDERS[kind] not in runtime.get_available_providers():
        raise ModelError(f"this onnxruntime cannot run on {device!r}; pip install onnxruntime-gpu, or take device 'cpu'")
    return PROVIDERS[kind]


def _columns(session: Any, folder: Path) -> int:
    shapes = {entry.name: entry.shape for entry in session.get_outputs()}
    shape = shapes.get("embedding", [])
    columns = shape[-1] if len(shape) == 2 else None
    if not isinstance(columns, int) or columns < 1:
        raise ModelError(f"{folder / 'model.onnx'} returns {shapes}, not embedding (N, columns); export it again")
    return columns


def _fingerprint(folder: Path, *halves: str) -> str:
    digest = hashlib.sha256()
    for half in halves:
        for path in sorted((folder / half).iterdir()):
            # A large model has its weights in a second file, such as model.onnx.data.
            if path.name.startswith("model.onnx") or path.name in ("preprocess_cfg.json", "tokenizer.json"):
                digest.update(f"{half}/{path.name} {path.stat().st_size}\n".encode())
                with open(path, "rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
    return digest.hexdigest()[:16]
