"""Opens a file with FFmpeg, refuses what is no video, and finds the stream that a player shows."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

from prvr.errors import NoPictures, VideoError
from prvr.video.containers import MATROSKA, MOVIES, PICTURE_BRANDS, STREAMS, WHITELIST, contents, lacks_movie_box
from prvr.video.encryption import is_encrypted

# Of a damaged transport stream, more than 64 KB may have to be skipped.
OPTIONS = {"resync_size": str(1 << 30)}
# Their headers, or first packets, say whether they are encrypted; the pictures would be decoded to noise.
SAY_ENCRYPTED = frozenset({"matroska", "asf", "mpeg"})
# Of one picture, or of a film in which nobody would rather see another stream.
STILL_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "tiff", "webp", "ppm", "jpegls", "targa"})
ENCRYPTED = "{} is encrypted; nothing of it can be shown: take it out"
# Hours that no file holds, in seconds.
LONGEST = 1000 * 3600.0


def open_container(av: ModuleType, path: Path, begin: int = 0, *, most_pixels: int | None = None) -> Any:
    """Opens a file from a byte on.

    Raises:
        VideoError: it is no video, or encrypted.
    """
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes); copy or download it again")
        # Only files, and only containers that hold their own pictures: no other file is read, and nothing is fetched.
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(WHITELIST), **OPTIONS}
        if most_pixels is not None:
            # Of the decoders that look for sizes as well, before anything is known of a stream.
            options["max_pixels"] = str(most_pixels)
        if begin:
            options["skip_initial_bytes"] = str(begin)
        container = av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except av.error.FFmpegError as problem:
        raise VideoError(_not_a_video(path, problem.strerror)) from problem
    except OSError as problem:
        raise VideoError(f"cannot open {path}: {problem.strerror}; check the path and its permissions") from problem
    if not begin and SAY_ENCRYPTED & set(container.format.name.split(",")) and is_encrypted(path):
        container.close()
        raise VideoError(ENCRYPTED.format(path))
    # FFmpeg opens pictures in the boxes of MP4 like films.
    if container.metadata.get("major_brand") in PICTURE_BRANDS:
        container.close()
        raise VideoError(f"{path} is a picture (HEIF or AVIF), not a video; take it out")
    return container


def _not_a_video(path: Path, reason: str | None) -> str:
    try:
        if lacks_movie_box(path):
            return f"{path} has no moov box: the recording or the copy was not finished; copy it again, or repair it"
        if is_encrypted(path):
            return ENCRYPTED.format(path)
        kind = contents(path)
    except OSError as problem:
        return f"cannot open {path}: {problem.strerror}; check the path and its permissions"
    return (
        f"{path} is {kind}, not a video; take it out"
        if kind
        else f"cannot read {path} as a video: {reason}; convert it or take it out"
    )


def video_stream(av: ModuleType, container: Any, path: Path) -> Any:
    """Returns the stream that a player shows: a default one before others, then the one of most bits, then the first."""
    kinds = sorted({stream.type for stream in container.streams})
    # Covers and previews are video streams to the container.
    covers = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails | av.stream.Disposition.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        raise NoPictures(f"{path} holds no video, only: {', '.join(kinds) or 'nothing'}; take it out")
    readable = [stream for stream in streams if stream.codec_context is not None]
    if not readable:
        if is_encrypted(path):
            raise VideoError(ENCRYPTED.format(path))
        raise VideoError(f"{path} is coded in a way that PyAV cannot decode; convert it, to H.264 for example")

    def order(stream: Any) -> tuple[bool, bool, int]:
        still = stream.frames == 1 or stream.codec_context.name in STILL_CODECS
        default = stream.disposition & av.stream.Disposition.default
        # In streams the programmes, and in Matroska the tracks, have an order of their own.
        in_order = set(container.format.name.split(",")) & {*STREAMS, *MATROSKA}
        return still, not default, 0 if in_order else -(stream.codec_context.bit_rate or 0)

    return min(readable, key=order)


def zero_of(container: Any, stream: Any, names: set[str]) -> int:
    """Returns the stamp at which a player's clock shows 0, in units of the stream's time base."""
    if names & {*MOVIES, *MATROSKA} or container.start_time is None:
        return 0
    return round(Fraction(container.start_time, 1_000_000) / stream.time_base)


def limit_pixels(codec: Any, path: Path, most: int) -> None:
    """Limits the pixels of a frame.

    Raises:
        VideoError: the file states more.
    """
    if codec.width * codec.height > most:
        raise VideoError(
            f"the frames of {path} have {codec.width} x {codec.height} pixels, more than {most}; convert it to a smaller size"
        )
    # The size may also change within the stream.
    codec.options = {"max_pixels": str(most)}


def frame_rate(stream: Any, *, is_raw: bool) -> Fraction:
    """Returns the frames per second that a stream states."""
    first, second = stream.average_rate, stream.guessed_rate
    # Of a raw stream, the average is what FFmpeg takes where it knows none; the other is what the pictures state.
    return (second or first if is_raw else first or second) or Fraction(25)


def stated_duration(container: Any, stream: Any) -> float:
    """Returns the end of a stream in seconds as its file states it; 0.0 where it states nothing credible."""
    stated = 0.0
    # Matroska stores the end of each stream in a tag; that of the container is the longest, sound included.
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    if stream.duration:
        stated = float(stream.duration * stream.time_base)
        start = stream.start_time
        stated += float(start * stream.time_base) if start and set(container.format.name.split(",")) & set(MOVIES) else 0.0
    elif seconds:
        with suppress(ValueError):
            stated = 3600 * float(hours) + 60 * float(minutes) + float(seconds)
    elif container.duration:
        stated = container.duration / 1e6
    return stated if 0 < stated < LONGEST else 0.0
