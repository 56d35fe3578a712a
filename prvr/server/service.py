"""The state that all routes share: the open index, the pictures, the counts, and the settings of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request

from prvr.server.cutting_process import CuttingProcesses
from prvr.server.index_service import IndexService
from prvr.server.local import LocalSocket
from prvr.server.names import MOST_CHARACTERS
from prvr.server.proxies import Proxies
from prvr.server.request_counts import RequestCounts
from prvr.server.thumbnails import Thumbnails
from prvr.server.upkeep import Upkeep

UPLOADS_AT_ONCE = 4
# Of pictures that are searched for: each is held in memory.
PICTURES_AT_ONCE = 8


@dataclass(frozen=True)
class Service:
    """One index and everything that its routes need.

    token: required to add and delete videos; if it is empty, nobody can.
    upload_limit: of one file, in bytes. hosts: the accepted values of the Host header; None for any.
    """

    index: IndexService
    thumbnails: Thumbnails
    cutting: CuttingProcesses
    proxies: Proxies
    upkeep: Upkeep
    local: LocalSocket
    counts: RequestCounts
    token: str
    upload_limit: int
    hosts: Collection[str] | None
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))
    pictures: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PICTURES_AT_ONCE))


async def service_of(request: Request) -> Service:
    """The service of a request."""
    # A coroutine, as every dependency here: FastAPI calls a plain function in a thread, which waits for searches.
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]
VideoName = Annotated[str, Path(description="The file's path within the folder of the videos.", max_length=MOST_CHARACTERS * 4)]
