"""The videos of an index, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prvr.search.opening import store_of


@dataclass(frozen=True)
class ListedVideo:
    """A video of an index: its duration in seconds, its date (ISO 8601, UTC), its other paths, and what is wrong with it."""

    video: str
    duration: float | None
    date: str | None
    copies: tuple[str, ...] = ()
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {**asdict(self), "copies": list(self.copies)}


def list_index(place: str | Path, *, model: str | Path | None = None, method: str | type | None = None) -> list[ListedVideo]:
    """Returns the videos of an index by name; no encoder is opened.

    Args:
        model: the checkpoint of the index; required for a URL. method: its method, as in `open_index`.

    Raises:
        ModelError: there is no index, or it is broken.
    """
    _, store = store_of(place, model=model, method=method)
    try:
        abouts = store.about()
    finally:
        store.close()
    return [
        ListedVideo(id, about.get("duration"), about.get("date"), tuple(about.get("copies", ())), about.get("problem"))
        for id, about in sorted(abouts.items())
    ]
