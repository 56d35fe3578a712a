"""The published packages: their files as features and captions, beside what the published code reads from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from published import FIXTURES, arrays, numbers, parameters

import prvr
from prvr.batch import Reading, video_item
from prvr.datasets.published import load
from prvr.errors import DataError
from prvr.features import columns, place
from prvr.features.bigfile import BigFile
from prvr.features.package import CaptionKeys, open_package, published_features
from prvr.features.shelf import student_features, teacher_features
from prvr.features.sources import FeatureSources, Source
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig

ROOT = FIXTURES / "dataset"
FRAMES = Path("FeatureData/i3d_toy")
CLIP = Path("TextData/clip_ViT_B_32_toy_query_feat.hdf5")
VIDEO, OTHER = "v_train0_Ab0", "v_train1_Ab1"


def toy() -> tuple[prvr.FeatureSet, FeatureSources]:
    return published_features(ROOT, "toy", visual_feature="i3d_toy")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the toy package to break; its collection folder."""
    folder = tmp_path / "toy"
    for path in (ROOT / "toy").rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(ROOT / "toy")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return folder


# As the published code reads them


def test_items_are_those_of_the_published_code() -> None:
    features, dataset = toy(), load(ROOT, "toy", "train")
    expected, fixture = numbers("dataset/expected_train.json"), arrays("dataset/expected_train.npz")
    assert list(dataset.video_ids) == expected["train_video_ids"]
    reading = Reading(12, 10, 128, 30, unit=True, text="words")
    for number, about in enumerate(expected["items"]):
        captions = [caption.id for caption in dataset.captions if caption.video == about["video_id"]]
        assert captions == about["cap_ids"]
        item = video_item(about["video_id"], captions, features, reading)
        np.testing.assert_allclose(item.frames, fixture[f"item{number}_student"], atol=1e-6)
        np.testing.assert_allclose(item.teachers[0][0], fixture[f"item{number}_teacher"], rtol=1e-5, atol=1e-6)
        for k, words in enumerate(item.words):
            np.testing.assert_allclose(words, fixture[f"item{number}_cap{k}"], atol=1e-6)
            np.testing.assert_allclose(item.teachers[0][1][k], fixture[f"item{number}_clipcap{k}"].reshape(-1), atol=1e-6)


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_is_that_of_the_published_code(split: str) -> None:
    model = DlDkd(DlDkdConfig(hidden=16, heads=4, margin=0.1), frame_columns=12, word_columns=10)
    model.load_state_dict(parameters("dataset/params.npz", next(model.parameters()).dtype))
    result = prvr.evaluate_model(model.eval(), load(ROOT, "toy", split), toy())
    expected = numbers("dataset/expected_eval.json")[split]
    assert result.retrieval.sumr == pytest.approx(expected["fused"]["SumR"])
    order = [result.captions.index(id) for id in expected["query_ids"]]
    assert list(result.videos) == expected["video_ids"]
    np.testing.assert_allclose(result.scores[order], arrays("dataset/expected_eval.npz")[f"{split}_fused_scores"], atol=1e-5)


def test_a_student_is_trained(tmp_path: Path) -> None:
    features = toy()
    assert features.sources == FeatureSources(Source("i3d_toy", 12), Source("roberta", 10))
    recipe = prvr.Recipe("dl_dkd", DlDkdConfig(hidden=16), prvr.Training(epochs=2, batch_videos=4))
    data = prvr.Data(load(ROOT, "toy", "train"), load(ROOT, "toy", "val"), features)
    best = prvr.train_student(tmp_path, recipe, data=data)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2
    assert prvr.evaluate_model(best.model, data.dev, features).retrieval.sumr == pytest.approx(best.about["dev"]["sumr"])


# The package as a whole


def test_without_a_teacher_its_files_need_not_be_there(package: Path) -> None:
    (package / CLIP).unlink()
    with pytest.raises(DataError, match=r"no sentences of the teacher at .*clip_ViT_B_32_toy.*no-distillation"):
        published_features(package.parent, "toy", visual_feature="i3d_toy")
    features = published_features(package.parent, "toy", visual_feature="i3d_toy", teacher=None)
    assert features.teachers == ()
    assert features.frames[VIDEO].shape == (9, 12)


