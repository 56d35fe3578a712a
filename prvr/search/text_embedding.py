"""Embeds the texts of an index by the encoder of its queries, so that they are found by meaning."""

from __future__ import annotations

from prvr.encoders import Encoder
from prvr.encoders.sentence_embeddings import BATCH, Embed, sentence_embedder
from prvr.extract.extraction import Progress
from prvr.index.reference import unrelated_sentences
from prvr.index.text_embeddings import TextBackground, to_embeddings
from prvr.index.text_windows import embedded_by, windows_of
from prvr.index.texts import TextStore


def embed_texts(texts: TextStore, encoder: Encoder, *, on_progress: Progress | None = None) -> None:
    """Embeds the windows of texts that have no embedding by an encoder, and removes embeddings without texts.

    Every BATCH windows are kept as soon as they are embedded; whatever ends the call, the next one goes on from there. Nothing is
    done if the encoder gives no embeddings of sentences (`prvr.encoders.sentence_embeddings`).

    Raises:
        DataError: they cannot be written.
        ModelError: the encoder fails, or texts are damaged.
    """
    embed, made_by = sentence_embedder(encoder), embedded_by(encoder.fingerprint)
    if embed is None:
        return
    known = texts.background()
    if known is None or known.made_by != made_by:
        texts.keep_background(TextBackground(made_by, embed(unrelated_sentences())))
    pending = texts.videos_to_embed(made_by)
    for done, video in enumerate(pending):
        if on_progress is not None:
            on_progress(f"meaning: {video}", done, len(pending))
        _embed_video(texts, video, embed, made_by)


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
