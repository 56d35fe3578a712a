"""Routes that read: search, moments, similar videos, the list of videos, health and metrics."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Annotated

from annotated_types import Len
from fastapi import APIRouter, HTTPException, Query
from pydantic import StringConstraints
from starlette.responses import PlainTextResponse

from prvr.search.asking import MOST_CHARACTERS as MOST_IN_QUERY
from prvr.server.answers import About, Health, Hits, Moments, Videos, refusals
from prvr.server.names import MOST_CHARACTERS
from prvr.server.service import Served, Service

Sentence = Annotated[str, Query(description="What the moment shows, in a sentence.", min_length=1, max_length=MOST_IN_QUERY)]
Count = Annotated[int, Query(description="How many videos.", ge=1, le=100)]
Seconds = Annotated[float, Query(description="Where in the video, in seconds.", ge=0, le=1e6, allow_inf_nan=False)]
Conditions = Annotated[
    list[Annotated[str, StringConstraints(max_length=300)]],
    Query(
        description="Only videos that meet all of these: folder=trips, duration>60, date>=2026-01-01, or a user-defined field."
    ),
    Len(max_length=20),
]
Least = Annotated[
    float | None,
    Query(
        description="Only videos with at least this probability; with this score if the model is not calibrated.",
        allow_inf_nan=False,
    ),
]
Prompt = Annotated[
    str | None,
    Query(
        description='Template for the query, such as "a photo of a {}."; empty for none. By default short queries have that of '
        "the encoder, if the index is of an encoder alone.",
        max_length=200,
    ),
]
Named = Annotated[str, Query(description="The file's path within the folder of the videos.", max_length=MOST_CHARACTERS * 4)]
REFUSALS = refusals(421, 422, 503)

router = APIRouter()
api = APIRouter(prefix="/api", tags=["search"], responses=REFUSALS)


@api.get("/search", responses=refusals(409))
async def search(
    q: Sentence,
    service: Served,
    where: Conditions = [],  # noqa: B006
    k: Count = 12,
    min_score: Least = None,
    approximate: Annotated[
        bool, Query(description="Search sketches, with the setting that prvr index verify --approximate measured; not exact.")
    ] = False,
    prompt: Prompt = None,
) -> Hits:
    """The videos that hold a moment, and where in them; none if no video reaches `min_score`."""
    began = time.perf_counter()
    hits, note = await service.index.search(q, k=k, where=where, min_score=min_score, approximate=approximate, prompt=prompt)
    return Hits(hits=hits, seconds=time.perf_counter() - began, note=note)


@api.get("/moments", responses=refusals(404, 409))
async def moments(
    video: Named,
    service: Served,
    q: Annotated[str | None, Query(description="A sentence.", min_length=1, max_length=MOST_IN_QUERY)] = None,
    like: Annotated[str | None, Query(description="Or a video as the query.", max_length=MOST_CHARACTERS * 4)] = None,
    t: Seconds = 0.0,
    prompt: Prompt = None,
) -> Moments:
    """Where in one video a sentence is answered, or where it is similar to another video at a time; with the whole curve."""
    id = await service.index.video_at(video)
    if q is not None:
        return await service.index.moments(id, q, prompt=prompt)
    if like is None:
        raise HTTPException(422, "there is no query; give q, a sentence, or like and t, a video and a time in it")
    _check_similar(service)
    return await service.index.moments_similar_to(id, await service.index.video_at(like), t)


@api.get("/similar", responses=refusals(404, 409))
async def similar(video: Named, service: Served, t: Seconds = 0.0, where: Conditions = [], k: Count = 12) -> Hits:  # noqa: B006
    """Other videos that show what a video shows at a time."""
    _check_similar(service)
    began = time.perf_counter()
    hits = await service.index.similar_to(await service.index.video_at(video), t, k=k, where=where)
    return Hits(hits=hits, seconds=time.perf_counter() - began)


@api.get("/videos")
async def videos(
    service: Served,
    contains: Annotated[str, Query(description="Only names that contain this.", max_length=MOST_CHARACTERS)] = "",
    where: Conditions = [],  # noqa: B006
    offset: Annotated[int, Query(description="How many are skipped.", ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(description="How many at most.", ge=1, le=200)] = 60,
) -> Videos:
    """The videos of the index, by name."""
    wanted = contains.casefold()
    names = [name for name in await service.index.names() if wanted in name.casefold()]
    names = await service.index.select(names, where=where)
    return Videos(total=len(names), videos=await service.index.videos(names[offset : offset + limit]))


@api.get("/about")
async def about(service: Served) -> About:
    """This service and its functions."""
    checkpoint = service.index.checkpoint
    return About(
        version=version("prvr"),
        videos=len(await service.index.names()),
        method=checkpoint.method,
        frames=checkpoint.sources.frames.name,
        text=checkpoint.sources.text.name,
        similar=service.index.similar,
        writable=bool(service.token),
    )


@router.get("/health", tags=["operation"], responses=REFUSALS)
async def health(service: Served) -> Health:
    """Whether the index can be searched."""
    return Health(status="ok", videos=len(await service.index.names()))


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse, responses=REFUSALS)
async def metrics(service: Served) -> PlainTextResponse:
    """Requests, durations and sizes, in the text format of Prometheus."""
    gauges = {
        "videos": len(await service.index.names()),
        "questions_waiting": service.index.waiting,
        "thumbnail_bytes": service.thumbnails.size,
    }
    return PlainTextResponse(service.counts.text(gauges), media_type="text/plain; version=0.0.4")


def _check_similar(service: Service) -> None:
    if not service.index.similar:
        raise HTTPException(409, "this index's model does not compare frames with frames; search by a sentence")


router.include_router(api)
