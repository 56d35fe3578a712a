"""Videos with subtitle streams, subtitle files, and a reader of texts that are made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from tiny_videos import HEIGHT, WIDTH, plain

from prvr.encoders.timed_texts import TextsPart, TimedText


def srt(*cues: tuple[float, float, str]) -> str:
    """Cues of (start, end, text) in seconds as SubRip."""

    def stamp(seconds: float) -> str:
        whole, thousandths = divmod(round(1000 * seconds), 1000)
        return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{thousandths:03}"

    return "".join(f"{n}\n{stamp(a)} --> {stamp(b)}\n{text}\n\n" for n, (a, b, text) in enumerate(cues, 1))


def write_with_subtitles(path: Path, streams: Sequence[tuple[str, str, Sequence[tuple[float, float, str]]]]) -> Path:
    """Three seconds of red with subtitle streams of (codec, language, cues); cues of a codec of pictures are not pictures."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        added = [out.add_mux_stream(codec) for codec, _, _ in streams]
        for stream, (_, language, _) in zip(added, streams, strict=True):
            stream.time_base, stream.metadata["language"] = Fraction(1, 1000), language
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(plain("red"), format="rgb24")
            frame.pts = number
            out.mux(video.encode(frame))
        for stream, (codec, _, cues) in zip(added, streams, strict=True):
            for start, end, text in cues:
                data = text.encode()
                packet = av.Packet(len(data).to_bytes(2) + data if codec == "mov_text" else data)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(1000 * start)
                packet.duration = round(1000 * (end - start))
                out.mux(packet)
        out.mux(video.encode())
    return path


def write_sound(path: Path, samples: np.ndarray, *, rate: int, picture: bool = False, codec: str = "aac") -> Path:
    """A file with the sound of samples (N,), from -1 to 1; with a picture, a second of red a second long before it."""
    with av.open(str(path), "w") as out:
        if picture:
            video = out.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream = out.add_stream(codec, rate=rate, layout="mono")
        if picture:
            for number in range(max(1, 10 * len(samples) // rate)):
                frame = av.VideoFrame.from_ndarray(plain("red"), format="rgb24")
                frame.pts = number
                out.mux(video.encode(frame))
            out.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


class SpokenSeconds:
    """A reader that hears "second N" in each second of a video; ends with an error after so many parts, if that is set."""

    kind, setting = "speech", "made up"

    def __init__(self, seconds: int, *, fails_after: int | None = None, version: str = "1") -> None:
        self.seconds, self.fails_after, self.version = seconds, fails_after, version
        self.read_seconds: list[int] = []

    def made_of(self, paths: Sequence[Path]) -> str:
        return self.version

    def read(self, paths: Sequence[Path], *, after: float) -> Iterator[TextsPart]:
        for second in range(int(after), self.seconds):
            if self.fails_after is not None and len(self.read_seconds) == self.fails_after:
                raise KeyboardInterrupt
            self.read_seconds.append(second)
            yield TextsPart(second + 1.0, (TimedText(second, second + 1.0, f"second {second}", self.kind, 0.9, "en"),))
