"""The answer to a query as JSON values: what `prvr search --json` shows, whoever computes it."""

from __future__ import annotations

from typing import Any

from prvr.search.asking import VideoSearch


def answer(gallery: VideoSearch, query: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the query, what was not read of it, what the hits are measured in, and the hits.

    Args:
        settings: of `VideoSearch.search`.

    Raises:
        SettingError, ModelError: as `VideoSearch.search`.
    """
    hits, note = gallery.search(query, **settings), gallery.note_on(query)
    calibrated = gallery.calibration(rescore=settings.get("rescore", False)) is not None
    measure = "probability" if calibrated else "score"
    noted = {"note": note} if note else {}
    return {"query": query, **noted, "measure": measure, "hits": [hit.as_dict() for hit in hits]}
