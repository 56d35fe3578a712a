"""The commands of an index: `prvr index`, `prvr index copy`, `prvr index verify` and `prvr search`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from prvr.cli.terminal import (
    Device,
    Json,
    Method,
    Parts,
    Ray,
    Videos,
    Workers,
    app,
    clock,
    counts,
    hit_lines,
    in_words,
    progress,
    rescores,
    show,
    warn,
)
from prvr.cli.texts import ScreenGate, ScreenText, Speech, SpeechGate, Subtitles, text_settings
from prvr.errors import SettingError, require

if TYPE_CHECKING:
    from prvr.methods.checkpoint import Checkpoint
    from prvr.search import Indexing

LEAST_RECALL = "0.99"

Index = Annotated[str, typer.Argument(help="Folder of the index, or of the videos that contain it.", metavar="INDEX")]
Model = Annotated[Path | None, typer.Option(help="Folder of a run, or OWNER/NAME on the hub.")]
UrlModel = Annotated[
    Path | None, typer.Option(help="Run that made the index, as folder or name on the hub; required for a server.")
]


class IndexGroup(TyperGroup):
    """`prvr index VIDEOS` is short for `prvr index update VIDEOS`; a folder that is named like a command is ./copy."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments; if the first one is not a command, they are those of `update`."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else ["update", *args])


HELP = "Bring an index up to date with a folder of videos, copy it, verify it, or weigh its texts."
index = typer.Typer(name="index", help=HELP, cls=IndexGroup, rich_markup_mode=None)
app.add_typer(index)


@index.command(
    epilog="Example: prvr index videos gallery --model run. See also: prvr index copy, prvr index verify, prvr index weigh."
)
def update(
    videos: Videos,
    path: Annotated[
        str | None, typer.Argument(help="Folder of the index, or URL of shards.", metavar="INDEX", show_default="VIDEOS/.prvr")
    ] = None,
    model: Model = None,
    method: Method = "",
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            "--zero-shot",
            help="Instead of --model: an encoder of images and text, by folder or name.",
            show_default="that of the index; SigLIP 2 base for a new one",
        ),
    ] = "",
    parts: Parts = "frames",
    rate: Annotated[float | None, typer.Option(help="With --encoder: frames per second.", min=0.01, show_default="1.0")] = None,
    dtype: Annotated[str, typer.Option(help="float16 or float32.", show_default="that of the index; float16 for a new one")] = "",
    calibrate: Annotated[Path | None, typer.Option(help="Fit probabilities on the model's saved scores of dev: DEV.npz.")] = None,
    subtitles: Subtitles = None,
    speech: Speech = "",
    speech_gate: SpeechGate = None,
    screen_text: ScreenText = None,
    screen_gate: ScreenGate = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running: index again whenever the folder changes.")] = False,
    device: Device = "auto",
    workers: Workers = None,
    ray: Ray = None,
    as_json: Json = False,
) -> None:
    """Bring an index up to date with a folder of videos; a second call processes only files with changed content.

    A new index takes SigLIP 2 base, unless a model is named; its size and licence are shown before it is downloaded. An existing
    index needs no name again. It can be searched meanwhile, and an interrupted call continues. A line of VIDEOS/videos.jsonl
    ({"video": "a.mp4", "camera": "north"}) adds fields to a video for prvr search --where. For a folder of videos named copy,
    verify, weigh or update, write ./copy. Exit status 1 if a shard has an error, 0 if single videos cannot be read.
    """
    from prvr.features import as_dtype
    from prvr.methods.exported import copy_export
    from prvr.search import DEFAULT, MODEL, index_folder, watch_folder
    from prvr.search.indexing import folder_to_index
    from prvr.search.opening import is_remote

    if path is None and not isinstance(videos, Path):
        raise SettingError(f"name the folder of the index: prvr index {videos} GALLERY")
    target, stored = path or videos / DEFAULT, as_dtype(dtype) if dtype else None
    folder = folder_to_index(target)
    if watch and is_remote(target):
        raise SettingError(f"--watch is for an index in a folder; call prvr index {videos} {target} again instead")
    # Before an encoder is opened, which takes seconds.
    require("av", extra="video")
    checkpoint = _checkpoint(folder, model, encoder, videos=videos, rate=rate, parts=parts, method=method)
    if calibrate is not None:
        from prvr.evaluate.reliability import calibration_from_scores

        checkpoint = replace(checkpoint, calibration=calibration_from_scores(calibrate))
    texts = text_settings(subtitles, speech, screen_text, speech_gate=speech_gate, screen_gate=screen_gate)
    with progress() as on_progress:
        settings: dict[str, Any] = {"dtype": stored, "device": device, "workers": workers, "ray": ray, "on_progress": on_progress}
        settings["texts"] = texts
        if watch:
            for done in watch_folder(videos, target, checkpoint, **settings):
                copy_export(model, folder / MODEL, checkpoint)
                _show(done, target, as_json)
        else:
            done = index_folder(videos, target, checkpoint, **settings)
    if not watch:
        copy_export(model, folder / MODEL, checkpoint)
        _show(done, target, as_json)


