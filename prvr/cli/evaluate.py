"""`prvr evaluate`: of a model on a data set, or of a run that was kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prvr.cli.figures import report
from prvr.cli.terminal import Device, Json, Parts, app, show
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.checkpoint import Checkpoint
    from prvr.datasets import Dataset
    from prvr.features import FeatureSet
    from prvr.runs import Run

# Below the name of its first argument, for a file that is not there.
RUN_SUFFIXES = (".npz", ".npy", ".trec", ".run")

Ties = Annotated[str, typer.Option(help="Where tied videos stand: pessimistic (wrong ones first), optimistic or mean.")]


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
    truth: Annotated[Path | None, typer.Option(help="Correct videos: qrels, captions.jsonl, a caption list or labels.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Of a score matrix: ids of its rows, one a line.")] = None,
    gallery: Annotated[Path | None, typer.Option(help="Of a score matrix or TREC run: ids of all videos, one a line.")] = None,
    ties: Ties = "pessimistic",
    groups: Annotated[bool, typer.Option("--groups", help="Also by moment-to-video ratio, length and kind.")] = False,
    video_to_text: Annotated[bool, typer.Option("--video-to-text", help="Also find captions by videos.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Fit probabilities on this run, of another split; by default the model's own are used.")
    ] = None,
    risks: Annotated[Path | None, typer.Option(help="Picture of how right the probabilities are: FILE.png.")] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the scores with all that is known: RUN.npz.")] = None,
    trec: Annotated[Path | None, typer.Option(help="Write the ranking in TREC's format, and FILE.qrels beside it.")] = None,
    depth: Annotated[int, typer.Option(help="With --trec: videos per query.", min=1)] = 1000,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Retrieve a split's videos by its captions, and count: R@k, SumR, median rank, and moments where spans are given."""
    if videos.is_file() or videos.suffix in RUN_SUFFIXES:
        _refuse(videos, features=features, model=model, zero_shot=zero_shot, parts=parts, split=split)
        _refuse(videos, split_seed=split_seed, annotations=annotations)
        run = _read(videos, truth=truth, queries=queries, gallery=gallery)
    else:
        _refuse(videos, queries=queries, gallery=gallery)
        run = _answered(
            videos,
            features,
            model,
            zero_shot,
            parts=parts,
            split=split or "test",
            split_seed=split_seed,
            annotations=annotations,
            device=device,
        )
        run = _with_truth(run, truth)
    if calibrate is not None:
        run = _calibrated(run, calibrate)
    if risks is not None and run.calibration is None:
        raise SettingError("this run has no probabilities to draw; fit them on a run of another split: --calibrate DEV.npz")
    value, lines = report(run, ties=ties, groups=groups, backwards=video_to_text)
    _write(run, save=save, trec=trec, depth=depth, risks=risks)
    show(as_json, value, lines)


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
    device: str,
) -> Run:
    """What the model that was named answers."""
    from prvr.protocols import open_split

    if features is None:
        raise SettingError(f"{videos} is no run; for a folder of videos name its features, too: prvr evaluate {videos} FEATURES")
    checkpoint, given = _model_and_features(features, model, zero_shot, parts=parts)
    dataset: Dataset = open_split(videos, split, seed=_split_seed(checkpoint, split_seed), annotations=annotations)
    system = zero_shot or (model.resolve().name if model is not None else "")
    return asked(checkpoint, dataset, given, system=system, device=device)


def asked(checkpoint: Checkpoint, dataset: Dataset, features: FeatureSet, *, system: str, device: str) -> Run:
    """What a model answers to a data set's captions."""
    from prvr.checkpoint import to_device
    from prvr.evaluate import evaluate_model, run_of

    result, about = evaluate_model(to_device(checkpoint, device).model, dataset, features), checkpoint.about
    protocol, seed = about.get("protocol", "honest"), about.get("training", {}).get("seed")
    return run_of(result, dataset, system=system, protocol=protocol, seed=seed, calibration=checkpoint.calibration)


def _read(path: Path, *, truth: Path | None, queries: Path | None, gallery: Path | None) -> Run:
    """A run from a file in any of the forms; foreign ones need a truth, and a matrix needs ids."""
    from prvr.runs import load_run, read_arrays
    from prvr.runs.foreign import read_ids, read_matrix, read_trec
    from prvr.runs.truth import read_truth

    matrix = path.suffix in (".npz", ".npy")
    if matrix and queries is None and gallery is None and "about" in read_arrays(path):
        return _with_truth(load_run(path), truth)
    if truth is None:
        raise SettingError(f"{path} does not say which videos are correct; give --truth FILE, qrels or captions")
    if not matrix:
        return read_trec(path, read_truth(truth), gallery=None if gallery is None else read_ids(gallery))
    if queries is None or gallery is None:
        raise SettingError(f"{path} is a plain score matrix; name its ids: --queries FILE --gallery FILE, one id a line")
    return read_matrix(path, read_truth(truth), queries=read_ids(queries), gallery=read_ids(gallery))


def _with_truth(run: Run, truth: Path | None) -> Run:
    from prvr.runs.truth import read_truth, with_truth

    return run if truth is None else with_truth(run, read_truth(truth))


def _calibrated(run: Run, path: Path) -> Run:
    """The run with probabilities that are fitted on another one."""
    from prvr.calibration import LEAST_QUERIES, LEAST_VIDEOS, fit
    from prvr.runs import load_run

    held_out = load_run(path)
    same = sorted(set(held_out.queries) & set(run.queries))
    if same:
        raise SettingError(
            f"{path} answers the same queries ({same[0]!r} first); probabilities are fitted on those of another split, dev"
        )
    found = fit(held_out.scores, held_out.correct, split=held_out.split or path.name)
    if found is None:
        queries, videos = held_out.scores.shape
        raise SettingError(
            f"{path} has {queries} queries and {videos} videos; probabilities take {LEAST_QUERIES} and {LEAST_VIDEOS} at least, "
            "and first hits of both kinds, right and wrong"
        )
    return replace(run, calibration=found)


def _write(run: Run, *, save: Path | None, trec: Path | None, depth: int, risks: Path | None) -> None:
    from prvr.reliability import judge
    from prvr.report.risks import draw_risks
    from prvr.runs import save_run
    from prvr.runs.foreign import write_qrels, write_trec

    if risks is not None and run.calibration is not None:
        draw_risks(judge(run.calibration, run.scores, run.correct), risks)

    if trec is not None:
        write_trec(run, trec, depth=depth)
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
    from prvr import checkpoint as checkpoints
    from prvr.config import from_dict
    from prvr.methods.zero_shot import ZeroShotConfig
    from prvr.workspace import features_for, teacher_features

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
