"""Where features come from: which encoders made the frames and the text that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prvr.errors import DataError


@dataclass(frozen=True)
class Source:
    """The origin of features.

    name: of the encoder or of the published features. columns: their width.
    source: what the encoder can be opened from, a folder or a hub name; None if prvr cannot open it.
    fingerprint: of the encoder's weights. rate: frames per second, for frames.
    parts: of features side by side, the origin of each block; of text, words first and then sentences.
    """

    name: str
    columns: int
    source: str | None = None
    fingerprint: str | None = None
    rate: float | None = None
    parts: tuple[Source, ...] = ()


@dataclass(frozen=True)
class FeatureSources:
    """The origin of what a model reads: of its frames, of its text and, for a model of two modalities, of the subtitles.

    The columns of `frames` are those of the pictures alone; the subtitles' follow them (`prvr.features.subtitles`).
    """

    frames: Source
    text: Source
    subtitles: Source | None = None

    @property
    def each(self) -> tuple[Source, ...]:
        """Those that there are."""
        return tuple(source for source in (self.frames, self.text, self.subtitles) if source is not None)


def sources_from_dict(text: dict[str, Any]) -> FeatureSources:
    """Sources as `dataclasses.asdict` wrote them.

    Raises:
        KeyError, TypeError, AttributeError: the value is something else.
    """
    subtitles = _source(text["subtitles"]) if text.get("subtitles") else None
    return FeatureSources(_source(text["frames"]), _source(text["text"]), subtitles)


def _source(text: dict[str, Any]) -> Source:
    made = Source(**{**text, "parts": tuple(_source(part) for part in text.get("parts", ()))})
    text_or_none = str | None
    kinds = {"name": str, "columns": int, "source": text_or_none, "fingerprint": text_or_none, "rate": float | int | None}
    for name, kind in kinds.items():
        if not isinstance(value := getattr(made, name), kind):
            raise TypeError(f"{name} of a source is {value!r:.80}")
    return made


def join_sources(parts: Sequence[Source]) -> Source:
    """The source of features side by side.

    Raises:
        DataError: frames were taken at different rates.
    """
    rates = {part.rate for part in parts}
    if len(rates) > 1:
        each = ", ".join(f"{part.name} at {part.rate}" for part in parts)
        raise DataError(f"frames side by side were taken at different rates ({each}); extract both at one --rate")
    known = [part.fingerprint for part in parts if part.fingerprint]
    return Source(
        "+".join(part.name for part in parts),
        sum(part.columns for part in parts),
        fingerprint="+".join(known) if len(known) == len(parts) else None,
        rate=rates.pop(),
        parts=tuple(parts),
    )
