"""Extraction of a folder: the share of time in which the encoder works, ways to decode, and the encoder's own speed.

    python -m benchmarks.extraction [--videos FOLDER --encoder FOLDER --rate 1]

1. The pipeline (threads decode ahead, videos share batches), beside a plain script that decodes every frame with PyAV, and
   beside one video after the other through `VideoReader`: seconds, the encoder's share of them, frames a second, ratios.
2. Ways to decode, on the folder and on one long file composed of it (H.264 with B-frames, a keyframe every ten seconds): CPU
   seconds, frames a second, and the distance in time of the frames from those of the exact way.

The default folders are in ../shared (or $PRVR_SHARED); without them the script prints one line and ends. `python -m benchmarks
encoding` measures the encoder alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Line, Size, take_turns
from prvr.cpu import fast_products
from prvr.encoders import ImageEncoder, image_encoder
from prvr.errors import require
from prvr.extract.encoding import ThisProcess
from prvr.extract.engine import Encoded, FrameSampling, Job, Part
from prvr.video import VideoReader, find_videos

SHARED = Path(os.environ.get("PRVR_SHARED", Path(__file__).parents[2] / "shared")) / "data"
PIXELS, PATCH = 224, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, default=SHARED / "videos")
    parser.add_argument("--encoder", type=Path, default=SHARED / "models" / "mobilenet-minilm")
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.videos.is_dir() or not arguments.encoder.is_dir():
        missing = f"no videos in {arguments.videos} or no encoder in {arguments.encoder}"
        print(f"extraction: {missing}; name them with --videos, --encoder")
        return
    videos = find_videos(arguments.videos)
    pipeline(videos, Timed(image_encoder(arguments.encoder)), arguments.rate, arguments.runs)
    with tempfile.TemporaryDirectory() as folder:
        long = compose_file(list(videos.values()), Path(folder) / "long.mp4")
        for rate in (arguments.rate, arguments.rate / 10):
            decoding("the folder", list(videos.values()), rate)
            decoding("the long file", [long], rate)


class Timed:
    """An encoder that measures its own time."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder, self.seconds = encoder, 0.0
        self.name, self.source, self.fingerprint = encoder.name, encoder.source, encoder.fingerprint
        self.image_columns = encoder.image_columns

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        began = time.perf_counter()
        rows = self._encoder.encode_images(frames)
        self.seconds += time.perf_counter() - began
        return rows


