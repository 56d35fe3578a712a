"""`prvr evaluate`: of a model on a data set, or of a run that was kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prvr.cli.figures import report
from prvr.cli.terminal import Device, Json, Parts, app, show, warn
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.datasets import Dataset
    from prvr.evaluate.runs import Run
    from prvr.features import FeatureSet
    from prvr.methods.checkpoint import Checkpoint

# Below the name of its first argument, for a file that is not there.
RUN_SUFFIXES = (".npz", ".npy", ".trec", ".run")

Ties = Annotated[str, typer.Option(help="Where tied videos stand: pessimistic (wrong ones first), optimistic or mean.")]
Truth = Annotated[Path | None, typer.Option(help="Correct videos: qrels, a caption list, captions or annotations as JSON lines.")]
Queries = Annotated[Path | None, typer.Option(help="Of a score matrix: ids of its rows, one a line.")]
Gallery = Annotated[Path | None, typer.Option(help="Of a score matrix or TREC run: ids of all videos, one a line.")]


@app.command(epilog="Example: prvr evaluate videos features --model run --split test")
def evaluate(
    videos: Annotated[
        Path,
        typer.Argument(help="Data set, a folder or a package; or a run: .npz, score matrix, TREC.", metavar="DATA|RUN"),
    ],
    features: Annotated[Path | None, typer.Argument(help="Folder of its features, or a package; none for a run.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a run.")] = None,
    zero_shot: Annotated[str, typer.Option(help="Instead of a run: the teacher alone, by its name below FEATURES.")] = "",
    parts: Parts = "",
    split: Annotated[str | None, typer.Option(help="train, dev, test (if not said) or all.")] = None,
    split_seed: Annotated[int | None, typer.Option(help="Of the division into splits; by default the run's.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Of a package: folder of the original annotation files.")] = None,
    truth: Truth = None,
    also: Annotated[Path | None, typer.Option(help="Further correct videos: published labels, *.gt.jsonl or their zip.")] = None,
    queries: Queries = None,
    gallery: Gallery = None,
    ties: Ties = "pessimistic",
    groups: Annotated[bool, typer.Option("--groups", help="Also by moment-to-video ratio, length and kind.")] = False,
    video_to_text: Annotated[bool, typer.Option("--video-to-text", help="Also find captions by videos.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Fit probabilities on this run, of another split; by default the model's own are used.")
    ] = None,
    risks: Annotated[Path | None, typer.Option(help="Picture of how right the probabilities are: FILE.png.")] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the scores with all that is known: RUN.npz.")] = None,
    trec: Annotated[Path | None, typer.Option(help="Write the ranking in TREC's format, and FILE.qrels beside it.")] = None,
    depth: Annotated[int | None, typer.Option(help="With --trec: videos per query; 1000 if not said.", min=1)] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Retrieve a split's videos by its captions, and count: R@k, SumR, median rank, and moments where spans are given."""
    if depth is not None and trec is None:
        raise SettingError(f"--depth {depth} says how many videos --trec writes; name that file, too: --trec FILE")
    if videos.is_file() or videos.suffix in RUN_SUFFIXES:
        _refuse(videos, features=features, model=model, zero_shot=zero_shot, parts=parts, split=split)
        _refuse(videos, split_seed=split_seed, annotations=annotations)
        run, notes = _read(videos, truth=truth, also=also, queries=queries, gallery=gallery)
    else:
        _refuse(videos, queries=queries, gallery=gallery)
        if truth is not None and also is not None:
            raise SettingError(f"--truth {truth} replaces the correct videos that --also {also} adds to; leave one of them out")
        run, notes = _answered(
            videos,
            features,
            model,
            zero_shot,
            parts=parts,
            split=split or "test",
            split_seed=split_seed,
            annotations=annotations,
            also=also,
            device=device,
        )
        run = _with_truth(run, truth)
    if calibrate is not None:
        run = _calibrated(run, calibrate)
    _see_what_is_known(run, videos, groups=groups, risks=risks)
    value, lines = report(run, ties=ties, groups=groups, backwards=video_to_text)
    if "labelled" in notes:
        lines.insert(-1, f"{notes['labelled']} of {len(run.queries)} queries are labelled in {also}")
    _write(run, save=save, trec=trec, depth=depth, risks=risks)
    show(as_json, value | notes, lines)


def _answered(
    videos: Path,
    features: Path | None,
    model: Path | None,
    zero_shot: str,
    *,
    parts: str,
    split: str,
    split_seed: int | None,
    annotations: Path | None,
    also: Path | None,
    device: str,
) -> tuple[Run, dict[str, Any]]:
    """What the model that was named answers, and how many captions are labelled."""
    from prvr.datasets.positives import labelled
    from prvr.datasets.splits import open_split

    if features is None:
        raise SettingError(f"{videos} is no run; for a folder of videos name its features, too: prvr evaluate {videos} FEATURES")
    checkpoint, given = _model_and_features(features, model, zero_shot, parts=parts)
    dataset: Dataset = open_split(videos, split, seed=_split_seed(checkpoint, split_seed), annotations=annotations)
    notes = {}
    if also is not None:
        dataset, notes["labelled"] = labelled(dataset, also)
    system = zero_shot or (model.resolve().name if model is not None else "")
    return asked(checkpoint, dataset, given, system=system, device=device), notes


