"""The toy world's package: whole, readable as any other, and hard in the way it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dl_dkd import PLAIN

from prvr.datasets import Dataset
from prvr.datasets.published import load
from prvr.datasets.splits import open_splits
from prvr.errors import SettingError
from prvr.evaluate.evaluation import evaluate_model
from prvr.features import FeatureSet, TeacherFeatures
from prvr.features.shelf import student_features, teacher_features
from prvr.features.sources import FeatureSources, Source
from prvr.methods import checkpoint as checkpoints
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.zero_shot import ZeroShot, ZeroShotConfig
from prvr.papers.toy import TEACHER_COLUMNS, TEACHERS, WORD_COLUMNS, is_toy, write_toy
from prvr.train.loop import Data, Recipe, Training, train_student


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), train_videos=80, test_videos=60)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much to learn, and little to evaluate after each epoch."""
    return write_toy(tmp_path_factory.mktemp("learnt"), train_videos=80, test_videos=6)


def sumr(package: Path, teacher: str, test: Dataset) -> float:
    features = teacher_features(package, teacher)
    model = ZeroShot(ZeroShotConfig(), frame_columns=TEACHER_COLUMNS, word_columns=TEACHER_COLUMNS)
    return evaluate_model(model, test, features).retrieval.sumr


def test_a_strong_teacher_is_stronger(package: Path) -> None:
    test = load(package.parent, package.name, "test")
    figures = {name: sumr(package, name, test) for name in TEACHERS}
    assert figures["strong"] > figures["mediocre"] + 50
    assert min(figures.values()) > 130


def test_the_same_seed_makes_the_same_world(package: Path, tmp_path: Path) -> None:
    again = write_toy(tmp_path, train_videos=80, test_videos=60)
    for name in ("FeatureData/toy_frames/feature.bin", "TextData/toytrain.caption.txt", "annotations/test.jsonl"):
        assert (again / name).read_bytes() == (package / name).read_bytes(), name
    other = write_toy(tmp_path, collection="other", train_videos=80, test_videos=60, seed=1)
    assert (other / "annotations/test.jsonl").read_bytes() != (package / "annotations/test.jsonl").read_bytes()
    assert is_toy(package, train_videos=80, test_videos=60)
    assert not is_toy(package, train_videos=81, test_videos=60)
    assert not is_toy(tmp_path / "nowhere")


def test_moments_are_read_with_the_captions(package: Path) -> None:
    splits = open_splits(package)
    for caption in splits.test.captions:
        assert caption.start is not None
        assert caption.end is not None
        assert 0 < caption.start < caption.end <= splits.test.durations[caption.video]


def test_too_small_a_world_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="1 train and 5 test videos are too few"):
        write_toy(tmp_path, train_videos=1, test_videos=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("words", "words"),
        pytest.param("bi_gru", "vectors", marks=pytest.mark.thorough),
        pytest.param("graph", "roles", marks=pytest.mark.thorough),
    ],
)
def test_a_student_learns_with_each_text_backbone(learnt: Path, tmp_path: Path, backbone: str, words: str) -> None:
    package, splits = learnt, open_splits(learnt)
    features = student_features(package, frames="toy_frames", words=words, teachers=["strong"])
    settings = replace(
        DlDkdConfig(hidden=32, heads=2, max_frames=32, max_words=12, dropout=0.1, input_dropout=0.1),
        text_backbone=backbone,  # type: ignore[arg-type]
    )
    recipe = Recipe("dl_dkd", settings, Training(lr=1e-3, epochs=6, batch_videos=16), PLAIN)
    train_student(tmp_path / "run", recipe, data=Data(splits.train, splits.dev, in_memory(features)))
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["losses"]["distillation"] for line in lines]
    # At epoch e the distillation weighs 0.95 ** e of its first weight.
    assert losses[-1] / 0.95 ** (len(losses) - 1) < 0.9 * losses[0], losses


def in_memory(features: FeatureSet) -> FeatureSet:
    """Read once, and not in each epoch."""
    teachers = tuple(TeacherFeatures(dict(its.frames), dict(its.sentences)) for its in features.teachers)
    return FeatureSet(dict(features.frames), dict(features.text), features.sources, teachers)


def test_padding_words_changes_no_query_of_a_graph(package: Path) -> None:
    features = student_features(package, frames="toy_frames", words="roles")
    sources = FeatureSources(Source("toy_frames", 64), Source("roles", WORD_COLUMNS + 6))
    torch.manual_seed(0)
    model = checkpoints.build("dl_dkd", DlDkdConfig(hidden=16, heads=2, text_backbone="graph", max_words=12), sources).model
    assert isinstance(model, torch.nn.Module)
    model.eval()
    rows = torch.from_numpy(next(iter(features.text.values())))[None]
    padded = torch.cat([rows, torch.zeros(1, 3, rows.shape[2])], dim=1)
    mask = torch.arange(padded.shape[1])[None] < rows.shape[1]
    alone = model.encode_queries(rows, mask[:, : rows.shape[1]])
    with_padding = model.encode_queries(padded, mask)
    for one, two in zip(alone, with_padding, strict=True):
        torch.testing.assert_close(one, two)