def _checkpoint(
    path: Path, model: Path | None, encoder: str, *, videos: Path, rate: float | None, parts: str, method: str
) -> Checkpoint:
    from prvr import search
    from prvr.encoders.hub import DEFAULT_ENCODER
    from prvr.methods.checkpoint import CONFIG
    from prvr.methods.repository import open_checkpoint
    from prvr.search.opening import check_same_encoder
    from prvr.video import find_videos

    if model is not None and encoder:
        raise SettingError("name one model: --model RUN for a trained student, or --encoder ENCODER for an encoder alone")
    if model is not None:
        _refuse_other_reading(rate, parts)
    place = model if model is not None else path / search.MODEL
    stored = open_checkpoint(place, method=method or None) if model is not None or (place / CONFIG).exists() else None
    if model is None and (encoder or stored is None):
        if method:
            raise SettingError(f"--method {method} is for --model; an encoder alone has no external method")
        # Before anything is downloaded.
        find_videos(videos)
        if stored is not None:
            check_same_encoder(path, stored, encoder)
            kept = stored.sources.frames.rate
            if rate is not None and kept is not None and rate != kept:
                raise SettingError(
                    f"the index in {path} has {kept:g} frames per second, not {rate:g}; leave --rate out, or take another folder"
                )
            rate = kept
        return search.zero_shot(encoder or DEFAULT_ENCODER, rate=rate or 1.0, parts=parts)
    _refuse_other_reading(rate, parts)
    assert stored is not None
    return stored


def _refuse_other_reading(rate: float | None, parts: str) -> None:
    if rate is not None:
        raise SettingError("--rate is for --encoder; an index and a trained student keep the frames per second that they have")
    if parts != "frames":
        raise SettingError(f"--parts {parts} is for --encoder; an index and a trained student are compared as they were made")


def _show(done: Indexing, path: Path | str, as_json: bool) -> None:
    warn(done.problems)
    numbers = counts(done, ("added", "kept", "dropped", "problems"))
    show(as_json, {"index": str(path), **numbers}, [f"{path}: {in_words(numbers)}"])
    if done.failed:
        raise typer.Exit(1)


@index.command(epilog="Example: prvr index copy gallery backup")
def copy(
    source: Index,
    target: Annotated[str, typer.Argument(help="Folder or URL of the copy.", metavar="TARGET")],
    model: UrlModel = None,
    method: Method = "",
    as_json: Json = False,
) -> None:
    """Copy an index, or bring a copy up to date, and compare every video of the two."""
    from prvr.search import copy_index

    with progress() as on_progress:
        done = copy_index(source, target, model=model, method=method or None, on_progress=on_progress)
    warn({target: done.without_texts} if done.without_texts else {})
    numbers = counts(done, ("written", "kept", "dropped"))
    line = f"{target}: {in_words(numbers)}; all {len(done.written + done.kept)} are the same"
    show(as_json, {"source": source, "target": target, **numbers}, [line])


