"""Each benchmark runs, and its baseline returns the same numbers; no time is asserted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Answer
from dl_dkd import taught
from matplotlib.figure import Figure
from torch import nn

from benchmarks import index_speed, losses, plain
from benchmarks.__main__ import main
from benchmarks.batches import frame_counts, make_batch
from benchmarks.counting import count_launches
from benchmarks.evaluation import PlainEvaluation
from benchmarks.loading import check_equal
from benchmarks.measure import SMALL, TVR, Line, peak_memory, spread, take_turns
from benchmarks.package import PlainReader, make_dataset, make_package, pack_features
from benchmarks.run import BENCHMARKS, VECTORS, run_in_child
from benchmarks.step import OurStep, PlainStep, count_launches_without_values, make_student
from prvr import cpu
from prvr.batch import Reading, collate, video_item
from prvr.cpu import onednn_keeps_float32
from prvr.errors import ModelError
from prvr.evaluate.evaluation import correct_videos, evaluate_model
from prvr.features.packed import PackedWriter
from prvr.methods.dl_dkd import DlDkd
from prvr.nn import scores
from prvr.nn.layers import Dropout, Rows


@pytest.fixture
def seeded() -> Iterator[None]:
    """Seeds the draws, so that weights and batches are the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


def student_without_dropout() -> DlDkd:
    """A student in evaluation mode, so that two implementations of dropout cannot differ."""
    return make_student(SMALL).eval()


@pytest.mark.usefixtures("either_product")
@pytest.mark.parametrize("epoch", [0, 40, 119])
@pytest.mark.parametrize("full", [False, True])
def test_the_plain_objective_has_the_same_terms_and_gradients(epoch: int, full: bool, seeded: None) -> None:
    batch, gradients, terms = make_batch(replace(SMALL, full=full)), [], []
    for way in ("ours", "plain"):
        model = student_without_dropout()
        torch.manual_seed(2)
        its = taught(model, batch, epoch) if way == "ours" else plain.objective(model, batch, epoch)
        torch.stack(list(its.values())).sum().backward()
        terms.append({name: value.item() for name, value in its.items()})
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert len(terms[0]) == 5
    assert terms[0] == pytest.approx(terms[1], rel=1e-4)
    largest = max(float(g.abs().max()) for g in gradients[1].values())
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-5 * largest, msg=name)


@pytest.mark.skipif(not onednn_keeps_float32(), reason="this torch or this processor has no float32 products by oneDNN")
def test_our_step_multiplies_by_onednn_and_the_plain_step_by_default(monkeypatch: pytest.MonkeyPatch, seeded: None) -> None:
    monkeypatch.setattr(cpu, "onednn_is_faster", lambda: True)
    settings: dict[str, set[str]] = {}
    for step in (OurStep(make_student(SMALL), teacher_columns=SMALL.teacher_columns), PlainStep(make_student(SMALL))):
        during = settings.setdefault(type(step).__name__, set())
        for module in step.model.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda *_, during=during: during.add(torch.backends.mkldnn.matmul.fp32_precision))
        step.step(make_batch(SMALL))
    assert settings == {"OurStep": {"bf16"}, "PlainStep": {"none"}}


@pytest.mark.usefixtures("either_product")
def test_five_plain_steps_end_at_the_same_weights(seeded: None) -> None:
    batch, ours, theirs = (
        make_batch(SMALL),
        OurStep(student_without_dropout(), teacher_columns=SMALL.teacher_columns),
        PlainStep(student_without_dropout()),
    )
    for number in range(5):
        lines = []
        for contender in (ours, theirs):
            torch.manual_seed(number)
            lines.append({name: float(value) for name, value in contender.step(batch).items()})
        assert lines[0] == pytest.approx(lines[1], rel=1e-3)
    begun = dict(student_without_dropout().named_parameters())
    moved = 0.0
    for (name, one), other in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6, msg=name)
        moved += float((one - begun[name]).detach().abs().sum())
    assert moved > 0


