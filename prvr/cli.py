"""The command line: one function per verb. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prvr.errors import PrvrError, SettingError, require

if TYPE_CHECKING:
    from prvr.checkpoint import Checkpoint
    from prvr.datasets import Dataset
    from prvr.features import FeatureSet

app = typer.Typer(
    name="prvr",
    help="Partially relevant video retrieval: type a sentence, get the video that holds the moment, and where in it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Videos = Annotated[Path, typer.Argument(help="Folder of videos, with captions.jsonl if it is a data set.")]
Features = Annotated[Path, typer.Argument(help="Folder of features that `prvr extract` keeps.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1 ...")]
Rate = Annotated[float, typer.Option(help="Frames per second that are looked at.", min=0.01)]


@app.command(epilog="Example: prvr extract videos features --encoder openai/clip-vit-base-patch32 --words roberta-base")
def extract(
    videos: Videos,
    features: Features,
    encoder: Annotated[list[str], typer.Option(help="Encoder of frames, by folder or Hugging Face name; repeatable.")],
    words: Annotated[list[str] | None, typer.Option(help="Encoder of words, for the captions; repeatable.")] = None,
    rate: Rate = 1.0,
    batch_size: Annotated[int, typer.Option(help="Frames encoded at once.", min=1)] = 32,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Turn videos, and captions if there are any, into features on disk. A second run does only what changed."""
    from prvr.workspace import extract_folder

    with _progress() as on_progress:
        done = extract_folder(
            videos,
            features,
            encoders=encoder,
            words=words or [],
            rate=rate,
            batch_size=batch_size,
            device=device,
            on_progress=on_progress,
        )
    for name, extraction in done.items():
        _warn({f"{name}: {id}": problem for id, problem in extraction.problems.items()})
    counts = {name: _counts(e, ("done", "kept", "dropped", "problems")) for name, e in done.items()}
    lines = [f"{name}: {', '.join(f'{n} {what}' for what, n in c.items())}" for name, c in counts.items()]
    _print(as_json, {"features": str(features), "extracted": counts}, lines)


