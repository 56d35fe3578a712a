"""Writing files so that a kill or a full disk leaves the old one or the new one, never half of one."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_whole(path: Path, data: bytes) -> None:
    """Writes beside the file and then takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as problem:
        part.unlink(missing_ok=True)
        # A write that finds no room does not say where.
        if isinstance(problem, OSError) and problem.filename is None:
            problem.filename = str(path)
        raise


def write_json(path: Path, value: Any) -> None:
    """`write_whole` of a value as JSON that a person can read."""
    # backslashreplace: a file name that is not UTF-8 may be in it, and becomes an escape that JSON knows.
    write_whole(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def write_picture(path: Path, figure: Figure) -> None:
    """`write_whole` of a figure as PNG."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(path, picture.getvalue())
