"""A checkpoint as a repository of the hub (`prvr.methods.repository`), with a model card of what its run folder holds.

Nothing in the card is guessed: what a run does not say is not in it. Places of this machine stay here: of folders of data, of
features and of encoders the last names are left.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from torch import nn

from prvr.encoders.hub import hub_errors
from prvr.errors import DataError, SettingError, require
from prvr.evaluate.metrics import LABELS
from prvr.features.sources import Source
from prvr.files import new_folder, write_whole
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.repository import CARD, RECIPE, encoders_elsewhere, is_folder, require_name, sources_without_places
from prvr.train.experiment import Experiment, read_recipe, recipe_text

# As the hub writes licences: apache-2.0, cc-by-nc-4.0, other.
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*", re.ASCII)
# A path within a text: /a/b, ~/a, ../a, C:\\a, also after a colon as in vectors:/a; no URL and no OWNER/NAME.
PLACE = re.compile(r"(?:(?<![\w.:/\\~])|(?<=\w\w:))(?:~|\.\.?|[A-Za-z]:)?[\\/](?![\\/])\S+")


class Pushed(NamedTuple):
    """The repository, its address, the fingerprint of its model, and the encoders, by name, that the hub does not have."""

    repository: str
    address: str
    fingerprint: str
    encoders_elsewhere: dict[str, str]


def push_checkpoint(
    run: str | Path, repository: str, *, licence: str, private: bool = False, method: str | type | None = None
) -> Pushed:
    """Writes a checkpoint and its card to a repository of the hub, or to a new folder to look at.

    Args:
        repository: OWNER/NAME, or the path of a folder.
        licence: of the weights, as the hub writes it, such as apache-2.0.
        private: for a new repository on the hub.

    Raises:
        SettingError: the licence or the repository has no name of the hub, or the folder exists.
        ModelError: there is no checkpoint, it has no weights, or the hub does not take it.
    """
    if not LICENCE.fullmatch(licence):
        raise SettingError(f"the licence is {licence!r:.80}; write it as the hub does: apache-2.0, mit, cc-by-nc-4.0, other ...")
    checkpoint = checkpoints.load(run, method=method)
    assert isinstance(checkpoint.model, nn.Module)
    if not checkpoint.model.state_dict():
        name = checkpoint.sources.frames.source or checkpoint.sources.frames.name
        raise SettingError(f"{run} is an encoder alone and has no weights of its own; name the encoder instead: --encoder {name}")
    without_places = replace(
        checkpoint, sources=sources_without_places(checkpoint.sources), about=_without_places(checkpoint.about)
    )
    elsewhere = encoders_elsewhere(without_places.sources)
    if is_folder(repository):
        folder = Path(os.path.expanduser(repository))
        if folder.exists():
            raise SettingError(f"{folder} is there already; name a new folder, or OWNER/NAME on the hub")
        with new_folder(folder) as part:
            _write(without_places, Path(run), part, repository=folder.name, licence=licence)
        return Pushed(repository, str(folder), checkpoint.fingerprint, elsewhere)
    hub = require("huggingface_hub", extra="encoders")
    name = require_name(repository)
    with tempfile.TemporaryDirectory() as made:
        _write(without_places, Path(run), Path(made), repository=name, licence=licence)
        with hub_errors(f"cannot push to {name}", "log in with a token that may write (hf auth login), and check the name"):
            api = hub.HfApi()
            if private and api.repo_exists(name) and not api.model_info(name).private:
                raise SettingError(f"{name} is there already and public; make it private on its page, or name another")
            address = str(api.create_repo(name, private=private, exist_ok=True))
            # The recipe of another run is not to stand beside these weights.
            is_stale = not (Path(made) / RECIPE).exists() and api.file_exists(name, RECIPE)
            message = f"prvr checkpoint {checkpoint.fingerprint}"
            api.upload_folder(
                repo_id=name, folder_path=made, commit_message=message, delete_patterns=[RECIPE] if is_stale else None
            )
    return Pushed(name, address, checkpoint.fingerprint, elsewhere)


def _write(checkpoint: Checkpoint, run: Path, folder: Path, *, repository: str, licence: str) -> None:
    recipe = _recipe(run)
    if recipe is not None:
        without = replace(recipe, data="", features="", out="", teacher_run=())
        write_whole(folder / RECIPE, recipe_text(without).encode())
    write_whole(folder / CARD, card(checkpoint, recipe, repository=repository, licence=licence).encode())
    checkpoints.save(checkpoint, folder)


def card(checkpoint: Checkpoint, recipe: Experiment | None, *, repository: str, licence: str) -> str:
    """The model card of a checkpoint, as Markdown with the hub's metadata."""
    assert isinstance(checkpoint.model, nn.Module)
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    head = ["---", f"license: {licence}", "library_name: prvr", "tags:", "- prvr", "- partially-relevant-video-retrieval", "---"]
    text = [
        *head,
        f"# {repository}",
        f"A checkpoint of the method `{checkpoint.method}` for partially relevant video retrieval with prvr: {parameters:,} "
        f"parameters, fingerprint `{checkpoint.fingerprint}`. A sentence finds the untrimmed videos that hold its moment.",
        *_use_lines(checkpoint, repository),
        "## What it reads",
        *_encoder_lines(checkpoint),
    ]
    sections = {
        "Training data": [*_data_lines(checkpoint.about)],
        "Figures": [*_figure_lines(checkpoint.about)],
        "Command": [*_command_lines(recipe)],
    }
    for title, lines in sections.items():
        text += [f"## {title}", *lines] if lines else []
    text += ["## Licence", f"Of these weights: {licence}. Encoders and data have licences of their own."]
    return "\n\n".join(["\n".join(text[: len(head)]), *text[len(head) :]]) + "\n"


