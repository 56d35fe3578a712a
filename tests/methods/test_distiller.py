"""Distillation on methods that know nothing of it: what it asks of them, what it adds, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from method_checks import toy_batch
from torch import Tensor
from toy_world import READS, TEACHER, toy_world

from prvr.batch import Batch
from prvr.config import to_dict
from prvr.errors import SettingError
from prvr.methods import checkpoint as checkpoints
from prvr.methods import open_method
from prvr.methods.contract import Model, embed
from prvr.methods.distiller import Distiller, field_profile
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.gmmformer_v2 import GmmFormerV2Config
from prvr.methods.ms_sl import MsSlConfig, compare
from prvr.methods.xml import XmlConfig
from prvr.nn import losses, scores
from prvr.nn.distillation import Distillation, SoftTargets, TeacherShares, combine, matrix_loss, profile_loss
from prvr.train.distributed import join_group
from prvr.train.launch import launch
from prvr.train.loop import Data, Recipe, Training, train_student
from prvr.train.presets import preset
from prvr.train.recipe import change
from prvr.train.similarities import Similarities

SIZES: dict[str, Any] = {"hidden": 8, "heads": 2, "max_frames": 20, "dropout": 0.0, "input_dropout": 0.0}
STUDENTS: dict[str, Any] = {
    "xml": XmlConfig(**SIZES),
    "ms_sl": MsSlConfig(**SIZES, clips=4),
    "gmmformer_v2": GmmFormerV2Config(**SIZES, clips=4, padding_counts=False),
}
WEIGHED = Distillation(distillation_weight=0.5)


def student(name: str) -> Model:
    torch.manual_seed(0)
    model = checkpoints.build(name, STUDENTS[name], READS).model
    assert isinstance(model, torch.nn.Module)
    model.eval()
    return model


def batch(model: Model, *, teachers: int = 1, shortest: int = 15) -> Batch:
    """The toy world's train split, its videos cut to several lengths."""
    data = toy_world(videos=12)
    videos = dict.fromkeys(caption.video for caption in data.train.captions)
    length = {video: shortest + place % (16 - shortest) for place, video in enumerate(videos)}
    (teacher,) = data.features.teachers
    features = replace(
        data.features,
        frames={id: rows[: length.get(id, 15)] for id, rows in data.features.frames.items()},
        teachers=tuple(
            replace(teacher, frames={id: (1 + k) * rows[: length.get(id, 15)] - k for id, rows in teacher.frames.items()})
            for k in range(teachers)
        ),
    )
    return toy_batch(model, data=replace(data, features=features))


def terms(settings: Distillation, name: str, *, epoch: int = 0, teachers: int = 1) -> dict[str, Tensor]:
    model = student(name)
    given = batch(model, teachers=teachers, shortest=6)
    torch.manual_seed(1)
    distiller = Distiller(settings, method=name, student=model, teacher_columns=[TEACHER] * teachers)
    torch.manual_seed(2)
    return distiller.objective(model, *embed(model, given), epoch)


@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("target", ["frame_profile", "batch_matrix", "feature"])
@pytest.mark.parametrize("loss", ["kl", "mse", "huber"])
def test_every_target_and_loss_reaches_every_student(name: str, target: Any, loss: Any) -> None:
    settings = replace(WEIGHED, distillation_target=target, distillation_loss=loss)
    model = student(name)
    given = batch(model, shortest=6)
    distiller = Distiller(settings, method=name, student=model, teacher_columns=[TEACHER])
    told = distiller.objective(model, *embed(model, given), 3)
    assert isinstance(model, torch.nn.Module)
    told["distillation"].backward()
    reached = [p.grad.abs().sum().item() for p in (*model.parameters(), *distiller.parameters()) if p.grad is not None]
    assert sum(reached) > 0
    assert all(map(math.isfinite, reached))
    own = open_method(name).objective
    assert own is not None
    assert set(told) == {*own(model, *embed(model, given), 3), "distillation"}


