"""Frames that repeat the one before them: they are not encoded, take its row, and keep their times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_videos import HEIGHT, WIDTH, write_video

from prvr.extract import extract_videos
from prvr.extract.decoding import Frame, Piece, VideoStart
from prvr.extract.encoding import Batches, collect
from prvr.extract.engine import Outcome, Part
from prvr.extract.repeats import is_repeat, look_of
from prvr.features.packed import Packed
from prvr.video import find_videos

# A picture of each scene, each held for this many seconds.
SCENES, HELD = 4, 25


class Means:
    """Rows are mean colours; counts the different pictures of each batch. Interrupts at the given call."""

    name, source, fingerprint, image_columns = "mean", "here", "0011223344556677", 3

    def __init__(self, *, at: int = 0) -> None:
        self._at, self.calls, self.pictures = at, 0, 0

    def encode_images(self, frames: list[np.ndarray]) -> np.ndarray:
        self.calls += 1
        if self.calls == self._at:
            raise KeyboardInterrupt
        self.pictures += len({frame.tobytes() for frame in frames})
        return np.stack([frame.mean((0, 1)) for frame in frames]).astype(np.float32)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A camera that looks at one scene after the other, with the noise of a sensor."""
    random = np.random.default_rng(0)
    scenes = random.integers(10, 240, (SCENES, HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 1).repeat(8, 2)

    def frames() -> Iterator[tuple[int, np.ndarray]]:
        for second in range(SCENES * HELD):
            noise = random.normal(0, 0.7, (HEIGHT, WIDTH, 3))
            yield 1000 * second, np.clip(scenes[second // HELD] + noise, 0, 255).astype(np.uint8)

    folder = tmp_path_factory.mktemp("still")
    write_video(folder / "a.mp4", frames(), rate=1, options={"g": "10", "qp": "0"})
    return find_videos(folder)


def test_a_repeat_is_a_picture_without_an_area_that_differs() -> None:
    picture = np.full((64, 96, 3), 100, np.uint8)
    look = look_of(picture)
    assert look == bytes([100]) * 16 * 16 * 3
    assert not is_repeat(look, None)
    assert is_repeat(look_of(picture + 3), look)
    assert not is_repeat(look_of(picture + 4), look)
    # A thing of 2 x 3 pixels, in an area of 4 x 6: a quarter of it differs by 12, then by 16 levels.
    for levels, same in ((12, True), (16, False)):
        other = picture.copy()
        other[40:42, 30:33] -= levels
        assert is_repeat(look_of(other), look) is same


def test_still_footage_is_encoded_once_a_scene_and_every_time_is_kept(still: dict[str, Path], tmp_path: Path) -> None:
    encoder, every = Means(), Means()
    extract_videos(still, tmp_path / "f", encoder=encoder)
    extract_videos(still, tmp_path / "every", encoder=every, every_frame=True)
    assert encoder.pictures == SCENES
    assert every.pictures == SCENES * HELD
    ours, theirs = Packed(tmp_path / "f"), Packed(tmp_path / "every")
    assert ours.info("a.mp4") == theirs.info("a.mp4")
    np.testing.assert_allclose(ours["a.mp4"], theirs["a.mp4"], atol=3)
    assert len(np.unique(ours["a.mp4"], axis=0)) == SCENES


@pytest.mark.parametrize("at", [2, 3, 4])
def test_a_reading_that_goes_on_knows_the_frame_that_is_repeated(still: dict[str, Path], tmp_path: Path, at: int) -> None:
    extract_videos(still, tmp_path / "whole", encoder=Means(), batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        extract_videos(still, tmp_path / "f", encoder=Means(at=at), batch_size=1)
    again = Means()
    extract_videos(still, tmp_path / "f", encoder=again, batch_size=1)
    assert again.pictures <= SCENES - at + 2
    assert np.array_equal(Packed(tmp_path / "f")["a.mp4"], Packed(tmp_path / "whole")["a.mp4"])


def test_a_frame_does_not_wait_without_end_for_a_batch_that_repeats_do_not_fill() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)

    def pieces() -> Iterator[Piece]:
        yield VideoStart("film", 0.0, 7200.0, {})
        yield Frame("film", 0.0, picture, None)
        for second in range(1, 200):
            told.append(second)
            yield Frame("film", second, None, None)

    told: list[int] = []
    parts: list[Outcome] = []
    for outcome in collect(pieces(), Batches(Means(), batch_size=32), most=20):
        if isinstance(outcome, Part) and outcome.times:
            parts.append(outcome)
            # Five batches of a frame a second.
            assert told[-1] == 160 + 21 * (len(parts) - 1)
            assert not outcome.rows.any()
    assert len(parts) == 2
