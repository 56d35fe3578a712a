"""Lengths that no file can have, and more parts than any file needs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from prvr.video import structures
from prvr.video.encryption import is_encrypted
from prvr.video.missing import is_cut_off
from prvr.video.structures import boxes_of

HUGE = (1 << 63) + 8
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
MXF_KEY = bytes.fromhex("060e2b34 02050101 0d010201 01020400".replace(" ", ""))


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4) + kind + content


def asf() -> bytes:
    first = bytes(16) + HUGE.to_bytes(8, "little") + bytes(80)
    return ASF_HEADER + (HUGE + 99).to_bytes(8, "little") + bytes(6) + first


def mxf(footer: int) -> bytes:
    # A partition pack: key, length in one byte, 24 bytes of versions and places, where the last partition is.
    return MXF_KEY + b"\x70" + bytes(24) + footer.to_bytes(8) + bytes(100)


BROKEN = {
    "mov": box(b"ftyp", b"isom") + (1).to_bytes(4) + b"free" + HUGE.to_bytes(8),
    "matroska": b"\x1aE\xdf\xa3\x80" + bytes.fromhex("18538067 01fffffffffffffe ec 01fffffffffffffe ec".replace(" ", "")),
    "asf": asf(),
    "mxf": mxf(HUGE),
}


@pytest.mark.parametrize("name", BROKEN)
def test_lengths_that_no_file_has(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(BROKEN[name])
    assert not is_encrypted(path)
    # The others end in parts that hold no pictures.
    assert is_cut_off(path, {name}, 0) is (name == "mxf")


def test_the_number_of_boxes_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "MOST_PARTS", 5)
    assert len(list(boxes_of(io.BytesIO(box(b"free", b"") * 9)))) == 5


def test_a_last_box_without_a_length_reaches_to_the_end(tmp_path: Path) -> None:
    data = box(b"ftyp", b"isom") + bytes(4) + b"moov" + b"tables encv"
    assert list(boxes_of(io.BytesIO(data))) == [(b"ftyp", 12), (b"moov", len(data))]
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert is_encrypted(path)
    assert is_cut_off(path, {"mov"}, 0) is False
