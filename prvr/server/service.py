"""What all routes share: the open index, the pictures, the counts, and what the service was told when it was started."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request

from prvr.server.asking import Desk
from prvr.server.counting import Counts
from prvr.server.names import MOST_CHARACTERS
from prvr.server.thumbnails import Thumbnails
from prvr.server.upkeep import Upkeep

UPLOADS_AT_ONCE = 4


@dataclass(frozen=True)
class Service:
    """One index, served.

    token: of those who may add and delete; nobody may where it is empty.
    upload_limit: of one file, in bytes. hosts: the names that the service answers to; None for any.
    """

    desk: Desk
    thumbnails: Thumbnails
    upkeep: Upkeep
    counts: Counts
    token: str
    upload_limit: int
    hosts: Collection[str] | None
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]
VideoName = Annotated[str, Path(description="The file's path within the folder of the videos.", max_length=MOST_CHARACTERS * 4)]
