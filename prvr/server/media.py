"""Routes for videos and pictures of their moments: only files of the index, whole or by HTTP ranges."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Annotated, final
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from prvr.errors import DataError, NoPictures, VideoError
from prvr.server.answers import refusals
from prvr.server.cutting_process import BusyError, Download
from prvr.server.picture_process import DecoderFailure
from prvr.server.service import Served, VideoName
from prvr.video import TYPES
from prvr.video.proxy import WINDOW

# Bytes that are sent at once.
BLOCK = 1 << 18

router = APIRouter(tags=["media"])


@router.get(
    "/media/{video:name}",
    response_class=FileResponse,
    responses=refusals(404, 421, 422, 503, 507)
    | {206: {"description": "A range."}, 416: {"description": "The range does not exist."}},
)
async def media(video: VideoName, service: Served) -> FileResponse:
    """A video file; a player seeks by ranges."""
    path = await service.index.file_of(await service.index.video_at(video))
    return FileResponse(path, media_type=TYPES[path.suffix.lower()], headers={"Cache-Control": "private, no-cache"})


@router.get("/thumbnails/{video:name}", response_class=Response, responses=refusals(404, 415, 421, 422, 503, 507))
async def thumbnail(
    video: VideoName,
    service: Served,
    t: Annotated[float, Query(description="Where in the video, in seconds.", ge=0, le=1e6, allow_inf_nan=False)] = 0.0,
) -> Response:
    """The picture of a moment, as JPEG; 415 for a file without pictures, such as sound alone."""
    path = await service.index.file_of(await service.index.video_at(video))
    try:
        picture = await service.thumbnails.picture(path, t)
    except (VideoError, FileNotFoundError) as problem:
        status = 422 if isinstance(problem, DecoderFailure) else 415 if isinstance(problem, NoPictures) else 404
        raise HTTPException(
            status, service.index.without_paths(str(problem).replace(str(path), PurePosixPath(video).name))
        ) from None
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})


Second = Annotated[float, Query(description="In the video, in seconds.", ge=0, le=1e6, allow_inf_nan=False)]


@router.get("/cuts/{video:name}", response_class=StreamingResponse, responses=refusals(404, 421, 422, 503, 507))
async def cut(
    video: VideoName,
    request: Request,
    service: Served,
    start: Second,
    end: Second,
    margin: Annotated[float, Query(description="Seconds before and after.", ge=0, le=60, allow_inf_nan=False)] = 1.0,
) -> StreamingResponse:
    """A moment as a file of its own: the packets of the video, from the key frame before it."""
    id = await service.index.video_at(video)
    path = await service.index.file_of(id)
    name = PurePosixPath(video).name
    try:
        check = partial(service.index.check_unchanged, id, path)
        made = await service.cutting.cut(path, start, end, margin=margin, check=check, is_gone=request.is_disconnected)
    except BusyError as problem:
        raise HTTPException(503, str(problem), {"Retry-After": "5"}) from None
    except (DataError, VideoError) as problem:
        # The command line has an option for it, a client does not.
        line = str(problem).replace(str(path), name).replace("take --exact", "download it whole")
        raise HTTPException(422, service.index.without_paths(line)) from None
    size = os.fstat(made.file.fileno()).st_size
    named = quote(f"{PurePosixPath(name).stem} {start:.1f}-{end:.1f}{made.suffix}", safe="", errors="replace")
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{named}",
        "Cache-Control": "private, no-cache",
    }
    return _Sending(made, headers)


@router.get("/proxies/{video:name}", response_class=FileResponse, responses=refusals(404, 421, 422, 503, 507))
async def proxy(
    video: VideoName,
    request: Request,
    service: Served,
    window: Annotated[int, Query(description="Which stretch of `window` seconds (/api/about), from 0.", ge=0, le=1_000_000)] = 0,
) -> FileResponse:
    """A window of a video as every browser plays it, on the clock of the video: before and after it a still is shown."""
    id = await service.index.video_at(video)
    path = await service.index.file_of(id)
    duration = await service.index.duration_of(id)
    if duration is not None and window * WINDOW >= duration:
        raise HTTPException(422, f"{window * WINDOW:g} s is outside {PurePosixPath(video).name}, which has {duration:.1f} s")
    try:
        made = await service.proxies.window(path, window, duration=duration, is_gone=request.is_disconnected)
    except BusyError as problem:
        raise HTTPException(503, str(problem), {"Retry-After": "5"}) from None
    except (VideoError, FileNotFoundError) as problem:
        said = str(problem).replace(str(path), PurePosixPath(video).name)
        raise HTTPException(422, service.index.without_paths(said)) from None
    return FileResponse(made, media_type="video/mp4", headers={"Cache-Control": "private, no-cache"})


@final
class _Sending(StreamingResponse):
    """A download; its file is removed when it has ended or was broken off."""

    def __init__(self, made: Download, headers: dict[str, str]) -> None:
        super().__init__(_blocks(made.file), media_type=TYPES[made.suffix], headers=headers)
        self._made = made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._made.close()


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


router.add_api_route("/media/{video:name}", media, methods=["HEAD"], include_in_schema=False, response_model=None)
router.add_api_route("/thumbnails/{video:name}", thumbnail, methods=["HEAD"], include_in_schema=False, response_model=None)
router.add_api_route("/proxies/{video:name}", proxy, methods=["HEAD"], include_in_schema=False, response_model=None)
