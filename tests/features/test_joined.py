"""Features side by side know the times of their videos, so that moments are found in them as in one encoder's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prvr.features import durations_of
from prvr.features.joined import JoinedFeatures
from prvr.features.packed import Packed, PackedWriter
from prvr.index.encode import read_sampled


def packed(folder: Path, times: dict[str, list[float]]) -> Packed:
    with PackedWriter(folder, columns=2, about={}) as out:
        for id, of_rows in times.items():
            out.append(id, np.ones((len(of_rows), 2), np.float32), {"times": of_rows, "duration": 9.0, "frame_seconds": 0.04})
    return Packed(folder)


def test_times_are_of_the_encoder_that_has_most_rows(tmp_path: Path) -> None:
    slow, fast = packed(tmp_path / "slow", {"a": [0.0, 4.0], "b": [1.0]}), packed(tmp_path / "fast", {"a": [0.0, 2.0, 4.0]})
    plain = {"a": np.ones((1, 3), np.float32), "c": np.ones((2, 3), np.float32)}
    joined = JoinedFeatures([(slow, 2), (fast, 2), (plain, 3)])
    assert durations_of(joined, ["a", "b", "c", "d"]) == {"a": 9.0, "b": 9.0}
    read = read_sampled("a", joined, durations={})
    assert (read.times, read.duration, read.frame_seconds) == ((0.0, 2.0, 4.0), 9.0, 0.04)
    assert read_sampled("b", joined, durations={}).times == (1.0,)
    # An encoder without times has the most rows of c: they divide a known duration, and nothing is known without.
    assert read_sampled("c", joined, durations={"c": 6.0}).times == (0.0, 3.0)
    assert read_sampled("c", joined, durations={}).times is None


def test_times_are_known_if_any_encoder_of_so_many_rows_has_them(tmp_path: Path) -> None:
    timed = packed(tmp_path / "timed", {"a": [0.0, 4.0]})
    plain = {"a": np.ones((2, 3), np.float32)}
    for parts in ([(plain, 3), (timed, 2)], [(timed, 2), (plain, 3)]):
        assert read_sampled("a", JoinedFeatures(parts), durations={}).times == (0.0, 4.0)


def test_a_duration_is_known_if_any_encoder_knows_it(tmp_path: Path) -> None:
    timed = packed(tmp_path / "timed", {"a": [0.0]})
    with PackedWriter(tmp_path / "bare", columns=2, about={}) as out:
        out.append("a", np.ones((3, 2), np.float32), {})
    for longer in ({"a": np.ones((3, 2), np.float32)}, Packed(tmp_path / "bare")):
        joined = JoinedFeatures([(longer, 2), (timed, 2)])
        durations = durations_of(joined, ["a"])
        assert durations == {"a": 9.0}
        assert joined.times("a") is None
        # The rows divide the duration: those of the other encoder are not theirs.
        assert read_sampled("a", joined, durations=durations).times == (0.0, 3.0, 6.0)
