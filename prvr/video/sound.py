"""The sound of a video: decoded for recognition; and of an exact cut, cut to the sample and encoded as AAC."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np
from jaxtyping import Float

from prvr.errors import VideoError, require
from prvr.video.containers import STREAMS
from prvr.video.opening import open_container, zero_of
from prvr.video.packets import names_of, timed_packets

# Rates that AAC has (ISO/IEC 14496-3), per second; others are resampled to the last one.
RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000})
OTHERWISE = 48000
# Seconds that a decoder of sound needs before its first right sample.
BEFORE = 1.0
# Layouts that AAC has and PyAV hands over: of planar samples in 8 channels or more, it reads past the end.
LAYOUTS = frozenset({"mono", "stereo", "quad", "5.1", "5.1(side)"})
# Seconds without sound in the middle of a film; a longer jump is a broken stamp.
MOST_GAP = 6 * 3600.0


@final
class Sound:
    """The sound that a player plays of a video, from one time to another one, in seconds; no packets if it has none.

    It is in step with the pictures to the sample: gaps are silence, and what overlaps is left out.
    """

    def __init__(self, av: ModuleType, source: Path, start: float, end: float) -> None:
        self._av, self._start, self._end = av, start, end
        self._container = open_container(av, source)
        self._stream = sound_stream(self._container)
        self._encoder: Any = None
        self._samples = np.zeros((1, 0), np.float32)
        self._encoded = 0
        if self._stream is not None:
            rate = self._stream.codec_context.sample_rate
            self._rate = rate if rate in RATES else OTHERWISE
            name = self._stream.codec_context.layout.name
            self._layout = name if name in LAYOUTS else "stereo"
            self._blocks = decoded_blocks(
                av, self._container, self._stream, start=start, end=end, rate=self._rate, layout=self._layout
            )
            self._next = next(self._blocks, None)

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def add_to(self, out: Any) -> None:
        """Adds its stream to an output."""
        if self._stream is not None and self._next is not None:
            self._encoder = out.add_stream("aac", rate=self._rate, layout=self._layout)
            # Opened now, for the size of its frames.
            self._encoder.codec_context.open(strict=False)

    def up_to(self, time: float) -> Iterator[list[Any]]:
        """Yields the packets of what is heard up to a time of the video; up to infinity the rest."""
        if self._encoder is None:
            return
        while self._next is not None and self._next[0] <= time:
            place, samples = self._next
            yield from self._add(round((place - self._start) * self._rate), samples)
            self._next = next(self._blocks, None)
        if time == math.inf:
            if self._samples.shape[1]:
                yield self._encode(self._samples)
            yield self._encoder.encode(None)
            self._encoder = None

    def _add(self, place: int, samples: np.ndarray) -> Iterator[list[Any]]:
        """Adds samples at a place, in samples from the start."""
        if len(self._samples) != len(samples):
            self._samples = np.zeros((len(samples), 0), np.float32)
        written = self._encoded + self._samples.shape[1]
        # A stamp is rounded to a thousandth in some containers.
        if abs(place - written) <= self._rate // 250 and written:
            place = written
        most = round((self._end - self._start) * self._rate)
        samples = samples[:, max(0, written - place) : max(0, most - place)]
        silence = np.zeros((len(samples), max(0, min(place, most) - written)), np.float32)
        self._samples = np.concatenate([self._samples, silence, samples], axis=1)
        size = self._encoder.codec_context.frame_size or 1024
        while self._samples.shape[1] >= size:
            yield self._encode(self._samples[:, :size])
            self._samples = self._samples[:, size:]

    def _encode(self, samples: np.ndarray) -> list[Any]:
        frame = self._av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._encoded, Fraction(1, self._rate)
        self._encoded += samples.shape[1]
        packets: list[Any] = self._encoder.encode(frame)
        return packets


def read_sound(path: Path, *, rate: int, after: float = 0.0) -> Iterator[Float[np.ndarray, "N"]]:
    """Yields the sound that a player plays of a video from a time on, in one channel, block by block; nothing if it has none.

    Block follows block to the sample: gaps are silence, and what overlaps is left out.

    Args:
        rate: samples per second. after: in seconds.

    Raises:
        VideoError: the file cannot be opened or read, or its stamps are broken.
    """
    av = require("av", extra="video")
    container = open_container(av, path)
    try:
        stream = sound_stream(container)
        if stream is None:
            return
        written = 0
        for time, samples in decoded_blocks(av, container, stream, start=after, end=math.inf, rate=rate, layout="mono"):
            place = round((time - after) * rate)
            # A stamp is rounded to a thousandth in some containers.
            place = written if abs(place - written) <= rate // 250 else place
            if place - written > MOST_GAP * rate:
                raise VideoError(
                    f"its sound jumps from second {after + written / rate:.1f} to {time:.1f}; write its time stamps again: "
                    "ffmpeg -i IN -c copy OUT"
                )
            while place > written:
                silence = np.zeros(min(place - written, rate), np.float32)
                written += len(silence)
                yield silence
            rest = samples[0, max(0, written - place) :]
            written += len(rest)
            yield rest
    except av.error.FFmpegError as problem:
        raise VideoError(f"cannot read the sound of {path}: {problem.strerror}; convert it or take it out") from None
    finally:
        container.close()


def sound_stream(container: Any) -> Any:
    """The stream of sound that a player plays; None if there is none that can be decoded."""
    stream = container.streams.best("audio")
    return None if stream is None or stream.codec_context is None else stream


def decoded_blocks(
    av: ModuleType, container: Any, stream: Any, *, start: float, end: float, rate: int, layout: str
) -> Iterator[tuple[float, Float[np.ndarray, "C N"]]]:
    """The decoded blocks of a stream that are heard from a time to another one, with a player's times in seconds."""
    names = names_of(container)
    zero, unit = zero_of(container, stream, names), stream.time_base
    if start > BEFORE and not names & set(STREAMS):
        with suppress(av.error.FFmpegError):
            container.seek(zero + int((start - BEFORE) / unit), stream=stream)
    setup: tuple[str, str, int] | None = None
    following = 0.0
    for timed in timed_packets(container, [stream]):
        if timed.shown >= end:
            return
        frames: list[Any] = []
        with suppress(av.error.FFmpegError):
            frames = stream.codec_context.decode(timed.packet)
        for frame in frames:
            place = following if frame.pts is None else float((frame.pts - zero) * unit)
            following = place + frame.samples / frame.sample_rate
            if following > start:
                # A broadcast changes from stereo to 5.1 and back, and a resampler takes one kind of frames alone.
                if setup != (setup := (frame.format.name, frame.layout.name, frame.sample_rate)):
                    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
                for block in resampler.resample(frame):
                    yield place, block.to_ndarray()
                    place += block.samples / rate
