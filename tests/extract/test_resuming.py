"""What is kept of a film when its reading is cut off: by kill -9 of a real process, and by an interrupt."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from film import killed_readings, make_film, read_film, seconds_again
from tiny_encoders import make_textual, make_visual

from prvr.extract import encoding, extract_videos
from prvr.extract import resuming as resuming_room
from prvr.extract.decoding import Frame, Piece, VideoStart
from prvr.extract.engine import Encoded, FrameSampling, Job, Outcome, Part
from prvr.extract.file_stamps import stamp_of
from prvr.extract.resuming import resuming
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


def test_a_film_that_was_renamed_goes_on_and_another_one_of_its_size_and_time_does_not(films: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "f"
    shutil.copytree(films, videos)
    film, other = videos / "film.mp4", videos / "a.mp4"
    with pytest.raises(KeyboardInterrupt):
        extract_videos(find_videos(videos), out, encoder=Interrupting(at=9), rate=RATE)
    known = Packed(tmp_path / "f.unfinished").stored_rows
    (videos / "new").mkdir()
    film.rename(videos / "new" / "name.mp4")
    # The same size and time of modification, and other pictures.
    data = (videos / "new" / "name.mp4").read_bytes()
    other.write_bytes(data[:5000] + bytes(byte ^ 0xFF for byte in data[5000:5100]) + data[5100:])
    shutil.copystat(videos / "new" / "name.mp4", other)
    first, begun = Interrupting(at=3), find_videos(videos)
    del begun["a.mp4"]
    with pytest.raises(KeyboardInterrupt):
        extract_videos(begun, out, encoder=first, rate=RATE)
    assert Packed(tmp_path / "f.unfinished").stored_rows > known
    (videos / "new" / "name.mp4").rename(film)
    last, whole = Interrupting(), Interrupting()
    assert extract_videos(find_videos(videos), out, encoder=last, rate=RATE).done == ("a.mp4", "film.mp4")
    extract_videos(find_videos(videos), tmp_path / "whole", encoder=whole, rate=RATE)
    assert last.frames < whole.frames - known + 32
    for id in ("a.mp4", "film.mp4"):
        assert np.array_equal(Packed(out)[id], Packed(tmp_path / "whole")[id])


def test_damage_that_was_found_before_an_interrupt_is_told_at_the_end(films: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "f"
    shutil.copytree(films, videos)
    data = (videos / "film.mp4").read_bytes()
    at = len(data) // 6
    (videos / "film.mp4").write_bytes(data[:at] + b"\x55" * 400 + data[at + 400 :])
    with pytest.raises(KeyboardInterrupt):
        extract_videos(find_videos(videos), out, encoder=Interrupting(at=9), rate=RATE)
    problem = extract_videos(find_videos(videos), out, encoder=Interrupting(), rate=RATE).problems["film.mp4"]
    assert "damaged in" in problem
    assert Packed(out).info("film.mp4")["problem"] == problem


def test_damage_that_was_found_before_a_worker_died_is_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film, rows = tmp_path / "film.mp4", np.ones((2, 3), np.float32)
    film.write_bytes(b"a film")
    stamp = stamp_of(film)
    opening = Part("film.mp4", np.empty((0, 0), np.float32), (), 0.0, 6.0, stamp)

    class Dying:
        def encode(self, jobs: Sequence[Job], *, sampling: FrameSampling) -> Iterator[Outcome]:
            yield opening
            yield Part("film.mp4", rows, (0.0, 1.0), 1.0, 6.0, stamp, "damaged in 1 s")
            # Another worker goes on.
            yield opening
            yield Part("film.mp4", rows, (2.0, 3.0), 3.0, 6.0, stamp)
            yield Encoded("film.mp4", rows, {"times": [4.0, 5.0], "duration": 6.0, "problem": None, "file": stamp})

    reads: list[Path] = []
    monkeypatch.setattr(resuming_room, "ends_of", lambda path: reads.append(path) or "ends")
    with resuming(tmp_path / "parts", Dying(), encoder=Interrupting(), rate=1.0, videos=["film.mp4"]) as engine:
        *_, last = engine.encode([Job("film.mp4", film)], sampling=FrameSampling(1.0, 2))
    assert isinstance(last, Encoded)
    assert len(last.rows) == 6
    assert last.info["problem"] == "damaged in 1 s"
    assert len(reads) == 1


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.3, 2.0, 5.0])
@pytest.mark.parametrize("before", [0, 1, 12, 31])
def test_a_kill_costs_a_minute_also_where_a_film_shares_batches(rate: float, before: int) -> None:
    """The frames of a film that are neither stored nor waiting for the encoder, at any moment, with those that do."""
    limits: list[int] = []

    class Threads:
        def __init__(self, *_: object, limit: int, **others: object) -> None:
            limits.append(limit)

        def __iter__(self) -> Iterator[Piece]:
            picture = np.zeros((2, 2, 3), np.uint8)
            yield VideoStart("clip", 0.0, before / rate, {})
            yield from (Frame("clip", number / rate, picture, None) for number in range(before))
            yield VideoStart("film", 0.0, 7200.0, {})
            for number in range(int(300 * rate)):
                reached.append(number / rate)
                yield Frame("film", number / rate, picture, None)

        def close(self) -> None: ...

    reached: list[float] = [0.0]
    stored = most = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "DecoderThreads", Threads)
        sampling = FrameSampling(rate, 32)
        for outcome in encoding.encode_jobs(iter(()), Interrupting(), sampling=sampling, threads=1):
            if isinstance(outcome, Part) and outcome.id == "film" and outcome.times:
                most = max(most, reached[-1] - stored)
                stored = outcome.times[-1]
    assert stored > 200
    assert most + (limits[0] + 1) / rate <= 60


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
