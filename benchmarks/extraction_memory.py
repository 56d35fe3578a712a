"""Extraction of a folder by `prvr extract`, beside plain scripts: processor seconds, seconds and peak memory of each process.

    python -m benchmarks.extraction_memory [--videos FOLDER --encoder FOLDER --runs 3]

Each way is a process of its own, and they take turns. The plain scripts read with PyAV or OpenCV, encode the first frame of each
second in batches of 32 with the same ONNX network and preprocessing, and write an .npy file for each video. OpenCV follows no
rotation nor the shape of pixels, and truncates damaged files silently. Memory is the largest resident set of a process: with
`--workers`, that of the largest one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from prvr.video import find_videos

# Not from `extraction`, which imports torch: the plain scripts need none, and a child also counts what its parent holds.
SHARED = Path(os.environ.get("PRVR_SHARED", Path(__file__).parents[2] / "shared")) / "data"
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, default=SHARED / "videos")
    parser.add_argument("--encoder", type=Path, default=SHARED / "models" / "mobilenet-v2")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=[*READERS], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        plain(arguments.videos, arguments.encoder, arguments.out, READERS[arguments.only])
    else:
        compare(arguments.videos, arguments.encoder, arguments.runs)


def compare(videos: Path, encoder: Path, runs: int) -> None:
    same = ["--videos", str(videos), "--encoder", str(encoder)]
    ours = [sys.executable, "-m", "prvr", "extract", str(videos), "OUT", "--encoder", str(encoder)]
    ways = {f"plain {name}": [sys.executable, "-m", __spec__.name, "--only", name, *same, "--out", "OUT"] for name in READERS}
    ways["prvr extract"] = ours
    ways |= {f"prvr extract --workers {number}": [*ours, "--workers", str(number)] for number in (1, 2)}
    ways["prvr extract --every-frame"] = [*ours, "--every-frame"]
    ways["prvr index"] = [sys.executable, "-m", "prvr", "index", str(videos), "OUT", "--encoder", str(encoder)]
    if not (encoder / "textual").is_dir():
        del ways["prvr index"]
    print(f"{processor()}; load {os.getloadavg()[0]:.1f} before", file=sys.stderr)
    measured: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, command in ways.items():
            measured[way].append(measure(command))
            print(f"  {way}: {measured[way][-1]}", file=sys.stderr)
    for way, times in measured.items():
        work, seconds, memory = (statistics.median(column) for column in zip(*times, strict=True))
        ratios = [plain[0] / own[0] for plain, own in zip(measured["plain pyav"], times, strict=True)]
        print(
            f"{way:28} {work:6.1f} s of processor, {seconds:6.1f} s, {memory:5.0f} MB; "
            f"{statistics.median(ratios):.2f} times as little processor as plain pyav ({min(ratios):.2f}-{max(ratios):.2f})"
        )


def measure(command: list[str]) -> tuple[float, float, float]:
    """Processor seconds, seconds and peak MB of a command, which must end well."""
    with tempfile.TemporaryDirectory() as folder:
        filled = [str(Path(folder) / "out") if part == "OUT" else part for part in command]
        began = time.perf_counter()
        process = subprocess.Popen(filled, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(filled)} ended with {process.returncode}")
        # Processor time of its children too; kilobytes on Linux, of the process itself.
        return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024


def plain(videos: Path, encoder: Path, out: Path, read: Callable[[Path], Iterator[np.ndarray]]) -> None:
    import onnxruntime
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    settings = json.loads((encoder / "visual" / "preprocess_cfg.json").read_text())
    height, width = (settings["size"],) * 2 if isinstance(settings["size"], int) else settings["size"]
    mean, std = (np.array(settings[name], np.float32) for name in ("mean", "std"))
    session = onnxruntime.InferenceSession(str(encoder / "visual" / "model.onnx"), providers=["CPUExecutionProvider"])

    def encode(frames: list[np.ndarray]) -> np.ndarray:
        sized = [np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)) for frame in frames]
        pixels = (np.stack(sized).astype(np.float32) / np.float32(255) - mean) / std
        inputs = {session.get_inputs()[0].name: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
        rows: np.ndarray = session.run(None, inputs)[0]
        return rows

    for number, path in enumerate(find_videos(videos).values()):
        rows, waiting = [], []
        for frame in read(path):
            waiting.append(frame)
            if len(waiting) == BATCH:
                rows.append(encode(waiting))
                waiting = []
        rows += [encode(waiting)] if waiting else []
        np.save(out / f"{number}.npy", np.concatenate(rows))


def with_pyav(path: Path) -> Iterator[np.ndarray]:
    import av

    slot = -1
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and int(frame.time + 0.001) > slot:
                slot = int(frame.time + 0.001)
                yield frame.to_ndarray(format="rgb24")


def with_opencv(path: Path) -> Iterator[np.ndarray]:
    import cv2

    film, slot = cv2.VideoCapture(str(path)), -1
    while film.grab():
        at = film.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if int(at + 0.001) > slot:
            slot = int(at + 0.001)
            yield cv2.cvtColor(film.retrieve()[1], cv2.COLOR_BGR2RGB)
    film.release()


def processor() -> str:
    """The name of the processor, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")


READERS = {"pyav": with_pyav, "opencv": with_opencv}

if __name__ == "__main__":
    main()