def asked(checkpoint: Checkpoint, dataset: Dataset, features: FeatureSet, *, system: str, device: str) -> Run:
    """What a model answers to a data set's captions."""
    from prvr.evaluate.evaluation import evaluate_model, protocol_of, run_of
    from prvr.methods.checkpoint import to_device

    result = evaluate_model(to_device(checkpoint, device).model, dataset, features)
    protocol, seed = protocol_of(checkpoint, dataset.split), checkpoint.about.get("training", {}).get("seed")
    return run_of(result, dataset, system=system, protocol=protocol, seed=seed, calibration=checkpoint.calibration)


def warn_of_joined(path: Path, joined: Sequence[str]) -> None:
    """A line on stderr where a TREC run names videos that nobody asks for, and nobody said the gallery."""
    if joined:
        told = f"{len(joined)} of its videos are correct for no query of the truth, {joined[0]!r} first, and join the gallery"
        warn({str(path): f"{told}; say which videos there are: --gallery FILE"})


def _read(
    path: Path, *, truth: Path | None, also: Path | None, queries: Path | None, gallery: Path | None
) -> tuple[Run, dict[str, Any]]:
    """A run from a file, and what one should know of it."""
    from prvr.evaluate.runs.forms import NEEDLESS, form_of, read_run
    from prvr.evaluate.runs.truth import with_labels

    ids = {name: file for name, file in (("queries", queries), ("gallery", gallery)) if file is not None}
    if ids:
        needless = NEEDLESS[form_of(path)]
        _refuse(path, **{name: file for name, file in ids.items() if name in needless})
    run, joined = read_run(path, truth=truth, **ids)
    warn_of_joined(path, joined)
    notes: dict[str, Any] = {"joined_gallery": {"videos": len(joined), "first": joined[0]}} if joined else {}
    if also is not None:
        run, notes["labelled"] = with_labels(run, also)
    return run, notes


def _with_truth(run: Run, truth: Path | None) -> Run:
    from prvr.evaluate.runs.truth import read_truth, with_truth

    return run if truth is None else with_truth(run, read_truth(truth))


def _calibrated(run: Run, path: Path) -> Run:
    """The run with probabilities that are fitted on another one."""
    from prvr.evaluate.runs import load_run
    from prvr.methods.calibration import fitted

    held_out = load_run(path)
    same = sorted(set(held_out.queries) & set(run.queries))
    if same:
        raise SettingError(
            f"{path} answers the same queries ({same[0]!r} first); probabilities are fitted on those of another split, dev"
        )
    return replace(run, calibration=fitted(held_out.scores, held_out.correct, split=held_out.split, name=path.name))


def _see_what_is_known(run: Run, videos: Path, *, groups: bool, risks: Path | None) -> None:
    """What is wanted of a run that does not know it is an error, not silence."""
    if risks is not None and run.calibration is None:
        raise SettingError("this run has no probabilities to draw; fit them on a run of another split: --calibrate DEV.npz")
    if groups and run.facts.ratios is None and run.facts.lengths is None and run.facts.kinds is None:
        raise SettingError(
            f"nothing is known of the queries of {videos} to group them by; give a --truth of JSON lines with start, end and "
            "duration, or with kind"
        )


def _write(run: Run, *, save: Path | None, trec: Path | None, depth: int | None, risks: Path | None) -> None:
    from prvr.evaluate.reliability import judge
    from prvr.evaluate.runs import save_run
    from prvr.evaluate.runs.foreign import DEPTH, write_qrels, write_trec
    from prvr.report.probabilities import draw_risks

    if risks is not None and run.calibration is not None:
        draw_risks(judge(run.calibration, run.scores, run.correct), risks)

    if trec is not None:
        write_trec(run, trec, depth=depth or DEPTH)
        write_qrels(run, trec.with_name(trec.name + ".qrels"))
    if save is not None:
        save_run(run, save)


def _refuse(first: Path, **options: object) -> None:
    """Options that say nothing where they stand are errors, not silence."""
    kind = "a folder of videos" if first.is_dir() else "a run"
    for name, value in options.items():
        if value not in (None, ""):
            raise SettingError(f"{name.replace('_', '-')} {value} is not for {kind} such as {first}; leave it out")


def _model_and_features(features: Path, model: Path | None, zero_shot: str, *, parts: str) -> tuple[Checkpoint, FeatureSet]:
    from prvr.config import from_dict
    from prvr.features.shelf import teacher_features
    from prvr.methods import checkpoint as checkpoints
    from prvr.methods.checkpoint import features_for
    from prvr.methods.zero_shot import ZeroShotConfig

    if (model is None) == (not zero_shot):
        raise SettingError("say which model: --model RUN for a trained student, or --zero-shot NAME for the teacher alone")
    if model is not None:
        if parts:
            raise SettingError(f"--parts {parts} is for --zero-shot; a trained model is compared as in training")
        checkpoint = checkpoints.load(model)
        return checkpoint, features_for(features, checkpoint)
    given, reads = teacher_features(features, zero_shot)
    settings = from_dict(ZeroShotConfig, {"parts": parts or "frames"})
    return checkpoints.build("zero_shot", settings, reads), given


def _split_seed(checkpoint: Checkpoint, wanted: int | None) -> int:
    """The seed that the run's splits were drawn with: with another one, some of its training videos would be tested on."""
    trained = checkpoint.about.get("split_seed")
    if trained is not None and wanted not in (None, trained):
        raise SettingError(f"this run was trained with --split-seed {trained}, not {wanted}; leave the option out")
    return trained if trained is not None else wanted or 0
