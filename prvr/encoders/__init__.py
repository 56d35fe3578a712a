"""Frozen networks that turn frames or text into features, for the student and for its teachers."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np

from prvr.errors import ModelError, PrvrError, one_line
from prvr.files import parse_json, read_bytes

# The description of an encoder that OpenCLIP publishes.
OPEN_CLIP = "open_clip_config.json"


@runtime_checkable
class Encoder(Protocol):
    """The attributes of every encoder.

    name: the name of its feature folder (letters, digits and underscores).
    source: the folder, file or name that it was opened from.
    fingerprint: 16 hex digits of a SHA-256 over its weights; it does not depend on where the files are.
    """

    name: str
    source: str
    fingerprint: str


@runtime_checkable
class ImageEncoder(Encoder, Protocol):
    """Turns frames, (height, width, 3) uint8 RGB of any size, into (N, image_columns) float32."""

    image_columns: int

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray: ...


@runtime_checkable
class FittingEncoder(ImageEncoder, Protocol):
    """An image encoder that resizes frames one by one: decoders do it early, so that no large frame waits in memory."""

    def fit(self, frame: np.ndarray) -> np.ndarray:
        """Returns a frame at the size that the network reads, for which `encode_images` gives the same row to the bit."""
        ...


@runtime_checkable
class SentenceEncoder(Encoder, Protocol):
    """Turns sentences into (N, sentence_columns) float32, in the space of the encoder's images if it also encodes images."""

    sentence_columns: int

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray: ...


@runtime_checkable
class WordEncoder(Encoder, Protocol):
    """Turns each sentence into one row per token, (W, word_columns) float32; special tokens included, padding not."""

    word_columns: int

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]: ...


