"""Many clients of one service on this machine, beside a client that reads slowly and an upload that never ends.

    python -m benchmarks.serving INDEX [--clients 50 --seconds 60]

The service runs in a process of its own. Each client searches, loads a picture, reads a range of a video and searches for its
moments, without a pause. The script prints for each kind of request the count, the median and the 95th percentile in
milliseconds, and the number of failures; 503, which asks the client to retry, is counted separately. Then it prints the same
beside the slow client and the upload.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator

import httpx

TOKEN = "a-token-of-the-benchmark"
SENTENCES = [
    "a dog rides a skateboard",
    "a woman flips a pancake",
    "a man skis down a hill",
    "red cups on a table",
    "a car on a road",
]
Times = dict[str, list[tuple[int, float]]]


async def client(base: str, seconds: float, times: Times, seed: int) -> None:
    draw, until = random.Random(seed), time.perf_counter() + seconds
    async with httpx.AsyncClient(base_url=base, timeout=60, trust_env=False) as session:

        async def ask(kind: str, path: str, **more: object) -> httpx.Response | None:
            began = time.perf_counter()
            try:
                answer = await session.get(path, **more)
                status = answer.status_code
            except httpx.HTTPError:
                answer, status = None, 0
            times[kind].append((status, time.perf_counter() - began))
            return answer if status == 200 else None

        while time.perf_counter() < until:
            answer = await ask("search", "api/search", params={"q": draw.choice(SENTENCES), "k": 12})
            if answer is None:
                continue
            hit = draw.choice(answer.json()["hits"])
            await ask("picture", f"thumbnails/{hit['video']}", params={"t": hit["peak"]})
            await ask("range", f"media/{hit['video']}", headers={"Range": f"bytes=0-{draw.randrange(1, 300_000)}"})
            await ask("moments", "api/moments", params={"q": draw.choice(SENTENCES), "video": hit["video"]})


async def slow_reader(base: str, video: str) -> None:
    async with httpx.AsyncClient(base_url=base, timeout=None, trust_env=False) as session:
        while True:
            async with session.stream("GET", f"media/{video}") as answer:
                async for _ in answer.aiter_bytes(1000):
                    await asyncio.sleep(0.2)


async def endless_upload(base: str) -> None:
    async def bytes_without_end() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)
            await asyncio.sleep(0.02)

    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=base, timeout=None, trust_env=False) as session:
        while True:
            await session.put("api/videos/endless.mp4", headers=headers, content=bytes_without_end())


async def load(base: str, arguments: argparse.Namespace, *, beside: list[asyncio.Task[None]]) -> Times:
    times: Times = defaultdict(list)
    await asyncio.gather(*(client(base, arguments.seconds, times, seed) for seed in range(arguments.clients)))
    for task in beside:
        assert not task.done(), "a disturbing client ended early"
        task.cancel()
    return times


def show(title: str, times: Times, seconds: float) -> None:
    everything = [one for kind in times.values() for one in kind]
    print(f"\n{title}: {len(everything)} requests, {len(everything) / seconds:.0f} a second")
    print(f"{'':10}{'count':>8}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'503':>6}{'failed':>8}")
    for kind, answers in times.items():
        took = sorted(1000 * seconds for _, seconds in answers)
        late, most = took[int(0.95 * (len(took) - 1))], took[-1]
        busy = sum(status == 503 for status, _ in answers)
        failed = sum(status not in (200, 206, 503) for status, _ in answers)
        print(f"{kind:10}{len(took):8}{statistics.median(took):9.1f}{late:9.1f}{most:9.1f}{busy:6}{failed:8}")


async def measure(base: str, arguments: argparse.Namespace) -> None:
    show(f"{arguments.clients} clients", await load(base, arguments, beside=[]), arguments.seconds)
    videos = httpx.get(f"{base}api/videos", trust_env=False).json()["videos"]
    disturbing = [slow_reader(base, videos[0]["video"]), endless_upload(base)]
    beside = [asyncio.create_task(one) for one in disturbing]
    show("beside a slow client and an upload without end", await load(base, arguments, beside=beside), arguments.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", nargs="?")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    if arguments.index is None:
        print("benchmarks/serving.py: name an index to be served: python -m benchmarks.serving INDEX")
        return
    command = [sys.executable, "-m", "prvr", "serve", arguments.index, "--port", "0", "--json", "--upload-limit", "0.5"]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PRVR_TOKEN": TOKEN})
    try:
        assert served.stdout is not None
        base = json.loads(served.stdout.readline())["url"]
        asyncio.run(measure(base, arguments))
    finally:
        served.terminate()
        served.wait(20)


if __name__ == "__main__":
    main()
