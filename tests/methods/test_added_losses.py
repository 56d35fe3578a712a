"""Query relations and the losses that need no teacher, on methods that know nothing of them."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from commands import Prvr, says
from method_checks import toy_batch
from packed_toy import packed_toy
from tiny_students import STUDENTS
from torch import Tensor
from toy_world import READS, TEACHER, toy_world

from prvr.batch import Batch
from prvr.config import settings_to_compare, to_dict
from prvr.errors import DataError, SettingError
from prvr.features import TeacherFeatures
from prvr.methods import checkpoint as checkpoints
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.nn import losses
from prvr.nn.caption_losses import focal_diversity, matching
from prvr.nn.distillation import ADDED_WEIGHTS, Distillation
from prvr.nn.relations import relation_loss
from prvr.train.loop import Data, Recipe, Training, train_student

RELATIONS = Distillation(distillation_target="query_relations", distillation_weight=1.0, distillation_decay="fixed")
ALL_ADDED = Distillation(neg_nce_weight=0.1, query_diversity_weight=0.2, clip_matching_weight=0.3, degraded_weight=0.4)


def student(name: str) -> Any:
    torch.manual_seed(0)
    return checkpoints.build(name, STUDENTS[name], READS).model.train()  # type: ignore[attr-defined]


def told(settings: Distillation, name: str, *, epoch: int = 0, model: Any = None) -> tuple[dict[str, Tensor], Any, Batch]:
    model = model or student(name)
    batch = toy_batch(model)
    distiller = Distiller(settings, method=name, student=model, teacher_columns=[TEACHER])
    torch.manual_seed(2)
    return distiller.objective(model, *embed(model, batch), epoch), model, batch


@pytest.mark.parametrize("name", STUDENTS)
def test_relations_reach_the_queries_of_every_student(name: str) -> None:
    terms, model, batch = told(RELATIONS, name)
    terms["distillation"].backward()
    reached = [p.grad.abs().sum().item() for p in model.parameters() if p.grad is not None]
    assert sum(reached) > 0
    assert all(map(math.isfinite, reached))
    queries = model.encode_queries(batch.words, batch.word_mask)
    expected = relation_loss(queries[0].flatten(1), [batch.teachers[0].queries], distance_weight=15.0, angle_weight=30.0)
    if name not in ("collaborative_experts", "dual_encoding"):  # running figures, dropout
        assert terms["distillation"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_relations_beside_another_target_keep_their_weight() -> None:
    settings = Distillation(distillation_weight=0.5, query_relations_weight=0.25)
    (first, *_), (later, *_) = (told(settings, "dl_dkd", epoch=epoch) for epoch in (0, 9))
    alone, *_ = told(RELATIONS, "dl_dkd")
    assert first["query_relations"].item() == pytest.approx(0.25 * alone["distillation"].item(), rel=1e-5)
    assert later["query_relations"].item() == pytest.approx(first["query_relations"].item())
    assert later["distillation"].item() == pytest.approx(0.95**9 * first["distillation"].item(), rel=1e-4)


def test_relations_speak_to_the_branches_that_are_taught() -> None:
    settings = Distillation(query_relations_weight=1.0)
    terms, model, _ = told(settings, "dl_dkd")
    terms["query_relations"].backward()
    taught = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert taught == {"0"}
    twice = checkpoints.build("dl_dkd", replace(STUDENTS["dl_dkd"], branches=("inheritance", "inheritance")), READS).model
    terms, *_ = told(settings, "dl_dkd", model=twice)
    assert {"query_relations", "query_relations_2"} <= set(terms)


def test_relations_need_no_video_of_the_teacher(tmp_path: Path) -> None:
    data = toy_world(videos=12)
    (teacher,) = data.features.teachers
    alone = replace(data, features=replace(data.features, teachers=(TeacherFeatures(None, teacher.sentences),)))
    recipe = Recipe("xml", STUDENTS["xml"], Training(epochs=2, batch_videos=4, patience=2), RELATIONS)
    both = [train_student(tmp_path / str(place), recipe, data=one) for place, one in enumerate((alone, data))]
    assert both[0].fingerprint == both[1].fingerprint
    again = train_student(tmp_path / "0", recipe, data=alone)
    assert again.fingerprint == both[0].fingerprint
    assert again.about["distillation"]["distillation_target"] == "query_relations"
    for settings in (Distillation(distillation_weight=0.1), replace(RELATIONS, soft_targets="teacher")):
        with pytest.raises(SettingError, match="sentences alone"):
            train_student(tmp_path / "other", replace(recipe, distillation=settings), data=alone)


def test_a_teacher_without_sentence_vectors_is_refused(tmp_path: Path) -> None:
    data = toy_world(videos=12)
    words = TeacherFeatures(None, data.features.text)
    recipe = Recipe("xml", STUDENTS["xml"], Training(epochs=1), RELATIONS)
    with pytest.raises(DataError, match="a teacher's sentence is one vector"):
        train_student(tmp_path, recipe, data=replace(data, features=replace(data.features, teachers=(words,))))
    model = student("xml")
    with pytest.raises(SettingError, match="needs a teacher"):
        Distiller(Distillation(query_relations_weight=1.0), method="xml", student=model)
    with pytest.raises(SettingError, match="keeps its scores alone"):
        Distiller(Distillation(query_relations_weight=1.0), method="xml", student=model, kept=1)
    with pytest.raises(SettingError, match="batch_matrix"):
        Distiller(RELATIONS, method="xml", student=model, kept=1)


@pytest.mark.parametrize(
    "changes",
    [
        *({weight: -0.1} for weight in ADDED_WEIGHTS),
        {"distillation_weight": -1.0},
        {"query_relations_weight": -1.0},
        {"relation_angle_weight": -1.0},
        {"neg_nce_scale": 0.0},
        {"degraded_share": 1.5},
        {"query_relations_weight": 1.0, "relation_angle_weight": 0.0, "relation_distance_weight": 0.0},
        {"distillation_target": "query_relations", "distillation_aggregate": "mean"},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=list(changes)[-1]):
        Distillation(**changes)


def test_runs_of_older_versions_have_the_same_identity() -> None:
    compared = settings_to_compare(Distillation(distillation_weight=0.1))
    assert len(compared) == 16
    assert not {*ADDED_WEIGHTS, "query_relations_weight", "relation_angle_weight"} & set(compared)
    assert len(to_dict(Distillation())) > 16


def test_a_run_that_an_older_version_left_unfinished_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy_world(videos=12)
    training = Training(epochs=3, batch_videos=4, patience=3)
    recipe = Recipe("xml", STUDENTS["xml"], training, Distillation(distillation_weight=0.1))
    whole = train_student(tmp_path / "whole", recipe, data=data)

    class Stop(Exception):
        pass

    def stop(note: str, done: int, total: int) -> None:
        if "epoch 3" in note:
            raise Stop

    with pytest.raises(Stop):
        train_student(tmp_path / "part", recipe, data=data, on_progress=stop)
    stored = (tmp_path / "part" / "state.safetensors").read_bytes()
    header = json.loads(stored[8 : 8 + int.from_bytes(stored[:8], "little")])
    assert "neg_nce_weight" not in json.loads(header["__metadata__"]["prvr"])["run"]
    assert train_student(tmp_path / "part", recipe, data=data).fingerprint == whole.fingerprint


# Losses that need no teacher


@pytest.mark.parametrize("name", [name for name in STUDENTS if name not in ("dual_encoding", "collaborative_experts")])
def test_added_losses_reach_every_student(name: str) -> None:
    terms, model, _ = told(ALL_ADDED, name)
    own, *_ = told(Distillation(), name, model=student(name))
    added = {"neg_nce", "query_diversity", "clip_matching", "degraded"}
    assert set(terms) == {*own, *added}
    for term in own:
        assert terms[term].item() == own[term].item()
    for term in added:
        model.zero_grad()
        terms[term].backward(retain_graph=True)
        reached = [p.grad.abs().sum().item() for p in model.parameters() if p.grad is not None]
        assert sum(reached) > 0, term
        assert all(map(math.isfinite, reached))


@pytest.mark.parametrize("name", ["dl_dkd", "gmmformer_v2"])
def test_added_terms_are_the_weighted_losses(name: str) -> None:
    terms, model, batch = told(ALL_ADDED, name)
    queries, videos, _ = embed(model, batch)
    scores = model.score(queries, videos, batch.frame_mask)
    assert terms["neg_nce"].item() == pytest.approx(0.1 * losses.neg_nce(scores, batch.target).item(), rel=1e-5)
    diverse = focal_diversity(queries[0], batch.target, scale=32.0, margin=0.15, focus=1.0)
    assert terms["query_diversity"].item() == pytest.approx(0.2 * diverse.item(), rel=1e-5)
    mask = batch.frame_mask if name == "dl_dkd" else None
    matched = matching(queries[0], videos[0], batch.target, mask)
    assert terms["clip_matching"].item() == pytest.approx(0.3 * matched.item(), rel=1e-5)


def test_what_a_student_lacks_is_said() -> None:
    for name, weight, text in (
        ("dual_encoding", "clip_matching_weight", "no clips or frames"),
        ("dual_encoding", "degraded_weight", "does not score along a video"),
        ("collaborative_experts", "clip_matching_weight", "no clips or frames"),
    ):
        with pytest.raises(SettingError, match=text):
            told(Distillation(**{weight: 1.0}), name)


def slow_neg_nce(scores: list[list[float]], target: list[int], *, scale: float, margin: float) -> float:
    """From the definition, one query and one video at a time."""
    queries, videos = range(len(scores)), range(len(scores[0]))
    own_mean = {}
    for v in videos:
        own = [scores[n][v] for n in queries if target[n] == v]
        own_mean[v] = sum(own) / len(own) if own else math.inf

    def hard(n: int, v: int) -> bool:
        return target[n] != v and (scores[n][v] - scores[n][target[n]] + margin > 0 or scores[n][v] - own_mean[v] + margin > 0)

    def clamped(chance: float) -> float:
        return min(max(chance, 1e-6), 1 - 1e-6)

    total = 0.0
    right, wrong = [], []
    for n in queries:
        powers = [math.exp(scale * scores[n][v]) for v in videos]
        right.append(clamped(powers[target[n]] / sum(powers)))
        wrong += [clamped(powers[v] / sum(powers)) for v in videos if hard(n, v)]
    total += -sum(map(math.log, right)) / len(right) - (sum(math.log(1 - p) for p in wrong) / len(wrong) / 2 if wrong else 0)
    right, wrong = [], []
    for n in queries:
        v = target[n]
        powers = {k: math.exp(scale * scores[k][v]) for k in queries if k == n or target[k] != v}
        right.append(clamped(powers[n] / sum(powers.values())))
        wrong += [clamped(powers[k] / sum(powers.values())) for k in powers if hard(k, v)]
    total += -sum(map(math.log, right)) / len(right) - (sum(math.log(1 - p) for p in wrong) / len(wrong) / 2 if wrong else 0)
    return total / 2


@pytest.mark.parametrize("target", [[0, 1, 2], [0, 0, 1, 1, 3], [0], [1, 1]])
@pytest.mark.parametrize(("scale", "margin"), [(5.0, 0.0), (100.0, 0.1)])
def test_neg_nce_against_a_loop(target: list[int], scale: float, margin: float) -> None:
    scores = torch.rand(len(target), max(target) + 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = slow_neg_nce(scores.tolist(), target, scale=scale, margin=margin)
    scores.requires_grad_()
    value = losses.neg_nce(scores, torch.tensor(target), scale=scale, margin=margin)
    assert value.item() == pytest.approx(expected, abs=1e-10)
    value.backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_neg_nce_by_hand() -> None:
    # Own scores 0, the others far below: chances of 1, which are kept 1e-6 away from it.
    value = losses.neg_nce(torch.tensor([[0.0, -9.0], [-9.0, 0.0]]).double(), torch.tensor([0, 1]))
    assert value.item() == pytest.approx(1e-6, rel=1e-3)


def test_a_degraded_video_must_score_lower() -> None:
    profile = torch.tensor([[0.1, 0.9, 0.8, 0.7, 0.2, -math.inf], [0.3, -math.inf, -math.inf, -math.inf, -math.inf, -math.inf]])
    mask = profile.isfinite()
    # A share of 0.4 of five frames: one on each side of the best. 0.7 is left of the first query, 0 of the second.
    value = losses.degraded_triplet(profile, mask, margin=0.5, share=0.4)
    assert value.item() == pytest.approx(((0.5 - 0.9 + 0.7) + (0.5 - 0.3 + 0)) / 2)
    # A share of 0 zeroes the best frame alone.
    alone = losses.degraded_triplet(profile[:1], mask[:1], margin=0.5, share=0.0)
    assert alone.item() == pytest.approx(0.5 - 0.9 + 0.8)


def test_matching_leaves_padding_out_and_finds_the_best_assignment() -> None:
    draw = torch.Generator().manual_seed(0)
    rows, queries = torch.randn(2, 4, 3, generator=draw).double(), torch.randn(5, 3, generator=draw).double()
    target, lengths = torch.tensor([0, 0, 0, 1, 1]), (3, 4)
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    expected = []
    for video, length in enumerate(lengths):
        own = [n for n in range(5) if target[n] == video]
        cosines = [[oracles.cosine(queries[n].tolist(), rows[video, f].tolist()) for f in range(length)] for n in own]
        best = max(
            itertools.permutations(range(length), len(own)),
            key=lambda places: sum(c[p] for c, p in zip(cosines, places, strict=True)),
        )
        expected += [c[p] for c, p in zip(cosines, best, strict=True)]
    value = matching(queries, rows, target, mask)
    assert value.item() == pytest.approx(1 - float(np.mean(expected)))
    filled = rows.masked_fill(~mask[..., None], 9.0)
    assert matching(queries, filled, target, mask).item() == pytest.approx(value.item())


def test_a_student_learns_with_everything_on(tmp_path: Path) -> None:
    data: Data = toy_world(videos=60, things=12)
    settings = replace(ALL_ADDED, query_relations_weight=0.05, distillation_weight=0.1)
    recipe = Recipe(
        "dl_dkd", replace(STUDENTS["dl_dkd"], hidden=32), Training(lr=2e-3, epochs=12, batch_videos=16, seed=1), settings
    )
    best = train_student(tmp_path, recipe, data=data)
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert {"neg_nce", "query_diversity", "clip_matching", "degraded", "query_relations", "distillation"} <= set(
        history[0]["losses"]
    )
    assert history[-1]["losses"]["query_relations"] < history[0]["losses"]["query_relations"]
    assert best.about["dev"]["sumr"] > history[0]["dev"]["sumr"]


def test_the_command_takes_a_teacher_without_frames(tmp_path: Path, prvr: Prvr) -> None:
    package, features = packed_toy(tmp_path, train_videos=40)
    shutil.rmtree(features / "strong" / "frames")
    learn = ("train", package, features, tmp_path / "run", "--preset", "xml/toy", "--frames", "toy_frames", "--words", "words")
    taught = ("--teacher", "strong", "epochs=1", "distillation_target=query_relations", "distillation_weight=1")
    assert prvr(*learn, *taught).status == 0
    assert "distillation" in json.loads((tmp_path / "run" / "history.jsonl").read_text())["losses"]
    says(prvr(*learn, "--teacher", "strong", "distillation_weight=0.1"), "frames", "strong")
    says(prvr(*learn, "--teacher", "words", *taught[2:]), "words", "sentences")
    says(prvr(*learn, *taught[2:]), "needs a teacher")
