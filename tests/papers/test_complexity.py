"""Parameters and FLOPs beside a count by hand from the layer list; the memory of a step beside the tensors it must hold."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from dl_dkd import NONE, PLUS

from prvr.config import to_dict
from prvr.errors import SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.nn.distillation import Distillation
from prvr.papers import complexity as costs
from prvr.papers.complexity import Complexity, StepSizes, complexity, training_memory
from prvr.train.loop import Recipe, Training
from prvr.train.presets import preset

TVR = FeatureSources(Source("i3d_resnet", 3072), Source("roberta", 768))


def recipe(**settings: Any) -> Recipe:
    return Recipe("dl_dkd", DlDkdConfig(**settings), Training(), PLUS)


def linear(rows: int, columns: int, out: int) -> int:
    """Multiply-adds."""
    return rows * columns * out


def attention(rows: int, hidden: int) -> int:
    """Query, key, value and output layers; every row with every other, once for scores and once for the mixture."""
    return 4 * linear(rows, hidden, hidden) + 2 * rows * rows * hidden


def by_hand(*, frames: int, words: int, hidden: int, seen: int, read: int, branches: int, projections: int) -> tuple[int, int]:
    """FLOPs of a video and of a query, a multiply-add as two."""
    video = linear(frames, seen, hidden) + attention(frames, hidden) + linear(frames, hidden, hidden)
    # Pooling: a score of every word, and the weighted sum.
    query = attention(words, hidden) + linear(words, hidden, 1) + linear(1, words, hidden)
    return 2 * branches * video, 2 * (branches * query + projections * linear(words, read, hidden))


def layers(seen: int, hidden: int) -> int:
    """Parameters of what the video and the query side have alike: projection, positions without their table, attention."""
    norms = 2 * seen + 2 * hidden + 2 * hidden
    return norms + seen * hidden + hidden + 4 * (hidden * hidden + hidden)


@pytest.mark.parametrize(
    ("settings", "branches", "projections"),
    [
        ({}, 2, 2),
        ({"shared_query_projection": True}, 2, 1),
        ({"branches": ("inheritance",)}, 1, 1),
    ],
    ids=["two branches", "shared projection", "one branch"],
)
def test_flops_by_hand(settings: dict[str, Any], branches: int, projections: int) -> None:
    reads = FeatureSources(Source("frames", 20), Source("words", 12))
    made = complexity(recipe(hidden=16, heads=2, **settings), reads, frames=9, words=5)
    expected = by_hand(frames=9, words=5, hidden=16, seen=20, read=12, branches=branches, projections=projections)
    assert (made.video_flops, made.query_flops) == expected
    assert (made.flops, made.multiply_adds) == (sum(expected), sum(expected) // 2)


def test_parameters_by_hand() -> None:
    reads = FeatureSources(Source("frames", 20), Source("words", 12))
    small = {"hidden": 16, "heads": 2, "max_frames": 9, "max_words": 5}
    video = layers(20, 16) + 9 * 16 + 16 * 16 + 16
    query = layers(12, 16) + 5 * 16 + 16
    made = complexity(recipe(**small), reads)
    assert made.parts == {"inheritance": video + query, "exploration": video + query}
    assert made.parameters == 2 * (video + query)
    shared = complexity(recipe(**small, shared_query_projection=True), reads)
    assert shared.parts == {"inheritance": video + query, "exploration": video + query - (2 * 12 + 12 * 16 + 16)}
    assert sum(shared.parts.values()) == shared.parameters


def test_the_published_sizes() -> None:
    """5,755,392 parameters; video 1.032 G, query 0.109 G, 1.141 G FLOPs, a multiply-add as two."""
    made = complexity(preset("dl-dkd++/tvr"), TVR)
    assert made.parameters == 5_755_392
    by_layer = by_hand(frames=128, words=30, hidden=384, seen=3072, read=768, branches=2, projections=2)
    assert (made.video_flops, made.query_flops) == by_layer == (1_031_798_784, 109_025_280)
    assert (made.frames, made.words) == (128, 30)
    assert round(made.flops / 1e9, 3) == 1.141
    assert round(made.multiply_adds / 1e9, 2) == 0.57
    # 53 % of it is the video input projection.
    assert round(4 * linear(128, 3072, 384) / made.flops, 2) == 0.53


def test_a_model_reads_no_more_than_it_can() -> None:
    reads = FeatureSources(Source("frames", 20), Source("words", 12))
    made = complexity(recipe(hidden=16, heads=2, max_frames=9, max_words=5), reads, frames=128, words=30)
    assert (made.frames, made.words) == (9, 5)
    assert made.video_flops == complexity(recipe(hidden=16, heads=2), reads, frames=9, words=5).video_flops


@pytest.mark.parametrize(
    "name", ["ms-sl", "gmmformer", "gmmformer-v2", "gmmformer-v2+ral", "holmes", "holmes-dual", "hlformer", "dreamprvr"]
)
def test_every_method_is_counted(name: str) -> None:
    counted = complexity(preset(f"{name}/toy"), FeatureSources(Source("frames", 20), Source("words", 12)), frames=9, words=5)
    assert min(counted.video_flops, counted.query_flops) > 0


def test_the_teacher_alone_costs_nothing() -> None:
    reads = FeatureSources(Source("clip", 8), Source("clip", 8))
    assert complexity(Recipe("zero_shot", ZeroShotConfig(), Training()), reads) == Complexity(0, {}, 0, 0, 128, 1)


def test_counting_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    complexity(recipe(hidden=16, heads=2), FeatureSources(Source("frames", 20), Source("words", 12)), frames=3, words=2)
    assert torch.equal(before, torch.random.get_rng_state())


# Memory

SMALL = recipe(hidden=16, heads=2)
READS = FeatureSources(Source("frames", 64), Source("words", 12))
SIZES = StepSizes(videos=64, queries=128, frames=128, words=3, teacher_columns=16)


def scores_of(sizes: StepSizes) -> int:
    """Bytes of one value for each query and frame: a branch's scores, or the weights of its gradient."""
    return 4 * sizes.queries * sizes.videos * sizes.frames


