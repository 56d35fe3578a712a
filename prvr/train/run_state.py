"""The state of a training run on disk: everything that is needed to continue with the same numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from prvr.errors import ModelError, PrvrError, SettingError, one_line
from prvr.evaluate.charts import Curve, draw_lines, house_style
from prvr.files import write_picture, write_whole
from prvr.methods.checkpoint import copy_tensor
from prvr.methods.migration import convert_settings
from prvr.nn.distillation import Distillation
from prvr.train.optimisation import Optimisation

STATE, HISTORY, CURVES, RECIPE = "state.safetensors", "history.jsonl", "curves.png", "recipe.toml"
# Files of scores on the test split that a run's folder may hold: of the model, and of each of its two branches alone.
TEST_SCORES, BRANCH_SCORES = "test.npz", ("test-first-branch.npz", "test-second-branch.npz")
# How stored names of tensors begin, and how they began in older versions; the student's have no beginning of their own.
_NAMES = {
    "student.": "",
    "guidance.maps.": "distiller.maps.0.",
    "guidance.": "distiller.",
    "feature_maps.": "distiller.maps.",
    "teacher_shares.": "distiller.shares.",
}


@dataclass(frozen=True)
class RunState:
    """The progress of a run. epoch: the next one; waited: epochs since the best SumR on the dev split."""

    epoch: int = 0
    best_sumr: float = -1.0
    waited: int = 0
    finished: bool = False
    history: Sequence[dict[str, Any]] = ()

    def after(self, record: dict[str, Any], *, epochs: int, patience: int) -> RunState:
        """The state after one more epoch: finished at `epochs`, or after more than `patience` epochs without a gain."""
        best = record["dev"]["sumr"] if record["best"] else self.best_sumr
        waited = 0 if record["best"] else self.waited + 1
        finished = self.epoch + 1 >= epochs or waited > patience
        return RunState(self.epoch + 1, best, waited, finished, (*self.history, record))


def save_state(out: Path, state: RunState, *, run: dict[str, Any], model: nn.Module, optimisation: Optimisation) -> None:
    """Writes model, optimiser and state as one file, whole or not at all; then the history for people to read."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()} | optimisation.tensors()
    numbers = optimisation.numbers()
    numbers["steps"] = {_name(name): count for name, count in numbers["steps"].items()}
    about = {"run": run, "state": vars(state), **numbers}
    # Copies: safetensors refuses names that share their numbers, as tied weights do.
    stored = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        stored[f"{kind}/{_name(name)}"] = copy_tensor(tensor)
    write_whole(out / STATE, safetensors.torch.save(stored, {"prvr": json.dumps(about)}))
    write_history(out, state)


def read_state(out: Path) -> bytes:
    """The stored state of a run; empty for a new run."""
    return (out / STATE).read_bytes() if (out / STATE).exists() else b""


def load_state(out: Path, stored: bytes, *, run: dict[str, Any], model: nn.Module, optimisation: Optimisation) -> RunState:
    """The state that `read_state` returned, copied into model and optimiser; a fresh state if that is empty.

    Raises:
        SettingError: the folder holds a run with other settings.
        ModelError: the state is broken.
    """
    if not stored:
        return RunState()
    # What a damaged state makes torch and safetensors raise is not documented.
    try:
        return _restore(out, stored, run, model, optimisation)
    except PrvrError:
        raise
    except Exception as problem:
        raise ModelError(f"{out / STATE} is broken ({one_line(problem)}); delete {out} and train again") from None