def test_its_weight_decays() -> None:
    settings = replace(WEIGHED, distillation_target="batch_matrix", distillation_offset=0.2)
    first, later = (terms(settings, "xml", epoch=epoch)["distillation"].item() for epoch in (0, 9))
    assert later / first == pytest.approx((0.5 * 0.95**9 + 0.2) / 0.7)


def loop_profile(model: Model, given: Batch, n: int) -> list[float]:
    """XML's: the cosines with each real frame."""
    queries, videos, _ = embed(model, given)
    v = int(given.target[n])
    length = int(given.frame_mask[v].sum())
    return [oracles.cosine(queries[0][n].tolist(), videos[0][v, f].tolist()) for f in range(length)]


@torch.no_grad()
def test_the_profile_of_a_method_with_frames_against_a_loop() -> None:
    model = student("xml")
    given = batch(model, shortest=6)
    profile = field_profile(model, *embed(model, given)[:2], given)
    for n in range(len(given.target)):
        expected = loop_profile(model, given, n)
        assert profile[n, : len(expected)].tolist() == pytest.approx(expected, abs=1e-6)
        assert profile[n, len(expected) :].eq(-math.inf).all()


@torch.no_grad()
def test_the_profile_of_clips_and_frames_is_what_moments_are_read_from() -> None:
    model = student("gmmformer_v2")
    given = batch(model, shortest=6)
    queries, videos, _ = embed(model, given)
    profile = field_profile(model, queries, videos, given)
    for n, v in enumerate(given.target.tolist()):
        length = int(given.frame_mask[v].sum())
        query = tuple(field[n : n + 1] for field in queries)
        alone = (videos[0][v : v + 1], videos[1][v : v + 1, :length])
        torch.testing.assert_close(profile[n, :length], model.relevance(query, alone))


@pytest.mark.parametrize("loss", ["kl", "mse", "huber"])
@torch.no_grad()
def test_a_frame_profile_of_any_student_is_compared_as_dl_dkds_is(loss: Any) -> None:
    model = student("xml")
    given = batch(model, shortest=6)
    told = terms(replace(WEIGHED, distillation_loss=loss), "xml")["distillation"].item()
    (teacher,) = given.teachers
    expected = 0.0
    for n, v in enumerate(given.target.tolist()):
        own = loop_profile(model, given, n)
        guide = [oracles.cosine(teacher.queries[n].tolist(), teacher.frames[v, f].tolist()) for f in range(len(own))]
        if loss == "kl":
            expected += oracles.frame_kl([own], [guide], temperature=0.2)
        else:
            expected += oracles.mean([difference(a - b, loss) for a, b in zip(own, guide, strict=True)])
    assert told == pytest.approx(0.5 * expected, rel=1e-4)


def difference(d: float, loss: str) -> float:
    if loss == "mse":
        return d * d
    return d * d / 2 if abs(d) < 1 else abs(d) - 0.5