def _use_lines(checkpoint: Checkpoint, repository: str) -> Iterator[str]:
    """The commands that use it, as far as encoders can make what it reads."""
    sources = checkpoint.sources
    parts = [part for source in sources.each for part in source.parts or (source,)]
    if sources.subtitles is not None or any(part.source is None and part.fingerprint is None for part in parts):
        yield f"```\nprvr evaluate PACKAGE FEATURES --model {repository}\n```"
        return
    model, pull = repository, ""
    if encoders_elsewhere(sources):
        model, pull = "FOLDER", f"prvr checkpoint pull {repository} FOLDER --encoder ENCODER\n"
    yield f'```\n{pull}prvr index VIDEOS --model {model}\nprvr search VIDEOS "a dog runs"\n```'


def _encoder_lines(checkpoint: Checkpoint) -> Iterator[str]:
    for what, source in zip(("frames", "text", "subtitles"), checkpoint.sources.each, strict=False):
        for part in source.parts or (source,):
            yield f"- {what}: {_encoder(part, checkpoint.sources.frames.rate if what == 'frames' else None)}"


def _encoder(source: Source, rate: float | None) -> str:
    place = f"`{source.source}` on the hub" if source.source else f"`{source.name}`, which is not on the hub"
    known = f", fingerprint `{source.fingerprint}`" if source.fingerprint else ", features of a published package"
    sampled = "" if rate is None else f", {rate:g} frames per second"
    return f"{place}, {source.columns} columns{known}{sampled}"


def _data_lines(about: Mapping[str, Any]) -> Iterator[str]:
    names = {"collection": "collection", "teachers": "teachers", "protocol": "protocol", "split_seed": "seed of the splits"}
    for key, name in names.items():
        value = about.get(key)
        if value not in (None, "", []):
            yield f"- {name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
    if isinstance(imported := about.get("imported"), Mapping) and "file" in imported:
        yield f"- converted from `{imported['file']}` (SHA-256 `{imported.get('sha256', '')}`), trained by its authors"


def _figure_lines(about: Mapping[str, Any]) -> Iterator[str]:
    dev = about.get("dev")
    if not isinstance(dev, Mapping):
        return
    known = {label: float(dev[name]) for name, label in LABELS.items() if isinstance(dev.get(name), int | float)}
    epoch = f", epoch {about['epoch'] + 1}" if isinstance(about.get("epoch"), int) else ""
    split = (
        "the test split, which chose the epoch, too" if about.get("protocol") == "community" else "the split that chose the epoch"
    )
    counts = ", ".join(f"{dev[what]} {what}" for what in ("queries", "videos") if isinstance(dev.get(what), int))
    yield f"On {split}{epoch}{f' ({counts})' if counts else ''}:"
    # The mean reciprocal rank is below 1, the others are percent or ranks.
    values = [f"{value:.3f}" if label == LABELS["mrr"] else f"{value:.1f}" for label, value in known.items()]
    rows = [list(known), ["---"] * len(known), values]
    yield "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if isinstance(fusion := about.get("fusion"), Mapping):
        sums = ", ".join(f"{value:.1f} at {weight}" for weight, value in fusion["dev SumR"].items())
        yield f"These are of the student alone. Beside its teacher, SumR by its weight: {sums}; this is {fusion['weight']}."
    if about.get("untrained"):
        branches = ", ".join(branch or "the model" for branch in about["untrained"])
        yield f"Did not learn in training: {branches}."


def _command_lines(recipe: Experiment | None) -> Iterator[str]:
    if recipe is not None:
        runs = "".join(f" --teacher-run {Path(run).name}" for run in recipe.teacher_run)
        yield f"`{RECIPE}` has every setting:"
        yield f"```\nprvr train DATA FEATURES OUT --recipe {RECIPE}{runs}\n```"


def _recipe(run: Path) -> Experiment | None:
    """The recipe that a run folder holds, or the folder of its seeds; None if none can be read."""
    try:
        return read_recipe(run / RECIPE)
    except (SettingError, DataError, OSError):
        return None


def _without_places(value: Any) -> Any:
    """A JSON value in which paths of a machine are their last names."""
    if isinstance(value, dict):
        return {_without_places(key): _without_places(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_places(one) for one in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
        return PLACE.sub(lambda found: PureWindowsPath(found[0]).name, value)
    return value
