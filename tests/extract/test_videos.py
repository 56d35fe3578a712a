"""Extraction: the right rows, only what is new, and nothing lost when a run ends early."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import pytest
from tiny_encoders import make_visual
from tiny_videos import HEIGHT, WIDTH, colourful, noisy, write_video
from waiting import until

from prvr.encoders import image_encoder
from prvr.errors import DataError, MissingExtra, SettingError
from prvr.extract import Extraction, extract_sentences, extract_videos, extract_words, feature_folder
from prvr.extract.decoding import DecoderThreads
from prvr.extract.encoding import Batches, rows_are_independent
from prvr.extract.engine import FrameSampling, Job
from prvr.features.packed import Packed
from prvr.video import VideoReader, find_videos
from tests.features.test_packed import disk_of


@final
class Fake:
    """Images as their mean colour, sentences as counts of a few letters, words as word lengths; counts what it is asked."""

    def __init__(self, *, fingerprint: str = "00112233aabbccdd", source: str = "here/fake", breaks_at: int | None = None) -> None:
        self.name, self.source, self.fingerprint = "fake", source, fingerprint
        self.image_columns, self.sentence_columns, self.word_columns = 3, 4, 1
        self.asked: list[int] = []
        self._breaks_at = breaks_at

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        self._count(len(frames))
        return np.stack([frame.mean((0, 1)) for frame in frames]).astype(np.float32)

    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        self._count(len(texts))
        return np.array([[text.count(letter) for letter in "aeio"] for text in texts], np.float32)

    def encode_words(self, texts: Sequence[str]) -> list[np.ndarray]:
        self._count(len(texts))
        return [np.array([[len(word)] for word in text.split()], np.float32) for text in texts]

    def _count(self, number: int) -> None:
        self.asked.append(number)
        if len(self.asked) == self._breaks_at:
            raise KeyboardInterrupt


@pytest.fixture
def videos(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "videos"
    (folder / "in").mkdir(parents=True)
    write_video(folder / "a.mp4", colourful())
    write_video(folder / "b.mkv", colourful(seconds=3))
    write_video(folder / "in" / "c.mp4", colourful(seconds=2))
    return find_videos(folder)


def extract(videos: dict[str, Path], out: Path, encoder: Fake, *, rate: float = 1.0, batch_size: int = 32) -> Extraction:
    return extract_videos(videos, out, encoder=encoder, rate=rate, batch_size=batch_size)


def test_a_row_per_second_with_its_time(videos: dict[str, Path], tmp_path: Path) -> None:
    steps: list[tuple[str, float, float]] = []
    encoder = Fake()
    result = extract_videos(
        videos, tmp_path / "f", encoder=encoder, batch_size=2, on_progress=lambda id, n, of: steps.append((id, n, of))
    )
    assert result == Extraction(done=("a.mp4", "b.mkv", "in/c.mp4"), kept=(), dropped=(), problems={})
    # Seconds of video: each is reported when it is opened and when it is done.
    assert sorted(id for id, _, _ in steps) == sorted(2 * ["a.mp4", "b.mkv", "in/c.mp4"])
    done = [seconds for _, seconds, _ in steps]
    assert done == sorted(done)
    assert done[0] == 0
    assert steps[-1][1:] == (pytest.approx(10, abs=0.3), pytest.approx(steps[-1][1]))
    assert all(isinstance(number, float) and now <= whole for _, now, whole in steps for number in (now, whole))
    # Ten frames, and two batches to see whether videos may share them: every batch is full.
    assert encoder.asked == [2] * 7
    features = Packed(tmp_path / "f")
    assert {id: len(rows) for id, rows in features.items()} == {"a.mp4": 5, "b.mkv": 3, "in/c.mp4": 2}
    red, green, blue = features["b.mkv"]
    assert (red.argmax(), green.argmax(), blue.argmax()) == (0, 1, 2)
    info = features.info("b.mkv")
    assert info["times"] == [0.0, 1.0, 2.0]
    assert info["duration"] == pytest.approx(3, abs=0.1)
    assert info["problem"] is None
    file, content = videos["b.mkv"].stat(), hashlib.sha256(videos["b.mkv"].read_bytes()).hexdigest()
    times = {"mtime_ns": file.st_mtime_ns, "ctime_ns": file.st_ctime_ns}
    assert info["file"] == {"size": file.st_size, **times, "sha256": content}
    assert features.about == {"kind": "frames", "encoder": {"name": "fake", "fingerprint": "00112233aabbccdd"}, "rate": 1.0}
    assert features.source == "here/fake"


def test_a_second_run_does_what_is_new_or_changed_and_drops_what_is_gone(videos: dict[str, Path], tmp_path: Path) -> None:
    extract(videos, tmp_path / "f", Fake())
    folder = tmp_path / "videos"
    write_video(folder / "b.mkv", colourful(seconds=4))
    (folder / "a.mp4").unlink()
    shutil.copy(videos["in/c.mp4"], folder / "d.mp4")
    encoder = Fake(source="moved/fake")
    result = extract(find_videos(folder), tmp_path / "f", encoder)
    assert result == Extraction(done=("b.mkv", "d.mp4"), kept=("in/c.mp4",), dropped=("a.mp4",), problems={})
    # d.mp4 is a copy: its rows are those of in/c.mp4.
    assert sum(encoder.asked) == 32
    features = Packed(tmp_path / "f")
    assert {id: len(rows) for id, rows in features.items()} == {"in/c.mp4": 2, "b.mkv": 4, "d.mp4": 2}
    assert features.source == "moved/fake"


def test_what_decides_is_the_content(videos: dict[str, Path], tmp_path: Path) -> None:
    everything = tuple(videos)
    extract(videos, tmp_path / "f", Fake())
    os.utime(videos["a.mp4"], ns=(1, 1))
    notes: list[str] = []
    for expected in (["comparing a.mp4"], []):
        notes.clear()
        result = extract_videos(
            videos, tmp_path / "f", encoder=Fake(breaks_at=1), on_progress=lambda note, *_: notes.append(note)
        )
        assert (result.kept, result.done) == (everything, ())
        # The new times are written down: the second time nothing is read.
        assert notes == expected
    assert Packed(tmp_path / "f").info("a.mp4")["file"]["mtime_ns"] == 1
    before = videos["a.mp4"].stat()
    content = bytearray(videos["a.mp4"].read_bytes())
    content[content.index(b"mdat") + 60] ^= 1
    videos["a.mp4"].write_bytes(content)
    os.utime(videos["a.mp4"], ns=(1, before.st_mtime_ns))
    assert extract(videos, tmp_path / "f", Fake()).done == ("a.mp4",)


def test_features_of_before_contents_were_compared_are_kept(videos: dict[str, Path], tmp_path: Path) -> None:
    extract(videos, tmp_path / "f", Fake())
    journal = tmp_path / "f" / "items.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        file = line["info"].pop("file")
        line["info"] |= {"size": file["size"], "mtime_ns": file["mtime_ns"]}
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert extract(videos, tmp_path / "f", Fake(breaks_at=1)).kept == tuple(videos)
    os.utime(videos["b.mkv"], ns=(1, 1))
    result = extract(videos, tmp_path / "f", Fake())
    assert (result.kept, result.done) == (("a.mp4", "in/c.mp4"), ("b.mkv",))
    os.utime(videos["b.mkv"], ns=(2, 2))
    assert extract(videos, tmp_path / "f", Fake(breaks_at=1)).kept == tuple(videos)


@pytest.mark.parametrize(("fingerprint", "rate"), [("ffffffffffffffff", 1.0), ("00112233aabbccdd", 2.0)])
def test_another_encoder_or_rate_is_refused(videos: dict[str, Path], tmp_path: Path, fingerprint: str, rate: float) -> None:
    extract(videos, tmp_path / "f", Fake())
    with pytest.raises(DataError, match="was made with about"):
        extract(videos, tmp_path / "f", Fake(fingerprint=fingerprint), rate=rate)


def test_bad_files_stop_nothing_and_are_told(videos: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    (folder / "0.mp4").write_bytes(b"")
    (folder / "aa.mp4").write_text("no video at all\n" * 9)
    path = write_video(folder / "cut.mkv", [(40 * n, noisy(n)) for n in range(150)], options={"g": "25"})
    os.truncate(path, path.stat().st_size // 2)
    found = {**find_videos(folder), "gone.mp4": folder / "gone.mp4"}
    result = extract(found, tmp_path / "f", Fake())
    assert result.done == ("a.mp4", "b.mkv", "cut.mkv", "in/c.mp4")
    assert set(result.problems) == {"0.mp4", "aa.mp4", "cut.mkv", "gone.mp4"}
    assert result.problems["cut.mkv"].startswith("stops at ")
    assert "gone.mp4" in result.problems["gone.mp4"]
    features = Packed(tmp_path / "f")
    assert set(features) == set(result.done)
    assert 2 <= len(features["cut.mkv"]) <= 4
    # What lies beyond the cut is nobody's moment.
    assert 0 < features.info("cut.mkv")["duration"] - features.info("cut.mkv")["times"][-1] <= 1
    again = extract(found, tmp_path / "f", Fake())
    assert again.kept == result.done
    assert again.problems == result.problems


def test_a_video_that_turned_bad_keeps_no_stale_rows(videos: dict[str, Path], tmp_path: Path) -> None:
    extract(videos, tmp_path / "f", Fake())
    videos["a.mp4"].write_text("gone bad")
    assert set(extract(videos, tmp_path / "f", Fake()).problems) == {"a.mp4"}
    assert set(Packed(tmp_path / "f")) == {"b.mkv", "in/c.mp4"}


def test_an_interrupt_keeps_what_is_finished(videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.extract.encoding.processor_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        extract(videos, tmp_path / "f", Fake(breaks_at=6), batch_size=2)
    # Of a, b and c with 5, 3 and 2 frames, 8 went through in pairs; two batches were for asking.
    assert set(Packed(tmp_path / "f")) == {"a.mp4"}
    result = extract(videos, tmp_path / "f", Fake())
    assert (result.kept, result.done) == (("a.mp4",), ("b.mkv", "in/c.mp4"))


def test_a_full_disk_keeps_what_is_finished(videos: dict[str, Path], tmp_path: Path) -> None:
    extract({"a.mp4": videos["a.mp4"]}, tmp_path / "f", Fake())
    full = (tmp_path / "f" / "items.jsonl").stat().st_size + 30
    with disk_of(full), pytest.raises(DataError, match=r"cannot write to .*what was finished is kept"):
        extract(videos, tmp_path / "f", Fake())
    assert set(Packed(tmp_path / "f")) == {"a.mp4"}
    assert extract(videos, tmp_path / "f", Fake()).done == ("b.mkv", "in/c.mp4")


def test_broken_values_stop_only_their_video(videos: dict[str, Path], tmp_path: Path) -> None:
    @final
    class Sick:
        """NaN for blue, which b shows in its third second, and c does not."""

        name, source, fingerprint, image_columns = "sick", "here", "0" * 16, 3

        def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
            return np.stack([np.full(3, np.nan if is_blue(frame) else 1, np.float32) for frame in frames])

    result = extract_videos({id: videos[id] for id in ("b.mkv", "in/c.mp4")}, tmp_path / "f", encoder=Sick())
    assert result.done == ("in/c.mp4",)
    assert "NaN" in result.problems["b.mkv"]


def is_blue(frame: np.ndarray) -> bool:
    red, _, blue = frame.mean((0, 1))
    return bool(blue > 150 and red < 100)


def test_big_frames_wait_in_small_batches(videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prvr.extract.encoding.BATCH_BYTES", 2 * HEIGHT * WIDTH * 3)
    monkeypatch.setattr("prvr.extract.decoding.WAITING_BYTES", HEIGHT * WIDTH * 3 - 1)
    encoder = Fake()
    extract({"a.mp4": videos["a.mp4"]}, tmp_path / "f", encoder)
    assert encoder.asked == [2, 2, 2]
    assert len(Packed(tmp_path / "f")["a.mp4"]) == 5


@final
class Fickle:
    """Rows that depend on the size of the batch, and with `scales` on what else is in it: rounding, made visible."""

    name, source, fingerprint, image_columns = "fickle", "here", "0" * 16, 3

    def __init__(self, *, scales: bool) -> None:
        self._scales = scales

    def encode_images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        rows = np.stack([frame.mean((0, 1)) for frame in frames]).astype(np.float32) + len(frames)
        return rows / rows.max() if self._scales else rows


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("decoders", [1, 2])
def test_a_video_has_the_same_rows_in_any_company(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scales: bool, decoders: int
) -> None:
    monkeypatch.setattr("prvr.extract.encoding.processor_count", lambda: decoders)
    encoder = Fickle(scales=scales)
    for id, path in videos.items():
        extract_videos({id: path}, tmp_path / "alone" / id, encoder=encoder, batch_size=4)
    extract_videos(videos, tmp_path / "all", encoder=encoder, batch_size=4)
    extract_videos(dict(reversed(videos.items())), tmp_path / "backwards", encoder=encoder, batch_size=4)
    for id in videos:
        alone = Packed(tmp_path / "alone" / id)
        for other in (Packed(tmp_path / "all"), Packed(tmp_path / "backwards")):
            np.testing.assert_array_equal(other[id], alone[id])
            assert other.info(id) == alone.info(id)


def test_only_an_encoder_whose_rows_are_independent_sees_videos_mixed() -> None:
    assert rows_are_independent(Fickle(scales=False), size=4)
    assert not rows_are_independent(Fickle(scales=True), size=4)


def test_videos_share_batches(videos: dict[str, Path], tmp_path: Path) -> None:
    encoder = Fake()
    extract(videos, tmp_path / "f", encoder, batch_size=10)
    # Two to ask; then all ten frames at once.
    assert encoder.asked == [10, 10, 10]


def test_decoding_stays_so_far_ahead_and_no_further(videos: dict[str, Path], tmp_path: Path) -> None:
    ahead = DecoderThreads(
        iter([Job("a", videos["a.mp4"]), Job("b", videos["b.mkv"])]), FrameSampling(1.0, 32), limit=2, threads=1
    )
    pieces = iter(ahead)
    next(pieces)
    until(lambda: len(ahead._ready) == 2)
    time.sleep(0.3)
    assert len(ahead._ready) == 2
    ahead.close()
    for thread in ahead._threads:
        thread.join(120)
        assert not thread.is_alive()


def test_frames_wait_at_the_size_that_the_network_reads(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = image_encoder(make_visual(tmp_path / "tiny", size=[8, 12]))
    sizes: set[tuple[int, ...]] = set()
    add = Batches.add
    monkeypatch.setattr(
        Batches, "add", lambda self, id, number, picture: sizes.add(picture.shape) or add(self, id, number, picture)
    )
    extract_videos(videos, tmp_path / "f", encoder=encoder)
    assert sizes == {(8, 12, 3)}
    with VideoReader(videos["a.mp4"], rate=1.0) as reader:
        rows = encoder.encode_images([picture for _, picture in reader])
    np.testing.assert_allclose(Packed(tmp_path / "f")["a.mp4"], rows, rtol=1e-5)


def test_an_error_that_is_no_matter_of_one_file_ends_the_run(videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, *, rate: float, after: float | None) -> None:
        raise MissingExtra("av is not installed")

    monkeypatch.setattr("prvr.extract.decoding.VideoReader", broken)
    with pytest.raises(MissingExtra, match="av is not"):
        list(DecoderThreads(iter([Job("a", videos["a.mp4"])]), FrameSampling(1.0, 32), limit=2, threads=2))


def test_a_file_that_breaks_the_decoder_in_a_new_way_is_told(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(path: Path, *, rate: float, after: float | None) -> VideoReader:
        if path.name == "b.mkv":
            raise ValueError("no\nsuch format")
        return VideoReader(path, rate=rate)

    monkeypatch.setattr("prvr.extract.decoding.VideoReader", odd)
    result = extract(videos, tmp_path / "f", Fake())
    assert result.done == ("a.mp4", "in/c.mp4")
    assert result.problems["b.mkv"].endswith("ValueError: no such format; convert it or take it out")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_must_be_above_zero(videos: dict[str, Path], tmp_path: Path, rate: float) -> None:
    with pytest.raises(SettingError, match="rate must be above 0"):
        extract(videos, tmp_path / "f", Fake(), rate=rate)
    assert not (tmp_path / "f").exists()


TEXTS = {"q1": "a dog runs", "q2": "a man cooks", "q3": "cat"}


def test_sentences_are_one_row_each_and_only_new_ones_are_encoded(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    encoder = Fake()
    result = extract_sentences(
        TEXTS, tmp_path / "s", encoder=encoder, batch_size=2, on_progress=lambda id, n, of: steps.append((id, n, of))
    )
    assert result == Extraction(done=("q1", "q2", "q3"), kept=(), dropped=())
    assert steps == [("q2", 2, 3), ("q3", 3, 3)]
    features = Packed(tmp_path / "s")
    np.testing.assert_array_equal(features["q1"], [[1, 0, 0, 1]])
    assert features.info("q2") == {"text": "a man cooks"}
    assert features.about == {"kind": "sentences", "encoder": {"name": "fake", "fingerprint": "00112233aabbccdd"}}
    encoder = Fake()
    result = extract_sentences({"q1": "a dog runs", "q2": "a man eats", "q4": "new"}, tmp_path / "s", encoder=encoder)
    assert result == Extraction(done=("q2", "q4"), kept=("q1",), dropped=())
    assert encoder.asked == [2]
    features = Packed(tmp_path / "s")
    assert set(features) == {"q1", "q2", "q3", "q4"}
    np.testing.assert_array_equal(features["q2"], [[3, 1, 0, 0]])


def test_words_are_a_row_per_token(tmp_path: Path) -> None:
    extract_words(TEXTS, tmp_path / "w", encoder=Fake())
    features = Packed(tmp_path / "w")
    np.testing.assert_array_equal(features["q1"], [[1], [3], [4]])
    assert features.about["kind"] == "words"
    with pytest.raises(DataError, match="was made with"):
        extract_sentences(TEXTS, tmp_path / "w", encoder=Fake())


def test_an_interrupt_keeps_the_texts_that_are_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract_words(TEXTS, tmp_path / "w", encoder=Fake(breaks_at=2), batch_size=2)
    assert extract_words(TEXTS, tmp_path / "w", encoder=Fake()).done == ("q3",)


@pytest.mark.parametrize("blank", ["", "  \n\t"])
def test_an_empty_text_is_refused_before_anything_is_written(tmp_path: Path, blank: str) -> None:
    for run in (extract_words, extract_sentences):
        with pytest.raises(DataError, match="the text of 'q9' is empty"):
            run({**TEXTS, "q9": blank}, tmp_path / "t", encoder=Fake())
    assert not (tmp_path / "t").exists()


def test_where_features_lie() -> None:
    assert feature_folder(Path("root"), "clip_vit_b32", "frames") == Path("root/clip_vit_b32/frames")


@pytest.mark.shared
def test_real_clips_through_a_real_encoder(shared: Path, tmp_path: Path) -> None:
    from prvr.encoders import image_encoder

    found = find_videos(shared / "data" / "videos")
    some = {id: found[id] for id in list(found)[-4:]}
    encoder = image_encoder(shared / "data/models/mobilenet-v1-025")
    result = extract_videos(some, tmp_path / "f", encoder=encoder)
    assert (len(result.done), dict(result.problems)) == (4, {})
    features = Packed(tmp_path / "f")
    assert all(len(rows) == len(features.info(id)["times"]) for id, rows in features.items())
    assert extract_videos(some, tmp_path / "f", encoder=encoder).kept == result.done
