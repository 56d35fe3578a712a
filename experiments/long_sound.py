"""Ten hours of sound, with speech in known places, indexed by a process that is killed on the way and run again.

    python experiments/long_sound.py CLIP FOLDER ENCODER --speech MODEL [--hours 10]

The speech of CLIP is heard in eight places over noise of -60 dB, which a voice detector has to listen to; the picture has 64 x 64
points and a frame in ten seconds. Prints the peak memory of both processes, and how many texts begin within each place.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clip", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("encoder")
    parser.add_argument("--speech", required=True)
    parser.add_argument("--hours", type=int, default=10)
    args = parser.parse_args()
    (args.folder / "videos").mkdir(parents=True, exist_ok=True)
    decode = ["ffmpeg", "-v", "error", "-i", args.clip, "-ac", "1", "-ar", str(RATE), "-f", "f32le", "-"]
    speech = np.frombuffer(subprocess.run(decode, capture_output=True, check=True).stdout, np.float32)
    seconds = 3600 * args.hours
    places = [60 + place * (seconds - 120) // 8 for place in range(8)]
    write(args.folder / "videos" / "long.mp4", speech, places, seconds)
    index = ["prvr", "index", args.folder / "videos", args.folder / "gallery"]
    command = [sys.executable, "-m", *index, "--encoder", args.encoder, "--rate", "0.1", "--speech", args.speech]
    run, file = subprocess.Popen(command), args.folder / "gallery" / "index.sqlite"
    while run.poll() is None and seconds_read(file) < 0.4 * seconds:
        time.sleep(2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    print(f"killed at second {seconds_read(file):.0f} of the sound", flush=True)
    subprocess.run(command, check=True)
    print(f"peak memory of a process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10} MiB")
    with sqlite3.connect(file) as connection:
        starts = [start for (start,) in connection.execute("SELECT start FROM texts")]
    within = [sum(place - 1 <= start < place + len(speech) / RATE for start in starts) for place in places]
    print(f"texts that begin within each place: {within}; elsewhere: {len(starts) - sum(within)}")


def write(path: Path, speech: np.ndarray, places: list[int], seconds: int) -> None:
    picture = ["-f", "lavfi", "-i", f"testsrc2=s=64x64:r=1/10:d={seconds}"]
    sound = ["-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-c:a", "aac", "-b:a", "32k"]
    encoder = subprocess.Popen(["ffmpeg", "-y", "-v", "error", *picture, *sound, *codecs, path], stdin=subprocess.PIPE)
    draw = np.random.default_rng(0)
    for minute in range(seconds // 60):
        block = (1e-3 * draw.standard_normal(60 * RATE)).astype(np.float32)
        for place in places:
            begin = (place - 60 * minute) * RATE
            low, high = max(0, begin), min(len(block), begin + len(speech))
            if high > low:
                block[low:high] += speech[low - begin : high - begin]
        encoder.stdin.write(block.tobytes())
    encoder.stdin.close()
    encoder.wait()


def seconds_read(file: Path) -> float:
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            found = connection.execute("SELECT seconds FROM text_sources WHERE kind = 'speech'").fetchone()
    except sqlite3.Error:
        return 0.0
    return found[0] if found else 0.0


if __name__ == "__main__":
    main()
