"""What turns a loss into new weights: the optimiser, its schedule, mixed precision, clipping, and the average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prvr.batch import Batch
from prvr.device import check_precision
from prvr.methods.contract import Embeddings, Gather, Model, embed
from prvr.train.distributed import Group
from prvr.train.optimiser import BertAdam, decay_groups, learning_rate
from prvr.train.recipe import Training


@final
class Optimisation:
    """The optimiser of a run and all that belongs to a step.

    precision: queries and videos are encoded in it (autocast), from weights in float32; losses, gradients of the weights, the
        optimiser and every evaluation are float32. With float16 the loss is scaled, and a step whose gradients overflow is left
        out: it changes nothing and does not count for the schedule.
    clip_norm: the gradients of all weights together are scaled to this norm at most, the mean of all processes first.
        `BertAdam` then clips each tensor to a norm of 1, as always.
    ema_decay: after each step average = ema_decay average + (1 - ema_decay) weights; the first step sets it. The average is
        evaluated and saved in place of the student's last weights. Buffers, such as running statistics, are the last ones.

    Args:
        model: everything with weights to learn. student: the part that is evaluated and saved.
        steps: the number of steps of the whole run.

    Raises:
        SettingError: the device lacks the precision.
    """

    def __init__(self, model: nn.Module, student: nn.Module, training: Training, *, steps: int, device: torch.device) -> None:
        check_precision(training.precision, device)
        self.training, self._model, self._student, self._device = training, model, student, device
        self._rate: dict[str, Any] = {"total_steps": steps, "warmup": training.warmup, "schedule": training.schedule}
        groups = decay_groups(model.parameters(), weight_decay=training.weight_decay)
        self.optimiser: torch.optim.Optimizer
        if training.optimiser == "bert_adam":
            self.optimiser = BertAdam(groups, lr=training.lr, **self._rate)
        else:
            self.optimiser = torch.optim.AdamW(groups, lr=training.lr)
        self._scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "float16")
        self._average = (
            AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(training.ema_decay)) if training.ema_decay else None
        )
        self._start_schedule(0)

    @property
    def student(self) -> Any:
        """The student to evaluate and to save: with the average of its weights, where there is one."""
        return self._student if self._average is None else self._average.module

    @property
    def last_rate(self) -> float:
        """The learning rate of the last step."""
        return learning_rate(max(self.steps - 1, 0), lr=self.training.lr, **self._rate)

    def embed(self, model: Model, batch: Batch, gather: Gather) -> tuple[Embeddings, Embeddings, Batch]:
        """`contract.embed` in the precision of the run; the embeddings are float32."""
        precision = getattr(torch, self.training.precision)
        with torch.autocast(self._device.type, precision, enabled=precision != torch.float32):
            return embed(model, batch, partial(_gather_in_float32, gather))

    def step(self, loss: Tensor, group: Group) -> None:
        """One update of the weights, and of their average."""
        self.optimiser.zero_grad()
        self._scaler.scale(loss).backward()
        group.mean_gradients(self._model.parameters())
        if self.training.clip_norm is not None:
            self._scaler.unscale_(self.optimiser)
            clip_grad_norm_(self._model.parameters(), self.training.clip_norm)
        scale = self._scaler.get_scale()
        self._scaler.step(self.optimiser)
        self._scaler.update()
        # The scale falls if, and only if, the step was left out.
        if self._scaler.get_scale() < scale:
            return
        self.steps += 1
        if self._schedule is not None:
            self._schedule.step()
        if self._average is not None:
            self._average.update_parameters(self._student)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by KIND/NAME: the optimiser's of each weight, and the average."""
        found = {f"{kind}/{name}": value for name, its in self._states().items() for kind, value in its.items() if kind != "step"}
        average = {} if self._average is None else self._average.state_dict()
        return found | {f"average/{name}": value for name, value in average.items()}

    def numbers(self) -> dict[str, Any]:
        """The rest of its state, as JSON holds it."""
        steps = {name: int(its["step"]) for name, its in self._states().items()}
        return {"steps": steps, "updates": self.steps, "scaler": self._scaler.state_dict()}

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `numbers` returned."""
        kinds: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            kinds.setdefault(kind, {})[name] = tensor
        average = kinds.pop("average", {})
        names = {parameter: name for name, parameter in self._model.named_parameters()}
        every = [names[parameter] for group in self.optimiser.param_groups for parameter in group["params"]]
        state = {
            place: {"step": step, **{kind: of_kind[name] for kind, of_kind in kinds.items() if name in of_kind}}
            for place, name in enumerate(every)
            if (step := numbers["steps"].get(name)) is not None
        }
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})
        self._start_schedule(numbers["updates"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(numbers["scaler"])
        if self._average is not None:
            self._average.load_state_dict(average)

    def _start_schedule(self, steps: int) -> None:
        self.steps = steps
        # BertAdam has its schedule in itself, by the steps of each tensor.
        self._schedule: LambdaLR | None = None
        if not isinstance(self.optimiser, BertAdam):
            self._schedule = LambdaLR(self.optimiser, partial(learning_rate, lr=1.0, **self._rate), last_epoch=steps - 1)

    def _states(self) -> dict[str, dict[str, Any]]:
        """The optimiser's state of each weight that has had a gradient, by the weight's name."""
        there = self.optimiser.state
        return {name: there[parameter] for name, parameter in self._model.named_parameters() if parameter in there}


def _gather_in_float32(
    gather: Gather, queries: Embeddings, videos: Embeddings, batch: Batch
) -> tuple[Embeddings, Embeddings, Batch]:
    return gather(tuple(map(_in_float32, queries)), tuple(map(_in_float32, videos)), batch)


def _in_float32(embedding: Tensor) -> Tensor:
    return embedding.float() if embedding.dtype in (torch.bfloat16, torch.float16) else embedding
