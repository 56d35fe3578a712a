"""Runs on disk: what is written reads back, foreign forms agree, and broken files are one clear line."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prvr.errors import DataError, SettingError
from prvr.evaluate.metrics import places
from prvr.evaluate.saved_scores import QueryFacts, SavedScores, load_scores, save_scores
from prvr.evaluate.saved_scores.foreign import read_ids, read_matrix, read_trec, write_qrels, write_trec
from prvr.evaluate.saved_scores.forms import open_scores
from prvr.evaluate.saved_scores.truth import Truth, facts_of, locate_correct, read_truth, with_labels, with_truth


def some_run(*, queries: int = 7, videos: int = 5, seed: int = 0) -> SavedScores:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(queries, videos)).astype(np.float32)
    scores[1, 3] = -np.inf
    target = random.integers(0, videos, queries)
    facts = QueryFacts(
        texts=tuple(f"a sentence, № {n}" for n in range(queries)),
        kinds=("v", None, *["vt"] * (queries - 2)),
        lengths=random.uniform(10, 99, queries),
        ratios=np.array([np.nan, *random.uniform(0, 1, queries - 1)]),
        overlaps=random.uniform(0, 1, queries),
    )
    ids = tuple(f"v{place}#{row}" for row, place in enumerate(target))
    also = np.array([[0, (target[0] + 1) % videos], [4, (target[4] + 2) % videos]])
    names = tuple(f"v{n}" for n in range(videos))
    return SavedScores(scores, ids, names, target, also, facts, system="ours", split="test", protocol="community", seed=3)


def same(first: SavedScores, second: SavedScores) -> bool:
    values = [
        [run.scores, run.target, run.also, run.facts.lengths, run.facts.ratios, run.facts.overlaps] for run in (first, second)
    ]
    plain = [
        replace(run, scores=np.zeros((7, 5)), target=np.zeros(7, int), also=np.zeros((0, 2), int), facts=QueryFacts())
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
    save_scores(run, tmp_path / "deep" / "run.npz")
    assert same(load_scores(tmp_path / "deep" / "run.npz"), run)
    bare = SavedScores(np.zeros((1, 2)), ("caf\udce9#0",), ("b c", "caf\udce9"), np.array([1]))
    save_scores(bare, tmp_path / "bare.npz")
    again = load_scores(tmp_path / "bare.npz")
    assert (again.queries, again.videos, again.facts, again.seed) == (bare.queries, bare.videos, QueryFacts(), None)


def test_branches_that_did_not_learn_read_back(tmp_path: Path) -> None:
    saved = replace(some_run(), untrained=("exploration", ""))
    save_scores(saved, tmp_path / "scores.npz")
    assert load_scores(tmp_path / "scores.npz").untrained == ("exploration", "")


def test_correct_videos() -> None:
    run = some_run()
    assert run.own.sum() == 7
    assert run.correct.sum() == 9
    assert run.own[np.arange(7), run.target].all()
    assert (run.correct & ~run.own).sum(1).tolist() == [1, 0, 0, 0, 1, 0, 0]


def test_a_full_disk_leaves_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_scores(some_run(), tmp_path / "run.npz")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            save_scores(some_run(seed=1), tmp_path / "run.npz")
    assert same(load_scores(tmp_path / "run.npz"), some_run())
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def rewritten(path: Path, **changes: object) -> Path:
    """The saved run with some arrays, or entries of its `about`, changed; None takes one out."""
    save_scores(some_run(), path)
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
    "an id twice": ({"videos": ["a", "b", "c", "a", "d"]}, "the id 'a' occurs twice among the videos"),
    "an id of another type": ({"videos": ["a", "b", 3, "c", "d"]}, "3 is not text"),
    "no score": ({"scores": with_nan()}, "for video 'v4' is not a number"),
    "scores of another shape": ({"scores": np.zeros(7)}, r"float64 of shape \(7,\)"),
    "whole scores": ({"scores": np.zeros((7, 5), int)}, "int64 of shape"),
    "too few targets": ({"target": np.zeros(3, int)}, r"7 queries, and target of shape \(3,\)"),
    "a target outside": ({"target": np.array([0, 1, 2, 3, 4, 5, 0])}, "has no correct video in the gallery"),
    "a negative target": ({"target": np.array([0, 1, 2, 3, -1, 0, 0])}, "has no correct video in the gallery"),
    "targets that are no places": ({"target": np.zeros(7)}, "not indices of videos"),
    "further videos outside": ({"also": np.array([[0, 9]])}, "are outside of 7 queries and 5 videos"),
    "further videos that are none": ({"also": np.zeros((2, 3), int)}, "not indices of videos"),
    "facts of another length": ({"lengths": np.zeros(4)}, "lengths of shape"),
    "kinds of another length": ({"kinds": ["v"]}, "kinds of shape"),
    "branches that are no list": ({"untrained": "exploration"}, "not a list of branches"),
    "no scores": ({"scores": None}, "scores"),
    "no queries": ({"queries": None}, "queries"),
}


@pytest.mark.parametrize(("changes", "expected"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_run_is_refused(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    path = rewritten(tmp_path / "run.npz", **changes)
    with pytest.raises(DataError, match=expected) as raised:
        load_scores(path)
    assert str(path) in str(raised.value)


def test_files_that_are_no_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    with pytest.raises(DataError, match="no scores at"):
        load_scores(path)
    save_scores(some_run(), path)
    whole = path.read_bytes()
    for size in (0, 3, 400, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cannot be read|has no complete scores"):
            load_scores(path)
    np.savez(path, scores=np.zeros((2, 2)))
    with pytest.raises(DataError, match="has no saved scores, it holds scores"):
        load_scores(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "trapped"),)

    np.savez(tmp_path / "run.npz", about=np.array([Trap()], object), scores=np.zeros((1, 1)))
    np.save(tmp_path / "scores.npy", np.array([Trap()], object))
    for read in (lambda: load_scores(tmp_path / "run.npz"), lambda: load_scores(tmp_path / "scores.npy")):
        with pytest.raises(DataError, match="cannot be read") as raised:
            read()
        assert "allow_pickle" not in str(raised.value)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("data", [b"q Q0 v 1 0.5 s\n", b"PK no", b"\x80\x04K\x01.", b""])
def test_a_file_without_arrays_is_never_said_to_be_a_pickle(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "run").write_bytes(data)
    with pytest.raises(DataError, match=r"neither .npz nor .npy; .* prvr score .*run --truth FILE --save SCORES.npz") as raised:
        load_scores(tmp_path / "run")
    assert "allow_pickle" not in str(raised.value)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "run.npz", "w") as archive:
        archive.writestr("about", b"text")
    with pytest.raises(DataError, match=r"cannot be read \('about' in it is not an array\)"):
        load_scores(tmp_path / "run.npz")


def test_a_header_that_claims_the_moon(tmp_path: Path) -> None:
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)})
    (tmp_path / "scores.npy").write_bytes(data.getvalue() + b"0000")
    with pytest.raises(DataError, match="cannot be read"):
        load_scores(tmp_path / "scores.npy")


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
        ("q1 Q0 a 1 0.5 s\nq1 Q0 b 2 0.4 s\nq1 Q0 a 3 0.3 s", "line 3: duplicate pair of query and video"),
        ("q1 Q0 a 1 nan s", "line 1: the score of video 'a' for query 'q1' is not a number"),
        ("q1 Q0 a 1 s", "line 1: expected .*, got 'q1 Q0 a 1 s'"),
        ("q1 Q0 a 1 high s", "expected QUERY Q0 VIDEO RANK SCORE SYSTEM, got"),
        ("", "holds no ranking"),
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
    assert read_truth(tmp_path / "captions.jsonl") == {
        "a.mp4#0": Truth(("a.mp4",), "one"),
        "x": Truth(("a.mp4",), "two"),
    }
    assert read_truth(tmp_path / "list") == {
        "a#enc#0": Truth(("a",), "a man walks"),
        "b#enc#1": Truth(("b",), "2 dogs 1 cat"),
    }
    assert read_truth(tmp_path / "gt.jsonl") == {"a#0": Truth(("a", "b"), "c")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("q 0 a 1\nq 0 a 1\n", "line 2: duplicate pair of query 'q' and video 'a'"),
        ("q 0 a 1\nq a\n", "line 2: expected QUERY 0 VIDEO RELEVANCE, got 'q a'"),
        ("a#0 one\na#0 two\n", "line 2: the id 'a#0' is used"),
        ("hello world\n", "line 1: expected .*, got 'hello world'"),
        ('{"video": 3}\n', "line 1: 'video' is 3"),
        ('{"video": "a", "text": "b"}\n{]\n', "line 2: this is not JSON"),
        ('{"qid": 3, "vid": "a"}\n', "line 1 has 'qid', 'vid'; expected qrels, .* vid_name and desc"),
        ('{"video": "a", "text": "b", "start": 3}\n', "line 1: the moment is None, expected a number"),
        ('{"video": "a", "text": "b", "duration": 0}\n', "line 1: 'duration' is 0, expected more"),
        ('{"vid_name": "a", "desc_id": true, "desc": "b"}\n', "line 1: 'desc_id' is True, expected text"),
        ('{"vid_name": "a", "desc_id": 1, "desc": ""}\n', "line 1: 'desc' is '', expected text"),
        ('{"query_id": "a", "gt_video_ids": "b"}\n', "expected a list"),
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


# What a truth tells beside the correct videos


def test_truth_with_moments_in_two_spellings(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text(
        '{"video": "a", "text": "one", "id": "q1", "start": 2, "end": 12, "duration": 10, "kind": "v"}\n'
        '{"video": "b", "text": "two", "id": "q2", "start": null, "end": null}\n'
    )
    (tmp_path / "test.jsonl").write_text(
        '{"vid_name": "a", "desc_id": 7, "desc": "one", "duration": 10, "ts": [2, 12], "type": "v"}\n'
        '{"vid_name": "b", "desc_id": "b#enc#0", "desc": "two", "duration": 4.0, "ts": [3, 1]}\n'
    )
    whole = Truth(("a",), "one", (2, 10), 10, "v")
    assert read_truth(tmp_path / "captions.jsonl") == {"q1": whole, "q2": Truth(("b",), "two")}
    assert read_truth(tmp_path / "test.jsonl") == {"7": whole, "b#enc#0": Truth(("b",), "two", None, 4)}


def test_a_run_of_another_program_knows_what_its_truth_tells(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("q1 Q0 a 1 0.5 s\nq2 Q0 a 1 0.5 s\n")
    truth = {"q1": Truth(("a",), "one", (2.0, 10.0), 40.0, "v"), "q2": Truth(("b",), "two", (0.0, 1.0))}
    facts = read_trec(tmp_path / "run", truth).facts
    assert (facts.texts, facts.kinds) == (("one", "two"), ("v", None))
    np.testing.assert_equal([facts.lengths, facts.ratios], [[40, np.nan], [0.2, np.nan]])
    assert read_trec(tmp_path / "run", {"q1": Truth(("a",)), "q2": Truth(("b",))}).facts == QueryFacts()


def test_a_truth_fills_in_what_a_run_does_not_know() -> None:
    run = some_run()
    truth = {id: Truth((run.videos[own],), None, (0.0, 5.0), 50.0, "t") for id, own in zip(run.queries, run.target, strict=True)}
    filled = with_truth(run, truth).facts
    # Its first ratio and the second kind are unknown; all else it knows.
    assert filled.ratios.tolist() == [0.1, *run.facts.ratios[1:]]
    assert filled.kinds == ("v", "t", *["vt"] * 5)
    assert filled.lengths.tolist() == run.facts.lengths.tolist()
    moved = with_truth(run, {id: of._replace(videos=("v4",)) for id, of in truth.items()}).facts
    assert (moved.lengths.tolist(), moved.overlaps) == ([50] * 7, None)


# Labels


def labelled_run(tmp_path: Path) -> SavedScores:
    """Queries a#0, b#0 and c#0 of one video each, of which the last has a further one; labels for the first two."""
    texts = ("A man runs.", "a dog", "rain")
    labels = [
        {"query_id": "a#enc#9", "caption": "a man runs", "gt_video_ids": ["a", "c", "elsewhere"]},
        {"query_id": "b#enc#0", "caption": "A dog", "gt_video_ids": ["b"]},
    ]
    (tmp_path / "x.gt.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    return SavedScores(
        np.zeros((3, 3)), ("a#0", "b#0", "c#0"), ("a", "b", "c"), np.arange(3), np.array([[2, 0]]), QueryFacts(texts)
    )