def _restore(out: Path, stored: bytes, run: dict[str, Any], model: nn.Module, optimisation: Optimisation) -> RunState:
    tensors = safetensors.torch.load(stored)
    header = stored[8 : 8 + int.from_bytes(stored[:8], "little")]
    about = json.loads(json.loads(header)["__metadata__"]["prvr"])
    _check_same_run(out, _current_run(about["run"]), run)
    # Running figures, too, which are no parameters.
    ours = model.state_dict()
    names = {_name(name): name for name in ours}
    named = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        named[f"{kind}/{names.get(_name(name), name)}"] = tensor
    with torch.no_grad():
        for name, tensor in ours.items():
            stored_tensor = named.pop(f"model/{name}")
            # `copy_` would repeat a smaller one.
            if stored_tensor.shape != tensor.shape:
                raise ValueError(f"{name} has the shape {tuple(stored_tensor.shape)}, not {tuple(tensor.shape)}")
            tensor.copy_(stored_tensor)
    steps = {names[_name(name)]: int(count) for name, count in about["steps"].items()}
    # Older versions did not count the steps of the run; a tensor with a gradient in each has made all of them.
    optimisation.load(named, {"updates": max(steps.values(), default=0), "scaler": {}, **about, "steps": steps})
    return _check_state(RunState(**about["state"]))


def _check_state(state: RunState) -> RunState:
    numbers = type(state.epoch) is type(state.waited) is int and isinstance(state.best_sumr, int | float)
    records = len(state.history) == state.epoch and all(
        {"epoch", "losses", "loss", "dev"} <= dict.keys(record) for record in state.history
    )
    if not numbers or type(state.finished) is not bool or not records:
        raise TypeError("its epochs are not those of a run")
    return state


def write_history(out: Path, state: RunState) -> None:
    """`history.jsonl`: a line per epoch with its losses, its figures on the dev split and its seconds."""
    lines = [json.dumps(record) + "\n" for record in state.history]
    write_whole(out / HISTORY, "".join(lines).encode())


def draw_curves(out: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Writes a PNG of the loss terms, and of SumR on the dev split with the best epoch marked, over epochs."""
    from matplotlib.figure import Figure

    epochs = [record["epoch"] + 1.0 for record in history]
    # A term may begin or end with an epoch, and may itself be called "total".
    names = dict.fromkeys(name for record in history for name in record["losses"])
    terms = [(name, [float(record["losses"].get(name, math.nan)) for record in history]) for name in names]
    terms.append(("total", [float(record["loss"]) for record in history]))
    sumr = [float(record["dev"]["sumr"]) for record in history]
    best = max(range(len(sumr)), key=sumr.__getitem__)
    with house_style():
        figure = Figure(figsize=(10, 4))
        losses, dev = figure.subplots(1, 2)
        # Terms differ by orders of magnitude; a term that is exactly 0 leaves a gap.
        curves = [Curve(name.replace("_", " "), epochs, values, style) for style, (name, values) in enumerate(terms)]
        draw_lines(losses, curves, x="epoch", y="loss (mean over batches)", log=True)
        losses.legend()
        draw_lines(dev, [Curve("SumR", epochs, sumr, 0, marked=best)], x="epoch", y="SumR on the dev split")
        dev.set_title(f"best {sumr[best]:.1f}, epoch {epochs[best]:g}")
        write_picture(out / CURVES, figure)


def _name(name: str) -> str:
    """The stored name of a tensor, from its name in the loop or from the one that an older version stored."""
    start = next((start for start in _NAMES if name.startswith(start)), "")
    return _NAMES.get(start, "") + name.removeprefix(start)


def _current_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a stored run, as this version writes it."""
    former = convert_settings("dl_dkd", run) if isinstance(run.get("soft_targets"), bool) else None
    if former is not None:
        active = Distillation(**former.distillation).active
        return former.settings | (former.distillation | {"similarities": run.get("similarities", [])} if active else {})
    # Distillation has had this setting since then.
    return {"detach_self_targets": True, **run} if "soft_targets" in run else dict(run)


def _check_same_run(out: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
    if different:
        changes = ", ".join(f"{key} {there.get(key)!r} (now {wanted.get(key)!r})" for key in different)
        raise SettingError(f"{out} holds a run with {changes}; name another folder, or delete this one to start again")
