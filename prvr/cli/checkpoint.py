"""`prvr checkpoint ...`: checkpoints that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Json, app, show

checkpoint = typer.Typer(
    name="checkpoint",
    help="Checkpoints that were made elsewhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(checkpoint)


@checkpoint.command("import", epilog="Example: prvr checkpoint import model.ckpt run --visual-feature i3d_resnet")
def import_(
    model: Annotated[Path, typer.Argument(help="A model.ckpt that the authors of a method published.")],
    out: Annotated[Path, typer.Argument(help="Folder of the imported checkpoint.")],
    visual_feature: Annotated[str, typer.Option(help="What its frames are called in the package: i3d_resnet for TVR, i3d ...")],
    preset: Annotated[str, typer.Option(help="Settings that the file does not store, such as those of a collection.")] = "",
    as_json: Json = False,
) -> None:
    """Turn a published checkpoint into one of ours. No code in the file is run; a file that names any is refused."""
    from torch import nn

    from prvr.papers.authors import import_checkpoint

    done = import_checkpoint(model, out, visual_feature=visual_feature, preset_name=preset)
    made = done.checkpoint
    assert isinstance(made.model, nn.Module)
    parameters = sum(parameter.numel() for parameter in made.model.parameters())
    reads = " and ".join(f"{source.name} ({source.columns} columns)" for source in (made.reads.frames, made.reads.text))
    lines = [f"{out}: {made.method}, {' + '.join(made.model.embedding_fields)}, {parameters:,} parameters; it reads {reads}"]
    if done.left_out:
        lines.append(f"left out, because no score depends on them: {', '.join(done.left_out)}")
    value = {"checkpoint": str(out), "fingerprint": made.fingerprint, "parameters": parameters, **made.about}
    show(as_json, value, lines)
