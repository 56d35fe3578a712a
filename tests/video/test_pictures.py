"""High dynamic range mapped to BT.709: values of the recommendations, and files that are made here."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiny_videos import av

from prvr.video import VideoReader
from prvr.video.pictures import BT2020, HLG, P3, PQ, compress_highlights, picture_of, to_standard_range

SIDE = 32
# Values by hand: PQ of 26, 100, 203 and 1,000 cd/m2 (BT.2408, table 1, gives 0.58 for 203), HLG of 75 % (203 cd/m2).
PQ_VALUES = {26: 0.3771, 100: 0.5081, 203: 0.5807, 1000: 0.7518}


def values(level: float) -> np.ndarray:
    return np.full((2, 2, 3), round(level * 65535), np.uint16)


def test_light_below_the_knee_is_kept() -> None:
    """26 cd/m2 of 203, by the inverse of a gamma of 2.4."""
    wanted = round(255 * (26 / 203) ** (1 / 2.4))
    assert to_standard_range(values(PQ_VALUES[26]), PQ, BT2020)[0, 0].tolist() == pytest.approx([wanted] * 3, abs=1)
    # Half of HLG's scale is 1/12 of the scene's light, and 1,000 (1/12)^1.2 = 50.7 cd/m2.
    wanted = round(255 * (50.7 / 203) ** (1 / 2.4))
    assert to_standard_range(values(0.5), HLG, BT2020)[0, 0].tolist() == pytest.approx([wanted] * 3, abs=1)


@pytest.mark.parametrize("peak", [1000.0, 4000.0])
def test_highlights_are_compressed_and_keep_their_order(peak: float) -> None:
    light = np.linspace(0, peak, 2000)
    shown = compress_highlights(light, peak)
    assert (np.diff(shown) > 0).all()
    assert shown[-1] == pytest.approx(203, rel=1e-3)
    assert (shown <= light + 1e-3).all()
    np.testing.assert_allclose(shown[light < 40], light[light < 40], rtol=1e-3, atol=1e-4)


def test_a_display_no_brighter_than_white_clips() -> None:
    assert compress_highlights(np.array([10.0, 203.0, 500.0]), 203.0).tolist() == [10.0, 203.0, 203.0]


@pytest.mark.parametrize("primaries", [BT2020, P3])
def test_grey_stays_grey_and_white_is_bright(primaries: int) -> None:
    for transfer, level in ((PQ, PQ_VALUES[203]), (HLG, 0.75)):
        pixel = to_standard_range(values(level), transfer, primaries)[0, 0].astype(int)
        assert np.ptp(pixel) <= 1
        assert 215 < pixel[0] < 255


def hdr_video(path: Path, colours: np.ndarray, transfer: int, **stream_options: str) -> Path:
    """A file with one square of each BT.2020 colour, (colours, 3) values from 0 to 1, in 10 bits."""
    if "libx265" not in av.codecs_available:
        pytest.skip("this PyAV has no libx265")
    image = np.repeat(np.repeat(colours[None], SIDE, 0), SIDE, 1)
    luma = image @ [0.2627, 0.6780, 0.0593]
    blue, red = (image[..., 2] - luma) / 1.8814, (image[..., 0] - luma) / 1.4746
    name = {PQ: "smpte2084", HLG: "arib-std-b67"}[transfer]
    tags = f"colorprim=bt2020:transfer={name}:colormatrix=bt2020nc:range=limited:qp=2:log-level=none:pools=none:frame-threads=1"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=5)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt, stream.codec_context.options = "yuv420p10le", {"x265-params": tags, "preset": "ultrafast"}
        for number in range(5):
            frame = av.VideoFrame(stream.width, stream.height, "yuv420p10le")
            planes = (876 * luma + 64, 896 * blue[::2, ::2] + 512, 896 * red[::2, ::2] + 512)
            for plane, data in zip(frame.planes, planes, strict=True):
                rows = np.zeros((data.shape[0], plane.line_size // 2), np.uint16)
                rows[:, : data.shape[1]] = np.round(data)
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 5)
            frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


# BT.709 colours in BT.2020 primaries (BT.2087), as linear light.
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]], float)


def to_pq(light: np.ndarray) -> np.ndarray:
    power = (light / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def to_hlg(scene: np.ndarray) -> np.ndarray:
    upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_colours_of_a_file_come_back(tmp_path: Path, transfer: int) -> None:
    linear = COLOURS @ TO_BT2020.T
    levels = to_pq(203 * linear) if transfer == PQ else to_hlg(0.265 * linear)
    path = hdr_video(tmp_path / "a.mp4", levels, transfer)
    with VideoReader(path, rate=1) as reader:
        ((_, picture),) = list(reader)
    with av.open(str(path)) as container:
        untreated = next(container.decode(video=0)).to_ndarray(format="rgb24")
    middles = slice(SIDE // 2, None, SIDE)
    treated = np.abs(picture[SIDE // 2, middles] - 255 * COLOURS).mean()
    # White at 203 cd/m2 is compressed to 230 of 255: the rest is for what is brighter.
    assert treated < 25
    assert treated < np.abs(untreated[SIDE // 2, middles] - 255 * COLOURS).mean() / 2


class Frame:
    """A PQ frame with the light of its mastering display."""

    width = height = 2
    color_trc, color_primaries = PQ, BT2020

    def __init__(self, level: float, fractions: list[int]) -> None:
        self._level = level
        self.side_data = {"MASTERING_DISPLAY_METADATA": struct.pack("22i", *[0, 1] * 8, 0, 1, *fractions, 1, 1)}

    def to_ndarray(self, **_: object) -> np.ndarray:
        return values(self._level)


def test_the_peak_of_the_mastering_display_counts_where_it_is_credible() -> None:
    def shown(level: float, fractions: list[int]) -> int:
        return int(picture_of(Frame(level, fractions), Fraction(1))[0, 0, 0])

    assert shown(PQ_VALUES[1000], [1000 * 10000, 10000]) >= 254
    assert shown(PQ_VALUES[1000], [4000, 1]) < 254
    assert shown(PQ_VALUES[203], [203, 1]) >= 254
    for absurd in ([1, 0], [0, 1], [-5, 1], [2_000_000_000, 1]):
        assert shown(PQ_VALUES[203], absurd) == shown(PQ_VALUES[203], [1000, 1])


def test_a_standard_picture_is_left_as_it_is(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=5)
        stream.width = stream.height = SIDE
        noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        out.mux(stream.encode())
    with av.open(str(tmp_path / "a.mkv")) as container:
        frame = next(container.decode(video=0))
        np.testing.assert_array_equal(picture_of(frame, Fraction(1)), frame.to_ndarray(format="rgb24"))
