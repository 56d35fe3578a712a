"""Pictures as a player shows them: turned, stretched to square pixels, and mapped to standard dynamic range.

High dynamic range (PQ and HLG of ITU-R BT.2100) is mapped to BT.709: display light by the transfer functions of BT.2100, BT.2020
primaries to BT.709, the highlights compressed by the tone curve of BT.2390 (EETF, section 5.4.1) applied to the largest of red,
green and blue, and light back to values by the inverse of BT.1886's gamma of 2.4. White of a standard picture is 203 cd/m2
(BT.2408). The metadata of Dolby Vision and HDR10+ are not read.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

# Transfer characteristics and primaries by ITU-T H.273.
PQ, HLG = 16, 18
BT2020, P3 = 9, 12
# Light in cd/m2: white of a standard picture, and the peak where none is stated (of HLG, the nominal display).
WHITE, PEAK = 203.0, 1000.0
# Weights of luminance, and linear light in BT.709 primaries from that in others (BT.2087; SMPTE EG 432-1).
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
TO_BT709 = {
    BT2020: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32),
    P3: np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32),
}
# Rows that are mapped at once: their floats stay in the processor's cache.
ROWS = 64
# Steps of the table from light to values.
STEPS = 4096


def aspect_of(source: Any) -> Fraction:
    """Returns width through height of the pixels of a stream or a codec; 1 where it is not stated, or absurd."""
    stated = source.sample_aspect_ratio or Fraction(1)
    return stated if Fraction(1, 4) <= stated <= 4 else Fraction(1)


def picture_of(frame: Any, aspect: Fraction, *, lines: int | None = None) -> np.ndarray:
    """Returns a decoded frame as (height, width, 3) uint8 RGB.

    Args:
        aspect: width through height of a pixel.
        lines: of the shorter side at most; None for any.
    """
    # The longer side is stretched, so that no pixel is lost.
    width = round(frame.width * aspect) if aspect > 1 else frame.width
    height = round(frame.height / aspect) if aspect < 1 else frame.height
    if lines is not None and (shorter := min(width, height)) > lines:
        width, height = round(width * lines / shorter), round(height * lines / shorter)
    wide = frame.color_trc in (PQ, HLG)
    image: np.ndarray = frame.to_ndarray(format="rgb48le" if wide else "rgb24", width=width, height=height, threads=1)
    if wide:
        image = to_standard_range(image, frame.color_trc, frame.color_primaries, _peak(_side_data(frame)))
    display = _side_data(frame).get("DISPLAYMATRIX")
    if display is not None:
        # The pixel at (x, y), y downwards, is shown at (a x + c y, b x + d y), apart from the origin.
        a, b, _, c, d = np.frombuffer(display, np.int32, 5).tolist()
        right, down = a, d
        if abs(b) > abs(a):
            image, right, down = image.swapaxes(0, 1), c, b
        image = image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]
    return np.ascontiguousarray(image)


def to_standard_range(image: np.ndarray, transfer: int, primaries: int, peak: float = PEAK) -> np.ndarray:
    """Returns a PQ or HLG picture in BT.709.

    Args:
        image: (height, width, 3) uint16 RGB, full range.
        transfer: `PQ` or `HLG`.
        primaries: by ITU-T H.273; others than BT.2020 and Display P3 are taken for BT.709.
        peak: of a PQ picture, in cd/m2.
    """
    light_of, values_of = _light(transfer), _values(PEAK if transfer == HLG else peak)
    mapped = np.empty(image.shape, np.uint8)
    for top in range(0, len(image), ROWS):
        light = light_of[image[top : top + ROWS]]
        if transfer == HLG:
            # The system gamma of 1.2 for a display of 1,000 cd/m2.
            light *= PEAK * (light @ LUMINANCE)[..., None] ** np.float32(0.2)
        if primaries in TO_BT709:
            light = np.maximum(light @ TO_BT709[primaries].T, 0.0)
        mapped[top : top + ROWS] = values_of(light)
    return mapped


def compress_highlights(light: np.ndarray, peak: float) -> np.ndarray:
    """Returns light in cd/m2, up to `peak`, as shown by a display of 203 cd/m2: the EETF of BT.2390, with black at 0."""
    top, limit = _to_pq(np.array(peak)), _to_pq(np.array(WHITE))
    if top <= limit:
        return np.minimum(light, WHITE)
    value, most = np.minimum(_to_pq(light) / top, 1.0), limit / top
    knee = 1.5 * most - 0.5
    t = np.maximum(value - knee, 0.0) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return _from_pq(np.where(value < knee, value, curve) * top)


def _side_data(frame: Any) -> Any:
    from av.sidedata.sidedata import SideDataContainer

    # Not `frame.side_data`: frame and container then refer to each other, and the picture, megabytes, stays in memory until
    # Python looks for circles, hundreds of frames later.
    try:
        return SideDataContainer(frame)  # type: ignore[call-arg]  # PyAV's annotations lack it
    except TypeError:  # a PyAV that makes it in another way
        return frame.side_data


@cache
def _light(transfer: int) -> np.ndarray:
    """Light of each of 65,536 values: of a PQ display in cd/m2, of an HLG scene from 0 to 1."""
    values = np.arange(1 << 16) / 65535
    if transfer == PQ:
        return _from_pq(values).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12).astype(np.float32)


@cache
def _values(peak: float) -> Any:
    """A function from linear light in cd/m2, (..., 3), to uint8 values, all three scaled alike."""
    # Evenly spaced in the square root of light, as dark steps are seen best.
    grid = np.linspace(0, 1, STEPS + 1) ** 2 * peak
    gains = (compress_highlights(grid, peak) / np.maximum(grid, 1e-9)).astype(np.float32)
    gains[0] = gains[1]
    values = np.round(255 * np.linspace(0, 1, STEPS + 1) ** (2 / 2.4)).astype(np.uint8)

    def convert(light: np.ndarray) -> np.ndarray:
        largest = light.max(-1, keepdims=True)
        gain = gains[(np.sqrt(np.minimum(largest / peak, 1.0)) * STEPS + 0.5).astype(np.int32)]
        shown = np.minimum(light * gain / np.float32(WHITE), 1.0)
        converted: np.ndarray = values[(np.sqrt(shown) * STEPS + 0.5).astype(np.int32)]
        return converted

    return convert


def _from_pq(values: np.ndarray) -> np.ndarray:
    """Light in cd/m2 of PQ values from 0 to 1 (BT.2100, table 4)."""
    root = values ** (1 / 78.84375)
    light: np.ndarray = 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    return light


def _to_pq(light: np.ndarray) -> np.ndarray:
    """PQ values of light in cd/m2 (BT.2100, table 4)."""
    power = (np.maximum(light, 0) / 10000) ** 0.1593017578125
    values: np.ndarray = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    return values


def _peak(side_data: Any) -> float:
    """The largest light of a PQ picture in cd/m2, as its mastering display states it (SMPTE ST 2086)."""
    stated = side_data.get("MASTERING_DISPLAY_METADATA")
    if stated is None:
        return PEAK
    # Ten fractions of two numbers each: three primaries and white (x, y), then the least and the most light.
    over, under = np.frombuffer(stated, np.int32, 20)[18:].tolist()
    light = over / under if under else 0.0
    # In steps of ten, so that few tables are made.
    return round(light, -1) if WHITE <= light <= 10000 else PEAK
