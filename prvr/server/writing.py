"""Adding and deleting videos, for those who have the token. Files come and go in the folder; `prvr index` does the rest."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import ClientDisconnect

from prvr.server.answers import UpkeepReport, refusals
from prvr.server.names import file_of, place_for
from prvr.server.service import UPLOADS_AT_ONCE, Served, Service, VideoName

# How long an upload may send nothing.
PATIENCE = 30.0
# What nothing was added to for so many seconds is of an upload that has ended.
LEFTOVER = 3600.0
# Left on the disk for everybody else.
ROOM = 256 << 20
# Hidden, so that `prvr index` passes over it.
DELETED, ARRIVING = ".deleted", ".arriving"

router = APIRouter(prefix="/api", tags=["changes"])
bearer = HTTPBearer(auto_error=False, description="The token that `prvr serve` was started with.")


def writer(service: Served, given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> Service:
    """The service, for who bears its token; a refusal for everybody else."""
    if not service.token:
        raise HTTPException(403, "this service was started without a token, so nobody can change it; see prvr serve --token")
    if given is None or not hmac.compare_digest(given.credentials.encode(), service.token.encode()):
        raise HTTPException(
            401, "the token is missing or wrong; send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        )
    return service


Writer = Annotated[Service, Depends(writer)]
REFUSALS = (401, 403, 421)


@router.put(
    "/videos/{video:path}",
    status_code=202,
    responses=refusals(*REFUSALS, 408, 409, 413, 422, 503, 507),
    openapi_extra={
        "requestBody": {
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            "required": True,
        }
    },
)
async def add(video: VideoName, request: Request, service: Writer) -> UpkeepReport:
    """Take in a file, its bytes being the body, and index it. A video that is there is never overwritten: delete it first."""
    place = place_for(video, service.desk.folder)
    _check_free(place, video)
    stated = request.headers.get("content-length", "")
    _check_room(service, int(stated) if stated.isdecimal() else 0)
    if service.uploads.locked():
        raise HTTPException(503, f"{UPLOADS_AT_ONCE} uploads are under way; come again later", {"Retry-After": "10"})
    async with service.uploads:
        arriving = service.desk.folder / ARRIVING / uuid.uuid4().hex
        try:
            await _receive(request, arriving, service)
            _settle(arriving, place, video)
        except OSError as problem:
            raise HTTPException(507, f"the upload cannot be kept: {problem.strerror}; nothing is changed") from None
        finally:
            arriving.unlink(missing_ok=True)
    return service.upkeep.start()


@router.delete("/videos/{video:path}", status_code=202, responses=refusals(*REFUSALS, 404, 422, 503, 507))
async def delete(video: VideoName, service: Writer) -> UpkeepReport:
    """Take a video out, or an upload that was not indexed: its file goes into the hidden folder `.deleted`, for fetching back."""
    id = await _id_of(video, service)
    try:
        await asyncio.to_thread(_put_away, service.desk.folder, id)
    except OSError as problem:
        raise HTTPException(507, f"{video!r} cannot be moved: {problem.strerror}; nothing is changed") from None
    service.upkeep.forget(id)
    return service.upkeep.start()


@router.post("/upkeep", status_code=202, responses=refusals(*REFUSALS))
async def bring_up_to_date(service: Writer) -> UpkeepReport:
    """Index what has come into the folder of the videos, or changed, or gone."""
    return service.upkeep.start()


@router.get("/upkeep", responses=refusals(421))
async def upkeep(service: Served) -> UpkeepReport:
    """What the last run did, or that one is under way."""
    return service.upkeep.now


def drop_leftovers(folder: Path) -> None:
    """Deletes what uploads left behind that a kill cut off."""
    with contextlib.suppress(OSError):
        for path in (folder / ARRIVING).iterdir():
            # Another service of the same folder may be receiving.
            if time.time() - path.stat().st_mtime > LEFTOVER:
                path.unlink()


async def _id_of(video: str, service: Service) -> str:
    """The id of a video that may be taken out: one of the index, or a file that came as one but is not in there (yet)."""
    folder = service.desk.folder
    try:
        id = await service.desk.id_of(video)
        file_of(id, folder)
    except HTTPException as refusal:
        if refusal.status_code != 404 or not _uploaded(video, folder):
            raise
        return video
    return id


def _uploaded(video: str, folder: Path) -> bool:
    try:
        # No link on the way, not even one that stays inside: what is moved is what was named.
        place_for(video, folder)
        return file_of(video, folder) == folder.resolve() / video
    except HTTPException:
        return False


def _check_room(service: Service, size: int) -> None:
    if size > service.upload_limit:
        raise HTTPException(
            413, f"{size} bytes are more than the {service.upload_limit} that one upload may have; see --upload-limit"
        )
    if shutil.disk_usage(service.desk.folder).free < size + ROOM:
        raise HTTPException(507, f"there is no room for {size} bytes on the disk; make some")


async def _receive(request: Request, arriving: Path, service: Service) -> None:
    arriving.parent.mkdir(exist_ok=True)
    size = 0
    try:
        with open(arriving, "xb") as file:
            async with asyncio.timeout(PATIENCE) as patience:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > service.upload_limit:
                        _check_room(service, size)
                    await asyncio.to_thread(file.write, chunk)
                    patience.reschedule(asyncio.get_running_loop().time() + PATIENCE)
            await asyncio.to_thread(_flush, file)
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, f"the upload stopped after {size} bytes; send it again") from None
    if size == 0:
        raise HTTPException(422, "the upload is empty; send the file's bytes as the body")


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _settle(arriving: Path, place: Path, video: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # Again, for two uploads of one name; the event loop lets nothing come between this and the move.
    _check_free(place, video)
    os.replace(arriving, place)


def _check_free(place: Path, video: str) -> None:
    if os.path.lexists(place):
        raise HTTPException(409, f"there is a file {video!r} already; delete it first, or give another name")


def _put_away(folder: Path, id: str) -> None:
    away = folder / DELETED / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}" / id
    away.parent.mkdir(parents=True)
    (folder / id).rename(away)
