"""The facts of a recording that its file has: time, camera, place, title."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

# FFmpeg's names, the one that says most first: QuickTime's own date has the offset of the place.
DATES = ("com.apple.quicktime.creationdate", "creation_time", "date", "date_recorded", "wm/encodingtime")
MAKERS = ("com.apple.quicktime.make", "com.android.manufacturer", "make", "manufacturer", "company_name")
MODELS = ("com.apple.quicktime.model", "com.android.model", "model", "modelname", "product_name")
PLACES = ("com.apple.quicktime.location.iso6709", "location", "recording_location")
# Longer texts are no names.
MOST_CHARACTERS = 200


def read_tags(groups: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Returns the fields that tags give: `captured` (ISO 8601, with an offset), `camera`, `title`, `gps` (`lat`, `lon`, degrees).

    A field that no tag states credibly is left out.

    Args:
        groups: tags by name: those of the container, then those of its streams, which count where the container says nothing.
    """
    tags: dict[str, str] = {}
    for group in groups:
        for name, value in group.items():
            tags.setdefault(re.sub(r"-[a-z]{3}$", "", name.lower()), _one_line(value))
    texts = {name: value[:MOST_CHARACTERS] for name, value in tags.items() if value}
    fields = {
        "captured": next(filter(None, (_date(texts[name]) for name in DATES if name in texts)), None),
        "camera": _camera(texts),
        "title": texts.get("title") or texts.get("com.apple.quicktime.title"),
        "gps": next(filter(None, (_place(texts[name]) for name in PLACES if name in texts)), None),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _date(text: str) -> str | None:
    """A moment with an offset; without one it is UTC, as containers define it. None if it is no moment."""
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]", text):
        return None
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text.replace(" UTC", "+00:00"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        # A camera whose clock was never set writes the beginning of its time: 1904 or 1970. UTC must have a date for it, too.
        if 1970 < moment.astimezone(UTC).year < 9999:
            return moment.isoformat(timespec="seconds")
    return None


def _camera(texts: Mapping[str, str]) -> str | None:
    maker = next((texts[name] for name in MAKERS if name in texts), "")
    model = next((texts[name] for name in MODELS if name in texts), "")
    # Some models are named with their maker.
    return (model if model.lower().startswith(maker.lower()) else f"{maker} {model}").strip() or None


def _place(text: str) -> dict[str, float] | None:
    """A place of ISO 6709, ±DD.DDDD±DDD.DDDD, also with minutes (±DDMM.M) or seconds (±DDMMSS.S)."""
    parts = re.match(r"([+-])([0-9]{2,6}(?:\.[0-9]+)?)([+-])([0-9]{3,7}(?:\.[0-9]+)?)", text)
    if parts is None:
        return None
    lat, lon = _degrees(parts[1], parts[2], 2), _degrees(parts[3], parts[4], 3)
    # Cameras without a fix write a place in the Gulf of Guinea.
    if abs(lat) > 90 or abs(lon) > 180 or (lat, lon) == (0, 0):
        return None
    return {"lat": round(lat, 6), "lon": round(lon, 6)}


def _degrees(sign: str, digits: str, width: int) -> float:
    whole, _, rest = digits.partition(".")
    smallest = float(f"{whole[-2:]}.{rest or 0}")
    if len(whole) <= width:
        degrees = float(digits)
    elif len(whole) <= width + 2:
        degrees = float(whole[:-2]) + smallest / 60
    else:
        degrees = float(whole[:-4]) + float(whole[-4:-2]) / 60 + smallest / 3600
    return math.copysign(degrees, -1.0 if sign == "-" else 1.0)