@pytest.mark.parametrize("loss", ["kl", "mse", "huber"])
def test_matrices_are_compared_pair_by_pair_and_row_by_row(loss: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (3 * torch.rand(5, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    settings = Distillation(distillation_loss=loss, distillation_temperature=0.5)
    told = matrix_loss(ours, [theirs], settings=settings).item()
    s, t = ours.tolist(), theirs.tolist()
    if loss == "kl":
        rows = [oracles.frame_kl([a], [b], temperature=0.5) for a, b in zip(s, t, strict=True)]
        columns = [oracles.frame_kl([oracles.column(s, v)], [oracles.column(t, v)], temperature=0.5) for v in range(3)]
        expected = oracles.mean(rows) + oracles.mean(columns)
    else:
        expected = oracles.mean([difference(s[n][v] - t[n][v], loss) for n in range(5) for v in range(3)])
        assert any(abs(s[n][v] - t[n][v]) > 1 for n in range(5) for v in range(3))
    assert told == pytest.approx(expected, abs=1e-9)
    assert matrix_loss(theirs, [theirs], settings=settings).item() == pytest.approx(0, abs=1e-12)


def test_aggregates_by_hand() -> None:
    one, two = torch.tensor([[0.2, 0.8]]), torch.tensor([[0.6, 0.4]])
    by_hand = {"mean": [[0.4, 0.6]], "min": [[0.2, 0.4]], "max": [[0.6, 0.8]]}
    for aggregate, expected in by_hand.items():
        torch.testing.assert_close(combine([one, two], aggregate, None), torch.tensor(expected))  # type: ignore[arg-type]
    torch.testing.assert_close(combine([one, two], "learned", torch.tensor([0.25, 0.75])), torch.tensor([[0.5, 0.5]]))
    settings = Distillation(distillation_loss="mse", distillation_aggregate="max")
    assert matrix_loss(one, [one, two], settings=settings).item() == pytest.approx((0.16 + 0) / 2)
    # (0.16 + 0.16) / 2 from the second teacher, nothing from the first.
    each = replace(settings, distillation_aggregate="each")
    assert matrix_loss(one, [one, two], settings=each).item() == pytest.approx(0.08)


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_one_loss_for_each_teacher_and_one_to_their_mean_pull_alike(loss: Any) -> None:
    # For MSE the gradients are equal; for KL the mean would have to be that of the distributions.
    ours = torch.rand(4, 6, dtype=torch.float64, requires_grad=True)
    guides = [torch.rand(4, 6, dtype=torch.float64) for _ in range(2)]
    mask = torch.ones(4, 6, dtype=torch.bool)
    gradients = []
    for aggregate in ("each", "mean"):
        settings = Distillation(distillation_loss=loss, distillation_aggregate=aggregate)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(profile_loss(ours, guides, mask, settings=settings), ours)
        gradients.append(gradient)
    assert torch.allclose(*gradients) == (loss == "mse")


def test_learned_shares_go_to_the_teacher_that_ranks_well() -> None:
    target = torch.arange(8)
    draw = torch.Generator().manual_seed(0)
    knows, guesses = torch.eye(8), torch.rand(8, 8, generator=draw)
    shares = TeacherShares(2)
    optimiser = torch.optim.SGD(shares.parameters(), lr=1.0)
    for _ in range(50):
        optimiser.zero_grad()
        shares.objective([knows, guesses], target, temperature=0.2).backward()
        optimiser.step()
    assert shares()[0] > 0.9
    settings = Distillation(distillation_loss="huber", distillation_aggregate="learned")
    ours = torch.rand(8, 8, requires_grad=True)
    shares.zero_grad()
    matrix_loss(ours, [knows, guesses], settings=settings, shares=shares).backward()
    assert shares.logits.grad is None


def test_soft_targets_take_the_place_of_one_hot_ones() -> None:
    settings = Distillation(soft_targets="teacher", teacher_temperature=2.0)
    model = student("ms_sl")
    given = batch(model, shortest=6)
    told = terms(settings, "ms_sl", epoch=40)
    (teacher,) = given.teachers
    relevance = scores.video_scores(scores.frame_dots(teacher.queries, teacher.frames, given.frame_mask))[None] / 2
    queries, videos, _ = embed(model, given)
    dots = compare(queries[0], videos[0], model.shares(videos[0])).dots  # type: ignore[attr-defined]
    soft = SoftTargets.at(settings, 40, given)
    assert told["clips_nce"].item() == pytest.approx(
        0.02 * soft.info_nce(dots, given.target, relevance=relevance).item(), rel=1e-5
    )
    assert "distillation" not in told
    of_itself = terms(replace(settings, soft_targets="self"), "ms_sl", epoch=40)["clips_nce"]
    assert of_itself.item() == pytest.approx(0.02 * soft.info_nce(dots, given.target, relevance=dots[None]).item(), rel=1e-5)
    assert terms(Distillation(), "ms_sl")["clips_nce"].item() == pytest.approx(0.02 * losses.info_nce(dots, given.target).item())


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "zero_shot": ("zero_shot", {"distillation_weight": 1.0}, {}, "zero_shot has nothing to learn"),
    "no contrast": ("xml", {"soft_targets": "teacher"}, {}, "xml has no contrastive loss whose targets could be soft"),
    "no place": (
        "dual_encoding",
        {"distillation_weight": 1.0},
        {},
        "dual_encoding does not score along a video; take distillation_target=batch_matrix",
    ),
    "no frames": (
        "dual_encoding",
        {"distillation_weight": 1.0, "distillation_target": "feature"},
        {},
        "dual_encoding has no vector for each frame",
    ),
    "no teacher": ("xml", {"distillation_weight": 1.0}, {"teacher_columns": ()}, r"distillation needs a teacher; name one \(--t"),
    "no soft teacher": ("ms_sl", {"soft_targets": "teacher"}, {"teacher_columns": ()}, "soft_targets=teacher needs a teacher"),
    "kept scores": (
        "xml",
        {"distillation_weight": 1.0},
        {"teacher_columns": (), "kept": 1},
        "distillation_target is 'frame_profile', and a trained model as teacher keeps its scores of whole videos alone",
    ),
    "two kinds": (
        "xml",
        {"distillation_weight": 1.0, "distillation_target": "feature"},
        {"kept": 1},
        "distillation_target is 'feature', and a trained model",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_put_together_is_refused_in_a_line(case: str) -> None:
    name, changes, teachers, line = REFUSED[case]
    settings = STUDENTS.get(name, open_method(name).config())
    reads = replace(READS, text=replace(READS.text, columns=READS.frames.columns)) if name == "zero_shot" else READS
    model = checkpoints.build(name, settings, reads).model
    with pytest.raises(SettingError, match=line) as refused:
        Distiller(Distillation(**changes), method=name, student=model, **{"teacher_columns": (TEACHER,), **teachers})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"distillation_target": "feature", "distillation_aggregate": "mean"}, "take distillation_aggregate=each"),
        ({"distillation_decay": "exponentail"}, "did you mean 'exponential'"),
        ({"mixing_decay": "rising_linear"}, "unknown decay 'rising_linear'"),
        ({"distillation_temperature": 0.0}, r"distillation_temperature is 0\.0; it must be above 0"),
        ({"mixing": 1.5}, r"mixing is 1\.5; it takes a share"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingError, match=line):
        Distillation(**changes)


# Training


QUICK = Training(lr=3e-3, epochs=2, batch_videos=20, seed=1)
LEARNS = replace(WEIGHED, distillation_target="feature")


def run(out: Path, distillation: Distillation, data: Data | None = None, **options: Any) -> checkpoints.Checkpoint:
    recipe = Recipe("ms_sl", replace(STUDENTS["ms_sl"], hidden=16), QUICK, distillation)
    return train_student(out, recipe, data=data or toy_world(), **options)


def history(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


class Killed(BaseException):
    """Nothing may catch this."""


def two_teachers() -> Data:
    data = toy_world()
    (teacher,) = data.features.teachers
    return replace(data, features=replace(data.features, teachers=(teacher, teacher)))


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        (LEARNS, toy_world()),
        (
            Distillation(distillation_weight=1.0, distillation_target="batch_matrix", distillation_aggregate="learned"),
            two_teachers(),
        ),
    ],
    ids=["maps", "shares"],
)
def test_a_killed_run_continues_with_the_weights_of_the_distiller(tmp_path: Path, settings: Distillation, data: Data) -> None:
    whole = run(tmp_path / "whole", settings, data)

    def kill(note: str, done: int, total: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "cut", settings, data, on_progress=kill)
    resumed = run(tmp_path / "cut", settings, data)
    assert resumed.fingerprint == whole.fingerprint
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    assert whole.about["distillation"] == to_dict(settings)
    # The checkpoint is the student's alone.
    assert whole.model.state_dict().keys() == student("ms_sl").state_dict().keys()  # type: ignore[attr-defined]


def test_another_distillation_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path, WEIGHED)
    with pytest.raises(SettingError, match=r"distillation_weight 0.5 \(now 0.25\)"):
        run(tmp_path, replace(WEIGHED, distillation_weight=0.25))
    with pytest.raises(SettingError, match=r"distillation_weight 0.5 \(now None\)"):
        run(tmp_path, Distillation())


