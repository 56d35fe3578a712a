"""Which of the original annotation files a package's split is given, on the real files and where none of them fits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from prvr.datasets import Caption
from prvr.datasets.annotations import coverage, load_annotations, subset
from prvr.datasets.splits import open_split
from prvr.errors import DataError
from prvr.features.package_check import check_package

FOLDERS = {"charades": "charades_sta", "qvhighlights_sources": "qvhighlights"}
SOURCES, SEGMENTS = "qvhighlights_sources", "qvhighlights"


def package(root: Path, name: str, **splits: Iterable[Caption]) -> Path:
    """A package with these captions, numbered within their videos."""
    folder = root / name
    (folder / "FeatureData").mkdir(parents=True)
    (folder / "TextData").mkdir()
    for split, captions in splits.items():
        count: Counter[str] = Counter()
        with (folder / "TextData" / f"{name}{split}.caption.txt").open("w") as file:
            for caption in captions:
                file.write(f"{caption.video}#enc#{count[caption.video]} {' '.join(caption.text.split())}\n")
                count[caption.video] += 1
    return folder


# The real files


MADE_OF = [
    ("tvr", "val", "tvr", "val"),
    ("tvr", "test", "tvr", "val"),
    ("activitynet", "val", "activitynet", "val_1"),
    ("activitynet", "test", "activitynet", "val_1"),
    ("activitynet", "test", "activitynet", "val_2"),
    ("charades", "val", "charades", "test"),
    ("charades", "test", "charades", "test"),
    ("msrvtt", "test", "msrvtt", "test-1k"),
    *((name, called, name, split) for name in ("tacos", SEGMENTS) for called in ("val", "test") for split in ("val", "test")),
    *((name, called, SOURCES, split) for name in (SEGMENTS, SOURCES) for called in ("val", "test") for split in ("val", "test")),
    (SOURCES, "test", SEGMENTS, "val"),
]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A release's files with what they say of the first videos or captions alone."""

    @cache
    def shortened(whole: Path) -> Path:
        folder = tmp_path_factory.mktemp(whole.name)
        for file in whole.iterdir():
            text = file.read_text()
            if file.suffix == ".json":
                # TACoS, the one with frame rates, says very much of each video.
                text = json.dumps(dict(list(json.loads(text).items())[: 2 if "fps" in text else 50]))
            (folder / file.name).write_text("".join(text.splitlines(keepends=True)[:150]))
        return folder

    return shortened


@pytest.mark.shared
@pytest.mark.parametrize(("collection", "called", "name", "split"), MADE_OF)
def test_each_caption_has_the_moments_of_its_own_release(
    shared: Path, short: Callable[[Path], Path], tmp_path: Path, collection: str, called: str, name: str, split: str
) -> None:
    folder = short(shared / "data" / "annotations" / FOLDERS.get(name, name))
    original = load_annotations(name, folder, split)
    found = open_split(package(tmp_path, collection, **{called: original.captions}), called, annotations=folder)
    assert [caption.moments for caption in found.captions] == [caption.moments for caption in original.captions]
    assert [caption.kind for caption in found.captions] == [caption.kind for caption in original.captions]
    assert found.durations == original.durations
    assert coverage(found).captions >= 75


@pytest.mark.shared
def test_a_list_of_some_videos_has_all_its_spans_and_a_handful_of_captions_is_no_annotation(
    shared: Path, short: Callable[[Path], Path], tmp_path: Path
) -> None:
    """ActivityNet's val_1 and val_2 are about the same videos, and say the same nine times."""
    folder = short(shared / "data" / "annotations" / "activitynet")
    first, second = (load_annotations("activitynet", folder, split) for split in ("val_1", "val_2"))
    (tmp_path / "val.json").symlink_to(folder / "val.json")
    some = subset(first, first.video_ids[::2]).captions
    made = package(tmp_path, "activitynet", val=some, test=(*second.captions, *first.captions[:9]))
    found = coverage(open_split(made, "val", annotations=tmp_path))
    assert (found.captions, found.spans, found.videos, found.durations) == (len(some), len(some), 25, 25)
    total = len(second.captions) + 9
    refused = rf"^of the {total} captions of activitynet test \S*val.json has 9; "
    with pytest.raises(DataError, match=rf"{refused}no annotations of split 'val_2' in .*; expected val_2.json or test.json, or"):
        open_split(made, "test", annotations=tmp_path)
    with pytest.raises(DataError, match=rf"{refused}use the file that they were taken from$"):
        open_split(made, "test", annotations=tmp_path / "val.json")
    for given in (folder, folder / "test.json"):
        assert coverage(open_split(made, "test", annotations=given)).spans == total - 9