@index.command(epilog="Example: prvr index verify gallery")
def verify(
    path: Index,
    queries: Annotated[Path | None, typer.Option(help="Text file with a sentence a line: also measure recall.")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Measure faster searches; keep the fastest that reaches the recall.")
    ] = False,
    least_recall: Annotated[
        float | None, typer.Option(help="Recall@10 that it must reach.", min=0.5, max=1.0, show_default=LEAST_RECALL)
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Remove damaged videos, so that prvr index adds them again.")] = False,
    model: UrlModel = None,
    method: Method = "",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Read all of an index and compare it with its checksums; with queries, compare the search with an exact scan.

    With --approximate, measure what prvr search --approximate would find, and how fast. Exit status 1 if something is damaged.
    """
    from prvr.search import verify_index

    if least_recall is not None and not approximate:
        raise SettingError("--least-recall is for --approximate; without it, search is exact")
    least = (least_recall or float(LEAST_RECALL)) if approximate else None
    with progress() as tell:
        done = verify_index(
            path,
            queries=queries,
            model=model,
            method=method or None,
            drop=drop,
            least_recall=least,
            device=device,
            on_progress=tell,
        )
    stage = {f"{path}, approximate search": done.stage_fault} if done.stage_fault else {}
    warn({**{id or path: problem for id, problem in done.faults.items()}, **stage})
    lines = [f"{path}: {done.videos} videos, {len(done.faults)} damaged{', taken out' if done.dropped else ''}"]
    if done.recall is not None:
        lines.append(f"{done.recall.queries} queries: recall@{done.recall.k} {done.recall.search:.4f} against the exact scan")
        if done.recall.codes is not None:
            lines.append(f"codes alone, without scoring the best again: {done.recall.codes:.4f}")
    elif queries is not None:
        lines.append("nothing was measured with the queries: remove damaged videos first (--drop)")
    if done.first_stages is not None:
        lines += done.first_stages.lines(least)
    show(as_json, {"index": path, **done.as_dict()}, lines)
    if done.faults or done.stage_fault:
        raise typer.Exit(1)


@index.command(epilog="Example: prvr index weigh gallery")
def weigh(path: Index, device: Device = "auto", as_json: Json = False) -> None:
    """Fit the weights of texts beside the picture, on captions.jsonl in the folder of the videos, for all later searches."""
    from prvr.search.weighing import weigh_senses

    with progress() as on_progress:
        done = weigh_senses(path, device=device, on_progress=on_progress)
    show(
        as_json,
        {"index": path, **asdict(done)},
        [f"{path}: words have the weight {done.weights.words:g}, meaning {done.weights.meaning:g}, by {done.captions} captions"],
    )


@app.command(epilog='Example: prvr search gallery "a dog rides a skateboard" --then "the dog falls off"')
def search(
    path: Index,
    query: Annotated[
        str, typer.Argument(help="A sentence about the moment; not needed with --image or --like.", metavar="QUERY")
    ] = "",
    then: Annotated[list[str] | None, typer.Option(help="What happens later in the video; repeatable, in this order.")] = None,
    also: Annotated[list[str] | None, typer.Option(help="QUERY in other words; repeatable.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="What the moment does not show; repeatable.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture of what the moment shows: JPEG, PNG, WebP, GIF or BMP.")] = None,
    like: Annotated[
        str, typer.Option(help="A moment of the index, such as holiday/beach.mp4@12.5.", metavar="VIDEO@SECONDS")
    ] = "",
    more: Annotated[
        list[str] | None,
        typer.Option(help="A moment of an earlier hit: more like this one; repeatable.", metavar="VIDEO@SECONDS"),
    ] = None,
    less: Annotated[
        list[str] | None,
        typer.Option(
            help="A moment of an earlier hit: less like this one, and without its video; repeatable.", metavar="VIDEO@SECONDS"
        ),
    ] = None,
    moments: Annotated[
        bool, typer.Option("--moments", help="List the best moments, also several of one video, instead of videos.")
    ] = False,
    k: Annotated[int, typer.Option("-k", help="Number of videos, or of moments.")] = 10,
    page: Annotated[int, typer.Option(help="Which K of them: 1 is the best K, 2 the next ones.", min=1)] = 1,
    where: Annotated[
        list[str] | None, typer.Option(help="Only videos with folder=NAME, 'duration>60', 'date>=2026-01-31' ...; repeatable.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Drop hits below this probability (one sentence, a calibrated model), otherwise below this score."),
    ] = None,
    sense: Annotated[
        str, typer.Option("--in", help="picture, speech (subtitles, too), screen, or any of these.", metavar="SENSE")
    ] = "any",
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Faster, not exact: as prvr index verify --approximate measured.")
    ] = False,
    rescore: Annotated[str, typer.Option(help="anchors: score the best hits again by their parts, as evaluated.")] = "",
    prompt: Annotated[
        str | None,
        typer.Option(help='Template for the query, such as "a photo of a {}."; "" for none.', show_default="that of the encoder"),
    ] = None,
    model: UrlModel = None,
    method: Method = "",
    device: Device = "auto",
    format: Annotated[
        str, typer.Option(help="A list of the moments for other programs: edl, fcpxml, otio, csv, m3u, srt or json.")
    ] = "",
    sheet: Annotated[
        Path | None, typer.Option(help="Write one picture of the moments with their times: .jpg, .png, .webp.", metavar="PICTURE")
    ] = None,
    curve: Annotated[bool, typer.Option("--curve", help="With --json: the relevance along each video, too.")] = False,
    as_json: Json = False,
) -> None:
    """Find the videos that contain a moment, and where in them.

    With --format, the best moment of each hit goes to stdout: prvr search gallery "a dog" --format edl > dogs.edl.

    A query of up to three words is put into the template of the encoder's family, if the index is of an encoder alone.
    """
    from prvr.server.local import ask

    if moments and rescore:
        raise SettingError("--rescore re-scores videos; leave it out, or --moments")
    if format:
        from prvr.search.moment_lists import check_format

        as_json = check_format(format) == "json" or as_json
        if as_json and format != "json":
            raise SettingError(f"--format {format} and --json are two lists; take one of them")
    if sheet is not None:
        from prvr.search.moment_files import check_picture

        check_picture(sheet)
    question: dict[str, Any] = {"text": query, "also": also or [], "then": then or [], "without": without or []}
    question |= {"like": like, "more": more or [], "less": less or [], "prompt": prompt}
    settings: dict[str, Any] = {"k": k, "offset": (page - 1) * k, "where": where or [], "min_score": min_score}
    settings |= {"approximate": approximate, "rescore": rescores(rescore), "moments": moments, "curve": curve, "sense": sense}
    # A running service of the index has all that is needed in memory; pictures are not sent to it.
    found = ask(path, question, settings, device=device) if model is None and not method and image is None else None
    if found is None:
        from prvr.search.answering import answer
        from prvr.search.starting import open_for_search
        from prvr.video.picture_file import read_picture

        picture = None if image is None else read_picture(image)
        stored_rows = picture is None and not rescore
        gallery = open_for_search(path, model=model, method=method or None, device=device, stored_rows=stored_rows)
        with closing(gallery.index):
            found = answer(gallery, question, settings, image=picture)
    warn({"query": found["note"]} if "note" in found else {})
    hits, least = found["hits"], "" if min_score is None else f" with a {found['measure']} of {min_score:g} or more"
    lines = [line for hit in hits for line in hit_lines(hit)] or [f"nothing {'more ' if page > 1 else ''}here matches{least}"]
    if weak := found["weak_at_end"]:
        # Not among the hits: programs count the lines.
        which = f"all {weak}" if weak == len(hits) else f"the last {weak} of {len(hits)}"
        warn({"weak matches": f"{which}; most sentences about other things find a video here that fits as well"})
    warn({hit["video"]: hit["problem"] for hit in hits if hit["problem"]})
    if sheet is not None:
        from prvr.search.moment_files import write_sheet
        from prvr.search.moment_lists import moments_of

        warn(write_sheet(sheet, moments_of(found), query))
    if format and not as_json:
        from prvr.search.moment_lists import list_of

        text, problems = list_of(found, format)
        warn(problems)
        typer.echo(text, nl=False)
        return
    show(as_json, found, lines)


@app.command("list", epilog="Example: prvr list gallery")
def list_videos(path: Index, model: UrlModel = None, method: Method = "", as_json: Json = False) -> None:
    """List the videos of an index: duration, date, and what is wrong with some of them."""
    from prvr.search.listing import list_index

    videos = list_index(path, model=model, method=method or None)
    lines = []
    for video in videos:
        duration = "" if video.duration is None else clock(video.duration)
        names = " = ".join((video.video, *video.copies))
        lines.append(f"{duration:>9}  {(video.date or '')[:10]:10}  {names}{f'  ({video.problem})' if video.problem else ''}")
    total = clock(sum(video.duration or 0.0 for video in videos))
    show(as_json, {"index": path, "videos": [video.as_dict() for video in videos]}, [*lines, f"{len(videos)} videos, {total}"])
