"""Around every request: which hosts are answered, which headers an answer bears, and what is counted."""

from __future__ import annotations

import time
from collections.abc import Collection, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from prvr.server.counting import Counts

POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "media", "connect")),
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """Adds `HEADERS` to every answer and counts it.

    Args:
        hosts: the names that the service answers to; None for any. A page of another site that gives its own name this
            machine's address asks under that name, and would else read what only this machine should.
    """

    def __init__(self, app: ASGIApp, *, counts: Counts, hosts: Collection[str] | None) -> None:
        self.app, self.counts, self.hosts = app, counts, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            answer = self._refusal(scope) or self.app
            await answer(scope, receive, send_guarded)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.counts.request(route, status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        name = Headers(scope=scope).get("host", "")
        name = name if name.endswith("]") else name.rpartition(":")[0] or name
        if self.hosts is None or name.lower() in self.hosts:
            return None
        return JSONResponse({"error": f"{name[:100]!r} is not a name of this service; see --host"}, 421)