def test_a_recipe_is_changed_wherever_the_key_is() -> None:
    recipe = Recipe("ms_sl", STUDENTS["ms_sl"], QUICK)
    assert change(recipe, ["margin=0.3", "lr=1e-4"]).distillation == Distillation()
    changed = change(recipe, ["distillation_weight=0.1", "distillation_loss=huber", "soft_targets=self"]).distillation
    assert changed == Distillation(distillation_weight=0.1, distillation_loss="huber", soft_targets="self")
    off = change(replace(recipe, distillation=WEIGHED), ["distillation_weight=0"])
    assert off.distillation == Distillation()
    dl_dkd = Recipe("dl_dkd", DlDkdConfig(), QUICK)
    assert change(dl_dkd, ["distillation_weight=0.3", "margin=0.2"]) == replace(
        dl_dkd, settings=DlDkdConfig(margin=0.2), distillation=Distillation(distillation_weight=0.3)
    )
    with pytest.raises(SettingError, match="did you mean 'distillation_weight'"):
        change(recipe, ["distilation_weight=1"])


@pytest.mark.parametrize(("word", "expected"), [("true", "teacher"), ("False", "none"), ("self", "self")])
def test_the_words_that_dl_dkds_soft_targets_once_had_are_read(word: str, expected: str) -> None:
    assert change(preset("dl-dkd++/toy"), [f"soft_targets={word}"]).distillation.soft_targets == expected


