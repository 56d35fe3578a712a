"""`prvr extract` and `prvr demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Device, Json, Rate, Ray, Videos, Workers, app, progress, show, show_extractions
from prvr.errors import require


@app.command(epilog="Example: prvr extract videos features --encoder openai/clip-vit-base-patch32 --words roberta-base")
def extract(
    videos: Videos,
    features: Annotated[Path, typer.Argument(help="Folder to write the features to.", metavar="FEATURES")],
    encoder: Annotated[list[str], typer.Option(help="Encoder of frames, by folder or Hugging Face name; repeatable.")],
    words: Annotated[list[str] | None, typer.Option(help="Encoder of words, for the captions; repeatable.")] = None,
    rate: Rate = 1.0,
    batch_size: Annotated[int, typer.Option(help="Number of frames encoded together.", min=1)] = 32,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="Encode also frames that look like the one before, which else take its row.")
    ] = False,
    device: Device = "auto",
    workers: Workers = None,
    ray: Ray = None,
    as_json: Json = False,
) -> None:
    """Turn videos, and captions if there are any, into features on disk. A second call processes only what changed."""
    from prvr.extract.folder import extract_folder

    with progress() as on_progress:
        done = extract_folder(
            videos,
            features,
            encoders=encoder,
            words=words or [],
            rate=rate,
            batch_size=batch_size,
            every_frame=every_frame,
            device=device,
            workers=workers,
            ray=ray,
            on_progress=on_progress,
        )
    show_extractions(as_json, features, done, verb="extracted")


@app.command(epilog="Example: prvr demo demo")
def demo(
    out: Annotated[Path, typer.Argument(help="Folder of the demo; an interrupted demo continues.", metavar="OUT")] = Path("demo"),
    as_json: Json = False,
) -> None:
    """Show the whole system on rendered videos: render, train a teacher and students, evaluate, index, search, report."""
    for module in ("av", "PIL", "transformers"):
        require(module, extra="all")
    from prvr.demo.run import run_demo

    with progress() as on_progress:
        result = run_demo(out, on_progress=on_progress)
    show(as_json, result.as_dict(), result.lines())