def test_labels_for_a_run(tmp_path: Path) -> None:
    run = labelled_run(tmp_path)
    done, count = with_labels(run, tmp_path / "x.gt.jsonl")
    assert count == 2
    assert done.also.tolist() == [[0, 2], [2, 0]]
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.write(tmp_path / "x.gt.jsonl", "toy/x.gt.jsonl")
    assert with_labels(run, tmp_path / "one.zip")[0].also.tolist() == [[0, 2], [2, 0]]
    with zipfile.ZipFile(tmp_path / "one.zip", "a") as archive:
        archive.writestr("tvr/x.gt.jsonl", b"")
    with pytest.raises(DataError, match=r"has 2 files \*/\*.gt.jsonl; it has toy/x.gt.jsonl, tvr/x.gt.jsonl: unpack"):
        with_labels(run, tmp_path / "one.zip")
    with pytest.raises(DataError, match="which are unknown here; add a --truth"):
        with_labels(replace(run, facts=QueryFacts()), tmp_path / "x.gt.jsonl")
    with pytest.raises(DataError, match=r"no label of .* is about a query of these scores"):
        with_labels(replace(run, facts=QueryFacts(("x", "y", "z"))), tmp_path / "x.gt.jsonl")
    with pytest.raises(DataError, match=r"is an archive, not a truth; .* --also"):
        read_truth(tmp_path / "one.zip")


