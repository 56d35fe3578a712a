"""Videos whose pictures say their number, and whose sound begins at a known time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

BITS, WIDTH, HEIGHT = 10, 160, 48
SOUND_RATE = 48_000


def picture(number: int) -> np.ndarray:
    """The bits of a number as black and white bars."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    return np.repeat(np.repeat(np.array(bits, np.uint8), WIDTH // BITS)[None, :, None], HEIGHT, 0).repeat(3, 2)


def number_of(image: np.ndarray) -> int:
    bars = image.astype(float).mean((0, 2)).reshape(BITS, -1).mean(1)
    return sum(1 << bit for bit in range(BITS) if bars[bit] > 127)


def write_numbered(
    path: Path,
    frames: int = 100,
    *,
    rate: Fraction | int = 25,
    format: str | None = None,
    codec: str = "libx264",
    sound_codec: str | None = None,
    gop: int = 30,
    b_frames: int = 2,
    times: Sequence[Fraction] | None = None,
    tone_at: float | None = None,
    metadata: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    **container: object,
) -> Path:
    """A video of numbered pictures at a rate, or at times in seconds; with a tone from a time on, if it is given."""
    with av.open(str(path), "w", format=format, **container) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        base = Fraction(1, 1000) if times is not None else 1 / Fraction(rate)
        stream.codec_context.time_base = base
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.options = {"threads": "1", "preset": "veryfast", "sc_threshold": "0"} if codec == "libx264" else {}
        sound = None
        if tone_at is not None:
            sound = out.add_stream(sound_codec or ("aac" if codec == "libx264" else "mp2"), rate=SOUND_RATE, layout="mono")
        end = (times[-1] if times is not None else Fraction(frames) / rate) if sound else 0
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts = round(times[number] / base) if times is not None else number
            frame.time_base = base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound is not None:
            clock = np.arange(int(end * SOUND_RATE)) / SOUND_RATE
            wave = (0.5 * np.sin(2 * np.pi * 1000 * clock) * (clock >= tone_at)).astype(np.float32)
            for at in range(0, len(wave) - 1023, 1024):
                block = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = SOUND_RATE, at, Fraction(1, SOUND_RATE)
                out.mux(sound.encode(block))
            out.mux(sound.encode())
    return path


def tone_begins(path: Path) -> float:
    """The time at which the sound of a file becomes loud, on the clock of its pictures, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        zero = container.start_time or 0
        if set(container.format.name.split(",")) & {"mp4", "matroska"}:
            zero = 0
        for frame in container.decode(stream):
            samples = np.abs(frame.to_ndarray().astype(float)).reshape(-1)
            samples = samples / (32768 if frame.format.name.startswith("s16") else 1)
            loud = np.flatnonzero(samples > 0.2)
            if len(loud):
                return float(frame.pts * stream.time_base) - zero / 1e6 + loud[0] / frame.sample_rate
    raise AssertionError("it is silent")
