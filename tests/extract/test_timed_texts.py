"""The texts of videos are read once, from where the last run was, and again only if something they were made of has changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from texts import SpokenSeconds

from prvr.encoders.timed_texts import TextSource, TextsPart
from prvr.extract.file_stamps import stamp_of
from prvr.extract.timed_texts import TextJob, update_texts


class Memory:
    """Keeps the texts of videos in memory."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, TextSource]] = {}
        self.texts: dict[str, list[str]] = {}
        self.after: list[float] = []

    def sources(self) -> Mapping[str, Mapping[str, TextSource]]:
        return self.known

    def extend(self, video: str, kind: str, part: TextsPart, *, made_of: str, is_complete: bool, after: float = 0.0) -> None:
        self.after.append(after)
        known = self.known.setdefault(video, {})
        if kind not in known or known[kind].made_of != made_of:
            self.texts[video] = []
        known[kind] = TextSource(made_of, part.seconds, is_complete, part.problems)
        self.texts[video] += [text.text for text in part.texts]

    def readers(self) -> Mapping[str, str | None]:
        return {}

    def keep_readers(self, readers: Mapping[str, str | None]) -> None:
        pass


@pytest.fixture
def film(tmp_path: Path) -> Path:
    (tmp_path / "film.mp4").write_bytes(b"film")
    return tmp_path / "film.mp4"


def job(film: Path, sha256: str = "of the film", seconds: float = 5.0) -> TextJob:
    return TextJob("film.mp4", (film,), {**stamp_of(film), "sha256": sha256}, seconds)


def test_a_second_run_reads_nothing(film: Path) -> None:
    memory, reader = Memory(), SpokenSeconds(5)
    first, second = (update_texts([job(film)], reader, memory) for _ in range(2))
    assert (first.done, first.kept, second.done, second.kept) == (("film.mp4",), (), (), ("film.mp4",))
    assert reader.read_seconds == [0, 1, 2, 3, 4]
    assert memory.texts["film.mp4"] == [f"second {n}" for n in range(5)]


def test_an_interrupted_reading_goes_on_from_there(film: Path) -> None:
    memory = Memory()
    with pytest.raises(KeyboardInterrupt):
        update_texts([job(film)], SpokenSeconds(5, fails_after=3), memory)
    # The last part is kept when it is known that another one follows.
    assert memory.texts["film.mp4"] == ["second 0", "second 1"]
    reader = SpokenSeconds(5)
    update_texts([job(film)], reader, memory)
    assert reader.read_seconds == [2, 3, 4]
    assert memory.after == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert memory.texts["film.mp4"] == [f"second {n}" for n in range(5)]
    assert memory.known["film.mp4"]["speech"].is_complete


@pytest.mark.parametrize("changed", ["content", "reader"])
def test_what_was_made_of_something_else_is_read_again(film: Path, changed: str) -> None:
    memory = Memory()
    update_texts([job(film)], SpokenSeconds(5), memory)
    reader = SpokenSeconds(2, version="2" if changed == "reader" else "1")
    update_texts([job(film, "another" if changed == "content" else "of the film")], reader, memory)
    assert memory.texts["film.mp4"] == ["second 0", "second 1"]


def test_a_file_that_changed_since_is_left_for_the_next_run(film: Path) -> None:
    memory, before = Memory(), job(film)
    film.write_bytes(b"another film")
    done = update_texts([before], SpokenSeconds(5), memory)
    assert done.problems == {"film.mp4": "it changed since it was indexed; run again when it is complete"}
    assert memory.texts == {}


def test_a_file_that_changes_while_it_is_read_is_not_complete(film: Path) -> None:
    memory = Memory()
    done = update_texts([job(film)], SpokenSeconds(5), memory, on_progress=lambda *_: os.utime(film, (1, 1)))
    assert "it changed while its texts were read" in done.problems["film.mp4"]
    assert not memory.known["film.mp4"]["speech"].is_complete


def test_a_file_that_is_gone_stops_nothing(film: Path, tmp_path: Path) -> None:
    gone = TextJob("gone.mp4", (tmp_path / "gone.mp4",), {"sha256": "x"}, 5.0)
    done = update_texts([gone, job(film)], SpokenSeconds(5), memory := Memory())
    assert done.done == ("film.mp4",)
    assert "cannot open" in done.problems["gone.mp4"]
    assert memory.texts.keys() == {"film.mp4"}


def test_progress_is_in_seconds_of_what_is_left(film: Path) -> None:
    memory, told = Memory(), []
    with pytest.raises(KeyboardInterrupt):
        update_texts([job(film)], SpokenSeconds(5, fails_after=3), memory)
    other = TextJob("other.mp4", (film,), {**stamp_of(film), "sha256": "of another"}, 5.0)
    update_texts([job(film), other], SpokenSeconds(5), memory, on_progress=lambda *note: told.append(note))
    assert told[0] == ("speech: film.mp4", 1.0, 8.0)
    assert told[-1] == ("speech: other.mp4", 8.0, 8.0)
    assert all(isinstance(total, float) for _, _, total in told)