@pytest.mark.shared
def test_the_labels_of_tvr_for_a_run(shared: Path, tmp_path: Path) -> None:
    """The first queries of the release: those about what is seen have labels, all others none."""
    annotations = shared / "data" / "annotations"
    lines = (annotations / "tvr" / "tvr_val_release.jsonl").read_text().splitlines(keepends=True)[:1_000]
    (tmp_path / "tvr.jsonl").write_text("".join(lines))
    with zipfile.ZipFile(annotations / "prvr_multigt" / "multigt_labels.zip") as archive:
        labels = archive.read("tvr/tvrdenseval_v.gt.jsonl").splitlines(keepends=True)
    truth = read_truth(tmp_path / "tvr.jsonl")
    videos = tuple(dict.fromkeys(of.videos[0] for of in truth.values()))
    mine = [line for line in labels if json.loads(line)["query_id"].partition("#")[0] in videos]
    (tmp_path / "tvr.gt.jsonl").write_bytes(b"".join(mine))
    target, _ = locate_correct(tuple(truth), videos, truth)
    facts = facts_of(tuple(truth), truth)
    assert len(truth) == 1_000
    assert facts.kinds is not None
    run = SavedScores(np.zeros((1_000, len(videos)), np.float32), tuple(truth), videos, target, facts=facts)
    _, count = with_labels(run, tmp_path / "tvr.gt.jsonl")
    assert count == facts.kinds.count("v")


