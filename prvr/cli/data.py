"""`prvr data ...`: feature packages and packed features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Json, Method, Methods, app, progress, show, show_extractions
from prvr.errors import SettingError

HELP = "Feature packages: check them, and pack them for training."
data = typer.Typer(name="data", help=HELP, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data)


@data.command(epilog="Example: prvr data check packages")
def check(
    root: Annotated[
        Path, typer.Argument(help="Folder of packages, or a package: with FeatureData and TextData.", metavar="ROOT")
    ],
    thorough: Annotated[bool, typer.Option("--thorough", help="Read every item instead of a sample of each file.")] = False,
    as_json: Json = False,
) -> None:
    """List the contents of published packages, what does not fit, and what they can be used for.

    Exit status 1 if no package can be used for anything.
    """
    from prvr.features.package_check import SAMPLE, check_package, find_packages

    with progress() as on_progress:
        reports = [
            check_package(path, most=None if thorough else SAMPLE, on_progress=on_progress) for path in find_packages(root)
        ]
    show(as_json, [report.as_dict() for report in reports], [line for report in reports for line in str(report).split("\n")])
    if not any(use.possible for report in reports for use in report.uses.values()):
        raise typer.Exit(1)


@data.command(epilog="Example: prvr data convert packages/tvr features/tvr --dtype float16")
def convert(
    package: Annotated[Path, typer.Argument(help="Folder of a published package.", metavar="ROOT/COLLECTION")],
    out: Annotated[Path, typer.Argument(help="Folder of the packed features; an interrupted command continues.", metavar="OUT")],
    visual_feature: Annotated[list[str] | None, typer.Option(help="Name in FeatureData; repeatable.", show_default="all")] = None,
    dtype: Annotated[str, typer.Option(help="float32 keeps the numbers of the package, float16 halves the size.")] = "float32",
    frames: Annotated[int, typer.Option(help="Longer videos are sampled to this number of frames.", min=1)] = 128,
    words: Annotated[int, typer.Option(help="Number of words of a caption that are kept.", min=1)] = 30,
    clips: Annotated[
        int,
        typer.Option(help="Also keep this number of clips of each video; MS-SL, GMMFormer and what builds on it read 32.", min=0),
    ] = 0,
    whole: Annotated[bool, typer.Option("--whole", help="Keep all rows as they are, not sampled, cut or scaled.")] = False,
    as_json: Json = False,
) -> None:
    """Pack a published feature package for training: sampled and normalised once, read without copies."""
    from prvr.extract.convert import Sampling, convert_package
    from prvr.features import as_dtype

    sampling, kind = None if whole else Sampling(frames, words, clips), as_dtype(dtype)
    with progress() as tell:
        done = convert_package(
            package, out, visual_features=visual_feature or (), sampling=sampling, dtype=kind, on_progress=tell
        )
    show_extractions(as_json, out, done, verb="converted")


@data.command(epilog="Example: prvr data verify features/tvr")
def verify(
    features: Annotated[Path, typer.Argument(help="A packed folder, or a folder of them.", metavar="FEATURES")],
    as_json: Json = False,
) -> None:
    """Check packed features against their checksums."""
    from prvr.features.verify import verify as run

    with progress() as on_progress:
        each = run(features, on_progress)
    show(as_json, {"features": str(features), "verified": each}, [f"{name}: {count} items" for name, count in each.items()])


@data.command(epilog="Example: prvr data upload features s3://bucket/features")
def upload(
    features: Annotated[Path, typer.Argument(help="Folder of packed features.", metavar="FEATURES")],
    url: Annotated[str, typer.Argument(help="Where they are copied to, by fsspec: s3://BUCKET/FOLDER.", metavar="URL")],
    as_json: Json = False,
) -> None:
    """Copy packed features to object storage, in place of those that are there; an interrupted command continues.

    One upload at a time to a URL.
    """
    from prvr.features.object_storage import upload_features

    with progress() as on_progress:
        count = upload_features(features, url, on_progress)
    show(as_json, {"url": url, "files": count}, [f"{url}: {count} files"])


@data.command(epilog="Example: prvr data download s3://bucket/features features")
def download(
    url: Annotated[str, typer.Argument(help="Where prvr data upload copied features to.", metavar="URL")],
    features: Annotated[Path, typer.Argument(help="A new folder.", metavar="FEATURES")],
    as_json: Json = False,
) -> None:
    """Copy packed features from object storage, and check them; an interrupted command continues."""
    from prvr.features.object_storage import download_features

    with progress() as on_progress:
        count = download_features(url, features, on_progress)
    show(as_json, {"features": str(features), "files": count}, [f"{features}: {count} files"])


@data.command(epilog="Example: prvr data denoise denoised --recipe run/recipe.toml --below 100")
def denoise(
    out: Annotated[
        Path, typer.Argument(help="Folder of the teachers and of captions.json; an interrupted command continues.", metavar="OUT")
    ],
    recipe: Annotated[list[Path], typer.Option(help="How a teacher is trained, such as RUN/recipe.toml; repeatable.")],
    below: Annotated[int, typer.Option(help="Keep a caption whose own video has a better rank than this; 1 is the best.", min=2)],
    combine: Annotated[str, typer.Option(help="How several teachers' ranks are combined: mean, median, any or all.")] = "mean",
    folds: Annotated[int, typer.Option(help="Parts of the videos; each is ranked by a teacher of the others.")] = 5,
    method: Methods = None,
    as_json: Json = False,
) -> None:
    """Find the training captions that describe their own video, for prvr train --captions OUT/captions.json (TeachText).

    No teacher has learned the captions that it ranks, so that there are as many trainings as parts.
    """
    from prvr.train.denoising import CAPTIONS, denoise_captions
    from prvr.train.experiment import read_recipe

    with progress() as on_progress:
        kept, of = denoise_captions(
            out, [read_recipe(path) for path in recipe], below=below, combine=combine, folds=folds, on_progress=on_progress
        )
    path = out / CAPTIONS
    show(as_json, {"captions": str(path), "kept": kept, "of": of}, [f"{path}: {kept} of {of} captions are kept"])


@data.command(epilog="Example: prvr data export features/clip/frames frames.parquet")
def export(
    source: Annotated[
        str,
        typer.Argument(help="A packed folder, such as FEATURES/NAME/frames, or an index for Parquet.", metavar="FEATURES|INDEX"),
    ],
    file: Annotated[Path, typer.Argument(help="The file to write: FILE.parquet, or FILE.hdf5 for HDF5.", metavar="FILE")],
    branch: Annotated[str, typer.Option(help="Of an index: the branch to write.", show_default="all")] = "",
    model: Annotated[Path | None, typer.Option(help="Of an index at a URL: the run that made it.")] = None,
    method: Method = "",
    as_json: Json = False,
) -> None:
    """Write features or embeddings for other programs: Parquet with a row for each frame, or HDF5 with a key for each item.

    The columns are video (caption, of text), branch (of an index), frame, seconds and vector: docs/data.md.
    """
    from prvr.features.tables import SUFFIX
    from prvr.index.place import FILE, index_folder_of

    is_index = "://" in source or (index_folder_of(Path(source)) / FILE).exists()
    if not is_index and (branch or model is not None):
        raise SettingError(f"--branch and --model are of an index, and there is none in {source}; leave them out")
    if is_index and file.suffix != SUFFIX:
        raise SettingError(f"an index is written as Parquet; name the file {file.stem}{SUFFIX}, not {file.name}")
    with progress() as on_progress:
        if is_index:
            from prvr.search.exporting import export_embeddings

            count = export_embeddings(source, file, branch=branch, model=model, method=method or None, on_progress=on_progress)
        else:
            from prvr.features.export import export_hdf5
            from prvr.features.tables import export_parquet

            count = (export_parquet if file.suffix == SUFFIX else export_hdf5)(source, file, on_progress)
    show(as_json, {"file": str(file), "items": count}, [f"{file}: {count} items"])
