"""The first page of the command: its version, the three commands of a new user, and all commands in groups."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

GROUPS = {
    "Search your videos": ("index", "search", "serve", "open", "cut", "mcp", "list", "setup", "doctor"),
    "Train": ("extract", "train", "fuse", "presets", "checkpoint", "data"),
    "Evaluate and compare": ("evaluate", "score", "compare", "report", "leaderboard"),
    "Papers": ("reproduce", "demo"),
}
FIRST = """prvr finds the video that contains a moment, and where in it.

  prvr index VIDEOS                     make an index of a folder of videos, or bring it up to date
  prvr search VIDEOS "a dog runs"       find a moment
  prvr serve VIDEOS                     search and watch in the browser

prvr doctor says what is missing on this machine; prvr --help lists all commands."""


class CommandGroups(TyperGroup):
    """The commands by what they are for; those of no group come last."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes a section for each group."""
        grouped = {name for names in GROUPS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in grouped)
        for title, names in {**GROUPS, "Other": others}.items():
            known = [(name, command) for name in names if (command := self.get_command(ctx, name)) is not None]
            if known:
                with formatter.section(title):
                    formatter.write_dl([(name, command.get_short_help_str(limit=200)) for name, command in known])


def show_version(wanted: bool) -> None:
    """Shows the version and ends the command."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"prvr {version('prvr')}")
        raise typer.Exit


def first_page(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)] = False,
) -> None:
    """Partially relevant video retrieval: type a sentence, get the video that contains the moment, and where in it."""
    if context.invoked_subcommand is None:
        typer.echo(FIRST)
