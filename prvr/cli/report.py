"""`prvr report`: runs as a page for researchers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prvr.cli.evaluate import asked
from prvr.cli.terminal import Device, Json, app, progress, show, typed
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.datasets import Dataset
    from prvr.evaluate.runs import Run
    from prvr.methods.checkpoint import Checkpoint
    from prvr.report.queries import Profile


@app.command(epilog="Example: prvr report teacher.npz run --data videos --features features --out report.html")
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="RUN.npz, a training run's folder, or one of `prvr reproduce`; NAME=RUN,RUN for seeds.", metavar="RUN..."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    data: Annotated[Path | None, typer.Option(help="What the runs are tested on: to score what lacks, and for profiles.")] = None,
    features: Annotated[Path | None, typer.Option(help="Features of that data.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Of a package: folder of the original annotation files.")] = None,
    baseline: Annotated[str, typer.Option(help="The system that others are held against; by default the first.")] = "",
    rival: Annotated[str, typer.Option(help="The one beside it query by query; by default the next.")] = "",
    resamples: Annotated[int, typer.Option(help="Of the bootstrap and of the randomisation test.", min=1)] = 10_000,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Write a page about runs: curves, figures with tests, β, moment-to-video ratio, queries, two systems side by side."""
    from prvr.files import write_whole
    from prvr.report.build import build, order_systems, read_systems
    from prvr.report.page import write_page
    from prvr.report.papers import papers_section, read_tables
    from prvr.report.systems import find_systems

    if (data is None) != (features is None):
        raise SettingError("--data and --features go together: prvr report RUN --data DATA --features FEATURES")
    scorer = _Asked(data, features, annotations, device) if data is not None and features is not None else None
    with progress() as on_progress:
        files = [system for run in runs for system in find_systems(run)]
        systems = order_systems(read_systems(files, scorer, on_progress=on_progress), baseline=baseline, rival=rival)
        sections = build(systems, scorer, resamples=resamples)
    tables = [table for run in runs if Path(run).is_dir() for table in read_tables(Path(run))]
    sections += [papers_section(tables)] if tables else []
    # A file name that is not UTF-8 holds half surrogate pairs.
    page = write_page("Report on runs", sections, command=typed()).encode(errors="backslashreplace")
    write_whole(out, page)
    names, missing = [one.name for one in systems], [line for section in sections for line in section.missing]
    value = {"report": str(out), "bytes": len(page), "systems": names, "missing": missing}
    count = "1 system" if len(names) == 1 else f"{len(names)} systems"
    show(as_json, value, [*missing, f"{out}: {count}, {len(page) / 1000:.0f} kB"])


@dataclass(frozen=True)
class _Asked:
    """The data that the student of a training run is asked about."""

    data: Path
    features: Path
    annotations: Path | None
    device: str

    def run(self, folder: Path) -> Run:
        """The answers of the student."""
        return self._run(self._checkpoint(folder), folder)

    def branches(self, folder: Path) -> tuple[Run, Run] | None:
        """The answers of each of its two branches alone; None if it has not two."""
        from prvr.methods.dl_dkd import DlDkdConfig
        from prvr.papers.row_run import reweight_branches

        checkpoint = self._checkpoint(folder)
        if not isinstance(checkpoint.settings, DlDkdConfig) or len(checkpoint.settings.branches) < 2:
            return None
        first, second = (self._run(reweight_branches(checkpoint, weight), folder) for weight in (0.0, 1.0))
        return first, second

    def profiles(self, folder: Path, queries: Sequence[str]) -> dict[str, Profile]:
        """Of each query in its own video."""
        from prvr.methods.checkpoint import features_for
        from prvr.report.queries import read_profiles

        checkpoint = self._checkpoint(folder)
        return read_profiles(checkpoint, self._dataset(checkpoint), features_for(self.features, checkpoint), queries)

    def teacher_profiles(self, name: str, queries: Sequence[str], *, split: str) -> dict[str, Profile]:
        """Of each query in its own video, by the frames of the teacher alone."""
        from prvr.datasets.splits import open_split
        from prvr.features.shelf import teacher_features
        from prvr.methods import checkpoint as checkpoints
        from prvr.methods.zero_shot import ZeroShotConfig
        from prvr.report.queries import read_profiles

        features, reads = teacher_features(self.features, name)
        teacher = checkpoints.to_device(checkpoints.build("zero_shot", ZeroShotConfig(), reads), self.device)
        dataset = open_split(self.data, split or "test", annotations=self.annotations)
        return read_profiles(teacher, dataset, features, queries)

    def _run(self, checkpoint: Checkpoint, folder: Path) -> Run:
        from prvr.methods.checkpoint import features_for

        dataset, features = self._dataset(checkpoint), features_for(self.features, checkpoint)
        return asked(checkpoint, dataset, features, system=folder.resolve().name, device=self.device)

    def _checkpoint(self, folder: Path) -> Checkpoint:
        from prvr.methods import checkpoint as checkpoints

        return checkpoints.to_device(checkpoints.load(folder), self.device)

    def _dataset(self, checkpoint: Checkpoint) -> Dataset:
        """The split that is reported; a folder's depends on the seed of its division."""
        from prvr.datasets.splits import open_split

        seed = checkpoint.about.get("split_seed") or 0
        return open_split(self.data, "test", seed=seed, annotations=self.annotations)
