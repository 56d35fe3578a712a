"""`prvr evaluate`, `prvr score` and `prvr compare` as one types them, and that every command of docs/evaluation.md runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Prvr, says

from prvr.datasets import Caption, Dataset
from prvr.evaluate.compare import compare, rank_queries
from prvr.evaluate.evaluation import evaluate_model, scores_of
from prvr.evaluate.figures import count_figures
from prvr.evaluate.metrics import overlap
from prvr.evaluate.saved_scores import SavedScores, load_scores, save_scores
from prvr.evaluate.saved_scores.forms import open_scores
from prvr.features import FeatureSet
from prvr.features.packed import Packed, PackedWriter
from prvr.features.sources import FeatureSources, Source
from prvr.index.encode import add_videos, encode_queries
from prvr.index.exact import ExactIndex
from prvr.methods import checkpoint as checkpoints
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.papers.toy import write_toy
from prvr.search.hits import moment

TEACHER, WORDS = "clip_vit_base_patch32", "all_minilm_l6_v2"
COLUMNS, VIDEOS, PER_VIDEO = 6, 12, 2
DOCUMENT = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def packed(path: Path, items: dict[str, np.ndarray], **info: object) -> None:
    about = {"encoder": {"name": path.parent.name, "fingerprint": None}}
    with PackedWriter(path, columns=COLUMNS, about=about) as writer:
        for id, rows in items.items():
            writer.append(id, rows, {name: of[id] if isinstance(of, dict) else of for name, of in info.items()})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with the names of videos, captions with spans, their features, and a student of them that nobody trained."""
    root, random = tmp_path_factory.mktemp("evaluation"), np.random.default_rng(0)
    names = [f"{n:02d}.mp4" for n in range(VIDEOS)]
    lines, frames, texts = [], {}, {}
    (root / "videos").mkdir()
    for place, name in enumerate(names):
        (root / "videos" / name).touch()
        frames[name] = random.normal(size=(6 + place, COLUMNS)).astype(np.float32)
        for k in range(PER_VIDEO):
            # Every other video is described in the words of the one before.
            span = {"start": 1.0 * k, "end": 2.0 * k + 2} if place % 4 else {}
            lines.append({"video": name, "text": f"sentence {place // 2 if k else place}-{k}", "split": "test", **span})
            noise = random.normal(scale=1.5, size=COLUMNS)
            texts[f"{name}#{k}"] = (frames[name][k] + noise).astype(np.float32)[None]
    (root / "videos" / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    times = {name: [1.0 * n for n in range(len(rows))] for name, rows in frames.items()}
    lengths = {name: 1.0 * len(rows) for name, rows in frames.items()}
    packed(root / "features" / TEACHER / "frames", frames, times=times, duration=lengths, size=1, mtime_ns=1)
    said = {f"{line['video']}#{n % PER_VIDEO}": line["text"] for n, line in enumerate(lines)}
    packed(root / "features" / TEACHER / "sentences", texts, text=said)
    packed(root / "features" / WORDS / "words", texts, text=said)
    torch.manual_seed(0)
    sources = FeatureSources(Source(TEACHER, COLUMNS), Source(WORDS, COLUMNS))
    student = checkpoints.build("dl_dkd", DlDkdConfig(hidden=8, heads=2), sources)
    checkpoints.save(replace(student, about={"protocol": "honest"}), root / "run")
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one's own, and the current folder."""
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


FOLDER = ("videos", "features", "--zero-shot", TEACHER)


def exported(prvr: Prvr, name: str = "out") -> None:
    """The teacher's scores, saved and in TREC's format, in the current folder."""
    assert prvr("evaluate", *FOLDER, "--save", f"{name}.npz").status == 0
    assert prvr("score", f"{name}.npz", "--trec", "out.trec" if name == "bare" else f"{name}.trec").status == 0


# From a folder and from a run


def test_a_folder_and_the_run_that_it_saved_give_the_same(prvr: Prvr, place: Path) -> None:
    options = ("--groups", "--video-to-text", "--ties", "mean", "--json")
    first = prvr("evaluate", *FOLDER, "--save", "run.npz", *options)
    assert first.status == 0, first.err
    assert prvr("score", "run.npz", *options) == first
    value = json.loads(first.out)
    assert (value["split"], value["system"], value["protocol"], value["ties"]) == ("test", TEACHER, "honest", "mean")
    assert (value["queries"], value["videos"]) == (24, 12)
    assert value["moment_queries"] == 18
    assert value["moments"]["0.3"] == value["moment_recall"]["0.3"]["r1"]
    assert value["moment_recall"]["0.5"]["r100"] == value["localised"]["0.5"]
    assert value["video_to_text"]["queries"] == 12
    groups = value["groups"]
    assert {name: sum(group["queries"] for group in parts) for name, parts in groups.items()} == dict.fromkeys(groups, 24)
    assert groups["moment / video"][-1] == {**groups["moment / video"][-1], "group": "unknown", "queries": 6}
    # Of 12 second sentences, two videos share each: at most 6 of them are found at 1, and all at 5.
    assert value["ceilings"]["r1"] == pytest.approx(100 * (12 + 6) / 24)
    assert value["ceilings"]["r5"] == 100


def test_lines_for_people(prvr: Prvr, place: Path) -> None:
    plain = prvr("evaluate", *FOLDER).out.splitlines()
    assert plain[0].startswith("test: R@1/5/10/100 ")
    assert "(24 queries, 12 videos)" in plain[0]
    assert any(line.startswith("best hit is the right video and its span overlaps the moment  IoU>=0.3: ") for line in plain)
    assert any("18 queries with a span, 6 queries have none" in line for line in plain)
    assert any("keep R@1/5/10 below 75.0/100.0/100.0" in line for line in plain)
    assert plain[-1] == "protocol: honest"
    more = prvr("evaluate", *FOLDER, "--groups", "--video-to-text").out.splitlines()
    assert [line for line in more if line in plain] == plain
    assert any(line.strip().startswith("unknown       6 queries") for line in more)
    assert any(line.startswith("video to text: ") and line.endswith("(12 videos, 24 captions)") for line in more)


def test_the_protocol_is_the_checkpoints(prvr: Prvr, place: Path) -> None:
    path = place / "run" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "about": {"protocol": "community", "training": {"seed": 7}}}))
    answer = prvr("evaluate", "videos", "features", "--model", "run", "--save", "run.npz")
    assert answer.out.splitlines()[-1] == "protocol: community"
    run = load_scores("run.npz")
    assert (run.protocol, run.system, run.seed) == ("community", "run", 7)
    assert json.loads(prvr("score", "run.npz", "--json").out)["protocol"] == "community"


