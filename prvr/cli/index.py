"""The verbs of an index: index, index copy, index verify, search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prvr.cli.terminal import Device, Json, Parts, Videos, app, clock, counts, progress, show, warn
from prvr.errors import ModelError, SettingError

if TYPE_CHECKING:
    from prvr.index.measure import Trial
    from prvr.methods.checkpoint import Checkpoint
    from prvr.search import Indexing

Index = Annotated[str, typer.Argument(help="Folder of the index, or of the videos that it is kept in.", metavar="INDEX")]
Model = Annotated[Path | None, typer.Option(help="Folder of a run.")]

LEAST_RECALL = 0.99


@app.command(
    epilog="Example: prvr index videos gallery --model run. See also: prvr index copy, prvr index verify "
    "(a folder of videos of such a name is ./copy)."
)
def index(
    videos: Videos,
    path: Annotated[Path | None, typer.Argument(help="Folder of the index; VIDEOS/.prvr if not said.", metavar="[INDEX]")] = None,
    model: Model = None,
    zero_shot: Annotated[str, typer.Option(help="Instead of a run: an encoder of images and sentences, by folder or name.")] = "",
    parts: Parts = "",
    rate: Annotated[float | None, typer.Option(help="With --zero-shot: frames per second, 1 if not said.", min=0.01)] = None,
    dtype: Annotated[str, typer.Option(help="float16 or float32; that of the index, float16 for a new one.")] = "",
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Fit probabilities of hits on this run of the same model, kept by prvr evaluate --save: DEV.npz."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on: index again whenever the folder changes.")] = False,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Bring an index up to date with a folder of videos; a second run does only what changed, by content.

    An index that is there needs no --model again. It can be searched all the while, and goes on where it was cut off. A
    line of VIDEOS/videos.jsonl ({"video": "a.mp4", "camera": "north"}) gives a video fields for prvr search --where.
    """
    from prvr import search as folder_index

    if dtype not in ("", "float16", "float32"):
        raise SettingError(f"dtype is {dtype!r}; it takes float16 or float32")
    target = path or videos / folder_index.DEFAULT
    checkpoint = _checkpoint(target, model, zero_shot, rate=rate, parts=parts)
    if calibrate is not None:
        checkpoint = _calibrated(checkpoint, calibrate)
    stored: Literal["float16", "float32"] | None = "float32" if dtype == "float32" else "float16" if dtype else None
    with progress() as tell:
        if watch:
            for done in folder_index.watch_folder(videos, target, checkpoint, dtype=stored, device=device, on_progress=tell):
                _tell(done, target, as_json)
        else:
            done = folder_index.index_folder(videos, target, checkpoint, dtype=stored, device=device, on_progress=tell)
    if not watch:
        _tell(done, target, as_json)


def _checkpoint(path: Path, model: Path | None, zero_shot: str, *, rate: float | None, parts: str) -> Checkpoint:
    from prvr import search as folder_index
    from prvr.methods.checkpoint import load

    if model is not None and zero_shot:
        raise SettingError("say which model: --model RUN for a trained student, or --zero-shot ENCODER for the teacher alone")
    if not zero_shot and rate is not None:
        raise SettingError("--rate is for --zero-shot; a trained student sees as many frames per second as in training")
    if not zero_shot and parts:
        raise SettingError(f"--parts {parts} is for --zero-shot; a trained student is compared as in training")
    if zero_shot:
        return folder_index.zero_shot(zero_shot, rate=rate or 1.0, parts=parts or "frames")
    if model is not None:
        return load(model)
    try:
        return load(path / folder_index.MODEL)
    except ModelError:
        raise SettingError(
            f"there is no index in {path} yet, so say which model: --model RUN for a trained student, or --zero-shot ENCODER "
            "for the teacher alone"
        ) from None


