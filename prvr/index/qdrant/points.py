"""Videos to points of Qdrant and back.

vectors   of each field its rows at unit length, so that inner products are cosines; and the few rows of the first stage
payload   `video`, `about` and `frames` (windows and edges) as JSON text, in ASCII: a file name need not be UTF-8;
          the rows' lengths, and a checksum; and the terms of `prvr.index.qdrant.filters`

A float16 row is exactly its unit row times its length: the error of float32 is one part in 8 million, float16 has 2,048.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

import numpy as np
from jaxtyping import Float

from prvr.errors import ModelError
from prvr.files import parse_json
from prvr.index.contract import Entry
from prvr.index.database import key_of
from prvr.index.qdrant.filters import terms
from prvr.index.sketches import divide

Rows = Float[np.ndarray, "_ _"]

# Of float16, as a server stores the rows of the first stage.
STAGE_ERROR = 1e-3


def point_id(video: str) -> str:
    """The id of a video's point. Qdrant accepts only numbers and UUIDs."""
    return str(UUID(bytes=sha256(key_of(video)).digest()[:16]))


def vectors_of(entry: Entry, fields: Sequence[str]) -> dict[str, list[list[float]]]:
    """The rows of each field at unit length."""
    return {name: unit(rows).tolist() for name, rows in zip(fields, entry.fields, strict=True)}


def stage_of(entry: Entry, weights: Sequence[float]) -> list[list[float]]:
    """The rows that the first stage scans; four digits, since the server keeps four bits."""
    return divide(entry.fields, weights).vectors.astype(np.float64).round(4).tolist()


def has_stage(vectors: Mapping[str, Any], entry: Entry, name: str, weights: Sequence[float]) -> bool:
    """Whether the vectors of a point contain the rows that the first stage scans."""
    rows, expected = np.array(vectors.get(name, []), np.float32), np.array(stage_of(entry, weights), np.float32)
    return rows.shape == expected.shape and np.allclose(rows, expected, atol=STAGE_ERROR)


def payload_of(entry: Entry) -> dict[str, Any]:
    """Everything else in a video's point."""
    text = {
        "video": json.dumps(entry.video),
        "about": json.dumps(dict(entry.about)),
        "frames": json.dumps([entry.windows, entry.edges]),
    }
    lengths = [_lengths(rows)[:, 0].tolist() for rows in entry.fields]
    return {**text, "lengths": lengths, "crc32": _checksum(text, entry.fields), **terms(entry.video, entry.about)}


def entry_of(vectors: Mapping[str, Any], payload: Mapping[str, Any], fields: Sequence[str]) -> Entry:
    """The video of a point, with rows as float32.

    Raises:
        ModelError: it is damaged.
    """
    try:
        pairs = zip((vectors[name] for name in fields), payload["lengths"], strict=True)
        rows = tuple((np.array(u, np.float32) * np.array(n, np.float32)[:, None]).astype(np.float16) for u, n in pairs)
        windows, edges = parse_json(payload["frames"])
        about = parse_json(payload["about"])
        if payload["crc32"] == _checksum(payload, rows):
            wide = tuple(values.astype(np.float32) for values in rows)
            return Entry(video_of(payload), wide, tuple(windows), None if edges is None else tuple(edges), about)
    except (KeyError, ValueError, TypeError, IndexError):
        pass
    raise ModelError("its point is damaged")


def video_of(payload: Mapping[str, Any]) -> str:
    """The id of the video of a point."""
    video = _value_of(payload, "video")
    if not isinstance(video, str):
        raise ModelError("its point is damaged")
    return video


def about_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """`Entry.about` of the video of a point."""
    about = _value_of(payload, "about")
    if not isinstance(about, dict):
        raise ModelError("its point is damaged")
    return about


def _value_of(payload: Mapping[str, Any], name: str) -> Any:
    try:
        return parse_json(payload[name])
    except (KeyError, ValueError, TypeError):
        raise ModelError("its point is damaged") from None


def unit(rows: Rows) -> Rows:
    """Rows at unit length; a row of zeros is unchanged."""
    lengths = _lengths(rows)
    return rows.astype(np.float32) / np.where(lengths > 0, lengths, 1)


def _lengths(rows: Rows) -> Rows:
    return np.linalg.norm(rows.astype(np.float32), axis=1, keepdims=True)


def _checksum(text: Mapping[str, Any], fields: Sequence[Rows]) -> int:
    known = "\0".join(text[name] for name in ("video", "about", "frames")).encode()
    return zlib.crc32(b"".join(rows.tobytes() for rows in fields), zlib.crc32(known))
