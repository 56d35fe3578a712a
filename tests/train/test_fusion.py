"""A teacher beside a trained student: the weighted sum that is asked, how the weight is found, and files from end to end."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Prvr, says
from method_checks import build, check_invariants, noise
from packed_toy import packed_toy
from tiny_encoders import make_roberta, make_textual, make_visual
from tiny_videos import plain, write_video

from prvr.batch import pad, read_frames, read_words
from prvr.config import to_dict
from prvr.datasets.splits import open_splits
from prvr.encoders import word_encoder
from prvr.errors import DataError, SettingError
from prvr.evaluate.evaluation import evaluate_model
from prvr.evaluate.saved_scores import QueryFacts, SavedScores
from prvr.extract.convert import convert_package
from prvr.features.joined import JoinedFeatures
from prvr.features.shelf import student_features, teacher_features
from prvr.features.sources import FeatureSources, Source, join_sources
from prvr.methods import checkpoint as checkpoints
from prvr.methods.beside_teacher import BesideTeacherConfig
from prvr.methods.checkpoint import features_for
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.gmmformer import GmmFormerConfig
from prvr.methods.hgr import HgrConfig
from prvr.methods.ms_sl import MsSlConfig
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.search import index_folder, open_index, zero_shot
from prvr.train.fusion import WEIGHTS, best_weight, fuse

FRAMES, WORDS, TEACHER = 20, 16, 12
STUDENTS: dict[str, Any] = {
    "dl_dkd": DlDkdConfig(hidden=8, heads=2, max_frames=16, max_words=8),
    "gmmformer": GmmFormerConfig(hidden=8, heads=2, max_frames=16, max_words=8, clips=4, window_length="max_frames"),
    "ms_sl": MsSlConfig(hidden=8, heads=2, max_frames=16, max_words=8, clips=4),
}


def settings(method: str, *, weight: float = 0.4) -> BesideTeacherConfig:
    return BesideTeacherConfig(method, to_dict(STUDENTS[method]), TEACHER, weight)


def both(frames: Source | None = None, text: Source | None = None) -> FeatureSources:
    return FeatureSources(
        join_sources([frames or Source("frames", FRAMES), Source("teacher", TEACHER)]),
        join_sources([text or Source("words", WORDS), Source("teacher", TEACHER)]),
    )


@pytest.mark.parametrize("method", STUDENTS)
def test_it_holds_what_every_method_does(method: str) -> None:
    model = build("beside_teacher", settings(method), both())
    assert (model.score_weights is None) == (method == "ms_sl")
    words = [noise(n, WORDS + TEACHER, seed=n) for n in (3, 1, 4, 6)]
    for rows in words:
        # A sentence stands beside each of its words.
        rows[:, WORDS:] = rows[0, WORDS:].clone()
    check_invariants(model, words)


@pytest.mark.parametrize("method", STUDENTS)
@torch.no_grad()
def test_the_score_is_the_sum_of_what_each_gives_alone(method: str) -> None:
    model = build("beside_teacher", settings(method), both())
    zero_shot_model = checkpoints.build(
        "zero_shot", ZeroShotConfig(), FeatureSources(Source("t", TEACHER), Source("t", TEACHER))
    ).model
    draw = np.random.default_rng(0)
    frames = [draw.normal(size=(n, FRAMES + TEACHER)).astype(np.float32) for n in (5, 3)]
    words = [
        np.concatenate([draw.normal(size=(n, WORDS)), np.repeat(draw.normal(size=(1, TEACHER)), n, 0)], 1) for n in (4, 2, 6)
    ]

    def scores(one: Any, seen: list[np.ndarray], spoken: list[np.ndarray]) -> torch.Tensor:
        video, mask = pad([read_frames(rows, one.reading) for rows in seen])
        query = pad([read_words(rows, one.reading) for rows in spoken])
        found: torch.Tensor = one.score(one.encode_queries(*query), one.encode_videos(video, mask), mask)
        return found

    student = scores(model.student, [rows[:, :FRAMES] for rows in frames], [rows[:, :WORDS] for rows in words])
    teacher = scores(zero_shot_model, [rows[:, FRAMES:] for rows in frames], [rows[:1, WORDS:] for rows in words])
    torch.testing.assert_close(scores(model, frames, words), 0.6 * student + 0.4 * teacher, atol=1e-5, rtol=1e-5)


def test_features_that_are_not_joined_are_refused() -> None:
    with pytest.raises(SettingError, match=r"words 12, the teacher's 12 among them; join .*NAME\+TEACHER"):
        checkpoints.build("beside_teacher", settings("dl_dkd"), FeatureSources(Source("f", 20), Source("w", 12)))
    with pytest.raises(SettingError, match=r"teacher_weight is 1.5; it takes a share"):
        settings("dl_dkd", weight=1.5)
    with pytest.raises(DataError, match=r"different rates \(a at 1.0, b at 2.0\); extract both at one --rate"):
        join_sources([Source("a", 3, rate=1.0), Source("b", 3, rate=2.0)])


def run(scores: np.ndarray) -> SavedScores:
    queries, videos = scores.shape
    nothing = np.full(queries, np.nan)
    facts = QueryFacts(("",) * queries, (None,) * queries, nothing, nothing, nothing, nothing)
    names = [tuple(f"{kind}{n:03d}" for n in range(count)) for kind, count in (("q", queries), ("v", videos))]
    return SavedScores(
        scores, names[0], names[1], np.arange(queries) % videos, np.zeros((0, 2), np.int64), facts, "s", "dev", "honest"
    )


def test_the_weight_is_the_least_that_is_not_clearly_worse() -> None:
    draw = np.random.default_rng(0)
    noisy = draw.normal(size=(300, 60)).astype(np.float32)
    right = np.zeros_like(noisy)
    right[np.arange(300), np.arange(300) % 60] = 1
    weight, sums = best_weight(run(noisy), run(right + 0.0 * noisy))
    assert sums[1.0] == 400
    # Where the student only disturbs, the teacher must weigh as much as it takes to silence it.
    assert sums[weight] > 390
    assert weight >= 0.7
    # A teacher that says nothing is left out, and so is one that says the same.
    assert best_weight(run(right), run(noisy))[0] == 0
    assert best_weight(run(right), run(right))[0] == 0
    # Two that know different halves of it are better together.
    first, second = noisy + 4 * right, draw.normal(size=noisy.shape).astype(np.float32) + 4 * right
    weight, sums = best_weight(run(first), run(second))
    assert 0 < weight < 1
    assert sums[0.5] > max(sums[0.0], sums[1.0])
    assert list(sums) == list(WEIGHTS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return packed_toy(tmp_path_factory.mktemp("fusion"), train_videos=24)


def test_a_trained_student_is_fused_kept_and_evaluated(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    package, packed = world
    names = ("--frames", "toy_frames", "--words", "words", "--teacher", "strong")
    small = ("--preset", "dl-dkd++/toy", "epochs=2", "hidden=8", "max_frames=128")
    trained = prvr("train", package, packed, tmp_path / "run", *names, *small)
    assert trained.status == 0, trained.err
    assert "prvr fuse" not in trained.out
    done = prvr("fuse", package, packed, tmp_path / "run", tmp_path / "both", "--teacher", "strong", "--json")
    assert done.status == 0, done.err
    said = json.loads(done.out)
    assert said["protocol"] == "honest"
    weight = said["teacher_weight"]
    assert 0 < weight <= 1

    fused, test = checkpoints.load(tmp_path / "both"), open_splits(package).test
    assert fused.settings.teacher_weight == weight
    assert fused.sources.frames.name == "toy_frames+strong"
    alone, given = checkpoints.load(tmp_path / "run"), teacher_features(packed, "strong")
    teacher = checkpoints.build("zero_shot", ZeroShotConfig(), given.sources)
    parts = [evaluate_model(one.model, test, of).scores for one, of in ((alone, features_for(packed, alone)), (teacher, given))]
    found = evaluate_model(fused.model, test, features_for(packed, fused)).scores
    np.testing.assert_allclose(found, (1 - weight) * parts[0] + weight * parts[1], atol=1e-5)
    answered = prvr("evaluate", package, packed, "--model", tmp_path / "both", "--json")
    assert answered.status == 0, answered.err


def test_prvr_best_reads_its_teacher_and_says_how_to_ask_it(world: tuple[Path, Path], tmp_path: Path, prvr: Prvr) -> None:
    package, packed = world
    small = ("epochs=1", "hidden=8", "heads=2", "max_frames=128", "--preset", "prvr-best/toy", "--teacher", "strong")
    for frames, words, take in (
        (("--frames", "toy_frames"), "words", "take --frames toy_frames+strong --words words+strong, or preset dl-dkd++/toy"),
        ((), "words", "and those of 'strong' are not in --words words; take --words words+strong"),
        (
            ("--frames", "toy_frames"),
            "words+strong",
            "'strong' are not in --frames toy_frames; take --frames toy_frames+strong, or",
        ),
    ):
        says(prvr("train", package, packed, tmp_path / "run", *frames, "--words", words, *small), "prvr-best/toy reads", take)
    assert not (tmp_path / "run").exists()
    both = ("--frames", "toy_frames+strong", "--words", "words+strong")
    trained = prvr("train", package, packed, tmp_path / "my run", *both, *small)
    assert trained.status == 0, trained.err
    what, command = trained.out.splitlines()[-1].split(": ", 1)
    assert what == "next, add the teacher"
    name, *arguments = shlex.split(command)
    assert name == "prvr"
    done = prvr(*arguments)
    assert done.status == 0, done.err
    assert checkpoints.load(tmp_path / "my run-fused").sources.frames.name == "toy_frames+strong+strong"
    assert prvr("train", package, packed, tmp_path / "my run", *both, *small, "--json").json["next"] == command


def test_what_cannot_stand_side_by_side_is_refused(world: tuple[Path, Path], tmp_path: Path) -> None:
    package, packed = world
    given = teacher_features(packed, "strong")
    teacher = checkpoints.build("zero_shot", ZeroShotConfig(), given.sources)
    dev = open_splits(package).dev
    read = student_features(packed, frames="toy_frames", words="roles")
    graph = checkpoints.build("hgr", HgrConfig(hidden=8), read.sources)
    for student, features in ((graph, read), (teacher, given)):
        with pytest.raises(SettingError, match="cannot be combined; take a student that reads words alone"):
            fuse(student, features, teacher, given, dev=dev)
    sampled = tmp_path / "sampled"
    convert_package(package, sampled)
    with pytest.raises(DataError, match="was sampled when it was packed, and cannot be joined; convert it with --whole"):
        student_features(sampled, frames="toy_frames+strong", words="words")


def test_a_folder_of_videos_is_searched_by_both(tmp_path: Path) -> None:
    eye = make_textual(make_visual(tmp_path / "eye", size=[8, 12]))
    make_roberta(tmp_path / "reader")
    (tmp_path / "videos").mkdir()
    for name, colour in (("a.mp4", "red"), ("b.mp4", "green"), ("c.mp4", "blue")):
        write_video(tmp_path / "videos" / name, [(500 * n, plain(colour)) for n in range(6)])
    teacher, reader = zero_shot(eye, rate=2.0), word_encoder(tmp_path / "reader")
    words = Source(reader.name, reader.word_columns, reader.source, reader.fingerprint)
    sources = FeatureSources(
        *(
            join_sources([own, of])
            for own, of in ((teacher.sources.frames, teacher.sources.frames), (words, teacher.sources.text))
        )
    )
    columns = teacher.sources.frames.columns
    torch.manual_seed(0)
    student = to_dict(STUDENTS["dl_dkd"])
    fused = checkpoints.build("beside_teacher", BesideTeacherConfig("dl_dkd", student, columns, 0.4), sources)
    fused.model.eval()  # type: ignore[attr-defined]
    index_folder(tmp_path / "videos", tmp_path / "index", fused)
    # More words than a template of the teacher alone is put around.
    hits = open_index(tmp_path / "index").search("a dog runs on the beach")
    assert {hit.video for hit in hits} == {"a.mp4", "b.mp4", "c.mp4"}
    assert all(hit.start is not None for hit in hits)
    assert set(hits[0].branches) == {"inheritance", "exploration", "teacher"}

    index_folder(tmp_path / "videos", tmp_path / "alone", teacher)
    alone = {hit.video: hit.score for hit in open_index(tmp_path / "alone").search("a dog runs on the beach")}
    for hit in hits:
        assert hit.branches["teacher"] == pytest.approx(0.4 * alone[hit.video], abs=2e-3)


def test_the_sentence_stands_beside_each_word() -> None:
    words, sentences = {"q": np.ones((3, 2), np.float32)}, {"q": np.full((1, 2), 5.0, np.float32)}
    assert JoinedFeatures([(words, 2), (sentences, 2)])["q"].tolist() == [[1, 1, 5, 5]] * 3
