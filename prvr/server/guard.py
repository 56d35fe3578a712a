"""Middleware for every request: checks the host, adds security headers, counts."""

from __future__ import annotations

import time
from collections.abc import Collection, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from prvr.server.request_counts import RequestCounts

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
    """Adds `HEADERS` to every response and counts it.

    Args:
        hosts: the accepted values of the Host header; None for any. Another site whose name resolves to this machine's address
            would otherwise read, in the browser of a user, what is meant for this machine alone (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, counts: RequestCounts, hosts: Collection[str] | None) -> None:
        self.app, self.counts, self.hosts = app, counts, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            app = self._refusal(scope) or self.app
            await app(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.counts.request(route, status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        name = Headers(scope=scope).get("host", "")
        name = name if name.endswith("]") else name.rpartition(":")[0] or name
        if self.hosts is None or name.lower() in self.hosts:
            return None
        return JSONResponse({"error": f"{name[:100]!r} is not a name of this service; see --host"}, 421)
