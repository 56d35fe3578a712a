"""A report shows what `prvr.evaluate` counts; what is missing or broken is said in one line."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from prvr.errors import DataError, SettingError
from prvr.evaluate.compare import compare, rank_queries
from prvr.evaluate.groups import by_ratio
from prvr.evaluate.metrics import places, retrieval
from prvr.evaluate.saved_scores import QueryFacts, SavedScores, save_scores
from prvr.evaluate.sweep import WEIGHTS, sweep_branches
from prvr.report.build import build, order_systems, read_systems
from prvr.report.page import Section, format_mean, render, write_page
from prvr.report.papers import papers_section, read_tables
from prvr.report.queries import compare_queries, count_wins, find_extremes
from prvr.report.systems import ReportedSystem, find_systems, read_history, summarise_scores

QUERIES, VIDEOS = 40, 12
EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;"


class Chart:
    """A chart as the places of its curves, a list of points for each stretch of a curve."""

    def __init__(self, svg: str) -> None:
        self.root = ElementTree.fromstring(svg)
        drawn = [path.get("d", "") for path in self.root.iter("path") if "stroke: var(--c" in path.get("style", "")]
        stretches = [stretch for path in drawn if "transform" not in path for stretch in path.split("M")[1:]]
        self.curves = [points for stretch in stretches if "C" not in stretch and (points := _points(stretch))]


def _points(stretch: str) -> list[tuple[float, float]]:
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", stretch)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


class Page(HTMLParser):
    """A page as its tables (rows of texts) by section, its texts, its tags and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.texts: list[str] = []
        self.charts: list[tuple[str, Chart]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.section, self._cell = "", False
        self.feed(html)
        charts = re.findall(r'<svg class="chart".*?</svg>', html, flags=re.S)
        labels = [attributes["aria-label"] or "" for tag, attributes in self.tags if attributes.get("class") == "chart"]
        self.charts = list(zip(labels, map(Chart, charts), strict=True))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        tables = self.tables.setdefault(self.section, [])
        if tag == "table":
            tables.append([])
        elif tag == "tr":
            tables[-1].append([])
        elif tag in ("td", "th"):
            tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._cell:
            self.tables[self.section][-1][-1][-1] += data

    def rows(self, section: str, table: int = 0) -> dict[tuple[str, str], list[str]]:
        """The rows of a table below its head, by their first two cells."""
        return {(row[0], row[1]): row for row in self.tables[section][table][1:]}


def a_run(seed: int, *, skill: float = 1.0, **changes: object) -> SavedScores:
    draw = np.random.default_rng(seed)
    target = np.arange(QUERIES) % VIDEOS
    scores = draw.normal(size=(QUERIES, VIDEOS))
    scores[np.arange(QUERIES), target] += skill
    facts = QueryFacts(
        texts=tuple(f"sentence {n}" for n in range(QUERIES)),
        ratios=np.where(np.arange(QUERIES) % 7 == 0, math.nan, np.arange(QUERIES) / QUERIES),
        overlaps=draw.random(QUERIES),
        lengths=np.full(QUERIES, 30.0),
    )
    ids = tuple(f"q{n}" for n in range(QUERIES)), tuple(f"v{n}" for n in range(VIDEOS))
    made = SavedScores(scores, *ids, target, facts=facts, system="ours", split="test", protocol="honest", seed=seed)
    return replace(made, **changes)


def history(epochs: int, *, best: int) -> str:
    lines = []
    for epoch in range(epochs):
        dev = {"sumr": 100.0 + (50 if epoch == best else epoch)}
        losses = {"triplet": 1 / (epoch + 1), "distillation": 0.0 if epoch == 2 else 0.1}
        lines.append(json.dumps({"epoch": epoch, "losses": losses, "loss": sum(losses.values()), "dev": dev}) + "\n")
    return "".join(lines)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, list[SavedScores]]:
    """A baseline in one file, and two seeds of a training run with their branches."""
    made = {"base": [a_run(0, skill=0.2)], "ours": [a_run(1), a_run(2)]}
    save_scores(made["base"][0], tmp_path / "base.npz")
    for place, run in enumerate(made["ours"]):
        folder = tmp_path / f"run{place}"
        save_scores(run, folder / "test.npz")
        save_scores(a_run(10 + place), folder / "test-first-branch.npz")
        save_scores(a_run(20 + place), folder / "test-second-branch.npz")
        (folder / "history.jsonl").write_text(history(5 + place, best=3))
    return made


