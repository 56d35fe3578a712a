"""What a model costs: its parameters, the arithmetic of encoding a video and a query, the memory of a training step.

Backbones, which make the features, are not counted. FLOPs are those of torch's counter: matrix products and attention,
a multiply-add as two; LayerNorm, softmax and the like are left out (docs/decisions/0009).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prvr.batch import Batch, Reading, TeacherBatch
from prvr.config import from_dict, to_dict
from prvr.device import open_device
from prvr.errors import ModelError, SettingError
from prvr.features.sources import Reads
from prvr.files import write_json
from prvr.methods import checkpoint as checkpoints
from prvr.methods import open_method
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, embed
from prvr.methods.distiller import Distiller, uses_teacher
from prvr.nn.distillation import Distillation
from prvr.train.loop import Recipe
from prvr.train.optimiser import BertAdam

SIZES, PEAK = "sizes.json", "peak.json"


@dataclass(frozen=True)
class Complexity:
    """What a model costs at some length of video and query.

    parts: parameters by branch, or by module where a method has no branches; they add up to `parameters`.
    frames, words: as the model reads them, which may be fewer than were asked for.
    """

    parameters: int
    parts: dict[str, int]
    video_flops: int
    query_flops: int
    frames: int
    words: int

    @property
    def flops(self) -> int:
        """To encode a video and a query."""
        return self.video_flops + self.query_flops

    @property
    def multiply_adds(self) -> int:
        """The same, a multiply-add as one."""
        return self.flops // 2


@dataclass(frozen=True)
class StepSizes:
    """A training batch; the defaults are DL-DKD's on TVR."""

    videos: int = 128
    queries: int = 640
    frames: int = 128
    words: int = 30
    teacher_columns: int = 512


def complexity(recipe: Recipe, reads: Reads, *, frames: int = 128, words: int = 30) -> Complexity:
    """What a recipe's model costs for one video of `frames` frames and one query of `words` words."""
    with torch.random.fork_rng(devices=[]):
        model = checkpoints.build(recipe.method, recipe.settings, reads).model
    assert isinstance(model, nn.Module)
    model.eval()
    frames, words = _read_lengths(model.reading, frames, words)
    sizes = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in _parts(model, model.embedding_fields).items()
    }
    return Complexity(
        sum(parameter.numel() for parameter in model.parameters()),
        {name: size for name, size in sizes.items() if size},
        _flops(model.encode_videos, frames, reads.frames.columns),
        _flops(model.encode_queries, words, reads.text.columns),
        frames,
        words,
    )


def training_memory(recipe: Recipe, reads: Reads, *, sizes: StepSizes = StepSizes(), device: str = "cpu") -> int:
    """The most bytes that a training step holds: weights, gradients, optimiser, batch and all that is computed.

    Measured in a process of its own: on the CPU its resident memory at the peak less that before the model was there,
    on a GPU the most that torch allocated.

    Raises:
        SettingError: the method learns nothing, there is no such device, or the step does not fit into its memory.
    """
    if open_method(recipe.method).objective is None:
        raise SettingError(f"{recipe.method} has nothing to learn; there is no training step to measure")
    open_device(device)
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder, torch.random.fork_rng(devices=[]):
        fresh = checkpoints.build(recipe.method, recipe.settings, reads)
        checkpoints.save(replace(fresh, about={"distillation": to_dict(recipe.distillation)}), Path(folder))
        write_json(Path(folder) / SIZES, {"sizes": asdict(sizes), "device": device})
        command = [sys.executable, "-m", "prvr.papers.complexity", folder]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]
            raise SettingError(f"a training step of {sizes} ended with {reason[:300]!r} on {device}; measure a smaller one")
        peak: int = json.loads((Path(folder) / PEAK).read_text())
    return peak


def main() -> None:
    """The process that `training_memory` starts, with a folder that holds a model and sizes."""
    folder = Path(sys.argv[1])
    text = json.loads((folder / SIZES).read_text())
    write_json(folder / PEAK, _peak(folder, StepSizes(**text["sizes"]), open_device(text["device"])))


