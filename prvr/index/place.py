"""Where an index lies: its folder, for that folder itself or for the folder of its videos. Nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path

FILE = "index.sqlite"
# The folder of the checkpoint that made an index.
MODEL = "model"
# The default folder of an index, below its folder of videos: hidden, so that it is not searched for videos.
DEFAULT = ".prvr"


def index_folder_of(path: Path) -> Path:
    """Returns the folder of the index, for that folder itself or for the folder of its videos."""
    return path / DEFAULT if not (path / FILE).exists() and (path / DEFAULT / FILE).exists() else path
