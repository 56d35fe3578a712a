"""How editing programs count frames: rates, drop-frame time code, first time codes, varying rates."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from numbered_videos import write_numbered

from prvr.video.frame_rate import DROP_FRAME, parse_time_code, read_frame_counting, standard_for, time_code

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (0, "00:00:00;00"),
        (1799, "00:00:59;29"),
        # Numbers 0 and 1 are left out at the first minute, and not at the tenth.
        (1800, "00:01:00;02"),
        (17981, "00:09:59;29"),
        (17982, "00:10:00;00"),
        (107892, "01:00:00;00"),
    ],
)
def test_drop_frame_time_code_by_hand(frame: int, code: str) -> None:
    assert time_code(frame, NTSC, drop_frame=True) == code
    assert parse_time_code(code, NTSC) == (frame, True)


def test_drop_frame_time_code_never_says_a_dropped_number_and_keeps_to_the_clock() -> None:
    for rate in DROP_FRAME:
        nominal, codes = round(rate), set()
        for frame in range(0, 3 * 60 * 60 * nominal, 7):
            code = time_code(frame, rate, drop_frame=True)
            hours, minutes, rest = code.split(":")
            seconds, number = map(int, rest.split(";"))
            assert int(minutes) % 10 == 0 or seconds > 0 or number >= nominal // 15
            said = 3600 * int(hours) + 60 * int(minutes) + seconds + number / nominal
            assert abs(said - frame / rate) < 0.1
            codes.add(code)
            assert parse_time_code(code, rate) == (frame, True)
        assert len(codes) == len(range(0, 3 * 60 * 60 * nominal, 7))


@pytest.mark.parametrize("text", ["", "01:00:00", "00:00:61:00", "00:00:00:30", "a:b:c:d", "01:00:00:00:00"])
def test_what_is_no_time_code_is_none(text: str) -> None:
    assert parse_time_code(text, NTSC) is None


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), NTSC, Fraction(60000, 1001), Fraction(5)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_the_rate_of_a_file_and_the_frame_at_each_time(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    counting = read_frame_counting(write_numbered(tmp_path / f"a.{suffix}", 40, rate=rate))
    assert counting.rate == rate
    assert not counting.is_variable
    assert counting.drop_frame == (rate in DROP_FRAME)
    for number in range(39):
        start, middle = number / rate, (number + Fraction(1, 2)) / rate
        # Times are rounded to a thousandth in Matroska.
        assert counting.frame_at(counting.begin + round(float(start), 3)) == number
        assert counting.frame_at(counting.begin + float(middle)) == number
        after = counting.begin + float((number + 1) / rate)
        assert counting.frames_between(counting.begin + float(start), after) == (number, number + 1)


def test_a_varying_rate_is_said_and_counted_to_half_a_frame(tmp_path: Path) -> None:
    times = [Fraction(33 * n + 10 * (n % 4), 1000) for n in range(90)]
    counting = read_frame_counting(write_numbered(tmp_path / "vfr.mp4", 90, times=times))
    assert counting.is_variable
    assert counting.rate == 30
    for seconds in (0.2, 1.01, 2.5):
        assert abs(counting.frame_at(seconds) / counting.rate - seconds) <= Fraction(1, 60) + Fraction(1, 1000)


def test_the_first_time_code_of_a_file_counts(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "a.mov", 30, metadata={"timecode": "10:00:00:00"})
    counting = read_frame_counting(source)
    assert counting.first == 10 * 3600 * 25
    assert counting.frame_at(0.5) == 12


def test_rates_that_no_editing_program_knows() -> None:
    assert standard_for(Fraction(5)) == 25
    assert standard_for(Fraction(15)) == 30
    assert standard_for(Fraction(24000, 1001)) == Fraction(24000, 1001)
    assert standard_for(Fraction(28)) == NTSC or standard_for(Fraction(28)) == 30