def systems_of(*arguments: str) -> list[ReportedSystem]:
    files = [system for argument in arguments for system in find_systems(argument)]
    return read_systems(files, None, on_progress=lambda note, done, total: None)


def page_of(*arguments: str, resamples: int = 200) -> Page:
    return Page(write_page("Report", build(systems_of(*arguments), resamples=resamples)))


@pytest.fixture
def page(runs: dict[str, list[SavedScores]], tmp_path: Path) -> Page:
    return page_of(str(tmp_path / "base.npz"), f"ours={tmp_path / 'run0'},{tmp_path / 'run1'}")


# Its numbers


def test_figures_are_those_of_the_metrics(page: Page, runs: dict[str, list[SavedScores]]) -> None:
    table = {row[0]: row for row in page.tables["systems"][0][1:]}
    head = page.tables["systems"][0][0]
    assert list(table) == ["base", "ours"]
    each = [retrieval(run.scores, run.correct) for run in runs["ours"]]
    for label, name, digits in (
        ("R@1", "r1", 1),
        ("R@100", "r100", 1),
        ("SumR", "sumr", 1),
        ("MedR", "medr", 1),
        ("MRR", "mrr", 3),
    ):
        values = [getattr(one, name) for one in each]
        mean, half = sum(values) / 2, abs(values[0] - values[1]) / math.sqrt(2)
        assert table["ours"][head.index(label)] == f"{mean:.{digits}f} ± {half:.{digits}f}"
        (base,) = (retrieval(run.scores, run.correct) for run in runs["base"])
        assert table["base"][head.index(label)] == f"{getattr(base, name):.{digits}f}"
    right = [
        100 * np.mean((run.scores.argmax(1) == run.target) & (np.asarray(run.facts.overlaps) >= 0.5)) for run in runs["ours"]
    ]
    assert table["ours"][head.index("moment")] == format_mean(float(np.mean(right)), float(np.std(right, ddof=1)))
    assert [row[0] for row in page.tables["systems"][1][1:]] == ["base", "ours", "ours"]


def test_tests_are_those_of_compare(page: Page, runs: dict[str, list[SavedScores]]) -> None:
    expected = compare({name: [rank_queries(run, name=name) for run in its] for name, its in runs.items()}, resamples=200)
    rows = page.rows("systems", 2)
    assert len(rows) == 3
    for measure, (label, digits) in {"sumr": ("SumR", 1), "r1": ("R@1", 1), "mrr": ("MRR", 4)}.items():
        of = expected.effects["ours"][measure]
        interval = f"{of.low:+.{digits}f} to {of.high:+.{digits}f}"
        assert rows["ours", label][2:] == [f"{of.difference:+.{digits}f}", interval, f"{of.p:.2g}", f"{of.p_holm:.2g}"]


def test_ratios_are_those_of_groups(page: Page, runs: dict[str, list[SavedScores]]) -> None:
    (run,) = runs["base"]
    rows = page.rows("ratio")
    groups = by_ratio(places(run.scores, run.correct), np.asarray(run.facts.ratios), videos=VIDEOS)
    assert [group.name for group in groups][-1] == "unknown"
    for group in groups:
        assert group.retrieval is not None
        shown = rows[group.name, "base"]
        assert shown[2:] == [
            str(group.queries),
            *(f"{getattr(group.retrieval, n):.1f}" for n in ("r1", "r5", "r10", "r100", "sumr")),
        ]
    assert len(rows) == 2 * len(groups)


def test_the_sweep_fuses_the_branches(page: Page) -> None:
    first, second = a_run(10), a_run(20)
    values = sweep_branches(first, second)
    assert len(values) == len(WEIGHTS) == 11
    for weight, value in zip(WEIGHTS, values, strict=True):
        assert value == retrieval((1 - weight) * first.scores + weight * second.scores, first.correct).sumr
    both = np.array([values, sweep_branches(a_run(11), a_run(21))])
    (row,) = page.tables["beta"][0][1:]
    assert row[1:] == [f"{mean:.1f}\n± {half:.1f}" for mean, half in zip(both.mean(0), both.std(0, ddof=1), strict=True)]
    with pytest.raises(DataError, match="different queries or videos"):
        sweep_branches(first, replace(second, queries=("new", *second.queries[1:])))


