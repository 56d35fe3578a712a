"""BGM-Net, MS-SL with its matching, beside the numbers of its published code: from raw rows to six steps of training.

Another set of fixtures of the same layout is run by naming its folder: PRVR_PEERS=FOLDER (tests/support/leaders.py).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from clip_leaders import HARD, DrawAsRecorded, Leader, check_close

from prvr.batch import read_frames
from prvr.errors import SettingError
from prvr.methods import ms_sl
from prvr.methods.contract import embed
from prvr.methods.ms_sl import MsSlConfig
from prvr.nn.caption_losses import assign
from prvr.train.presets import preset

NAMES = {
    "clip_nce_loss": "clips_nce",
    "clip_trip_loss": "clips_triplet",
    "frame_nce_loss": "frames_nce",
    "frame_trip_loss": "frames_triplet",
    "clip_align_loss": "alignment",
}
CASES = ("greedy_random", "matched_random", "matched_hard_pool_1")
every_mode = pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])


@cache
def given() -> Leader:
    leader = Leader("bgm_net", "ms_sl", {})
    theirs, sizes, weights = leader.config, leader.config["sizes"], leader.config["weights"]
    assert theirs["fusion"]["clip"] + theirs["fusion"]["frame"] == pytest.approx(1)
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
        "clip_nce_weight": weights["clip_nce"],
        "frame_nce_weight": weights["frame_nce"],
        "alignment_weight": weights["alignment"],
        "own_clip": "assigned",
        # The cases: 0 greedy and random, 1 matched and random, 2 matched and hard.
        "assigned_from_epoch": HARD - 1,
        "hard_from_epoch": HARD,
        "negative_pool": 1,
    }
    return leader


def epoch_of(case: str) -> int:
    theirs = given().cases[case]
    return HARD if theirs["hard_negatives"] else HARD - 1 if theirs["matched"] else HARD - 2


def test_our_loaders_read_what_theirs_do() -> None:
    model = given().model()
    batch = given().read(model)
    assert batch.clips is not None
    check_close(batch.clips, given().ordered(given().batch["clip_video_features"], "v--"), tolerance=1e-12)
    frames = given().ordered(given().batch["frame_video_features"], "v--")
    check_close(batch.frames, frames[:, : batch.frames.shape[1]], tolerance=1e-12)
    words = given().ordered(given().batch["text_feat"], "q--")
    check_close(batch.words, words, tolerance=1e-12)
    assert all(len(read_frames(rows, model.reading)) <= model.config.max_frames for rows in given().frames.values())


@every_mode
@torch.no_grad()
def test_embeddings_and_scores(training: bool) -> None:
    model = given().model().train(training)
    batch = given().read(model)
    queries, videos, _ = embed(model, batch)
    check_close(queries[0], given().expected("queries", "q-"))
    check_close(videos[0], given().expected("encoded_clips", "v--"))
    frames = given().expected("frames", "v--")
    check_close(videos[1], frames[:, : videos[1].shape[1]])
    assert not frames[:, videos[1].shape[1] :].any()
    shares = model.shares(videos[0])
    ours = ms_sl.compare(queries[0], videos[0], shares)
    check_close(ours.cosines, given().expected("clip_scores", "qv"))
    assert torch.equal(ours.key, given().expected("key_clip", "qv"))
    check_close(model.score(queries, videos, batch.frame_mask), given().expected("scores", "qv"))
    matched = ms_sl.with_assigned_clips(ours, queries[0], videos[0], shares, batch.target)
    check_close(matched.cosines, given().expected("train_clip_scores", "qv"))
    summary = ms_sl.own_summaries(model, matched.key, *videos, batch)
    check_close(summary, given().expected("summaries", "q-"))
    unit = [torch.nn.functional.normalize(each, dim=-1) for each in (queries[0], summary)]
    check_close(unit[0] @ unit[1].T, given().expected("train_frame_scores", "qq"))


@every_mode
@pytest.mark.parametrize("case", CASES)
def test_loss_terms_and_gradients(case: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = given().cases[case]
    model = given().model(negative_pool=theirs["pool"]).train(training)
    batch = given().read(model)
    DrawAsRecorded(given(), case, monkeypatch)
    terms = given().objective(model, batch, epoch_of(case))
    given().check_terms(case, terms, NAMES)
    torch.stack(list(terms.values())).sum().backward()
    given().check_gradients_of(case, model)
    if theirs["pool"] == 1:
        given().check_all_gradients(model)
    with torch.no_grad():
        queries, videos, _ = embed(model, batch)
        ours = ms_sl.compare(queries[0], videos[0], model.shares(videos[0]))
        if theirs["matched"]:
            ours = ms_sl.with_assigned_clips(ours, queries[0], videos[0], model.shares(videos[0]), batch.target)
    chosen = given().ordered(np.array(theirs["chosen_clip"]), "q")
    assert torch.equal(ours.key.gather(1, batch.target[:, None])[:, 0], chosen)


def test_six_steps_of_training() -> None:
    assert given().training["schedule"] == "warmup_cosine"
    schedule = preset("ms-sl+matching/tvr").training.schedule
    given().check_training(given().model().train(), HARD, schedule=schedule)


@pytest.mark.parametrize(
    ("collection", "columns", "count"), [("tvr", (3072, 768), 4_852_992), ("charades", (1024, 1024), 3_370_752)]
)
def test_parameters_at_published_sizes(collection: str, columns: tuple[int, int], count: int) -> None:
    recipe = preset(f"ms-sl+matching/{collection}")
    with torch.device("meta"):
        model = given().method.model(recipe.settings, frame_columns=columns[0], word_columns=columns[1])
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_no_clip_has_two_captions_and_the_sum_is_the_largest() -> None:
    cosines = torch.tensor([[0.9, 0.8, 0.1], [0.9, 0.1, 0.2], [0.5, 0.7, 0.6]])
    # The first two are of one video: 0.8 + 0.9 is more than 0.9 + 0.2.
    assert assign(cosines, torch.tensor([0, 0, 1])).tolist() == [1, 0, 1]
    assert assign(cosines, torch.tensor([0, 0, 1]), torch.tensor([1, 3])).tolist() in ([0, -1, 1], [-1, 0, 1])


def test_a_query_without_a_clip_of_its_own_keeps_its_best_one() -> None:
    rows, shares = torch.eye(2)[None], torch.eye(2)
    queries, target = torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3]]), torch.zeros(3, dtype=torch.long)
    best = ms_sl.compare(queries, rows, shares)
    matched = ms_sl.with_assigned_clips(best, queries, rows, shares, target)
    assert sorted(matched.key[:, 0].tolist()) == [0, 0, 1]
    assert matched.cosines.isfinite().all()


@pytest.mark.parametrize("change", [{"alignment_weight": -1.0}, {"assigned_from_epoch": -1}])
def test_what_is_below_zero_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(change))):
        MsSlConfig(**change)