def encoding_lines(size: Size) -> list[Line]:
    """Seconds of a batch of pictures through an encoder as large as CLIP ViT-B/32, beside torch's default products.

    The encoder's weights are random. The note has the largest difference of the two results.
    """
    transformers = require("transformers", extra="encoders")
    settings = transformers.CLIPVisionConfig(
        hidden_size=2 * size.hidden,
        intermediate_size=8 * size.hidden,
        num_attention_heads=max(1, size.hidden // 32),
        image_size=PIXELS,
        patch_size=PATCH,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = transformers.CLIPVisionModel(settings).eval().requires_grad_(False).to(size.device)
        pictures = torch.rand(size.videos // 4, 3, PIXELS, PIXELS).to(size.device)

    @torch.inference_mode()
    def encode() -> Tensor:
        rows: Tensor = encoder(pixel_values=pictures).pooler_output
        return rows

    encode_fast = fast_products()(encode)
    times = take_turns({"ours": encode_fast, "torch": encode}, runs=size.runs, device=size.device)
    ours, default = encode_fast(), encode()
    difference = float((ours - default).abs().max() / default.abs().max())
    note = f"{len(pictures)} pictures; differ by {difference:.0e} of the largest number"
    return [Line("encoding pictures, beside torch's default products", times["ours"], times["torch"], note=note)]


def pipeline(videos: dict[str, Path], encoder: Timed, rate: float, runs: int) -> None:
    ways = {"plain PyAV": with_plain_pyav, "one after the other": one_after_the_other, "pipeline": in_the_pipeline}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    shares: dict[str, list[float]] = {way: [] for way in ways}
    work: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, run in ways.items():
            encoder.seconds, began, worked = 0.0, time.perf_counter(), time.process_time()
            frames = run(videos, encoder, rate)
            seconds[way].append(time.perf_counter() - began)
            shares[way].append(encoder.seconds / seconds[way][-1])
            work[way].append(time.process_time() - worked)
    for way in ways:
        middle = statistics.median(seconds[way])
        spread = f"{min(seconds[way]):.1f}-{max(seconds[way]):.1f}"
        share = statistics.median(shares[way])
        processor, rate_done = statistics.median(work[way]), frames / middle
        print(
            f"{way}: {middle:.1f} s ({spread}), {processor:.1f} s of processor, "
            f"encoder at work {share:.0%}, {rate_done:.1f} frames/s"
        )
    for way in ("plain PyAV", "one after the other"):
        ratios = [old / new for old, new in zip(seconds[way], seconds["pipeline"], strict=True)]
        print(
            f"{len(videos)} videos, {frames} frames: pipeline {statistics.median(ratios):.2f} times as fast as {way}, "
            f"{min(ratios):.2f}-{max(ratios):.2f}"
        )


def with_plain_pyav(videos: dict[str, Path], encoder: ImageEncoder, rate: float) -> int:
    """Decodes every frame, and encodes the first of each slot; what a short script would do."""
    count = 0
    for path in videos.values():
        waiting: list[np.ndarray] = []
        slot = -1
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if frame.time is not None and int((frame.time + 0.001) * rate) > slot:
                    slot, count = int((frame.time + 0.001) * rate), count + 1
                    waiting.append(frame.to_ndarray(format="rgb24"))
                    if len(waiting) == 32:
                        encoder.encode_images(waiting)
                        waiting = []
        if waiting:
            encoder.encode_images(waiting)
    return count


def one_after_the_other(videos: dict[str, Path], encoder: ImageEncoder, rate: float) -> int:
    """Decodes a batch, then encodes it; no two videos share a batch."""
    count = 0
    for path in videos.values():
        waiting: list[np.ndarray] = []
        with VideoReader(path, rate=rate) as reader:
            for _, frame in reader:
                count += 1
                waiting.append(frame)
                if len(waiting) == 32:
                    encoder.encode_images(waiting)
                    waiting = []
        if waiting:
            encoder.encode_images(waiting)
    return count


def in_the_pipeline(videos: dict[str, Path], encoder: ImageEncoder, rate: float) -> int:
    jobs = [Job(id, path) for id, path in videos.items()]
    outcomes = ThisProcess(encoder).encode(jobs, sampling=FrameSampling(rate, 32))
    return sum(len(outcome.rows) for outcome in outcomes if isinstance(outcome, Encoded | Part))


def compose_file(paths: list[Path], out: Path, *, height: int = 360, width: int = 640, seconds: int = 180) -> Path:
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.options = {"preset": "veryfast", "bf": "3", "g": "250", "threads": "1"}
        count = 0
        while count < seconds * 25:
            for path in paths:
                with av.open(str(path)) as source:
                    for frame in source.decode(video=0):
                        fitted = frame.reformat(width, height, "yuv420p")
                        fitted.pts, fitted.time_base = count, Fraction(1, 25)
                        fitted.pict_type = 0
                        container.mux(stream.encode(fitted))
                        count += 1
                        if count == seconds * 25:
                            container.mux(stream.encode())
                            return out
    return out


def decoding(where: str, paths: list[Path], rate: float) -> None:
    print(f"\n{where}, {len(paths)} files, {rate:g} frames a second")
    exact = [list(every_frame(path, rate)) for path in paths]
    wanted = sum(map(len, exact))
    for way, read in WAYS.items():
        began = time.process_time()
        decoded = [list(read(path, rate)) for path in paths]
        seconds = time.process_time() - began
        lost = sum(max(0, len(a) - len(b)) for a, b in zip(exact, decoded, strict=True))
        away = [min((abs(at - other) for other in b), default=np.inf) for a, b in zip(exact, decoded, strict=True) for at in a]
        print(
            f"  {way:34} {seconds:6.2f} s {wanted / seconds:7.1f} frames/s; frames fewer: {lost / wanted:4.0%}; "
            f"off by {np.mean(away) * 1000:5.0f} ms on average, {max(away) * 1000:5.0f} at most"
        )


def zero_of(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """The stamp at which a player's clock shows 0 (docs/extraction.md)."""
    raw = {"mov", "mp4", "matroska", "webm"} & set(container.format.name.split(","))
    return 0 if raw or container.start_time is None else round(container.start_time / (av.time_base * stream.time_base))


def first_of_slots(frames: Iterator[av.VideoFrame], rate: float, start: float) -> Iterator[float]:
    slot = -1
    for frame in frames:
        time_of = frame.time - start
        if time_of > -0.001 and int((time_of + 0.001) * rate) > slot:
            slot = int((time_of + 0.001) * rate)
            frame.to_ndarray(format="rgb24")
            yield time_of


def skipping(kind: str) -> Callable[[Path, float], Iterator[float]]:
    def read(path: Path, rate: float) -> Iterator[float]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            stream.codec_context.skip_frame = kind
            yield from first_of_slots(container.decode(stream), rate, float(zero_of(container, stream) * stream.time_base))

    return read


def seeking(path: Path, rate: float) -> Iterator[float]:
    """Seeks the keyframe before each time, and decodes up to the time."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        start = zero_of(container, stream)
        slots = int(float((stream.duration or 0) * stream.time_base) * rate) + 1
        for slot in range(slots):
            at = start + int(slot / rate / stream.time_base)
            container.seek(at, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= at:
                    frame.to_ndarray(format="rgb24")
                    yield float((frame.pts - start) * stream.time_base)
                    break


def ours(path: Path, rate: float) -> Iterator[float]:
    with VideoReader(path, rate=rate) as reader:
        for at, _ in reader:
            yield at


every_frame = skipping("DEFAULT")
WAYS: dict[str, Callable[[Path, float], Iterator[float]]] = {
    "every frame": every_frame,
    "VideoReader: what is needed": ours,
    "frames that others need (NONREF)": skipping("NONREF"),
    "keyframes (NONKEY)": skipping("NONKEY"),
    "seeking for each": seeking,
}


if __name__ == "__main__":
    main()
