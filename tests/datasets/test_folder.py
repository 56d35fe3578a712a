"""A data set of one's own: captions.jsonl beside the videos, and every way in which it can be wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from prvr.datasets import Caption, Dataset, cut_spans
from prvr.datasets.folder import divide, load
from prvr.errors import DataError

SPLITS = ("train", "dev", "test")


def write(root: Path, lines: list[dict[str, Any] | str], videos: list[str] | None = None) -> Path:
    """A folder of empty videos (enough to be listed) and its captions; a line may be given as text."""
    wanted = videos or sorted({line["video"] for line in lines if isinstance(line, dict)})
    for video in wanted:
        (root / video).parent.mkdir(parents=True, exist_ok=True)
        (root / video).touch()
    rows = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    (root / "captions.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return root


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"video": f"{n:03d}.mp4", "text": f"sentence {n}"} for n in range(count)]


def every(root: Path, **options: Any) -> dict[str, Dataset]:
    return {split: load(root, split, **options) for split in SPLITS}


# What is read


def test_captions_with_their_ids_and_spans(tmp_path: Path) -> None:
    root = write(
        tmp_path / "films",
        [
            {"video": "b.mp4", "text": "a dog runs", "start": 1, "end": 2.5},
            {"video": "in/a.mkv", "text": "Ein Mädchen lacht.", "id": "mine"},
            {"video": "b.mp4", "text": "a cat sits", "start": None, "end": None},
        ],
    )
    whole = load(root, "all")
    assert (whole.name, whole.split) == ("films", "all")
    assert whole.captions == (
        Caption("b.mp4#0", "b.mp4", "a dog runs", 1.0, 2.5),
        Caption("mine", "in/a.mkv", "Ein Mädchen lacht."),
        Caption("b.mp4#1", "b.mp4", "a cat sits"),
    )
    assert whole.video_ids == ("b.mp4", "in/a.mkv")


def test_blank_lines_and_the_last_line_without_an_end(tmp_path: Path) -> None:
    root = write(tmp_path, ["", '{"video": "a.mp4", "text": "one"}', "   ", ""], ["a.mp4"])
    (root / "captions.jsonl").write_bytes((root / "captions.jsonl").read_bytes() + b'\r\n{"video": "a.mp4", "text": "two"}')
    assert [caption.text for caption in load(root, "all").captions] == ["one", "two"]


@pytest.mark.parametrize("text", ["one\u2028two", "one\u0085two", "one\u2029two", "one\x1ctwo", "a \U0001f415 runs"])
def test_a_caption_may_hold_any_character(tmp_path: Path, text: str) -> None:
    # json.dumps leaves these as they are, and str.splitlines would break some of them in two.
    root = write(tmp_path, [{"video": "a.mp4", "text": text}, {"video": "a.mp4", "text": "next"}])
    assert [caption.text for caption in load(root, "all").captions] == [text, "next"]


def test_captions_that_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    root = write(tmp_path, numbered(1))
    (root / "captions.jsonl").write_bytes(b"\xef\xbb\xbf" + (root / "captions.jsonl").read_bytes())
    assert [caption.text for caption in load(root, "all").captions] == ["sentence 0"]


def test_videos_without_captions_stay_in_the_gallery(tmp_path: Path) -> None:
    root = write(tmp_path, numbered(4), [f"{n:03d}.mp4" for n in range(40)])
    splits = every(root)
    assert sorted(v for data in splits.values() for v in data.video_ids) == [f"{n:03d}.mp4" for n in range(40)]
    assert sum(len(data.captions) for data in splits.values()) == 4
    assert len(load(root, "all").video_ids) == 40


# Splits


@pytest.mark.parametrize("count", [*range(3, 30), 100, 333])
def test_every_video_is_in_one_split_and_no_split_is_empty(count: int) -> None:
    splits = divide([f"{n}.mp4" for n in range(count)], seed=count, dev=0.15, test=0.25)
    counts = {split: sum(its == split for its in splits.values()) for split in SPLITS}
    assert sum(counts.values()) == len(splits) == count
    assert min(counts.values()) >= 1
    assert counts["train"] == max(counts.values())
    if count >= 30:
        assert counts["dev"] / count == pytest.approx(0.15, abs=0.02)
        assert counts["test"] / count == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_videos_are_not_lost(count: int) -> None:
    splits = divide([f"{n}.mp4" for n in range(count)], seed=0, dev=0.15, test=0.25)
    assert len(splits) == count
    assert "train" in splits.values()


def test_the_splits_of_a_folder_are_disjoint_and_whole(tmp_path: Path) -> None:
    root = write(tmp_path, [*numbered(20), *numbered(20), *numbered(7)])
    splits = every(root)
    assert sorted(v for data in splits.values() for v in data.video_ids) == [f"{n:03d}.mp4" for n in range(20)]
    assert {c.id for data in splits.values() for c in data.captions} == {c.id for c in load(root, "all").captions}
    for split, data in splits.items():
        assert data.split == split
        # By video: all captions of a video are in its split, and none of another's.
        assert {c.video for c in data.captions} == set(data.video_ids)


def test_a_split_depends_on_the_videos_and_the_seed_alone(tmp_path: Path) -> None:
    lines = numbered(30)
    first, second = write(tmp_path / "a", lines), write(tmp_path / "b", lines[::-1])
    assert [d.video_ids for d in every(first).values()] == [d.video_ids for d in every(second).values()]
    other = every(first, seed=1)
    assert [d.video_ids for d in every(first).values()] != [d.video_ids for d in other.values()]
    videos = [f"{n}.mp4" for n in range(30)]
    assert divide(videos, seed=3, dev=0.2, test=0.2) == divide(reversed(videos), seed=3, dev=0.2, test=0.2)


def test_a_given_split_is_kept_and_the_rest_divided(tmp_path: Path) -> None:
    lines = numbered(23)
    given = {"000.mp4": "test", "001.mp4": "test", "002.mp4": "dev"}
    for line in lines[:3]:
        line["split"] = given[line["video"]]
    # It is enough that one caption of a video says it.
    root = write(tmp_path, [*lines, {"video": "000.mp4", "text": "once more"}])
    splits = every(root)
    for video, split in given.items():
        assert [name for name, data in splits.items() if video in data.video_ids] == [split]
    assert sum(caption.video == "000.mp4" for caption in splits["test"].captions) == 2
    rest = divide([f"{n:03d}.mp4" for n in range(3, 23)], seed=0, dev=0.15, test=0.25)
    for split, data in splits.items():
        assert set(data.video_ids) - set(given) == {video for video, its in rest.items() if its == split}


def test_splits_that_are_all_given(tmp_path: Path) -> None:
    root = write(tmp_path, [{**line, "split": SPLITS[n % 3]} for n, line in enumerate(numbered(6))])
    assert {split: data.video_ids for split, data in every(root).items()} == {
        "train": ("000.mp4", "003.mp4"),
        "dev": ("001.mp4", "004.mp4"),
        "test": ("002.mp4", "005.mp4"),
    }


# What is refused


def refusal(root: Path, split: str = "all") -> str:
    with pytest.raises(DataError) as problem:
        load(root, split)
    assert "\n" not in str(problem.value)
    return str(problem.value)


BROKEN_LINES = {
    "empty caption": ({"video": "a.mp4", "text": " \n"}, "the caption of 'a.mp4' is empty; write it or delete the line"),
    "half a character": (r'{"video": "a.mp4", "text": "a \ud800"}', "surrogates not allowed"),
    "no video": ({"text": "x"}, "'video' is None, expected text"),
    "no text": ({"video": "a.mp4"}, "'text' is None, expected text"),
    "text that is none": ({"video": "a.mp4", "text": 7}, "'text' is 7, expected text"),
    "unknown video": ({"video": "a.mp", "text": "x"}, "no video 'a.mp' in the folder; did you mean 'a.mp4'?"),
    "no object": ('["a.mp4", "x"]', "expected an object"),
    "a number": ("3", "expected an object"),
    "cut off": ('{"video": "a.mp4", "te', "Unterminated string"),
    "no JSON": ("a.mp4: a dog", "Expecting value"),
    "two objects": ('{"video": "a.mp4", "text": "x"} {}', "Extra data"),
    "far too deep": ("[" * 100_000, "recursion"),
    "backwards": ({"video": "a.mp4", "text": "x", "start": 3, "end": 2}, "start 3 and end 2 are not a span"),
    "an instant": ({"video": "a.mp4", "text": "x", "start": 3, "end": 3}, "start 3 and end 3 are not a span"),
    "before the video": ({"video": "a.mp4", "text": "x", "start": -1, "end": 2}, "start -1 and end 2 are not a span"),
    "start alone": ({"video": "a.mp4", "text": "x", "start": 1}, "start 1 and end None are not a span"),
    "end alone": ({"video": "a.mp4", "text": "x", "end": 1}, "start None and end 1 are not a span"),
    "NaN": ('{"video": "a.mp4", "text": "x", "start": NaN, "end": 2}', "start nan and end 2 are not a span"),
    "infinite": ('{"video": "a.mp4", "text": "x", "start": 0, "end": 1e999}', "start 0 and end inf are not a span"),
    "beyond a float": (f'{{"video": "a.mp4", "text": "x", "start": 0, "end": {"9" * 400}}}', "too large"),
    "times as text": ({"video": "a.mp4", "text": "x", "start": "0", "end": "2"}, "start '0' and end '2' are not a span"),
    "true and false": ({"video": "a.mp4", "text": "x", "start": False, "end": True}, "are not a span"),
    "unknown split": ({"video": "a.mp4", "text": "x", "split": "val"}, "'split' is 'val', expected train, dev, test"),
    "a number as id": ({"video": "a.mp4", "text": "x", "id": 4}, "'id' is 4, expected text"),
    "an empty id": ({"video": "a.mp4", "text": "x", "id": ""}, "'id' is '', expected text"),
    "an id that is taken": ({"video": "a.mp4", "text": "x", "id": "first"}, "the id 'first' is used"),
    "the id that a caption without one has": ({"video": "b.mp4", "text": "x", "id": "a.mp4#1"}, "the id 'a.mp4#1' is used"),
}


@pytest.mark.parametrize(("line", "words"), BROKEN_LINES.values(), ids=list(BROKEN_LINES))
def test_a_broken_line_is_named_with_its_number(tmp_path: Path, line: dict[str, Any] | str, words: str) -> None:
    good = [{"video": "a.mp4", "text": "one", "id": "first"}, {"video": "a.mp4", "text": "two"}, {"video": "b.mp4", "text": "x"}]
    root = write(tmp_path, [*good[:2], "", good[2], line], ["a.mp4", "b.mp4"])
    text = refusal(root)
    assert text.startswith(f"{root / 'captions.jsonl'}, line 5: ")
    assert words in text


def test_a_caption_without_an_id_never_takes_that_of_another(tmp_path: Path) -> None:
    root = write(tmp_path, [{"video": "a.mp4", "text": "x", "id": "a.mp4#1"}, {"video": "a.mp4", "text": "y"}])
    assert "line 2: the id 'a.mp4#1' is used" in refusal(root)


def test_a_video_in_two_splits(tmp_path: Path) -> None:
    lines = [{"video": "a.mp4", "text": "x", "split": "dev"}, {"video": "a.mp4", "text": "y", "split": "test"}]
    assert "line 2: 'a.mp4' is in two splits, dev and test" in refusal(write(tmp_path, lines))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    root = write(tmp_path, numbered(2))
    latin = json.dumps({"video": "000.mp4", "text": "Mädchen"}, ensure_ascii=False).encode("latin-1")
    (root / "captions.jsonl").write_bytes((root / "captions.jsonl").read_bytes() + latin + b"\n")
    assert "line 3: this is not UTF-8 text; save the file as UTF-8" in refusal(root)


def test_no_captions_no_videos_and_no_folder(tmp_path: Path) -> None:
    assert "no folder" in refusal(tmp_path / "nowhere")
    assert "no video in" in refusal(write(tmp_path, [], ["notes.txt"]))
    (tmp_path / "a.mp4").touch()
    (tmp_path / "captions.jsonl").unlink()
    assert 'write one line per caption: {"video": "a.mp4", "text": "..."}' in refusal(tmp_path)


def test_an_unknown_split(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, numbered(3)), "tset") == "unknown split 'tset'; did you mean 'test'?"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("timestamp", "unknown key 'timestamp'; write a moment as 'start' and 'end' in seconds"),
        ("ts", "unknown key 'ts'; write a moment as 'start' and 'end'"),
        ("strat", "unknown key 'strat'; did you mean 'start'?"),
        ("End", "unknown key 'End'; did you mean 'end'?"),
        ("splits", "unknown key 'splits'; did you mean 'split'?"),
    ],
)
def test_keys_that_would_be_lost_are_refused(tmp_path: Path, key: str, said: str) -> None:
    root = write(tmp_path, [{"video": "a.mp4", "text": "x"}, {"video": "a.mp4", "text": "y", key: [1, 2]}], ["a.mp4"])
    assert f"{root / 'captions.jsonl'}, line 2: {said}" in refusal(root)


def test_other_keys_are_named(tmp_path: Path) -> None:
    lines = [{"video": "a.mp4", "text": "x", "annotator": 5, "kind": "v", "duration": 9}, {"video": "a.mp4", "text": "y"}]
    root = write(tmp_path, lines, ["a.mp4"])
    notes = load(root, "all").notes
    assert notes == {
        f"{root / 'captions.jsonl'}, line 1": "'annotator' is not read; the keys are video, text, start, end, id, split"
    }


def test_moments_outside_of_their_video_are_cut_and_named_by_line(tmp_path: Path) -> None:
    """A video of 10 s."""
    spans = [(0, 4), (2, 10.4), (2, 500), (10, 11), (500, 600)]
    lines: list[dict[str, Any]] = [{"video": "a.mp4", "text": "x", "start": start, "end": end} for start, end in spans]
    root = write(tmp_path, [*lines, {"video": "b.mp4", "text": "y", "start": 3, "end": 99}], ["a.mp4", "b.mp4"])
    cut = cut_spans(load(root, "all"), {"a.mp4": 10.0})
    assert [caption.moments for caption in cut.captions] == [((0, 4),), ((2, 10),), ((2, 10),), (), (), ((3, 99),)]
    file = root / "captions.jsonl"
    assert list(cut.notes) == [f"{file}, line {number}" for number in (3, 4, 5)]
    assert "up to 500 s ends after the video 'a.mp4' of 10 s, and is cut" in cut.notes[f"{file}, line 3"]
    assert "and is left out" in cut.notes[f"{file}, line 5"]
    assert cut_spans(cut, {"a.mp4": 10.0}) == cut


def test_windows_are_cut_one_by_one() -> None:
    caption = Caption("q", "a", "x", 1.0, 60.0, windows=((1.0, 2.0), (9.0, 20.0), (50.0, 60.0)))
    cut = cut_spans(Dataset("d", "test", (caption,), ("a",)), {"a": 10.0})
    assert cut.captions[0].moments == ((1.0, 2.0), (9.0, 10.0))
    assert (cut.captions[0].start, cut.captions[0].end) == (1.0, 10.0)
    assert list(cut.notes) == ["q"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_captions_that_are_no_file(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path, [], ["a.mp4"])
    (root / "captions.jsonl").unlink()
    if kind == "pipe":
        os.mkfifo(root / "captions.jsonl")
    elif kind == "folder":
        (root / "captions.jsonl").mkdir()
    else:
        (root / "captions.jsonl").symlink_to("/dev/zero")
    assert "not a file" in refusal(root)
