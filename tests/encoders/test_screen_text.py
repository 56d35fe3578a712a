"""What is written in the picture: which frames are looked at, how long a line is shown, and what a real recogniser reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from tiny_videos import COLOURS, colour_of, plain, write_video

from prvr.encoders import screen_text
from prvr.encoders.screen_text import LEAST, ScreenTextReader
from prvr.encoders.text_readers import open_reader
from prvr.errors import MissingExtra, SettingError, VideoError

pytest.importorskip("rapidocr")


class Reads:
    """A recogniser that reads the name of the colour of a frame in two boxes, a doubtful line, and a single letter."""

    def __init__(self) -> None:
        self.calls = 0
        self.txts: tuple[str, ...] | None = None
        self.scores: tuple[float, ...] | None = None
        self.boxes: np.ndarray | None = None

    def __call__(self, picture: np.ndarray) -> Reads:
        self.calls += 1
        colour = colour_of(picture[..., ::-1])
        lines = (
            []
            if colour == "black"
            else [(30, 0, colour, 0.95), (0, 1, "it is ", 0.99), (9, 30, "noise", 0.75), (9, 60, "D", 0.88)]
        )
        self.txts, self.scores = tuple(line[2] for line in lines) or None, tuple(line[3] for line in lines) or None
        corners = np.array([[0, 0], [20, 0], [20, 10], [0, 10]])
        self.boxes = np.array([corners + line[:2] for line in lines]) if lines else None
        return self


def film(path: Path, *colours: str) -> Path:
    """A second of each colour."""
    return write_video(
        path, [(1000 * second + 200 * n, plain(colour)) for second, colour in enumerate(colours) for n in range(5)]
    )


@pytest.fixture
def reader() -> ScreenTextReader:
    reader = ScreenTextReader()
    reader.__dict__["_reader_of_text"] = Reads()
    return reader


def spans(reader: ScreenTextReader, path: Path, after: float = 0.0) -> list[tuple[str, float, float]]:
    return [(one.text, round(one.start, 1), round(one.end, 1)) for part in reader.read([path], after=after) for one in part.texts]


def test_a_line_is_one_text_from_its_first_frame_to_the_frame_without_it(reader: ScreenTextReader, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", "black", "red", "red", "blue", "black", "red")
    assert spans(reader, path) == [("it is red", 1.0, 3.0), ("it is blue", 3.0, 4.0), ("it is red", 5.0, 5.8)]


def test_only_frames_that_differ_are_recognised(reader: ScreenTextReader, tmp_path: Path) -> None:
    spans(reader, film(tmp_path / "a.mp4", *["red"] * 6, *["blue"] * 4))
    assert reader.__dict__["_reader_of_text"].calls == 2


def test_parts_end_what_is_shown_and_a_later_run_goes_on(
    reader: ScreenTextReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_text, "PART", 3)
    path = film(tmp_path / "a.mp4", "black", "red", "red", "red", "blue")
    parts = list(reader.read([path], after=0.0))
    assert [round(part.seconds, 1) for part in parts] == [3.0, 5.0]
    assert spans(reader, path) == [("it is red", 1.0, 3.0), ("it is red", 3.0, 4.0), ("it is blue", 4.0, 5.0)]
    assert spans(reader, path, after=parts[0].seconds) == [("it is red", 3.0, 4.0), ("it is blue", 4.0, 5.0)]


def test_what_a_recogniser_raises_is_an_error_of_the_video(reader: ScreenTextReader, tmp_path: Path) -> None:
    reader.__dict__["_reader_of_text"] = None
    with pytest.raises(VideoError, match="text in its picture cannot be recognised: TypeError"):
        spans(reader, film(tmp_path / "a.mp4", "red"))


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_a_gate_that_is_none(least: float) -> None:
    with pytest.raises(SettingError, match="least confidence of texts in the picture"):
        ScreenTextReader(least=least)


def test_the_gate_is_a_setting() -> None:
    low = open_reader("screen", '{"least": 0.7}')
    assert low.setting == '{"least": 0.7}'
    assert low.made_of([]) != open_reader("screen", "").made_of([]) == ScreenTextReader(least=LEAST).made_of([])


def test_without_the_library_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtra, match=r"pip install 'prvr\[text\]'"):
        ScreenTextReader()


@pytest.mark.slow
def test_a_real_recogniser_reads_a_drawn_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.new("RGB", (640, 360), COLOURS["black"])
    ImageDraw.Draw(picture).text((60, 150), "Platform nine is closed", font=ImageFont.load_default(36), fill=COLOURS["white"])
    monkeypatch.setattr("tiny_videos.HEIGHT", 360)
    monkeypatch.setattr("tiny_videos.WIDTH", 640)
    path = write_video(tmp_path / "a.mp4", [(200 * n, np.asarray(picture)) for n in range(5)])
    (part,) = ScreenTextReader().read([path], after=0.0)
    assert [one.text for one in part.texts] == ["Platform nine is closed"]
    assert part.texts[0].confidence > 0.9