def test_a_checkpoint_that_says_no_protocol(prvr: Prvr, place: Path) -> None:
    told(place, {})
    assert protocol(prvr, "--model", "run") == "not said"
    assert protocol(prvr, "--zero-shot", TEACHER) == "honest"


@pytest.mark.parametrize(
    ("split", "honest", "community"),
    [
        ("train", "on the training split", "on the training split"),
        ("dev", "on the split that chose the epoch", "community"),
        ("test", "honest", "community"),
        ("all", "on all splits including training", "on all splits including training"),
    ],
)
def test_a_split_that_the_model_was_made_with_is_named(prvr: Prvr, place: Path, split: str, honest: str, community: str) -> None:
    path = place / "videos" / "captions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    given = {line["video"]: ("train", "dev", "test")[n // PER_VIDEO % 3] for n, line in enumerate(lines)}
    path.write_text("".join(json.dumps({**line, "split": given[line["video"]]}) + "\n" for line in lines))
    assert protocol(prvr, "--model", "run", "--split", split) == honest
    told(place, {"protocol": "community"})
    assert protocol(prvr, "--model", "run", "--split", split) == community
    # A teacher alone has learnt from none of them.
    assert protocol(prvr, "--zero-shot", TEACHER, "--split", split) == "honest"


def told(place: Path, about: dict[str, object]) -> None:
    """The checkpoint of the student, which now says this of itself."""
    path = place / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "about": about}))


