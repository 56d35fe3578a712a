"""`prvr fuse`: a teacher beside a trained student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Data, Features, Json, Method, app, show


@app.command(epilog="Example: prvr fuse videos features run fused --teacher clip")
def fuse(
    data: Data,
    features: Features,
    model: Annotated[Path, typer.Argument(help="Folder of the student's run.", metavar="RUN")],
    out: Annotated[Path, typer.Argument(help="Folder of the checkpoint of both.", metavar="OUT")],
    teacher: Annotated[str, typer.Option(help="Name of the teacher in FEATURES.")],
    method: Method = "",
    as_json: Json = False,
) -> None:
    """Add a zero-shot teacher's score to a student's; the teacher's weight is chosen on the dev split of the student's run."""
    from prvr.datasets.splits import open_splits
    from prvr.evaluate.evaluation import split_seed_of
    from prvr.features.shelf import teacher_features
    from prvr.methods.checkpoint import features_for, load, save, zero_shot_checkpoint
    from prvr.train.fusion import fuse as fuse_models

    student, given = load(model, method=method or None), teacher_features(features, teacher)
    splits = open_splits(data, protocol=student.about.get("protocol", "honest"), seed=split_seed_of(student))
    found = fuse_models(student, features_for(features, student), zero_shot_checkpoint(given), given, dev=splits.dev)
    save(found.checkpoint, out)
    value = {"model": str(out), "teacher_weight": found.weight, "dev_sumr": found.sums, "protocol": splits.protocol}
    reached = f"SumR {found.sums[found.weight]:.1f} on {splits.dev.split}"
    alone = f"{found.sums[0.0]:.1f} the student alone, {found.sums[1.0]:.1f} the teacher alone"
    show(as_json, value, [f"{out}: the teacher's weight is {found.weight:g}; {reached} ({alone}), protocol {splits.protocol}"])
