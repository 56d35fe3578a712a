"""`prvr checkpoint ...`: checkpoints of other programs, and on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Json, Method, app, show, warn

HELP = "Convert checkpoints of other programs; push checkpoints to the hub, pull them; export them as ONNX."
checkpoint = typer.Typer(name="checkpoint", help=HELP, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(checkpoint)


@checkpoint.command("import", epilog="Example: prvr checkpoint import model.ckpt run --visual-feature i3d_resnet")
def import_(
    model: Annotated[Path, typer.Argument(help="A model.ckpt that the authors of a method published.", metavar="MODEL")],
    out: Annotated[Path, typer.Argument(help="Folder of the imported checkpoint.", metavar="OUT")],
    visual_feature: Annotated[str, typer.Option(help="Name of its frames in the package: i3d_resnet for TVR, i3d ...")],
    words: Annotated[str, typer.Option(help="Name of its word features in the package.")] = "roberta",
    preset: Annotated[str, typer.Option(help="Preset for settings that are not in the file, such as those of a data set.")] = "",
    as_json: Json = False,
) -> None:
    """Convert a published checkpoint. No code in the file is run; a file that contains code is refused."""
    from torch import nn

    from prvr.papers.authors import import_checkpoint

    imported = import_checkpoint(model, out, visual_feature=visual_feature, words=words, preset_name=preset)
    made = imported.checkpoint
    assert isinstance(made.model, nn.Module)
    parameters = sum(parameter.numel() for parameter in made.model.parameters())
    reads = " and ".join(f"{source.name} ({source.columns} columns)" for source in (made.sources.frames, made.sources.text))
    lines = [f"{out}: {made.method}, {' + '.join(made.model.embedding_fields)}, {parameters:,} parameters; it reads {reads}"]
    if imported.left_out:
        lines.append(f"left out, because no score depends on them: {', '.join(imported.left_out)}")
    value = {"checkpoint": str(out), "fingerprint": made.fingerprint, "parameters": parameters, **made.about}
    show(as_json, value, lines)


@checkpoint.command(epilog="Example: prvr checkpoint push run me/dl-dkd-holidays --licence apache-2.0")
def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    repository: Annotated[
        str, typer.Argument(help="OWNER/NAME on the Hugging Face hub, or ./FOLDER to look at it first.", metavar="REPOSITORY")
    ],
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="Licence of the weights, as the hub writes it: apache-2.0, mit ...")
    ],
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    method: Method = "",
    as_json: Json = False,
) -> None:
    """Push a checkpoint to the Hugging Face hub, with a model card of what its run folder holds.

    The card has the encoders, data, protocol, figures, licence and command. No path of this machine leaves it.
    """
    from prvr.train.publishing import push_checkpoint

    pushed = push_checkpoint(run, repository, licence=licence, private=private, method=method or None)
    warn({name: "is not on the hub; who pulls names its folder: --encoder FOLDER" for name in pushed.encoders_elsewhere})
    show(as_json, pushed._asdict(), [f"{pushed.address}: {pushed.fingerprint}"])


@checkpoint.command(epilog="Example: prvr checkpoint pull me/dl-dkd-holidays run")
def pull(
    repository: Annotated[
        str, typer.Argument(help="OWNER/NAME on the Hugging Face hub, or ./FOLDER that was pushed to.", metavar="REPOSITORY")
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="A new folder for the checkpoint.", metavar="FOLDER", show_default="./NAME")
    ] = None,
    encoder: Annotated[
        list[str] | None, typer.Option(help="Folder of an encoder that it reads and the hub does not have; repeatable.")
    ] = None,
    method: Method = "",
    as_json: Json = False,
) -> None:
    """Pull a checkpoint from the Hugging Face hub. Weights are read as safetensors alone, and no code in the repository is run.

    Commands that take --model RUN also take OWNER/NAME, and keep the files in the hub's cache.
    """
    from prvr.methods.repository import encoders_elsewhere, pull_checkpoint

    target = folder or Path(Path(repository).name)
    pulled = pull_checkpoint(repository, target, encoders=encoder or (), method=method or None)
    elsewhere = encoders_elsewhere(pulled.sources)
    warn(
        {
            name: f"has fingerprint {key} and is not on the hub; name its folder: --encoder FOLDER"
            for name, key in elsewhere.items()
        }
    )
    reads = [source.source or source.name for source in (pulled.sources.frames, pulled.sources.text)]
    value = {"checkpoint": str(target), "fingerprint": pulled.fingerprint, "method": pulled.method, "reads": reads}
    show(as_json, value, [f"{target}: {pulled.method} {pulled.fingerprint}; it reads {' and '.join(reads)}"])


@checkpoint.command(epilog="Example: prvr checkpoint export gallery")
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of an index: the checkpoint in it.", metavar="RUN|INDEX")],
    folder: Annotated[
        Path | None, typer.Argument(help="A new folder for the export.", metavar="FOLDER", show_default="RUN/onnx")
    ] = None,
    method: Method = "",
    as_json: Json = False,
) -> None:
    """Write the query and the video encoder of a checkpoint as ONNX, and compare them with the checkpoint.

    prvr search takes the export of an index by itself, and starts without torch, if its text encoder is an ONNX folder, word
    vectors or a vocabulary. prvr index --model RUN takes the export in RUN/onnx along.
    """
    from prvr.index.place import FILE, MODEL, index_folder_of
    from prvr.methods.checkpoint import load
    from prvr.methods.export import export_checkpoint
    from prvr.methods.exported import FOLDER

    index = index_folder_of(run)
    place = index / MODEL if (index / FILE).is_file() else run
    target = folder or place / FOLDER
    done = export_checkpoint(load(place, method=method or None), target)
    lines = [f"{target}: queries differ by {done.queries:.1e}, videos by {done.videos:.1e}"]
    if not done.without_torch:
        lines.append(f"a search still takes torch: {done.reason}")
    show(as_json, {"export": str(target), **done._asdict()}, lines)