def _calibrated(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    from prvr.evaluate.runs import load_run
    from prvr.methods.calibration import fitted

    run = load_run(path)
    return replace(checkpoint, calibration=fitted(run.scores, run.correct, split=run.split, name=str(path)))


def _tell(done: Indexing, path: Path, as_json: bool) -> None:
    warn(done.problems)
    numbers = counts(done, ("added", "kept", "dropped", "problems"))
    show(as_json, {"index": str(path), **numbers}, [f"{path}: {', '.join(f'{n} {what}' for what, n in numbers.items())}"])


@app.command("index copy", epilog="Example: prvr index copy gallery backup")
def index_copy(
    source: Index,
    target: Annotated[str, typer.Argument(help="Folder of the copy, or the URL of one elsewhere.", metavar="TARGET")],
    model: Annotated[Path | None, typer.Option(help="Folder of the run, where the source is a URL.")] = None,
    as_json: Json = False,
) -> None:
    """Copy an index, or bring a copy up to date, and compare every video of the two."""
    from prvr.search import copy_index

    with progress() as tell:
        done = copy_index(source, target, model=model, on_progress=tell)
    numbers = counts(done, ("written", "kept", "dropped"))
    line = (
        f"{target}: {', '.join(f'{n} {what}' for what, n in numbers.items())}; all {len(done.written + done.kept)} are the same"
    )
    show(as_json, {"source": source, "target": target, **numbers}, [line])


@app.command("index verify", epilog="Example: prvr index verify gallery")
def index_verify(
    path: Index,
    queries: Annotated[Path | None, typer.Option(help="Text file, a sentence a line: measures recall, too.")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Measure first stages by the queries; keep the fastest that is good enough.")
    ] = False,
    least_recall: Annotated[
        float | None,
        typer.Option(help="With --approximate: the share of the exact ten best to be found, 0.99 if not said.", min=0.5, max=1.0),
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Take damaged videos out, so that prvr index adds them again.")] = False,
    model: Annotated[Path | None, typer.Option(help="Folder of the run, where the index is a URL.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Read all of an index and compare it with its checksums; with queries, the search with an exact scan of every row.

    With --approximate, what prvr search --approximate would find, and how fast. Exit status 1 where something is damaged.
    """
    from prvr.search import verify_index

    if least_recall is not None and not approximate:
        raise SettingError("--least-recall is for --approximate; without it, search is exact")
    least = (least_recall or LEAST_RECALL) if approximate else None
    with progress() as tell:
        done = verify_index(path, queries=queries, model=model, drop=drop, least_recall=least, device=device, on_progress=tell)
    warn({id or path: problem for id, problem in done.faults.items()})
    lines = [f"{path}: {done.videos} videos, {len(done.faults)} damaged{', taken out' if done.dropped else ''}"]
    if done.recall is not None:
        lines.append(f"{done.recall.queries} queries: recall@{done.recall.k} {done.recall.search:.4f} against the exact scan")
        if done.recall.codes is not None:
            lines.append(f"codes alone, were the best not scored again: {done.recall.codes:.4f}")
    elif queries is not None:
        lines.append("nothing was measured by the queries: take what is damaged out first (--drop)")
    if done.first_stages is not None:
        lines += _table(done.first_stages, least)
    show(as_json, {"index": path, **done.as_dict()}, lines)
    if done.faults:
        raise typer.Exit(1)


def _table(trial: Trial, least_recall: float | None) -> list[str]:
    """What was measured of first stages, and which is kept."""
    rows = [("none: the exact search", 1.0, median(one.exact_seconds for one in trial.measured))]
    rows += [(str(one.setting), one.recall, one.seconds) for one in trial.measured]
    title = "sketches: rows x columns, and the videos they keep"
    width = max(len(name) for name in (title, *(name for name, _, _ in rows)))
    lines = [f"{title:<{width}}  recall@10  ms a query"]
    lines += [f"{name:<{width}}  {recall:9.4f}  {1000 * seconds:10.2f}" for name, recall, seconds in rows]
    if trial.kept is None:
        return [*lines, f"none finds {least_recall:g} of the ten best in less time than the exact search; nothing is kept"]
    return [*lines, f"kept for prvr search --approximate: {trial.kept.setting}"]


@app.command(epilog='Example: prvr search gallery "a dog rides a skateboard" --where "duration>60"')
def search(
    path: Index,
    query: Annotated[str, typer.Argument(help="A sentence about the moment.")],
    k: Annotated[int, typer.Option("-k", help="How many videos.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only videos with folder=NAME, 'duration>60', 'date>=2026-01-31' or a field of your own; repeatable."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out what is less probable; of a run that is not calibrated, what scores less.")
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="By the first stage that prvr index verify --approximate measured; not exact.")
    ] = False,
    model: Annotated[Path | None, typer.Option(help="Refuse the index if it is not of this run; a URL needs it.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Find the videos that hold a moment, and where in them."""
    from prvr.search import open_index

    gallery = open_index(path, model=model, device=device)
    hits = gallery.search(query, k=k, where=where or (), min_score=min_score, approximate=approximate)
    measure = "score" if gallery.checkpoint.calibration is None else "probability"
    lines = [] if hits else [f"nothing here matches{'' if min_score is None else f' with a {measure} of {min_score:g} or more'}"]
    for hit in hits:
        spans = [f"{clock(span.start)} - {clock(span.end)}" for span in hit.spans]
        number = f"{hit.score:7.4f}" if hit.probability is None else f"{hit.probability:6.1%}"
        more = f"  also {', '.join(spans[1:])}" if spans[1:] else ""
        lines.append(f"{number}  {spans[0] if spans else '':>19}  {hit.video}{more}")
    show(as_json, {"query": query, "measure": measure, "hits": [hit.as_dict() for hit in hits]}, lines)
