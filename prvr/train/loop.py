"""The one training loop.

A run is a folder: the best checkpoint (`config.json`, `model.safetensors`), `history.jsonl` with a line per epoch,
`curves.png`, and `state.safetensors`, from which a run that was killed goes on. What is random in an epoch is drawn from
the seed and the epoch's number, so a run that was cut off gives the same numbers as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prvr import features as feature_files
from prvr.batch import Batch, Memory, check_widths, collate, video_item
from prvr.config import to_dict
from prvr.cpu import fast_products
from prvr.datasets import Dataset
from prvr.device import open_device
from prvr.errors import DataError, ModelError, SettingError
from prvr.evaluate.evaluation import calibrated, retrieve
from prvr.features import Features, FeatureSet
from prvr.features.packed import Packed
from prvr.features.sources import Reads
from prvr.methods import METHODS
from prvr.methods import checkpoint as checkpoints
from prvr.methods.calibration import from_dict
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Gather, Terms, embed
from prvr.methods.taught import Guidance, check_teachers, own_settings
from prvr.train.curves import draw_curves
from prvr.train.distributed import Alone, Group
from prvr.train.optimiser import BertAdam, decay_groups
from prvr.train.recipe import Recipe as Recipe
from prvr.train.recipe import Training as Training
from prvr.train.recipe import changed as changed
from prvr.train.recipe import fitted, heeds_teachers
from prvr.train.run_state import RunState, as_plain, load_state, save_state, state_from, stored_state, write_history
from prvr.train.similarities import Similarities

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Data:
    """What a run learns from and is chosen on; `features` serves both splits.

    similarities: what teachers that are trained models say of the train split.
    """

    train: Dataset
    dev: Dataset
    features: FeatureSet
    similarities: tuple[Similarities, ...] = ()


@fast_products()
def train_student(
    out: str | Path,
    recipe: Recipe,
    *,
    reads: Reads,
    data: Data,
    device: str = "cpu",
    notes: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
    group: Group | None = None,
) -> Checkpoint:
    """Trains a model and gives the checkpoint of its best epoch; goes on where an earlier call was cut off.

    Args:
        notes: what else the checkpoint's `about` shall say.
        group: the processes that train together, from `distributed.joined`; its device goes before `device`. Each gets
            the checkpoint, the first writes it.

    Raises:
        DataError: features are missing or broken, or there is nothing to learn from.
        SettingError: `out` holds a run with other settings, or the method needs a teacher and has none;
            or there is no such device; or the processes differ in their data.
        ModelError: the loss is no longer a number.
        ProcessLost: another process of the group has ended.
    """
    out, group = Path(out), group or Alone(device)
    _check(recipe, data)
    recipe = fitted(recipe, [*_widths(data), *[0 for _ in data.similarities]])
    place = open_device(group.device)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.training.seed)
        fresh = replace(checkpoints.build(recipe.method, recipe.settings, reads), about=dict(notes or {}))
        guidance = _guidance(recipe, fresh, data)
    loop = _Loop(out, fresh, recipe.training, data, place, group, guidance)
    while not loop.state.finished:
        loop.epoch(on_progress or _silent)
    if group.leads:
        draw_curves(loop.state.history, out / "curves.png")
    return _handed_out(_kept_best(out, data, group.device) if group.leads else loop.checkpoint, group)


def _kept_best(out: Path, data: Data, device: str) -> Checkpoint:
    """The checkpoint of the best epoch, with probabilities fitted on the dev split."""
    best = checkpoints.load(out)
    if best.calibration is None:
        best = calibrated(checkpoints.to_device(best, device), data.dev, data.features)
        if best.calibration is not None:
            checkpoints.save(best, out)
    return best


def _handed_out(best: Checkpoint, group: Group) -> Checkpoint:
    """The leader's checkpoint, on each process."""
    assert isinstance(best.model, nn.Module)
    best.model.cpu().eval()
    group.hand_out(best.model.state_dict().values())
    told = json.dumps([best.about, None if best.calibration is None else best.calibration.as_dict()])
    about, calibration = json.loads(group.hand_out_bytes(told.encode()))
    return replace(best, about=about, calibration=None if calibration is None else from_dict(calibration))