@pytest.mark.shared
@pytest.mark.parametrize(("name", "said"), [(SOURCES, "source videos"), (SEGMENTS, "segments")])
def test_both_protocols_of_qvhighlights_have_published_sizes_under_either_name(
    shared: Path, tmp_path: Path, name: str, said: str
) -> None:
    captions = load_annotations(name, shared / "data" / "annotations" / "qvhighlights", "val").captions
    for collection in (SEGMENTS, SOURCES):
        splits = check_package(package(tmp_path, collection, val=captions, test=captions)).splits
        for split in ("val", "test"):
            assert (splits[split].as_published, splits[split].published) == (True, f"{said} of val")


# By hand


def lines(path: Path, *captions: Caption) -> None:
    rows = [
        {"vid_name": c.video, "desc_id": number, "duration": 9, "ts": [number, number + 1], "desc": c.text}
        for number, c in enumerate(captions)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


SAID = [Caption("", "ab"[number % 2], f"sentence {number}") for number in range(6)]


def test_half_of_the_captions_will_do_and_less_will_not(tmp_path: Path) -> None:
    made = package(tmp_path, "tvr", test=SAID)
    lines(tmp_path / "tvr_val_release.jsonl", *SAID[:3])
    assert coverage(open_split(made, "test", annotations=tmp_path)).spans == 3
    lines(tmp_path / "tvr_val_release.jsonl", *SAID[:2])
    with pytest.raises(DataError, match=r"of the 6 captions of tvr test \S*tvr_val_release.jsonl has 2; use the file") as caught:
        open_split(made, "test", annotations=tmp_path)
    assert "\n" not in str(caught.value)


def test_the_best_of_several_files_is_kept_and_of_equals_the_one_of_that_name(tmp_path: Path) -> None:
    made = package(tmp_path, "mine", test=SAID, val=SAID)
    lines(tmp_path / "val.jsonl", *SAID[:4])
    lines(tmp_path / "test.jsonl", *reversed(SAID[:4]))
    starts = [caption.start for caption in open_split(made, "test", annotations=tmp_path).captions]
    assert starts == [3, 2, 1, 0, None, None]
    assert [caption.start for caption in open_split(made, "val", annotations=tmp_path).captions][:4] == [0, 1, 2, 3]
    lines(tmp_path / "val.jsonl", *SAID[:5])
    assert coverage(open_split(made, "test", annotations=tmp_path)).spans == 5
    (tmp_path / "val.jsonl").unlink()
    assert coverage(open_split(made, "val", annotations=tmp_path)).spans == 4


def test_a_broken_file_is_named_unless_another_one_fits(tmp_path: Path) -> None:
    made = package(tmp_path, "mine", test=SAID)
    (tmp_path / "test.jsonl").write_text("{")
    lines(tmp_path / "val.jsonl", SAID[0])
    with pytest.raises(DataError, match=r"of mine test \S*val.jsonl has 1; \S*test.jsonl, line 1: this is not JSON"):
        open_split(made, "test", annotations=tmp_path)
    lines(tmp_path / "val.jsonl", *SAID)
    assert coverage(open_split(made, "test", annotations=tmp_path)).spans == 6
    (tmp_path / "val.jsonl").unlink()
    with pytest.raises(DataError, match=r"^\S*test.jsonl, line 1: this is not JSON"):
        open_split(made, "test", annotations=tmp_path)


def test_a_folder_without_annotations_is_named(tmp_path: Path) -> None:
    made = package(tmp_path, "tacos", test=SAID, train=SAID)
    for split in ("test", "train"):
        with pytest.raises(DataError, match=rf"no annotations of split '{split}' in .*; expected {split}.json or tacos_{split}_"):
            open_split(made, split, annotations=tmp_path)


def test_a_package_of_ones_own_may_know_few_spans(tmp_path: Path) -> None:
    made = package(tmp_path, "mine", test=SAID)
    (made / "annotations").mkdir()
    lines(made / "annotations" / "test.jsonl", SAID[0])
    assert coverage(open_split(made, "test")).spans == 1
