"""Cuts and contact sheets of the moments of an index, and players."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_encoders import make_clip
from tiny_videos import SECONDS, colour_of, colourful, plain, write_video

from prvr.errors import DataError, ModelError, SettingError
from prvr.search import index_folder, playing, zero_shot
from prvr.search.moment_files import cut_moments, name_of, write_sheet
from prvr.search.moment_lists import ListedMoment, parse_span
from prvr.video import VideoReader

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("taken")
    (root / "videos" / "trips").mkdir(parents=True)
    write_video(root / "videos" / "a.mp4", colourful(), options={"g": "25", "bf": "0"})
    write_video(root / "videos" / "trips" / "a.mp4", [(40 * n, plain("blue")) for n in range(50)])
    make_clip(root / "tiny-clip")
    index_folder(root / "videos", root / "index", zero_shot(root / "tiny-clip"))
    return root


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "world")
    return tmp_path / "world"


def moment_of(world: Path, video: str, start: float, end: float, rank: int = 1) -> ListedMoment:
    return ListedMoment(rank, video, world / "videos" / video, start, end, start, 0.5, None, "a dog")


def test_cuts_have_readable_names_of_their_own(world: Path, tmp_path: Path) -> None:
    moments = [moment_of(world, "a.mp4", 2.0, 3.0), moment_of(world, "trips/a.mp4", 0.0, 1.0, 2)]
    done = cut_moments(moments, tmp_path / "cuts", world / "index", margin=0.0)
    assert done.problems == {}
    assert sorted(os.listdir(tmp_path / "cuts")) == ["01 a 00m02.0s-00m03.0s.mp4", "02 trips_a 00m00.0s-00m01.0s.mp4"]
    frames = list(VideoReader(done.done[0][1].path, rate=25))
    assert {colour_of(image) for _, image in frames} == {SECONDS[2]}
    with pytest.raises(DataError, match="exists"):
        cut_moments(moments, tmp_path / "cuts", world / "index")
    cut_moments(moments, tmp_path / "cuts", world / "index", replace=True)
    assert len(os.listdir(tmp_path / "cuts")) == 2


def test_a_file_that_moved_or_changed_is_one_line_and_the_others_are_cut(world: Path, tmp_path: Path) -> None:
    moments = [moment_of(world, "a.mp4", 2.0, 3.0), moment_of(world, "trips/a.mp4", 0.0, 1.0, 2)]
    (world / "videos" / "a.mp4").rename(world / "videos" / "b.mp4")
    done = cut_moments(moments, tmp_path / "cuts", world / "index")
    assert "a.mp4 is no longer in" in done.problems["a.mp4"]
    assert len(done.done) == 1
    write_video(world / "videos" / "a.mp4", colourful(seconds=4))
    done = cut_moments(moments[:1], tmp_path / "again", world / "index")
    assert "has changed since it was indexed" in done.problems["a.mp4"]
    # The same content with other times of its file is the same video.
    shutil.copyfile(world / "videos" / "b.mp4", world / "videos" / "a.mp4")
    assert cut_moments(moments[:1], tmp_path / "again", world / "index").problems == {}


def test_a_folder_that_cannot_be_written_to(world: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make"):
        cut_moments([moment_of(world, "a.mp4", 2.0, 3.0)], tmp_path / "file" / "cuts", world / "index")
    if os.getuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(DataError, match="cannot write to"):
            cut_moments([moment_of(world, "a.mp4", 2.0, 3.0)], tmp_path / "closed", world / "index")
    with pytest.raises(SettingError, match="margin"):
        cut_moments([moment_of(world, "a.mp4", 2.0, 3.0)], tmp_path / "cuts", world / "index", margin=-1)
    with pytest.raises(ModelError):
        cut_moments([moment_of(world, "a.mp4", 2.0, 3.0)], tmp_path / "cuts", tmp_path)


def test_a_name_is_one_that_every_file_system_takes() -> None:
    video = "../.hid/" + "\x07<x>:|?*\"'\n" + "é" * 200 + ".mp4"
    name = name_of(ListedMoment(3, video, Path("/v"), 3723.04, 3724.0, 0.0, 0.0, None, ""))
    assert name.startswith("03 ")
    assert name.endswith(" 1h02m03.0s-1h02m04.0s")
    assert len(name.encode()) < 200
    assert not set(name) & set("/\\<>:|?*\"'\n\x07")


def test_a_stretch_of_a_video_by_name(world: Path) -> None:
    moment = parse_span(world / "index", "trips/a.mp4@0.5-1.5", 4)
    assert (moment.video, moment.start, moment.end, moment.rank) == ("trips/a.mp4", 0.5, 1.5, 4)
    assert moment.file == world / "videos" / "trips" / "a.mp4" or moment.file.name == "a.mp4"
    for text in ("a.mp4", "a.mp4@3-2", "a.mp4@x-2", "a.mp4@-1-2"):
        with pytest.raises(SettingError, match="is no stretch"):
            parse_span(world / "index", text)
    with pytest.raises(SettingError, match=r"no video 'b\.mp4'"):
        parse_span(world / "index", "b.mp4@0-1")


def test_a_sheet_shows_each_moment_at_its_time(world: Path, tmp_path: Path) -> None:
    moments = [moment_of(world, "a.mp4", float(second), second + 1.0, second + 1) for second in range(5)]
    assert write_sheet(tmp_path / "out.png", moments, "colours") == {}
    image = np.array(Image.open(tmp_path / "out.png").convert("RGB"))
    # Three cards a row, 320 x 180 each, 8 pixels apart, below a title of 48.
    for number in range(5):
        left, top = 8 + number % 3 * 328, 48 + number // 3 * 228
        assert colour_of(image[top + 60 : top + 120, left + 120 : left + 200]) == SECONDS[number]
        # Its times stand below it.
        assert (image[top + 182 : top + 200, left : left + 320] > 200).any()


def test_a_sheet_goes_on_without_a_file_that_is_gone(world: Path, tmp_path: Path) -> None:
    moments = [moment_of(world, "gone.mp4", 0.0, 1.0), moment_of(world, "a.mp4", 1.0, 2.0, 2)]
    problems = write_sheet(tmp_path / "out.jpg", moments, "colours")
    assert list(problems) == ["gone.mp4"]
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.format == "JPEG"


def test_a_sheet_that_cannot_be_written(world: Path, tmp_path: Path) -> None:
    moments = [moment_of(world, "a.mp4", 1.0, 2.0)]
    with pytest.raises(SettingError, match=r"\.jpg"):
        write_sheet(tmp_path / "out.txt", moments, "")
    with pytest.raises(SettingError, match="no moments"):
        write_sheet(tmp_path / "out.jpg", [], "")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_sheet(tmp_path / "file" / "out.jpg", moments, "")


def test_a_player_is_started_with_the_file_and_the_time_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    player = programs / "mpv"
    said = tmp_path / "said"
    player.write_text(f'#!/bin/sh\nfor one in "$@"; do printf "%s\\0" "$one"; done > {said}\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    file = tmp_path / "-x $(touch hacked); 'a'.mp4"
    program, child = playing.play(file, 12.5)
    assert program == str(player)
    assert child is not None
    assert child.wait(120) == 0
    assert said.read_text().split("\0")[:-1] == ["--start=12.500", "--", str(file)]
    assert not (tmp_path / "hacked").exists()


def test_vlc_is_the_second_choice_and_the_browser_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vlc = tmp_path / "vlc"
    vlc.write_text("#!/bin/sh\n")
    vlc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert playing.player_command(Path("/a b.mp4"), 3) == [str(vlc), "--start-time=3.000", "/a b.mp4"]
    vlc.unlink()
    opened: list[str] = []
    monkeypatch.setattr(playing.webbrowser, "open", opened.append)
    assert playing.play(Path("/a b#.mp4"), 3) == ("file:///a%20b%23.mp4#t=3.000", None)
    assert opened == ["file:///a%20b%23.mp4#t=3.000"]
