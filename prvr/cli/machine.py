"""`prvr doctor` and `prvr setup`: this machine, and what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Json, Method, app, show


@app.command(epilog="Example: prvr doctor videos")
def doctor(
    place: Annotated[
        Path | None, typer.Argument(help="Folder of an index, or of the videos that contain it.", metavar="INDEX")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Encoder to look for.", show_default="that of the index, else the default")] = "",
    method: Method = "",
    as_json: Json = False,
) -> None:
    """Say what is installed, which device and decoders there are, and what is missing with the command that mends it.

    Nothing is downloaded and nothing is changed. Exit status 1 if something is missing that indexing or searching needs.
    """
    from prvr.search.checkup import examine

    done = examine(place, encoder=encoder)
    width = max(map(len, done.facts))
    lines = [f"{name:<{width}}  {fact}" for name, fact in done.facts.items()]
    lines += [f"optional: {what}: {command}" for what, command in done.optional.items()]
    lines += [f"missing: {what}: {command}" for what, command in done.missing.items()]
    show(as_json, done.as_dict(), [*lines, "ready" if done.ready else f"{len(done.missing)} missing"])
    if not done.ready:
        raise typer.Exit(1)


@app.command(epilog="Example: prvr setup --encoder timm/PE-Core-S-16-384")
def setup(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder to put the encoder in, to carry it to a machine that is offline.", metavar="FOLDER"),
    ] = None,
    encoder: Annotated[str, typer.Option(help="Its name on the Hugging Face hub.", show_default="SigLIP 2 base")] = "",
    as_json: Json = False,
) -> None:
    """Fetch the encoder now, so that this machine, or another one with a copy of FOLDER, can work offline."""
    from prvr.encoders import sentence_encoder
    from prvr.encoders.hub import DEFAULT_ENCODER, download, local_folder

    source = encoder or DEFAULT_ENCODER
    there = local_folder(source) if folder is None else download(source, to=folder)
    opened = sentence_encoder(there if folder is not None else source)
    use = f"--encoder {there}" if folder is not None or source != DEFAULT_ENCODER else "prvr index VIDEOS"
    show(
        as_json,
        {"encoder": source, "folder": str(there), "fingerprint": opened.fingerprint},
        [f"{source} is in {there}; it opens. Use it: {use}"],
    )