def test_names_that_are_not_there_are_named_with_the_nearest(package: Path) -> None:
    with pytest.raises(DataError, match=r"no frame features 'i3d'.*did you mean 'i3d_toy'"):
        published_features(ROOT, "toy", visual_feature="i3d")
    with pytest.raises(DataError, match="ROOT/COLLECTION/FeatureData/NAME"):
        published_features(ROOT, "tvr", visual_feature="i3d")
    with pytest.raises(DataError, match=r"the teacher 'clip'.*did you mean 'clip_vit_b32'|known: clip_vit_b32"):
        published_features(ROOT, "toy", visual_feature="i3d_toy", teacher="clip")
    (package / "TextData" / "roberta_toy_query_feat.hdf5").unlink()
    with pytest.raises(DataError, match=r"no words at .*roberta_toy_query_feat.hdf5"):
        published_features(package.parent, "toy", visual_feature="i3d_toy")


def test_other_files_are_found_by_their_names(package: Path) -> None:
    frames, texts = package / "FeatureData", package / "TextData"
    shutil.copy(frames / "new_clip_vit_32_toy_vid_features.hdf5", frames / "clip_l14_toy_vid_features.hdf5")
    shutil.copy(texts / "clip_ViT_B_32_toy_query_feat.hdf5", texts / "clip_l14_toy_query_feat.hdf5")
    shutil.copy(texts / "roberta_toy_query_feat.hdf5", texts / "minilm_toy_query_feat.hdf5")
    opened = open_package(package)
    assert (list(opened.visual), sorted(opened.teachers), sorted(opened.words)) == (
        ["i3d_toy"],
        ["clip_l14", "clip_vit_b32"],
        ["minilm", "roberta"],
    )
    features = student_features(package, frames="clip_l14", words="minilm", teachers=["clip_vit_b32", "clip_l14"])
    assert features.sources == FeatureSources(Source("clip_l14", 8), Source("minilm", 10))
    assert np.array_equal(features.frames[VIDEO], features.teachers[1].frames[VIDEO])
    assert len(features.teachers) == 2
    assert teacher_features(package, "clip_l14").sources == FeatureSources(Source("clip_l14", 8), Source("clip_l14", 8))
    with pytest.raises(DataError, match=r"no words at .*minilmm_toy_query_feat.hdf5; did you mean 'minilm'"):
        student_features(package, frames="i3d_toy", words="minilmm")
    with pytest.raises(DataError, match=r"the teacher 'clip_l1'; did you mean 'clip_l14'"):
        student_features(package, frames="i3d_toy", words="roberta", teachers=["clip_l1"])
    (texts / "clip_l14_toy_query_feat.hdf5").unlink()
    with pytest.raises(DataError, match=r"no sentences of the teacher at .*clip_l14_toy_query_feat.hdf5"):
        teacher_features(package, "clip_l14")


def test_a_folder_that_is_no_package_says_both_ways_on(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"there are none of any encoder; .*prvr extract VIDEOS .* or name the folder ROOT/COLLECTION"
    ):
        student_features(tmp_path, frames="i3d", words="roberta")


@pytest.mark.parametrize("stored", ["v{}#enc#{}", "v{}#{}"])
def test_caption_keys_in_either_spelling(tmp_path: Path, stored: str) -> None:
    with h5py.File(tmp_path / "text.hdf5", "w") as file:
        for k in range(3):
            file[stored.format(k, k)] = np.full((1, 4), k, np.float32)
    features = CaptionKeys(prvr.open_features(tmp_path / "text.hdf5"))  # type: ignore[arg-type]
    assert [(f"v{k}#enc#{k}" in features, f"v{k}#{k}" in features) for k in (0, 2, 3)] == [(True,) * 2, (True,) * 2, (False,) * 2]
    for k in range(3):
        assert features[f"v{k}#enc#{k}"].tolist() == features[f"v{k}#{k}"].tolist() == [[k] * 4]
    assert [features[id][0, 0] for id in features] == [0, 1, 2]
    assert len(features) == 3
    assert 3 not in features
    assert (columns(features), place(features)) == (4, str(tmp_path / "text.hdf5"))


def test_missing_caption_features_are_named_with_their_file(package: Path) -> None:
    with h5py.File(package / CLIP, "a") as file:
        del file[f"{VIDEO}#0"]
    features = published_features(package.parent, "toy", visual_feature="i3d_toy")
    data = prvr.Data(load(ROOT, "toy", "train"), load(ROOT, "toy", "val"), features)
    recipe = prvr.Recipe("dl_dkd", DlDkdConfig(hidden=16), prvr.Training(epochs=1))
    with pytest.raises(DataError, match=rf"caption '{VIDEO}#enc#0' in .*clip_ViT_B_32_toy.*\(1 of \d+ are missing\)"):
        prvr.train_student(package.parent / "run", recipe, data=data)


