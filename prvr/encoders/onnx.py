"""Encoders as folders of ONNX files: images, sentences, or both in one space.

NAME/visual/model.onnx             pixel_values (N, 3, height, width) float32 -> embedding (N, E)
NAME/visual/preprocess_cfg.json    size, mean, std (of values in 0..1), interpolation, resize_mode
NAME/textual/model.onnx            input_ids, attention_mask (N, W) int64 -> embedding (N, E)
NAME/textual/tokenizer.json        of Hugging Face `tokenizers`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np

from prvr.encoders import Encoder, name_of
from prvr.errors import ModelError, nearest, require

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RESIZE_MODES = ("shortest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear", "nearest")


def open_onnx(folder: Path, *, device: str = "cpu") -> Encoder:
    """Opens the encoder in a folder; it has images, sentences, or both, depending on the folder's files."""
    has_images = (folder / "visual" / "model.onnx").is_file()
    has_texts = (folder / "textual" / "model.onnx").is_file()
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

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes sentences as rows (N, sentence_columns)."""
        return self._sentences.encode(texts)


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

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Encodes frames (height, width, 3), uint8 RGB, as rows (N, image_columns)."""
        return self._images.encode(frames)

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes sentences as rows (N, sentence_columns)."""
        return self._sentences.encode(texts)


class _Images:
    """The model in `visual/`, with its preprocessing of frames."""

    def __init__(self, folder: Path, device: str) -> None:
        self._pillow = require("PIL.Image", extra="onnx")
        self._session = _session(folder / "model.onnx", device)
        self.columns = _columns(self._session, folder)
        self._input = str(self._session.get_inputs()[0].name)
        path = folder / "preprocess_cfg.json"
        try:
            config = json.loads(path.read_text())
            size = config["size"]
            self._height, self._width = (size, size) if isinstance(size, int) else map(int, size)
            self._mean = np.array(config["mean"], np.float32).reshape(3)
            self._std = np.array(config["std"], np.float32).reshape(3)
            self._resize_mode, self._interpolation = config["resize_mode"], config["interpolation"]
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise ModelError(f"{path} is missing or broken ({problem!r}); get the encoder again") from problem
        for value, known in ((self._resize_mode, RESIZE_MODES), (self._interpolation, INTERPOLATIONS)):
            if value not in known:
                raise ModelError(f"{path}: unknown {value!r}; {nearest(str(value), known)}")

    def encode(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        if not frames:
            return np.empty((0, self.columns), np.float32)
        pixels = np.stack([self._fit(frame) for frame in frames]).astype(np.float32) / np.float32(255)
        planes = ((pixels - self._mean) / self._std).transpose(0, 3, 1, 2)
        rows = self._session.run(["embedding"], {self._input: np.ascontiguousarray(planes)})[0]
        return np.asarray(rows, np.float32)

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
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        # `tokenizers` raises bare Exception.
        except Exception as problem:
            raise ModelError(f"{folder / 'tokenizer.json'} is missing or broken ({problem}); get the encoder again") from problem
        self._set_length(shapes["input_ids"][-1])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        # One at a time: a dynamically quantised model (DynamicQuantizeLinear) scales by the values of the whole batch, which
        # moved a unit vector of mobilenet-minilm by 0.04. Batches would take two thirds of the time.
        rows = [np.empty((0, self.columns), np.float32)]
        for text in texts:
            tokens = self._tokenizer.encode(text)
            inputs = {
                "input_ids": np.array([tokens.ids], np.int64),
                "attention_mask": np.array([tokens.attention_mask], np.int64),
            }
            rows += self._session.run(["embedding"], {name: inputs[name] for name in self._inputs})
        return np.concatenate(rows).astype(np.float32)

    def _set_length(self, length: int | str | None) -> None:
        padding = self._tokenizer.padding or {}
        if isinstance(length, int):
            self._tokenizer.enable_truncation(length)
            self._tokenizer.enable_padding(
                length=length, pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]")
            )
        else:
            self._tokenizer.no_padding()


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
    columns = shapes.get("embedding", [None])[-1]
    if not isinstance(columns, int):
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
