"""kill -9 at random moments of reading a long film: how much of it is read again, and that nothing differs at the end.

    python tests/support/film.py FOLDER ENCODER --kills 60 --hours 2

The film is read in a process that tells, line by line, where it began, each frame that it decoded and each that it encoded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np

HEIGHT, WIDTH = 120, 160
# Each reading is a process of its own, forked from one that has imported all: to do that takes longer than to read a short film.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["prvr.extract.folder", "prvr.search", "prvr.search.update", "onnxruntime", "tokenizers", "torch"]
)


def make_film(path: Path, *, seconds: int, fps: int, shade: int = 0) -> Path:
    """A film in which no two seconds look the same: a square walks over a ground that changes its colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.options = {"threads": "1", "preset": "ultrafast", "g": "50", "bf": "2"}
        for number in range(seconds * fps):
            picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
            picture[:] = (number * 7 + shade) % 256, number // 3 % 256, number // 700 % 256
            x, y = number * 3 % (WIDTH - 20), number % (HEIGHT - 20)
            picture[y : y + 20, x : x + 20] = 255 - picture[0, 0]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


def work(told: Connection, verb: str, videos: Path, out: Path, encoder: Path, rate: float) -> None:
    """Runs in the process that is killed."""
    from prvr.extract import decoding, encoding
    from prvr.extract.folder import extract_folder
    from prvr.search import index_folder, zero_shot

    decode, encode = decoding.decode, encoding.encode_with_padding

    tell = told.send

    def decode_and_tell(*args: Any, **options: Any) -> Iterator[decoding.Piece]:
        for piece in decode(*args, **options):
            if isinstance(piece, decoding.VideoStart):
                tell(f"begin {piece.seconds}")
            elif isinstance(piece, decoding.Frame):
                tell(f"decoded {piece.time}")
            yield piece

    def encode_and_tell(*args: object, **options: object) -> np.ndarray:
        rows = encode(*args, **options)  # type: ignore[arg-type]
        tell(f"encoded {len(rows)}")
        return rows

    decoding.decode, encoding.encode_with_padding = decode_and_tell, encode_and_tell
    if verb == "extract":
        extract_folder(videos, out, encoders=[encoder], rate=rate)
    else:
        index_folder(videos, out, zero_shot(encoder, rate=rate))
    tell("complete")


@dataclass
class Reading:
    """A process that was killed or has ended: where it began, the last frame that it decoded, the number that it encoded."""

    begin: float | None = None
    decoded: float = 0.0
    encoded: int = 0
    complete: bool = False


def read_film(verb: str, videos: Path, out: Path, encoder: Path, *, rate: float, kill_after: int | None) -> Reading:
    """Starts the process, and kills it after so many of its lines."""
    lines, told = PROCESSES.Pipe(duplex=False)
    reading = Reading()
    process = PROCESSES.Process(target=work, args=(told, verb, videos, out, encoder, rate))
    process.start()
    told.close()
    with lines:
        for number, line in enumerate(iter(partial(received, lines), None)):
            what, _, value = line.partition(" ")
            if what == "begin":
                reading.begin = float(value)
            elif what == "decoded":
                reading.decoded = float(value)
            elif what == "encoded":
                reading.encoded += int(value)
            reading.complete = reading.complete or what == "complete"
            if number == kill_after:
                process.kill()
    process.join()
    return reading


def received(lines: Connection) -> str | None:
    """The next line; None after the last one."""
    try:
        return lines.recv()
    except EOFError:
        return None


def killed_readings(
    verb: str, videos: Path, out: Path, encoder: Path, *, rate: float, kills: int, lines: int, seed: int = 0
) -> list[Reading]:
    """Reads a film with so many kills, each after a random number of lines up to `lines`, and then to its end."""
    draw = random.Random(seed)
    readings = [read_film(verb, videos, out, encoder, rate=rate, kill_after=draw.randint(1, lines)) for _ in range(kills)]
    return [*readings, read_film(verb, videos, out, encoder, rate=rate, kill_after=None)]


def seconds_again(readings: list[Reading]) -> list[float]:
    """Of each kill, the seconds of video that had been decoded and were decoded once more."""
    again = []
    reached = 0.0
    for reading in readings:
        if reading.begin is not None:
            again.append(max(0.0, reached - reading.begin))
            reached = max(reading.begin, reading.decoded)
    return again[1:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--verb", default="index")
    given = parser.parse_args()
    film = given.folder / "videos" / "film.mp4"
    if not film.exists():
        make_film(film, seconds=int(given.hours * 3600), fps=5)
    seconds = given.hours * 3600
    lines = int(2 * seconds / given.kills)
    out = given.folder / given.verb
    readings = killed_readings(given.verb, film.parent, out, given.encoder, rate=1.0, kills=given.kills, lines=lines)
    again = seconds_again(readings)
    frames = sum(reading.encoded for reading in readings)
    sys.stdout.write(f"{len(again)} continued after a kill; decoded again {sum(again):.0f} s, at most {max(again):.1f} s, ")
    sys.stdout.write(f"median {sorted(again)[len(again) // 2]:.1f} s; encoded {frames} frames for {seconds:.0f} s of film\n")


if __name__ == "__main__":
    main()
