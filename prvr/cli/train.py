"""`prvr train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Data, Device, Features, Json, app, progress, show
from prvr.errors import SettingError


@app.command(epilog="Example: prvr train videos features run --frames clip --words roberta_base --teacher clip lr=3e-4")
def train(
    data: Data,
    features: Features,
    out: Annotated[Path, typer.Argument(help="Folder of the run; a run that was cut off goes on.")],
    words: Annotated[str, typer.Option(help="Whose words the student reads: a name below FEATURES.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Changes to the preset, key=value.")] = None,
    frames: Annotated[str, typer.Option(help="Whose frames the student reads; by default the first teacher's.")] = "",
    teacher: Annotated[list[str] | None, typer.Option(help="Who teaches: a name below FEATURES; repeatable.")] = None,
    preset: Annotated[str, typer.Option(help="What to start from.")] = "dl-dkd++",
    split_seed: Annotated[int, typer.Option(help="Of the division into train, dev and test.")] = 0,
    protocol: Annotated[
        str, typer.Option(help="What chooses the epoch: honest (dev) or community (the reported split).")
    ] = "honest",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train a student on a folder of videos with captions, or on a package; the best epoch on the dev split is kept."""
    from prvr import presets
    from prvr.config import override
    from prvr.protocols import open_splits
    from prvr.train import Data as TrainingData
    from prvr.train import Recipe
    from prvr.train import train_student as run
    from prvr.workspace import student_features

    recipe = presets.preset(preset)
    changed, training = override([recipe.settings, recipe.training], settings or [])
    teachers = teacher or []
    if not frames and not teachers:
        raise SettingError("say whose frames the student reads: --teacher NAME, or --frames NAME to learn without a teacher")
    given, reads = student_features(features, frames=frames or (teachers or [""])[0], words=words, teachers=teachers)
    splits = open_splits(data, protocol=protocol, seed=split_seed)
    with progress() as on_progress:
        best = run(
            out,
            Recipe(recipe.method, changed, training),
            reads=reads,
            data=TrainingData(splits.train, splits.dev, given),
            device=device,
            notes={"split_seed": split_seed, "protocol": splits.protocol},
            on_progress=on_progress,
        )
    about = best.about
    reached = (
        f"best epoch {about['epoch'] + 1}, SumR {about['dev']['sumr']:.1f} on {splits.dev.split}, protocol {splits.protocol}"
    )
    line = f"{out}: {reached}; curves in {out / 'curves.png'}"
    show(as_json, {"run": str(out), "fingerprint": best.fingerprint, **about}, [line])
