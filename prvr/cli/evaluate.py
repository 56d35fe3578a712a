"""`prvr evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prvr.cli.terminal import Device, Features, Json, Videos, app, show
from prvr.errors import SettingError

if TYPE_CHECKING:
    from prvr.checkpoint import Checkpoint
    from prvr.datasets import Dataset
    from prvr.features import FeatureSet


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
    show(as_json, {"split": split, **result.retrieval.as_dict(), "moments": moments}, lines)


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
