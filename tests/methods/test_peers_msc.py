"""MSC-PRVR beside the numbers of its published code: from raw rows to six steps of training.

Another set of fixtures of the same layout is run by naming its folder: PRVR_PEERS=FOLDER (tests/support/leaders.py).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_leaders import HARD, DrawAsRecorded, Leader, check_close
from method_checks import build, check_invariants, check_learning, check_learns, check_taught, sequences, toy_batch
from torch import Tensor

from prvr.batch import segment_edges, slot_means, unit_rows
from prvr.errors import SettingError
from prvr.index.encode import add_videos
from prvr.index.exact import ExactIndex
from prvr.methods import msc
from prvr.methods.contract import embed
from prvr.methods.msc import MscConfig
from prvr.nn.distillation import Distillation
from prvr.nn.merging import merge_freely, merge_neighbours, weighted_means
from prvr.train.presets import preset

NAMES = {"clip_nce": "clips_nce", "clip_triplet": "clips_triplet", "frame_nce": "frames_nce", "frame_triplet": "frames_triplet"}
every_mode = pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
TINY: dict[str, Any] = {"hidden": 8, "heads": 2, "max_frames": 16, "merging": (10, 6), "further_merging": (4, 3), "clips": 6}


@cache
def given() -> Leader:
    leader = Leader("msc", "msc", {})
    theirs, sizes, weights = leader.config, leader.config["sizes"], leader.config["weights"]
    assert theirs["fusion"]["clip"] + theirs["fusion"]["frame"] == pytest.approx(1)
    first, *merging = theirs["merging"]
    assert first == sizes["frames"]
    leader.settings = {
        "hidden": sizes["hidden"],
        "heads": sizes["heads"],
        "max_frames": sizes["frames"],
        "max_words": sizes["words"],
        "clips": sizes["clips"],
        "dropout": 0.0,
        "input_dropout": 0.0,
        "margin": theirs["margin"],
        "frame_weight": theirs["fusion"]["frame"],
        "widths": tuple(map(float, theirs["windows"])),
        "consolidation_temperature": theirs["consolidation_temperature"],
        "clip_nce_weight": weights["clip_nce"],
        "frame_nce_weight": weights["frame_nce"],
        "distance_weight": weights["text_distance"],
        "angle_weight": weights["text_angle"],
        "alignment_weight": weights["alignment"],
        "merging": tuple(merging),
        "further_merging": tuple(theirs["further_merging"]),
        "similar_from": theirs["theta"],
        "hard_from_epoch": HARD,
        "negative_pool": 1,
    }
    return leader


def test_rows_and_clips() -> None:
    model = given().model()
    batch = given().read(model)
    stretched, merged = model.read(batch.frames, batch.frame_mask)
    check_close(merged.rows, given().ordered(given().batch["clip_video_features"], "v--"), tolerance=1e-12)
    check_close(merged.sizes, given().ordered(given().batch["merge_size"], "v-"), tolerance=0.0)
    label = given().ordered(given().batch["merged_frame_label"], "v-")
    assert torch.equal(merged.label, label)
    assert torch.equal(msc.frame_labels(merged.sizes, label.shape[1]), label)
    most = model.config.max_frames
    by_rule = [unit_rows(slot_means(rows.astype(np.float64), segment_edges(len(rows), most))) for rows in given().frames.values()]
    check_close(stretched, given().ordered(np.stack(by_rule), "v--"), tolerance=1e-12)
    check_close(model._scale(batch.words), given().ordered(given().batch["text_feat"], "q--"), tolerance=1e-12)
    check_close(msc.last_words(model._scale(batch.words), batch.word_mask), given().expected("teacher", "q-"))


@every_mode
@torch.no_grad()
def test_embeddings_and_scores(training: bool) -> None:
    model = given().model().train(training)
    batch = given().read(model)
    queries, videos, _ = embed(model, batch)
    check_close(queries[0], given().expected("queries", "q-"))
    check_close(videos[0], given().expected("clips", "v--"))
    check_close(videos[1], given().expected("frames", "v--"))
    check_close(model.aligned(videos[0]), given().expected("projected_clips", "v--"))
    for place, name in enumerate(("clip", "frame")):
        every = torch.ones(videos[place].shape[:2], dtype=torch.bool)
        ours = msc.scores.compare(queries[place], videos[place], every, batch.target)
        check_close(ours.cosines, given().expected(f"{name}_scores", "qv"))
        check_close(ours.dots, given().expected(f"{name}_dots", "qv"))
    check_close(model.score(queries, videos, batch.frame_mask), given().expected("scores", "qv"))


@torch.no_grad()
def test_an_index_scores_as_the_published_code() -> None:
    model = given().model()
    batch = given().read(model)
    queries = tuple(field.float() for field in model.encode_queries(batch.words, batch.word_mask))
    index = ExactIndex(model)
    videos = [f"video {video}" for video in given().video_order]
    add_videos(index, videos, given().frames)
    assert index.ids == videos
    assert all(len(index.fetch([id])[id].fields[1]) == model.config.max_frames for id in videos)
    check_close(index.scores(queries).double(), given().expected("scores", "qv"), tolerance=1e-5)


@every_mode
@pytest.mark.parametrize("case", ["epoch_0", "epoch_20_pool_1"])
def test_loss_terms_and_gradients(case: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = given().cases[case]
    model = given().model(negative_pool=theirs["pool"]).train(training)
    batch = given().read(model)
    DrawAsRecorded(given(), case, monkeypatch)
    terms = given().objective(model, batch, HARD if theirs["hard_negatives"] else HARD - 1)
    given().check_terms(case, terms, NAMES)
    torch.stack(list(terms.values())).sum().backward()
    given().check_gradients_of(case, model)
    if theirs["pool"] == 1:
        given().check_all_gradients(model)
    _, merged = model.read(batch.frames, batch.frame_mask)
    shares = msc.connected_share(merged.rows, similar_from=model.config.similar_from)
    check_close(shares, given().ordered(np.array(theirs["share"]), "v"))
    label = msc.further_labels(model.config, merged.rows, merged.sizes)
    assert (label.amax(1) + 1).tolist() == given().ordered(np.array(theirs["clips_after_merging"]), "v").tolist()


def test_six_steps_of_training() -> None:
    given().check_training(given().model().train(), HARD, schedule="linear")


@pytest.mark.parametrize(
    ("collection", "columns", "count"),
    [("tvr", (768, 768), 30_660_640), ("activitynet", (768, 768), 30_660_640), ("qvhighlights", (2816, 512), 32_142_880)],
)
def test_parameters_at_published_sizes(collection: str, columns: tuple[int, int], count: int) -> None:
    recipe = preset(f"msc-prvr/{collection}")
    with torch.device("meta"):
        model = given().method.model(recipe.settings, frame_columns=columns[0], word_columns=columns[1])
    assert sum(parameter.numel() for parameter in model.parameters()) == count


# Merging


def test_merging_by_hand() -> None:
    rows = torch.tensor([[[1.0, 0], [3, 0], [0, 1], [1, 0], [2, 2], [2, 2]]])
    # Products of the pairs: 3, 0, 8. One pair is merged, then two of the first four and the fifth row.
    first = merge_neighbours(rows, [5])
    assert first.rows[0].tolist() == [[1, 0], [3, 0], [0, 1], [1, 0], [2, 2]]
    assert first.sizes[0].tolist() == [1, 1, 1, 1, 2]
    assert first.label[0].tolist() == [0, 1, 2, 3, 4, 4]
    then = merge_neighbours(rows, [5, 4])
    assert then.rows[0].tolist() == [[2, 0], [0, 1], [1, 0], [2, 2]]
    assert then.label[0].tolist() == [0, 0, 1, 2, 3, 3]
    # Sizes weigh: (3 * 2 + 1 * 5) / 4.
    means, sizes = weighted_means(torch.tensor([[[2.0], [5.0]]]), torch.tensor([[3.0, 1.0]]), torch.tensor([[0, 0]]), 2)
    assert means[0].tolist() == [[2.75], [0.0]]
    assert sizes[0].tolist() == [4, 0]


def test_further_merging_takes_any_even_row_with_any_odd_one() -> None:
    rows = np.array([[1.0, 0], [0, 1], [0, 1.0], [1, 0.1]])
    # Row 2 with row 1 (cosine 1), then row 0 with row 3; a merged row stands at the even place.
    assert merge_freely(rows, np.ones(4), [3]).tolist() == [0, 1, 1, 2]
    assert merge_freely(rows, np.ones(4), [2]).tolist() == [0, 1, 1, 0]
    assert merge_freely(rows, np.ones(4), []).tolist() == [0, 1, 2, 3]


def test_clips_are_connected_through_others() -> None:
    angles = torch.tensor([[0.0, 0.5, 1.0, 3.0]])
    rows = torch.stack([angles.cos(), angles.sin()], -1)
    # Neighbours of 0.5 are similar, 0 and 1 only through the one between: 6 of 12 ordered pairs.
    assert msc.connected_share(rows, similar_from=0.8).tolist() == [0.5]
    assert msc.connected_share(rows, similar_from=0.9).tolist() == [0.0]


def slow_alignment(config: MscConfig, frames: Tensor, clips: Tensor, inputs: Tensor, sizes: Tensor) -> float:
    """From the definition, with exponentials, one video, frame and clip at a time."""
    total = 0.0
    labels = msc.further_labels(config, inputs, sizes)
    for f, z, size, label in zip(frames, clips, sizes, labels, strict=True):
        count = int(label.max()) + 1
        means = torch.stack([(size[label == n, None] * z[label == n]).sum(0) / size[label == n].sum() for n in range(count)])
        own = label[torch.repeat_interleave(size.long())]
        dots = f @ means.T
        shifted = (dots - dots.amax(1, keepdim=True)).exp()
        of_frames = []
        for j in range(len(f)):
            p = shifted[j, own[j]] / (1 + 1e-8)
            others = (shifted[j].sum() - shifted[j, own[j]]) / (count - 1 + 1e-8)
            of_frames.append(-(p / (p + others + 1e-8)).log())
        shifted = (dots - dots.amax(0)).exp()
        of_clips = []
        for i in range(count):
            mine = own == i
            p, others = (shifted[kept, i].sum() / (int(kept.sum()) + 1e-8) for kept in (mine, ~mine))
            of_clips.append(-(p / (p + others)).log())
        total += float(torch.stack(of_frames).mean() + torch.stack(of_clips).mean()) / len(frames)
    return total


def test_alignment_against_a_loop_and_without_overflow() -> None:
    config = MscConfig(**TINY)
    draw = torch.Generator().manual_seed(0)
    frames, clips, inputs = (torch.randn(3, n, 5, generator=draw, dtype=torch.float64) for n in (16, 6, 6))
    inputs[1] = inputs[1, :1] + 0.01 * inputs[1]
    sizes = torch.tensor([[3.0, 3, 1, 4, 4, 1], [6, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 11]]).double()
    assert [int(label.max()) + 1 for label in msc.further_labels(config, inputs, sizes)] == [6, 3, 6]
    told = msc.alignment(config, frames, clips, inputs, sizes)
    assert told.item() == pytest.approx(slow_alignment(config, frames, clips, inputs, sizes), abs=1e-12)
    far = (1000 * frames).requires_grad_()
    told = msc.alignment(config, far, clips, inputs, sizes)
    told.backward()
    assert told.isfinite()
    assert far.grad is not None
    assert far.grad.isfinite().all()


# As any method


def test_invariants() -> None:
    check_invariants(build("msc", MscConfig(**TINY)))
    check_invariants(build("msc", MscConfig(**TINY, clip_inputs="unit_rows")), sequences((3, 1, 4), 16))


def test_learning() -> None:
    tiny = MscConfig(**TINY, dropout=0.0, input_dropout=0.0)
    model = build("msc", tiny)
    check_learning("msc", model, toy_batch(model), toy_batch(model, most=1))
    profile, matrix = (
        Distillation(distillation_target=target, distillation_weight=0.1) for target in ("frame_profile", "batch_matrix")
    )
    check_taught("msc", model, toy_batch(model), by=(profile, matrix))


@pytest.mark.thorough
def test_learns_the_toy_world(tmp_path: Path) -> None:
    check_learns("msc", MscConfig(**{**TINY, "hidden": 32}, alignment_weight=0.1), tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"merging": (60, 32)}, "merging goes from 128 to 60"),
        ({"merging": (80, 52)}, "the last length of merging"),
        ({"further_merging": (20, 9)}, "further_merging goes from 20 to 9"),
        ({"padding_counts": True}, "padding_counts"),
        ({"angle_weight": -1.0}, "angle_weight"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingError, match=text):
        MscConfig(**change)
