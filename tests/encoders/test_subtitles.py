"""Subtitles beside videos and in them: which files are whose, what is read of them, and what is said of broken ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from texts import srt, write_with_subtitles

from prvr.encoders import subtitles
from prvr.encoders.subtitles import MOST_BYTES, MOST_CHARACTERS, SubtitleReader, read_subtitle_file, subtitle_files
from prvr.encoders.timed_texts import TimedText
from prvr.errors import VideoError


def beside(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).write_text(srt((0, 1, name)))
    return [path.name for path in subtitle_files(folder / "film.mp4")]


def test_files_are_found_by_the_name_of_the_video_and_a_language(tmp_path: Path) -> None:
    own = ["film.srt", "film.en.srt", "film.pt-BR.forced.vtt", "FILM.de.ASS", "film.zh-Hans.sdh.ssa"]
    others = ["film2.srt", "film.part2.srt", "filmen.srt", "other.srt", "film.txt", "film.en.srt.bak"]
    assert beside(tmp_path, *own, *others) == sorted(own)


def test_a_folder_is_listed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Path] = []
    list_now = subtitles._list_subtitles
    monkeypatch.setattr(subtitles, "_list_subtitles", lambda folder: listed.append(folder) or list_now(folder))
    for name in ("film.srt", "second.srt"):
        (tmp_path / name).write_text(srt((0, 1, "x")))
    # One that changed just now is listed each time: a change within the clock's tick cannot be seen.
    assert [len(subtitle_files(tmp_path / name)) for name in ("film.mp4", "second.mp4", "third.mp4")] == [1, 1, 0]
    assert len(listed) == 3
    os.utime(tmp_path, (1000, 1000))
    assert [len(subtitle_files(tmp_path / name)) for name in ("film.mp4", "second.mp4", "third.mp4")] == [1, 1, 0]
    assert len(listed) == 4
    (tmp_path / "third.srt").write_text(srt((0, 1, "x")))
    os.utime(tmp_path, (2000, 2000))
    assert len(subtitle_files(tmp_path / "third.mp4")) == 1


def test_a_link_is_no_subtitle_file(tmp_path: Path) -> None:
    (tmp_path / "secret.srt").write_text(srt((0, 1, "secret")))
    (tmp_path / "film.srt").symlink_to(tmp_path / "secret.srt")
    assert beside(tmp_path) == []


def test_the_language_is_that_of_the_name(tmp_path: Path) -> None:
    for name, language in (("a.srt", ""), ("a.en.srt", "en"), ("a.pt-BR.forced.srt", "pt-BR"), ("a.forced.srt", "")):
        (tmp_path / name).write_text(srt((0, 1, "hello")))
        (text,), problems = read_subtitle_file(tmp_path / name)
        assert (text, problems) == (TimedText(0.0, 1.0, "hello", "subtitle", 1.0, language), [])


ASS = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.50,0:00:02.00,Default,,0,0,0,,{\\i1}Two\\Nlines
Comment: 0,0:00:01.50,0:00:02.00,Default,,0,0,0,,no
Dialogue: 0,0:00:01.50,0:00:02.00,Default,,0,0,0,,{\\p1}m 0 0 l 10 10
Dialogue: 0,0:01:00.00,0:01:01.00,Default,,0,0,0,,last
"""
VTT = """WEBVTT

NOTE not shown

00:01.500 --> 00:02.000 align:start
<v Ann>Two
lines

00:01:00.000 --> 00:01:01.000
last
"""
SRT = "1\n00:00:01,500 --> 00:00:02,000\n<i>Two</i>\nlines\n\n2\n00:01:00,000 --> 00:01:01,000\nlast\n"
FORMATS = {"srt": SRT, "vtt": VTT, "ass": ASS}


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film.{suffix}"
    path.write_text(FORMATS[suffix])
    texts, problems = read_subtitle_file(path)
    assert [(one.start, one.end, one.text) for one in texts] == [(1.5, 2.0, "Two lines"), (60.0, 61.0, "last")]
    assert problems == []


def test_of_a_broken_srt_the_line_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "film.srt"
    good = srt((0, 1, "one"), (1, 2, "two"), (2, 3, "three"))
    path.write_text(good.replace("00:00:01,000 --> 00:00:02,000", "00:00:01,000 --> soon"))
    texts, problems = read_subtitle_file(path)
    assert [one.text for one in texts] == ["one", "three"]
    assert problems == ["film.srt, line 6: '00:00:01,000 --> soon' is no time such as 00:01:02,500 --> 00:01:04,000"]


def test_many_broken_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "film.srt"
    path.write_text("x --> y\nlost\n\n" * 9 + srt((0, 1, "kept")))
    texts, problems = read_subtitle_file(path)
    assert [one.text for one in texts] == ["kept"]
    assert problems[-1] == "film.srt: 4 more such lines"
    assert len(problems) == 6