class _Loop:
    """A model in training, with its optimiser and how far it has come."""

    def __init__(
        self,
        out: Path,
        first: Checkpoint,
        training: Training,
        data: Data,
        device: torch.device,
        group: Group,
        guidance: Guidance | None,
    ) -> None:
        assert isinstance(first.model, nn.Module)
        self.out, self.checkpoint, self.training, self.data = out, first, training, data
        self.device, self.group, self.guidance = device, group, guidance
        # All that learns: without a teacher's own weights, the model as it is.
        self.model = (first.model if guidance is None else nn.ModuleDict({"student": first.model, "guidance": guidance})).to(
            device
        )
        check_widths(data.features, first.model.reading)
        self.captions = _by_video(data.train)
        self.memory = Memory()
        self.batches = -(-len(self.captions) // training.batch_videos)
        groups = decay_groups(self.model.parameters(), weight_decay=training.weight_decay)
        total = self.batches * training.epochs
        self.optimiser = BertAdam(groups, lr=training.lr, total_steps=total, warmup=training.warmup)
        self.run = _identity(first, training, data, guidance)
        _same_as_first(self.run, json.loads(group.hand_out_bytes(json.dumps(self.run).encode())), rank=group.rank)
        group.hand_out(self.model.parameters())
        stored = group.hand_out_bytes(stored_state(out) if group.leads else b"")
        self.state = load_state(out, stored, run=self.run, model=self.model, optimiser=self.optimiser)
        if stored and group.leads:
            write_history(out, self.state)

    def epoch(self, on_progress: Progress) -> None:
        """One epoch, its evaluation, and everything on disk afterwards."""
        began = time.monotonic()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(_epoch_seed(self.training.seed, self.state.epoch))
            terms = self._steps(on_progress)
        reached = self._evaluated(terms, began) if self.group.leads else self.state
        self.state = state_from(json.loads(self.group.hand_out_bytes(json.dumps(as_plain(reached)).encode())))

    def _evaluated(self, terms: dict[str, float], began: float) -> RunState:
        """The state after an epoch with these losses, which is kept together with the model, if that is the best."""
        state = self.state
        figures = retrieve(self.checkpoint.model, self.data.dev, self.data.features)
        better = figures.sumr > state.best_sumr
        record = {
            "epoch": state.epoch,
            "losses": terms,
            "loss": sum(terms.values()),
            "dev": figures.as_dict(),
            "best": better,
            "seconds": round(time.monotonic() - began, 3),
        }
        if better:
            about = {**self.checkpoint.about, "epoch": state.epoch, "dev": figures.as_dict(), "training": to_dict(self.training)}
            if self.guidance is not None:
                about["distillation"] = to_dict(self.guidance.settings)
            checkpoints.save(replace(self.checkpoint, about=about), self.out)
        reached = state.after(record, epochs=self.training.epochs, patience=self.training.patience)
        save_state(self.out, reached, run=self.run, model=self.model, optimiser=self.optimiser)
        return reached

    def _steps(self, on_progress: Progress) -> dict[str, float]:
        epoch, sums = self.state.epoch, dict[str, Tensor]()
        self.model.train()
        for number, (videos, batch, gather) in enumerate(self._batches(epoch)):
            on_progress(self._note(), epoch * self.batches + number, self.training.epochs * self.batches)
            self.group.draw_apart((self.training.seed, epoch, number))
            terms = self._terms(videos, batch.to(self.device), gather, epoch)
            self.optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            self.group.mean_gradients(self.model.parameters())
            self.optimiser.step()
            for name, value in terms.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        means = {name: float(value) / self.batches for name, value in sums.items()}
        if not all(map(_finite, means.values())):
            raise ModelError(f"the loss of epoch {epoch} is not a number ({means}); lower lr (now {self.training.lr:g})")
        return means

    def _terms(self, videos: list[str], batch: Batch, gather: Gather, epoch: int) -> Terms:
        model = self.checkpoint.model
        embedded = embed(model, batch, gather)
        if self.guidance is not None:
            return self.guidance.objective(model, *embedded, epoch, self._kept(videos))
        objective = METHODS[self.checkpoint.method].objective
        assert objective is not None
        if self.data.similarities:
            objective = partial(objective, kept=self._kept(videos))
        terms: Terms = objective(model, *embedded, epoch)
        return terms

    def _kept(self, videos: list[str]) -> list[Tensor]:
        """What the teachers that are trained models say of a batch of all processes, in the order of `collate`."""
        order = sorted(videos, key=lambda video: -len(self.captions[video]))
        captions = [caption for video in order for caption in self.captions[video]]
        return [teacher.of(captions, order).to(self.device) for teacher in self.data.similarities]

    def _batches(self, epoch: int) -> Iterator[tuple[list[str], Batch, Gather]]:
        order = list(self.captions)
        random.Random(_epoch_seed(self.training.seed, epoch)).shuffle(order)
        reading = self.checkpoint.model.reading
        for start in range(0, len(order), self.training.batch_videos):
            videos = order[start : start + self.training.batch_videos]
            share = self.group.share([len(self.captions[video]) for video in videos])
            own = [videos[place] for place in share.videos]
            items = [video_item(video, self.captions[video], self.data.features, reading) for video in own]
            yield videos, collate(items, self.memory), share.gather

    def _note(self) -> str:
        note = f"epoch {self.state.epoch + 1}/{self.training.epochs}"
        if self.state.history:
            last = self.state.history[-1]
            note += f"  loss {last['loss']:.3f}  SumR {last['dev']['sumr']:.1f} (best {self.state.best_sumr:.1f})"
        return note


def _check(recipe: Recipe, data: Data) -> None:
    method = METHODS[recipe.method]
    if method.objective is None:
        raise SettingError(f"{recipe.method} has nothing to learn; index and evaluate with it as it is")
    if method.distils(recipe.settings) and not (data.features.teachers or data.similarities):
        raise SettingError(
            f"{recipe.method} with these settings learns from a teacher; name one (--teacher), or take a preset without"
        )
    if data.similarities:
        _check_kept(recipe, data)
    if not data.train.captions:
        raise DataError(f"split {data.train.split!r} of {data.train.name!r} has no captions; there is nothing to learn from")
    if not data.dev.captions:
        raise DataError(f"split {data.dev.split!r} of {data.dev.name!r} has no captions; there is nothing to choose an epoch on")
    feature_files.check(replace(data.train, video_ids=tuple(_by_video(data.train))), data.features)
    feature_files.check(data.dev, data.features.without_teachers)


def _check_kept(recipe: Recipe, data: Data) -> None:
    if not heeds_teachers(recipe):
        raise SettingError(
            f"{recipe.method} is to learn from trained models, and its recipe distils nothing; "
            "add distillation_target=batch_matrix distillation_weight=1"
        )
    told = recipe.settings.distillation if own_settings(recipe.method) else recipe.distillation
    assert told is not None
    check_teachers(told, len(data.features.teachers), len(data.similarities))


def _guidance(recipe: Recipe, fresh: Checkpoint, data: Data) -> Guidance | None:
    if recipe.distillation is None:
        return None
    kept = len(data.similarities)
    return Guidance(recipe.distillation, method=recipe.method, student=fresh.model, teacher_columns=_widths(data), kept=kept)


def _widths(data: Data) -> list[int]:
    return [feature_files.columns(teacher.frames) for teacher in data.features.teachers]


def _identity(first: Checkpoint, training: Training, data: Data, guidance: Guidance | None) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    reads = {name: [source.name, source.fingerprint, source.rate] for name, source in vars(first.reads).items()}
    splits = {split.split: _content(split) for split in (data.train, data.dev)}
    teachers = [_origin(teacher.frames) for teacher in data.features.teachers]
    flat = {"method": first.method, **to_dict(first.settings), **to_dict(training), **reads, **splits, "teachers": teachers}
    if guidance is not None:
        flat |= to_dict(guidance.settings)
    if guidance is not None or data.similarities:
        flat["similarities"] = [dict(teacher.about) for teacher in data.similarities]
    identity: dict[str, Any] = json.loads(json.dumps(flat))
    return identity


def _same_as_first(run: dict[str, Any], firsts: dict[str, Any], *, rank: int) -> None:
    for name, value in run.items():
        if value != firsts[name]:
            raise SettingError(
                f"process {rank} has {name} {value!r}, the first process {firsts[name]!r}; "
                "give every machine the same command and the same data"
            )


def _content(split: Dataset) -> str:
    listed = json.dumps([[[c.id, c.video, c.text] for c in split.captions], split.video_ids])
    digest = hashlib.sha256(listed.encode()).hexdigest()[:16]
    return f"{len(split.captions)} captions, {len(split.video_ids)} videos, {digest}"


def _origin(features: Features) -> object:
    # Not where they lie: a run goes on from another folder, too.
    return features.about if isinstance(features, Packed) else feature_files.place(features)


def _by_video(dataset: Dataset) -> dict[str, list[str]]:
    """Caption ids by video, in the order of the captions; videos without captions teach nothing and are left out."""
    captions: dict[str, list[str]] = {}
    for caption in dataset.captions:
        captions.setdefault(caption.video, []).append(caption.id)
    return captions


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + epoch


def _finite(value: float) -> bool:
    return value - value == 0


def _silent(note: str, done: int, total: int) -> None:
    """No progress is shown."""