# BigFile


def test_bigfile_by_hand(tmp_path: Path) -> None:
    rows = write(tmp_path, "{'a': ['x', 'y'], \"b's\": [ 'z','x' ,], u'c': ['w', 'y'], 'none': [], 'q\\'\\x41': ['w']}")
    features = prvr.open_features(tmp_path)
    assert isinstance(features, BigFile)
    assert list(features) == ["a", "b's", "c", "none", "q'A"]
    assert (len(features), "a" in features, "x" in features) == (5, True, False)
    for video, places in {"a": [0, 1], "b's": [2, 0], "c": [3, 1], "none": [], "q'A": [3]}.items():
        np.testing.assert_array_equal(features[video], rows[places])
    assert (columns(features), features.columns, place(features)) == (3, 3, str(tmp_path))
    assert features["a"].dtype == np.float32
    with pytest.raises(KeyError):
        features["d"]
    with pytest.raises(ValueError, match="read-only"):
        features["a"][0] = 1


def test_frames_that_lie_together_are_a_view(tmp_path: Path) -> None:
    write(tmp_path, "{'a': ['y', 'z'], 'b': ['y', 'w']}")
    features = BigFile(tmp_path)
    assert np.shares_memory(features["a"], features["a"])
    assert not np.shares_memory(features["b"], features["b"])


def test_json_and_python_are_the_same(tmp_path: Path) -> None:
    frames = {"a": ["x"], "é/\\b'\"": ["y", "z"], "\U0001f600": ["w"]}
    for text in (repr(frames), json.dumps(frames), json.dumps(frames, ensure_ascii=False, indent=2), f"\n{frames} \n"):
        write(tmp_path, text)
        assert {video: len(rows) for video, rows in BigFile(tmp_path).items()} == {v: len(f) for v, f in frames.items()}


def test_names_are_latin_1(tmp_path: Path) -> None:
    write(tmp_path, "{'a': ['\xe9']}", names="\xe9 y\nz\t w".encode("iso-8859-1"))
    assert BigFile(tmp_path)["a"].tolist() == [[0, 1, 2]]


def write(folder: Path, frames: str, *, names: bytes = b"x y z w") -> np.ndarray:
    rows = np.arange(12, dtype="<f4").reshape(4, 3)
    (folder / "feature.bin").write_bytes(rows.tobytes())
    (folder / "shape.txt").write_text("4 3\n")
    (folder / "id.txt").write_bytes(names)
    (folder / "video2frames.txt").write_text(frames, encoding="utf-8")
    return rows


@pytest.mark.parametrize("name", ["feature.bin", "id.txt", "shape.txt", "video2frames.txt"])
def test_a_missing_file_is_named(package: Path, name: str) -> None:
    (package / FRAMES / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing; it holds .*copy all four"):
        prvr.open_features(package / FRAMES)


BROKEN: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "cut short": ("feature.bin", lambda data: data[:-4], r"37964 bytes; shape.txt says 791 rows of 12 columns.*37968"),
    "too long": ("feature.bin", lambda data: data + b"\0", "37969 bytes"),
    "rows": ("shape.txt", lambda data: b"790 12", r"37968 bytes; shape.txt says 790 rows of 12 columns.*37920"),
    "one number": ("shape.txt", lambda data: b"791", r"reads b'791'; it takes the number of rows and of columns"),
    "no number": ("shape.txt", lambda data: b"791 x2", "reads b'791 x2'"),
    "no rows": ("shape.txt", lambda data: b"0 12", "reads b'0 12'"),
    "negative": ("shape.txt", lambda data: b"-1 -9492", "reads b'-1 -9492'"),
    "endless": ("shape.txt", lambda data: b"9" * 5000 + b" 12", "it takes the number"),
    "a name less": ("id.txt", lambda data: data.rsplit(None, 1)[0], "has 790 names, shape.txt says 791 rows"),
    "another name": ("id.txt", lambda data: data.replace(b"v_train0_Ab0_3", b"else"), rf"'{VIDEO}_3' of video '{VIDEO}'"),
    "not UTF-8": ("video2frames.txt", lambda data: data.replace(b"Ab0_3", b"\xe9"), "is not UTF-8 text at byte"),
}