def protocol(prvr: Prvr, *options: str) -> str:
    """The protocol that `prvr evaluate` names, in its last line and in JSON."""
    line = prvr("evaluate", "videos", "features", *options).out.splitlines()[-1]
    value = prvr("evaluate", "videos", "features", *options, "--json").json["protocol"]
    assert line == f"protocol: {value}"
    return value


def test_ties_are_named_and_counted(prvr: Prvr, place: Path) -> None:
    assert prvr("evaluate", *FOLDER, "--save", "run.npz").status == 0
    run = load_scores("run.npz")
    save_scores(replace(run, scores=np.zeros_like(run.scores)), place / "flat.npz")
    found = {
        ties: json.loads(prvr("score", "flat.npz", "--ties", ties, "--json").out)["meanr"]
        for ties in ("pessimistic", "optimistic", "mean")
    }
    assert found == {"pessimistic": 12, "optimistic": 1, "mean": 6.5}
    says(prvr("score", "flat.npz", "--ties", "best"), "unknown rule for ties 'best'")


def test_a_trec_file_gives_the_same_figures(prvr: Prvr, place: Path) -> None:
    first = json.loads(prvr("evaluate", *FOLDER, "--save", "run.npz", "--json").out)
    assert prvr("score", "run.npz", "--trec", "out.trec").status == 0
    second = json.loads(prvr("score", "out.trec", "--truth", "out.trec.qrels", "--json").out)
    same = ("r1", "r5", "r10", "r100", "sumr", "medr", "meanr", "mrr", "map", "queries", "videos")
    assert {name: second[name] for name in same} == pytest.approx({name: first[name] for name in same})
    assert second["protocol"] == "not said"


def test_python_returns_what_the_commands_print(prvr: Prvr, place: Path) -> None:
    exported(prvr, "a")
    assert prvr("evaluate", "videos", "features", "--model", "run", "--save", "b.npz").status == 0
    figures = count_figures(load_scores("a.npz"), ties="mean", groups=True, video_to_text=True)
    options = ("--ties", "mean", "--groups", "--video-to-text")
    assert prvr("score", "a.npz", *options).out == f"{figures}\n"
    assert prvr("score", "a.npz", *options, "--json").json == figures.as_dict()
    assert prvr("evaluate", *FOLDER, *options, "--json").json == figures.as_dict()
    opened = {name: open_scores(f"{name}.npz").saved for name in ("a", "b")}
    comparison = compare({name: [rank_queries(saved, name=name)] for name, saved in opened.items()}, resamples=200)
    assert prvr("compare", "a.npz", "b.npz", "--resamples", 200).out == f"{comparison}\n"
    assert prvr("compare", "a.npz", "b.npz", "--resamples", 200, "--json").json == json.loads(json.dumps(comparison.as_dict()))


# What is refused


def test_what_is_missing_is_said(prvr: Prvr, place: Path) -> None:
    assert prvr("evaluate", "videos", "--zero-shot", TEACHER).status == 2
    says(prvr("evaluate", "videos", "features"), "name one model")
    says(prvr("score", "none.npz"), "no scores at none.npz", "--save none.npz")
    (place / "out.trec").write_text("q Q0 v 1 0.5 s\n")
    says(prvr("score", "out.trec"), "--truth FILE")
    says(prvr("score", "out.trec", "--truth", "none"), "no truth at none")
    np.save(place / "scores.npy", np.zeros((2, 2)))
    (place / "qrels").write_text("q 0 v 1\n")
    says(prvr("score", "scores.npy", "--truth", "qrels"), "--queries FILE --gallery FILE")
    says(prvr("score", "scores.npy", "--truth", "qrels", "--queries", "none", "--gallery", "none"), "no ids at none")


