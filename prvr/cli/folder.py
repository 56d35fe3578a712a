"""The verbs of a practitioner: extract, index, search, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Device, Features, Json, Rate, Videos, app, clock, counts, progress, show, warn
from prvr.errors import SettingError, require


@app.command(epilog="Example: prvr extract videos features --encoder openai/clip-vit-base-patch32 --words roberta-base")
def extract(
    videos: Videos,
    features: Features,
    encoder: Annotated[list[str], typer.Option(help="Encoder of frames, by folder or Hugging Face name; repeatable.")],
    words: Annotated[list[str] | None, typer.Option(help="Encoder of words, for the captions; repeatable.")] = None,
    rate: Rate = 1.0,
    batch_size: Annotated[int, typer.Option(help="Frames encoded at once.", min=1)] = 32,
    device: Device = "cpu",
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the videos; with --ray, on the cluster.", min=1)
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Ray cluster that does it: HOST:PORT, auto, or local.", metavar="ADDRESS")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn videos, and captions if there are any, into features on disk. A second run does only what changed."""
    from prvr.workspace import extract_folder

    with progress() as on_progress:
        done = extract_folder(
            videos,
            features,
            encoders=encoder,
            words=words or [],
            rate=rate,
            batch_size=batch_size,
            device=device,
            workers=workers,
            ray=ray,
            on_progress=on_progress,
        )
    for name, extraction in done.items():
        warn({f"{name}: {id}": problem for id, problem in extraction.problems.items()})
    each = {name: counts(e, ("done", "kept", "dropped", "problems")) for name, e in done.items()}
    lines = [f"{name}: {', '.join(f'{n} {what}' for what, n in c.items())}" for name, c in each.items()]
    show(as_json, {"features": str(features), "extracted": each}, lines)


@app.command(epilog="Example: prvr index videos gallery --model run")
def index(
    videos: Videos,
    path: Annotated[Path, typer.Argument(help="Folder of the index.", metavar="INDEX")],
    model: Annotated[Path | None, typer.Option(help="Folder of a run.")] = None,
    zero_shot: Annotated[str, typer.Option(help="Instead of a run: an encoder of images and sentences, by folder or name.")] = "",
    rate: Annotated[float | None, typer.Option(help="With --zero-shot: frames per second, 1 if not said.", min=0.01)] = None,
    dtype: Annotated[str, typer.Option(help="float16 or float32; that of the index, float16 for a new one.")] = "",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Bring an index up to date with a folder of videos; a second run does only what changed."""
    from prvr import folder_index
    from prvr.checkpoint import load

    if (model is None) == (not zero_shot):
        raise SettingError("say which model: --model RUN for a trained student, or --zero-shot ENCODER for the teacher alone")
    if dtype not in ("", "float16", "float32"):
        raise SettingError(f"dtype is {dtype!r}; it takes float16 or float32")
    if model is not None and rate is not None:
        raise SettingError("--rate is for --zero-shot; a trained student sees as many frames per second as in training")
    checkpoint = load(model) if model is not None else folder_index.zero_shot(zero_shot, rate=rate or 1.0)
    with progress() as on_progress:
        done = folder_index.index_folder(
            videos,
            path,
            checkpoint,
            dtype="float32" if dtype == "float32" else "float16" if dtype else None,
            device=device,
            on_progress=on_progress,
        )
    warn(done.problems)
    numbers = counts(done, ("added", "kept", "dropped", "problems"))
    show(as_json, {"index": str(path), **numbers}, [f"{path}: {', '.join(f'{n} {what}' for what, n in numbers.items())}"])


@app.command(epilog='Example: prvr search gallery "a dog rides a skateboard"')
def search(
    path: Annotated[Path, typer.Argument(help="Folder of the index.", metavar="INDEX")],
    query: Annotated[str, typer.Argument(help="A sentence about the moment.")],
    k: Annotated[int, typer.Option("-k", help="How many videos.")] = 10,
    model: Annotated[Path | None, typer.Option(help="Refuse the index if it is not of this run.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Find the videos that hold a moment, and where in them."""
    from prvr.folder_index import open_index

    hits = open_index(path, model=model, device=device).search(query, k=k)
    lines = []
    for hit in hits:
        span = "" if hit.start is None or hit.end is None else f"{clock(hit.start)} - {clock(hit.end)}"
        lines.append(f"{hit.score:7.4f}  {span:>19}  {hit.video}")
    show(as_json, {"query": query, "hits": [vars(hit) for hit in hits]}, lines)


@app.command(epilog="Example: prvr demo demo")
def demo(
    out: Annotated[Path, typer.Argument(help="Folder of the demo; a demo that was cut off goes on.")] = Path("demo"),
    as_json: Json = False,
) -> None:
    """Run the main job on a small world of rendered videos: render, teach, train, evaluate, index, search, report."""
    for module in ("av", "PIL", "transformers"):
        require(module, extra="all")
    from prvr.demo.run import run_demo

    with progress() as on_progress:
        result = run_demo(out, on_progress=on_progress)
    show(as_json, result.as_dict(), result.lines())