@pytest.mark.parametrize(("name", "change", "said"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file_is_refused(package: Path, name: str, change: Callable[[bytes], bytes], said: str) -> None:
    path = package / FRAMES / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=said) as caught:
        BigFile(package / FRAMES)
    assert str(package / FRAMES) in str(caught.value)


HOSTILE = {
    "code": "{'v': [__import__('os').system('touch X')]}",
    "code alone": "__import__('os').system('touch X')",
    "code after": "{'v': ['x']}\n__import__('os').system('touch X')",
    "code as a key": "{__import__('os').system('touch X'): ['x']}",
    "code in a formatted name": "{f\"{__import__('os').system('touch X')}\": ['x']}",
    "code in a list made": "{'v': [x for x in [__import__('os').system('touch X')]]}",
    "a number": "{'v': 3}",
    "numbers": '{"v": [1, 2]}',
    "bytes": "{'v': [b'x']}",
    "a text": "{'v': 'x'}",
    "nothing": "",
    "nothing but a list": '["x"]',
    "a nested dict": '{"v": {"x": ["x"]}}',
    "a nested list": "{'v': [['x']]}",
    "no end": "{'v': ['x']",
    "an open name": "{'v': ['x",
    "two names in one": "{'v': ['x' 'y']}",
    "a bad escape": "{'v': ['\\x4']}",
    "a zero byte": "{'v': ['\\n\0']}",
    "deep, closed": "{'v': " + "[" * 200_000 + "]" * 200_000 + "}",
    "deep JSON": '{"v": ' + '{"v": ' * 200_000,
    "deep signs": "{'v': " + "-" * 200_000 + "1}",
    "long and wrong at its end": "{'v': [" + "'x', " * 200_000 + "3]}",
    "many blanks": "{'v': ['x'" + " " * 200_000 + "!]}",
    "many backslashes": "{'v': ['" + "\\\\" * 200_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_frames_are_refused_and_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text)
    with pytest.raises(DataError, match=r"video2frames\.txt") as caught:
        BigFile(tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 400
    assert not (tmp_path / "X").exists()


# Captions


def captions(root: Path, text: bytes) -> prvr.Dataset:
    folder = root / "mine" / "TextData"
    folder.mkdir(parents=True)
    (folder / "minetrain.caption.txt").write_bytes(text)
    return load(root, "mine", "train")


def test_captions_by_hand(tmp_path: Path) -> None:
    text = "b#enc#1 A man  runs. #1\r\na#enc#0 He\u2028sits.\n\nb#0 été\nc One more"
    dataset = captions(tmp_path, text.encode())
    assert [(c.id, c.video, c.text) for c in dataset.captions] == [
        ("b#enc#1", "b", "A man  runs. #1"),
        ("a#enc#0", "a", "He\u2028sits."),
        ("b#0", "b", "été"),
        ("c", "c", "One more"),
    ]
    assert (dataset.name, dataset.split, dataset.video_ids) == ("mine", "train", ("b", "a", "c"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a#enc#0 One.\n\na#enc#1\n", r"line 3: the caption 'a#enc#1' is empty"),
        (b"a#enc#0 One.\na#enc#1   \n", r"line 2: the caption 'a#enc#1' is empty"),
        (b"a#enc#0 One.\na#enc#0 Two.\n", r"line 2: the id 'a#enc#0' is used"),
        (b"#enc#0 One.\n", r"line 1: the id '#enc#0' names no video"),
        (b"a#enc#0 One.\na#enc#1 \xe9t\xe9\n", r"line 2: this is not UTF-8 text; save the file as UTF-8"),
        (b"\n \n", r"minetrain.caption.txt holds no captions"),
    ],
)
def test_broken_captions_are_refused(tmp_path: Path, text: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        captions(tmp_path, text)


def test_a_split_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"no captions at .*toydev.caption.txt; the splits there: test, train, val"):
        load(ROOT, "toy", "dev")
    with pytest.raises(DataError, match="ROOT/COLLECTION/TextData"):
        load(ROOT, "tvr", "train")


def test_a_folder_that_has_not_the_name_of_its_collection(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "toy" / "TextData", tmp_path / "TVR-new" / "TextData")
    with pytest.raises(
        DataError, match=r"no captions at .*; the files there are of 'toy': call the folder TVR-new toy, or link to it"
    ):
        load(tmp_path, "TVR-new", "train")
