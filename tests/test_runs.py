"""Runs on disk: what is written reads back, foreign forms agree, and broken files are one clear line."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prvr.errors import DataError
from prvr.metrics import places
from prvr.runs import Facts, Run, load_run, save_run
from prvr.runs.foreign import read_ids, read_matrix, read_trec, write_qrels, write_trec
from prvr.runs.truth import Truth, read_truth, with_truth


def some_run(*, queries: int = 7, videos: int = 5, seed: int = 0) -> Run:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(queries, videos)).astype(np.float32)
    scores[1, 3] = -np.inf
    target = random.integers(0, videos, queries)
    facts = Facts(
        texts=tuple(f"a sentence, № {n}" for n in range(queries)),
        kinds=("v", None, *["vt"] * (queries - 2)),
        lengths=random.uniform(10, 99, queries),
        ratios=np.array([np.nan, *random.uniform(0, 1, queries - 1)]),
        overlaps=random.uniform(0, 1, queries),
    )
    ids = tuple(f"v{place}#{row}" for row, place in enumerate(target))
    also = np.array([[0, (target[0] + 1) % videos], [4, (target[4] + 2) % videos]])
    names = tuple(f"v{n}" for n in range(videos))
    return Run(scores, ids, names, target, also, facts, system="ours", split="test", protocol="community", seed=3)


def same(first: Run, second: Run) -> bool:
    values = [
        [run.scores, run.target, run.also, run.facts.lengths, run.facts.ratios, run.facts.overlaps] for run in (first, second)
    ]
    plain = [
        replace(run, scores=np.zeros((7, 5)), target=np.zeros(7, int), also=np.zeros((0, 2), int), facts=Facts())
        for run in (first, second)
    ]
    texts = [(run.facts.texts, run.facts.kinds) for run in (first, second)]
    named = [(run.queries, run.videos, run.system, run.split, run.protocol, run.seed) for run in plain]
    return (
        named[0] == named[1]
        and texts[0] == texts[1]
        and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*values, strict=True))
    )


# Our own files


def test_a_run_reads_back(tmp_path: Path) -> None:
    run = some_run()
    save_run(run, tmp_path / "deep" / "run.npz")
    assert same(load_run(tmp_path / "deep" / "run.npz"), run)
    bare = Run(np.zeros((1, 2)), ("caf\udce9#0",), ("b c", "caf\udce9"), np.array([1]))
    save_run(bare, tmp_path / "bare.npz")
    again = load_run(tmp_path / "bare.npz")
    assert (again.queries, again.videos, again.facts, again.seed) == (bare.queries, bare.videos, Facts(), None)


def test_correct_videos() -> None:
    run = some_run()
    assert run.own.sum() == 7
    assert run.correct.sum() == 9
    assert run.own[np.arange(7), run.target].all()
    assert (run.correct & ~run.own).sum(1).tolist() == [1, 0, 0, 0, 1, 0, 0]


def test_a_full_disk_leaves_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_run(some_run(), tmp_path / "run.npz")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            save_run(some_run(seed=1), tmp_path / "run.npz")
    assert same(load_run(tmp_path / "run.npz"), some_run())
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def rewritten(path: Path, **changes: object) -> Path:
    """The saved run with some arrays, or entries of its `about`, changed; None takes one out."""
    save_run(some_run(), path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays["about"].tobytes())
    for name, value in changes.items():
        of = about if name in about else arrays
        if value is None:
            del of[name]
        else:
            of[name] = value
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(path, **arrays)
    return path


def with_nan() -> np.ndarray:
    scores = some_run().scores.copy()
    scores[2, 4] = np.nan
    return scores


BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "another format": ({"format": 2}, "its format is 2, this version reads 1"),
    "fewer ids": ({"queries": ["a", "b"]}, "there are 2 ids of queries, and scores for 7"),
    "an id twice": ({"videos": ["a", "b", "c", "a", "d"]}, "the id 'a' stands twice among the videos"),
    "an id of another type": ({"videos": ["a", "b", 3, "c", "d"]}, "3 is no text"),
    "no score": ({"scores": with_nan()}, "for video 'v4' is not a number"),
    "scores of another shape": ({"scores": np.zeros(7)}, r"float64 of shape \(7,\)"),
    "whole scores": ({"scores": np.zeros((7, 5), int)}, "int64 of shape"),
    "too few targets": ({"target": np.zeros(3, int)}, r"7 queries, and target of shape \(3,\)"),
    "a target outside": ({"target": np.array([0, 1, 2, 3, 4, 5, 0])}, "has no correct video in the gallery"),
    "a negative target": ({"target": np.array([0, 1, 2, 3, -1, 0, 0])}, "has no correct video in the gallery"),
    "targets that are no places": ({"target": np.zeros(7)}, "no places of videos"),
    "further videos outside": ({"also": np.array([[0, 9]])}, "lie outside of 7 queries and 5 videos"),
    "further videos that are none": ({"also": np.zeros((2, 3), int)}, "no places of videos"),
    "facts of another length": ({"lengths": np.zeros(4)}, "lengths of shape"),
    "kinds of another length": ({"kinds": ["v"]}, "kinds of shape"),
    "no scores": ({"scores": None}, "scores"),
    "no queries": ({"queries": None}, "queries"),
}


@pytest.mark.parametrize(("changes", "expected"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_run_is_refused(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    path = rewritten(tmp_path / "run.npz", **changes)
    with pytest.raises(DataError, match=expected) as raised:
        load_run(path)
    assert str(path) in str(raised.value)


def test_files_that_are_no_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    with pytest.raises(DataError, match="no run at"):
        load_run(path)
    save_run(some_run(), path)
    whole = path.read_bytes()
    for size in (0, 3, 400, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cannot be read|is no whole run"):
            load_run(path)
    np.savez(path, scores=np.zeros((2, 2)))
    with pytest.raises(DataError, match="is no run, it holds scores"):
        load_run(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "trapped"),)

    np.savez(tmp_path / "run.npz", about=np.array([Trap()], object), scores=np.zeros((1, 1)))
    np.save(tmp_path / "scores.npy", np.array([Trap()], object))
    for read in (lambda: load_run(tmp_path / "run.npz"), lambda: load_run(tmp_path / "scores.npy")):
        with pytest.raises(DataError, match="cannot be read"):
            read()
    assert not (tmp_path / "trapped").exists()


def test_a_header_that_claims_the_moon(tmp_path: Path) -> None:
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)})
    (tmp_path / "scores.npy").write_bytes(data.getvalue() + b"0000")
    with pytest.raises(DataError, match="cannot be read"):
        load_run(tmp_path / "scores.npy")


# TREC and plain matrices


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_trec_reads_back(tmp_path: Path, dtype: type) -> None:
    run = some_run()
    run = replace(run, scores=run.scores.astype(dtype) * dtype(1.1))
    write_trec(run, tmp_path / "run.trec")
    write_qrels(run, tmp_path / "run.qrels")
    first = (tmp_path / "run.trec").read_text().splitlines()[0].split()
    best = run.videos[int(run.scores[0].argmax())]
    assert (first[0], first[1], first[2], first[3], first[5]) == (run.queries[0], "Q0", best, "1", "ours")
    again = read_trec(tmp_path / "run.trec", read_truth(tmp_path / "run.qrels"), gallery=run.videos)
    assert (again.queries, again.videos, again.system) == (run.queries, run.videos, "ours")
    assert again.scores.tolist() == run.scores.tolist()
    assert again.target.tolist() == run.target.tolist()
    assert sorted(again.also.tolist()) == sorted(run.also.tolist())


def test_trec_with_a_depth(tmp_path: Path) -> None:
    run = some_run()
    write_trec(run, tmp_path / "run.trec", depth=2)
    write_qrels(run, tmp_path / "run.qrels")
    assert len((tmp_path / "run.trec").read_text().splitlines()) == 7 * 2
    again = read_trec(tmp_path / "run.trec", read_truth(tmp_path / "run.qrels"), gallery=run.videos)
    ours, theirs = places(run.scores, run.correct), places(again.scores, again.correct)
    assert (theirs[ours <= 2] == ours[ours <= 2]).all()
    # What is unranked stands behind all that is ranked, at the very end.
    assert ((again.scores == -np.inf).sum(1) == 3).all()
    lost = ours[:, 0] > 2
    assert lost.any()
    assert (theirs[lost, 0] == 5 - (run.correct[lost].sum(1) - 1)).all()


def test_queries_that_a_run_leaves_out_are_counted(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q1 0 a 1\nq2 0 b 1\nq2 0 c 0\n")
    (tmp_path / "run").write_text("q1 Q0 a 1 0.5 sys\nq1 Q0 b 2 0.25 sys\n")
    run = read_trec(tmp_path / "run", read_truth(tmp_path / "qrels"))
    assert run.videos == ("a", "b")
    assert places(run.scores, run.correct)[:, 0].tolist() == [1, 2]


def test_a_matrix_with_ids(tmp_path: Path) -> None:
    run = some_run()
    write_qrels(run, tmp_path / "qrels")
    (tmp_path / "queries").write_text("".join(f"{id}\n" for id in run.queries))
    (tmp_path / "videos").write_text("".join(f"{id}\n" for id in run.videos))
    np.save(tmp_path / "scores.npy", run.scores)
    np.savez(tmp_path / "scores.npz", scores=run.scores.astype(np.float16), other=np.zeros(3))
    ids = {"queries": read_ids(tmp_path / "queries"), "gallery": read_ids(tmp_path / "videos")}
    plain = read_matrix(tmp_path / "scores.npy", read_truth(tmp_path / "qrels"), **ids)
    assert plain.scores.tolist() == run.scores.tolist()
    assert plain.correct.tolist() == run.correct.tolist()
    half = read_matrix(tmp_path / "scores.npz", read_truth(tmp_path / "qrels"), **ids)
    assert half.scores == pytest.approx(run.scores, abs=1e-2)
    np.save(tmp_path / "turned.npy", run.scores.T)
    with pytest.raises(DataError, match=r"turned.npy has shape \(5, 7\), the ids are 7 queries and 5 videos"):
        read_matrix(tmp_path / "turned.npy", read_truth(tmp_path / "qrels"), **ids)
    np.save(tmp_path / "broken.npy", np.where(run.scores > 1, np.nan, run.scores))
    with pytest.raises(DataError, match=r"broken.npy: the score of query .* is not a number"):
        read_matrix(tmp_path / "broken.npy", read_truth(tmp_path / "qrels"), **ids)
    np.savez(tmp_path / "unnamed.npz", run.scores)
    with pytest.raises(DataError, match="holds arr_0 and no array 'scores'"):
        read_matrix(tmp_path / "unnamed.npz", read_truth(tmp_path / "qrels"), **ids)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("q1 Q0 a 1 0.5 s\nq3 Q0 a 1 0.5 s", r"line 2: the truth has no query 'q3'; known: q1, q2"),
        ("q1 Q0 a 1 0.5 s\n\nq1 Q0 moon 2 0.5 s", r"line 3: there is no video 'moon' in the gallery"),
        ("q1 Q0 a 1 0.5 s\nq1 Q0 b 2 0.4 s\nq1 Q0 a 3 0.3 s", "line 3: query and video stand in an earlier line"),
        ("q1 Q0 a 1 nan s", "line 1: the score of video 'a' for query 'q1' is not a number"),
        ("q1 Q0 a 1 s", "line 1: 'q1 Q0 a 1 s' is no answer"),
        ("q1 Q0 a 1 high s", "is no answer"),
        ("", "holds no answers"),
    ],
)
def test_trec_lines_that_are_wrong(tmp_path: Path, lines: str, expected: str) -> None:
    (tmp_path / "qrels").write_text("q1 0 a 1\nq2 0 b 1\n")
    (tmp_path / "run").write_text(lines)
    with pytest.raises(DataError, match=expected):
        read_trec(tmp_path / "run", read_truth(tmp_path / "qrels"), gallery=["a", "b"])


def test_ids_that_trec_cannot_hold(tmp_path: Path) -> None:
    run = replace(some_run(), videos=("a b", "c", "d", "e", "f"))
    for write in (write_trec, write_qrels):
        with pytest.raises(DataError, match="the id 'a b' has blanks"):
            write(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Truth


def test_truth_in_its_four_forms(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("a.mp4#0 0 a.mp4 1\na.mp4#0 0 b.mp4 0\nb.mp4#0 0 b.mp4 1\nb.mp4#0 0 a.mp4 2\n")
    (tmp_path / "captions.jsonl").write_text('{"video": "a.mp4", "text": "one"}\n{"video": "a.mp4", "text": "two", "id": "x"}\n')
    (tmp_path / "list").write_text("a#enc#0 a man walks\nb#enc#1 2 dogs 1 cat\n")
    (tmp_path / "gt.jsonl").write_text('{"query_id": "a#0", "caption": "c", "gt_video_ids": ["a", "b"]}\n')
    assert {id: truth.videos for id, truth in read_truth(tmp_path / "qrels").items()} == {
        "a.mp4#0": ("a.mp4",),
        "b.mp4#0": ("b.mp4", "a.mp4"),
    }
    assert read_truth(tmp_path / "captions.jsonl") == {"a.mp4#0": (("a.mp4",), "one"), "x": (("a.mp4",), "two")}
    assert read_truth(tmp_path / "list") == {"a#enc#0": (("a",), "a man walks"), "b#enc#1": (("b",), "2 dogs 1 cat")}
    assert read_truth(tmp_path / "gt.jsonl") == {"a#0": (("a", "b"), "c")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no lines"),
        ("q 0 a 1\nq 0 a 1\n", "line 2: query 'q' and video 'a' stand twice"),
        ("q 0 a 1\nq a\n", "line 2: 'q a' is no line of qrels"),
        ("a#0 one\na#0 two\n", "line 2: the id 'a#0' is taken"),
        ("hello world\n", "line 1: 'hello world' says no truth"),
        ('{"video": 3}\n', "line 1: 'video' is 3"),
        ('{"video": "a", "text": "b"}\n{]\n', "line 2: this is not JSON"),
        ('{"query_id": "a", "gt_video_ids": "b"}\n', "is no list"),
    ],
)
def test_truth_that_is_wrong(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "truth").write_text(text)
    with pytest.raises(DataError, match=expected):
        read_truth(tmp_path / "truth")


def test_another_truth_for_a_run(tmp_path: Path) -> None:
    run = some_run()
    lines = [
        {"query_id": id, "caption": id, "gt_video_ids": ["v0", run.videos[own]]}
        for id, own in zip(run.queries, run.target, strict=True)
    ]
    (tmp_path / "gt.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    changed = with_truth(run, read_truth(tmp_path / "gt.jsonl"))
    # A query's own video stays its own, so what is known of it holds.
    assert changed.target.tolist() == run.target.tolist()
    assert changed.correct[:, 0].all()
    assert changed.facts.texts == run.queries
    assert changed.facts.lengths is run.facts.lengths
    (tmp_path / "qrels").write_text("".join(f"{id} 0 v4 1\n" for id in run.queries))
    moved = with_truth(run, read_truth(tmp_path / "qrels"))
    assert (moved.target == 4).all()
    assert moved.facts.lengths is None
    assert moved.facts.texts == run.facts.texts


def test_a_query_without_a_correct_video() -> None:
    run = some_run()
    whole = {id: Truth((run.videos[own],)) for id, own in zip(run.queries, run.target, strict=True)}
    lacking = {id: of for id, of in whole.items() if id not in run.queries[3:5]}
    with pytest.raises(DataError, match=f"2 of 7 queries have no correct video, '{run.queries[3]}' first"):
        with_truth(run, lacking)
    with pytest.raises(DataError, match="have no correct video"):
        with_truth(run, {**whole, run.queries[3]: Truth(())})
    with pytest.raises(DataError, match=r"video 'moon', correct for query .* is not in the gallery of 5 videos"):
        with_truth(run, {**whole, run.queries[3]: Truth(("moon",))})
