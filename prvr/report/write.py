"""Writes a report: what `prvr report` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prvr.evaluate.compare import RESAMPLES
from prvr.files import write_whole
from prvr.report.build import Progress, Scorer, build, order_systems, read_systems
from prvr.report.page import write_page
from prvr.report.papers import papers_section, read_tables
from prvr.report.systems import find_systems


@dataclass(frozen=True)
class WrittenReport:
    """A report on disk. missing: a line for each part that lacks something, with the next step."""

    path: Path
    bytes: int
    systems: tuple[str, ...]
    missing: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, as `--json` prints them."""
        return {"report": str(self.path), "bytes": self.bytes, "systems": [*self.systems], "missing": [*self.missing]}


def write_report(
    systems: Sequence[str],
    out: str | Path,
    *,
    scorer: Scorer | None = None,
    baseline: str = "",
    rival: str = "",
    resamples: int = RESAMPLES,
    command: str = "",
    on_progress: Progress | None = None,
) -> WrittenReport:
    """Writes a page about systems.

    Args:
        systems: for each a file of scores, the folder of a run or a folder of `prvr reproduce`; NAME=RUN,RUN for seeds.
        scorer: scores the students of runs whose scores were not saved, such as a `DatasetScorer`.
        baseline, rival: names of systems; by default the first and the next.
        command: is shown at the top of the page.

    Raises:
        DataError, ModelError: a file is broken, or does not fit the data.
        SettingError: a name is unknown, or two systems have the same name.
    """
    files = [system for argument in systems for system in find_systems(argument)]
    reported = order_systems(
        read_systems(files, scorer, on_progress=on_progress or _show_nothing), baseline=baseline, rival=rival
    )
    sections = build(reported, scorer, resamples=resamples)
    tables = [table for argument in systems if Path(argument).is_dir() for table in read_tables(Path(argument))]
    sections += [papers_section(tables)] if tables else []
    # A file name that is not UTF-8 has lone surrogates.
    page = write_page("Report on runs", sections, command=command).encode(errors="backslashreplace")
    write_whole(Path(out), page)
    missing = tuple(line for section in sections for line in section.missing)
    return WrittenReport(Path(out), len(page), tuple(one.name for one in reported), missing)


def _show_nothing(note: str, done: int, total: int) -> None:
    """Shows no progress."""
