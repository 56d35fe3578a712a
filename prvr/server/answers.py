"""The JSON of all responses; the OpenAPI description is generated from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Name = Field(description="The file's path within the folder of the videos.", examples=["holiday/beach.mp4"])


class Problem(BaseModel):
    """Why a request was refused: the reason, the value, and the next step."""

    error: str


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The part of a route's description about refused requests."""
    return {status: {"model": Problem} for status in statuses}


class SpanAnswer(BaseModel):
    """A stretch of a video in which the query is answered, in seconds."""

    start: float
    end: float
    score: float


class PartAnswer(SpanAnswer):
    """Where one part of a question with several is answered; `said` is its sentence."""

    said: str


class TextAnswer(BaseModel):
    """What is said or written in a video from one time to another, in seconds."""

    start: float
    end: float
    text: str
    kind: str = Field(description="subtitle, speech (recognised) or screen (recognised in the picture).")
    confidence: float = Field(description="Of its recognition, from 0 to 1; 1 where it was written.")
    language: str = Field(description="A code such as en or pt-BR; empty if it is not known.")


class Transcript(BaseModel):
    """All texts of a video, in the order of their times."""

    video: str = Name
    texts: list[TextAnswer]


class Moments(BaseModel):
    """Where in a video a query is answered.

    `strength` is the share of unrelated sentences that reach less in this index, from 0 to 1, and a hit is `weak` below one half;
    only from a search by a sentence, and only where the index knows (an index of the teacher alone, without probabilities).
    `curve` is the relevance of the query along the video, between the times of `edges` (one more, in seconds); `peak` is
    the instant of the best frame within the first span. All are empty if the index does not have the times of the frames.
    `contributions` are the terms of the score, by branch.
    """

    video: str = Name
    title: str
    duration: float | None
    score: float
    probability: float | None = Field(
        description="The probability that the video answers the sentence; only from a search, and only with a calibrated model."
    )
    strength: float | None
    weak: bool | None
    peak: float | None
    spans: list[SpanAnswer]
    curve: list[float]
    edges: list[float]
    contributions: dict[str, float]
    copies: list[str] = Field(description="The other paths in the folder with the same content.")
    problem: str | None = Field(description="Why only a part of the video could be searched.")
    parts: list[PartAnswer] = Field(description="Where each part of a question with `then` is answered.")
    date: str | None = Field(description="When the video was taken, else written, in UTC.")
    near_identical: list[str] = Field(description="Other videos that look the same all along, and take no place of their own.")
    found_by: list[str] = Field(description="The senses that found it, the strongest first: picture, speech, screen.")
    quotes: list[TextAnswer] = Field(description="What is said or written with words of the sentence, or that means it.")


class Hits(BaseModel):
    """The videos that answer a query best, best first; their curves are thinned to the size of a small picture."""

    hits: list[Moments]
    seconds: float = Field(description="How long the search took.")
    note: str | None = Field(
        default=None, description="What was not read of a sentence that is too long, and which videos the question leaves out."
    )
    more: bool = Field(default=False, description="Whether there are further hits after these; see `offset`.")


class Video(BaseModel):
    """A video of the index; `fields` is everything else that is known of it."""

    video: str = Name
    title: str
    duration: float | None
    fields: dict[str, Any]


class Videos(BaseModel):
    """A page of the index's videos, by name."""

    total: int
    videos: list[Video]


class FacetsAnswer(BaseModel):
    """What conditions can choose from, over all videos of the index."""

    folders: dict[str, int] = Field(description="The number of videos in each folder or below it.")
    durations: tuple[float, float] | None = Field(description="The shortest and the longest, in seconds.")
    dates: tuple[str, str] | None = Field(description="The first and the last day, in UTC.")


class About(BaseModel):
    """This service: the number of its videos, its model, and its functions."""

    version: str
    videos: int
    method: str
    frames: str = Field(description="The encoder of frames.")
    text: str = Field(description="The encoder of queries.")
    similar: bool = Field(description="Whether a moment can be a query: /api/similar.")
    texts: dict[str, int] = Field(description="The number of videos with texts of each kind: subtitle, speech, screen.")
    writable: bool = Field(description="Whether videos can be added and deleted with the token.")
    suffixes: list[str] = Field(description="Of the files that can be added.")
    upload_limit: int = Field(description="Of one file, in bytes.")
    window: float = Field(description="Seconds of a window of /proxies.")


class Health(BaseModel):
    """The index is open and can be searched."""

    status: Literal["ok"]
    videos: int


class UpkeepProgress(BaseModel):
    """How far the current update is."""

    files: int = Field(description="Video files of the folder that were in the index before, or that this update has begun.")
    files_total: int = Field(description="Video files in the folder.")
    seconds: float = Field(description="Seconds of video that this update has encoded.")
    seconds_total: float = Field(description="Seconds of video that it encodes; estimated for files that it has not opened yet.")
    video: str = Name
    title: str


class UpkeepReport(BaseModel):
    """The update of the index from its folder: the current one, or the last one. The numbers are those of the last one."""

    state: Literal["idle", "running", "failed"]
    waiting: bool = Field(description="Whether another update follows, for changes during this one.")
    added: int
    kept: int
    dropped: int
    problems: list[str]
    error: str | None = Field(description="Why the last update failed as a whole.")
    progress: UpkeepProgress | None = Field(default=None, description="Of the current update, once it encodes videos.")