def test_the_losses_in_loops_are_the_same(seeded: None) -> None:
    inputs = losses.make_scores(SMALL)
    results = (losses.compute_gradients(way, inputs) for way in (losses.ours, losses.loops))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_plain_reader_loads_the_same_batch(tmp_path: Path) -> None:
    captions = make_package(tmp_path / "tvr", SMALL.videos, SMALL.queries, SMALL)
    features = pack_features(tmp_path / "tvr", tmp_path / "packed", dtype="float32")
    reading = Reading(SMALL.frame_columns, SMALL.word_columns, SMALL.frames, SMALL.words, unit=True, text="words")
    reader = PlainReader(tmp_path / "tvr", captions, SMALL)
    theirs = reader(list(captions))
    reader.close()
    check_equal(collate([video_item(video, ids, features, reading) for video, ids in captions.items()]), theirs, atol=1e-6)
    assert len(theirs.words) == SMALL.queries


def test_the_plain_evaluation_has_the_same_scores_and_figures(tmp_path: Path) -> None:
    captions = make_package(tmp_path / "tvr", SMALL.gallery, SMALL.asked, SMALL)
    model = student_without_dropout()
    theirs = PlainEvaluation(model, tmp_path / "tvr", captions, SMALL)
    scored, figures = theirs.run()
    split = make_dataset(captions)
    ours = evaluate_model(model, split, pack_features(tmp_path / "tvr", tmp_path / "packed", dtype="float32"))
    np.testing.assert_allclose(ours.scores, scored, atol=1e-5)
    mine = ours.retrieval.as_dict()
    assert {name: mine[name] for name in figures} == pytest.approx(figures)
    assert correct_videos(split, ours.videos).sum() == SMALL.asked
    assert set(theirs.seconds) == {"loading", "encoding", "scoring", "figures"}


def test_blocks_that_are_left_out_count_as_the_others(tmp_path: Path) -> None:
    size = replace(SMALL, asked=500, blocks=2)
    theirs = PlainEvaluation(
        student_without_dropout(), tmp_path / "tvr", make_package(tmp_path / "tvr", size.gallery, size.asked, size), size
    )
    scored, _ = theirs.run()
    assert [bool(scored[start : start + 50].any()) for start in range(0, 500, 50)] == [True, *[False] * 4, True, *[False] * 4]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 4), (7, 4, 5)])
def test_one_product_gives_what_cosines_and_dots_give(shape: tuple[int, int, int], seeded: None) -> None:
    queries, videos, frames = shape
    lengths = torch.randint(1, frames + 1, (videos, 1))
    mask, target = torch.arange(frames) < lengths, torch.arange(queries) % videos
    q, v = torch.randn(queries, 6, dtype=torch.float64), torch.randn(videos, frames, 6, dtype=torch.float64)
    weights = [torch.randn(queries, n, dtype=torch.float64) for n in (videos, videos, frames)]
    results = []
    for way in ("one", "two"):
        a, b = q.clone().requires_grad_(), v.clone().requires_grad_()
        if way == "one":
            parts = scores.compare(a, b, mask, target)
        else:
            cosines, dots = scores.frame_cosines(a, b, mask), scores.frame_dots(a, b, mask)
            parts = scores.Comparison(scores.video_scores(cosines), scores.video_scores(dots), scores.own_video(cosines, target))
        assert torch.equal(parts.profile.isinf(), ~mask[target])
        finite = [part.masked_fill(part.isinf(), 0) for part in parts]
        sum((w * f).sum() for w, f in zip(weights, finite, strict=True)).backward()
        results.append([*finite, a.grad, b.grad])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_zero_vectors_compare_as_zero_without_a_gradient_that_is_no_number() -> None:
    q, v = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 2, 3, requires_grad=True)
    compared = scores.compare(q, v, torch.ones(2, 2, dtype=torch.bool), torch.tensor([0, 1]))
    assert not compared.cosines.any()
    sum(part.sum() for part in compared).backward()
    assert v.grad is not None
    assert v.grad.isfinite().all()


