"""`prvr evaluate`: the figures of a model on a split. `prvr score`: the figures of saved scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prvr.cli.terminal import Annotations, Device, Features, Json, Method, Parts, app, rescores, show, warn
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.evaluate.figures import ScoreFigures
    from prvr.features import FeatureSet
    from prvr.methods.checkpoint import Checkpoint

# Files with these suffixes are scores, even where they do not exist.
SCORE_SUFFIXES = (".npz", ".npy", ".trec", ".run", ".jsonl")
MOVED = ("--truth", "--queries", "--gallery", "--calibrate", "--risks", "--trec", "--depth")


def _refuse_scores(data: Path) -> Path:
    if data.is_file() or data.suffix in SCORE_SUFFIXES:
        raise SettingError(f"{data} is a file, not a data set; the figures of saved scores are counted by: prvr score {data}")
    return data


def _refuse_moved_options(value: str) -> str:
    if value:
        raise SettingError(
            f"{', '.join(MOVED[:-2])} and {MOVED[-2]} are options of prvr score; first save the scores: "
            "prvr evaluate DATA FEATURES --save SCORES.npz, then: prvr score SCORES.npz"
        )
    return value


Ties = Annotated[str, typer.Option(help="Places of tied videos: pessimistic (wrong ones first), optimistic or mean.")]
Truth = Annotated[Path | None, typer.Option(help="Correct videos: qrels, a caption list, captions or annotations as JSON lines.")]
Queries = Annotated[Path | None, typer.Option(help="For a score matrix: ids of its rows, one a line.")]
Gallery = Annotated[Path | None, typer.Option(help="For a score matrix or TREC file: ids of all videos, one a line.")]
Also = Annotated[Path | None, typer.Option(help="Further correct videos: published labels, *.gt.jsonl or their zip.")]
Groups = Annotated[bool, typer.Option("--groups", help="Also count by moment-to-video ratio, length and kind.")]
VideoToText = Annotated[bool, typer.Option("--video-to-text", help="Also count the captions that each video finds.")]
Save = Annotated[Path | None, typer.Option(help="Save the scores, for prvr score, compare and report: SCORES.npz.")]


@app.command(epilog="Example: prvr evaluate videos features --model run --split test")
def evaluate(
    data: Annotated[
        Path, typer.Argument(help="Folder of videos with captions.jsonl, or a package.", metavar="DATA", callback=_refuse_scores)
    ],
    features: Features,
    model: Annotated[Path | None, typer.Option(help="Folder of a run, or OWNER/NAME on the hub.")] = None,
    method: Method = "",
    zero_shot: Annotated[str, typer.Option(help="Instead of --model: the teacher alone, by its name in FEATURES.")] = "",
    parts: Parts = "frames",
    split: Annotated[str, typer.Option(help="train, dev, test or all.")] = "test",
    split_seed: Annotated[int | None, typer.Option(help="Seed of the splits.", show_default="that of the run, or 0")] = None,
    annotations: Annotations = None,
    also: Also = None,
    ties: Ties = "pessimistic",
    groups: Groups = False,
    video_to_text: VideoToText = False,
    save: Save = None,
    rescore: Annotated[str, typer.Option(help="anchors: re-score by means of a video's parts; chosen on dev, kept in RUN.")] = "",
    moved: Annotated[str, typer.Option(*MOVED, hidden=True, callback=_refuse_moved_options)] = "",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Retrieve a split's videos by its captions, and count: R@k, SumR, median rank, and moments if spans are annotated."""
    from prvr.datasets.positives import add_labels
    from prvr.datasets.splits import open_split, open_splits
    from prvr.evaluate.evaluation import fit_spans, score_checkpoint, split_seed_of
    from prvr.evaluate.figures import count_figures
    from prvr.evaluate.saved_scores import save_scores
    from prvr.features.subtitles import videos_without_subtitles

    checkpoint, given = _model_and_features(features, model, zero_shot, parts, method)
    dataset = open_split(data, split, seed=split_seed_of(checkpoint, split_seed), annotations=annotations)
    dataset = fit_spans(dataset, given.frames)
    warn({**dataset.notes, **videos_without_subtitles(given.frames, dataset.video_ids)})
    notes: dict[str, Any] = {}
    if also is not None:
        dataset, notes["labelled"] = add_labels(dataset, also)
    system = zero_shot or (model.resolve().name if model is not None else "")
    rescoring = None
    if rescores(rescore):
        from prvr.evaluate.rescoring import choose_rescoring
        from prvr.index.rescoring import with_rescoring
        from prvr.methods.checkpoint import save as save_checkpoint

        protocol = "community" if checkpoint.about.get("protocol") == "community" else "honest"
        splits = open_splits(data, protocol=protocol, seed=split_seed_of(checkpoint, split_seed))
        choice = choose_rescoring(checkpoint, splits.dev, given, device=device)
        rescoring, notes["rescoring"] = choice.rescoring, choice
        # The hub's cache is not ours to write to.
        if model is not None and model.is_dir():
            save_checkpoint(with_rescoring(checkpoint, rescoring), model)
    saved = score_checkpoint(checkpoint, dataset, given, system=system, device=device, rescoring=rescoring)
    if saved.untrained:
        branches = ", ".join(branch or "the model" for branch in saved.untrained)
        warn({system: f"did not learn when it was trained: {branches}; these figures are no result of its method"})
    figures = count_figures(saved, ties=ties, groups=groups, video_to_text=video_to_text)
    if save is not None:
        save_scores(saved, save)
    _show(as_json, figures, notes, also)


