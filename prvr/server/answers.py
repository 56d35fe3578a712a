"""What the service answers, as JSON; the OpenAPI description is made from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Name = Field(description="The file's path within the folder of the videos.", examples=["holiday/beach.mp4"])


class Problem(BaseModel):
    """Why a request was refused: what was wrong, with the value, and what to do next."""

    error: str


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of requests that it refuses."""
    return {status: {"model": Problem} for status in statuses}


class Span(BaseModel):
    """A stretch of a video in which the query is answered, in seconds."""

    start: float
    end: float
    score: float


class Moments(BaseModel):
    """Where in a video a query is answered.

    `curve` is the relevance of the query along the video, between the times of `edges` (one more, in seconds); `peak` is
    where it is highest. All are empty where the index does not know the frames' times. `contributions` are the parts
    of the score, by branch.
    """

    video: str = Name
    title: str
    duration: float | None
    score: float
    probability: float | None = Field(
        description="That the video answers the sentence; only a search says it, and only of a calibrated model."
    )
    peak: float | None
    spans: list[Span]
    curve: list[float]
    edges: list[float]
    contributions: dict[str, float]


class Hits(BaseModel):
    """The videos that answer a query best, best first; their curves are thinned to what a small picture shows."""

    hits: list[Moments]
    seconds: float = Field(description="How long the search took.")


class Video(BaseModel):
    """A video of the index; `fields` is what else is known of it."""

    video: str = Name
    title: str
    duration: float | None
    fields: dict[str, Any]


class Videos(BaseModel):
    """A page of the index's videos, by name."""

    total: int
    videos: list[Video]


class About(BaseModel):
    """What this service is: how many videos it knows, by which model, and what it can do."""

    version: str
    videos: int
    method: str
    frames: str = Field(description="The encoder of frames.")
    text: str = Field(description="The encoder of queries.")
    similar: bool = Field(description="Whether a moment can be asked with: /api/similar.")
    writable: bool = Field(description="Whether videos can be added and deleted by those who have the token.")


class Health(BaseModel):
    """The index is open and answers."""

    status: Literal["ok"]
    videos: int


class UpkeepReport(BaseModel):
    """The run that brings the index up to date with its folder: the one under way, or the last one."""

    state: Literal["idle", "running", "failed"]
    waiting: bool = Field(description="Whether another run follows, for what came while this one was under way.")
    added: int
    kept: int
    dropped: int
    problems: list[str]
    error: str | None = Field(description="Why the last run failed as a whole.")