@pytest.mark.parametrize(
    ("data", "text", "problem"),
    [
        (srt((0, 1, "Grüße")).encode("latin-1"), "Grüße", "film.srt is not UTF-8; it was read as Windows-1252"),
        (srt((0, 1, "“Œuvre”")).encode("cp1252"), "“Œuvre”", "film.srt is not UTF-8; it was read as Windows-1252"),
        (srt((0, 1, "Grüße")).encode("utf-8-sig"), "Grüße", ""),
        (srt((0, 1, "Grüße")).encode("utf-16"), "Grüße", ""),
        (srt((0, 1, "Grüße")).replace("\n", "\r\n").encode(), "Grüße", ""),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, text: str, problem: str) -> None:
    (tmp_path / "film.srt").write_bytes(data)
    (found,), problems = read_subtitle_file(tmp_path / "film.srt")
    assert found.text == text
    assert [line[: len(problem)] for line in problems] == ([problem] if problem else [])


@pytest.mark.parametrize(
    "data", [b"", b"\x00\xff" * 500, b"just a text\n" * 9, b"WEBVTT\n", b"[Script Info]\n[Events]\nDialogue: x"]
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_no_subtitles_is_said_in_a_line(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"film.{suffix}"
    path.write_bytes(data)
    texts, problems = read_subtitle_file(path)
    assert texts == []
    assert problems
    assert all(path.name in line for line in problems)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "film.srt"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    assert read_subtitle_file(path) == (
        [],
        [f"film.srt has {MOST_BYTES + 1} bytes, more than any subtitles ({MOST_BYTES}); take it out"],
    )


def test_a_text_that_ends_before_it_begins_is_kept_at_its_start(tmp_path: Path) -> None:
    (tmp_path / "film.srt").write_text(srt((2, 1, "backwards")))
    (text,), problems = read_subtitle_file(tmp_path / "film.srt")
    assert (text.start, text.end) == (2.0, 2.0)
    assert problems == ["film.srt: 1 texts end before they begin; their ends are not used"]


CUES = ((0.5, 1.3, "hello there"), (1.5, 2.5, "second line"))


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "subrip"), ("mp4", "mov_text"), ("mkv", "webvtt"), ("mov", "mov_text")])
def test_text_streams_are_read(tmp_path: Path, suffix: str, codec: str) -> None:
    video = write_with_subtitles(tmp_path / f"film.{suffix}", [(codec, "eng", CUES)])
    (part,) = SubtitleReader().read([video], after=0.0)
    assert part.texts == tuple(TimedText(start, end, text, "subtitle", 1.0, "eng") for start, end, text in CUES)
    assert part.problems == ()


def test_all_languages_are_read_in_and_beside_a_video_and_pictures_are_named(tmp_path: Path) -> None:
    languages = ("eng", "ger", "fre")
    streams = [("subrip", language, [(n, n + 1, f"in {language}")]) for n, language in enumerate(languages)]
    video = write_with_subtitles(tmp_path / "film.mkv", [*streams, ("dvd_subtitle", "spa", [(0, 1, "a picture")])])
    for language in ("ja", "pt-BR"):
        (tmp_path / f"film.{language}.srt").write_text(srt((2.5, 3, f"beside {language}")))
    (part,) = SubtitleReader().read([video], after=0.0)
    assert [(one.language, one.text) for one in part.texts] == [
        *((language, f"in {language}") for language in languages),
        *((language, f"beside {language}") for language in ("ja", "pt-BR")),
    ]
    (problem,) = part.problems
    assert problem.startswith("its subtitles in stream 4 are pictures (dvd")
    assert problem.endswith("; write them into a file such as film.en.srt")


def test_what_is_said_twice_at_the_same_time_is_one_text(tmp_path: Path) -> None:
    video = write_with_subtitles(tmp_path / "film.mkv", [("subrip", "en", [(0, 1, "hello")])])
    (tmp_path / "film.en.srt").write_text(srt((0, 1, "hello"), (0.5, 1.5, "hello"), (2, 3, "hello")))
    (part,) = SubtitleReader().read([video], after=0.0)
    assert [(one.start, one.end) for one in part.texts] == [(0.0, 1.5), (2.0, 3.0)]


def test_the_language_is_after_the_name_of_the_video_and_a_text_is_bounded(tmp_path: Path) -> None:
    video = write_with_subtitles(tmp_path / "a.de.film.mkv", [("subrip", "en", [(2, 3, "y" * 2000)])])
    (tmp_path / "a.de.film.srt").write_text(srt((0, 1, "x" * 2000)))
    (tmp_path / "a.de.film.fr.srt").write_text(srt((1, 2, "salut")))
    (part,) = SubtitleReader().read([video], after=0.0)
    assert [(one.text, one.language) for one in part.texts] == [
        ("x" * MOST_CHARACTERS, ""),
        ("salut", "fr"),
        ("y" * MOST_CHARACTERS, "en"),
    ]


def test_signs_and_times_of_words_in_webvtt_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "film.vtt"
    path.write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nsalt &amp; <00:01.500><c>pepper</c>&nbsp;here\n")
    assert [one.text for one in read_subtitle_file(path)[0]] == ["salt & pepper here"]


def test_a_file_that_goes_while_it_is_looked_at_is_an_error_of_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subtitles, "subtitle_files", lambda _: [tmp_path / "film.srt"])
    with pytest.raises(VideoError, match=r"cannot read film\.srt: No such file"):
        SubtitleReader().made_of([tmp_path / "film.mp4"])


def test_what_they_are_made_of_changes_with_the_files_beside(tmp_path: Path) -> None:
    video, reader = tmp_path / "film.mp4", SubtitleReader()
    seen = [reader.made_of([video])]
    (tmp_path / "film.srt").write_text(srt((0, 1, "hello")))
    seen.append(reader.made_of([video]))
    (tmp_path / "film.srt").write_text(srt((0, 1, "hello you")))
    seen.append(reader.made_of([video]))
    (tmp_path / "film.srt").unlink()
    assert reader.made_of([video]) == seen[0]
    assert len(set(seen)) == 3