@pytest.mark.parametrize("score", ["inf", "-inf", "1e400", "nan", "Infinity"])
def test_trec_scores_that_are_no_numbers(tmp_path: Path, score: str) -> None:
    (tmp_path / "qrels").write_text("q1 0 a 1\n")
    (tmp_path / "run").write_text(f"q1 Q0 a 1 0.5 s\nq1 Q0 b 2 {score} s\n")
    with pytest.raises(
        DataError, match=rf"line 2: the score of video 'b' for query 'q1' is not a number \({score}\); write a finite"
    ):
        open_scores(tmp_path / "run", truth=tmp_path / "qrels")


@pytest.mark.parametrize("relevance", ["yes", "1.0", "nan", "inf", "--1", "1e3", "9" * 5000, "\u0663"])
@pytest.mark.parametrize("line", [0, 1])
def test_qrels_that_are_no_numbers(tmp_path: Path, relevance: str, line: int) -> None:
    lines = ["q1 0 a 1", "q2 0 b 1"]
    lines[line] = f"q{line + 1} 0 a {relevance}"
    (tmp_path / "qrels").write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"line {line + 1}: the relevance of video 'a' for query 'q{line + 1}' is .*write 1 for"):
        read_truth(tmp_path / "qrels")


def test_a_caption_list_whose_texts_begin_with_numbers(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("v#enc#0 3 men walk\nv#enc#1 a dog\n")
    assert read_truth(tmp_path / "list")["v#enc#0"].text == "3 men walk"


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_saved_scores_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    scores = np.array([[0.5, 0.1], [0.2, value]], np.float32)
    np.save(tmp_path / "matrix.npy", scores)
    for name, ids in (("queries", "q1 q2"), ("gallery", "a b")):
        (tmp_path / name).write_text("\n".join(ids.split()))
    (tmp_path / "qrels").write_text("q1 0 a 1\nq2 0 b 1\n")
    files = {name: tmp_path / name for name in ("queries", "gallery")}
    with pytest.raises(DataError, match=rf"query 'q2' for video 'b' is not a number \({value}\); write finite scores"):
        open_scores(tmp_path / "matrix.npy", truth=tmp_path / "qrels", **files)


def test_damaged_score_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    save_scores(SavedScores(np.eye(3, dtype=np.float32), ("x", "y", "z"), ("a", "b", "c"), np.arange(3)), path)
    whole, draw, said = path.read_bytes(), np.random.default_rng(0), list[str]()
    for number in range(300):
        data = bytearray(whole)
        for place in draw.integers(0, len(data), 1 + number % 5):
            data[place] = draw.integers(0, 256)
        path.write_bytes(data if number % 4 else data[: draw.integers(1, len(data))])
        try:
            open_scores(path)
        except (DataError, SettingError) as problem:
            said.append(str(problem))
    assert len(said) > 100
    assert "\n" not in "".join(said)
