"""Checkpoints as repositories of the Hugging Face hub, which are files from strangers.

config.json, model.safetensors   a checkpoint (`prvr.methods.checkpoint`); its encoders have names of the hub, or none
README.md                        the model card; recipe.toml: the settings of the training, where they are known

Weights are read as safetensors and nothing else. A repository names no file and no folder of this machine, and no class that is
imported: an external method must be named by the user (`prvr.methods.plugins`). A folder can take the place of a repository.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prvr.encoders import open_encoder
from prvr.encoders.hub import cached_snapshot, download_files, download_text
from prvr.errors import ModelError, PrvrError, SettingError, one_line
from prvr.features.sources import FeatureSources, Source
from prvr.files import new_folder, parse_json, read_bytes, write_whole
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import CONFIG, MOST_CONFIG, WEIGHTS, Checkpoint

CARD, RECIPE = "README.md", "recipe.toml"
# The largest card or recipe that is pulled.
MOST_TEXT = 1 << 20
FILES = (CONFIG, WEIGHTS, CARD, RECIPE)
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# An encoder of the hub may also have a name without an owner, such as roberta-base.
ENCODER_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)


def is_folder(repository: str) -> bool:
    """Whether a repository is named by the path of a folder: one that exists, or that begins like a path."""
    return Path(repository).is_dir() or repository.startswith((".", "~", os.sep)) or Path(repository).is_absolute()


def require_name(repository: str) -> str:
    """Returns the name of a repository on the hub.

    Raises:
        SettingError: it is no such name.
    """
    if not NAME.fullmatch(repository):
        raise SettingError(f"{repository!r} is no name on the hub and no folder; write OWNER/NAME, or ./FOLDER")
    return repository


def open_checkpoint(model: str | Path, *, method: str | type | None = None) -> Checkpoint:
    """Opens the checkpoint in a folder, or of that name on the hub; what was downloaded once is not downloaded again.

    Raises:
        ModelError: as `checkpoints.load`, or the hub does not give it, or it names files of this machine.
    """
    name = Path(model).as_posix()
    if Path(model).exists() or not NAME.fullmatch(name):
        return checkpoints.load(model, method=method)
    cached = cached_snapshot(name)
    whole = cached is not None and all((cached / file).is_file() for file in (CONFIG, WEIGHTS))
    return _load(cached if cached is not None and whole else _download(name), name, method)


def pull_checkpoint(
    repository: str, folder: str | Path, *, encoders: Sequence[str | Path] = (), method: str | type | None = None
) -> Checkpoint:
    """Writes the checkpoint of a repository to a new folder, completely or not at all, and returns it.

    Args:
        encoders: folders of encoders that the model reads and that the hub does not have; fingerprints decide which.

    Raises:
        ModelError: as `open_checkpoint`, or the model does not read one of the encoders.
        DataError: its card or its recipe is too large.
        SettingError: the folder exists already, or the repository has no name of the hub.
    """
    folder = Path(folder)
    if folder.exists():
        raise SettingError(f"{folder} is there already; name another folder: prvr checkpoint pull {repository} FOLDER")
    place = Path(os.path.expanduser(repository)) if is_folder(repository) else _download(require_name(repository))
    pulled = _load(place, repository, method)
    checkpoint = replace(pulled, sources=_place_encoders(pulled.sources, encoders))
    with new_folder(folder) as part:
        # Written anew: nothing comes here that was not understood.
        checkpoints.save(checkpoint, part)
        for name in (CARD, RECIPE):
            if (place / name).is_file():
                text = read_bytes(place / name, most=MOST_TEXT)
                if name == RECIPE:
                    _check_recipe(text, repository)
                write_whole(part / name, text)
    return checkpoint


def sources_without_places(sources: FeatureSources) -> FeatureSources:
    """The sources as a repository may name them: encoders of the hub by name, others by fingerprint alone."""
    subtitles = None if sources.subtitles is None else _without_place(sources.subtitles)
    return FeatureSources(_without_place(sources.frames), _without_place(sources.text), subtitles)


def encoders_elsewhere(sources: FeatureSources) -> dict[str, str]:
    """The fingerprint, by name, of each encoder that is needed and has no name on the hub."""
    return {
        part.name: part.fingerprint
        for source in sources.each
        for part in (source.parts or (source,))
        if part.fingerprint and part.source is None
    }


def _download(name: str) -> Path:
    remedy = "check the name, go online, or bring a folder of it: prvr checkpoint pull on a machine that is online"
    # The settings first: an encoder alone may have gigabytes of weights.
    config = download_text(name, CONFIG, what="checkpoint", remedy=remedy, most=MOST_CONFIG)
    if config is None or not _is_of_checkpoint(config):
        raise ModelError(f"{name} on the hub is no checkpoint of prvr; an encoder alone: --encoder {name}")
    return download_files(name, FILES, what="checkpoint", remedy=remedy)


def _is_of_checkpoint(config: Path) -> bool:
    try:
        return {"method", "settings", "reads"} <= set(parse_json(read_bytes(config, most=MOST_CONFIG)))
    except (OSError, ValueError, TypeError, PrvrError):
        return False


def _check_recipe(text: bytes, repository: str) -> None:
    remedy = "ask its author to push it again"
    try:
        recipe = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"{RECIPE} of {repository} is not TOML ({one_line(problem)}); {remedy}") from None
    if named := [key for key in ("data", "features", "out", "teacher_run") if recipe.get(key)]:
        raise ModelError(f"{RECIPE} of {repository} names folders ({', '.join(named)}), which no repository may; {remedy}")


def _load(place: Path, name: str, method: str | type | None) -> Checkpoint:
    checkpoint = checkpoints.load(place, method=method, trusted=False)
    for source in checkpoint.sources.each:
        for part in (source, *source.parts):
            if part.source is not None and not _is_on_hub(part.source):
                raise ModelError(
                    f"the checkpoint {name} names {part.source!r:.80} as its encoder; a repository may name encoders of the hub "
                    "alone: ask its author to push it again"
                )
    return checkpoint


def _is_on_hub(source: str) -> bool:
    return bool(ENCODER_NAME.fullmatch(source)) and not Path(source).is_file()


def _without_place(source: Source) -> Source:
    kept = source.source if source.source is not None and _is_on_hub(source.source) else None
    return replace(source, source=kept, parts=tuple(map(_without_place, source.parts)))


def _place_encoders(sources: FeatureSources, encoders: Sequence[str | Path]) -> FeatureSources:
    """The sources with the places of encoders.

    Raises:
        ModelError: the model does not read one of them.
    """
    opened = [open_encoder(place) for place in encoders]
    places = {encoder.fingerprint: encoder.source for encoder in opened}
    needed = {part.fingerprint for source in sources.each for part in (source, *source.parts)}
    for encoder in opened:
        if encoder.fingerprint not in needed:
            read = " and ".join(f"{name} ({fingerprint})" for name, fingerprint in encoders_elsewhere(sources).items())
            raise ModelError(
                f"the encoder in {encoder.source} has fingerprint {encoder.fingerprint}, and the model reads {read or 'others'}; "
                "leave it out, or name the right one"
            )
    subtitles = None if sources.subtitles is None else _with_place(sources.subtitles, places)
    return FeatureSources(_with_place(sources.frames, places), _with_place(sources.text, places), subtitles)


def _with_place(source: Source, places: Mapping[str, str]) -> Source:
    parts = tuple(_with_place(part, places) for part in source.parts)
    return replace(source, source=places.get(source.fingerprint or "", source.source), parts=parts)