def test_branches_that_do_not_fit_are_named(runs: dict[str, list[SavedScores]], tmp_path: Path) -> None:
    other = a_run(9, videos=tuple(f"other{n}" for n in range(VIDEOS)))
    save_scores(other, tmp_path / "run0" / "test-second-branch.npz")
    with pytest.raises(DataError, match="run0: the scores of the two branches are for different queries or videos"):
        systems_of(str(tmp_path / "run0"))


def test_curves_have_a_point_for_each_epoch(page: Page) -> None:
    # SumR of both seeds; losses, of which one is 0 at the third epoch and leaves a gap.
    sumr, losses = (chart for title, chart in page.charts if "over epochs, ours" in title)
    assert [len(line) for line in sumr.curves] == [5, 6]
    assert [len(line) for line in losses.curves] == [5, 6, 2, 2, 2, 3]
    assert "run0: best 150.0, epoch 4 of 5" in page.texts
    assert "run1: best 150.0, epoch 4 of 6" in page.texts


# Query by query


def by_rank(ranks: list[int], *, overlaps: list[float] | None = None, ratios: list[float] | None = None) -> SavedScores:
    """Query n, whose own video has that rank among five."""
    scores = np.array([[float(5 - k if k < rank else 4 - k) for k in range(1, 5)] for rank in ranks])
    scores = np.concatenate([np.array([[5.0 - rank] for rank in ranks]), scores], axis=1)
    facts = QueryFacts(
        ratios=None if ratios is None else np.array(ratios), overlaps=None if overlaps is None else np.array(overlaps)
    )
    ids = tuple(f"q{n}" for n in range(len(ranks))), tuple(f"v{n}" for n in range(5))
    return SavedScores(scores, *ids, np.zeros(len(ranks), np.int64), facts=facts)


def test_who_wins_where_worked_by_hand() -> None:
    first, second = [1, 2, 4, 5, 2], [2, 1, 4, 1, 4]
    ratios = [0.1, 0.2, 0.3, math.nan, 0.1]
    answers = [summarise_scores(by_rank(ranks, ratios=ratios), name="x") for ranks in (first, second)]
    assert [one.rank.tolist() for one in answers] == [first, second]
    of = compare_queries([answers[0].ranked], [answers[1].ranked])
    assert of.difference == pytest.approx([-1 / 2, 1 / 2, 0, 4 / 5, -1 / 4])
    assert (of.gains, of.losses) == ([3, 1], [0, 4])
    parts = [(part.group, part.queries, part.second, part.first) for part in count_wins(of, answers[0].ratios) if part.queries]
    assert parts == [("[0, 0.2]", 3, 1, 2), ("(0.2, 0.4]", 1, 0, 0), ("unknown", 1, 1, 0)]
    # Two seeds count by their mean: 1/1 and 1/2 beside 1/2.
    mixed = compare_queries([answers[1].ranked], [answers[0].ranked, answers[1].ranked])
    assert mixed.difference[0] == pytest.approx(1 / 4)


def test_best_and_worst_worked_by_hand() -> None:
    ranks, overlaps = [3, 1, 1, 5, 1, 5], [0.5, 0.1, 0.9, 0.4, math.nan, 0.0]
    answers = summarise_scores(by_rank(ranks, overlaps=overlaps), name="x")
    assert find_extremes([answers], 2) == ([2, 1], [5, 3])
    assert find_extremes([answers], 4) == ([2, 1, 4, 0], [5, 3])
    assert find_extremes([answers], 9) == ([2, 1, 4, 0, 3, 5], [])


def test_queries_are_shown_by_difference(page: Page, runs: dict[str, list[SavedScores]]) -> None:
    base, ours = ([summarise_scores(run, name=name) for run in runs[name]] for name in ("base", "ours"))
    rank = {name: np.array([one.rank for one in of]) for name, of in (("base", base), ("ours", ours))}
    difference = (1 / rank["ours"]).mean(0) - (1 / rank["base"]).mean(0)
    _, gains, more, losses, *_ = page.tables["pair"]
    shown = [float(row[4]) for row in gains[1:]]
    assert shown == sorted(shown, reverse=True)
    assert shown == pytest.approx(np.sort(difference)[::-1][:10], abs=5e-4)
    first = base[0].texts.index(gains[1][0])
    assert gains[1][1:4] == [
        base[0].videos[first],
        f"{rank['base'][0, first]:g}",
        ", ".join(f"{r:g}" for r in rank["ours"][:, first]),
    ]
    told = " ".join(page.texts)
    wins, lost = int((difference > 0).sum()), int((difference < 0).sum())
    assert f"ours ranks {wins} of 40 queries better than base, {lost} worse, {40 - wins - lost} the same" in told
    assert len(more) - 1 == wins - 10
    assert float(losses[1][4]) == pytest.approx(difference.min(), abs=5e-4)


