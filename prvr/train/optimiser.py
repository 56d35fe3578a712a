"""BertAdam, the optimiser of this field's released code; it is not AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from prvr.nn.layers import Decayed


class BertAdam(torch.optim.Optimizer):
    """Adam without bias correction, each tensor clipped by itself, with linear warm-up, then linear or cosine decay.

    g = gradient scaled to norm <= 1 · m = 0.9 m + 0.1 g · v = 0.999 v + 0.001 g^2
    p = p - lr_k (m / (sqrt(v) + 1e-6) + weight_decay p)

    lr_k is `learning_rate` of k, which counts the steps of that tensor from 0, so the first step changes nothing. A tensor
    without gradient is skipped, and its k stays.

    Args:
        parameters: tensors, or groups of tensors, each with its `weight_decay` (see `decay_groups`).
        total_steps: length of the schedule, or None for a constant rate.
        schedule: linear or cosine.
        clip: largest norm of one tensor's gradient, or None for no clipping.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        total_steps: int | None,
        warmup: float = 0.01,
        weight_decay: float = 0.01,
        clip: float | None = 1.0,
        schedule: str = "linear",
    ) -> None:
        rate = {"lr": lr, "total_steps": total_steps, "warmup": warmup, "schedule": schedule}
        super().__init__(parameters, {**rate, "weight_decay": weight_decay, "clip": clip})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every tensor that has a gradient."""
        for group in self.param_groups:
            for count, tensors in self._by_step_count(group).items():
                self._update(tensors, group, learning_rate(count, **_schedule(group)))

    def _by_step_count(self, group: dict[str, Any]) -> dict[int, list[Tensor]]:
        groups: dict[int, list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
            groups.setdefault(state["step"], []).append(parameter)
        return groups

    def _update(self, parameters: list[Tensor], group: dict[str, Any], rate: float) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if group["clip"] is not None:
            gradients = _clip(gradients, group["clip"])
        means = [self.state[p]["mean"] for p in parameters]
        squares = [self.state[p]["square"] for p in parameters]
        torch._foreach_lerp_(means, gradients, 0.1)
        torch._foreach_mul_(squares, 0.999)
        torch._foreach_addcmul_(squares, gradients, gradients, value=0.001)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, 1e-6)
        updates = torch._foreach_div(means, roots)
        torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-rate)
        for parameter in parameters:
            self.state[parameter]["step"] += 1


def decay_groups(parameters: Iterable[Tensor], *, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: matrices and `Decayed` parameters decay; biases, LayerNorms and other numbers do not.

    The released code decides by name. `Decayed` marks the vectors and numbers whose published names do not exempt them.
    """
    decaying: list[Tensor] = []
    exempt: list[Tensor] = []
    for parameter in parameters:
        (decaying if parameter.ndim >= 2 or isinstance(parameter, Decayed) else exempt).append(parameter)
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def learning_rate(step: int, *, lr: float, total_steps: int | None, warmup: float, schedule: str = "linear") -> float:
    """The rate of a step counted from 0: linear up over the share `warmup` of all steps, then down to 0 at the end.

    lr x / warmup for x = step / total_steps below `warmup`; then, with p = (x - warmup) / (1 - warmup), lr (1 - p) for the
    schedule "linear" and lr (1 + cos(pi p)) / 2 for "cosine".
    """
    if total_steps is None:
        return lr
    done = step / total_steps
    if done >= 1:
        return 0.0
    if done < warmup:
        return lr * (done / warmup)
    if schedule == "cosine":
        return lr * ((1 + math.cos(math.pi * ((done - warmup) / (1 - warmup)))) / 2)
    return lr * ((1 - done) / (1 - warmup))


def _clip(gradients: list[Tensor], most: float) -> list[Tensor]:
    """Each tensor scaled to a norm of at most `most`; all as one tensor, because a product for each would be 74 kernels."""
    norms = torch.stack(list(torch._foreach_norm(gradients)))
    scales = (most / (norms + 1e-6)).clamp(max=1.0)
    sizes = [gradient.numel() for gradient in gradients]
    each = torch.cat([scale.expand(size) for scale, size in zip(scales.unbind(), sizes, strict=True)])
    scaled = torch.cat([gradient.flatten() for gradient in gradients]).mul_(each).split(sizes)
    return [part.view_as(gradient) for part, gradient in zip(scaled, gradients, strict=True)]


def _schedule(group: dict[str, Any]) -> dict[str, Any]:
    return {name: group[name] for name in ("lr", "total_steps", "warmup", "schedule")}
