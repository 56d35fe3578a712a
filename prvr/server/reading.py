"""Routes that read: search, moments, similar videos, the list of videos, health and metrics."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, Len
from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import AllowInfNan, BaseModel, Field, StringConstraints
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from prvr.errors import VideoError
from prvr.search.question import MOST_MOMENTS, MOST_SENTENCES, Moment, Question, parse_moment
from prvr.search.sentences import MOST_CHARACTERS as MOST_IN_QUERY
from prvr.server.answers import About, FacetsAnswer, Health, Hits, Moments, Transcript, Videos, refusals
from prvr.server.index_service import Order
from prvr.server.names import MOST_CHARACTERS, shown_name
from prvr.server.service import PICTURES_AT_ONCE, Served, Service
from prvr.video import SUFFIXES
from prvr.video.picture_file import MOST_BYTES
from prvr.video.proxy import WINDOW

# Seconds for the whole picture.
PATIENCE = 30.0
PICTURE: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
}
ABOUT_WHERE = "Only videos that meet all of these: folder=trips, duration>60, date>=2026-01-01, or a user-defined field."
ABOUT_SENSE = (
    "Where a sentence is looked for: in the picture, in what is said (subtitles and recognised speech), in what is written on "
    "the screen, or in any of these."
)
Sense = Literal["any", "picture", "speech", "screen"]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=MOST_IN_QUERY)]
Sentences = Annotated[list[Sentence], Len(max_length=MOST_SENTENCES)]
Name = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS * 4)]
Named = Annotated[list[Name], Len(max_length=MOST_MOMENTS)]
Instant = Annotated[float, Ge(0), Le(1e6), AllowInfNan(False)]
Wheres = Annotated[list[Annotated[str, StringConstraints(max_length=300)]], Len(max_length=20)]
Conditions = Annotated[Wheres, Query(description=ABOUT_WHERE)]
REFUSALS = refusals(421, 422, 503)

router = APIRouter()
api = APIRouter(prefix="/api", tags=["search"], responses=REFUSALS)


class Asked(BaseModel):
    """The parameters of a question; a picture is the body of a POST request."""

    q: Sentence | None = Field(default=None, description="What the moment shows, in a sentence.")
    then: Sentences = Field(default=[], description="What happens later in the video, in this order.")
    also: Sentences = Field(default=[], description="The sentence in other words.")
    without: Sentences = Field(default=[], description="What the moment does not show.")
    like: Name | None = Field(default=None, description="A video, for moments like that at `t`.")
    t: Instant = Field(default=0.0, description="Where in the video, in seconds.")
    more: Named = Field(default=[], description="Moments that were right: VIDEO@SECONDS.")
    less: Named = Field(default=[], description="Moments that were wrong: VIDEO@SECONDS.")
    prompt: str | None = Field(
        default=None,
        description='Template for the sentences, such as "a photo of a {}."; empty for none. By default short ones have that of '
        "the encoder, if the index is of an encoder alone.",
        max_length=200,
    )

    async def question(self, service: Service, image: np.ndarray | None = None) -> Question:
        """The question; videos have their ids. Raises HTTPException 404 for an unknown video, SettingError as `Question`."""

        async def with_id(moment: Moment) -> Moment:
            return Moment(await service.index.video_at(moment.video), moment.seconds)

        like = await with_id(Moment(self.like, self.t)) if self.like is not None else None
        more, less = [tuple([await with_id(parse_moment(one)) for one in of]) for of in (self.more, self.less)]
        sentences = {"also": tuple(self.also), "then": tuple(self.then), "without": tuple(self.without)}
        asked = Question(self.q or "", **sentences, image=image, like=like, more=more, less=less, prompt=self.prompt)
        if not asked.has_subject:
            raise HTTPException(422, "q: Field required; give q, a sentence, or like and t, a video and a time, or a picture")
        if (like or more or less or image is not None) and not service.index.similar:
            raise HTTPException(409, "this index's model does not compare pictures and moments with videos; search by a sentence")
        return asked


class Search(Asked):
    """The parameters of a search."""

    where: Wheres = Field(default=[], description=ABOUT_WHERE)
    k: int = Field(default=12, description="How many videos.", ge=1, le=100)
    offset: int = Field(default=0, description="How many of the best are left out.", ge=0, le=10_000)
    min_score: float | None = Field(
        default=None,
        description="Only videos with at least this probability; with this score if the model is not calibrated.",
        allow_inf_nan=False,
    )
    sense: Sense = Field(default="any", alias="in", description=ABOUT_SENSE)
    moments: bool = Field(default=False, description="Moments of all videos, however many are of one, instead of videos.")
    approximate: bool = Field(
        default=False, description="Search sketches, with the setting that prvr index verify --approximate measured; not exact."
    )


class InOne(Asked):
    """The parameters of a question to one video."""

    video: Name = Field(description="The file's path within the folder of the videos.")
    sense: Sense = Field(
        default="any", alias="in", description=ABOUT_SENSE + " The spans are those of the picture, the quotes of this."
    )


@api.get("/search", responses=refusals(404, 409))
async def search(asked: Annotated[Search, Query()], service: Served) -> Hits:
    """The videos that hold a moment, and where in them; none if no video reaches `min_score`."""
    return await _search(service, asked)


@api.post("/search", responses=refusals(404, 408, 409, 413), openapi_extra=PICTURE)
async def search_by_picture(asked: Annotated[Search, Query()], request: Request, service: Served) -> Hits:
    """The videos that show what a picture shows, the bytes of its file as the body; everything else as with GET."""
    return await _search(service, asked, await _picture(request, service))


@api.get("/moments", responses=refusals(404, 409))
async def moments(asked: Annotated[InOne, Query()], service: Served) -> Moments:
    """Where in one video a question is answered, with the whole curve."""
    return await service.index.explain(
        await service.index.video_at(asked.video), await asked.question(service), sense=asked.sense
    )


@api.post("/moments", responses=refusals(404, 408, 409, 413), openapi_extra=PICTURE)
async def moments_by_picture(asked: Annotated[InOne, Query()], request: Request, service: Served) -> Moments:
    """Where one video shows what a picture shows, the bytes of its file as the body."""
    question = await asked.question(service, await _picture(request, service))
    return await service.index.explain(await service.index.video_at(asked.video), question, sense=asked.sense)


@api.get("/similar", responses=refusals(404, 409))
async def similar(
    video: Annotated[Name, Query(description="The file's path within the folder of the videos.")],
    service: Served,
    t: Annotated[Instant, Query(description="Where in the video, in seconds.")] = 0.0,
    where: Conditions = [],  # noqa: B006
    k: Annotated[int, Query(description="How many videos.", ge=1, le=100)] = 12,
) -> Hits:
    """Other videos that show what a video shows at a time: a search with `like` and `t`."""
    return await _search(service, Search(like=video, t=t, where=where, k=k))


@api.get("/transcript", responses=refusals(404))
async def transcript(
    video: Annotated[Name, Query(description="The file's path within the folder of the videos.")], service: Served
) -> Transcript:
    """What is said and written in a video: subtitles, recognised speech, and recognised texts of the picture."""
    id = await service.index.video_at(video)
    return Transcript(video=shown_name(id), texts=await service.index.transcript(id))


@api.get("/videos")
async def videos(
    service: Served,
    contains: Annotated[
        str, Query(description="Only names that contain this; those of copies, too.", max_length=MOST_CHARACTERS)
    ] = "",
    where: Conditions = [],  # noqa: B006
    sort: Annotated[Order, Query(description="The order; videos of unknown date or duration are last.")] = "name",
    offset: Annotated[int, Query(description="How many are skipped.", ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(description="How many at most.", ge=1, le=200)] = 60,
) -> Videos:
    """The videos of the index."""
    names = await service.index.select(await service.index.names_with(contains), where=where)
    names = await service.index.arrange(names, order=sort)
    return Videos(total=len(names), videos=await service.index.videos(names[offset : offset + limit]))


@api.get("/facets")
async def facets(service: Served) -> FacetsAnswer:
    """The folders, durations and dates that conditions can choose from."""
    return await service.index.facets()


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
        texts=await service.index.count_texts(),
        writable=bool(service.token),
        suffixes=sorted(SUFFIXES),
        upload_limit=service.upload_limit,
        window=WINDOW,
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
        "thumbnail_bytes": service.thumbnails.kept.size,
        "proxy_bytes": service.proxies.kept.size,
    }
    return PlainTextResponse(service.counts.text(gauges), media_type="text/plain; version=0.0.4")


async def _search(service: Service, asked: Search, image: np.ndarray | None = None) -> Hits:
    began = time.perf_counter()
    choice = {name: getattr(asked, name) for name in Search.model_fields.keys() - Asked.model_fields.keys()}
    hits, note, more = await service.index.search(await asked.question(service, image), **choice)
    return Hits(hits=hits, seconds=time.perf_counter() - began, note=note, more=more)


async def _picture(request: Request, service: Service) -> np.ndarray:
    """The picture in the body of a request, decoded in another process. Raises HTTPException 408, 413, 422 or 503."""
    if service.pictures.locked():
        raise HTTPException(503, f"{PICTURES_AT_ONCE} pictures are being read; try again in a second", {"Retry-After": "1"})
    async with service.pictures:
        try:
            return await service.thumbnails.read_picture(await _body(request))
        except VideoError as problem:
            raise HTTPException(422, str(problem)) from None


async def _body(request: Request) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MOST_BYTES:
                    raise HTTPException(413, f"a picture has at most {MOST_BYTES} bytes; make it smaller")
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, f"the picture stopped after {len(data)} bytes; send it again") from None
    return bytes(data)


router.include_router(api)
