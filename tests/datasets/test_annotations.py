"""Original annotation files, small ones by hand and the real ones, and what is made of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prvr.datasets import Caption, Dataset, charades, qvhighlights
from prvr.datasets.annotations import DATASETS, annotate, coverage, load_annotations, subset, words_of
from prvr.datasets.archive import members
from prvr.datasets.positives import with_positives
from prvr.datasets.published import load as load_published
from prvr.errors import DataError, SettingError
from prvr.features import FeatureSet, check
from prvr.features.sources import FeatureSources, Source


def lines(path: Path, *values: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def spans(dataset: Dataset) -> list[tuple[float | None, float | None]]:
    return [(caption.start, caption.end) for caption in dataset.captions]


SHOW = {"vid_name": "a", "duration": 60.5, "ts": [1, 2.5], "desc": " Someone sits. ", "type": "vt", "desc_id": 7}


# Each data set, by hand


def test_tvr(tmp_path: Path) -> None:
    late = {**SHOW, "vid_name": "b", "ts": [50, 61], "desc_id": 9}
    lines(tmp_path / "tvr_val_release.jsonl", SHOW, late)
    dataset = load_annotations("tvr", tmp_path, "val")
    assert dataset.captions[0] == Caption("7", "a", "Someone sits.", 1.0, 2.5, "vt")
    assert spans(dataset)[1] == (50.0, 60.5)
    assert (dataset.video_ids, dataset.durations) == (("a", "b"), {"a": 60.5, "b": 60.5})


def test_the_public_test_of_tvr_keeps_its_videos_back(tmp_path: Path) -> None:
    lines(tmp_path / "tvr_test_public_release.jsonl", {"desc": "Who?", "desc_id": 1})
    with pytest.raises(DataError, match=r"no .*tvr_video2dur_idx.json; the gallery of split 'test_public' is in it"):
        load_annotations("tvr", tmp_path, "test_public")
    (tmp_path / "tvr_video2dur_idx.json").write_text('{"test_public": {"x": [9.5, 0], "y": [8, 1]}}')
    dataset = load_annotations("tvr", tmp_path, "test_public")
    assert (dataset.captions, dataset.video_ids) == ((Caption("1", "", "Who?"),), ("x", "y"))
    with pytest.raises(DataError, match="caption '1' is about a video that the release keeps back"):
        check(dataset, FeatureSet({}, {}, FeatureSources(Source("none", 1), Source("none", 1))))


def test_activitynet(tmp_path: Path) -> None:
    videos = {
        "v_a": {"duration": 10, "timestamps": [[0, 4], [8, 10.4], [5, 5], [6, 3]], "sentences": ["A.", " B.", "C.", "A."]},
        "v_b": {"duration": 3, "timestamps": [[-1, 2]], "sentences": ["D."]},
    }
    (tmp_path / "val.json").write_text(json.dumps(videos))
    dataset = load_annotations("activitynet", tmp_path, "val_1")
    assert [(c.id, c.text) for c in dataset.captions][:3] == [("v_a#enc#0", "A."), ("v_a#enc#1", "B."), ("v_a#enc#2", "C.")]
    # Cut to the video; a span that is none is left out and its caption kept.
    assert spans(dataset) == [(0, 4), (8, 10), (None, None), (None, None), (0, 2)]
    assert coverage(dataset).spans == 3
    assert subset(dataset, ["v_b"]).captions == dataset.captions[-1:]
    assert subset(dataset, ["v_b"]).durations == {"v_b": 3}
    with pytest.raises(DataError, match="1 of 2 videos are not in activitynet val_1, 'v_c' first"):
        subset(dataset, ["v_b", "v_c"])
    with pytest.raises(DataError, match="unknown split 'val', expected train, val_1, val_2"):
        load_annotations("activitynet", tmp_path, "val")


def test_charades(tmp_path: Path) -> None:
    (tmp_path / "charades_sta_test.txt").write_text("X1 0.5 4.0##one ## two.\nX2 3.0 9.0##three.\nX2 8.0 7.0##four.\n")
    dataset = load_annotations("charades", tmp_path, "test")
    assert [(c.id, c.text) for c in dataset.captions] == [
        ("X1#enc#0", "one ## two."),
        ("X2#enc#0", "three."),
        ("X2#enc#1", "four."),
    ]
    assert spans(dataset) == [(0.5, 4.0), (3.0, 9.0), (None, None)]
    assert dataset.durations == {}
    (tmp_path / "Charades_v1_test.csv").write_text('id,script,length\nX2,"a, b\nc",6.5\nX3,d,1\n')
    dataset = load_annotations("charades", tmp_path, "test")
    assert (spans(dataset)[1], dataset.durations) == ((3.0, 6.5), {"X2": 6.5})


def asked(qid: int | str, vid: str, *windows: list[float], **more: Any) -> dict[str, Any]:
    return {"qid": qid, "query": f"query {qid}", "duration": 150, "vid": vid, "relevant_windows": list(windows), **more}


def test_qvhighlights_by_segment_and_by_source(tmp_path: Path) -> None:
    path = tmp_path / "highlight_val_release.jsonl"
    first, second = asked(1, "s_x_60.0_210.0", [20, 30], [4, 8]), asked(2, "s_x_210.0_360.0", [148, 152], duration=148)
    lines(path, first, second, asked(3, "y_0.0_150.0", [0, 9]))
    segments = load_annotations("qvhighlights", tmp_path, "val")
    assert segments.video_ids == ("s_x_60.0_210.0", "s_x_210.0_360.0", "y_0.0_150.0")
    assert segments.captions[0].moments == ((4, 8), (20, 30))
    assert spans(segments) == [(4, 30), (None, None), (0, 9)]
    sources = load_annotations("qvhighlights_sources", tmp_path, "val")
    assert sources.video_ids == ("s_x", "y")
    assert sources.durations == {"s_x": 358.0, "y": 150.0}
    assert sources.captions[0].moments == ((64, 68), (80, 90))
    assert (spans(sources), sources.captions[2].windows) == ([(64, 90), (None, None), (0, 9)], ())
    lines(path, asked(1, "whole"))
    with pytest.raises(DataError, match="caption 'qid1' is about 'whole', expected VIDEO_START_END"):
        qvhighlights.load_sources(path, "val")


def test_tacos_in_frames_and_in_seconds(tmp_path: Path) -> None:
    about = {"fps": 20.0, "num_frames": 200, "timestamps": [[20, 50], [100, 260]], "sentences": ["One.", "Two."]}
    (tmp_path / "test.json").write_text(json.dumps({"s1-d2.avi": about}))
    frames = load_annotations("tacos", tmp_path, "test")
    told = [asked("s1-d2_0", "s1-d2", [1.0, 2.5], duration=10.0), asked("s1-d2_1", "s1-d2", [5.0, 13.0], duration=10.0)]
    seconds = DATASETS["tacos"](lines(tmp_path / "tacos_test_release.jsonl", *told), "test")
    assert spans(frames) == spans(seconds) == [(1.0, 2.5), (5.0, 10.0)]
    assert frames.durations == seconds.durations == {"s1-d2": 10.0}
    assert [c.id for c in frames.captions] + [c.id for c in seconds.captions] == [
        "s1-d2#enc#0",
        "s1-d2#enc#1",
        "s1-d2_0",
        "s1-d2_1",
    ]


def test_msrvtt(tmp_path: Path) -> None:
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text("key,vid_key,video_id,sentence\nret0,msr7,video7,a man\n")
    (tmp_path / "test_list_full.txt").write_text("video8\nvideo7")
    assert load_annotations("msrvtt", tmp_path, "test-1k").captions == (Caption("video7#enc#0", "video7", "a man"),)
    with pytest.raises(
        DataError, match=r"test_list_full.txt, line 1: no captions of 'video8'; .*MSRVTT_data.json, which is missing"
    ):
        load_annotations("msrvtt", tmp_path, "test")
    said = [
        {"video_id": video, "caption": text, "sen_id": 0} for video, text in (("video7", "x"), ("video8", "y"), ("video7", "z"))
    ]
    videos = [{"video_id": "video7", "start time": 10.5, "end time": 30}]
    (tmp_path / "MSRVTT_data.json").write_text(json.dumps({"videos": videos, "sentences": said}))
    dataset = load_annotations("msrvtt", tmp_path, "test")
    assert [(c.id, c.text) for c in dataset.captions] == [("video8#enc#0", "y"), ("video7#enc#0", "x"), ("video7#enc#1", "z")]
    assert dataset.durations == {"video7": 19.5}


def test_vcmr(tmp_path: Path) -> None:
    line = {"vid_name": "a", "desc_id": "a#enc#0", "duration": 9, "ts": [0, 3], "desc": "One."}
    lines(tmp_path / "test.jsonl", line)
    dataset = load_annotations("vcmr", tmp_path, "test")
    assert (dataset.name, dataset.captions) == (tmp_path.name, (Caption("a#enc#0", "a", "One.", 0.0, 3.0),))


# Broken files


BROKEN: dict[str, tuple[str, str, str, str]] = {
    "no file": (
        "tvr",
        "val",
        "",
        r"no annotations of split 'val' in .*; expected tvr_val_release.jsonl, or the path of the file",
    ),
    "no JSON": ("tvr", "val", "{", "line 1: this is not JSON"),
    "deep JSON": ("tvr", "val", "[" * 100_000, "line 1: this is not JSON"),
    "no object": ("tvr", "val", "\n[1]", "line 2: expected a JSON object"),
    "no video": ("tvr", "val", json.dumps({**SHOW, "vid_name": None}), "'vid_name' is None, expected text"),
    "no words": ("tvr", "val", json.dumps({**SHOW, "desc": "  "}), "'desc' is '  ', expected text"),
    "half a letter": ("tvr", "val", json.dumps({**SHOW, "desc": "a\ud800"}), "expected text"),
    "no time": ("tvr", "val", json.dumps({**SHOW, "ts": [1, "x"]}), "'ts' is 'x', expected a number"),
    "not a number": ("tvr", "val", json.dumps({**SHOW, "ts": [1, float("nan")]}), "'ts' is nan, expected a number"),
    "true": ("tvr", "val", json.dumps({**SHOW, "ts": [1, True]}), "'ts' is True, expected a number"),
    "huge": ("tvr", "val", json.dumps({**SHOW, "duration": 10**400}), "'duration' is 1000.*, expected a number"),
    "three times": ("tvr", "val", json.dumps({**SHOW, "ts": [1, 2, 3]}), r"'ts': expected \[start, end\], got \[1, 2, 3\]"),
    "no length": ("tvr", "val", json.dumps({**SHOW, "duration": 0}), "'duration' is 0, expected more than 0 seconds"),
    "no id": ("tvr", "val", json.dumps({**SHOW, "desc_id": None}), "'desc_id' is None"),
    "an id twice": ("tvr", "val", f"{json.dumps(SHOW)}\n{json.dumps(SHOW)}", "1 ids occur twice, '7' first"),
    "nothing": ("tvr", "val", "\n", "holds no captions"),
    "unlike lists": (
        "activitynet",
        "train",
        '{"a": {"duration": 1, "timestamps": [], "sentences": ["x"]}}',
        "1 sentences and 0 time",
    ),
    "no list": (
        "activitynet",
        "train",
        '{"a": {"duration": 1, "timestamps": 3, "sentences": []}}',
        "'timestamps': expected a list, got 3",
    ),
    "no hash": ("charades", "test", "X 1 2 sentence", "expected VIDEO START END##sentence, got 'X 1 2 sentence'"),
    "no windows": (
        "qvhighlights",
        "val",
        json.dumps({**asked(1, "a"), "relevant_windows": 3}),
        "'relevant_windows': expected a list, got 3",
    ),
    "no table": ("msrvtt", "test-1k", "a,b\n1,2\n", "has no column 'video_id'"),
    "no split": ("tvr", "dev", "", "unknown split 'dev', expected train, val, test_public"),
}


@pytest.mark.parametrize(("name", "split", "text", "said"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file_is_one_line(tmp_path: Path, name: str, split: str, text: str, said: str) -> None:
    suffix = {"charades": ".txt", "msrvtt": ".csv"}.get(name, ".json")
    path = tmp_path / f"annotations{suffix}"
    if text:
        path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        load_annotations(name, path if text else tmp_path, split)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 300


def test_text_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "charades_sta_test.txt").write_bytes(b"X 1 2##a\nX 1 2##\xe9\n")
    with pytest.raises(DataError, match="line 2: this is not UTF-8 text"):
        charades.load(tmp_path, "test")


def test_an_unknown_data_set_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="unknown data set 'charade'; did you mean 'charades'"):
        load_annotations("charade", tmp_path, "test")


# Given to a package's captions


def package(root: Path, *captions: str) -> Dataset:
    (root / "mine" / "TextData").mkdir(parents=True)
    (root / "mine" / "TextData" / "minetest.caption.txt").write_text("\n".join(captions))
    return load_published(root, "mine", "test")


def test_captions_of_a_package_are_found_by_video_and_words(tmp_path: Path) -> None:
    known = [
        Caption("1", "a", "A man RUNS.", 1.0, 2.0, "v"),
        Caption("2", "a", "a man runs", 3.0, 4.0, "t"),
        Caption("3", "b", "a man runs", 5.0, 9.0, windows=((5.0, 6.0), (8.0, 9.0))),
        Caption("4", "c", "a man runs"),
    ]
    annotations = Dataset("known", "val", tuple(known), ("a", "b", "c"), {"a": 10.0, "c": 12.0})
    dataset = package(
        tmp_path, "a#enc#5 a man runs", "b#enc#0 A  man runs !", "a#enc#6 a man runs", "a#enc#7 a man runs", "b#enc#1 else"
    )
    done = annotate(dataset, annotations)
    assert spans(done) == [(1, 2), (5, 9), (3, 4), (None, None), (None, None)]
    assert [c.kind for c in done.captions] == ["v", None, "t", None, None]
    assert [c.id for c in done.captions] == [c.id for c in dataset.captions]
    assert done.captions[1].moments == ((5, 6), (8, 9))
    assert done.durations == {"a": 10.0}
    found = coverage(done)
    assert (found.captions, found.spans, found.kinds, found.videos, found.durations) == (5, 3, 2, 2, 1)


def test_annotations_of_another_split_are_refused(tmp_path: Path) -> None:
    dataset = package(tmp_path, "a#enc#0 one", "b#enc#0 two")
    with pytest.raises(DataError, match=r"none of the 2 captions of mine test \('a#enc#0' first\) is in the annotations tvr val"):
        annotate(dataset, Dataset("tvr", "val", (Caption("1", "a", "two"),), ("a",)))


def test_words_alone_tell_captions_apart() -> None:
    assert words_of(" Él's  CAFÉ,\tno. 2!\n") == words_of("él's café no 2") == "él s café no 2"
    assert words_of("...") == ""


LABEL = {"query_id": "a#enc#9", "caption": "A man runs", "gt_video_ids": ["c", "a", "b", "elsewhere"]}


def labels(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_further_correct_videos_from_an_archive_or_a_file(tmp_path: Path) -> None:
    captions = (Caption("1", "a", "a man runs."), Caption("2", "b", "a man runs"), Caption("3", "a", "A man runs"))
    dataset = Dataset("mine", "test", captions, ("a", "b", "c"))
    plain = lines(tmp_path / "mine.gt.jsonl", LABEL)
    other = lines(tmp_path / "other", {**LABEL, "gt_video_ids": []})
    path = labels(tmp_path / "l.zip", {"mine/x.gt.jsonl": plain.read_bytes(), "tvr/x.gt.jsonl": b"", "mine/x.caption.txt": b""})
    for source in (plain, path):
        assert [caption.also for caption in with_positives(dataset, source).captions] == [("c", "b"), (), ("c", "b")]
    assert coverage(with_positives(dataset, path)).also == 2
    assert coverage(with_positives(dataset, other)).also == 0
    with pytest.raises(DataError, match=r"has 0 files charades/\*.gt.jsonl; it has mine/x.gt.jsonl, tvr/x.gt.jsonl"):
        with_positives(Dataset("charades", "test", captions, ("a", "b")), path)
    with pytest.raises(DataError, match=r"no label of .* is about a caption of split 'test' of 'mine'"):
        with_positives(Dataset("mine", "test", captions[1:2], ("b",)), path)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "leads out": (lambda p: labels(p, {"mine/x.gt.jsonl": b"", "../../x": b"x"}), r"member '../../x' leads out of the archive"),
    "leads to the root": (lambda p: labels(p, {"/etc/x": b"x"}), "member '/etc/x' leads out of the archive"),
    "leads out elsewhere": (lambda p: labels(p, {"mine\\..\\x": b"x"}), "leads out of the archive"),
    "swells": (lambda p: labels(p, {"mine/x.gt.jsonl": bytes(2**28 + 1)}), "declares 268435457 bytes, more than the 268435456"),
    "is none": (lambda p: p.write_bytes(b"PK no"), "is not a readable zip archive"),
    "not UTF-8": (lambda p: labels(p, {"mine/x.gt.jsonl": b"\xff"}), "mine/x.gt.jsonl is not UTF-8 text"),
}


@pytest.mark.parametrize(("make", "said"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_archive_is_refused(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "l.zip")
    with pytest.raises(DataError, match=said):
        with_positives(Dataset("mine", "test", (Caption("1", "a", "x"),), ("a",)), tmp_path / "l.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["l.zip"]


def test_a_name_that_stands_twice_in_an_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", "2")
    with pytest.raises(DataError, match="member 'a' occurs twice"):
        members(tmp_path / "l.zip")


# The real files


FOLDERS = {"charades": "charades_sta", "qvhighlights_sources": "qvhighlights"}
# Videos, captions and captions with spans, as specification and papers have them.
REAL = {
    ("tvr", "val"): (2_179, 10_895, 10_895),
    ("tvr", "test_public"): (1_089, 5_445, 0),
    ("activitynet", "train"): (10_009, 37_421, 37_417),
    ("activitynet", "val_1"): (4_917, 17_505, 17_505),
    ("activitynet", "val_2"): (4_885, 17_031, 17_031),
    ("charades", "train"): (5_338, 12_408, 12_404),
    ("charades", "test"): (1_334, 3_720, 3_720),
    ("qvhighlights", "train"): (7_100, 7_218, 7_218),
    ("qvhighlights", "val"): (1_519, 1_550, 1_550),
    ("qvhighlights", "test"): (1_529, 1_542, 1_542),
    ("qvhighlights_sources", "train"): (2_214, 7_218, 7_218),
    ("qvhighlights_sources", "val"): (474, 1_550, 1_550),
    ("tacos", "train"): (75, 9_790, 9_790),
    ("tacos", "val"): (27, 4_436, 4_436),
    ("tacos", "test"): (25, 4_001, 4_001),
    ("msrvtt", "test-1k"): (1_000, 1_000, 0),
}


@cache
def real(shared: Path, name: str, split: str) -> Dataset:
    return load_annotations(name, shared / "data" / "annotations" / FOLDERS.get(name, name), split)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "split"), [pytest.param(*key, marks=pytest.mark.slow) if "train" in key else key for key in REAL]
)
def test_real_files_have_the_published_sizes(shared: Path, name: str, split: str) -> None:
    dataset = real(shared, name, split)
    found = coverage(dataset)
    assert (found.videos, found.captions, found.spans) == REAL[name, split]
    for caption in dataset.captions:
        assert all(0 <= start < end <= dataset.durations[caption.video] for start, end in caption.moments)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [("tvr", "val", 0.122), ("activitynet", "val_1", 0.323), ("charades", "test", 0.271), ("qvhighlights", "val", 0.281)],
)
def test_moments_fill_as_much_of_real_videos_as_papers_say(shared: Path, name: str, split: str, expected: float) -> None:
    dataset = real(shared, name, split)
    filled = [sum(end - start for start, end in c.moments) / dataset.durations[c.video] for c in dataset.captions]
    assert np.mean(filled) == pytest.approx(expected, abs=0.0015)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(("name", "split"), [("charades", "train"), ("charades", "test"), ("tacos", "val")])
def test_both_forms_of_a_real_release_say_the_same(shared: Path, name: str, split: str) -> None:
    original = real(shared, name, split)
    folder = shared / "data" / "annotations" / FOLDERS.get(name, name)
    other = load_annotations(name, folder / f"{name}_{split}_release.jsonl", split)
    ours = [(c.video, c.text, c.start, c.end) for c in original.captions if c.start is not None]
    assert ours == [(c.video, c.text, c.start, c.end) for c in other.captions]
    assert {v: original.durations[v] for v in other.video_ids} == other.durations


@pytest.mark.slow
@pytest.mark.shared
def test_the_list_of_4430_and_its_labels(shared: Path, tmp_path: Path) -> None:
    archive = shared / "data" / "annotations" / "prvr_multigt" / "multigt_labels.zip"
    with zipfile.ZipFile(archive) as file:
        rows = [json.loads(line) for line in file.read("activitynet/activitynetdenseval.gt.jsonl").splitlines()]
    dataset = package(tmp_path, *(f"{row['query_id']} {row['caption']}" for row in rows))
    whole = real(shared, "activitynet", "val_1")
    smaller = subset(whole, dataset.video_ids)
    assert (len(smaller.video_ids), len(smaller.captions)) == (4_430, 15_753)
    assert [(c.id, words_of(c.text)) for c in smaller.captions] == [(c.id, words_of(c.text)) for c in dataset.captions]
    found = coverage(annotate(dataset, whole))
    assert (found.spans, found.durations) == (15_753, 4_430)
    done = with_positives(smaller, archive)
    assert np.mean([1 + len(caption.also) for caption in done.captions]) == pytest.approx(2.01, abs=0.005)
    assert coverage(done).also / 15_753 == pytest.approx(0.211, abs=0.0005)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "split", "share", "most"), [("charades", "test", 1_586 / 3_720, None), ("tvr", "val", 808 / 8_097, 18)]
)
def test_labels_of_real_captions(shared: Path, name: str, split: str, share: float, most: int | None) -> None:
    archive = shared / "data" / "annotations" / "prvr_multigt" / "multigt_labels.zip"
    done = with_positives(real(shared, name, split), archive)
    labelled = [caption for caption in done.captions if name != "tvr" or caption.kind == "v"]
    assert np.mean([bool(caption.also) for caption in labelled]) == pytest.approx(share)
    assert coverage(done).also == sum(bool(caption.also) for caption in labelled)
    assert most is None or max(1 + len(caption.also) for caption in labelled) == most