@runtime_checkable
class LimitedText(Protocol):
    """A text encoder that cuts long texts.

    longest: the number of tokens that it reads of a text; None if it reads all. ends: how many of these follow the last word.
    """

    longest: int | None
    ends: int

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a whole text, special ones included."""
        ...


def count_words_read(encoder: Encoder, text: str, *, most: int | None = None) -> tuple[int, int]:
    """Returns how many words of a text an encoder reads before it cuts the text, and how many there are, split at blanks.

    Args:
        most: the number of its rows that the model reads.
    """
    words = text.split()
    if isinstance(encoder, JoinedWordEncoder):
        return min(count_words_read(part, text, most=most) for part in (encoder.words, *encoder.sentences))

    def is_cut(count: int) -> bool:
        start = " ".join(words[:count])
        if isinstance(encoder, LimitedText):
            tokens = encoder.count_tokens(start)
            beyond_encoder = encoder.longest is not None and tokens > encoder.longest
            return beyond_encoder or (most is not None and tokens - encoder.ends > most)
        return most is not None and isinstance(encoder, WordEncoder) and len(encoder.encode_words([start])[0]) > most

    if not is_cut(len(words)):
        return len(words), len(words)
    return bisect.bisect_left(range(1, len(words)), True, key=is_cut), len(words)


@contextmanager
def one_line_errors(source: str, what: str = "cannot open the encoder") -> Iterator[None]:
    """Converts every error within this block, which opens or runs an encoder, to a ModelError of one line.

    Raises:
        ModelError: an error was raised within the block.
    """
    try:
        yield
    except PrvrError:
        raise
    except ImportError as problem:
        raise ModelError(f"{source} needs a package that is not installed: {one_line(problem)}") from problem
    # `transformers`, `safetensors`, `tokenizers` and `onnxruntime` raise types of their own, and plain Exception.
    except Exception as problem:
        raise ModelError(f"{what} {source}: {one_line(problem)}; get its files again") from problem
    except BaseException as problem:
        # The type of a Rust library that gave up, as `tokenizers` does on damaged files; it has no name to import.
        if type(problem).__name__ != "PanicException":
            raise
        raise ModelError(f"{what} {source}: {one_line(problem)}; get its files again") from problem


def check_rows(source: str, rows: np.ndarray, *, count: int, columns: int, finite: bool = False) -> np.ndarray:
    """Returns an encoder's rows as float32 (count, columns), as it said that they would be.

    Raises:
        ModelError: they have another shape, or are not numbers; with `finite`, also if some are NaN or infinite.
    """
    if rows.shape != (count, columns) or not np.issubdtype(rows.dtype, np.floating):
        raise ModelError(
            f"the encoder {source} gave {rows.dtype} of shape {rows.shape} for {count} inputs, and states {columns} columns; "
            "export it again, or get its files again"
        )
    if finite and not np.isfinite(rows).all():
        raise ModelError(f"the encoder {source} gave NaN or infinite values for a text; get its files again")
    return rows.astype(np.float32, copy=False)


def open_encoder(source: str | Path, *, device: str = "cpu") -> Encoder:
    """Opens the encoder in a local folder, or of that name on the Hugging Face hub. Its files determine its family.

    Word vectors are a text file, `vectors:FILE` or its path alone; with a parser's roles, `roles:FILE+PIPELINE`. Words as
    numbers are `ids:VOCABULARY`.

    Raises:
        ModelError: there is no such encoder, or it is broken.
        SettingError: there is no such device.
    """
    # An absolute path, because checkpoints and features store it and are used from other working directories.
    source = str(Path(source).absolute()) if Path(source).is_dir() else str(source)
    return ENCODERS[_family(source)](source, device)


def image_encoder(source: str | Path, *, device: str = "cpu") -> ImageEncoder:
    """Like `open_encoder`, for an encoder of frames."""
    encoder = open_encoder(source, device=device)
    if isinstance(encoder, ImageEncoder):
        return encoder
    raise ModelError(f"{encoder.name!r} has no image side; it can read queries, not videos (from {source})")


def sentence_encoder(source: str | Path, *, device: str = "cpu") -> SentenceEncoder:
    """Like `open_encoder`, for an encoder that turns a sentence into one row."""
    encoder = open_encoder(source, device=device)
    if isinstance(encoder, SentenceEncoder):
        return encoder
    if isinstance(encoder, ImageEncoder):
        raise ModelError(f"{encoder.name!r} has no text side; it can be a student's eyes, not a teacher (from {source})")
    raise ModelError(f"{encoder.name!r} gives words, not sentences; it can be a student's words, not a teacher (from {source})")


def word_encoder(source: str | Path, *, device: str = "cpu") -> WordEncoder:
    """Like `open_encoder`, for an encoder that turns a sentence into a row per token."""
    encoder = open_encoder(source, device=device)
    if isinstance(encoder, WordEncoder):
        return encoder
    raise ModelError(f"{encoder.name!r} gives no rows per word; take a text model such as RoBERTa, or CLIP (not {source})")


def needs_torch(source: str) -> bool:
    """Whether the encoder of that source is run by torch: all but ONNX folders, word vectors and vocabularies."""
    is_text_file = source.startswith(("vectors:", "ids:")) or Path(source).is_file()
    return not is_text_file and not (Path(source) / "textual" / "model.onnx").is_file()


def open_text_side(source: str | Path, *, device: str = "cpu") -> Encoder:
    """Like `open_encoder`, without the image side where that takes time of its own: that of an ONNX folder."""
    if not (Path(source) / "textual" / "model.onnx").is_file():
        return open_encoder(source, device=device)
    from prvr.encoders.onnx import OnnxSentences

    with one_line_errors(str(source)):
        return OnnxSentences(Path(source).absolute(), device=device)


def name_of(source: str) -> str:
    """Returns an encoder's name: the last part of its source, as letters, digits and underscores.

    The name of `openai/clip-vit-base-patch32` is `clip_vit_base_patch32`.
    """
    last = Path(source).resolve().name if Path(source).exists() else source.rpartition("/")[2]
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_") or "encoder"


@final
class JoinedImageEncoder:
    """Several image encoders as one; the columns of their rows are joined, as `JoinedFeatures` joins features on disk."""

    def __init__(self, parts: Sequence[ImageEncoder]) -> None:
        self.parts = tuple(parts)
        self.name, self.source, self.fingerprint = _join_about(parts)
        self.image_columns = sum(part.image_columns for part in parts)

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Returns each frame's row of every encoder (N, image_columns)."""
        return np.concatenate([part.encode_images(frames) for part in self.parts], axis=1)


