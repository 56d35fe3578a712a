"""Encodes captions to packed folders of sentence and word features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from prvr.encoders import Encoder, SentenceEncoder, WordEncoder, count_words_read
from prvr.errors import DataError
from prvr.extract.extraction import Extraction, Progress, encoder_about, explain_full_disk, has_item
from prvr.features.packed import PackedWriter


def extract_sentences(
    texts: Mapping[str, str],
    out: Path,
    *,
    encoder: SentenceEncoder,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> Extraction:
    """Writes one row (1, E) per text to a packed folder. Texts of earlier calls are kept.

    Raises:
        DataError: a text is empty, the folder holds features of another encoder, or the disk is full.

    Returns:
        What was done. Texts that the encoder cuts are in `problems`, with how many words were read.
    """

    def encode(batch: Sequence[str]) -> list[np.ndarray]:
        return [row[np.newaxis] for row in encoder.encode_sentences(batch)]

    about = {"kind": "sentences", "encoder": encoder_about(encoder)}
    _refuse_empty(texts)
    with PackedWriter(out, columns=encoder.sentence_columns, about=about, source=encoder.source) as writer:
        return _extract_texts(texts, writer, encode, encoder=encoder, batch_size=batch_size, on_progress=on_progress)


def extract_words(
    texts: Mapping[str, str],
    out: Path,
    *,
    encoder: WordEncoder,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> Extraction:
    """Writes the rows (W, E) of each text's tokens to a packed folder; otherwise as `extract_sentences`."""
    about = {"kind": "words", "encoder": encoder_about(encoder)}
    _refuse_empty(texts)
    with PackedWriter(out, columns=encoder.word_columns, about=about, source=encoder.source) as writer:
        return _extract_texts(
            texts, writer, encoder.encode_words, encoder=encoder, batch_size=batch_size, on_progress=on_progress
        )


def _refuse_empty(texts: Mapping[str, str]) -> None:
    empty = [id for id, text in texts.items() if not text.strip()]
    if empty:
        raise DataError(f"the text of {empty[0]!r} is empty ({len(empty)} of {len(texts)} are); write it or take it out")


def _extract_texts(
    texts: Mapping[str, str],
    writer: PackedWriter,
    encode: Callable[[Sequence[str]], list[np.ndarray]],
    *,
    encoder: Encoder,
    batch_size: int,
    on_progress: Progress | None,
) -> Extraction:
    kept = [id for id, text in texts.items() if has_item(writer, id, {"text": text})]
    already = set(kept)
    new = [id for id in texts if id not in already]
    problems = {}
    for id in new:
        read, words = count_words_read(encoder, texts[id])
        if read < words:
            problems[id] = f"{encoder.name} reads the first {read} of its {words} words; write a shorter caption"
    for start in range(0, len(new), batch_size):
        batch = new[start : start + batch_size]
        rows = encode([texts[id] for id in batch])
        with explain_full_disk(writer):
            writer.extend([(id, row, {"text": texts[id]}) for id, row in zip(batch, rows, strict=True)])
        if on_progress is not None:
            on_progress(batch[-1], len(kept) + start + len(batch), len(texts))
    return Extraction(tuple(new), tuple(kept), (), problems)
