"""Branches that do not learn: the values of equal scores by hand, who is named and when, and that looking changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from dl_dkd import PLUS
from toy_world import FRAMES, WORDS, toy_world

from prvr.batch import collate, video_item
from prvr.evaluate.evaluation import score_checkpoint
from prvr.methods import checkpoint as checkpoints
from prvr.methods import open_method
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.nn.distillation import Distillation
from prvr.train import loop
from prvr.train.branches import find_untrained, remedy, untrained_when_kept
from prvr.train.loop import Data, Recipe, Training, train_student

SMALL = DlDkdConfig(hidden=32, max_frames=32, margin=0.2, dropout=0.1, input_dropout=0.1)


def batch_of(model: DlDkd, captions: list[int]):
    """A batch of videos of the toy world with these numbers of captions."""
    data = toy_world()
    of_video: dict[str, list[str]] = {}
    for caption in data.train.captions:
        of_video.setdefault(caption.video, []).append(caption.id)
    items, free = [], dict(of_video)
    for count in captions:
        video = next(name for name, ids in free.items() if len(ids) == count)
        items.append(video_item(video, free.pop(video), data.features, model.reading))
    return collate(items)


@pytest.mark.parametrize("captions", [[2, 3, 3], [2, 2], [2, 2, 3, 3, 2], [3]])
@pytest.mark.parametrize("distillation", [Distillation(distillation_weight=0.0), PLUS], ids=["one-hot", "soft"])
def test_the_values_of_equal_scores_by_hand(captions: list[int], distillation: Distillation) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, nce_weight=0.5)
    model = DlDkd(config, frame_columns=FRAMES, word_columns=WORDS).eval()
    batch = batch_of(model, captions)
    embedded = embed(model, batch)
    distiller = Distiller(distillation, method="dl_dkd", student=model, teacher_columns=[12])
    found = distiller.equal_terms(model, *embedded, 0)
    videos, queries = len(captions), sum(captions)
    hard = math.log(videos) + sum(math.log(queries / count) for count in captions) / videos
    for branch in ("inheritance", "exploration"):
        assert float(found[f"{branch}_triplet"]) == pytest.approx(0.4 if videos > 1 else 0.0, abs=1e-5)
        if distillation.soft_targets != "teacher":
            assert float(found[f"{branch}_nce"]) == pytest.approx(0.5 * hard, abs=1e-5)
    # The objective itself on embeddings of zeros, with its teacher.
    zeros = [tuple(torch.zeros_like(each) for each in side) for side in embedded[:2]]
    expected = distiller.objective(model, *zeros, batch, 0)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: float(expected[name]) for name in found}, abs=1e-5
    )


def epoch(number: int, best: bool = False, **shares: float) -> dict[str, Any]:
    """An epoch of a history; each term has this share of its value for equal scores."""
    equal = {name: 0.2 if "triplet" in name else 0.166 for name in shares}
    losses = {name: share * equal[name] for name, share in shares.items()}
    return {"epoch": number, "losses": losses, "equal_scores": equal, "best": best}


def test_a_branch_is_named_once_it_has_not_learned_for_long_enough() -> None:
    dead = [epoch(n, first_triplet=1.02, first_nce=0.99, second_triplet=1.3, second_nce=0.8) for n in range(4)]
    assert not find_untrained(dead[:2], 50)
    assert not find_untrained(dead[:3], 19)
    (found,) = find_untrained(dead, 50)
    assert (found.branch, found.since, found.last) == ("first", 1, 4)
    assert found.terms["first_nce"] == pytest.approx((0.99 * 0.166, 0.166))
    assert "branch 'first' did not learn in epochs 1 to 4: first_triplet 0.204 (equal scores: 0.200)" in str(found)
    # It recovers; and falls back later.
    lives = epoch(4, first_triplet=1.02, first_nce=0.9)
    assert not find_untrained([*dead, lives], 50)
    again = [epoch(n, first_triplet=1.0, first_nce=1.0) for n in (5, 6, 7)]
    assert not find_untrained([*dead, lives, *again[:2]], 50)
    assert [one.since for one in find_untrained([*dead, lives, *again], 50)] == [6]
    assert [one.since for one in find_untrained([*dead, lives, *again[:1]], 50, at_the_end=True)] == [6]
    assert not find_untrained(dead[:1], 50, at_the_end=True)


@pytest.mark.parametrize(("share", "learns"), [(1.0, False), (1.04, False), (1.4, True), (0.9, True)])
def test_a_triplet_alone_learns_where_scores_differ(share: float, learns: bool) -> None:
    history = [epoch(n, best=n == 1, triplet=share) for n in range(6)]
    assert [one.branch for one in find_untrained(history, 100)] == ([] if learns else [""])
    assert untrained_when_kept(history, 100) == ([] if learns else [""])
    # A hinge that passes the value of equal scores is that of a student that learns.
    assert not find_untrained(history[:5], 100)
    assert untrained_when_kept([*history, epoch(6, triplet=0.85)], 100) == []


@pytest.mark.parametrize(
    ("hinge", "contrastive", "learns"), [(1.05, 1.0, False), (1.05, 0.94, True), (1.5, 1.06, True), (0.9, 1.2, True)]
)
def test_hinge_and_contrastive_term_together(hinge: float, contrastive: float, learns: bool) -> None:
    history = [epoch(n, best=n == 1, clips_triplet=hinge, clips_nce=contrastive) for n in range(3)]
    assert [one.branch for one in find_untrained(history, 100)] == ([] if learns else ["clips"])
    assert untrained_when_kept(history, 100) == ([] if learns else ["clips"])


def test_nothing_is_said_where_nothing_is_known() -> None:
    old = [{"epoch": n, "losses": {"triplet": 0.2}, "best": True} for n in range(5)]
    assert not find_untrained(old, 100)
    assert untrained_when_kept(old, 100) == []
    # Batches of one video, or a weight of 0.
    nothing = [{**epoch(n, a_triplet=1.0), "equal_scores": {"a_triplet": 0.0}} for n in range(5)]
    assert not find_untrained(nothing, 100)


def test_the_best_epoch_decides_about_the_model_that_is_kept() -> None:
    lives, dead = epoch(0, best=True, a_triplet=1.1, a_nce=0.7), epoch(1, a_triplet=1.0, a_nce=1.0)
    assert untrained_when_kept([lives, dead, dead], 100) == []
    assert untrained_when_kept([lives, {**dead, "best": True}, lives | {"best": False}], 100) == ["a"]
    # Two steps teach nobody anything.
    assert untrained_when_kept([{**dead, "best": True}], 2) == []


def test_remedies() -> None:
    assert remedy("exploration", SMALL) == "take nce_weight=1 (now 0.04)"
    clips = open_method("ms_sl").config(hard_from_epoch=5)
    assert remedy("clips", clips) == "take clip_nce_weight=1 (now 0.02) or a later hard_from_epoch (now 5)"
    assert remedy("", open_method("dual_encoding").config()) == "take another lr or other batch_videos"


def train_alone(out: Path, data: Data, warnings: list[str]) -> list[dict[str, Any]]:
    """Trains DL-DKD's student without a teacher; returns its history."""
    training = Training(lr=1e-3, epochs=12, batch_videos=5, patience=12, seed=1)
    settings = dataclasses.replace(SMALL, dropout=0.0, input_dropout=0.0)
    recipe = Recipe("dl_dkd", settings, training, Distillation(distillation_weight=0.0))
    train_student(out, recipe, data=data, on_warning=warnings.append)
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def test_a_dead_student_is_named_and_a_live_one_is_not(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data, said = toy_world(), list[str]()
    # A camera that shows the same in every video: all scores are equal, whatever is learned.
    frames = dict.fromkeys(data.features.frames, next(iter(data.features.frames.values())))
    blind = dataclasses.replace(data, features=dataclasses.replace(data.features, frames=frames))
    history = train_alone(tmp_path / "dead", blind, said)
    branches = ["inheritance", "exploration"]
    # 8 steps an epoch: 60 of them in the eighth at the earliest.
    assert not any(record["untrained"] for record in history[:7])
    assert history[-1]["untrained"] == branches
    # Each branch once while it trains, and once at the end.
    assert [text.partition("branch ")[2].partition(" ")[0] for text in said] == [repr(branch) for branch in branches * 2]
    assert re.match(
        r"branch 'inheritance' did not learn in epochs \d to \d+: inheritance_triplet 0.4\d\d \(equal scores: 0.400\)", said[0]
    )
    assert said[0].endswith("inheritance_nce 0.129 (equal scores: 0.129); take nce_weight=1 (now 0.04)")
    assert said[-1].startswith("training has ended, and branch 'exploration' did not learn in epochs ")
    best = checkpoints.load(tmp_path / "dead")
    assert best.about["untrained"] == branches
    assert score_checkpoint(best, blind.dev, blind.features).untrained == tuple(branches)
    # A finished run says it again.
    again: list[str] = []
    train_alone(tmp_path / "dead", blind, again)
    assert again == said[-2:]

    said.clear()
    history = train_alone(tmp_path / "live", data, said)
    assert said == []
    assert not any(record["untrained"] for record in history)
    assert "untrained" not in checkpoints.load(tmp_path / "live").about


@pytest.mark.parametrize("method", ["dl_dkd", "rivrl"])
def test_looking_changes_nothing(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"latent": 8, "concepts": 6, "frame_gru": 4, "word_gru": 4, "filters": 4, "segment_filters": 4, "least_said": 1}
    settings = SMALL if method == "dl_dkd" else open_method(method).config(**small)
    distillation = dataclasses.replace(PLUS, hard_part="random") if method == "dl_dkd" else Distillation()
    recipe = Recipe(method, settings, Training(lr=3e-3, epochs=2, batch_videos=16, seed=1), distillation)

    def trained(name: str) -> tuple[str, list[float]]:
        best = train_student(tmp_path / name, recipe, data=toy_world())
        lines = (tmp_path / name / "history.jsonl").read_text().splitlines()
        return best.fingerprint, [json.loads(line)["loss"] for line in lines]

    looked = trained("looked")
    monkeypatch.setattr(loop._Loop, "_equal_terms", lambda *_: {})
    assert trained("not") == looked