def test_a_file_of_scores_is_for_score(prvr: Prvr, place: Path) -> None:
    assert prvr("evaluate", *FOLDER, "--save", "run.npz").status == 0
    for arguments in (("run.npz",), ("run.npz", "features"), ("run.npz", "--model", "run"), ("run.npz", "--split", "dev")):
        says(prvr("evaluate", *arguments), "run.npz is a file, not a data set", "prvr score run.npz")
    says(prvr("evaluate", "none.trec"), "prvr score none.trec")
    for option in ("--truth", "--queries", "--gallery", "--calibrate", "--risks", "--trec", "--depth"):
        for arguments in (FOLDER, ("run.npz",)):
            says(prvr("evaluate", *arguments, option, "3"), "are options of prvr score", "prvr score SCORES.npz")
    assert "--trec" not in prvr("evaluate", "--help").out


def test_options_that_would_say_nothing(prvr: Prvr, place: Path) -> None:
    assert prvr("evaluate", *FOLDER, "--save", "run.npz").status == 0
    says(prvr("score", "run.npz", "--gallery", "none"), "--gallery none is not for run.npz")
    assert prvr("score", "run.npz", "--trec", "out.trec").status == 0
    says(prvr("score", "out.trec", "--truth", "out.trec.qrels", "--queries", "none"), "--queries none is not for out.trec")


def test_groups_of_which_nothing_is_known(prvr: Prvr, place: Path) -> None:
    exported(prvr)
    grouped = ("--groups", "--save", "run.npz")
    says(prvr("score", "out.trec", "--truth", "out.trec.qrels", *grouped), f"of {TEACHER!r}", "start, end and duration")
    # A folder's captions have moments, and no lengths.
    says(prvr("score", "out.trec", "--truth", "videos/captions.jsonl", *grouped), f"of {TEACHER!r}", "start, end and duration")
    assert not (place / "run.npz").exists()


