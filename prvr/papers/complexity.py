"""What a model costs: its parameters, the FLOPs of encoding a video and a query, and the memory of a training step.

Backbones, which compute the features, are not counted. FLOPs are those of torch's counter: matrix products and attention, with a
multiply-add as two; LayerNorm, softmax and similar operations are left out (docs/decisions/0009).
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
from prvr.child import environment_with_modules
from prvr.config import from_dict, to_dict
from prvr.device import open_device
from prvr.errors import ModelError, SettingError
from prvr.features.sources import FeatureSources
from prvr.files import write_json
from prvr.methods import BUILT_IN, open_method, register_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, embed
from prvr.methods.distiller import Distiller, uses_teacher
from prvr.nn.distillation import Distillation
from prvr.train.loop import Recipe
from prvr.train.optimiser import BertAdam

SIZES, PEAK = "sizes.json", "peak.json"


@dataclass(frozen=True)
class Complexity:
    """What a model costs at one length of video and query.

    parts: parameters by branch, or by module if a method has no branches; their sum is `parameters`.
    frames, words: the lengths that the model reads, which may be shorter than the requested ones.
    """

    parameters: int
    parts: dict[str, int]
    video_flops: int
    query_flops: int
    frames: int
    words: int

    @property
    def flops(self) -> int:
        """FLOPs to encode a video and a query."""
        return self.video_flops + self.query_flops

    @property
    def multiply_adds(self) -> int:
        """The same count with a multiply-add as one."""
        return self.flops // 2


@dataclass(frozen=True)
class StepSizes:
    """The sizes of a training batch; the defaults are DL-DKD's on TVR."""

    videos: int = 128
    queries: int = 640
    frames: int = 128
    words: int = 30
    teacher_columns: int = 512


def complexity(recipe: Recipe, sources: FeatureSources, *, frames: int = 128, words: int = 30) -> Complexity:
    """Counts what a recipe's model costs for one video of `frames` frames and one query of `words` words."""
    with torch.random.fork_rng(devices=[]):
        model = checkpoints.build(recipe.method, recipe.settings, sources).model
    assert isinstance(model, nn.Module)
    # torch's counter asks for the gradients of a parameter that a layer is given, and there are none here.
    model.eval().requires_grad_(False)
    frames, words = _read_lengths(model.reading, frames, words)
    sizes = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in _parts(model, model.embedding_fields).items()
    }
    return Complexity(
        sum(parameter.numel() for parameter in model.parameters()),
        {name: size for name, size in sizes.items() if size},
        _flops(model.encode_videos, frames, sources.frames.columns),
        _flops(model.encode_queries, words, sources.text.columns),
        frames,
        words,
    )


def training_memory(recipe: Recipe, sources: FeatureSources, *, sizes: StepSizes = StepSizes(), device: str = "cpu") -> int:
    """Measures the peak memory of a training step, in bytes: weights, gradients, optimiser, batch and activations.

    It runs in a separate process. On the CPU it is the peak of resident memory minus resident memory before the model is loaded;
    on a GPU it is the peak that torch allocated.

    Raises:
        SettingError: the method learns nothing, the device does not exist, or the step does not fit into its memory.
        ModelError: memory of the CPU on a system other than Linux.
    """
    if open_method(recipe.method).objective is None:
        raise SettingError(f"{recipe.method} learns nothing, so it has no training step to measure")
    open_device(device)
    with tempfile.TemporaryDirectory(prefix="prvr-") as folder, torch.random.fork_rng(devices=[]):
        fresh = checkpoints.build(recipe.method, recipe.settings, sources)
        checkpoints.save(replace(fresh, about={"distillation": to_dict(recipe.distillation)}), Path(folder))
        write_json(Path(folder) / SIZES, {"sizes": asdict(sizes), "device": device})
        command = [
            sys.executable,
            "-m",
            "prvr.papers.complexity",
            folder,
            *([] if recipe.method in BUILT_IN else [recipe.method]),
        ]
        with_modules = environment_with_modules()
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, env=with_modules
        )
        if done.returncode:
            reason = (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]
            raise SettingError(f"a training step of {sizes} ended with {reason[:300]!r} on {device}; measure a smaller one")
        peak: int = json.loads((Path(folder) / PEAK).read_text())
    return peak


