"""TeachText: kept similarities, students of trained models, captions left out, the table and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Answer, Prvr, says
from toy_world import FRAMES, READS, WORDS, toy_world

from prvr.batch import Batch
from prvr.datasets import Caption, Dataset
from prvr.errors import DataError, SettingError
from prvr.evaluate.evaluation import evaluate_model
from prvr.features import FeatureSet
from prvr.features.joined import JoinedFeatures
from prvr.features.sources import FeatureSources, Source
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.collaborative_experts import CollaborativeExpertsConfig
from prvr.methods.distiller import Distiller
from prvr.nn.losses import ownership
from prvr.papers.plan import Materials, Plan
from prvr.papers.run import score_rows
from prvr.papers.tables import TABLES
from prvr.papers.toy import write_toy
from prvr.train.denoising import denoise, out_of_fold_ranks
from prvr.train.loop import Data, Recipe, Training, train_student
from prvr.train.presets import preset
from prvr.train.recipe import change
from prvr.train.similarities import Similarities, keep_similarities, open_similarities, similarities

TEACHTEXT = preset("teachtext/toy").distillation
ONE = CollaborativeExpertsConfig(hidden=16, clusters=4, reads_padding=False)
QUICK = Training(lr=3e-3, epochs=2, batch_videos=13, seed=1)


def trained(out: Path, data: Data, **changes: Any) -> Checkpoint:
    recipe = Recipe("collaborative_experts", replace(ONE, **changes), replace(QUICK, epochs=1))
    return train_student(out, recipe, data=data)


def test_similarities_are_the_scores_of_the_index_and_stay_on_disk(tmp_path: Path) -> None:
    data = toy_world(videos=20)
    teacher = trained(tmp_path / "teacher", data)
    kept = keep_similarities(tmp_path / "kept", teacher, data.train, data.features)
    found = evaluate_model(teacher.model, data.train, data.features)
    ours = kept.between(found.captions, found.videos).numpy()
    np.testing.assert_allclose(ours, found.scores, atol=1e-3)
    some = kept.between(found.captions[3:5], [found.videos[2]]).numpy()
    np.testing.assert_array_equal(some, ours[3:5, 2:3])
    before = (tmp_path / "kept" / "scores.npy").stat().st_mtime_ns
    again = keep_similarities(tmp_path / "kept", teacher, data.train, data.features)
    assert (tmp_path / "kept" / "scores.npy").stat().st_mtime_ns == before
    assert again.about == kept.about
    other = trained(tmp_path / "other", data, hidden=8)
    assert keep_similarities(tmp_path / "kept", other, data.train, data.features).about["model"] == other.fingerprint
    with pytest.raises(DataError, match="has no scores of caption 'nobody#0'"):
        kept.between(["nobody#0"], [found.videos[0]])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("about.json", b"{"),
        ("about.json", b"[]"),
        ("about.json", b'{"captions": [[1]], "videos": []}'),
        ("about.json", b'{"captions": ["one"], "videos": ["a", "b"]}'),
        ("scores.npy", b"\x80\x04."),
        ("scores.npy", b""),
        ("scores.npy", None),
    ],
)
def test_broken_similarities(tmp_path: Path, file: str, content: bytes | None) -> None:
    (tmp_path / "about.json").write_text(json.dumps({"captions": ["one"], "videos": ["a", "b", "c"]}))
    np.save(tmp_path / "scores.npy", np.zeros((1, 3), np.float16))
    assert open_similarities(tmp_path).between(["one"], ["c", "a"]).shape == (1, 2)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match="make them again"):
        open_similarities(tmp_path)


def truth(dataset: Dataset) -> Similarities:
    """1 where a caption is about a video, 0 elsewhere: the best of teachers."""
    rows = {caption.id: row for row, caption in enumerate(dataset.captions)}
    columns = {video: column for column, video in enumerate(dataset.video_ids)}
    scores = np.zeros((len(rows), len(columns)), np.float16)
    for caption in dataset.captions:
        scores[rows[caption.id], columns[caption.video]] = 1
    return Similarities(scores, rows, columns, {"model": "truth"})


def test_kept_scores_stand_in_the_order_of_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = toy_world(), []
    objective = Distiller.objective

    def watched(distiller: Any, model: Any, queries: Any, videos: Any, batch: Batch, epoch: int, kept: Any) -> Any:
        (matrix,) = kept
        torch.testing.assert_close(matrix, ownership(batch.target, len(batch.frames)).float())
        seen.append(matrix.shape)
        return objective(distiller, model, queries, videos, batch, epoch, kept)

    monkeypatch.setattr(Distiller, "objective", watched)
    recipe = Recipe("collaborative_experts", ONE, QUICK, TEACHTEXT)
    best = train_student(tmp_path, recipe, data=replace(data, similarities=(truth(data.train),)))
    assert len(seen) == 2 * 4
    assert len(set(seen)) > 1
    assert best.about["distillation"]["distillation_loss"] == "huber"


def test_kept_scores_need_a_recipe_that_distils(tmp_path: Path) -> None:
    data = replace(toy_world(), similarities=(truth(toy_world().train),))
    with pytest.raises(SettingError, match="its recipe distils nothing; add distillation_target=batch_matrix"):
        train_student(tmp_path, Recipe("collaborative_experts", ONE, QUICK), data=data)
    for name, line in (
        ("no-distillation", "dl_dkd has teachers that are trained models, and its recipe distils nothing"),
        ("dl-dkd/toy", "distillation_target is 'frame_profile', .* take distillation_target=batch_matrix"),
    ):
        with pytest.raises(SettingError, match=line):
            train_student(tmp_path, preset(name), data=data)
    # A target says nothing without a weight.
    idle = change(preset("ms-sl/toy"), ["distillation_target=batch_matrix"])
    with pytest.raises(SettingError, match="its recipe distils nothing; add"):
        train_student(tmp_path, idle, data=data)
    told = replace(TEACHTEXT, distillation_target="frame_profile")
    with pytest.raises(SettingError, match="take distillation_target=batch_matrix"):
        train_student(tmp_path, Recipe("xml", preset("xml/toy").settings, QUICK, told), data=data)


def test_trained_models_teach_dl_dkd_as_they_teach_others(tmp_path: Path) -> None:
    data = replace(toy_world(), similarities=(truth(toy_world().train),))
    small = ["hidden=8", "heads=2", "epochs=1", "batch_videos=20", "distillation_target=batch_matrix", "distillation_weight=1"]
    recipe = change(preset("dl-dkd++/toy"), [*small, "distillation_aggregate=learned"])
    best = train_student(tmp_path / "both", recipe, data=data)
    assert best.about["distillation"]["distillation_aggregate"] == "learned"
    assert {"distillation", "teacher_shares"} <= json.loads((tmp_path / "both" / "history.jsonl").read_text())["losses"].keys()
    alone = replace(data, features=data.features.without_teachers)
    train_student(tmp_path / "alone", change(preset("no-distillation"), small), data=alone)
    other = replace(alone, similarities=(replace(truth(data.train), about={"model": "another"}),))
    with pytest.raises(SettingError, match="holds a run with similarities"):
        train_student(tmp_path / "alone", change(preset("no-distillation"), small), data=other)


def test_a_student_comes_nearer_to_its_teachers(tmp_path: Path) -> None:
    data = toy_world(videos=60, things=12)
    data = replace(data, features=data.features.without_teachers)
    # A student alone tells right from wrong by more than this teacher does: 1 and 0.5.
    known = truth(data.train)
    teacher = replace(known, scores=known.scores / 2 + 0.5)
    recipe = Recipe("collaborative_experts", ONE, Training(lr=3e-3, epochs=12, batch_videos=10, seed=1))
    alone = train_student(tmp_path / "alone", recipe, data=data)
    heeding = replace(recipe, distillation=replace(TEACHTEXT, distillation_weight=20.0))
    taught = train_student(tmp_path / "taught", heeding, data=replace(data, similarities=(teacher,)))

    def distance(student: Checkpoint) -> float:
        found = evaluate_model(student.model, data.train, data.features)
        return float(np.square(found.scores - teacher.between(found.captions, found.videos).numpy()).mean())

    assert distance(taught) < 0.5 * distance(alone)


# Denoising


def test_captions_are_kept_by_their_combined_rank() -> None:
    captions = tuple(Caption(f"v#{k}", "v", f"thing {k}", 0.0, 1.0) for k in range(3))
    dataset = Dataset("toy", "train", captions, ("v", "w"))
    ranks = [{"v#0": 1, "v#1": 90, "v#2": 100}, {"v#0": 3, "v#1": 120, "v#2": 100}, {"v#0": 2, "v#1": 99, "v#2": 101}]
    kept = {"mean": {"v#0"}, "median": {"v#0", "v#1"}, "any": {"v#0", "v#1"}, "all": {"v#0"}}
    for combine, ids in kept.items():
        left = denoise(dataset, ranks, below=100, combine=combine)  # type: ignore[arg-type]
        assert {caption.id for caption in left.captions} == ids
        assert left.video_ids == ("v", "w")
    with pytest.raises(DataError, match="no caption of 3 ranks its own video below 1"):
        denoise(dataset, ranks, below=1)
    with pytest.raises(DataError, match="'v#2' has no rank by every teacher"):
        denoise(dataset, [*ranks, {"v#0": 1, "v#1": 1}], below=100)


def test_ranks_are_out_of_fold_and_find_the_noise(tmp_path: Path) -> None:
    data = toy_world(videos=90, things=6)
    # A tenth of the captions say something else.
    wrong = [caption.id for caption in data.train.captions[::10]]
    words = dict(data.features.text)
    draw = np.random.default_rng(5)
    for id in wrong:
        words[id] = draw.normal(size=words[id].shape).astype(np.float32)
    noisy = replace(data, features=FeatureSet(data.features.frames, words, READS))
    recipe = Recipe("collaborative_experts", replace(ONE, hidden=32), Training(lr=3e-3, epochs=10, batch_videos=20, seed=1))
    ranks = out_of_fold_ranks(tmp_path, recipe, data=noisy, folds=2)
    assert ranks.keys() == {caption.id for caption in data.train.captions}
    assert all(1 <= rank <= len(data.train.video_ids) for rank in ranks.values())
    right = [rank for id, rank in ranks.items() if id not in wrong]
    assert np.mean([ranks[id] for id in wrong]) > np.mean(right) + 5
    folds = [checkpoints.load(tmp_path / f"fold{fold}").fingerprint for fold in range(2)]
    assert folds[0] != folds[1]
    with pytest.raises(SettingError, match="folds is 1; take from 2"):
        out_of_fold_ranks(tmp_path, recipe, data=noisy, folds=1)


def test_a_teacher_reads_features_of_its_own(tmp_path: Path) -> None:
    # Another text encoder, and one expert more than the student's.
    data = toy_world()
    more = JoinedFeatures([(data.features.frames, FRAMES), (data.features.teachers[0].frames, 12)])
    other = {id: np.concatenate([rows, rows[:, :2]], 1) for id, rows in data.features.text.items()}
    recipe = Recipe("collaborative_experts", replace(ONE, experts=(FRAMES, 12)), QUICK)
    sources = FeatureSources(Source("toy_frames+more", FRAMES + 12), Source("other_words", WORDS + 2))
    features = FeatureSet(more, other, sources)
    teacher = train_student(tmp_path / "teacher", recipe, data=replace(data, features=features))
    said = similarities(teacher, data.train, features)
    student_recipe = Recipe("collaborative_experts", ONE, QUICK, TEACHTEXT)
    plain = replace(data, features=data.features.without_teachers, similarities=(said, truth(data.train)))
    best = train_student(tmp_path / "student", student_recipe, data=plain)
    assert evaluate_model(best.model, data.dev, plain.features).retrieval.sumr > 0
    with pytest.raises(SettingError, match="holds a run with similarities"):
        train_student(tmp_path / "student", student_recipe, data=replace(plain, similarities=(truth(data.train), said)))


# The table, and the command line


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Materials:
    root = tmp_path_factory.mktemp("teachtext")
    package = write_toy(root, train_videos=16, test_videos=8)
    texts = {"words": "words", "vectors": "vectors"}
    return Materials(package, package, "toy_frames", texts, ("strong",))  # type: ignore[arg-type]


CHANGES = ("hidden=8", "clusters=2", "epochs=1", "batch_videos=8")


def test_the_table_trains_teachers_first_and_uses_them(tmp_path: Path, materials: Materials) -> None:
    trained: list[str] = []

    def told(note: str, done: int, total: int) -> None:
        trained.append(note)

    plan, table = Plan(seeds=1, changes=CHANGES), TABLES["teachtext"]
    scored = score_rows(table, tmp_path, materials, plan, on_progress=told)
    assert [one.left_out for one in scored] == [""] * len(table.rows)
    folders = sorted(path.parent for path in tmp_path.rglob("config.json"))
    assert len(folders) == len(table.rows)
    by_preset = {path.parent.name.rpartition("-")[0]: [] for path in folders}
    for path in folders:
        by_preset[path.parent.name.rpartition("-")[0]].append(json.loads((path / "config.json").read_text()))
    assert {name: len(runs) for name, runs in by_preset.items()} == {"collaborative-experts": 3, "teachtext": 3}
    assert all(run["about"]["distillation"]["distillation_loss"] == "huber" for run in by_preset["teachtext"])
    assert sorted(run["settings"]["experts"] for run in by_preset["collaborative-experts"])[-1] == [64, 32]
    trained.clear()
    score_rows(table, tmp_path, materials, plan, on_progress=told)
    assert trained == []
    one_text = replace(materials, texts={"words": "words"})
    reasons = [one.left_out for one in score_rows(table, tmp_path, one_text, plan, on_progress=told)]  # type: ignore[arg-type]
    assert reasons[1].startswith("for its teacher 'teacher: word vectors': it reads caption features of the kind 'vectors'")
    assert [bool(reason) for reason in reasons] == [False, True, False, True, True, False]


def test_a_run_teaches_another_from_the_command_line(tmp_path: Path, materials: Materials, prvr: Prvr) -> None:
    def train(out: str, *more: object) -> Answer:
        return prvr("train", materials.data, materials.data, tmp_path / out, *more, *CHANGES)

    teacher = ("--preset", "collaborative-experts/toy", "--frames", "toy_frames+strong", "--words", "vectors", "experts=64,32")
    answer = train("teacher", *teacher)
    assert answer.status == 0, answer.err
    student = ("--preset", "teachtext/toy", "--frames", "toy_frames", "--words", "words")
    answer = train("student", *student, "--teacher-run", tmp_path / "teacher")
    assert answer.status == 0, answer.err
    about = json.loads((tmp_path / "student" / "teachers" / "0" / "about.json").read_text())
    assert about["model"] == checkpoints.load(tmp_path / "teacher").fingerprint
    says(train("alone", *student), "distillation needs a teacher")
    assert not (tmp_path / "alone").exists()
    answer = prvr("evaluate", materials.data, materials.data, "--model", tmp_path / "teacher", "--split", "test")
    assert answer.status == 0, answer.err
