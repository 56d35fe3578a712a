"""Forward values, losses and gradients beside those of the published code."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from dl_dkd import PLAIN, PLUS, taught
from published import arrays, batch, numbers, our_name, parameters

from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.nn import losses, schedules, scores

DTYPES = {"f32": torch.float32, "f64": torch.float64}
CONFIG = DlDkdConfig(hidden=32, heads=4, max_frames=16, max_words=10, margin=0.1, negative_pool=1)
BRANCHES = {"inher": 0, "explore": 1, "B": 0, "A": 1}
PUBLISHED_TERM = {
    "inheritance_triplet": "inher_trip",
    "inheritance_nce": "inher_nce",
    "exploration_triplet": "explore_trip",
    "exploration_nce": "explore_nce",
    "distillation": "kl",
}
ICCV_TERM = {
    "inheritance_triplet": "clip_trip_loss",
    "exploration_triplet": "frame_trip_loss",
    "distillation": "clip_guide_loss",
    "inheritance_nce": "c_nce_loss",
    "exploration_nce": "frame_nce_loss",
}


def model(folder: str, dtype: torch.dtype, config: DlDkdConfig) -> DlDkd:
    student = DlDkd(config, frame_columns=48, word_columns=40).to(dtype).eval()
    student.load_state_dict(parameters(f"{folder}/params.npz", dtype, but="A_query_input_proj"))
    return student


def close(ours: torch.Tensor, theirs: np.ndarray, *, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours.detach().numpy().astype(np.float64) - theirs).max() <= tolerance


def config_of(folder: str) -> DlDkdConfig:
    single = {"branches": ("inheritance",)} if folder == "model_single" else {}
    shared = {"shared_query_projection": True} if folder == "model_iccv" else {}
    return dataclasses.replace(CONFIG, **single, **shared)


@pytest.mark.usefixtures("either_product")
@pytest.mark.parametrize(
    ("folder", "dtype"), [("model_double", "f32"), ("model_double", "f64"), ("model_single", "f64"), ("model_iccv", "f64")]
)
def test_forward_values(folder: str, dtype: str) -> None:
    theirs = arrays(f"{folder}/forward_{dtype}.npz")
    student, given = model(folder, DTYPES[dtype], config_of(folder)), batch(DTYPES[dtype])
    tolerance = 1e-10 if dtype == "f64" else 2e-5
    queries = student.encode_queries(given.words, given.word_mask)
    videos = student.encode_videos(given.frames, given.frame_mask)
    mask = given.frame_mask
    for name, place in BRANCHES.items():
        if f"{name}_query" not in theirs:
            continue
        close(queries[place], theirs[f"{name}_query"], tolerance=tolerance)
        close(videos[place][mask], theirs[f"{name}_frames"][mask.numpy()], tolerance=tolerance)
        cosines = scores.frame_cosines(queries[place], videos[place], mask)
        real = mask[None].expand_as(cosines)
        close(cosines[real], theirs[f"{name}_clip_scores"].transpose(0, 2, 1)[real.numpy()], tolerance=tolerance)
        close(scores.video_scores(cosines), theirs[f"{name}_max_cos"], tolerance=tolerance)
        dots = scores.frame_dots(queries[place], videos[place], mask)
        close(scores.video_scores(dots), theirs[f"{name}_max_dot"], tolerance=tolerance * 10)
    teacher = given.teachers[0]
    guide = scores.video_scores(scores.frame_cosines(teacher.queries, teacher.frames, mask))
    close(guide, theirs["teacher_max_cos"], tolerance=tolerance)


def decay_to(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schedules.DECAYS, "exponential", lambda epoch: weight)


@pytest.mark.usefixtures("either_product")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("folder", ["model_double", "model_single"])
def test_objective_and_gradients(folder: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = numbers(f"{folder}/losses.json")[dtype]["totals"]
    assert len(cases) >= 18
    compared = 0
    for case in cases:
        soft = case["style"] == "soft"
        fixed = {"hard_fraction_decay": "fixed", "mixing_decay": "fixed"}
        changes = {"hard_fraction": case["alpha"], "mixing": case["beta"], **fixed} if soft else {}
        distillation = dataclasses.replace(PLUS if soft else PLAIN, **changes)
        decay_to(case["distill_weight"], monkeypatch)
        student = model(folder, DTYPES[dtype], config_of(folder))
        terms = taught(student, batch(DTYPES[dtype]), 0, distillation)
        total = torch.stack(list(terms.values())).sum()
        tolerance = 1e-10 if dtype == "f64" else 1e-5
        assert total.item() == pytest.approx(case["total"], rel=tolerance, abs=tolerance)
        for name, value in terms.items():
            assert value.item() == pytest.approx(case[PUBLISHED_TERM[name]], rel=tolerance, abs=tolerance), name
        if case.get("grads_file"):
            total.backward()
            compare_gradients(student, f"{folder}/{case['grads_file']}", 1e-10 if dtype == "f64" else 1e-4)
            compared += 1
    assert compared >= (1 if dtype == "f32" else 2) or folder == "model_single"


def compare_gradients(student: DlDkd, file: str, tolerance: float) -> None:
    ours = dict(student.named_parameters())
    theirs = {our_name(name): value for name, value in arrays(file).items()}
    assert set(theirs) == {name for name, p in ours.items() if p.grad is not None}
    largest = max(float(np.abs(value).max()) for value in theirs.values())
    for name, value in theirs.items():
        close(ours[name].grad, value, tolerance=tolerance * largest)


@pytest.mark.usefixtures("either_product")
@pytest.mark.parametrize("dtype", DTYPES)
def test_objective_of_the_conference_version(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, weight = numbers("model_iccv/losses.json")[dtype], numbers("model_iccv/config.json")["distill_weight"]
    decay_to(weight, monkeypatch)
    student = model("model_iccv", DTYPES[dtype], config_of("model_iccv"))
    terms = taught(student, batch(DTYPES[dtype]), 0, PLAIN)
    tolerance = 1e-10 if dtype == "f64" else 1e-5
    total = torch.stack(list(terms.values())).sum()
    assert total.item() == pytest.approx(expected["total"], rel=tolerance)
    for name, value in terms.items():
        assert value.item() == pytest.approx(expected[ICCV_TERM[name]], rel=tolerance), name
    if dtype == "f64":
        total.backward()
        theirs = {our_name(k): v for k, v in arrays("model_iccv/grads_f64.npz").items() if not k.startswith("A_query_input_proj")}
        largest = max(float(np.abs(value).max()) for value in theirs.values())
        for name, parameter in student.named_parameters():
            close(parameter.grad, theirs[name], tolerance=1e-10 * largest)


def free(name: str) -> torch.Tensor:
    value = torch.from_numpy(arrays("losses/scores_and_grads.npz")[name])
    return value.double() if value.is_floating_point() else value


def check(loss: torch.Tensor, of: torch.Tensor, expected: float, gradient: str) -> None:
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    (ours,) = torch.autograd.grad(loss, of)
    theirs = free(gradient)
    close(ours, theirs.numpy(), tolerance=1e-10 * float(theirs.abs().max()))


def test_hard_nce() -> None:
    dots = free("dot_scores").requires_grad_()
    check(losses.info_nce(dots, free("labels")), dots, numbers("losses/losses.json")["nce_hard"], "grad_nce_hard")


FREE = numbers("losses/losses.json")


@pytest.mark.parametrize("case", FREE["nce_soft"], ids=lambda c: f"{c['targets_from']}-{c['alpha']}-{c['beta']}")
def test_soft_nce(case: dict) -> None:
    dots, target = free("dot_scores").requires_grad_(), free("labels")
    queries, videos = dots.shape
    hard_queries, hard_videos = math.floor(case["alpha"] * queries), math.floor(case["alpha"] * videos)
    assert (hard_queries, hard_videos) == (case["hardQ"], case["hardV"])
    loss = losses.soft_info_nce(
        dots,
        target,
        relevance=(free("teacher_scores") if case["targets_from"] == "teacher" else dots)[None],
        mixing=case["beta"],
        hard_fraction=case["alpha"],
        hard_queries=torch.arange(queries) < hard_queries,
        hard_videos=torch.arange(videos) < hard_videos,
    )
    check(loss, dots, case["loss"], case["grad"])


@pytest.mark.parametrize("case", FREE["triplet"], ids=lambda c: str(c["index"]))
def test_triplet(case: dict) -> None:
    cosines, target = free("cos_scores").requires_grad_(), free("labels")
    negative_queries = losses.hardest_negative_queries(cosines, target)
    if case["v2t_rank_drawn"] is not None:
        wrong = cosines.detach().masked_fill(losses.ownership(target, cosines.shape[1]), -float("inf"))
        negative_queries = wrong.argsort(0, descending=True).gather(0, torch.tensor([case["v2t_rank_drawn"]]))[0]
    loss = losses.triplet(
        cosines,
        target,
        margin=case["margin"],
        negative_videos=torch.tensor(case["t2v_negative_video"]),
        negative_queries=negative_queries,
    )
    check(loss, cosines, case["loss"], case["grad"])


def test_triplet_of_the_hardest_draws_the_published_negatives() -> None:
    case = next(c for c in numbers("losses/losses.json")["triplet"] if c["hard_pool_size"] == 1 and c["use_hard_negative"])
    drawn = losses.hard_negative_videos(free("cos_scores"), free("labels"), pool=1)
    assert drawn.tolist() == case["t2v_negative_video"]


def test_frame_kl() -> None:
    student = free("student_clip_scores").requires_grad_()
    mask, target = free("frame_mask") > 0, free("labels")
    own = [scores.own_video(s.transpose(1, 2), target) for s in (student, free("teacher_clip_scores"))]
    expected = numbers("losses/losses.json")["kl_sum"]
    check(losses.frame_kl(*own, mask[target], temperature=0.2), student, expected, "grad_kl")