def _peak(folder: Path, sizes: StepSizes, device: torch.device) -> int:
    _first_step(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        _steps(checkpoints.load(folder), sizes, device)
        return torch.cuda.max_memory_allocated(device)
    before = _resident("VmRSS")
    # Starts the peak anew. A kernel that cannot leaves it at what the imports took, which only tiny models fall below.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    _steps(checkpoints.load(folder), sizes, device)
    return _resident("VmHWM") - before


def _first_step(device: torch.device) -> None:
    """What torch loads when it first computes, 80 MB with an optimiser, is none of the model's."""
    layer = nn.Linear(2, 2).to(device)
    optimiser = BertAdam(layer.parameters(), lr=1e-4, total_steps=None)
    layer(torch.ones(2, 2, device=device)).sum().backward()
    optimiser.step()


def _resident(field: str) -> int:
    # Not getrusage's ru_maxrss: a process inherits that of the one that started it.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        raise ModelError("memory on the CPU is measured on Linux alone; name a GPU") from None
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def _steps(checkpoint: Checkpoint, sizes: StepSizes, device: torch.device) -> None:
    """Two training steps: in the second one the optimiser has its moments, too."""
    model = checkpoint.model
    assert isinstance(model, nn.Module)
    model.to(device).train()
    distillation = from_dict(Distillation, checkpoint.about.get("distillation", {}))
    taught = uses_teacher(distillation, checkpoint.method, checkpoint.settings)
    columns = [sizes.teacher_columns] if taught else []
    distiller = Distiller(distillation, method=checkpoint.method, student=model, teacher_columns=columns).to(device)
    batch = _batch(model.reading, sizes, taught=taught).to(device)
    optimiser = BertAdam([*model.parameters(), *distiller.parameters()], lr=1e-4, total_steps=None)
    for _ in range(2):
        terms = distiller.objective(model, *embed(model, batch), 0)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()


def _batch(reading: Reading, sizes: StepSizes, *, taught: bool) -> Batch:
    """Noise of a batch's sizes, nothing padded, as many queries for each video as there are."""
    frames, words = _read_lengths(reading, sizes.frames, sizes.words)
    videos, queries, columns = sizes.videos, sizes.queries, sizes.teacher_columns
    teachers = (TeacherBatch(torch.randn(videos, frames, columns), torch.randn(queries, columns)),) if taught else ()
    spoken = torch.randn(queries, words, reading.text_columns)
    # Labels are no noise: a sentence without any is one that a parser found nothing in.
    spoken[..., reading.text_columns - reading.label_columns :] = 0
    return Batch(
        torch.randn(videos, frames, reading.frame_columns),
        torch.ones(videos, frames, dtype=torch.bool),
        spoken,
        torch.ones(queries, words, dtype=torch.bool),
        torch.arange(queries) * videos // queries,
        teachers,
    )


def _read_lengths(reading: Reading, frames: int, words: int) -> tuple[int, int]:
    """How many frames and words of so many a model reads; a sentence in the teacher's space is one row."""
    return min(frames, reading.max_frames or frames), 1 if reading.text == "sentences" else min(words, reading.max_words or words)


def _parts(model: nn.Module, names: tuple[str, ...]) -> dict[str, nn.Module]:
    """A model's branches by name, beside what else it has."""
    parts = dict(model.named_children())
    branches = parts.pop("branches", None)
    if isinstance(branches, nn.ModuleList) and len(branches) == len(names):
        return {**dict(zip(names, branches, strict=True)), **parts}
    return parts if branches is None else {"branches": branches, **parts}


def _flops(encode: Callable[[Float[Tensor, "N L E"], Bool[Tensor, "N L"]], Embeddings], rows: int, columns: int) -> int:
    # The counter does not know attention as one kernel on the CPU; taken apart, it is two matrix products.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encode(torch.zeros(1, rows, columns), torch.ones(1, rows, dtype=torch.bool))
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()
