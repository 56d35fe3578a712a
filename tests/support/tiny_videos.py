"""Small real videos, made frame by frame where a test needs them."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (230, 230, 230), "black": (20, 20, 20)}
SECONDS = list(COLOURS)
HEIGHT, WIDTH = 48, 80


def write_video(
    path: Path,
    frames: Iterable[tuple[int, np.ndarray]],
    *,
    options: dict[str, str] | None = None,
    turn: tuple[int, bool] | None = None,
    codec: str = "libx264",
    aspect: Fraction | None = None,
    rate: int = 25,
    metadata: dict[str, str] | None = None,
    **container: object,
) -> Path:
    """A video of (milliseconds, picture); `turn` is a counterclockwise rotation in degrees, then a left-right mirror.

    aspect: width through height of a pixel.
    """
    with av.open(str(path), "w", **container) as out:
        stream = out.add_stream(codec, rate=rate)
        out.metadata.update(metadata or {})
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # MPEG-2 knows no time base but that of its frames.
        time_base = Fraction(1, 1000) if codec == "libx264" else Fraction(1, 25)
        stream.codec_context.time_base = time_base
        stream.codec_context.options = {"threads": "1", "preset": "veryfast", **(options or {})}
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        for milliseconds, picture in frames:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(Fraction(milliseconds, 1000) / time_base), time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def copy_as_another(source: Path, target: Path) -> Path:
    """A copy with the same pictures whose file has other bytes: a box at the end, which no player reads, has its name."""
    name = target.name.encode()
    target.write_bytes(source.read_bytes() + (8 + len(name)).to_bytes(4) + b"free" + name)
    return target


def plain(colour: str) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), COLOURS[colour], np.uint8)


def noisy(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def colourful(fps: int = 25, seconds: int = 5) -> list[tuple[int, np.ndarray]]:
    """A colour a second."""
    return [(1000 * n // fps, plain(SECONDS[n // fps % 5])) for n in range(fps * seconds)]


def colour_of(picture: np.ndarray) -> str:
    mean = picture.reshape(-1, 3).mean(0)
    return min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))
