"""Which videos look the same all along: by hand, and against a slow loop over all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prvr.index import near_identical
from prvr.index.contract import Entry
from prvr.index.near_identical import PLACES, drop_near_identical, group_near_identical


def looks(id: str, rows: np.ndarray, seconds: float = 10.0) -> Entry:
    return Entry(id, (rows.astype(np.float32),), (len(rows),), tuple(np.linspace(0, seconds, len(rows) + 1).tolist()))


def test_near_identical_videos_are_grouped() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(20, 64)), draw.normal(size=(20, 64))
    again = one + 0.001 * draw.normal(size=one.shape)
    shows_something_else = one.copy()
    shows_something_else[8:11] = draw.normal(size=(3, 64))
    videos = [looks("a", one), looks("b", other), looks("c", again), looks("backwards", one[::-1]), looks("longer", one, 20.0)]
    videos += [looks("other rate", again[::2]), looks("else", shows_something_else), looks("one frame", one[:1])]
    # Of the video at half the rate the rows are those of other instants.
    assert group_near_identical(videos) == [[0, 2], [1], [3], [4], [5], [6], [7]]


def test_near_identical_results_take_one_place_and_the_rest_moves_up() -> None:
    draw = np.random.default_rng(0)
    rows = [draw.normal(size=(20, 64)) for _ in range(30)]
    # Of the first one there are 25 copies before all others.
    videos = [looks(f"copy {n}", rows[0]) for n in range(25)] + [looks(f"{n}", rows[n]) for n in range(1, 30)]
    asked: list[int] = []

    def find(count: int) -> list[Entry]:
        asked.append(count)
        return videos[:count]

    found = drop_near_identical(find, 4, lambda entry: entry)
    assert [entry.video for entry, _ in found] == ["copy 0", "1", "2", "3"]
    assert found[0][1] == tuple(f"copy {n}" for n in range(1, 25))
    assert [others for _, others in found[1:]] == [(), (), ()]
    assert len(asked) == 3
    # What is known already takes no place, if that is asked.
    found = drop_near_identical(find, 3, lambda entry: entry, known=[looks("source", rows[0])], drop_known=True)
    assert [entry.video for entry, _ in found] == ["1", "2", "3"]
    assert len(drop_near_identical(find, 100, lambda entry: entry)) == 30


def at_cosines(id: str, *cosines: float) -> Entry:
    """A video whose rows have these cosines with (1, 0), one after another over and over."""
    cosines = tuple(cosines[place % len(cosines)] for place in range(PLACES))
    return looks(id, np.array([[cosine, math.sqrt(1 - cosine**2)] for cosine in cosines]))


def test_what_is_near_identical_by_hand() -> None:
    first = at_cosines("first", 1)
    # The mean is at least .97, and no place is below .9.
    assert group_near_identical([first, at_cosines("b", 0.971), at_cosines("c", 0.969)]) == [[0, 1], [2]]
    assert group_near_identical([first, at_cosines("b", *[1] * 15, 0.91), at_cosines("c", *[1] * 15, 0.89)]) == [[0, 1], [2]]
    # Near to the first of a group counts, not to another one in it.
    chain = [first, at_cosines("b", 0.98), at_cosines("c", math.cos(2 * math.acos(0.98)))]
    assert group_near_identical(chain) == [[0, 1], [2]]
    # Every field counts.
    two = [Entry(one.video, (first.fields[0], *one.fields), one.windows, one.edges) for one in (first, at_cosines("b", 0.5))]
    assert group_near_identical(two) == [[0], [1]]
    assert group_near_identical([]) == []


@pytest.mark.parametrize("rows_at_once", [1, 4, 512])
def test_one_product_finds_the_pairs_of_a_slow_loop(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_identical, "ROWS_AT_ONCE", rows_at_once)
    draw = np.random.default_rng(0)
    sources = draw.normal(size=(3, PLACES, 24))
    # Copies with more and less noise: some near-identical, some not.
    videos = [looks(str(n), sources[n % 3] + draw.uniform(0, 0.4) * draw.normal(size=(PLACES, 24))) for n in range(24)]
    groups: list[list[int]] = []
    for place, video in enumerate(videos):
        for group in groups:
            pairs = zip(videos[group[0]].fields[0], video.fields[0], strict=True)
            cosines = [float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for a, b in pairs]
            if sum(cosines) / PLACES >= 0.97 and min(cosines) >= 0.9:
                group.append(place)
                break
        else:
            groups.append([place])
    assert 3 < len(groups) < 24
    assert group_near_identical(videos) == groups
