"""Sampling, data set, optimiser, schedules, evaluation and eight training steps beside those of the published code."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from dl_dkd import PLAIN, PLUS, taught
from published import FIXTURES, arrays, numbers, our_name, parameters

from prvr.batch import Batch, Item, Reading, collate, pad, read_frames, read_teacher, read_words, resample, unit_rows
from prvr.evaluate.metrics import ranks, retrieval
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.nn import schedules
from prvr.nn.distillation import Distillation
from prvr.train.optimiser import BertAdam, decay_groups

READING = Reading(12, 10, 128, 30, unit=True, text="words")
TOY = FIXTURES / "dataset" / "toy"


def test_sampling() -> None:
    fixture = arrays("sampling/sampling.npz")
    for case in numbers("sampling/sampling.json"):
        n, most = case["n"], case["max_len"]
        given = fixture[f"in_{n}_{most}"]
        for rows, expected, tolerance in ((given.astype(np.float64), "out64", 1e-12), (given, "out32", 1e-5)):
            ours = resample(rows, most)
            np.testing.assert_allclose(ours, fixture[f"{expected}_{n}_{most}"], rtol=tolerance, atol=tolerance)


def test_unit_rows() -> None:
    fixture = arrays("sampling/l2norm.npz")
    np.testing.assert_allclose(unit_rows(fixture["in_f32"]), fixture["out_f32"], rtol=1e-6)
    np.testing.assert_allclose(unit_rows(fixture["in_f32"].astype(np.float64)), fixture["out_f64"], rtol=1e-12)
    np.testing.assert_allclose(unit_rows(fixture["in3_f32"]), fixture["out3_f32"], rtol=1e-6)


@pytest.mark.parametrize("run", numbers("optimizer/bertadam.json")["runs"], ids=lambda run: run["name"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bertadam(run: dict, dtype: torch.dtype) -> None:
    fixture = arrays("optimizer/bertadam.npz")
    names = ("weight", "bias", "sometimes")
    tensors = {n: torch.nn.Parameter(torch.from_numpy(fixture[f"init_{n}"]).to(dtype)) for n in names}
    groups = [{"params": [tensors[n]], "weight_decay": run["decay"][n]} for n in names]
    clip = run["max_grad_norm"] if run["max_grad_norm"] > 0 else None
    optimiser = BertAdam(groups, lr=run["lr"], total_steps=run.get("t_total"), warmup=run.get("warmup", 0.0), clip=clip)
    silent = numbers("optimizer/bertadam.json")["none_grad_steps_for_sometimes"]
    for step in range(20):
        for n in names:
            tensors[n].grad = torch.from_numpy(fixture[f"grads_{n}"][step]).to(dtype)
        if step in silent:
            tensors["sometimes"].grad = None
        optimiser.step()
        for n in names:
            expected = fixture[f"{run['name']}_traj_{n}"][step]
            np.testing.assert_allclose(tensors[n].detach().numpy(), expected, rtol=2e-5, atol=2e-6)


def test_bertadam_first_step_changes_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 2))
    optimiser = BertAdam([weight], lr=1.0, total_steps=100)
    weight.grad = torch.full((3, 2), 7.0)
    optimiser.step()
    assert torch.equal(weight, torch.ones(3, 2))
    optimiser.step()
    assert not torch.equal(weight, torch.ones(3, 2))


PUBLISHED_DECAY = {"exp": "exponential", "linear": "linear", "sigmoid": "sigmoid", "cosine": "cosine", "None": "fixed"}


def test_schedules_of_distillation() -> None:
    for name, values in numbers("schedules/schedules_master.json")["distill"].items():
        ours = [schedules.DECAYS[PUBLISHED_DECAY[name]](epoch) for epoch in range(120)]
        assert ours == pytest.approx(values, rel=1e-12), name


@pytest.mark.parametrize("which", ["alpha", "beta"])
def test_schedules_of_soft_targets(which: str) -> None:
    for case in numbers("schedules/schedules_master.json")[which]:
        floor = 0.5 if which == "beta" and case["initial"] >= 0.5 else 0.0
        kind = PUBLISHED_DECAY[case["decay"]]
        ours = [schedules.soft_target_weight(kind, e, initial=case["initial"], floor=floor, epochs=120) for e in range(120)]
        assert ours == pytest.approx(case["values"], rel=1e-12, abs=1e-15), case["decay"]


def test_schedules_of_the_conference_version() -> None:
    values = numbers("schedules/schedules_iccv.json")["values"]
    for way, (name, decay) in enumerate(schedules.DECAYS.items()):
        assert [decay(epoch) for epoch in range(120)] == pytest.approx(values[f"decay_way_{way}"], rel=1e-12), name


def test_metrics() -> None:
    expected, fixture = numbers("metrics/metrics.json"), arrays("metrics/metrics.npz")
    gt = expected["t2v_gt"]
    cases = {"unique": ("scores_unique", gt), "fused_0.7_0.3": ("scores_fused", gt)}
    cases["multi_gt"] = ("scores_unique", expected["multi_gt"]["gt"])
    for name, (scores, truth) in cases.items():
        correct = np.zeros((60, 25), bool)
        for query, videos in enumerate(truth):
            correct[query, videos] = True
        ours, theirs = retrieval(fixture[scores], correct), expected[name]
        assert [ours.r1, ours.r5, ours.r10, ours.r100] == pytest.approx([theirs[f"R@{k}"] for k in (1, 5, 10, 100)])
        assert (ours.medr, ours.meanr) == pytest.approx((theirs["MedR"], theirs["MeanR"]))
        if "mAP" in theirs:
            assert ours.mrr == pytest.approx(theirs["mAP"])
            assert ours.sumr == pytest.approx(theirs["SumR"])
    correct = np.eye(25, dtype=bool)[[videos[0] for videos in gt]]
    assert ranks(fixture["scores_unique"], correct).tolist() == fixture["ranks_unique"].tolist()
    assert ranks(fixture["scores_ties"], correct).tolist() == fixture["rank_pessimistic_ties"].tolist()


class Toy:
    """The toy data set in the published layout, read plainly."""

    def __init__(self, split: str) -> None:
        features = TOY / "FeatureData" / "i3d_toy"
        rows, columns = map(int, (features / "shape.txt").read_text().split())
        matrix = np.fromfile(features / "feature.bin", "<f4").reshape(rows, columns)
        place = {name: k for k, name in enumerate((features / "id.txt").read_text("latin-1").split())}
        frames = ast.literal_eval((features / "video2frames.txt").read_text())
        self.frames = {video: matrix[[place[f] for f in names]] for video, names in frames.items()}
        self.teacher = h5(TOY / "FeatureData" / "new_clip_vit_32_toy_vid_features.hdf5")
        self.words = h5(TOY / "TextData" / "roberta_toy_query_feat.hdf5")
        self.sentences = h5(TOY / "TextData" / "clip_ViT_B_32_toy_query_feat.hdf5")
        lines = (TOY / "TextData" / f"toy{split}.caption.txt").read_text().splitlines()
        self.captions: dict[str, list[str]] = {}
        for line in lines:
            caption = line.split(" ", 1)[0]
            self.captions.setdefault(caption.split("#")[0], []).append(caption)

    def item(self, video: str) -> Item:
        teacher = self.teacher[video]
        frames = read_frames(self.frames[video], READING, teacher_rows=len(teacher))
        words = [read_words(self.words[c].reshape(-1, 10), READING) for c in self.captions[video]]
        sentences = np.concatenate([self.sentences[c.replace("#enc#", "#")] for c in self.captions[video]])
        return Item(frames, words, [(read_teacher(teacher, READING, student_rows=len(frames)), sentences)])


def h5(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        return {key: value[()] for key, value in file.items()}


def test_items_of_the_toy_data_set() -> None:
    toy, expected, fixture = Toy("train"), numbers("dataset/expected_train.json"), arrays("dataset/expected_train.npz")
    assert list(toy.captions) == expected["train_video_ids"]
    for number, about in enumerate(expected["items"]):
        item = toy.item(about["video_id"])
        np.testing.assert_allclose(item.frames, fixture[f"item{number}_student"], atol=1e-6)
        np.testing.assert_allclose(item.teachers[0][0], fixture[f"item{number}_teacher"], rtol=1e-5, atol=1e-6)
        for k, caption in enumerate(about["cap_ids"]):
            assert toy.captions[about["video_id"]][k] == caption
            np.testing.assert_allclose(item.words[k], fixture[f"item{number}_cap{k}"], atol=1e-6)


def toy_batch() -> Batch:
    toy = Toy("train")
    return collate([toy.item(video) for video in toy.captions])


def test_batch_of_the_toy_data_set() -> None:
    ours, fixture = toy_batch(), arrays("dataset/expected_train.npz")
    assert torch.equal(ours.target, torch.from_numpy(fixture["batch_text_labels"]))
    assert torch.equal(ours.frame_mask, torch.from_numpy(fixture["batch_student_videos_mask"]) > 0)
    assert torch.equal(ours.word_mask, torch.from_numpy(fixture["batch_student_text_mask"]) > 0)
    np.testing.assert_allclose(ours.frames, fixture["batch_student_videos"], atol=1e-6)
    np.testing.assert_allclose(ours.words, fixture["batch_student_text"], atol=1e-6)
    np.testing.assert_allclose(ours.teachers[0].frames, fixture["batch_teacher_videos"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.teachers[0].queries, fixture["batch_teacher_text"], atol=1e-6)


def distillation_of(run: dict) -> Distillation:
    if run["style"] != "soft":
        return PLAIN
    fixed = {"hard_fraction_decay": "fixed", "mixing_decay": "fixed"}
    return dataclasses.replace(PLUS, hard_fraction=run["alpha"], mixing=run["beta"], **fixed)


def toy_model(dtype: torch.dtype) -> DlDkd:
    config = DlDkdConfig(hidden=16, heads=4, dropout=0.0, input_dropout=0.0, margin=0.1, negative_pool=1)
    model = DlDkd(config, frame_columns=12, word_columns=10).to(dtype)
    model.load_state_dict(parameters("dataset/params.npz", dtype))
    return model


@pytest.mark.usefixtures("either_product")
@pytest.mark.parametrize("split", ["val", "test"])
def test_scores_of_the_toy_data_set(split: str) -> None:
    toy, fixture, expected = Toy(split), arrays("dataset/expected_eval.npz"), numbers("dataset/expected_eval.json")[split]
    model = toy_model(torch.float32).eval()
    frames, frame_mask = pad([read_frames(toy.frames[v], READING) for v in expected["video_ids"]])
    words, word_mask = pad([read_words(toy.words[q].reshape(-1, 10), READING) for q in expected["query_ids"]])
    with torch.no_grad():
        ours = model.score(model.encode_queries(words, word_mask), model.encode_videos(frames, frame_mask), frame_mask)
    np.testing.assert_allclose(ours, fixture[f"{split}_fused_scores"], atol=1e-5)
    correct = np.array([[q.split("#")[0] == v for v in expected["video_ids"]] for q in expected["query_ids"]])
    figures = retrieval(ours.numpy(), correct)
    assert (figures.sumr, figures.medr, figures.mrr) == pytest.approx(
        tuple(expected["fused"][n] for n in ("SumR", "MedR", "mAP"))
    )


RUNS = numbers("dataset/expected_train_run.json")


@pytest.mark.usefixtures("either_product")
@pytest.mark.parametrize("run", RUNS["runs"], ids=lambda run: f"{run['style']}-{run['dtype']}")
def test_eight_steps_on_the_toy_data_set(run: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schedules.DECAYS, "exponential", lambda epoch: run["distill_weight"])
    dtype = torch.float64 if run["dtype"] == "f64" else torch.float32
    model = toy_model(dtype)
    groups = decay_groups(model.parameters(), weight_decay=0.01)
    decayed = {our_name(name) for name in RUNS["decayed"]}
    assert {id(p) for p in groups[0]["params"]} == {id(p) for n, p in model.named_parameters() if n in decayed}
    optimiser = BertAdam(groups, lr=RUNS["lr"], total_steps=RUNS["t_total"], warmup=RUNS["warmup"])
    given = toy_batch().to(torch.device("cpu"), dtype)
    tolerance = 1e-7 if run["dtype"] == "f64" else 1e-4  # inputs are stored as float32
    for record in run["losses_before_each_step_then_after"]:
        loss = torch.stack(list(taught(model, given, 0, distillation_of(run)).values())).sum()
        assert loss.item() == pytest.approx(record["loss_overall"], rel=tolerance)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("style", ["soft", "hard"])
def test_weights_after_eight_steps(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = next(r for r in RUNS["runs"] if r["style"] == style and r["dtype"] == "f64")
    monkeypatch.setitem(schedules.DECAYS, "exponential", lambda epoch: run["distill_weight"])
    model = toy_model(torch.float64)
    groups = decay_groups(model.parameters(), weight_decay=0.01)
    optimiser = BertAdam(groups, lr=RUNS["lr"], total_steps=RUNS["t_total"], warmup=RUNS["warmup"])
    given = toy_batch().to(torch.device("cpu"), torch.float64)
    for _ in range(RUNS["steps"]):
        optimiser.zero_grad()
        torch.stack(list(taught(model, given, 0, distillation_of(run)).values())).sum().backward()
        optimiser.step()
    theirs = parameters(f"dataset/train_{style}_final_params_f64.npz", torch.float64)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), theirs[name].numpy(), atol=2e-6, err_msg=name)