@final
class JoinedWordEncoder:
    """The words of one encoder; the row of each word is joined with the rows of the whole sentence of other encoders."""

    def __init__(self, words: WordEncoder, sentences: Sequence[SentenceEncoder]) -> None:
        self.words, self.sentences = words, tuple(sentences)
        self.name, self.source, self.fingerprint = _join_about((words, *sentences))
        self.word_columns = words.word_columns + sum(part.sentence_columns for part in sentences)

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns a row per word of each sentence (W, word_columns)."""
        columns = [part.encode_sentences(texts) for part in self.sentences]
        return [
            np.concatenate([rows, *(np.repeat(of[place][None], len(rows), axis=0) for of in columns)], axis=1)
            for place, rows in enumerate(self.words.encode_words(texts))
        ]


def _join_about(parts: Sequence[Encoder]) -> tuple[str, str, str]:
    """Returns the name, source and fingerprint of several encoders as one."""
    names, sources, fingerprints = zip(*((part.name, part.source, part.fingerprint) for part in parts), strict=True)
    return "+".join(names), "+".join(sources), "+".join(fingerprints)


def _open_onnx(source: str, device: str) -> Encoder:
    from prvr.encoders.onnx import open_onnx

    return open_onnx(Path(source), device=device)


def _open_dual(source: str, device: str) -> Encoder:
    from prvr.encoders.dual import DualEncoder

    return DualEncoder(source, device=device)


def _open_pe_core(source: str, device: str) -> Encoder:
    from prvr.encoders.pe_core import PeCore

    return PeCore(source, device=device)


def _open_text(source: str, device: str) -> Encoder:
    from prvr.encoders.dual import TextEncoder

    return TextEncoder(source, device=device)


def _open_vectors(source: str, device: str) -> Encoder:
    from prvr.encoders.vectors import SCHEME, WordVectors

    return WordVectors(Path(source.removeprefix(SCHEME)))


def _open_roles(source: str, device: str) -> Encoder:
    from prvr.encoders.roles import SCHEME, open_roles

    return open_roles(source.removeprefix(SCHEME))


def _open_vocabulary(source: str, device: str) -> Encoder:
    from prvr.encoders.vocabulary import SCHEME, Vocabulary

    return Vocabulary(Path(source.removeprefix(SCHEME)))


ENCODERS: dict[str, Callable[[str, str], Encoder]] = {
    "onnx": _open_onnx,
    "clip": _open_dual,
    "siglip": _open_dual,
    "siglip2": _open_dual,
    "pe_core": _open_pe_core,
    "text": _open_text,
    "vectors": _open_vectors,
    "roles": _open_roles,
    "ids": _open_vocabulary,
}


def _family(source: str) -> str:
    folder = Path(source)
    scheme, colon, _ = source.partition(":")
    if colon and scheme in ("vectors", "roles", "ids"):
        return scheme
    if folder.is_file():
        return "vectors"
    if (folder / "visual" / "model.onnx").is_file() or (folder / "textual" / "model.onnx").is_file():
        return "onnx"
    if not folder.is_dir():
        from prvr.encoders.hub import local_folder

        folder = local_folder(source)
    if (folder / OPEN_CLIP).is_file() and not (folder / "config.json").is_file():
        return "pe_core"
    kind = _model_type(folder)
    return kind if kind in ENCODERS else "text"


def _model_type(folder: Path) -> str:
    try:
        kind = parse_json(read_bytes(folder / "config.json"))["model_type"]
    except FileNotFoundError:
        raise ModelError(
            f"no encoder in {folder}: neither visual/model.onnx, textual/model.onnx nor config.json; check the path"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{folder / 'config.json'} is broken or names no model_type; get the encoder again") from None
    return str(kind)
