"""Stills of large streams, which are not read up to their time: the same pictures as by reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_videos import noisy, write_video

import prvr.video.places as places
import prvr.video.reader as reading
from prvr.video import VideoReader

KINDS: dict[str, dict[str, Any]] = {
    "h264.ts": {"format": "mpegts", "options": {"g": "25", "bf": "2"}},
    "open.ts": {"format": "mpegts", "options": {"x264-params": "keyint=25:min-keyint=25:scenecut=0:bframes=3:open-gop=1"}},
    "camera.m2ts": {
        "format": "mpegts",
        "options": {"g": "25", "bf": "2"},
        "container_options": {"mpegts_m2ts_mode": "1"},
    },
    "mpeg2.ts": {"format": "mpegts", "codec": "mpeg2video", "options": {"g": "12", "bf": "2", "b": "4000000"}},
    "mpeg2.vob": {"format": "vob", "codec": "mpeg2video", "options": {"g": "12", "bf": "2", "b": "4000000"}},
}
# Seconds by which the stamps of the second and the third recording are moved: they begin again, overlap, jump ahead, go on.
MOVED = {"one": [0.0], "again": [0.0, -20.0, -40.0], "an hour": [0.0, 3600.0, 7000.0], "overlapping": [0.0, -5.0, -12.0]}


@pytest.fixture(scope="module", params=[(kind, moved) for kind in KINDS for moved in MOVED], ids=str)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty seconds in parts; at 5 frames a second, so that they are made quickly."""
    kind, moved = request.param
    folder, data = tmp_path_factory.mktemp("film"), b""
    each = 60 // len(MOVED[moved])
    for number, seconds in enumerate(MOVED[moved]):
        frames = [(200 * n + round(1000 * seconds), noisy(n)) for n in range(5 * each * number, 5 * each * (number + 1))]
        frames = [(max(at, 200 * (n % (5 * each))), picture) for n, (at, picture) in enumerate(frames)]
        rate = 25 if KINDS[kind].get("codec") else 5
        data += write_video(folder / f"{number}.{kind}", frames, rate=rate, **KINDS[kind]).read_bytes()
    path = folder / kind
    path.write_bytes(data)
    return path


def test_a_still_of_a_large_stream_is_that_of_reading(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.1, 3.0, 19.7, 20.3, 25.5, 39.9, 41.0, 55.5, 59.9, 70.0]
    wanted = [VideoReader(film, rate=1.0).still(time) for time in times]
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(places, "LEAST", 1 << 15)
    for time, picture in zip(times, wanted, strict=True):
        with VideoReader(film, rate=1.0) as reader:
            np.testing.assert_array_equal(reader.still(time), picture, err_msg=str(time))


def test_of_a_large_stream_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.ts", [(40 * n, noisy(n)) for n in range(1500)], **KINDS["h264.ts"])
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(places, "LEAST", 1 << 16)
    with VideoReader(path, rate=1.0) as reader:
        read = 0
        packets = reader._demux

        def counted(stream: Any) -> Any:
            nonlocal read
            for packet in packets(stream):
                read += 1
                yield packet

        reader._demux = counted  # type: ignore[method-assign]
        reader.still(55.0)
    assert 0 < read < 600
