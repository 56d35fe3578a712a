"""The commands that take a moment out of an index: `prvr cut` and `prvr open`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prvr.cli.index import Index, UrlModel
from prvr.cli.terminal import Device, Json, Method, app, clock, progress, show, warn
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.search.moment_lists import ListedMoment


@app.command(epilog='Example: prvr cut gallery "a dog rides a skateboard" -k 3 --out dogs')
def cut(
    path: Index,
    query: Annotated[str, typer.Argument(help="A sentence about the moment; not needed with --span.", metavar="QUERY")] = "",
    k: Annotated[int, typer.Option("-k", help="Number of moments.")] = 5,
    span: Annotated[
        list[str] | None,
        typer.Option(help="This stretch instead, such as trip/beach.mp4@12.5-20; repeatable.", metavar="VIDEO@START-END"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the cuts.")] = Path("."),
    margin: Annotated[float, typer.Option(help="Seconds before and after.")] = 1.0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Encode again, from the very frame, instead of the key frame before.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same name.")] = False,
    model: UrlModel = None,
    method: Method = "",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Cut the best moments out of their videos, into files of their own; nothing is encoded again, and sound is kept."""
    from prvr.search.moment_files import cut_moments
    from prvr.search.moment_lists import parse_span

    if bool(query) == bool(span):
        raise SettingError("name what to cut: a sentence, or --span VIDEO@START-END")
    moments = (
        [parse_span(path, one, rank) for rank, one in enumerate(span, 1)]
        if span
        else _search(path, query, k, model, method, device)
    )
    with progress() as on_progress:
        settings: dict[str, Any] = {"model": model, "margin": margin, "exact": exact, "replace": overwrite}
        done = cut_moments(moments, out, path, **settings, on_progress=on_progress)
    cuts = [
        {"file": str(one.path), "video": moment.video, "start": one.start, "end": one.end, "encoder": one.encoder}
        for moment, one in done.done
    ]
    lines = [f"{clock(one.start):>9} - {clock(one.end)}  {one.path}" for _, one in done.done]
    warn(done.problems)
    show(as_json, {"query": query, "cuts": cuts}, lines)
    if done.problems:
        raise typer.Exit(1)


@app.command("open", epilog='Example: prvr open gallery "a dog rides a skateboard"')
def open_moment(
    path: Annotated[str, typer.Argument(help="Folder of the index; without QUERY a moment.", metavar="INDEX|FILE@SECONDS")],
    query: Annotated[str, typer.Argument(help="A sentence about the moment.", metavar="QUERY")] = "",
    hit: Annotated[int, typer.Option(help="Which of the hits: 1 is the best.", min=1)] = 1,
    model: UrlModel = None,
    method: Method = "",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Play the best moment with mpv or VLC, otherwise in the browser."""
    from prvr.search.moment_lists import check_file, parse_file_moment
    from prvr.search.playing import play

    if query:
        moments = _search(path, query, hit, model, method, device)
        if len(moments) < hit:
            raise SettingError(f"there are {len(moments)} hits with times; take one of them with --hit")
        moment = moments[hit - 1]
        file, seconds = check_file(moment.file, moment.video), moment.start
    else:
        file, seconds = parse_file_moment(path)
    program, _ = play(file, seconds)
    lines = [f"{clock(seconds)}  {file}  ({program})"]
    show(as_json, {"file": str(file), "start": seconds, "player": program}, lines)


def _search(path: str, query: str, k: int, model: Path | None, method: str, device: str) -> list[ListedMoment]:
    from prvr.search import open_index
    from prvr.search.answering import answer
    from prvr.search.moment_lists import moments_of
    from prvr.server.local import ask

    question, settings = {"text": query}, {"k": k}
    found = ask(path, question, settings, device=device) if model is None and not method else None
    if found is None:
        gallery = open_index(path, model=model, method=method or None, device=device)
        with closing(gallery.index):
            found = answer(gallery, question, settings)
    warn({"query": found["note"]} if "note" in found else {})
    moments = moments_of(found)
    if not moments:
        raise SettingError("nothing here matches with a time; ask for something else")
    return moments
