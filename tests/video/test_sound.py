"""The sound of videos whose streams are unusual or broken."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from texts import write_sound

from prvr.errors import VideoError
from prvr.video import sound
from prvr.video.sound import Sound, read_sound

RATE = 16_000


def noise(seconds: float, rate: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32)


def write_channels(path: Path, layout: str, codec: str, *, later: float = 0.0) -> Path:
    """A second of sound in all channels of a layout, half of it that much later."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=8000, layout=layout)
        for place in (0, 4000):
            samples = np.full((1, 4000 * len(stream.codec_context.layout.channels)), 8000, np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
            frame.sample_rate, frame.time_base = 8000, Fraction(1, 8000)
            frame.pts = place + int(8000 * later) * (place > 0)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(("layout", "codec"), [("7.1", "pcm_s16le"), ("5.1", "pcm_s16le"), ("7.1", "flac")])
def test_many_channels_and_those_without_names_are_heard_and_cut(tmp_path: Path, layout: str, codec: str) -> None:
    path = write_channels(tmp_path / "a.mkv", layout, codec)
    heard = np.concatenate(list(read_sound(path, rate=RATE)))
    assert len(heard) == pytest.approx(RATE, abs=100)
    assert np.abs(heard).max() > 0.2
    with Sound(av, path, 0.0, 1.0) as cut, av.open(str(tmp_path / "cut.mp4"), "w") as out:
        cut.add_to(out)
        for packets in cut.up_to(float("inf")):
            out.mux(packets)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 8000


def test_a_rate_and_a_layout_may_change_within_a_stream(tmp_path: Path) -> None:
    parts = [write_sound(tmp_path / f"{rate}.ts", noise(1.0, rate), rate=rate, picture=True) for rate in (44_100, 48_000)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(np.concatenate(list(read_sound(path, rate=RATE)))) > 1.8 * RATE


def test_a_jump_of_stamps_is_refused_before_the_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_channels(tmp_path / "a.mkv", "stereo", "pcm_s16le", later=3.0)
    assert len(np.concatenate(list(read_sound(path, rate=RATE)))) == pytest.approx(4 * RATE, abs=200)
    monkeypatch.setattr(sound, "MOST_GAP", 2.0)
    with pytest.raises(VideoError, match=r"its sound jumps from second 0\.5 to 3\.5"):
        list(read_sound(path, rate=RATE))


def test_what_cannot_be_read_on_is_an_error_of_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise av.error.InvalidDataError(1, "broken")

    path = write_channels(tmp_path / "a.mkv", "stereo", "pcm_s16le")
    monkeypatch.setattr(sound, "timed_packets", broken)
    with pytest.raises(VideoError, match="cannot read the sound of"):
        list(read_sound(path, rate=RATE))
