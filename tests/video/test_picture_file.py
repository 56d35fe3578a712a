"""Picture files: each format as it is shown, and what is no picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prvr.errors import DataError
from prvr.video import picture_file
from prvr.video.picture_file import decode_picture, read_picture


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize("kind", picture_file.FORMATS)
def test_a_picture_of_each_format(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "named as something.else"
    path.write_bytes(saved(Image.new("RGB", (40, 30), (200, 30, 60)), kind))
    pixels = read_picture(path)
    assert (pixels.shape, pixels.dtype) == ((30, 40, 3), np.uint8)
    assert np.abs(pixels.astype(int) - (200, 30, 60)).max() <= 6


def test_a_picture_is_read_as_it_is_shown() -> None:
    upright = Image.new("RGB", (40, 20))
    upright.paste((255, 255, 255), (0, 0, 20, 20))
    turned = Image.Exif()
    turned[0x0112] = 6
    pixels = decode_picture(saved(upright, "JPEG", exif=turned, quality=95), "picture")
    assert pixels.shape == (40, 20, 3)
    assert pixels[5].mean() > 200 > 50 > pixels[35].mean()
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert decode_picture(saved(clear, "PNG"), "picture").min() == 255
    deep = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    assert decode_picture(saved(deep, "PNG"), "picture")[0, 0].tolist() == [155] * 3
    assert decode_picture(saved(Image.new("P", (8, 8), 0), "GIF"), "picture").shape == (8, 8, 3)
    assert max(decode_picture(saved(Image.new("RGB", (3000, 1500)), "JPEG"), "picture").shape) == picture_file.SIDE


def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = saved(Image.effect_noise((64, 64), 50).convert("RGB"), "PNG")
    for data, said in (
        (b"", "is not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
        (saved(Image.new("RGB", (8, 8)), "TIFF"), "is not a picture"),
        (whole[: len(whole) // 2], "is damaged"),
        (saved(Image.new("L", (8000, 8500)), "PNG"), "8000 x 8500 pixels, more than"),
        (saved(Image.new("L", (16000, 16000)), "PNG"), "more than 67108864 pixels"),
        (saved(Image.new("RGB", (400, 8)), "PNG"), "which is a line"),
    ):
        with pytest.raises(DataError, match=said) as refused:
            decode_picture(data, "picture")
        assert "\n" not in str(refused.value)
    monkeypatch.setattr(picture_file, "MOST_BYTES", 100)
    (tmp_path / "large.png").write_bytes(whole)
    with pytest.raises(DataError, match="more than the 100 that are read"):
        read_picture(tmp_path / "large.png")
    with pytest.raises(DataError, match=r"cannot read the picture .*: No such file"):
        read_picture(tmp_path / "none.png")