def main() -> None:
    """The entry point of the process that `training_memory` starts; its arguments are a folder with a model and sizes, and the
    model's method if it is external."""
    folder = Path(sys.argv[1])
    for method in sys.argv[2:]:
        register_method(method)
    text = json.loads((folder / SIZES).read_text())
    write_json(folder / PEAK, _peak(folder, StepSizes(**text["sizes"]), open_device(text["device"])))


def _peak(folder: Path, sizes: StepSizes, device: torch.device) -> int:
    _first_step(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        _steps(checkpoints.load(folder), sizes, device)
        return torch.cuda.max_memory_allocated(device)
    before = _resident("VmRSS")
    # Resets the peak. On a kernel that cannot, it stays at the peak of the imports, which only tiny models fall below.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    _steps(checkpoints.load(folder), sizes, device)
    return _resident("VmHWM") - before


def _first_step(device: torch.device) -> None:
    """Makes torch load what it loads at the first step, 80 MB with an optimiser, which does not belong to the model."""
    layer = nn.Linear(2, 2).to(device)
    optimiser = BertAdam(layer.parameters(), lr=1e-4, total_steps=None)
    layer(torch.ones(2, 2, device=device)).sum().backward()
    optimiser.step()


def _resident(field: str) -> int:
    # Not getrusage's ru_maxrss: a process inherits the value of its parent.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        raise ModelError("memory of the CPU can be measured on Linux only; name a GPU") from None
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def _steps(checkpoint: Checkpoint, sizes: StepSizes, device: torch.device) -> None:
    """Runs two training steps: in the second one the optimiser has its moments too."""
    model = checkpoint.model
    assert isinstance(model, nn.Module)
    model.to(device).train()
    distillation = from_dict(Distillation, checkpoint.about.get("distillation", {}))
    with_teacher = uses_teacher(distillation, checkpoint.method, checkpoint.settings)
    columns = [sizes.teacher_columns] if with_teacher else []
    distiller = Distiller(distillation, method=checkpoint.method, student=model, teacher_columns=columns).to(device)
    batch = _batch(model.reading, sizes, with_teacher=with_teacher).to(device)
    optimiser = BertAdam([*model.parameters(), *distiller.parameters()], lr=1e-4, total_steps=None)
    for _ in range(2):
        terms = distiller.objective(model, *embed(model, batch), 0)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()


def _batch(reading: Reading, sizes: StepSizes, *, with_teacher: bool) -> Batch:
    """A batch of noise without padding, its queries divided equally among the videos."""
    frames, words = _read_lengths(reading, sizes.frames, sizes.words)
    videos, queries, columns = sizes.videos, sizes.queries, sizes.teacher_columns
    teachers = (TeacherBatch(torch.randn(videos, frames, columns), torch.randn(queries, columns)),) if with_teacher else ()
    spoken = torch.randn(queries, words, reading.text_columns)
    # Labels must not be noise: 0 is a sentence in which the parser found nothing.
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
    """The numbers of frames and words that a model reads; a sentence in the teacher's space is one row."""
    return min(frames, reading.max_frames or frames), 1 if reading.text == "sentences" else min(words, reading.max_words or words)


def _parts(model: nn.Module, names: tuple[str, ...]) -> dict[str, nn.Module]:
    """A model's branches by name, and its other modules."""
    parts = dict(model.named_children())
    branches = parts.pop("branches", None)
    if isinstance(branches, nn.ModuleList) and len(branches) == len(names):
        return {**dict(zip(names, branches, strict=True)), **parts}
    return parts if branches is None else {"branches": branches, **parts}


def _flops(encode: Callable[[Float[Tensor, "N L E"], Bool[Tensor, "N L"]], Embeddings], rows: int, columns: int) -> int:
    # The counter does not count attention as one CPU kernel; as two matrix products it does.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encode(torch.zeros(1, rows, columns), torch.ones(1, rows, dtype=torch.bool))
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()
