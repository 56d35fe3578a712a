"""Runs the service on a port of this machine until it is stopped."""

from __future__ import annotations

import errno
import socket

import uvicorn

from prvr.errors import SettingError
from prvr.server.app import make_app
from prvr.server.connection import Connection
from prvr.server.service import Service

# With `MOST_IDLE` idle ones; a file that is sent needs a second file descriptor.
CONNECTIONS = 600


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free port.

    Raises:
        SettingError: the address is not one of this machine, or in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol stated, asyncio turns off Nagle's algorithm, which would hold a body back until its head is acknowledged.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(1024)
    except OSError as problem:
        opened.close()
        hint = "give another --port" if problem.errno == errno.EADDRINUSE else "give another --host or --port"
        raise SettingError(f"cannot listen on {host} port {port}: {problem.strerror or problem}; {hint}") from None
    return opened


def server_of(service: Service) -> uvicorn.Server:
    """A server of the application; `run(sockets=[…])` serves until a signal or `should_exit` ends it."""
    config = uvicorn.Config(
        make_app(service),
        http=Connection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        # The one that is refused is counted, too.
        limit_concurrency=CONNECTIONS + 1,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)