def test_groups_of_another_programs_run(prvr: Prvr, place: Path) -> None:
    exported(prvr)
    first = prvr("evaluate", *FOLDER, "--groups", "--json").json["groups"]
    lines = [json.loads(line) for line in (place / "videos" / "captions.jsonl").read_text().splitlines()]
    lengths = [6.0 + n // PER_VIDEO for n in range(len(lines))]
    told = ({**line, "duration": length} for line, length in zip(lines, lengths, strict=True))
    (place / "truth.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    again = prvr("score", "out.trec", "--truth", "truth.jsonl", "--groups", "--json").json["groups"]
    assert again == {name: parts for name, parts in first.items() if name != "kind"}


def test_a_packages_annotations_as_a_truth(prvr: Prvr, tmp_path: Path) -> None:
    package = write_toy(tmp_path, train_videos=4, test_videos=3)
    lines = [json.loads(line) for line in (package / "annotations" / "test.jsonl").read_text().splitlines()]
    ranked = "".join(f"{line['desc_id']} Q0 {line['vid_name']} 1 0.5 s\n" for line in lines)
    (tmp_path / "out.trec").write_text(ranked)
    answer = prvr("score", tmp_path / "out.trec", "--truth", package / "annotations" / "test.jsonl", "--groups", "--json")
    assert answer.status == 0, answer.err
    assert (answer.json["r1"], answer.json["videos"]) == (100, 3)
    assert "moment / video, sextiles" in answer.json["groups"]


# A gallery that nobody named


def test_videos_that_only_a_run_names_are_told(prvr: Prvr, place: Path) -> None:
    Path("qrels").write_text("q1 0 a 1\nq2 0 b 1\n")
    Path("out.trec").write_text("q1 Q0 x 1 0.9 s\nq1 Q0 a 2 0.5 s\nq2 Q0 y 1 0.5 s\n")
    Path("gallery").write_text("a\nb\nx\ny\nz\n")
    answer = prvr("score", "out.trec", "--truth", "qrels", "--json")
    (line,) = answer.err.splitlines()
    assert line.startswith(
        "prvr: out.trec: 2 of its videos are correct for no query of the truth, 'x' first, and join the gallery"
    )
    assert line.endswith("--gallery FILE")
    assert (answer.json["videos"], answer.json["joined_gallery"]) == (4, {"videos": 2, "first": "x"})
    fixed = prvr("score", "out.trec", "--truth", "qrels", "--gallery", "gallery", "--json")
    assert (fixed.err, fixed.json["videos"]) == ("", 5)
    assert "joined_gallery" not in fixed.json


# Labels of further correct videos


def test_labels_count_for_a_model_and_for_its_run(prvr: Prvr, place: Path) -> None:
    label = {"query_id": "00.mp4#enc#0", "caption": "sentence 0-0", "gt_video_ids": ["00.mp4", "03.mp4", "elsewhere"]}
    alone = {"query_id": "01.mp4#enc#0", "caption": "Sentence 1-0.", "gt_video_ids": ["01.mp4"]}
    with zipfile.ZipFile("labels.zip", "w") as archive:
        archive.writestr("videos/x.gt.jsonl", f"{json.dumps(label)}\n{json.dumps(alone)}\n")
    answer = prvr("evaluate", *FOLDER, "--also", "labels.zip", "--save", "run.npz")
    assert answer.status == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[-2] == "2 of 24 queries are labelled in labels.zip"
    assert any(line.startswith("1 further correct videos") for line in lines)
    value = prvr("evaluate", *FOLDER, "--also", "labels.zip", "--json").json
    assert value["labelled"] == 2
    # Kept without labels, and given them afterwards.
    exported(prvr, "bare")
    assert prvr("score", "bare.npz", "--also", "labels.zip", "--json").json == value
    other = prvr("score", "out.trec", "--truth", "videos/captions.jsonl", "--also", "labels.zip", "--json").json
    assert (other["labelled"], other["covered1"]) == (2, value["covered1"])
    says(prvr("score", "out.trec", "--truth", "out.trec.qrels", "--also", "labels.zip"), "matched by the words of a query")
    says(prvr("evaluate", *FOLDER, "--also", "none.zip"), "no labels at none.zip")
    says(prvr("score", "bare.npz", "--truth", "labels.zip"), "--also labels.zip")


def test_nothing_is_written_where_something_is_wrong(prvr: Prvr, place: Path) -> None:
    (place / "qrels").write_text("unknown 0 00.mp4 1\n")
    assert prvr("evaluate", *FOLDER, "--save", "whole.npz").status == 0
    found = "24 of 24 queries have no correct video"
    says(prvr("score", "whole.npz", "--truth", "qrels", "--save", "run.npz"), found, "'00.mp4#0'")
    assert not (place / "run.npz").exists()
    run = load_scores("whole.npz")
    save_scores(replace(run, videos=("a b.mp4", *run.videos[1:])), place / "spaced.npz")
    says(prvr("score", "spaced.npz", "--trec", "out.trec", "--save", "run.npz"), "the id 'a b.mp4' has blanks")
    assert not list(place.glob("out.trec*"))
    assert not (place / "run.npz").exists()


# Comparing


def test_compare(prvr: Prvr, place: Path) -> None:
    assert prvr("evaluate", *FOLDER, "--save", "a.npz").status == 0
    assert prvr("evaluate", "videos", "features", "--model", "run", "--save", "b.npz").status == 0
    shutil.copy("b.npz", "b2.npz")
    answer = prvr("compare", "a.npz", "ours=b.npz,b2.npz", "--resamples", 500)
    assert answer.status == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].startswith("a: SumR ")
    assert lines[0].endswith("(1 seed)")
    assert " ± 0.0 " in lines[1]
    assert lines[1].endswith("(2 seeds)")
    assert [line.split(" [")[0].rpartition(" ")[0] for line in lines[2:5]] == [
        f"ours - a: {name}" for name in ("SumR", "R@1", "MRR")
    ]
    assert "24 queries of 12 videos" in lines[5]
    assert lines[6] == "protocol: honest"
    value = json.loads(prvr("compare", "a.npz", "b.npz", "--json", "--resamples", 200).out)
    assert value["baseline"] == "a"
    assert set(value["effects"]["b"]["mrr"]) == {"difference", "low", "high", "p", "p_holm"}
    assert prvr("compare", "a.npz", "b.npz", "--resamples", 200) == prvr("compare", "a.npz", "b.npz", "--resamples", 200)


def test_compare_says_where_protocols_differ_and_what_does_not_fit(prvr: Prvr, place: Path) -> None:
    assert prvr("evaluate", *FOLDER, "--save", "a.npz").status == 0
    run = load_scores("a.npz")
    save_scores(replace(run, protocol="community"), place / "b.npz")
    assert prvr("compare", "a.npz", "b.npz", "--resamples", 50).out.splitlines()[-1] == "protocols differ: a honest, b community"
    save_scores(replace(run, queries=("new", *run.queries[1:])), place / "c.npz")
    says(prvr("compare", "a.npz", "c.npz"), "a.npz has query '00.mp4#0', which c.npz lacks")
    says(prvr("compare", "a.npz"), "there is one system")
    says(prvr("compare", "a.npz", "a.npz"), "two systems are called 'a'")
    says(prvr("compare", "a.npz", "b="), "names no scores")
    says(prvr("compare", "a.npz", "none.npz"), "no scores at none.npz")
    says(prvr("compare", "a.npz", "b=b.npz,./b.npz"), "b.npz is named twice in 'b=b.npz,./b.npz'")
    # Folders of `prvr reproduce` have settings in their names.
    folder = place / "weight=0.0"
    folder.mkdir()
    for name in ("s.npz", "t.npz"):
        save_scores(run, folder / name)
    lines = prvr(
        "compare", "a.npz", "none=weight=0.0/s.npz,weight=0.0/t.npz", "weight=0.0/s.npz", "--resamples", 50
    ).out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["a", "none", "s"]


def test_compare_reads_what_evaluate_reads(prvr: Prvr, place: Path) -> None:
    exported(prvr, "a")
    run = load_scores("a.npz")
    np.save("b.npy", run.scores)
    Path("queries").write_text("".join(f"{id}\n" for id in run.queries))
    Path("gallery").write_text("".join(f"{id}\n" for id in run.videos))
    given = ("--truth", "a.trec.qrels", "--gallery", "gallery", "--queries", "queries")
    answer = prvr("compare", "a.npz", "b=a.trec", "c=b.npy", *given, "--resamples", 50, "--json")
    assert answer.status == 0, answer.err
    of = answer.json["effects"]
    assert {of[name][measure]["difference"] for name in ("b", "c") for measure in of[name]} == {0}
    lines = prvr("compare", "a.npz", "b=a.trec", *given[:4], "--resamples", 50).out.splitlines()
    assert lines[-1] == "protocols differ: a honest, b not said"
    says(prvr("compare", "a.npz", "b=a.trec"), "a.trec does not say which videos are correct; add --truth FILE")
    says(prvr("compare", "a.npz", "b.npy", *given[:2]), "--queries FILE --gallery FILE")
    says(prvr("compare", "a.npz", "run"), "no scores at run")


def test_help_with_an_example(prvr: Prvr) -> None:
    assert "Example: prvr compare" in prvr("compare", "--help").out


# Moments of an evaluation


def test_moments_are_those_of_the_own_video_at_any_rank(tmp_path: Path) -> None:
    """Beside a plain loop: a caption counts at k if its own video is among the first k with a span that fits one moment."""
    torch.manual_seed(1)
    sources = FeatureSources(Source("frames", COLUMNS), Source("words", COLUMNS))
    model = checkpoints.build("dl_dkd", DlDkdConfig(hidden=8, heads=2), sources).model.eval()
    random = np.random.default_rng(4)
    frames = {f"v{n}": random.normal(size=(12, COLUMNS)).astype(np.float32) for n in range(9)}
    words = {f"#{n}": random.normal(size=(3, COLUMNS)).astype(np.float32) for n in range(30)}
    captions = [
        Caption(id, f"v{n % 9}", id, 1.0, 9.0, windows=((1.0, 4.0), (5.0, 9.0)), also=(f"v{(n + 1) % 9}",))
        for n, id in enumerate(words)
    ]
    captions[3] = Caption("#3", "v3", "#3")
    dataset = Dataset("toy", "test", tuple(captions), tuple(frames), {"v0": 40.0})

    packed(tmp_path / "frames", frames, times=[1.0 * n for n in range(12)], duration=12.0, size=1, mtime_ns=1)
    evaluation = evaluate_model(model, dataset, FeatureSet(Packed(tmp_path / "frames"), words, sources))
    index = ExactIndex(model)
    add_videos(index, frames, Packed(tmp_path / "frames"))
    ranks, overlaps = [], []
    for row, caption in enumerate(captions):
        own = list(frames).index(caption.video)
        ranks.append(1 + int((evaluation.scores[row] > evaluation.scores[row, own]).sum()))
        found = moment(index, encode_queries(model, [words[caption.id]]), caption.video)
        overlaps.append(max((overlap(found, true) for true in caption.moments), default=None))
    known = [(rank, of) for rank, of in zip(ranks, overlaps, strict=True) if of is not None]
    assert evaluation.spans.queries == len(known) == 29
    for least in (0.3, 0.5, 0.7):
        for k in (1, 5):
            expected = 100 * np.mean([rank <= k and of >= least for rank, of in known])
            assert evaluation.spans.recall[least][k] == pytest.approx(expected)
    assert evaluation.spans.miou == pytest.approx(np.mean([of for _, of in known]))
    assert evaluation.moments == {least: shares[1] for least, shares in evaluation.spans.recall.items()}
    run = scores_of(evaluation, dataset, system="toy")
    assert run.correct.sum(1).tolist() == [1 if n == 3 else 2 for n in range(30)]
    # Both windows together, of a length that the data set knows or else the frames' times.
    assert (run.facts.ratios[0], run.facts.ratios[1]) == pytest.approx((7 / 40, 7 / 12))
    assert np.isnan(run.facts.ratios[3])


# The document


def test_the_commands_of_the_document(prvr: Prvr, place: Path) -> None:
    commands = [line[2:] for block in re.findall(r"```console\n(.*?)```", DOCUMENT, flags=re.S) for line in block.splitlines()]
    assert len(commands) >= 9
    for command in commands:
        if "--save dev.npz" in command:
            # All captions of this folder are of test, and too few to fit probabilities on.
            save_scores(held_out(), place / "dev.npz")
            continue
        answer = prvr(*shlex.split(command)[1:])
        assert answer.status == 0, (command, answer.err)
        if command.endswith("ours.npz --save again.npz") or "--save ours.npz" in command:
            run = load_scores("ours.npz")
            np.save("scores.npy", run.scores)
            Path("queries.txt").write_text("".join(f"{id}\n" for id in run.queries))
            Path("gallery.txt").write_text("".join(f"{id}\n" for id in run.videos))
            for seed in (1, 2, 3):
                shutil.copy("ours.npz", f"seed{seed}.npz")


def held_out() -> SavedScores:
    """A run of fifty other queries, each of which scores its own video higher."""
    random, own = np.random.default_rng(0), np.arange(50) % 10
    scores = random.normal(size=(50, 10)) + 2.0 * np.eye(10)[own]
    queries, videos = (tuple(f"held out {n}" for n in range(size)) for size in scores.shape)
    return SavedScores(scores, queries, videos, target=own, split="dev")


def test_the_document_is_short_and_its_links_lead_somewhere() -> None:
    assert len(DOCUMENT.splitlines()) < 120
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENT):
        assert (Path(__file__).parents[2] / "docs" / target).exists(), target
