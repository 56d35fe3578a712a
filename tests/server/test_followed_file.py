"""A file that is open is opened again when it, or the small one beside it, is another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prvr.errors import ModelError
from prvr.server.followed_file import FollowedFile


def test_it_is_opened_again_when_either_file_is_another(tmp_path: Path) -> None:
    file, beside = tmp_path / "index.sqlite", tmp_path / "checkpoint.json"
    file.write_text("rows")
    beside.write_text("no calibration")
    closed: list[str] = []
    followed = FollowedFile(file, lambda: f"{file.read_text()}, {beside.read_text()}", closed.append, also=beside)
    assert followed.get() == followed.get() == "rows, no calibration"
    # Written again with the same content, and rows added: what is open follows these by itself.
    beside.write_text("no calibration")
    file.write_text("more rows")
    assert (followed.get(), closed) == ("rows, no calibration", [])
    beside.write_text("a calibration")
    assert (followed.get(), closed) == ("more rows, a calibration", ["rows, no calibration"])
    # Without the file beside it, what is open serves on.
    beside.unlink()
    assert followed.get() == "more rows, a calibration"
    beside.write_text("a calibration")
    assert (followed.get(), len(closed)) == ("more rows, a calibration", 1)
    other = tmp_path / "other"
    other.write_text("another index")
    os.replace(other, file)
    assert (followed.get(), len(closed)) == ("another index, a calibration", 2)
    file.unlink()
    with pytest.raises(ModelError, match="put it back"):
        followed.get()
