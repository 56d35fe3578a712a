"""Holmes and DreamPRVR beside the numbers of their published code, from raw rows to six steps of training.

Another set of fixtures of the same layout is run by naming its folder: PRVR_PEERS=FOLDER (tests/support/gmmformer_family.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gmmformer_family import check_close
from leaders import HARD, HOLMES, Leader, every_leader, free_scores, leader
from torch import Tensor

from prvr.batch import Batch, read_clips
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.methods import dreamprvr, holmes, open_method
from prvr.methods.contract import embed
from prvr.nn import evidence, losses, views, word_scores
from prvr.train.optimiser import BertAdam, decay_groups

OUR_TERM = {
    "clip_nce": "clips_nce",
    "clip_triplet": "clips_triplet",
    "frame_nce": "frames_nce",
    "frame_triplet": "frames_triplet",
    "evidence_frame": "evidence_frames",
    "evidence_clip": "evidence_clips",
}
CASES = [("holmes", case) for case in ("epoch_0", "epoch_20_pool_1", "epoch_20_pool_3")]
CASES += [("holmes_dual", case) for _, case in CASES] + [("dreamprvr", case) for case in ("epoch_0", "epoch_20_pool_1")]
every_mode = pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
both_holmes = pytest.mark.parametrize("name", HOLMES)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def compared(
    given: Leader, model: Any, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], batch: Batch
) -> dict[str, Tensor]:
    """Cosines and inner products of each branch, as the objective sees them."""
    compare = word_scores.compare_by_words if given.name == "holmes_dual" else views.compare_views
    found = compare(model, queries, videos, batch)
    names = {"clip_scores": found["clips"][0], "clip_dots": found["clips"][1]}
    return {**names, "frame_scores": found["frames"][0], "frame_dots": found["frames"][1]}


@every_leader
def test_our_loaders_read_what_theirs_do(name: str) -> None:
    given = leader(name)
    model, theirs = given.model(), given.arrays
    clips = np.stack([read_clips(rows, model.reading) for rows in given.frames.values()])
    check_close(torch.from_numpy(clips), torch.from_numpy(theirs["clip_video_features"]), tolerance=1e-12)
    batch = given.batch(model)
    longest, words = batch.frame_mask.shape[1], batch.word_mask.shape[1]
    frames = torch.from_numpy(theirs["frame_video_features"][given.video_order])[:, :longest]
    check_close(batch.frames, frames, tolerance=1e-12)
    mask = theirs["videos_mask"][given.video_order] > 0
    assert np.array_equal(batch.frame_mask.numpy(), mask[:, :longest])
    assert not mask[:, longest:].any()
    check_close(batch.words, torch.from_numpy(theirs["text_feat"][given.query_order])[:, :words], tolerance=1e-12)
    assert np.array_equal(batch.word_mask.numpy(), theirs["text_mask"][given.query_order] > 0)


@every_leader
@every_mode
@torch.no_grad()
def test_embeddings_and_scores(name: str, training: bool) -> None:
    given = leader(name)
    model = given.model().train(training)
    batch = given.batch(model)
    queries, videos, _ = embed(model, batch)
    check_close(queries[0], given.expected("queries", by="q-"), what="queries")
    check_close(videos[0], given.expected("clips", by="v--"), what="clips")
    mask = batch.frame_mask
    check_close(videos[1][mask], given.expected("frames", by="v--")[:, : mask.shape[1]][mask], what="frames")
    for array, ours in compared(given, model, queries, videos, batch).items():
        check_close(ours, given.expected(array, by="qv"), what=array)
    check_close(model.score(queries, videos, mask), given.expected("scores", by="qv"), what="scores")


@every_leader
@torch.no_grad()
def test_an_index_scores_as_the_published_code(name: str) -> None:
    given = leader(name)
    model = given.model().float()
    model.reading = replace(model.reading, precision="float32")
    batch = given.batch(model)
    queries = model.encode_queries(batch.words, batch.word_mask)
    index = ExactIndex(model)
    add_videos(index, [f"video {video}" for video in given.video_order], given.frames)
    check_close(index.scores(queries), given.expected("scores", by="qv").float(), tolerance=1e-5)


@pytest.fixture
def draw_as_recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Leader, dict[str, Any]], None]:
    """Makes the objective draw the recorded negatives: for the clips, then for the frames. Each must be one that it may draw."""

    def begin(given: Leader, case: dict[str, Any]) -> None:
        of_query, of_video = ({old: new for new, old in enumerate(order)} for order in (given.query_order, given.video_order))
        picks = [case["picks"][branch] for branch in ("clip", "frame")]
        videos_of = [torch.tensor([of_video[each["video_of_query"][old]] for old in given.query_order]) for each in picks]
        queries_of = [torch.tensor([of_query[each["query_of_video"][old]] for old in given.video_order]) for each in picks]

        def videos(scored: Tensor, target: Tensor, *, pool: int, generator: object = None) -> Tensor:
            negative = videos_of.pop(0)
            assert not (negative == target).any()
            harder = scored.masked_fill(losses.ownership(target, scored.shape[1]), losses.LOWEST)
            assert int((harder > harder.gather(1, negative[:, None])).sum(1).max()) < min(pool, scored.shape[1] - 1)
            return negative

        hardest = losses.hardest_negative_queries

        def queries(scored: Tensor, target: Tensor) -> Tensor:
            negative = queries_of.pop(0)
            assert not (target[negative] == torch.arange(len(negative))).any()
            if case["hard_negatives"]:
                assert torch.equal(hardest(scored, target), negative)
            return negative

        monkeypatch.setattr(losses, "hard_negative_videos", videos)
        monkeypatch.setattr(losses, "hardest_negative_queries", queries)
        monkeypatch.setattr(losses, "random_negative_queries", queries)

    return begin


@pytest.fixture
def noise_as_recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Leader], None]:
    """Makes DreamPRVR draw the recorded perturbation of the texts."""

    def begin(given: Leader) -> None:
        if "alpha" in given.forward:
            drawn = given.expected("alpha", by="v--"), given.expected("beta", by="v--")
            monkeypatch.setattr(dreamprvr, "draw_perturbation", lambda texts, registers: drawn)

    return begin


@pytest.mark.parametrize(("name", "case"), CASES)
@every_mode
def test_loss_terms(
    name: str, case: str, training: bool, draw_as_recorded: Callable[..., None], noise_as_recorded: Callable[..., None]
) -> None:
    given = leader(name)
    theirs = given.losses["cases"][case]
    model = given.model(pool=theirs["pool"]).train(training)
    embedded = embed(model, given.batch(model))
    noise_as_recorded(given)
    draw_as_recorded(given, theirs)
    terms = open_method(name).objective(model, *embedded, HARD if theirs["hard_negatives"] else HARD - 1)
    wanted = {OUR_TERM.get(term, term): value for term, value in theirs["terms"].items()}
    assert set(terms) == set(wanted)
    for term, value in terms.items():
        check_close(value.detach(), number(wanted[term]), what=term)
    check_close(total(terms).detach(), number(theirs["total"]), what="total")
    total(terms).backward()
    check_gradient_sums(given, model, theirs["gradient_sums"])


def check_gradient_sums(given: Leader, model: torch.nn.Module, sums: dict[str, list[float] | None]) -> None:
    """Compares the norm of each gradient, and its product with cos(1), cos(2), ..., with the published ones in full precision."""
    parameters = dict(model.named_parameters())
    largest = max(value[0] for value in sums.values() if value)
    for key, value in sums.items():
        gradient = parameters[given.ours[key]].grad
        if value is None:
            assert gradient is None or not gradient.any(), key
            continue
        assert gradient is not None, key
        probe = torch.arange(1, gradient.numel() + 1, dtype=torch.float64).cos()
        found = torch.stack([gradient.norm(), gradient.flatten() @ probe])
        assert found.isfinite().all(), key
        assert float((found - torch.tensor(value, dtype=torch.float64)).abs().max()) <= 1e-9 * largest, key


@every_leader
@every_mode
def test_gradients(name: str, training: bool, noise_as_recorded: Callable[..., None]) -> None:
    given = leader(name)
    model = given.model().train(training)
    embedded = embed(model, given.batch(model))
    noise_as_recorded(given)
    total(open_method(name).objective(model, *embedded, HARD)).backward()
    theirs = {given.ours[key]: value for key, value in given.tensors("grads.npz").items()}
    largest = max(float(value.abs().max()) for value in theirs.values())
    learned = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(learned) == set(theirs)
    for key, parameter in learned.items():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert float((parameter.grad - theirs[key]).abs().max()) <= 1e-7 * largest, key


@every_leader
def test_six_steps_of_training(name: str, noise_as_recorded: Callable[..., None]) -> None:
    given = leader(name)
    theirs, model = given.training, given.model().train()
    batch = given.batch(model)
    groups = decay_groups(model.parameters(), weight_decay=theirs["weight_decay"])
    assert [len(group["params"]) for group in groups] == [theirs["with_decay_count"], theirs["without_decay_count"]]
    decaying = {id(parameter) for parameter in groups[0]["params"]}
    norms = {key for key, parameter in model.named_parameters() if id(parameter) in decaying and parameter.ndim == 1}
    assert norms == {given.ours[key] for key in theirs["decayed_though_a_norm"]}
    settings = {"lr": theirs["lr"], "total_steps": theirs["t_total"], "warmup": theirs["warmup"], "clip": theirs["max_grad_norm"]}
    optimiser = BertAdam(groups, **settings)
    noise_as_recorded(given)
    for step, wanted in enumerate(theirs["totals"]):
        loss = total(open_method(name).objective(model, *embed(model, batch), HARD))
        check_close(loss.detach(), number(wanted), tolerance=1e-8, what=f"step {step}")
        if step < theirs["t_total"]:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    parameters = dict(model.named_parameters())
    assert set(parameters) == {given.ours[key] for key in theirs["final_norms"]}
    ours = torch.stack([parameters[given.ours[key]].detach().norm() for key in theirs["final_norms"]])
    check_close(ours, torch.tensor(list(theirs["final_norms"].values()), dtype=torch.float64), tolerance=1e-8, what="norms")


# Holmes


@both_holmes
@torch.no_grad()
def test_kinds_targets_and_plans(name: str) -> None:
    given = leader(name)
    theirs = given.losses["cases"]["epoch_20_pool_1"]["partition"]
    model = given.model()
    batch, config = given.batch(model), model.config
    queries, videos, _ = embed(model, batch)
    found = compared(given, model, queries, videos, batch)
    kinds, opinions, branches = [], [], (found["frame_scores"], found["clip_scores"])
    for branch, cosines in zip(("frame", "clip"), branches, strict=True):
        opinion = evidence.opinion_of(cosines, temperature=config.evidence_temperature)
        ours, info = evidence.partition(opinion, cosines, batch.target, share=config.partition_share), theirs[f"{branch}_info"]
        assert ours.kinds.tolist() == [theirs[branch][n] for n in given.query_order]
        check_close(opinion.uncertainty, torch.tensor(info["uncertainty"], dtype=torch.float64)[given.query_order])
        check_close(ours.entropy, torch.tensor(info["expected_entropy"], dtype=torch.float64)[given.query_order])
        check_close(ours.median_entropy, number(info["median_entropy"]))
        check_close(ours.uncertainty_limit, number(info["beta_u"]))
        check_close(ours.score_limit, number(info["beta_p"]))
        kinds.append(ours.kinds)
        opinions.append(opinion)
    assert evidence.join_kinds(*kinds).tolist() == [theirs["fused"][n] for n in given.query_order]
    targets = holmes.calibrated_targets(config, opinions, branches, batch.target)
    check_close(targets, given.expected("labels_calibrated", by="qv"))
    blocks = evidence.own_clips(queries[0], videos[0], batch.target, padding_counts=True)
    mask = given.expected("transport_mask", by="v-") > 0
    assert torch.equal(blocks.real, mask)
    check_close(blocks.similarities[mask], given.expected("transport_similarity", by="v--")[mask])
    dustbin = evidence.dustbin_values(blocks, share=config.dustbin_share)
    check_close(dustbin, torch.tensor(theirs["dustbin"], dtype=torch.float64)[given.video_order])
    plan = evidence.transport(blocks, dustbin, temperature=config.coupling_temperature, rounds=config.transport_rounds)
    check_close(plan[mask], given.expected("transport_plan", by="v--")[mask])


@both_holmes
def test_losses_of_free_scores(name: str) -> None:
    given, theirs = free_scores(name), leader(name).losses["free_scores"]
    config = leader(name).settings(pool=1)
    target = given["labels"]
    cosines, vectors = (
        {key: given[key].double().requires_grad_() for key in keys}
        for keys in (("frame_scores", "clip_scores"), ("queries", "clips"))
    )
    frames, clips = cosines["frame_scores"], cosines["clip_scores"]
    of_frames, of_clips = (evidence.opinion_of(each, temperature=config.evidence_temperature) for each in (frames, clips))
    both = evidence.join(of_frames, of_clips)
    for ours, wanted in ((of_frames, "alpha_frame"), (of_clips, "alpha_clip"), (both, "alpha_both")):
        check_close(ours.alpha.detach(), given[wanted], what=wanted)
    check_close(both.belief.detach(), given["belief_both"])
    check_close(both.uncertainty.detach(), given["uncertainty_both"])
    opinions = {"frame": (of_frames, frames), "clip": (of_clips, clips)}
    parts = {key: evidence.partition(*each, target, share=config.partition_share) for key, each in opinions.items()}
    for key, part in parts.items():
        assert torch.equal(part.kinds, given[f"partition_{key}"])
        check_close(part.uncertainty_limit, number(theirs[f"{key}_info"]["beta_u"]))
        check_close(part.score_limit, number(theirs[f"{key}_info"]["beta_p"]))
    assert torch.equal(evidence.join_kinds(*(part.kinds for part in parts.values())), given["partition"])
    targets = holmes.calibrated_targets(config, [of_frames, of_clips], (frames, clips), target)
    check_close(targets, given["labels_calibrated"])
    terms = holmes.evidence_terms(config, frames, clips, target, calibrated=True)
    unweighted = zip(("opinion_frame", "opinion_clip", "opinion_both"), terms.values(), strict=True)
    for key, term in unweighted:
        check_close(term.detach() / config.evidence_weight, number(theirs[key]), what=key)
    transported = holmes.transport_of(config, vectors["queries"], vectors["clips"], target)
    check_close(transported.detach(), number(theirs["transport"]))
    blocks = evidence.own_clips(vectors["queries"], vectors["clips"], target, padding_counts=True)
    check_close(blocks.similarities.detach()[blocks.real], given["transport_similarity"][given["transport_mask"] > 0])
    terms["transport"] = config.transport_weight * transported
    weights = {"frames": config.frame_nce_weight, "clips": config.clip_nce_weight}
    for key, scored in (("frames", frames), ("clips", clips)):
        terms[f"{key}_triplet"] = losses.ranking(scored, target, margin=config.margin, pool=1)
        terms[f"{key}_nce"] = weights[key] * losses.info_nce(3 * scored, target)
    terms |= views.diversity_term(config, vectors["queries"], target)
    check_close(total(terms).detach(), number(theirs["total"]))
    total(terms).backward()
    for key, value in {**cosines, **vectors}.items():
        assert value.grad is not None
        check_close(value.grad, given[f"grad_{key}"], what=key)


@torch.no_grad()
def test_words_of_two_queries() -> None:
    given = leader("holmes_dual")
    model = given.model()
    batch = given.batch(model)
    queries, _, _ = embed(model, batch)
    real = queries[3]
    check_close(queries[2][real], given.expected("word_vectors", by="q--")[real])
    unit = torch.nn.functional.normalize(queries[2], dim=-1)
    check_close(model.confidence(unit, real), given.expected("word_confidence_unit", by="q-"))
    check_close(model.confidence(queries[2], real), given.expected("word_confidence_raw", by="q-"))


# DreamPRVR


@torch.no_grad()
def test_registers_and_what_they_come_from() -> None:
    given = leader("dreamprvr")
    model = given.model().train()
    batch = given.batch(model)
    queries, videos, _ = embed(model, batch)
    source, diffusion = model.source_of(videos, batch), model.diffusion
    check_close(source.mean, given.expected("mu", by="v-"))
    check_close(source.log_variance, given.expected("logvar", by="v-"))
    check_close(source.condition, given.expected("condition", by="v--"))
    check_close(model.pooling.weights(), given.expected("pool_weights", by="-"))
    hidden, rows = model.clips.embed(*(read := model.read_clips(batch.frames, batch.frame_mask, batch.clips))), read[1]
    clips = rows.padded(model.plain_block(hidden, rows))
    check_close(model.pooling(clips), given.expected("pooled", by="v-"))
    check_close(torch.tensor(diffusion.betas, dtype=torch.float64), torch.from_numpy(given.forward["betas"]))
    check_close(torch.tensor(diffusion.cumulative, dtype=torch.float64), torch.from_numpy(given.forward["alphas_cumulative"]))
    registers = diffusion.reverse(model.denoiser, source.mean, source.condition)
    check_close(registers, given.expected("registers", by="v--"))
    texts = dreamprvr.mean_texts(queries[0], batch.target, len(videos[0]))
    check_close(texts, given.expected("mean_queries", by="v-"))
    clean = dreamprvr.perturb(texts, given.expected("alpha", by="v--"), given.expected("beta", by="v--"))
    check_close(clean, given.expected("perturbed_queries", by="v--"))
    noisy = diffusion.noisy(clean, source.mean[:, None])
    found = model.denoiser(noisy, torch.arange(model.config.steps), source.condition)
    check_close(found, given.expected("predicted", by="-v--").double(), tolerance=1e-6)


# Parameters at the published sizes: 3072 and 768 columns on TVR, 1024 and 1024 elsewhere.


@pytest.mark.parametrize(
    ("method", "changes", "columns", "count"),
    [
        ("holmes", {}, (3072, 768), 32_273_440),
        ("holmes", {}, (1024, 1024), 30_791_200),
        ("holmes_dual", {}, (3072, 768), 34_345_121),
        ("holmes_dual", {}, (1024, 1024), 32_961_697),
        ("dreamprvr", {}, (3072, 768), 37_622_976),
        ("dreamprvr", {"registers": 4}, (1024, 1024), 36_139_200),
        ("dreamprvr", {"registers": 6}, (1024, 1024), 36_139_968),
    ],
)
def test_parameters_at_published_sizes(method: str, changes: dict[str, int], columns: tuple[int, int], count: int) -> None:
    made = open_method(method)
    with torch.device("meta"):
        model = made.model(made.config(**changes), frame_columns=columns[0], word_columns=columns[1])
    assert sum(parameter.numel() for parameter in model.parameters()) == count