def test_a_student_learns_more_with_a_good_teacher_than_without(tmp_path: Path) -> None:
    # Few captions, and a teacher that sees the things themselves.
    data = toy_world(videos=60, things=10, teacher_noise=0.1)
    settings = replace(STUDENTS["xml"], hidden=32)
    training = Training(lr=1e-3, epochs=10, batch_videos=16, patience=40, seed=1)
    reached = []
    for number, told in enumerate((Distillation(), Distillation(distillation_weight=0.3, distillation_decay="fixed"))):
        best = train_student(tmp_path / str(number), Recipe("xml", settings, training, told), data=data)
        reached.append(best.about["dev"]["sumr"])
    assert reached[1] > reached[0]


BOTH = Distillation(
    distillation_weight=1.0, distillation_target="batch_matrix", distillation_aggregate="learned", soft_targets="teacher"
)


def with_truth() -> Data:
    """An encoder as teacher, and one that has kept the truth: 1 where a caption is about a video."""
    data = toy_world()
    rows = {caption.id: row for row, caption in enumerate(data.train.captions)}
    columns = {video: column for column, video in enumerate(data.train.video_ids)}
    said = np.zeros((len(rows), len(columns)), np.float16)
    for caption in data.train.captions:
        said[rows[caption.id], columns[caption.video]] = 1
    return replace(data, similarities=(Similarities(said, rows, columns, {"model": "truth"}),))


def in_a_process(out: Path) -> None:
    torch.set_num_threads(1)
    with join_group("cpu") as group:
        run(out, BOTH, with_truth(), group=group)


@pytest.mark.slow
@pytest.mark.thorough
def test_two_processes_are_told_what_one_is(tmp_path: Path) -> None:
    run(tmp_path / "one", BOTH, with_truth())
    launch(partial(in_a_process, tmp_path / "two"), 2, device="cpu")
    one, two = (history(tmp_path / name) for name in ("one", "two"))
    assert {"distillation", "teacher_shares"} <= one[-1]["losses"].keys()
    for first, second in zip(one, two, strict=True):
        assert second["losses"] == pytest.approx(first["losses"], rel=1e-4)
        assert second["dev"] == pytest.approx(first["dev"], rel=1e-4)