# What is asked of any page


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "img", "image", "use", "video"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
    html = "".join(page.texts)
    for outside in ("url(", "@import", "http:", "https:"):
        assert outside not in html
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{attributes['id']}" for tag, attributes in page.tags if tag == "section"]


def test_names_and_captions_are_shown_and_not_run(tmp_path: Path) -> None:
    evil = a_run(
        0,
        queries=tuple(f"{EVIL}{n}" for n in range(QUERIES)),
        videos=tuple(f"{EVIL}{n}" for n in range(VIDEOS)),
        facts=QueryFacts(texts=tuple(f"{EVIL}{n}" for n in range(QUERIES)), ratios=np.full(QUERIES, 0.5)),
        system=EVIL,
        protocol=EVIL,
    )
    for name, run in (("a", evil), ("b", replace(evil, scores=evil.scores[:, ::-1].copy()))):
        save_scores(run, tmp_path / "results" / "runs" / f"{name}-01234567" / "seed0" / "test.npz")
        told = history(3, best=1).replace("triplet", EVIL.replace('"', '\\"'))
        (tmp_path / "results" / "runs" / f"{name}-01234567" / "seed0" / "history.jsonl").write_text(told)
    save_scores(replace(evil, protocol="honest"), tmp_path / "plain.npz")
    page = page_of(f"{EVIL}={tmp_path / 'results'}", str(tmp_path / "plain.npz"))
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert f"{EVIL}: a" in [row[0] for row in page.tables["systems"][0]]
    assert any(EVIL in text for row in page.tables["pair"][1] for text in row)
    assert any(EVIL in (attributes.get("aria-label") or "") for _, attributes in page.tags)


def test_long_texts_do_not_fill_the_page(tmp_path: Path) -> None:
    texts = tuple("word " * 20_000 for _ in range(QUERIES))
    save_scores(a_run(0, facts=QueryFacts(texts=texts)), tmp_path / "a.npz")
    save_scores(a_run(1, facts=QueryFacts(texts=texts)), tmp_path / "b.npz")
    sections = build(systems_of(str(tmp_path / "a.npz"), str(tmp_path / "b.npz")), resamples=50)
    assert len(write_page("Report", sections)) < 100_000


# What is missing


def test_what_is_missing_is_said_with_what_to_do(runs: dict[str, list[SavedScores]], tmp_path: Path) -> None:
    save_scores(a_run(3, facts=QueryFacts()), tmp_path / "bare.npz")
    sections = {section.id: section for section in build(systems_of(str(tmp_path / "bare.npz")), resamples=50)}
    assert set(sections) == {"systems", "curves", "beta", "ratio", "queries"}
    for id, part in {
        "systems": "prvr report RUN OTHER",
        "curves": "history.jsonl",
        "beta": "--data DATA --features FEATURES",
        "ratio": "--save RUN/test.npz --annotations DIR",
        "queries": "name its training run's folder",
    }.items():
        (line,) = sections[id].missing
        assert part in line
        assert f"“{'bare'}”" in line or id in ("systems", "ratio")
    # Without answers there is only what training left; without a text the id stands for it.
    (tmp_path / "run0" / "test.npz").unlink()
    sections = {section.id: section for section in build(systems_of(str(tmp_path / "run0")), resamples=50)}
    assert "queries" not in sections
    assert "prvr evaluate DATA FEATURES --model RUN" in sections["systems"].missing[0]
    assert sections["curves"].missing == ()


def test_protocols_that_differ_are_named(tmp_path: Path) -> None:
    save_scores(a_run(0), tmp_path / "a.npz")
    save_scores(a_run(1, protocol="community"), tmp_path / "b.npz")
    first = build(systems_of(str(tmp_path / "a.npz"), str(tmp_path / "b.npz")), resamples=50)[0]
    assert first.missing == ("Protocols differ, so these figures are not comparable: a honest, b community.",)