@app.command(epilog="Example: prvr score ours.npz --groups --ties mean")
def score(
    scores: Annotated[
        Path,
        typer.Argument(
            help="Scores of prvr evaluate --save, a TREC ranking, a score matrix, or moments as QVHighlights' .jsonl.",
            metavar="SCORES",
        ),
    ],
    truth: Truth = None,
    also: Also = None,
    queries: Queries = None,
    gallery: Gallery = None,
    ties: Ties = "pessimistic",
    groups: Groups = False,
    video_to_text: VideoToText = False,
    calibrate: Annotated[Path | None, typer.Option(help="Fit probabilities on these scores of another split: DEV.npz.")] = None,
    risks: Annotated[Path | None, typer.Option(help="Draw how reliable the probabilities are: FILE.png.")] = None,
    save: Save = None,
    trec: Annotated[Path | None, typer.Option(help="Write the ranking in TREC's format, and FILE.qrels.")] = None,
    as_json: Json = False,
) -> None:
    """Count the figures of saved scores, or of another program's scores."""
    from prvr.evaluate.figures import count_figures
    from prvr.evaluate.reliability import calibration_from_scores
    from prvr.evaluate.saved_scores import save_scores
    from prvr.evaluate.saved_scores.foreign import write_qrels, write_trec
    from prvr.evaluate.saved_scores.forms import NEEDLESS, form_of, open_scores
    from prvr.evaluate.saved_scores.truth import with_labels
    from prvr.report.probabilities import draw_risks

    form = form_of(scores)
    if form == "moments":
        more = {"also": also, "calibrate": calibrate, "risks": risks, "save": save, "trec": trec, "groups": groups}
        _score_moments(scores, truth, {**more, "video-to-text": video_to_text, "queries": queries, "gallery": gallery}, as_json)
        return
    for name, file in (("queries", queries), ("gallery", gallery)):
        if file is not None and name in NEEDLESS[form]:
            raise SettingError(f"--{name} {file} is not for {scores}, which has these ids; leave it out")
    saved, added = open_scores(scores, truth=truth, queries=queries, gallery=gallery)
    warn_of_extra_videos(scores, added)
    notes: dict[str, Any] = {"joined_gallery": {"videos": len(added), "first": added[0]}} if added else {}
    if also is not None:
        saved, notes["labelled"] = with_labels(saved, also)
    if calibrate is not None:
        saved = replace(saved, calibration=calibration_from_scores(calibrate, other_than=saved.queries))
    if risks is not None and saved.calibration is None:
        raise SettingError("these scores have no probabilities to draw; fit them on scores of another split: --calibrate DEV.npz")
    figures = count_figures(saved, ties=ties, groups=groups, video_to_text=video_to_text)
    if risks is not None and figures.judged is not None:
        draw_risks(figures.judged, risks)
    if trec is not None:
        write_trec(saved, trec)
        write_qrels(saved, trec.with_name(trec.name + ".qrels"))
    if save is not None:
        save_scores(saved, save)
    _show(as_json, figures, notes, also)


def _score_moments(path: Path, truth: Path | None, others: dict[str, Any], as_json: bool) -> None:
    from prvr.evaluate.saved_scores.moments import score_moments

    given = [name for name, value in others.items() if value]
    if given:
        raise SettingError(f"--{given[0]} is for scores of videos, and {path} holds predicted moments; leave it out")
    if truth is None:
        raise SettingError(f"{path} does not say which moments are right; add --truth highlight_val_release.jsonl or the like")
    figures = score_moments(path, truth)
    show(as_json, figures.as_dict(), str(figures).splitlines())


def warn_of_extra_videos(path: Path, added: Sequence[str]) -> None:
    """Warns of videos in a TREC file that were added to the gallery, which has no list of its own."""
    if added:
        text = f"{len(added)} of its videos are correct for no query of the truth, {added[0]!r} first, and join the gallery"
        warn({str(path): f"{text}; list all videos with --gallery FILE"})


def _show(as_json: bool, figures: ScoreFigures, notes: dict[str, Any], also: Path | None) -> None:
    lines = str(figures).splitlines()
    if "rescoring" in notes:
        choice = notes["rescoring"]
        lines.insert(-1, str(choice))
        notes["rescoring"] = asdict(choice)
    if "labelled" in notes:
        lines.insert(-1, f"{notes['labelled']} of {figures.retrieval.queries} queries are labelled in {also}")
    show(as_json, figures.as_dict() | notes, lines)


def _model_and_features(
    features: Path, model: Path | None, zero_shot: str, parts: str, method: str
) -> tuple[Checkpoint, FeatureSet]:
    from prvr.features.shelf import teacher_features
    from prvr.methods.checkpoint import features_for, zero_shot_checkpoint
    from prvr.methods.repository import open_checkpoint

    if (model is None) == (not zero_shot):
        raise SettingError("name one model: --model RUN for a trained student, or --zero-shot NAME for the teacher alone")
    if method and model is None:
        raise SettingError(f"--method {method} is for --model; a teacher alone has no external method")
    if model is None:
        given = teacher_features(features, zero_shot)
        return zero_shot_checkpoint(given, parts=parts), given
    if parts != "frames":
        raise SettingError(f"--parts {parts} is for --zero-shot; a trained model is compared as in training")
    checkpoint = open_checkpoint(model, method=method or None)
    return checkpoint, features_for(features, checkpoint)
