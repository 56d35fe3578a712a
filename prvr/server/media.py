"""Routes for videos and pictures of their moments: only files of the index, whole or by HTTP ranges."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from starlette.responses import FileResponse, Response

from prvr.errors import NoPictures, VideoError
from prvr.server.answers import refusals
from prvr.server.names import file_of
from prvr.server.picture_process import DecoderFailure
from prvr.server.service import Served, VideoName
from prvr.video import TYPES

router = APIRouter(tags=["media"])


@router.get(
    "/media/{video:name}",
    response_class=FileResponse,
    responses=refusals(404, 421, 422, 503)
    | {206: {"description": "A range."}, 416: {"description": "The range does not exist."}},
)
async def media(video: VideoName, service: Served) -> FileResponse:
    """A video file; a player seeks by ranges."""
    path = file_of(await service.index.video_at(video), service.index.folder)
    return FileResponse(path, media_type=TYPES[path.suffix.lower()], headers={"Cache-Control": "private, no-cache"})


@router.get("/thumbnails/{video:name}", response_class=Response, responses=refusals(404, 415, 421, 422, 503))
async def thumbnail(
    video: VideoName,
    service: Served,
    t: Annotated[float, Query(description="Where in the video, in seconds.", ge=0, le=1e6, allow_inf_nan=False)] = 0.0,
) -> Response:
    """The picture of a moment, as JPEG; 415 for a file without pictures, such as sound alone."""
    path = file_of(await service.index.video_at(video), service.index.folder)
    try:
        picture = await service.thumbnails.picture(path, t)
    except (VideoError, FileNotFoundError) as problem:
        status = 422 if isinstance(problem, DecoderFailure) else 415 if isinstance(problem, NoPictures) else 404
        raise HTTPException(
            status, service.index.without_paths(str(problem).replace(str(path), PurePosixPath(video).name))
        ) from None
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})


router.add_api_route("/media/{video:name}", media, methods=["HEAD"], include_in_schema=False, response_model=None)
router.add_api_route("/thumbnails/{video:name}", thumbnail, methods=["HEAD"], include_in_schema=False, response_model=None)