def test_a_system_that_did_not_learn_is_marked_and_compared_with_nothing(tmp_path: Path) -> None:
    for name, run in {"a": a_run(0, untrained=("exploration",)), "b": a_run(1), "c": a_run(2)}.items():
        save_scores(run, tmp_path / f"{name}.npz")
    sections = build(systems_of(*(str(tmp_path / f"{name}.npz") for name in "abc")), resamples=50)
    assert any("Not compared, because a branch had learned nothing" in line for line in sections[0].missing)
    assert "a (did not learn: exploration)" in sections[0].body
    assert "Against b" in sections[0].body
    alone = build(systems_of(*(str(tmp_path / f"{name}.npz") for name in "ab")), resamples=50)
    assert "Against" not in alone[0].body
    assert len(alone) == len(sections) - 1


def test_runs_that_know_other_moments(tmp_path: Path) -> None:
    """One without unknown ratios beside one with: the group that only one has stays empty for the other."""
    whole = a_run(0)
    save_scores(replace(whole, facts=replace(whole.facts, ratios=np.full(QUERIES, 0.5))), tmp_path / "a.npz")
    save_scores(a_run(1), tmp_path / "b.npz")
    rows = page_of(str(tmp_path / "a.npz"), str(tmp_path / "b.npz")).rows("ratio")
    assert rows["unknown", "a"][3:] == ["–"] * 5
    assert rows["unknown", "b"][3] != "–"


# Which systems


def test_systems_of_a_folder_of_results(tmp_path: Path) -> None:
    for name, system, seeds in (("dl-dkd-a", "hybrid", (2, 10)), ("dl-dkd-b", "hybrid", (0,)), ("zero-shot", "teacher", (0,))):
        for seed in seeds:
            save_scores(a_run(seed, system=system), tmp_path / "runs" / f"{name}-0123abcd" / f"seed{seed}" / "test.npz")
    (tmp_path / "runs" / "nothing-0123abcd" / "seed0").mkdir(parents=True)
    found = systems_of(str(tmp_path))
    # What the runs call themselves, unless two do alike; seed 2 before seed 10.
    assert [one.name for one in found] == ["dl-dkd-a", "dl-dkd-b", "teacher"]
    assert [seed.files.label for seed in found[0].seeds] == ["seed2", "seed10"]
    assert [one.name for one in systems_of(f"first={tmp_path}")] == ["first: dl-dkd-a", "first: dl-dkd-b", "first: teacher"]
    assert [one.name for one in order_systems(found, baseline="teacher")] == ["teacher", "dl-dkd-a", "dl-dkd-b"]
    assert [one.name for one in order_systems(found, rival="teacher")] == ["dl-dkd-a", "teacher", "dl-dkd-b"]
    with pytest.raises(SettingError, match="no system is called 'techer'; did you mean 'teacher'"):
        order_systems(found, baseline="techer")
    (tmp_path / "silent").mkdir()
    (tmp_path / "silent" / "history.jsonl").write_text(history(2, best=1))
    with pytest.raises(SettingError, match="'silent' has no scores to compare"):
        order_systems([*found, *systems_of(str(tmp_path / "silent"))], rival="silent")
    with pytest.raises(SettingError, match="compared with itself"):
        order_systems(found, baseline="teacher", rival="teacher")
    assert [one.name for one in order_systems(found[:1], rival="dl-dkd-a")] == ["dl-dkd-a"]


def test_a_path_may_have_an_equals_sign(tmp_path: Path) -> None:
    path = tmp_path / "decay=fixed.npz"
    save_scores(a_run(0), path)
    assert [system.name for system in find_systems(str(path))] == ["decay=fixed"]
    assert [system.name for system in find_systems(f"ours={path}")] == ["ours"]
    other = tmp_path / "decay=linear.npz"
    save_scores(a_run(1), other)
    (system,) = find_systems(f"o=urs={path},{other}")
    assert (system.name, [seed.scores for seed in system.seeds]) == ("o=urs", [path, other])


def test_a_file_is_one_seed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save_scores(a_run(0), path)
    with pytest.raises(SettingError, match=r"a\.npz is named twice in 'ours=.*'; each seed has a file of its own"):
        find_systems(f"ours={path},{tmp_path / '.' / 'a.npz'}")


def test_what_names_no_system(runs: dict[str, list[SavedScores]], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="'ours=' names no run"):
        find_systems("ours=")
    with pytest.raises(DataError, match=r"none\.npz is neither a SCORES\.npz"):
        find_systems(str(tmp_path / "none.npz"))
    with pytest.raises(SettingError, match="only these can be seeds of 'ours'"):
        find_systems(f"ours={tmp_path / 'base.npz'},{tmp_path}")
    with pytest.raises(SettingError, match="two systems are called 'base'; name them: NAME=RUN"):
        systems_of(str(tmp_path / "base.npz"), str(tmp_path / "base.npz"))


