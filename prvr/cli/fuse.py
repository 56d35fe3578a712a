"""`prvr fuse`: a teacher beside a trained student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Data, Features, Json, app, show


@app.command(epilog="Example: prvr fuse videos features run fused --teacher clip")
def fuse(
    data: Data,
    features: Features,
    model: Annotated[Path, typer.Argument(help="Folder of the student's run.")],
    out: Annotated[Path, typer.Argument(help="Folder of the checkpoint of both.")],
    teacher: Annotated[str, typer.Option(help="Who stands beside it: a name below FEATURES.")],
    as_json: Json = False,
) -> None:
    """Let a zero-shot teacher answer beside a student; how much it weighs is found on the dev split of the student's run."""
    from prvr.datasets.splits import open_splits
    from prvr.features.shelf import teacher_features
    from prvr.methods import checkpoint as checkpoints
    from prvr.methods.checkpoint import features_for
    from prvr.methods.zero_shot import ZeroShotConfig
    from prvr.train.fusion import fuse as put_together

    student = checkpoints.load(model)
    about = student.about
    splits = open_splits(data, protocol=about.get("protocol", "honest"), seed=about.get("split_seed") or 0)
    given = teacher_features(features, teacher)
    alone = checkpoints.build("zero_shot", ZeroShotConfig(), given.sources)
    found = put_together(student, features_for(features, student), alone, given, dev=splits.dev)
    checkpoints.save(found.checkpoint, out)
    value = {"model": str(out), "teacher_weight": found.weight, "dev_sumr": found.sums, "protocol": splits.protocol}
    reached = f"SumR {found.sums[found.weight]:.1f} on {splits.dev.split}"
    alone_reach = f"{found.sums[0.0]:.1f} the student alone, {found.sums[1.0]:.1f} the teacher alone"
    show(as_json, value, [f"{out}: the teacher weighs {found.weight:g}; {reached} ({alone_reach}), protocol {splits.protocol}"])
