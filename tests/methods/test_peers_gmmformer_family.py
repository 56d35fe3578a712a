"""MS-SL, GMMFormer and what follows them beside the numbers of their published code, from raw rows to six steps of training.

Another set of fixtures of the same layout is run by naming its folder: PRVR_PEERS=FOLDER (tests/support/gmmformer_family.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gmmformer_family import FOLDER, HARD, METHOD, Peer, check_close, every_peer, peer
from torch import Tensor

from prvr.batch import Batch, collate, read_clips, read_frames, video_item
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.methods import hlformer, ms_sl, open_method, ral
from prvr.methods.contract import embed
from prvr.nn import hyperboloid, losses, scores, word_scores
from prvr.nn.layers import Rows
from prvr.nn.views import raise_to_floor
from prvr.train.optimiser import BertAdam, decay_groups

OUR_TERM = {
    "clip_nce": "clips_nce",
    "clip_triplet": "clips_triplet",
    "frame_nce": "frames_nce",
    "frame_triplet": "frames_triplet",
    "partial_order": "order",
    "proxy_matching": "proxies",
    "distribution_alignment": "alignment",
}
VIEWS = ("gmmformer_v2", "gmmformer_v2+ral", "hlformer")
every_mode = pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])


def compared(given: Peer, model: Any, queries: tuple[Tensor, ...], videos: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
    """Cosines and inner products of each branch, as the objective sees them."""
    if given.name.startswith("ms-sl"):
        ours = ms_sl.compare(queries[0], videos[0], model.shares(videos[0]))
        return {"clip_scores": ours.cosines, "clip_products": ours.dots}
    of_clips = scores.compare(queries[0], videos[0], scores.every_row(videos[0]), batch.target)
    found = {"clip_scores": of_clips.cosines, "clip_products": of_clips.dots}
    if given.name == "gmmformer":
        of_frames = scores.compare(queries[1], videos[1], scores.every_row(videos[1]), batch.target)[:2]
    elif given.name == "gmmformer_v2+ral":
        of_frames = word_scores.compare_words(model, queries, videos[1], batch.frame_mask, batch.target)
    else:
        plain = scores.compare(queries[1], videos[1], batch.frame_mask, batch.target)
        of_frames = tuple(raise_to_floor(best, batch.frame_mask, model.padded_to) for best in plain[:2])
    return {**found, "frame_scores": of_frames[0], "frame_products": of_frames[1]}


@every_peer
def test_our_loaders_read_what_theirs_do(name: str) -> None:
    given = peer(name)
    reading, theirs = given.model().reading, given.arrays
    clips = [read_clips(rows, reading) for rows in given.frames.values()]
    assert all(rows is not None for rows in clips)
    check_close(torch.from_numpy(np.stack(clips)), torch.from_numpy(theirs["clip_inputs"]), tolerance=1e-12)
    first = read_frames(given.frames["video 0"], reading)
    check_close(torch.from_numpy(first), torch.from_numpy(theirs["frame_inputs_first_video"]), tolerance=1e-12)
    batch = given.batch(given.model())
    longest, words = batch.frame_mask.shape[1], theirs["word_mask"][given.query_order]
    frames = theirs["frame_mask"][given.video_order]
    assert np.array_equal(batch.frame_mask.numpy(), frames[:, :longest] > 0)
    assert not frames[:, longest:].any()
    assert np.array_equal(batch.word_mask.numpy(), words > 0)
    labels = torch.tensor([given.video_order.index(v) for v in theirs["labels"][given.query_order]])
    assert torch.equal(batch.target, labels)


@every_peer
@every_mode
@torch.no_grad()
def test_embeddings_and_scores(name: str, training: bool) -> None:
    given = peer(name)
    model = given.model().train(training)
    batch = given.batch(model)
    queries, videos, _ = embed(model, batch)
    check_close(queries[0], given.expected("query", by="q-"), what="query")
    clips = videos[0]
    if name == "ms-sl":
        clips = torch.einsum("kn,vnd->vkd", model.means.shares(like=clips), clips)
    check_close(clips, given.expected("clips", by="v--"), what="clips")
    frames = given.expected("frames", by="v--" if given.forward["frames"].ndim == 3 else "v-")
    if name == "gmmformer":
        check_close(videos[1][:, 0], frames, what="frames")
    else:
        mask = batch.frame_mask
        check_close(videos[1][mask], frames[:, : mask.shape[1]][mask], what="frames")
    for array, ours in compared(given, model, queries, videos, batch).items():
        check_close(ours, given.expected(array, by="qv"), what=array)
    check_close(model.score(queries, videos, batch.frame_mask), given.expected("scores", by="qv"), what="scores")


@every_peer
@torch.no_grad()
def test_an_index_scores_as_the_published_code(name: str) -> None:
    given = peer(name)
    model = given.model().float()
    model.reading = replace(model.reading, precision="float32")
    batch = given.batch(model)
    queries = model.encode_queries(batch.words, batch.word_mask)
    index = ExactIndex(model)
    videos = [f"video {video}" for video in given.video_order]
    add_videos(index, videos, given.frames)
    assert index.ids == videos
    wanted = given.expected("scores", by="qv").float()
    check_close(index.scores(queries), wanted, tolerance=1e-5)


def names_of_terms(given: Peer, case: dict[str, Any]) -> dict[str, float]:
    return {OUR_TERM.get(term, term): value for term, value in case["terms"].items()}


Drawn = dict[str, list[Tensor]]


def recorded(given: Peer, case: dict[str, Any]) -> Drawn:
    """The recorded negatives in the order in which the objective draws them, and in the order of our batch."""
    place_of_query, place_of_video = ({old: new for new, old in enumerate(o)} for o in (given.query_order, given.video_order))

    def moved(values: list[int], order: list[int], place: dict[int, int]) -> Tensor:
        return torch.tensor([place[values[old]] for old in order])

    drawn: Drawn = {"videos": [], "queries": []}
    for each in case["negatives"].values():
        if "t2v_video" in each:
            drawn["videos"].append(moved(each["t2v_video"], given.query_order, place_of_video))
            drawn["queries"].append(moved(each["v2t_query"], given.video_order, place_of_query))
        else:
            for key in ("summary_of_query", "query_of_summary"):
                drawn["videos"].append(moved(each[key], given.query_order, place_of_query))
    return drawn


def ranks_of(given: Peer, case: dict[str, Any]) -> list[Tensor]:
    keys = ("t2v_rank", "row_rank", "column_rank")
    return [torch.tensor(each[k])[given.query_order] for each in case["negatives"].values() for k in keys if k in each]


def check_rank(wrong: Tensor, negative: Tensor, rank: Tensor) -> None:
    """Each negative scores as the one of its rank. Which one that is depends on how ties are sorted: padding scores exactly 0."""
    of_rank = wrong.sort(1, descending=True).values.gather(1, rank[:, None] - 1)
    check_close(wrong.gather(1, negative[:, None]), of_rank, tolerance=1e-12, what="negatives")


@pytest.fixture
def draw_as_recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Peer, dict[str, Any]], None]:
    """Makes the objective draw the recorded negatives. Each must have the recorded rank among ours and lie in the pool."""

    def begin(given: Peer, case: dict[str, Any]) -> None:
        drawn, ranks = recorded(given, case), ranks_of(given, case)

        def videos(scored: Tensor, target: Tensor, *, pool: int, generator: object = None) -> Tensor:
            negative, rank = drawn["videos"].pop(0), ranks.pop(0)
            wrong = scored.detach().masked_fill(losses.ownership(target, scored.shape[1]), losses.LOWEST)
            check_rank(wrong, negative, rank)
            assert int(rank.max()) <= min(pool, scored.shape[1] - 1)
            return negative

        def queries(scored: Tensor, target: Tensor) -> Tensor:
            negative = drawn["queries"].pop(0)
            wrong = scored.detach().masked_fill(losses.ownership(target, scored.shape[1]), losses.LOWEST).T
            assert wrong.gather(1, negative[:, None]).isfinite().all()
            if case["use_hard_negative"]:
                check_rank(wrong, negative, torch.ones_like(negative))
            return negative

        monkeypatch.setattr(losses, "hard_negative_videos", videos)
        monkeypatch.setattr(losses, "hardest_negative_queries", queries)
        monkeypatch.setattr(losses, "random_negative_queries", queries)

    return begin


@pytest.fixture
def noise_as_recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Peer], None]:
    """Makes RAL draw the recorded noise: of the texts, then of the videos."""

    def begin(given: Peer) -> None:
        if "noise_text" not in given.forward:
            return
        turns = [given.expected(f"noise_{side}", by="v--") for side in ("text", "video")]
        calls = iter(range(1_000_000))

        def noise(*shape: int, **_: object) -> Tensor:
            turn = turns[next(calls) % 2]
            assert turn.shape == shape
            return turn

        monkeypatch.setattr(ral.torch, "randn", noise)

    return begin


@every_peer
@every_mode
@pytest.mark.parametrize("case", ["hardest", "pool", "random"])
def test_loss_terms(
    name: str, training: bool, case: str, draw_as_recorded: Callable[..., None], noise_as_recorded: Callable[..., None]
) -> None:
    given = peer(name)
    theirs = given.losses["cases"][case]
    model = given.model(pool=theirs["pool"]).train(training)
    batch = given.batch(model)
    embedded = embed(model, batch)
    noise_as_recorded(given)
    if "negatives" in theirs:
        draw_as_recorded(given, theirs)
    terms = open_method(METHOD[name]).objective(model, *embedded, HARD if theirs["use_hard_negative"] else HARD - 1)
    wanted = names_of_terms(given, theirs)
    assert set(terms) == set(wanted)
    for term, value in terms.items():
        check_close(value.detach(), torch.tensor(wanted[term], dtype=torch.float64), what=term)
    check_close(total(terms).detach(), torch.tensor(theirs["total"], dtype=torch.float64), what="total")


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


@every_peer
@every_mode
def test_gradients(name: str, training: bool, noise_as_recorded: Callable[..., None]) -> None:
    given = peer(name)
    assert given.losses["gradient_of"] == "hardest"
    model = given.model().train(training)
    embedded = embed(model, given.batch(model))
    noise_as_recorded(given)
    total(open_method(METHOD[name]).objective(model, *embedded, HARD)).backward()
    theirs = {given.ours[key]: value for key, value in given.tensors("grads.npz").items()}
    largest = max(float(value.abs().max()) for value in theirs.values())
    parameters = dict(model.named_parameters())
    assert set(parameters) == set(theirs)
    for key, parameter in parameters.items():
        ours = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert ours.isfinite().all(), key
        assert float((ours - theirs[key]).abs().max()) <= 1e-7 * largest, key


@every_peer
def test_six_steps_of_training(name: str, noise_as_recorded: Callable[..., None]) -> None:
    given = peer(name)
    theirs = json.loads((FOLDER / name / "training.json").read_text())
    model = given.model().train()
    batch = given.batch(model)
    groups = decay_groups(model.parameters(), weight_decay=theirs["weight_decay"])
    decaying = {id(parameter) for parameter in groups[0]["params"]}
    exempt = {given.ours[key] for key in theirs["without_decay"]}
    assert {key for key, parameter in model.named_parameters() if id(parameter) not in decaying} == exempt
    settings = {"lr": theirs["lr"], "total_steps": theirs["t_total"], "warmup": theirs["warmup"], "clip": theirs["max_grad_norm"]}
    optimiser = BertAdam(groups, **settings)
    noise_as_recorded(given)
    for step, wanted in enumerate(theirs["totals"]):
        loss = total(open_method(METHOD[name]).objective(model, *embed(model, batch), HARD))
        check_close(loss.detach(), torch.tensor(wanted, dtype=torch.float64), tolerance=1e-8, what=f"step {step}")
        if step < theirs["t_total"]:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    norms = {given.ours[key]: value for key, value in theirs["final_norms"].items() if key in given.ours}
    parameters = dict(model.named_parameters())
    assert set(parameters) == set(norms)
    ours = torch.stack([parameters[key].detach().norm() for key in norms])
    check_close(ours, torch.tensor(list(norms.values()), dtype=torch.float64), tolerance=1e-8, what="norms")


# What one method alone has


@pytest.mark.parametrize("name", VIEWS)
@torch.no_grad()
def test_views_of_the_clips(name: str) -> None:
    given = peer(name)
    model = given.model()
    batch = given.batch(model)
    first = given.video_order.index(0)
    assert batch.clips is not None
    clips, branch = batch.clips[first], model.clips
    rows = Rows.of(torch.ones(1, len(clips), dtype=torch.bool))
    hidden = branch.positions(branch.projection(clips), rows)
    check_close(hidden, torch.from_numpy(given.forward["clip_embedded_first_video"]))
    views = torch.stack([view(hidden, rows) for view in branch.views])
    check_close(views, torch.from_numpy(given.forward["clip_views_first_video"]))


@torch.no_grad()
def test_frame_vectors_of_gmmformer_depend_on_the_longest_video_of_their_batch() -> None:
    given = peer("gmmformer")
    model = given.model()
    videos = [f"video {v}" for v in range(1, len(given.frames))]
    captions = {
        video: [f"caption {n}" for n in np.flatnonzero(given.arrays["labels"] == v + 1)] for v, video in enumerate(videos)
    }
    batch = collate([video_item(video, its, given.features, model.reading) for video, its in captions.items()])
    order = [video - 1 for video in given.video_order if video]
    ours = embed(model, batch)[1][1][:, 0]
    check_close(ours, torch.from_numpy(given.forward["frames_without_first_video"])[order])


@torch.no_grad()
def test_cones_of_hlformer() -> None:
    given = peer("hlformer")
    model = given.model()
    batch = given.batch(model)
    queries, videos, _ = embed(model, batch)
    apex, point, curvature = model.order.points(queries[0], *videos, batch.frame_mask)
    angle, aperture = hyperboloid.cone(apex[batch.target], point, curvature)
    assert hlformer.at_most(model.order.log_curvature, 100.0).isfinite()
    check_close(apex, given.expected("hyperbolic_video", by="v-"))
    check_close(point, given.expected("hyperbolic_query", by="q-"))
    check_close(curvature, torch.tensor(float(given.forward["curvature"]), dtype=torch.float64))
    check_close(angle, given.expected("angle", by="q"))
    check_close(aperture, given.expected("aperture", by="q"))


@torch.no_grad()
def test_words_and_distributions_of_ral() -> None:
    given = peer("gmmformer_v2+ral")
    model = given.model()
    batch = given.batch(model)
    queries, videos, _ = embed(model, batch)
    check_close(queries[2], given.expected("words", by="q--"))
    unit = torch.nn.functional.normalize(queries[2], dim=-1)
    check_close(model.confidence(unit, queries[3]), given.expected("confidence_unit", by="q-"))
    check_close(model.confidence(queries[2], queries[3]), given.expected("confidence_raw", by="q-"))
    for side, ours in zip(("text", "video"), model.distributions(queries, videos, batch), strict=True):
        check_close(ours.mean, given.expected(f"{side}_mean", by="v-"))
        check_close(ours.log_deviation, given.expected(f"{side}_log_deviation", by="v-"))


@pytest.mark.parametrize("name", ["ms-sl", "ms-sl++"])
@torch.no_grad()
def test_key_clips_and_summaries_of_ms_sl(name: str) -> None:
    given = peer(name)
    model = given.model()
    batch = given.batch(model)
    queries, videos, _ = embed(model, batch)
    shares = model.shares(videos[0])
    ours = ms_sl.compare(queries[0], videos[0], shares)
    assert torch.equal(ours.key, given.expected("key_clip", by="qv"))
    every = ms_sl.summaries(model, shares[ours.key], *videos, batch.frame_mask)
    check_close(every, given.expected("summaries", by="qv-"))
    own = ms_sl.own_summaries(model, ours.key, *videos, batch)
    check_close(own, given.expected("own_summaries", by="q-"))
    check_close(queries[0] @ own.T, given.expected("paired_frame_products", by="qq"))
    of_frames = torch.nn.functional.cosine_similarity(queries[0][:, None], every, dim=-1)
    check_close(of_frames, given.expected("frame_scores", by="qv"))
    if name == "ms-sl++":
        rows = model.clips(*model.read_clips(batch.frames, batch.frame_mask, batch.clips))
        clips = torch.einsum("kn,vnd->vkd", model.means.shares(like=rows), rows)
        assert torch.equal(model.choose_clips(clips), given.expected("medoids", by="v-"))


# Parameters at the published sizes: 3072 and 768 columns on TVR, 1024 and 1024 on ActivityNet Captions and Charades-STA.

COUNTS = {
    "ms_sl": (4_852_992, 3_370_752),
    "gmmformer": (12_848_256, 11_366_016),
    "gmmformer_v2": (32_273_440, 30_791_200),
    "hlformer": (29_911_483, 28_429_243),
    "ral_gmmformer_v2": (35_529_377, 34_145_953),
}


@pytest.mark.parametrize("method", COUNTS)
def test_parameters_at_published_sizes(method: str) -> None:
    made = open_method(method)
    for columns, count in zip(((3072, 768), (1024, 1024)), COUNTS[method], strict=True):
        with torch.device("meta"):
            model = made.model(made.config(), frame_columns=columns[0], word_columns=columns[1])
        assert sum(parameter.numel() for parameter in model.parameters()) == count
