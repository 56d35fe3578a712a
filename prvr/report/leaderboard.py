"""The published figures on a collection beside one's own runs, in groups of what can be compared.

A run stands in a group by the features that it reads, and the teachers in its training. It is set apart, with the reason, if it
is not of this collection's published test split, if its figures are of a split that took part in training, or if a branch of its
model has not learned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prvr.datasets.reading import as_dict, as_number, as_text, read_text
from prvr.datasets.sizes import SIZES, Size
from prvr.errors import DataError, SettingError, nearest
from prvr.evaluate.compare import mark_untrained
from prvr.evaluate.figures import count_figures
from prvr.evaluate.metrics import LABELS, format_mean, over_seeds
from prvr.evaluate.saved_scores import UNSAID, load_scores, read_origin
from prvr.report.systems import SeedFiles, SystemFiles, find_systems
from prvr.train.presets.listing import COLLECTIONS
from prvr.train.presets.published import GROUPS, OWN_DATA, published_rows

COLUMNS = ("R@1", "R@5", "R@10", "R@100", "SumR", "MedR")
# Names of features by the published rows' groups. Features of the packages carry their names; others' groups are their names.
PACKAGED = re.compile(r"(i3d\w*|\w*resnet\w*) \((1024|3072)\)")
ENCODERS = {
    "clip-l14": re.compile(r"clip[\W_]*(vit[\W_]*)?l(arge)?[\W_]*(patch)?14 .*", re.IGNORECASE),
    "clip-b32": re.compile(r"clip[\W_]*(vit[\W_]*)?b(ase)?[\W_]*(patch)?32 .*", re.IGNORECASE),
}
PROTOCOLS = ("honest", "validation", "community", UNSAID)


@dataclass(frozen=True)
class BoardRow:
    """A line of a board. own: it is a run of the user.

    figures: means over seeds, in per cent (MedR: a rank). deviation: over seeds; empty for one seed or published figures.
    source: where published figures stand; the features of a run. remark: what a reader must know to compare it.
    """

    name: str
    own: bool
    year: int | None
    figures: Mapping[str, float]
    deviation: Mapping[str, float]
    seeds: int | None
    protocol: str
    source: str
    remark: str

    def __str__(self) -> str:
        """The line in Markdown."""
        cells = [self._cell(column) for column in COLUMNS]
        name = f"**{self.name}**" if self.own else self.name
        seeds = f", {self.seeds} seeds" if self.seeds and self.seeds > 1 else ""
        year = "yours" if self.own else str(self.year)
        texts = [name, year, *cells, self.protocol + seeds, "; ".join(filter(None, (self.source, self.remark)))]
        return "".join(["| ", " | ".join(_in_a_line(text).replace("|", r"\|") for text in texts), " |"])

    def _cell(self, column: str) -> str:
        if column not in self.figures:
            return "-"
        value = self.figures[column]
        return f"{value:g}" if column == "MedR" else format_mean(value, self.deviation.get(column))


@dataclass(frozen=True)
class Leaderboard:
    """The rows of a collection by group, best first, and the reason for each run that is in none."""

    collection: str
    title: str
    groups: Mapping[str, Sequence[BoardRow]]
    set_apart: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The board as plain values, as `--json` prints it."""
        return asdict(self)

    def __str__(self) -> str:
        """The board as Markdown."""
        lines = [f"# {self.title}", "", "Compare within a table only."]
        for title, rows in self.groups.items():
            head = ["system", "year", *COLUMNS, "protocol", "source or features, remarks"]
            lines += ["", f"## {_in_a_line(title)}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *map(str, rows)]
        if self.set_apart:
            lines += ["", "## Set apart", "", *(f"- {_in_a_line(f'{name}: {why}')}" for name, why in self.set_apart.items())]
        own = {row.protocol for rows in self.groups.values() for row in rows if row.own} - {"community"}
        if own:
            lines += ["", f"Published figures are the best epoch on the split that they are of; yours: {', '.join(sorted(own))}."]
        return "\n".join(lines)


def list_boards() -> dict[str, int]:
    """The collections with published figures, and how many each has."""
    names = [name for name in COLLECTIONS if name not in OWN_DATA]
    return {name: len(published_rows(name)) for name in names}


def make_leaderboard(collection: str, runs: Iterable[str] = ()) -> Leaderboard:
    """The board of a collection.

    Args:
        runs: as the systems of `prvr report`, or the JSON of `prvr evaluate`: RUN, NAME=RUN, or NAME=RUN,RUN for seeds.

    Raises:
        SettingError: no figures are published on that collection, or two runs have one name.
        DataError: a run cannot be read.
    """
    known = list_boards()
    if collection not in known:
        raise SettingError(f"no figures are published on {collection!r}; {nearest(collection, known)}")
    groups: dict[str, list[BoardRow]] = {}
    for row in published_rows(collection):
        title = "; ".join(filter(None, (GROUPS[row.group], row.gallery)))
        line = BoardRow(row.preset or row.name, False, row.year, row.figures, {}, None, row.protocol, row.source, row.remark)
        groups.setdefault(title, []).append(line)
    apart: dict[str, str] = {}
    names = set[str]()
    for system in (found for argument in runs for found in find_systems(argument)):
        name = f"{system.prefix}: {system.name}" if system.prefix else system.name
        if name in names:
            raise SettingError(f"two runs are called {name!r}; name one: NAME={system.seeds[0].folder or system.seeds[0].scores}")
        names.add(name)
        placed = _place(system, name, collection)
        if isinstance(placed, str):
            apart[name] = placed
        else:
            groups.setdefault(placed[0], []).append(placed[1])
    ordered = {title: _rank(rows) for title, rows in groups.items()}
    return Leaderboard(collection, COLLECTIONS[collection][0], ordered, apart)


@dataclass(frozen=True)
class _Result:
    """The figures of one seed, and what they are of."""

    system: str
    figures: Mapping[str, float]
    queries: int
    videos: int
    split: str
    protocol: str
    origin: Mapping[str, str]
    untrained: tuple[str, ...]


def _in_a_line(text: str) -> str:
    """A text, part of which a file chose, without breaks of lines: it must not look like further rows."""
    return " ".join(text.split())


def _rank(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """Rows by SumR, or by R@1 where few of them have SumR."""
    column = "SumR" if 2 * sum("SumR" in row.figures for row in rows) > len(rows) else "R@1"
    return sorted(rows, key=lambda row: row.figures.get(column, 0.0), reverse=True)


def _place(system: SystemFiles, name: str, collection: str) -> tuple[str, BoardRow] | str:
    """The group of a run and its line, or the reason why it is set apart."""
    results = []
    for seed in system.seeds:
        if seed.scores is None:
            return (
                f"{seed.label} has no scores of the test split; "
                f"prvr evaluate DATA FEATURES --model {seed.folder} --save {seed.folder}/test.npz"
            )
        results.append(_read(seed))
    reasons = dict.fromkeys(filter(None, (_unfit(one, collection) for one in results)))
    if reasons:
        return next(iter(reasons))
    first = results[0]
    differ = [
        what for what in ("videos", "queries", "protocol", "origin") if len({repr(getattr(one, what)) for one in results}) > 1
    ]
    if differ:
        return f"its seeds differ in {' and '.join(differ)}; they are no seeds of one system"
    size = _size(first, collection)
    assert size is not None
    title, remark = _group(first, collection)
    mean, deviation = over_seeds([{key: one.figures[key] for key in COLUMNS} for one in results])
    reads = ", ".join(f"{key} {first.origin[key]}" for key in ("method", "frames", "words", "teachers") if first.origin.get(key))
    # A folder's name says less than the name that its scores hold.
    shown = first.system if system.reproduced and first.system else name
    line = BoardRow(shown, True, None, mean, deviation or {}, len(results), first.protocol, reads, remark)
    return f"{title}; {size}", line


def _unfit(result: _Result, collection: str) -> str:
    """Why figures cannot stand on a board; "" if they can."""
    of = result.origin.get("collection", collection)
    if of != collection:
        return f"it is of {of!r}, not of {collection!r}"
    if result.protocol not in PROTOCOLS:
        return f"its figures are {result.protocol}"
    if result.split not in ("test", "val", ""):
        return f"its figures are of the split {result.split!r}; score the test split: prvr evaluate --split test"
    if result.untrained:
        return mark_untrained("its model", result.untrained)
    if _size(result, collection) is None:
        sizes = ", or ".join(map(str, SIZES[collection]["test"])) if collection in SIZES else "another collection's"
        return f"{result.queries:,} queries of {result.videos:,} videos are a split of its own; published figures are of {sizes}"
    return ""


def _size(result: _Result, collection: str) -> Size | None:
    sizes = SIZES.get(collection, {}).get("test", ())
    return next((size for size in sizes if (size.videos, size.captions) == (result.videos, result.queries)), None)


def _group(result: _Result, collection: str) -> tuple[str, str]:
    """The title of the group of a run, and a remark."""
    frames, words, teachers = (result.origin.get(key, "") for key in ("frames", "words", "teachers"))
    remark = "" if "teachers" in result.origin else "whether a teacher took part in its training is not known"
    if result.origin.get("method") == "zero_shot":
        return GROUPS["untrained"], ""
    if not frames:
        return "features not known", "another program's scores, or saved by an older prvr"
    if collection == "msrvtt":
        return GROUPS["whole"], remark
    if PACKAGED.fullmatch(frames) and words.startswith("roberta "):
        return GROUPS["taught" if teachers else "classic"], remark
    for group, pattern in ENCODERS.items():
        if pattern.fullmatch(frames) and pattern.fullmatch(words):
            return GROUPS[group] + (", with a teacher in training" if teachers else ""), remark
    return f"features of one's own: {frames} and {words}{', with a teacher in training' if teachers else ''}", remark


def _read(seed: SeedFiles) -> _Result:
    assert seed.scores is not None
    if seed.scores.suffix == ".json":
        return _read_json(seed.scores)
    saved = load_scores(seed.scores)
    figures = count_figures(saved).as_dict()
    return _Result(
        saved.system,
        _by_label(figures),
        len(saved.queries),
        len(saved.videos),
        saved.split,
        saved.protocol,
        saved.origin,
        saved.untrained,
    )


def _read_json(path: Path) -> _Result:
    """The figures that `prvr evaluate --json` or `prvr score --json` printed."""
    try:
        value = as_dict(str(path), json.loads(read_text(path)))
        figures = {name: as_number(f"{path}: {name!r}", value.get(name)) for name in (*FIELDS, "queries", "videos")}
        texts = {name: as_text(f"{path}: {name!r}", value.get(name) or "-") for name in ("split", "protocol")}
        origin = read_origin(value.get("origin", {}))
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path} holds no figures ({problem}); write them with: prvr evaluate ... --json > {path}") from None
    split = "" if texts["split"] == "-" else texts["split"]
    queries, videos = int(figures["queries"]), int(figures["videos"])
    return _Result("", _by_label(figures), queries, videos, split, texts["protocol"], origin, ())


FIELDS = ("r1", "r5", "r10", "r100", "sumr", "medr")


def _by_label(figures: Mapping[str, Any]) -> dict[str, float]:
    return {LABELS[name]: float(figures[name]) for name in FIELDS}
