"""Makes pictures of videos, and reads pictures of strangers, in a process with limits; `prvr.server.thumbnails` starts it.

Each line of stdin is a request as JSON: the path of a video and a time in seconds, or the number of bytes of a picture file,
which follow the line. The answer on stdout is a line of JSON, with the size of what follows it or the reason why there is
nothing: the JPEG of a video, or the pixels of a picture, whose height and width the line has, too.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

from prvr.child import limit_resources
from prvr.errors import NoPictures, PrvrError, require
from prvr.video import VideoReader
from prvr.video.picture_file import decode_picture

WIDTH, HEIGHT = 480, 480
QUALITY = 82
MEMORY = 1 << 30
# Of a frame. The largest common format, 8K, has 7680 x 4320 or 8192 x 4320.
MOST_PIXELS = 8192 * 4608
STDIN, STDOUT, STDERR = 0, 1, 2


def main() -> None:
    """Answers requests until stdin ends."""
    # Imported now, so that the first picture does not wait for it.
    require("av", extra="video")
    require("PIL.Image", extra="serve").preinit()
    limit_resources(memory=MEMORY, file_bytes=0)
    requests, answers = os.fdopen(os.dup(STDIN), "rb"), os.fdopen(os.dup(STDOUT), "wb")
    # What a library prints must not be taken for an answer.
    os.dup2(STDERR, STDOUT)
    for line in requests:
        request = json.loads(line)
        data = requests.read(request) if isinstance(request, int) else None
        kind = "a video" if data is None else "a picture"
        head: dict[str, int | str]
        path, seconds = ("the picture", 0.0) if data is not None else request
        picture = b""
        try:
            if data is not None:
                pixels = decode_picture(data, path)
                picture, head = pixels.tobytes(), {"height": pixels.shape[0], "width": pixels.shape[1], "bytes": pixels.nbytes}
            else:
                picture = make_picture(Path(path), seconds)
                head = {"bytes": len(picture)}
        except PrvrError as problem:
            head = {"error": str(problem), "pictures": not isinstance(problem, NoPictures)}
        except MemoryError:
            head = {"error": f"{path} needs more than {MEMORY >> 20} MiB of memory to decode; convert it to a smaller picture"}
        except Exception as problem:  # a damaged file makes a decoder raise many types
            head = {"error": f"cannot read {path} as {kind}: {type(problem).__name__}; convert it or take it out"}
        answers.write(json.dumps(head).encode() + b"\n" + picture)
        answers.flush()


def make_picture(video: Path, seconds: float) -> bytes:
    """The frame of a video at a time, as a small JPEG.

    Raises:
        VideoError: no frame decodes there, or its pictures have more than `MOST_PIXELS` pixels.
        MissingExtra: PyAV or Pillow is not installed.
    """
    images = require("PIL.Image", extra="serve")
    with VideoReader(video, rate=1.0, most_pixels=MOST_PIXELS) as reader:
        image = images.fromarray(reader.still(seconds))
    image.thumbnail((WIDTH, HEIGHT))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY)
    return data.getvalue()


if __name__ == "__main__":
    main()