def test_rows_come_back_to_their_places() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]])
    padded = torch.arange(12.0).reshape(2, 3, 2)
    for rows in (Rows.of(mask), Rows.of(mask, torch.tensor([0, 1, 3]))):
        assert rows.packed(padded).tolist() == [[0, 1], [2, 3], [6, 7]]
        assert torch.equal(rows.padded(rows.packed(padded)), padded * mask[..., None])


def test_what_is_padded_changes_no_embedding(seeded: None) -> None:
    model, batch = student_without_dropout(), make_batch(SMALL)
    noisy = batch.frames + 100 * torch.randn_like(batch.frames) * ~batch.frame_mask[..., None]
    for one, other in zip(
        model.encode_videos(batch.frames, batch.frame_mask), model.encode_videos(noisy, batch.frame_mask), strict=True
    ):
        assert torch.equal(one, other)
        assert not one[~batch.frame_mask].any()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_dropout_keeps_its_share_and_the_mean(share: float, seeded: None) -> None:
    drop, values = Dropout(share), torch.full((401, 999), 2.0)
    given = torch.ones(401, 999, requires_grad=True)
    out = drop(given * 2)
    kept = out != 0
    assert float(kept.float().mean()) == pytest.approx(1 - share, abs=0.005)
    if share < 1:
        torch.testing.assert_close(out[kept], values[kept] / (1 - share), rtol=1e-4, atol=0)
    out.sum().backward()
    assert given.grad is not None
    torch.testing.assert_close(given.grad, out.detach(), rtol=1e-6, atol=0)
    assert torch.equal(drop.eval()(values), values)


def test_dropout_draws_anew_each_time_and_from_the_seed(seeded: None) -> None:
    drop = Dropout(0.5)
    first, second = drop(torch.ones(1000)), drop(torch.ones(1000))
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(drop(torch.ones(1000)), first)


def test_a_step_launches_few_kernels_and_never_waits() -> None:
    batch, ours = make_batch(SMALL), OurStep(make_student(SMALL), teacher_columns=SMALL.teacher_columns)
    ours.step(batch)
    launched = count_launches(lambda: ours.step(batch))
    assert launched.syncs == 0
    assert 300 < launched.kernels <= 800
    assert 300 < count_launches_without_values(SMALL).kernels <= launched.kernels


def test_a_step_needs_no_value_on_the_host() -> None:
    batch, ours = (
        make_batch(SMALL).to(torch.device("meta")),
        OurStep(make_student(SMALL).to("meta"), teacher_columns=SMALL.teacher_columns),
    )
    for _ in range(2):
        terms = ours.step(batch)
    assert all(term.is_meta for term in terms.values())
    with pytest.raises(RuntimeError):
        float(next(iter(terms.values())))


def test_kernels_and_waits_are_counted_as_described() -> None:
    a, b = torch.randn(4, 3), torch.randn(3, 5)
    bias = torch.randn(5)
    for action, kernels, syncs in (
        (lambda: a @ b, 1, 0),
        (lambda: torch.nn.functional.linear(a, b.T, bias), 1, 0),
        (lambda: a.T.reshape(2, 6), 1, 0),  # a copy, because no view is
        (lambda: a.view(2, 6)[:, 1:].unsqueeze(0), 0, 0),
        (lambda: float(a.sum()), 2, 1),
        (lambda: a[a > 0], 2, 1),
        (lambda: torch._foreach_add([a] * 31, 1.0), 2, 0),
    ):
        launched = count_launches(action)
        assert launched.syncs == syncs
        assert kernels <= launched.kernels <= kernels + launched.syncs


def test_lengths_are_those_of_tvr() -> None:
    counts = frame_counts(20_000, TVR, np.random.default_rng(0))
    assert counts.mean() == pytest.approx(51, abs=1.5)
    assert (counts.min() >= 6, counts.max() <= 128) == (True, True)
    assert set(frame_counts(5, replace(TVR, full=True), np.random.default_rng(0))) == {128}


