"""Embeds the texts of an index by the encoder of its queries, so that they are found by meaning."""

from __future__ import annotations

import numpy as np

from prvr.encoders import Encoder
from prvr.encoders.sentence_embeddings import BATCH, Embed, sentence_embedder
from prvr.errors import ModelError
from prvr.extract.extraction import Progress
from prvr.index.reference import unrelated_sentences
from prvr.index.text_embeddings import TextBackground, to_embeddings
from prvr.index.text_windows import embedded_by, windows_of
from prvr.index.texts import TextStore


def embed_texts(texts: TextStore, encoder: Encoder, *, on_progress: Progress | None = None) -> dict[str, str]:
    """Embeds the windows of texts that have no embedding by an encoder, and removes embeddings without texts.

    Every BATCH windows are kept as soon as they are embedded; whatever ends the call, the next one goes on from there. If the
    encoder gives no embeddings of sentences (`prvr.encoders.sentence_embeddings`), that is noted and nothing else is done.

    Returns:
        Why videos could not be embedded, by their ids.

    Raises:
        DataError: they cannot be written.
        ModelError: the encoder fails on unrelated sentences.
    """
    embed, made_by = sentence_embedder(encoder), embedded_by(encoder.fingerprint)
    known = texts.background()
    if known is None or known.made_by != made_by:
        rows = np.empty((0, 0), np.float32) if embed is None else embed(unrelated_sentences())
        texts.keep_background(TextBackground(made_by, rows))
    if embed is None:
        return {}
    pending, problems = texts.videos_to_embed(made_by), {}
    for done, video in enumerate(pending):
        if on_progress is not None:
            on_progress(f"meaning: {video}", done, len(pending))
        try:
            _embed_video(texts, video, embed, made_by)
        except ModelError as problem:
            problems[video] = str(problem)
    return problems


def _embed_video(texts: TextStore, video: str, embed: Embed, made_by: str) -> None:
    windows = {window.key(made_by): window for window in windows_of(texts.read(video))}
    there = {one.key for one in texts.embeddings(video)}
    gone, new = there - windows.keys(), [key for key in windows if key not in there]
    for start in range(0, len(new), BATCH):
        part = new[start : start + BATCH]
        rows = embed([windows[key].text for key in part])
        keys = [(key, windows[key].kind, windows[key].start, windows[key].end) for key in part]
        texts.keep_embeddings(video, made_by, to_embeddings(keys, rows), is_complete=False)
    texts.keep_embeddings(video, made_by, (), drop=gone, is_complete=True)