@app.command(epilog="Example: prvr train videos features run --frames clip --words roberta_base --teacher clip lr=3e-4")
def train(
    videos: Videos,
    features: Features,
    out: Annotated[Path, typer.Argument(help="Folder of the run; a run that was cut off goes on.")],
    words: Annotated[str, typer.Option(help="Whose words the student reads: a name below FEATURES.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Changes to the preset, key=value.")] = None,
    frames: Annotated[str, typer.Option(help="Whose frames the student reads; by default the first teacher's.")] = "",
    teacher: Annotated[list[str] | None, typer.Option(help="Who teaches: a name below FEATURES; repeatable.")] = None,
    preset: Annotated[str, typer.Option(help="What to start from.")] = "dl-dkd++",
    split_seed: Annotated[int, typer.Option(help="Of the division into train, dev and test.")] = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train a student on a folder of videos with captions; the best epoch on the dev split is kept."""
    from prvr import presets
    from prvr.config import override
    from prvr.datasets.folder import load
    from prvr.train import Data, Recipe
    from prvr.train import train_student as run
    from prvr.workspace import student_features

    recipe = presets.preset(preset)
    changed, training = override([recipe.settings, recipe.training], settings or [])
    teachers = teacher or []
    if not frames and not teachers:
        raise SettingError("say whose frames the student reads: --teacher NAME, or --frames NAME to learn without a teacher")
    given, reads = student_features(features, frames=frames or (teachers or [""])[0], words=words, teachers=teachers)
    data = Data(load(videos, "train", seed=split_seed), load(videos, "dev", seed=split_seed), given)
    with _progress() as on_progress:
        best = run(
            out,
            Recipe(recipe.method, changed, training),
            reads=reads,
            data=data,
            device=device,
            notes={"split_seed": split_seed},
            on_progress=on_progress,
        )
    about = best.about
    line = f"{out}: best epoch {about['epoch'] + 1}, SumR {about['dev']['sumr']:.1f} on dev; curves in {out / 'curves.png'}"
    _print(as_json, {"run": str(out), "fingerprint": best.fingerprint, **about}, [line])


@app.command(epilog="Example: prvr evaluate videos features --model run --split test")
def evaluate(
    videos: Videos,
    features: Features,
    model: Annotated[Path | None, typer.Option(help="Folder of a run.")] = None,
    zero_shot: Annotated[str, typer.Option(help="Instead of a run: the teacher alone, by its name below FEATURES.")] = "",
    split: Annotated[str, typer.Option(help="train, dev, test or all.")] = "test",
    split_seed: Annotated[int | None, typer.Option(help="Of the division into splits; by default the run's.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Retrieve a split's videos by its captions, and count: R@k, SumR, median rank, and moments where spans are given."""
    from prvr.checkpoint import to_device
    from prvr.datasets.folder import load
    from prvr.evaluate import evaluate_model as run

    checkpoint, given = _model_and_features(features, model, zero_shot)
    dataset: Dataset = load(videos, split, seed=_split_seed(checkpoint, split_seed))
    result = run(to_device(checkpoint, device).model, dataset, given)
    moments = result.moments or {}
    lines = [f"{split}: {result.retrieval}"]
    if moments:
        shares = "  ".join(f"IoU>={least:g}: {share:.1f} %" for least, share in moments.items())
        lines.append(f"best hit is the right video and its span overlaps the moment  {shares}")
    _print(as_json, {"split": split, **result.retrieval.as_dict(), "moments": moments}, lines)


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
    with _progress() as on_progress:
        done = folder_index.index_folder(
            videos,
            path,
            checkpoint,
            dtype="float32" if dtype == "float32" else "float16" if dtype else None,
            device=device,
            on_progress=on_progress,
        )
    _warn(done.problems)
    counts = _counts(done, ("added", "kept", "dropped", "problems"))
    _print(as_json, {"index": str(path), **counts}, [f"{path}: {', '.join(f'{n} {what}' for what, n in counts.items())}"])


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
        span = "" if hit.start is None or hit.end is None else f"{_clock(hit.start)} - {_clock(hit.end)}"
        lines.append(f"{hit.score:7.4f}  {span:>19}  {hit.video}")
    _print(as_json, {"query": query, "hits": [vars(hit) for hit in hits]}, lines)


@app.command(epilog="Example: prvr demo demo")
def demo(
    out: Annotated[Path, typer.Argument(help="Folder of the demo; a demo that was cut off goes on.")] = Path("demo"),
    as_json: Json = False,
) -> None:
    """Run the main job on a small world of rendered videos: render, teach, train, evaluate, index, search, report."""
    for module in ("av", "PIL", "transformers"):
        require(module, extra="all")
    from prvr.demo.run import run_demo

    with _progress() as on_progress:
        result = run_demo(out, on_progress=on_progress)
    _print(as_json, result.as_dict(), result.lines())


def main() -> None:
    """The `prvr` command: one line and exit status 1 for what a user can mend, a traceback only with --debug."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Threads that wait for work by spinning starve whatever else runs: on two busy cores training took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(args=arguments)
    except SystemExit as ended:
        if ended.code == 130:  # what typer makes of an interrupt
            typer.echo("prvr: interrupted; what was finished is kept: run the same command to go on", err=True)
        raise
    except (PrvrError, OSError) as problem:
        if debug:
            raise
        text = str(problem)
        if isinstance(problem, OSError):
            text = f"{problem.strerror or problem}{f': {problem.filename}' if problem.filename else ''}; nothing finished is lost"
        _fail(text, status=1)


def _model_and_features(features: Path, model: Path | None, zero_shot: str) -> tuple[Checkpoint, FeatureSet]:
    from prvr import checkpoint as checkpoints
    from prvr.methods.zero_shot import ZeroShotConfig
    from prvr.workspace import features_for, teacher_features

    if (model is None) == (not zero_shot):
        raise SettingError("say which model: --model RUN for a trained student, or --zero-shot NAME for the teacher alone")
    if model is not None:
        checkpoint = checkpoints.load(model)
        return checkpoint, features_for(features, checkpoint)
    given, reads = teacher_features(features, zero_shot)
    return checkpoints.build("zero_shot", ZeroShotConfig(), reads), given


def _split_seed(checkpoint: Checkpoint, wanted: int | None) -> int:
    """The seed that the run's splits were drawn with: with another one, some of its training videos would be tested on."""
    trained = checkpoint.about.get("split_seed")
    if trained is not None and wanted not in (None, trained):
        raise SettingError(f"this run was trained with --split-seed {trained}, not {wanted}; leave the option out")
    return trained if trained is not None else wanted or 0


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)

        def show(note: str, done: int, total: int) -> None:
            bar.update(task, description=note[:80], completed=done, total=total)

        yield show


def _counts(result: Any, names: tuple[str, ...]) -> dict[str, int]:
    return {name: len(getattr(result, name)) for name in names}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _warn(problems: Any) -> None:
    for id, problem in problems.items():
        typer.echo(f"prvr: {id}: {problem}", err=True)


def _print(as_json: bool, value: Any, lines: list[str]) -> None:
    if as_json:
        typer.echo(json.dumps(value, ensure_ascii=False))
    else:
        for line in lines:
            typer.echo(line)


def _fail(text: str, *, status: int) -> None:
    typer.echo(f"prvr: {' '.join(text.split())}", err=True)
    raise SystemExit(status)
