"""What chooses an epoch and what is reported: honest, validation and community, of a package and of a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_videos import plain, write_video

from prvr.datasets.published import load
from prvr.datasets.splits import carve, open_split, open_splits
from prvr.errors import DataError, SettingError
from prvr.papers.toy import write_toy


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), train_videos=20, test_videos=6)


def videos_of(*splits: object) -> list[set[str]]:
    return [{caption.video for caption in split.captions} for split in splits]  # type: ignore[attr-defined]


def test_an_honest_dev_split_is_carved_from_train(package: Path) -> None:
    splits = open_splits(package, seed=1)
    train, dev, test = videos_of(splits.train, splits.dev, splits.test)
    assert (len(train), len(dev), len(test)) == (17, 3, 6)
    assert not train & dev
    assert not (train | dev) & test
    whole = load(package.parent, package.name, "train")
    assert {c.id for c in splits.train.captions} | {c.id for c in splits.dev.captions} == {c.id for c in whole.captions}
    assert (splits.protocol, splits.train.split, splits.dev.split, splits.test.split) == ("honest", "train", "dev", "test")


def test_the_seed_carves(package: Path) -> None:
    first, again, other = (videos_of(open_splits(package, seed=seed).dev)[0] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_community_chooses_on_what_it_reports(package: Path) -> None:
    splits = open_splits(package, protocol="community")
    assert splits.dev == splits.test
    assert len(videos_of(splits.train)[0]) == 20
    assert splits.protocol == "community"


def test_a_packages_own_val_chooses_the_epoch(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / package.name
    shutil.copytree(package, copy)
    captions = copy / "TextData" / f"{package.name}val.caption.txt"
    whole = (copy / "TextData" / f"{package.name}train.caption.txt").read_text().splitlines(keepends=True)
    ours = [line for line in whole if line.partition("#")[0] in {whole[0].partition("#")[0], whole[-1].partition("#")[0]}]
    captions.write_text("".join(ours))
    # The toy's own annotations of `val` are those of its test list.
    (copy / "annotations" / "val.jsonl").unlink()
    splits = open_splits(copy, protocol="validation")
    assert (splits.protocol, splits.dev.split, splits.test.split) == ("validation", "val", "test")
    assert len(splits.dev.captions) == len(ours)
    assert len(videos_of(splits.train)[0]) == 20
    assert splits.test.captions == open_split(copy, "test").captions


def test_a_val_list_that_is_the_test_list_chooses_nothing(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / package.name
    shutil.copytree(package, copy)
    text = copy / "TextData"
    (text / f"{package.name}val.caption.txt").unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"no captions at .*val\.caption\.txt; the splits there: "):
        open_splits(copy, protocol="validation")
    shutil.copyfile(text / f"{package.name}test.caption.txt", text / f"{package.name}val.caption.txt")
    count = len(open_split(copy, "test").captions)
    with pytest.raises(DataError, match=rf"{count} of the {count} captions .* in val are those of test.*--protocol honest"):
        open_splits(copy, protocol="validation")


def test_a_folder_has_no_list_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is a folder of videos, which has no list `val`; take honest"):
        open_splits(tmp_path, protocol="validation")


def test_a_folder_has_both_protocols(tmp_path: Path) -> None:
    lines = []
    for number in range(8):
        write_video(tmp_path / f"{number}.mp4", [(0, plain("red")), (100, plain("red"))])
        lines.append(json.dumps({"video": f"{number}.mp4", "text": f"caption {number}"}) + "\n")
    (tmp_path / "captions.jsonl").write_text("".join(lines))
    honest, community = open_splits(tmp_path), open_splits(tmp_path, protocol="community")
    assert not videos_of(honest.dev)[0] & videos_of(honest.test)[0]
    assert community.dev == community.test == honest.test
    assert community.train == honest.train


def test_spans_come_with_a_package_or_from_a_folder(package: Path, tmp_path: Path) -> None:
    own = open_split(package, "test")
    assert all(caption.start is not None for caption in own.captions)
    (package / "annotations" / "test.jsonl").rename(tmp_path / "test.jsonl")
    try:
        assert open_split(package, "test").captions[0].start is None
        assert open_split(package, "test", annotations=tmp_path).captions == own.captions
    finally:
        (tmp_path / "test.jsonl").rename(package / "annotations" / "test.jsonl")


def test_an_unknown_protocol_and_too_few_videos_are_refused(package: Path) -> None:
    with pytest.raises(SettingError, match="unknown protocol 'honset'; did you mean 'honest'"):
        open_splits(package, protocol="honset")
    whole = load(package.parent, package.name, "train")
    few = type(whole)("few", "train", whole.captions[:1], whole.video_ids[:3])
    with pytest.raises(DataError, match="few has 3 training videos; a dev split cannot be carved"):
        carve(few, seed=0)
