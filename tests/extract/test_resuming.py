"""What is kept of a film when its reading is cut off: by kill -9 of a real process, and by an interrupt."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from film import killed_readings, make_film, read_film, seconds_again
from tiny_encoders import make_textual, make_visual

from prvr.extract import extract_videos
from prvr.features.packed import Packed
from prvr.search import open_index
from prvr.video import find_videos

RATE, MINUTES = 2.0, 5


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    make_visual(folder, size=[8, 12])
    make_textual(folder)
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    make_film(folder / "film.mp4", seconds=60 * MINUTES, fps=4)
    return folder


def features(folder: Path) -> Packed:
    (header,) = folder.glob("*/frames/packed.json")
    return Packed(header.parent)


def test_kills_cost_a_minute_of_video_each_and_no_bit(films: Path, encoder: Path, tmp_path: Path) -> None:
    whole = read_film("extract", films, tmp_path / "whole", encoder, rate=RATE, kill_after=None)
    assert whole.complete
    frames = whole.encoded
    readings = killed_readings("extract", films, tmp_path / "cut", encoder, rate=RATE, kills=6, lines=frames // 2)
    assert readings[-1].complete
    assert any(reading.begin for reading in readings)
    assert max(seconds_again(readings)) <= 60
    ours, theirs = features(tmp_path / "cut"), features(tmp_path / "whole")
    assert np.array_equal(ours["film.mp4"], theirs["film.mp4"])
    assert ours.info("film.mp4") == theirs.info("film.mp4")
    assert not list(tmp_path.glob("cut/*/frames.unfinished*"))


def test_what_is_finished_of_a_film_can_be_searched_and_says_so(films: Path, encoder: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    cut = read_film("index", films, gallery, encoder, rate=RATE, kill_after=int(150 * RATE))
    assert not cut.complete
    (hit,) = open_index(gallery).search("a dog", k=3)
    assert hit.problem is not None
    assert "of 300 s are encoded so far" in hit.problem
    assert hit.edges is not None
    assert 30 <= hit.edges[-1] <= 150
    assert read_film("index", films, gallery, encoder, rate=RATE, kill_after=None).begin
    (hit,) = open_index(gallery).search("a dog", k=3)
    assert hit.problem is None
    assert hit.edges is not None
    assert hit.edges[-1] == pytest.approx(300, abs=1)
    assert not list(gallery.glob("unfinished*"))


def test_another_file_under_the_name_is_read_from_its_beginning(films: Path, encoder: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(films, videos)
    cut = read_film("extract", videos, tmp_path / "f", encoder, rate=RATE, kill_after=int(150 * RATE))
    assert not cut.complete
    (journal,) = (tmp_path / "f").glob("*/frames.unfinished/items.jsonl")
    assert json.loads(journal.read_text().splitlines()[0])["info"]["video"] == "film.mp4"
    make_film(videos / "film.mp4", seconds=60 * MINUTES, fps=4, shade=99)
    assert read_film("extract", videos, tmp_path / "f", encoder, rate=RATE, kill_after=None).begin == 0
    read_film("extract", videos, tmp_path / "whole", encoder, rate=RATE, kill_after=None)
    assert np.array_equal(features(tmp_path / "f")["film.mp4"], features(tmp_path / "whole")["film.mp4"])
    assert not np.array_equal(features(tmp_path / "f")["film.mp4"][0], features(tmp_path / "f")["film.mp4"][1])


class Interrupting:
    """Rows are means of colours, and depend on the place in the batch where `dependent`; interrupts at the given call."""

    name, source, fingerprint, image_columns = "mean", "here", "0011223344556677", 3

    def __init__(self, *, at: int = 10**9, dependent: bool = False, broken: int | None = None) -> None:
        self._left, self._dependent, self._broken, self.frames = at, dependent, broken, 0

    def encode_images(self, frames: list[np.ndarray]) -> np.ndarray:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt
        self.frames += len(frames)
        rows = np.stack([frame.mean((0, 1)) for frame in frames]).astype(np.float32)
        if self._broken == self._left:
            rows[:] = np.nan
        return rows * rows.max() if self._dependent else rows


@pytest.mark.parametrize("dependent", [False, True])
def test_an_interrupt_keeps_what_was_encoded(films: Path, tmp_path: Path, dependent: bool) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(films, videos)
    make_film(videos / "other.mp4", seconds=90, fps=4, shade=50)
    files = find_videos(videos)
    whole = Interrupting(dependent=dependent)
    extract_videos(files, tmp_path / "whole", encoder=whole, rate=RATE)
    for call in (9, 5, 7):
        with pytest.raises(KeyboardInterrupt):
            extract_videos(files, tmp_path / "cut", encoder=Interrupting(at=call, dependent=dependent), rate=RATE)
        assert Packed(tmp_path / "cut.unfinished").stored_rows > 0
    last = Interrupting(dependent=dependent)
    assert extract_videos(files, tmp_path / "cut", encoder=last, rate=RATE).problems == {}
    assert last.frames < whole.frames
    for id in files:
        assert np.array_equal(Packed(tmp_path / "cut")[id], Packed(tmp_path / "whole")[id])
        assert Packed(tmp_path / "cut").info(id) == Packed(tmp_path / "whole").info(id)
    assert not (tmp_path / "cut.unfinished").exists()


def test_rows_that_are_not_numbers_refuse_the_whole_film(films: Path, tmp_path: Path) -> None:
    files = find_videos(films)
    bad = Interrupting(at=100, broken=95)
    done = extract_videos(files, tmp_path / "f", encoder=bad, rate=RATE)
    assert done.done == ()
    assert "hold NaN" in done.problems["film.mp4"]
    assert len(Packed(tmp_path / "f")) == 0


def test_a_film_that_vanished_leaves_no_parts(films: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(films, videos)
    make_film(videos / "short.mp4", seconds=4, fps=4)
    with pytest.raises(KeyboardInterrupt):
        extract_videos(find_videos(videos), tmp_path / "f", encoder=Interrupting(at=8), rate=RATE)
    assert (tmp_path / "f.unfinished").exists()
    os.unlink(videos / "film.mp4")
    assert extract_videos(find_videos(videos), tmp_path / "f", encoder=Interrupting(), rate=RATE).problems == {}
    assert not (tmp_path / "f.unfinished").exists()
