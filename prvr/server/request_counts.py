"""Counts of requests, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate

# Upper limits of the histogram of durations, in seconds.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class RequestCounts:
    """Requests by route and status, and how long each route took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts a response."""
        bucket = next((end for end in BUCKETS if seconds <= end), float("inf"))
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]
            self._buckets[route, bucket] += 1

    def text(self, gauges: Mapping[str, int]) -> str:
        """All counts, and gauges by name."""
        with self._lock:
            requests, seconds, buckets = dict(self._requests), dict(self._seconds), dict(self._buckets)
        lines = ["# TYPE prvr_requests_total counter"]
        lines += [f'prvr_requests_total{{route="{r}",status="{s}"}} {n}' for (r, s), n in sorted(requests.items())]
        lines.append("# TYPE prvr_request_seconds histogram")
        for route in sorted(seconds):
            ends = (*BUCKETS, float("inf"))
            running = list(accumulate(buckets.get((route, end), 0) for end in ends))
            for end, count in zip(ends, running, strict=True):
                lines.append(f'prvr_request_seconds_bucket{{route="{route}",le="{"+Inf" if end == ends[-1] else end}"}} {count}')
            lines.append(f'prvr_request_seconds_sum{{route="{route}"}} {seconds[route]:.6f}')
            lines.append(f'prvr_request_seconds_count{{route="{route}"}} {running[-1]}')
        for name, value in gauges.items():
            lines += [f"# TYPE prvr_{name} gauge", f"prvr_{name} {value}"]
        return "\n".join(lines) + "\n"
