"""`prvr data ...`: packages of features and annotations, before anything is trained on them."""

from __future__ import annotations

import typer

from prvr.cli.terminal import app

data = typer.Typer(
    name="data",
    help="Feature packages: see that they are whole, and pack them for training.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data)
