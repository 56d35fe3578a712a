"""`prvr data convert`, `prvr data verify` and `prvr data export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from prvr.cli.data import data
from prvr.cli.terminal import Json, progress, show, show_extractions
from prvr.errors import SettingError


@data.command(epilog="Example: prvr data convert packages/tvr features/tvr --dtype float16")
def convert(
    package: Annotated[Path, typer.Argument(help="Folder of a published package.", metavar="ROOT/COLLECTION")],
    out: Annotated[Path, typer.Argument(help="Folder of the packed features; a run that was cut off goes on.")],
    visual_feature: Annotated[
        list[str] | None, typer.Option(help="A name below FeatureData; repeatable. By default all.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 for the numbers of the package, float16 for half the size.")] = "float32",
    frames: Annotated[int, typer.Option(help="Longer videos are sampled to so many frames.", min=1)] = 128,
    words: Annotated[int, typer.Option(help="So many words of a caption are kept.", min=1)] = 30,
    clips: Annotated[
        int, typer.Option(help="Keep this many clips of each video, too: MS-SL, GMMFormer and what follows them read 32.", min=0)
    ] = 0,
    whole: Annotated[bool, typer.Option("--whole", help="Keep all rows as they are, not sampled, cut or scaled.")] = False,
    as_json: Json = False,
) -> None:
    """Pack a published feature package for training: sampled and normalised once, read without copies."""
    from prvr.extract.convert import Sampling, convert_package

    with progress() as on_progress:
        done = convert_package(
            package,
            out,
            visual_features=visual_feature or (),
            sampling=None if whole else Sampling(frames, words, clips),
            dtype=_dtype(dtype),
            on_progress=on_progress,
        )
    show_extractions(as_json, out, done, verb="converted")


@data.command(epilog="Example: prvr data verify features/tvr")
def verify(
    features: Annotated[Path, typer.Argument(help="A packed folder, or a folder of them.")],
    as_json: Json = False,
) -> None:
    """See that packed features are what was written, by their checksums."""
    from prvr.features.verify import verify as run

    with progress() as on_progress:
        each = run(features, on_progress)
    show(as_json, {"features": str(features), "verified": each}, [f"{name}: {count} items" for name, count in each.items()])


@data.command(epilog="Example: prvr data export features/tvr/i3d_resnet/frames i3d_resnet.hdf5")
def export(
    features: Annotated[Path, typer.Argument(help="A packed folder, such as FEATURES/NAME/frames.")],
    file: Annotated[Path, typer.Argument(help="The HDF5 file to write.")],
    as_json: Json = False,
) -> None:
    """Write packed features as an HDF5 file, a key per video or caption."""
    from prvr.features.export import export_hdf5

    with progress() as on_progress:
        count = export_hdf5(features, file, on_progress)
    show(as_json, {"file": str(file), "items": count}, [f"{file}: {count} items"])


def _dtype(name: str) -> Literal["float16", "float32"]:
    if name == "float16":
        return "float16"
    if name == "float32":
        return "float32"
    raise SettingError(f"dtype is {name!r}; it takes float16 or float32")
