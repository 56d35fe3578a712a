"""Encoders as folders of ONNX files: images, sentences, or both in one space.

NAME/visual/model.onnx             pixel_values (N, 3, height, width) float32 -> embedding (N, E)
NAME/visual/preprocess_cfg.json    size, mean, std (of values in 0..1), interpolation, resize_mode
NAME/textual/model.onnx            input_ids, attention_mask (N, W) int64 -> embedding (N, E)
NAME/textual/tokenizer.json        of Hugging Face `tokenizers`
NAME/textual/prompt.json           optional: {"prompt": "a photo of a {}."}, the template of short wordings; "" for none

The family that such a model was trained in is not known. Without `prompt.json` its template is that of `prvr.encoders.prompts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np

from prvr.encoders import Encoder, check_rows, name_of, one_line_errors
from prvr.encoders.pixels import Pixels
from prvr.encoders.prompts import PROMPTS, check_template
from prvr.errors import ModelError, SettingError, nearest, require
from prvr.files import parse_json, read_bytes

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
FAILED = "cannot run the encoder"
PROMPT = "prompt.json"
# Frames in one run of a network: on a CPU more are not faster, and take as much more memory.
FRAMES_AT_ONCE = {"cpu": 8, "cuda": 1 << 16}


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

    def fit(self, frame: np.ndarray) -> np.ndarray:
        """Returns a frame at the size that the network reads, for which `encode_images` gives the same row to the bit."""
        return self._images.pixels.fit(frame)


@final
class OnnxSentences:
    """An encoder of sentences; the image side of the folder, where there is one, is not opened.

    Raises:
        ModelError: a file is missing or broken.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.name, self.source = name_of(str(folder)), str(folder)
        self._sentences = _Sentences(folder / "textual", device)
        self.fingerprint = _fingerprint(
            folder, *(half for half in ("visual", "textual") if (folder / half / "model.onnx").is_file())
        )
        self.sentence_columns = self._sentences.columns
        self.longest, self.ends, self.prompt = self._sentences.longest, self._sentences.ends, self._sentences.prompt

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
        self.longest, self.ends, self.prompt = self._sentences.longest, self._sentences.ends, self._sentences.prompt

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Encodes frames (height, width, 3), uint8 RGB, as rows (N, image_columns)."""
        return self._images.encode(frames)

    def fit(self, frame: np.ndarray) -> np.ndarray:
        """Returns a frame at the size that the network reads, for which `encode_images` gives the same row to the bit."""
        return self._images.pixels.fit(frame)

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes sentences as rows (N, sentence_columns)."""
        return self._sentences.encode(texts)

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a whole text, special ones included."""
        return self._sentences.count_tokens(text)


class _Images:
    """The model in `visual/`, with its preprocessing of frames."""

    def __init__(self, folder: Path, device: str) -> None:
        self._session = open_session(folder / "model.onnx", device)
        self.columns = _columns(self._session, folder)
        self._at_once = FRAMES_AT_ONCE["cpu" if self._session.get_providers()[0] == PROVIDERS["cpu"] else "cuda"]
        self._source = str(folder.parent)
        path = folder / "preprocess_cfg.json"
        try:
            config = parse_json(read_bytes(path))
        except (OSError, ValueError) as problem:
            raise ModelError(f"{path} is missing or broken ({problem!r}); get the encoder again") from problem
        self.pixels = Pixels(config, path, extra="onnx")
        planes = (3, self.pixels.height, self.pixels.width)
        self._input = _pixel_input(self._session, folder / "model.onnx", planes)

    def encode(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        if not frames:
            return np.empty((0, self.columns), np.float32)
        rows = [self._run(frames[start : start + self._at_once]) for start in range(0, len(frames), self._at_once)]
        return np.concatenate(rows)

    def _run(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        planes = self.pixels.planes(frames)
        with one_line_errors(self._source, FAILED):
            rows = np.asarray(self._session.run(["embedding"], {self._input: planes})[0])
        return check_rows(self._source, rows, count=len(frames), columns=self.columns)


class _Sentences:
    """The model in `textual/`, with its tokenizer."""

    def __init__(self, folder: Path, device: str) -> None:
        tokenizers = require("tokenizers", extra="onnx")
        self._session = open_session(folder / "model.onnx", device)
        self.columns = _columns(self._session, folder)
        shapes = {str(entry.name): entry.shape for entry in self._session.get_inputs()}
        if not {"input_ids"} <= shapes.keys() <= {"input_ids", "attention_mask"}:
            raise ModelError(f"{folder / 'model.onnx'} reads {sorted(shapes)}; expected input_ids and attention_mask")
        self._inputs = list(shapes)
        with one_line_errors(str(folder / "tokenizer.json"), "cannot open"):
            self._tokenizer = tokenizers.Tokenizer.from_str(read_bytes(folder / "tokenizer.json").decode())
        if len(shapes["input_ids"]) != 2:
            raise ModelError(
                f"{folder / 'model.onnx'} reads input_ids {shapes['input_ids']}, not (batch, tokens); export it again"
            )
        self._source, self.ends, self.prompt = str(folder.parent), 0, _prompt(folder / PROMPT)
        self._set_length(shapes["input_ids"][-1])
        self.longest: int | None = (self._tokenizer.truncation or {}).get("max_length")

    def count_tokens(self, text: str) -> int:
        with one_line_errors(self._source, FAILED):
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


def _prompt(path: Path) -> str:
    if not path.exists():
        return PROMPTS["onnx"]
    try:
        return check_template(str(parse_json(read_bytes(path))["prompt"]))
    except (OSError, ValueError, KeyError, TypeError, SettingError) as problem:
        raise ModelError(f'{path} is broken ({problem}); it holds {{"prompt": "a photo of a {{}}."}}') from problem


def _pixel_input(session: Any, path: Path, planes: tuple[int, int, int]) -> str:
    """Returns the name of the model's only input, after checking that it takes such planes."""
    inputs = {str(entry.name): entry.shape for entry in session.get_inputs()}
    shapes = list(inputs.values())
    fits = len(shapes) == 1 and len(shapes[0]) == 4
    if not fits or any(isinstance(own, int) and own != given for own, given in zip(shapes[0][1:], planes, strict=True)):
        raise ModelError(f"{path} reads {inputs}, and preprocess_cfg.json makes {planes}: they are of different models")
    return next(iter(inputs))


def open_session(path: Path, device: str) -> Any:
    """Opens a model in onnxruntime.

    Raises:
        ModelError: the file is no model that it runs, or this onnxruntime cannot run on the device.
        MissingExtra: onnxruntime is not installed.
    """
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
    if kind == "auto":
        kind = next(name for name in ("cuda", "cpu") if PROVIDERS[name] in runtime.get_available_providers())
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
