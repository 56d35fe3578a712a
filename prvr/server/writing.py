"""Routes that add and delete videos; they need the token. They change files in the folder, and `prvr index` updates the index."""

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

# Seconds without data after which an upload is ended.
PATIENCE = 30.0
# Seconds without data after which an upload's file is a leftover of one that was killed.
LEFTOVER = 3600.0
# Bytes that remain free on the disk.
ROOM = 256 << 20
# Hidden folders, which `prvr index` skips.
DELETED, ARRIVING = ".deleted", ".arriving"

router = APIRouter(prefix="/api", tags=["changes"])
bearer = HTTPBearer(auto_error=False, description="The token that `prvr serve` was started with.")


async def require_token(
    service: Served, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
) -> Service:
    """The service. Raises HTTPException 401 or 403 if the request does not have its token."""
    if not service.token:
        raise HTTPException(403, "this service was started without a token, so nobody can change it; see prvr serve --token")
    if credentials is None or not hmac.compare_digest(credentials.credentials.encode(), service.token.encode()):
        raise HTTPException(
            401, "the token is missing or wrong; send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        )
    if service.index.remote is not None:
        raise HTTPException(403, "the videos of this index are in a store; change them there, and run prvr index again")
    return service


Writer = Annotated[Service, Depends(require_token)]
REFUSALS = (401, 403, 421)


@router.put(
    "/videos/{video:name}",
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
    """Upload a file, its bytes as the body, and index it. An existing video is never overwritten: delete it first."""
    place = place_for(video, service.index.folder)
    _check_free(place, video)
    stated = request.headers.get("content-length", "")
    _check_room(service, int(stated) if stated.isdecimal() else 0)
    if service.uploads.locked():
        raise HTTPException(503, f"{UPLOADS_AT_ONCE} uploads are running; try again later", {"Retry-After": "10"})
    async with service.uploads:
        arriving = service.index.folder / ARRIVING / uuid.uuid4().hex
        try:
            await _receive(request, arriving, service)
            _settle(arriving, place, video)
        except OSError as problem:
            raise HTTPException(507, f"the upload cannot be kept: {problem.strerror}; nothing is changed") from None
        finally:
            arriving.unlink(missing_ok=True)
    return service.upkeep.start()


@router.delete("/videos/{video:name}", status_code=202, responses=refusals(*REFUSALS, 404, 422, 503, 507))
async def delete(video: VideoName, service: Writer) -> UpkeepReport:
    """Delete a video, or an upload that was not indexed: its file is moved into the hidden folder `.deleted`."""
    id = await _id_of(video, service)
    try:
        await asyncio.to_thread(_put_away, service.index.folder, id)
    except OSError as problem:
        raise HTTPException(507, f"{video!r} cannot be moved: {problem.strerror}; nothing is changed") from None
    service.upkeep.forget(id)
    return service.upkeep.start()


@router.post("/upkeep", status_code=202, responses=refusals(*REFUSALS))
async def bring_up_to_date(service: Writer) -> UpkeepReport:
    """Update the index from the folder of the videos."""
    return service.upkeep.start()


@router.get("/upkeep", responses=refusals(421))
async def upkeep(service: Served) -> UpkeepReport:
    """The current update, or the last one."""
    return service.upkeep.now


def drop_leftovers(folder: Path) -> None:
    """Deletes the files of uploads that were killed."""
    with contextlib.suppress(OSError):
        for path in (folder / ARRIVING).iterdir():
            # Another service of the same folder may be receiving.
            if time.time() - path.stat().st_mtime > LEFTOVER:
                path.unlink()


async def _id_of(video: str, service: Service) -> str:
    """The id of a video that can be deleted: one of the index, or an uploaded file that is not in it (yet)."""
    folder = service.index.folder
    try:
        id = await service.index.id_of(video)
        file_of(id, folder)
    except HTTPException as refusal:
        if refusal.status_code != 404 or not _is_upload(video, folder):
            raise
        return video
    return id


def _is_upload(video: str, folder: Path) -> bool:
    try:
        # No link in the path, not even one that stays inside: the file that is moved is the one that was named.
        place_for(video, folder)
        return file_of(video, folder) == folder.resolve() / video
    except HTTPException:
        return False


def _check_room(service: Service, size: int) -> None:
    if size > service.upload_limit:
        raise HTTPException(
            413, f"{size} bytes are more than the {service.upload_limit} that one upload may have; see --upload-limit"
        )
    if shutil.disk_usage(service.index.folder).free < size + ROOM:
        raise HTTPException(507, f"there is no room for {size} bytes on the disk; free some space")


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
    # Again, for two uploads with one name; nothing else runs between this and the move.
    _check_free(place, video)
    os.replace(arriving, place)


def _check_free(place: Path, video: str) -> None:
    if os.path.lexists(place):
        raise HTTPException(409, f"there is already a file {video!r}; delete it first, or use another name")


def _put_away(folder: Path, id: str) -> None:
    away = folder / DELETED / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}" / id
    away.parent.mkdir(parents=True)
    (folder / id).rename(away)
