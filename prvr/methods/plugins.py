"""External methods, which are outside of this package: a class in a file of the user's, or in an installed distribution.

A method is named `package.module:Class`. Its module is imported when the user names it, or has installed a distribution with an
entry point of the group `prvr.methods` that names it; never because a checkpoint or another file does.

The class is a `torch.nn.Module` with the parts of `contract.Model` and, beside them:

Config       the dataclass of its settings, with a default for each
objective    `objective(self, queries, videos, batch, epoch)`, the loss terms by name; None for a method that learns nothing
presets      optional: settings, training and distillation that differ from the defaults, by the preset's name
contrasts, profile, taught_fields, revision   optional, as in `contract.Method`
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from prvr.batch import Reading
from prvr.config import from_dict, to_dict
from prvr.errors import ModelError, PrvrError, SettingError, is_out_of_memory, nearest
from prvr.methods.contract import Embeddings, Method, Model, Terms
from prvr.methods.probe import probe

GROUP = "prvr.methods"
REFERENCE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)

# What a class must have, and the numbers of arguments that its methods are called with.
_CALLS: dict[str, tuple[int, ...]] = {
    "encode_queries(words, mask, places=None)": (2, 3),
    "encode_videos(frames, mask, places=None)": (2, 3),
    "score(queries, videos, mask)": (3,),
    "relevance(query, video)": (2,),
}
_OBJECTIVE = "objective(queries, videos, batch, epoch)"
_CONSTRUCTOR = "__init__(config, *, frame_columns, word_columns)"
_ATTRIBUTES = ("config", "reading", "embedding_fields", "frame_fields", "score_weights")
# Widths of the features that a class is tried with; none is a power of two that a model may have by itself.
_COLUMNS = {"frame_columns": 24, "word_columns": 20}
_EXAMPLE = "docs/tutorials/method.md has a whole method"


def entry_point_methods() -> dict[str, str]:
    """The methods that installed distributions bring, as MODULE:NAME by the name of their entry point. Imports none of them."""
    return {found.name: found.value for found in entry_points(group=GROUP) if REFERENCE.fullmatch(found.value)}


def reference_to(kind: type) -> str:
    """The name of a class as MODULE:CLASS.

    Raises:
        SettingError: the class is not in a module under its name, so no checkpoint can name it.
    """
    reference = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__" or not REFERENCE.fullmatch(reference):
        raise SettingError(
            f"a checkpoint cannot name the class {kind.__qualname__} of {kind.__module__}; write it at the top level of a file, "
            "such as mymethod.py, and import it from there"
        )
    return reference


@cache
def import_method(reference: str) -> Method:
    """Imports a method and checks that it has all parts of the contract.

    Raises:
        SettingError: there is no such module, or it has nothing of that name.
        ModelError: the module cannot be imported, or parts of the contract are missing; the text names them.
    """
    path, _, name = reference.partition(":")
    if path == "__main__":
        raise SettingError(f"{reference} is not in a module of its own; write the class into a file such as mymethod.py")
    module = _import(path, reference)
    found = vars(module).get(name)
    if isinstance(found, Method):
        return found
    if not isinstance(found, type):
        classes = [each for each, value in vars(module).items() if isinstance(value, type) and value.__module__ == path]
        known = nearest(name, classes) if classes else "it has no classes"
        raise SettingError(f"{reference}: {_place(module)} has no class {name!r}; {known}")
    check_class(found, reference)
    return _method_of(found)


def check_class(kind: type, reference: str) -> None:
    """Checks that a class has every part of the contract, as far as that shows without data.

    Raises:
        ModelError: parts are missing or of another form; one line names all of them.
    """
    lacking = [*_lacking_in_class(kind)]
    if not lacking:
        # What is set when a model is made.
        lacking = [*_lacking_in_model(_try(kind))]
    if lacking:
        raise ModelError(f"{reference} lacks {', '.join(lacking)}; {_EXAMPLE}")
    _check_settings(kind.Config, reference)  # type: ignore[attr-defined]


def check_model(model: nn.Module, reference: str) -> None:
    """Checks that a model has the attributes of the contract.

    Raises:
        ModelError: some are missing.
    """
    lacking = [*_lacking_in_model(model)]
    if lacking:
        raise ModelError(f"{reference} lacks {', '.join(lacking)}; {_EXAMPLE}")


def check_answers(model: Model, reference: str) -> None:
    """Checks what a model returns for a sentence of two words and a video of two frames.

    Raises:
        ModelError: it is not what the contract says, or the model's code fails.
    """
    try:
        queries, videos = probe(model)
        faults = [*_faults_of_embeddings("encode_queries", queries), *_faults_of_embeddings("encode_videos", videos)]
        faults = faults or [*_faults_of_fields(model, videos)] or [*_faults_of_scores(model, queries, videos)]
    except PrvrError:
        raise
    except Exception as problem:
        raise ModelError(
            f"{reference} fails on a sentence of two words and a video of two frames ({_in_a_line(problem)}); --debug shows where"
        ) from problem
    if faults:
        raise ModelError(f"{reference}: {'; '.join(faults)}; {_EXAMPLE}")


@contextmanager
def name_failures(reference: str) -> Iterator[None]:
    """Turns what an external method raises on its data into one line with its name.

    Raises:
        ModelError: it has raised something that is none of our errors.
    """
    try:
        yield
    except (PrvrError, OSError):
        raise
    except Exception as problem:
        if not REFERENCE.fullmatch(reference) or is_out_of_memory(problem):
            raise
        raise ModelError(f"{reference} fails on its data ({_in_a_line(problem)}); --debug shows where") from problem


def check_terms(terms: Any, reference: str) -> Terms:
    """Returns the loss terms of an objective.

    Raises:
        ModelError: they are not scalars by name.
    """
    if not isinstance(terms, Mapping) or not terms:
        raise ModelError(
            f"the objective of {reference} returns {_kind(terms)}; it returns loss terms by name: {{'triplet': loss}}"
        )
    for name, value in terms.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.ndim:
            raise ModelError(
                f"the loss term {name!r} of {reference} is {_kind(value)}; it is a tensor with one number, by its name"
            )
    return dict(terms)


def _import(path: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as problem:
        if problem.name is None or not f"{path}.".startswith(f"{problem.name}."):
            raise ModelError(f"{reference} cannot be imported ({_in_a_line(problem)}); install what it needs") from problem
        raise SettingError(
            f"there is no module {problem.name!r} for {reference}; run prvr in the folder that has it, or install it"
        ) from problem
    except (Exception, SystemExit) as problem:  # a file of the user's own
        raise ModelError(f"{reference} cannot be imported ({_in_a_line(problem)}); --debug shows where") from problem


def _method_of(kind: Any) -> Method:
    optional = {field.name for field in dataclasses.fields(Method)} - {"config", "model", "objective"}
    given = {name: getattr(kind, name) for name in optional if hasattr(kind, name)}
    return Method(kind.Config, kind, kind.objective, **given)


def _lacking_in_class(kind: Any) -> Iterator[str]:
    if not issubclass(kind, nn.Module):
        yield "torch.nn.Module as its base"
    config = getattr(kind, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        yield "Config (the dataclass of its settings)"
    else:
        without = [field.name for field in dataclasses.fields(config) if field.init and not _has_default(field)]
        if without:
            yield f"defaults in Config for {', '.join(without)}"
    if not _accepts(kind, 1, frame_columns=1, word_columns=1) or kind.__init__ is nn.Module.__init__:
        yield _CONSTRUCTOR
    for signature, counts in _CALLS.items():
        # One more for `self`.
        if not all(_accepts(getattr(kind, signature.partition("(")[0], None), 1 + count) for count in counts):
            yield signature
    presets = getattr(kind, "presets", {})
    if not isinstance(presets, Mapping) or not all(isinstance(changes, Mapping) for changes in presets.values()):
        yield "a mapping of settings for each name in its presets"
    objective = getattr(kind, "objective", 0)
    if objective is not None and not _accepts(objective, 5):
        yield f"{_OBJECTIVE} (None for a method that learns nothing)"


def _lacking_in_model(model: Any) -> Iterator[str]:
    if model is None:
        return
    yield from (name for name in _ATTRIBUTES if not hasattr(model, name))
    if hasattr(model, "reading") and not isinstance(model.reading, Reading):
        yield "a prvr.batch.Reading as its reading"


def _try(kind: Any) -> nn.Module | None:
    """A model with default settings; None where it cannot be made for these widths, which its data will tell."""
    try:
        with torch.random.fork_rng(devices=[]):
            made: nn.Module = kind(kind.Config(), **_COLUMNS)
            return made
    except Exception:
        return None


def _check_settings(config: Any, reference: str) -> None:
    """Checks that default settings come back from a checkpoint as they were."""
    try:
        stored = to_dict(config())
        back = from_dict(config, json.loads(json.dumps(stored)))
    except (PrvrError, TypeError, ValueError, NameError) as problem:
        raise ModelError(
            f"the Config of {reference} cannot be kept in a checkpoint ({_in_a_line(problem)}); its fields are int, float, bool, "
            "str, Literal, or tuples of these"
        ) from problem
    if to_dict(back) != stored:
        changed = [name for name, value in to_dict(back).items() if value != stored[name]]
        raise ModelError(f"the Config of {reference} comes back from a checkpoint with another {', '.join(changed)}")


def _faults_of_embeddings(call: str, made: object) -> Iterator[str]:
    if not isinstance(made, tuple) or not made or not all(isinstance(field, Tensor) and len(field) == 1 for field in made):
        yield f"{call} returns {_kind(made)}; it returns a tuple of tensors, a field each, whose first axis is that of its input"


def _faults_of_fields(model: Model, videos: Embeddings) -> Iterator[str]:
    names = model.embedding_fields
    if len(videos) != len(names):
        yield f"encode_videos returns {len(videos)} fields, and embedding_fields names {len(names)}"
        return
    for name in set(model.frame_fields) - set(names):
        yield f"frame_fields has {name!r}, which embedding_fields has not"
    for name, field in zip(names, videos, strict=True):
        if field.ndim != 3:
            yield f"field {name!r} of encode_videos has shape {tuple(field.shape)}; it is (V, P, D), a row for each part"
        elif name in model.frame_fields and field.shape[1] != 2:
            yield f"field {name!r} is one of frame_fields and has {field.shape[1]} rows for two frames"
    if model.score_weights is not None and len(model.score_weights) != len(names):
        yield f"score_weights has {len(model.score_weights)} weights for {len(names)} fields; take one each, or None"


def _faults_of_scores(model: Model, queries: Embeddings, videos: Embeddings) -> Iterator[str]:
    mask = torch.ones(1, 2, dtype=torch.bool, device=videos[0].device)
    with torch.no_grad():
        scores, curve = model.score(queries, videos, mask), model.relevance(queries, videos)
    if not isinstance(scores, Tensor) or scores.shape != (1, 1):
        yield f"score returns {_kind(scores)} for one query and one video; it returns a tensor (Q, V)"
    if not isinstance(curve, Tensor) or curve.ndim != 1:
        yield f"relevance returns {_kind(curve)}; it returns a tensor (P,)"


def _accepts(function: Any, positional: int, **named: int) -> bool:
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*range(positional), **named)
    except TypeError:
        return False
    except ValueError:  # a function without a signature
        return True
    return True


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _place(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__


def _kind(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _in_a_line(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:300]
