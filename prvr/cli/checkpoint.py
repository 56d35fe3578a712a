"""`prvr checkpoint ...`: checkpoints of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prvr.cli.terminal import Json, app, show

HELP = "Checkpoints of other programs."
checkpoint = typer.Typer(name="checkpoint", help=HELP, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(checkpoint)


@checkpoint.command("import", epilog="Example: prvr checkpoint import model.ckpt run --visual-feature i3d_resnet")
def import_(
    model: Annotated[Path, typer.Argument(help="A model.ckpt that the authors of a method published.")],
    out: Annotated[Path, typer.Argument(help="Folder of the imported checkpoint.")],
    visual_feature: Annotated[str, typer.Option(help="Name of its frames in the package: i3d_resnet for TVR, i3d ...")],
    preset: Annotated[str, typer.Option(help="Preset for settings that are not in the file, such as those of a data set.")] = "",
    as_json: Json = False,
) -> None:
    """Convert a published checkpoint. No code in the file is run; a file that contains code is refused."""
    from torch import nn

    from prvr.papers.authors import import_checkpoint

    imported = import_checkpoint(model, out, visual_feature=visual_feature, preset_name=preset)
    made = imported.checkpoint
    assert isinstance(made.model, nn.Module)
    parameters = sum(parameter.numel() for parameter in made.model.parameters())
    reads = " and ".join(f"{source.name} ({source.columns} columns)" for source in (made.sources.frames, made.sources.text))
    lines = [f"{out}: {made.method}, {' + '.join(made.model.embedding_fields)}, {parameters:,} parameters; it reads {reads}"]
    if imported.left_out:
        lines.append(f"left out, because no score depends on them: {', '.join(imported.left_out)}")
    value = {"checkpoint": str(out), "fingerprint": made.fingerprint, "parameters": parameters, **made.about}
    show(as_json, value, lines)