def test_ratios_and_spreads_by_hand() -> None:
    line = Line("x", (1.0, 4.0, 2.0), (10.0, 50.0))
    assert line.ratio == 15
    assert Line("x", (1.0,), ()).ratio is None
    assert Line("x", (0.0,), (8.0,)).ratio is None
    assert spread(line.ours, "s") == "2 s (1 to 4)"
    assert spread((797.0,), "") == "797"


def test_contenders_take_turns() -> None:
    order: list[str] = []
    times = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, runs=2)
    assert order == ["a", "b"] * 3
    assert {name: len(its) for name, its in times.items()} == {"a": 2, "b": 2}


def test_memory_that_was_held_and_given_back_is_seen() -> None:
    with peak_memory() as peak:
        held = np.ones(1 << 23)
        for _ in range(20):
            held += 1
        del held
    if peak[0]:  # Linux alone says
        assert 50 << 20 < peak[0] < 200 << 20


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.thorough] if name in ("memory", "step", "index-large") else [])
        for name in BENCHMARKS
    ],
)
def test_every_benchmark_runs_at_a_small_size(name: str, tmp_path: Path) -> None:
    size = SMALL
    if name == VECTORS:
        size = replace(SMALL, vectors=str(tmp_path))
        draw = np.random.default_rng(0)
        for kind, shape, count in (("frames", (6, 8), 60), ("sentences", (1, 8), 120)):
            with PackedWriter(tmp_path / kind, columns=8, about={}) as out:
                for place in range(count):
                    out.append(f"{place:03}", draw.normal(size=shape).astype(np.float32))
    lines = BENCHMARKS[name].lines(size)
    assert lines
    assert all(line.ours for line in lines)


def command(*arguments: object, capsys: pytest.CaptureFixture) -> Answer:
    """`python -m benchmarks`, in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return Answer(int(ended.value.code or 0), *capsys.readouterr())


@pytest.mark.thorough
def test_the_command_writes_a_table_and_its_numbers(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = command("losses", "--size", "small", "--runs", 1, "--out", tmp_path, "--json", capsys=capsys).json
    written = json.loads((tmp_path / "losses.json").read_text())
    assert [line["memory"] for line in out["losses"]] == ["default", "kept"] == [line["memory"] for line in written["lines"]]
    assert written["size"]["queries"] == SMALL.queries
    assert "| losses given the scores, forward and backward | kept |" in (tmp_path / "losses.md").read_text()


def test_the_command_lists_and_refuses(capsys: pytest.CaptureFixture) -> None:
    listed = command(capsys=capsys)
    assert listed.status == 0
    assert all(f"{name} " in listed.out for name in BENCHMARKS)
    for arguments, line in (
        (("lossses",), "no benchmark 'lossses'; did you mean 'losses'?"),
        (("losses", "--size", "tiny"), "known: full, small, tvr"),
    ):
        refused = command(*arguments, capsys=capsys)
        assert refused.status == 1
        assert refused.err.startswith("benchmarks: ")
        assert line in refused.err


def test_the_picture_has_the_best_recall_in_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [Line("9 videos: exact, beside NumPy float32", (0.5,), (), note="recall@10 1.000")]
    for seconds, recall in ((0.1, 0.9), (0.2, 0.8), (0.3, 0.95)):
        lines.append(Line(f"9 videos: first stage, {seconds} %, hard", (seconds,), (), note=f"recall@10 {recall}"))
    drawn: list[Figure] = []
    monkeypatch.setattr(index_speed, "write_picture", lambda path, figure: drawn.append(figure))
    index_speed.draw_index(lines, tmp_path / "index.png")
    (axes,) = drawn[0].axes
    curves = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.lines}
    assert curves == {"first stage, hard": [[100, 0.9], [200, 0.9], [300, 0.95]], "exact": [[500, 1]]}


def test_a_benchmark_that_fails_says_so_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"benchmark losses ended with .*; try --size small"):
        run_in_child("losses", replace(SMALL, queries=-1), memory="default", threads=1)