def test_a_step_holds_what_it_must() -> None:
    peak = training_memory(SMALL, READS, sizes=SIZES)
    one = scores_of(SIZES)
    assert one == 4 << 20
    # Frame scores are there for one branch at a time, and so are the weights of its gradient; of each branch's attention
    # the probabilities of two heads are kept.
    frames = 4 * SIZES.videos * SIZES.frames * READS.frames.columns
    heads = 4 * SIZES.videos * SIZES.frames**2 * 2
    assert one + 2 * heads + frames < peak < 8 * (one + 2 * heads + frames)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_larger_step_holds_more() -> None:
    # Many queries: with few, attention over the frames holds more than all that is made of queries.
    larger, largest = (dataclasses.replace(SIZES, queries=times * SIZES.queries) for times in (8, 16))
    more = training_memory(SMALL, READS, sizes=largest) - training_memory(SMALL, READS, sizes=larger)
    # Half: of the smaller step's peak a part is of other things, which the larger one's scores take the place of.
    assert more > (scores_of(largest) - scores_of(larger)) / 2


@pytest.mark.parametrize("distillation", [PLUS, NONE], ids=["taught", "alone"])
def test_the_batch_is_of_its_sizes(distillation: Distillation) -> None:
    sizes = StepSizes(videos=3, queries=7, frames=40, words=4, teacher_columns=6)
    made = costs.checkpoints.build("dl_dkd", DlDkdConfig(hidden=16, heads=2, max_frames=9), READS)
    batch = costs._batch(made.model.reading, sizes, with_teacher=distillation.uses_teacher)
    assert (batch.frames.shape, batch.words.shape) == ((3, 9, 64), (7, 4, 12))
    assert batch.target.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert [(view.frames.shape, view.queries.shape) for view in batch.teachers] == [((3, 9, 6), (7, 6))][: len(batch.teachers)]
    assert len(batch.teachers) == int(distillation.uses_teacher)
    costs._steps(dataclasses.replace(made, about={"distillation": to_dict(distillation)}), sizes, torch.device("cpu"))


def test_what_cannot_be_measured() -> None:
    with pytest.raises(SettingError, match="zero_shot learns nothing"):
        training_memory(Recipe("zero_shot", ZeroShotConfig(), Training()), FeatureSources(Source("clip", 8), Source("clip", 8)))
    with pytest.raises(SettingError, match="cuda:77"):
        training_memory(SMALL, READS, device="cuda:77")


def test_a_step_that_does_not_fit() -> None:
    with pytest.raises(SettingError, match="measure a smaller one") as problem:
        training_memory(SMALL, READS, sizes=dataclasses.replace(SIZES, videos=1 << 40))
    assert "\n" not in str(problem.value)
