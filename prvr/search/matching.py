"""Opens the encoder that a model reads, and checks that it is the one that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prvr.encoders import (
    Encoder,
    ImageEncoder,
    JoinedImageEncoder,
    JoinedWordEncoder,
    SentenceEncoder,
    WordEncoder,
    open_encoder,
)
from prvr.errors import ModelError
from prvr.features.sources import Source


def open_matching_encoder(source: Source, what: str, device: str, *, open_with: Callable[..., Encoder] = open_encoder) -> Encoder:
    """Opens the encoder that a model reads, and checks that it is the one that the model was trained on.

    Args:
        what: "frames" or "text".
        open_with: opens an encoder, or the side of it that is needed.

    Raises:
        ModelError: the encoder is not there, it has other weights, or no encoder makes what the model reads.
    """
    if source.parts:
        return _join([open_matching_encoder(part, what, device) for part in source.parts], what)
    if source.source is None and source.fingerprint:
        raise ModelError(
            f"the encoder {source.name!r} with fingerprint {source.fingerprint}, which this model reads, is not on the hub; get "
            "its folder and name it: prvr checkpoint pull REPOSITORY FOLDER --encoder ENCODER"
        )
    if source.source is None:
        raise ModelError(
            f"this student reads {source.name!r} {what}, which no encoder here makes from raw input; "
            "train one on features of `prvr extract`"
        )
    if Path(source.source).is_absolute() and not Path(source.source).is_dir():
        raise ModelError(
            f"the encoder {source.name!r} that this model reads is no longer in {source.source}; put it back, or write "
            f"its new place as 'source' into the model's config.json"
        )
    encoder = open_with(source.source, device=device)
    if encoder.fingerprint != source.fingerprint:
        raise ModelError(
            f"the encoder in {source.source} has fingerprint {encoder.fingerprint}, this model reads {source.fingerprint}; "
            "put the old one back, or extract and train again"
        )
    return encoder


def _join(parts: Sequence[Encoder], what: str) -> Encoder:
    if what == "frames":
        return JoinedImageEncoder([part for part in parts if isinstance(part, ImageEncoder)])
    words, *others = parts
    assert isinstance(words, WordEncoder)
    return JoinedWordEncoder(words, [part for part in others if isinstance(part, SentenceEncoder)])