# Broken files


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"epoch": 0, "losses": {}, "loss": 1}',
        b'{"epoch": "first", "losses": {}, "loss": 1, "dev": {"sumr": 1}}',
        b'{"epoch": 0, "losses": {"a": NaN}, "loss": 1, "dev": {"sumr": 1}}',
        b'{"epoch": 0, "losses": [], "loss": 1, "dev": {"sumr": 1}}',
        b'{"epoch": 1%s, "losses": {}, "loss": 1, "dev": {"sumr": 1}}' % (b"0" * 400),
        b"[" * 100_000,
    ],
)
def test_a_broken_history(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(history(2, best=0).encode() + line + b"\n")
    with pytest.raises(
        DataError, match=r"history\.jsonl:3 does not describe an epoch of a training run .*copy the file again"
    ) as problem:
        read_history(path)
    assert len(str(problem.value)) < 1000


def test_broken_answers_are_named(runs: dict[str, list[SavedScores]], tmp_path: Path) -> None:
    path = tmp_path / "run0" / "test.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"run0/test\.npz"):
        systems_of(str(tmp_path / "run0"))
    other = a_run(0, queries=tuple(f"other{n}" for n in range(QUERIES)))
    save_scores(other, tmp_path / "other.npz")
    with pytest.raises(DataError, match=r"other\.npz has query 'other0', which .*base\.npz lacks"):
        build(systems_of(str(tmp_path / "base.npz"), str(tmp_path / "other.npz")), resamples=50)


TABLE = {
    **{name: name for name in ("title", "source", "claim", "protocol", "collection", "command", "machine")},
    "table": "main",
    "compared_with_first": {"two": {"sumr": {"difference": 3.0, "low": 1.0, "high": 5.0, "p": 0.01, "p_holm": 0.02}}},
    "rows": [
        {
            "name": "one",
            "mean": dict.fromkeys(("R@1", "R@5", "R@10", "R@100", "SumR"), 25.0),
            "std": None,
            "published": {"SumR": 99.5},
        },
        {
            "name": "two",
            "mean": dict.fromkeys(("R@1", "R@5", "R@10", "R@100", "SumR"), 26.0),
            "std": dict.fromkeys(("R@1", "R@5", "R@10", "R@100", "SumR"), 0.5),
        },
        {"name": "three", "left_out": "it needs words"},
    ],
}


def test_the_papers_tables(tmp_path: Path) -> None:
    (tmp_path / "main.json").write_text(json.dumps(TABLE))
    (tmp_path / "complexity.json").write_text('{"rows": []}')
    page = Page(write_page("Report", [papers_section(read_tables(tmp_path))]))
    rows = {row[0]: row[1:] for row in page.tables["papers"][0]}
    assert rows["one"] == ["25.0"] * 5 + ["", "", "99.5"]
    assert rows["two"] == ["26.0 ± 0.5"] * 5 + ["+3.0 (+1.0 to +5.0)", "0.0200", ""]
    assert rows["three"] == ["–"] * 7 + [""]
    assert "three was left out: it needs words." in page.texts


@pytest.mark.parametrize(
    "text",
    ["{", '{"table": "main"}', json.dumps({**TABLE, "rows": [{"name": "one", "mean": 1}]}), "[" * 100_000],
)
def test_a_broken_table(text: str, tmp_path: Path) -> None:
    (tmp_path / "main.json").write_text(text)
    with pytest.raises(DataError, match=r"main\.json is not .*write it again: prvr reproduce main"):
        read_tables(tmp_path)


# Templates


def test_a_section_shows_what_is_missing() -> None:
    page = Page(write_page("<Title>", [Section("a", "A & B", Markup("<p>body</p>"), ("no <thing>",))], command="prvr <x>"))
    for text in ("<Title>", "A & B", "body", "no <thing>", "prvr <x>"):
        assert text in page.texts


def test_a_body_that_no_template_made_is_escaped() -> None:
    page = Page(write_page("", [Section("a", "A", EVIL)]))  # type: ignore[arg-type]
    assert EVIL in "".join(page.texts)
    assert not {tag for tag, _ in page.tags} & {"script", "img"}


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'rows' is undefined"):
        render("sweep.html", head=[])
