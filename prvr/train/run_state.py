"""How far a training run has come, on disk: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from prvr.errors import ModelError, SettingError
from prvr.files import write_whole
from prvr.train.optimiser import BertAdam

STATE, HISTORY = "state.safetensors", "history.jsonl"
# Files of scores on the test split that a run's folder may hold: of the model, and of each of its two branches alone.
TEST_SCORES, BRANCH_SCORES = "test.npz", ("test-first-branch.npz", "test-second-branch.npz")


@dataclass(frozen=True)
class RunState:
    """What a run has reached. epoch: the next one; waited: epochs since the best SumR on the dev split."""

    epoch: int = 0
    best_sumr: float = -1.0
    waited: int = 0
    finished: bool = False
    history: tuple[dict[str, Any], ...] = ()

    def after(self, record: dict[str, Any], *, epochs: int, patience: int) -> RunState:
        """The state after one more epoch: it ends at `epochs`, or after more than `patience` epochs without a gain."""
        best = record["dev"]["sumr"] if record["best"] else self.best_sumr
        waited = 0 if record["best"] else self.waited + 1
        finished = self.epoch + 1 >= epochs or waited > patience
        return RunState(self.epoch + 1, best, waited, finished, (*self.history, record))


def save_state(out: Path, state: RunState, *, run: dict[str, Any], model: nn.Module, optimiser: BertAdam) -> None:
    """Writes model, optimiser and state as one file, whole or not at all; then the history that people read."""
    tensors, steps = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}, {}
    for name, parameter in model.named_parameters():
        if parameter in optimiser.state:
            its = optimiser.state[parameter]
            tensors[f"mean/{name}"], tensors[f"square/{name}"], steps[name] = its["mean"], its["square"], its["step"]
    about = {"run": run, "steps": steps, "state": as_plain(state)}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(out / STATE, safetensors.torch.save(tensors, {"prvr": json.dumps(about)}))
    write_history(out, state)


def stored_state(out: Path) -> bytes:
    """The state of a run that was cut off, as it is on disk; empty if there is none."""
    return (out / STATE).read_bytes() if (out / STATE).exists() else b""


def load_state(out: Path, stored: bytes, *, run: dict[str, Any], model: nn.Module, optimiser: BertAdam) -> RunState:
    """What `stored_state` gave, its weights put into model and optimiser; a fresh state if that is empty.

    Raises:
        SettingError: the folder holds a run with other settings.
        ModelError: the state is broken.
    """
    if not stored:
        return RunState()
    try:
        tensors = safetensors.torch.load(stored)
        header = stored[8 : 8 + int.from_bytes(stored[:8], "little")]
        about = json.loads(json.loads(header)["__metadata__"]["prvr"])
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as problem:
        raise ModelError(f"{out / STATE} is broken ({problem}); delete {out} and train again") from None
    _same_run(out, about["run"], run)
    with torch.no_grad():
        # Running figures, too, which are no parameters.
        for name, tensor in model.state_dict().items():
            tensor.copy_(tensors[f"model/{name}"])
        for name, parameter in model.named_parameters():
            if name in about["steps"]:
                moments = {kind: tensors[f"{kind}/{name}"].to(parameter.device) for kind in ("mean", "square")}
                optimiser.state[parameter] = {"step": about["steps"][name], **moments}
    return state_from(about["state"])


def as_plain(state: RunState) -> dict[str, Any]:
    """A state as JSON can hold it."""
    return {**state.__dict__, "history": list(state.history)}


def state_from(plain: dict[str, Any]) -> RunState:
    """The state that `as_plain` gave."""
    return RunState(**{**plain, "history": tuple(plain["history"])})


def write_history(out: Path, state: RunState) -> None:
    """`history.jsonl`: a line per epoch with its losses, its figures on the dev split and its seconds."""
    lines = [json.dumps(record) + "\n" for record in state.history]
    write_whole(out / HISTORY, "".join(lines).encode())


def _same_run(out: Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
    if different:
        changes = ", ".join(f"{key} {there.get(key)!r} (now {wanted.get(key)!r})" for key in different)
        raise SettingError(f"{out} holds a run with {changes}; name another folder, or delete this one to start anew")
