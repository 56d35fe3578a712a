"""The training loop.

A run is a folder: the best checkpoint (`config.json`, `model.safetensors`), `history.jsonl` with a line per epoch,
`curves.png`, `recipe.toml` from `prvr train` and `prvr reproduce`, and `state.safetensors`, from which an interrupted run
continues.
Every random number of an epoch depends on the seed and the epoch's number, so a run that was interrupted gives the same numbers
as one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prvr import features as feature_files
from prvr.batch import Batch, Memory, check_widths, collate, video_item
from prvr.config import settings_to_compare, to_dict
from prvr.cpu import fast_products
from prvr.datasets import Dataset
from prvr.device import open_device
from prvr.errors import DataError, ModelError, RowsError, SettingError
from prvr.evaluate.evaluation import calibrate, retrieve
from prvr.features import Features, FeatureSet
from prvr.features.packed import Packed
from prvr.files import write_whole
from prvr.methods import BUILT_IN, open_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.calibration import from_dict
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.contract import Embeddings, Gather, Model, Terms
from prvr.methods.distiller import Distiller, check_teachers
from prvr.methods.plugins import check_answers, name_failures
from prvr.train.branches import find_untrained, ranking_terms, remedy, untrained_when_kept
from prvr.train.distributed import Group, SingleProcess
from prvr.train.optimisation import Optimisation
from prvr.train.recipe import Recipe as Recipe
from prvr.train.recipe import Training as Training
from prvr.train.run_state import RECIPE, RunState, draw_curves, load_state, read_state, save_state, write_history
from prvr.train.similarities import Similarities

Progress = Callable[[str, int, int], None]
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """The splits that a run learns from and chooses its epoch on; `features` serves both.

    similarities: scores of the train split by teachers that are trained models.
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
    data: Data,
    device: str = "cpu",
    notes: Mapping[str, Any] | None = None,
    recipe_file: str = "",
    on_progress: Progress | None = None,
    on_warning: Warn | None = None,
    on_epoch: Callable[[Sequence[Mapping[str, Any]]], None] | None = None,
    group: Group | None = None,
) -> Checkpoint:
    """Trains a model and returns the checkpoint of its best epoch; continues a run that was interrupted.

    Args:
        notes: extra entries for the checkpoint's metadata, `about`.
        recipe_file: the content of OUT/recipe.toml (`prvr.train.experiment`).
        on_warning: is called once for each branch that does not learn (`prvr.train.branches`), and at the end for each that
            has not learned; `history.jsonl` has its name as `untrained`.
        on_epoch: is called by the first process with the history, at the start and after each epoch.
        group: the processes that train together, from `distributed.join_group`; its device replaces `device`. Every process
            returns the checkpoint, the first writes it.

    Raises:
        DataError: features are missing or broken, or there are no captions.
        SettingError: `out` holds a run with other settings, the recipe needs a teacher and there is none, the device does not
            exist, or the processes differ in their data.
        ModelError: the loss is no longer a number.
        ProcessLost: another process of the group has ended.
    """
    out, group = Path(out), group or SingleProcess(device)
    _check(recipe, data)
    place = open_device(group.device)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.training.seed)
        fresh = replace(checkpoints.build(recipe.method, recipe.settings, data.features.sources), about=dict(notes or {}))
        if recipe.method not in BUILT_IN:
            check_answers(fresh.model, recipe.method)
        distiller = Distiller(
            recipe.distillation,
            method=recipe.method,
            student=fresh.model,
            teacher_columns=[feature_files.columns(teacher.sentences) for teacher in data.features.teachers],
            kept=len(data.similarities),
        )
    loop = _Loop(out, fresh, recipe.training, data, place, group, distiller)
    tell, tell_history = on_warning or (lambda text: None), on_epoch if on_epoch and group.leads else lambda history: None
    if recipe_file and group.leads:
        write_whole(out / RECIPE, recipe_file.encode())
    tell_history(loop.state.history)
    while not loop.state.finished:
        loop.epoch(on_progress or (lambda note, done, total: None), tell)
        tell_history(loop.state.history)
    if group.leads:
        loop.warn_at_the_end(tell)
        draw_curves(out, loop.state.history)
    return _share(_load_best(out, data, group.device, loop.untrained) if group.leads else loop.checkpoint, group)


def _load_best(out: Path, data: Data, device: str, untrained: list[str]) -> Checkpoint:
    """The checkpoint of the best epoch, with the branches that had learned nothing, and probabilities fitted on the dev split."""
    stored = best = checkpoints.load(out)
    if untrained:
        best = replace(best, about={**best.about, "untrained": untrained})
    if best.calibration is None:
        best = calibrate(checkpoints.to_device(best, device), data.dev, data.features)
    if best.calibration is not stored.calibration or best.about != stored.about:
        checkpoints.save(best, out)
    return best


def _share(best: Checkpoint, group: Group) -> Checkpoint:
    """The leader's checkpoint, on every process."""
    assert isinstance(best.model, nn.Module)
    best.model.cpu().eval()
    group.copy_from_leader(best.model.state_dict().values())
    about, calibration = group.from_leader([best.about, None if best.calibration is None else best.calibration.as_dict()])
    if group.leads:
        return best
    return replace(best, about=about, calibration=None if calibration is None else from_dict(calibration))


class _Loop:
    """A model in training, its optimiser and the state of the run."""

    def __init__(
        self,
        out: Path,
        first: Checkpoint,
        training: Training,
        data: Data,
        device: torch.device,
        group: Group,
        distiller: Distiller,
    ) -> None:
        assert isinstance(first.model, nn.Module)
        self.out, self.checkpoint, self.training, self.data = out, first, training, data
        self.device, self.group, self.distiller = device, group, distiller
        # Everything with weights to learn.
        self.model = nn.ModuleDict({"student": first.model, "distiller": distiller}).to(device)
        check_widths(data.features, first.model.reading)
        self.captions = _by_video(data.train)
        self.memory = Memory()
        self.batches = -(-len(self.captions) // training.batch_videos)
        self.run = _identity(first, training, data, distiller)
        _check_same_run(self.run, group.from_leader(self.run), rank=group.rank)
        group.copy_from_leader(self.model.parameters())
        steps = self.batches * training.epochs
        self.optimisation = Optimisation(self.model, first.model, training, steps=steps, device=device)
        stored = group.bytes_from_leader(read_state(out) if group.leads else b"")
        self.state = load_state(out, stored, run=self.run, model=self.model, optimisation=self.optimisation)
        if stored and group.leads:
            write_history(out, self.state)

    def epoch(self, on_progress: Progress, on_warning: Warn) -> None:
        """Trains for one epoch, evaluates, and writes everything to disk."""
        began = time.monotonic()
        with torch.random.fork_rng(devices=self._drawing_devices()):
            torch.manual_seed(_epoch_seed(self.training.seed, self.state.epoch))
            terms, equal = self._steps(on_progress)
        reached = self._finish_epoch(terms, equal, began, on_warning) if self.group.leads else self.state
        self.state = RunState(**self.group.from_leader(vars(reached)))

    @property
    def untrained(self) -> list[str]:
        """The branches that had learned nothing in the epoch that was kept."""
        return untrained_when_kept(self.state.history, self.batches)

    def warn_at_the_end(self, on_warning: Warn) -> None:
        """Names the branches that have learned nothing until the last epoch."""
        for branch in find_untrained(self.state.history, self.batches, at_the_end=True):
            on_warning(f"training has ended, and {branch}; {remedy(branch.branch, self.checkpoint.settings)}")

    def _finish_epoch(self, terms: dict[str, float], equal: dict[str, float], began: float, on_warning: Warn) -> RunState:
        """Evaluates, saves the model if it is the best so far, and saves and returns the state after this epoch."""
        state = self.state
        kept = replace(self.checkpoint, model=self.optimisation.student)
        try:
            with name_failures(kept.method):
                figures = retrieve(kept.model, self.data.dev, self.data.features)
        except RowsError as problem:
            raise ModelError(f"after epoch {state.epoch} {problem}; lower lr (now {self.training.lr:g})") from None
        better = figures.sumr > state.best_sumr
        record = {
            "epoch": state.epoch,
            "losses": terms,
            "loss": sum(terms.values()),
            "lr": self.optimisation.last_rate,
            "equal_scores": equal,
            "dev": figures.as_dict(),
            "best": better,
            "seconds": round(time.monotonic() - began, 3),
        }
        found = find_untrained([*state.history, record], self.batches)
        record["untrained"] = [branch.branch for branch in found]
        for branch in found:
            if not any(branch.branch in earlier.get("untrained", []) for earlier in state.history):
                on_warning(f"{branch}; {remedy(branch.branch, self.checkpoint.settings)}")
        if better:
            about = {**self.checkpoint.about, "epoch": state.epoch, "dev": figures.as_dict(), "training": to_dict(self.training)}
            if self.distiller.settings.active:
                about["distillation"] = to_dict(self.distiller.settings)
            checkpoints.save(replace(kept, about=about), self.out)
        reached = state.after(record, epochs=self.training.epochs, patience=self.training.patience)
        save_state(self.out, reached, run=self.run, model=self.model, optimisation=self.optimisation)
        return reached

    def _steps(self, on_progress: Progress) -> tuple[dict[str, float], dict[str, float]]:
        """Trains on every batch; returns the mean of each term, and of its value if all scores were equal."""
        epoch, sums, equal = self.state.epoch, dict[str, Tensor](), dict[str, Tensor]()
        self.model.train()
        # Objectives may change their model: what only looks has one of its own.
        apart = copy.deepcopy(self.checkpoint.model)
        for number, (videos, batch, gather) in enumerate(self._batches(epoch)):
            on_progress(self._note(), epoch * self.batches + number, self.training.epochs * self.batches)
            self.group.draw_apart((self.training.seed, epoch, number))
            with name_failures(self.checkpoint.method):
                embedded = self.optimisation.embed(self.checkpoint.model, batch.to(self.device), gather)
                if self.group.leads:
                    _add(equal, self._equal_terms(apart, embedded))
                terms = self.distiller.objective(self.checkpoint.model, *embedded, epoch, self._kept_scores(videos))
            self.optimisation.step(torch.stack(list(terms.values())).sum(), self.group)
            _add(sums, terms)
        means, of_equal = ({name: float(value) / self.batches for name, value in each.items()} for each in (sums, equal))
        if not all(map(math.isfinite, means.values())):
            wider = ", or take precision=bfloat16 or float32" if self.training.precision == "float16" else ""
            raise ModelError(f"the loss of epoch {epoch} is not a number ({means}); lower lr (now {self.training.lr:g}){wider}")
        return means, of_equal

    def _equal_terms(self, apart: Model, embedded: tuple[Embeddings, Embeddings, Batch]) -> Terms:
        """The ranking terms of a batch if all scores were equal; random numbers are put back."""
        with torch.random.fork_rng(devices=self._drawing_devices()):
            return ranking_terms(self.distiller.equal_terms(apart, *embedded, self.state.epoch))

    def _drawing_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    def _kept_scores(self, videos: list[str]) -> list[Tensor]:
        """The scores of a batch of all processes by teachers that are trained models, in the order of `collate`."""
        order = sorted(videos, key=lambda video: -len(self.captions[video]))
        captions = [caption for video in order for caption in self.captions[video]]
        return [teacher.between(captions, order).to(self.device) for teacher in self.data.similarities]

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
    if open_method(recipe.method).objective is None:
        raise SettingError(f"{recipe.method} has nothing to learn; index and evaluate with it as it is")
    if data.similarities and not recipe.uses_teacher:
        raise SettingError(
            f"{recipe.method} has teachers that are trained models, and its recipe distils nothing; "
            "add distillation_target=batch_matrix distillation_weight=1"
        )
    if recipe.uses_teacher:
        check_teachers(recipe.distillation, len(data.features.teachers), len(data.similarities))
    if recipe.distillation.uses_teacher_scores and any(teacher.frames is None for teacher in data.features.teachers):
        raise SettingError(
            "a teacher has sentences alone, and this recipe compares frames with its; take distillation_target=query_relations "
            "and no soft_targets=teacher, or a teacher with frames"
        )
    if not data.train.captions:
        raise DataError(f"split {data.train.split!r} of {data.train.name!r} has no captions; there is nothing to learn from")
    if not data.dev.captions:
        raise DataError(f"split {data.dev.split!r} of {data.dev.name!r} has no captions; there is nothing to choose an epoch on")
    feature_files.check(replace(data.train, video_ids=tuple(_by_video(data.train))), data.features)
    feature_files.check(data.dev, data.features.without_teachers)


def _identity(first: Checkpoint, training: Training, data: Data, distiller: Distiller) -> dict[str, Any]:
    """What must be the same for a run to continue, as JSON would return it."""
    reads = {name: [source.name, source.fingerprint, source.rate] for name, source in vars(first.sources).items() if source}
    splits = {split.split: _content(split) for split in (data.train, data.dev)}
    teachers = [_origin(teacher.sentences if teacher.frames is None else teacher.frames) for teacher in data.features.teachers]
    settings = {**settings_to_compare(first.settings), **settings_to_compare(training)}
    identity = {"method": first.method, **settings, **reads, **splits, "teachers": teachers}
    if distiller.settings.active:
        identity |= settings_to_compare(distiller.settings)
        identity["similarities"] = [dict(teacher.about) for teacher in data.similarities]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in identity.items()}


def _check_same_run(run: dict[str, Any], leaders: dict[str, Any], *, rank: int) -> None:
    for name, value in run.items():
        if value != leaders[name]:
            raise SettingError(
                f"process {rank} has {name} {value!r}, the first process {leaders[name]!r}; "
                "give every machine the same command and the same data"
            )


def _content(split: Dataset) -> str:
    listed = json.dumps([[[c.id, c.video, c.text] for c in split.captions], split.video_ids])
    digest = hashlib.sha256(listed.encode()).hexdigest()[:16]
    return f"{len(split.captions)} captions, {len(split.video_ids)} videos, {digest}"


def _origin(features: Features) -> object:
    # Not the folder: a run may continue with features that were moved.
    return features.about if isinstance(features, Packed) else feature_files.place(features)


def _by_video(dataset: Dataset) -> dict[str, list[str]]:
    """Caption ids by video, in the order of the captions; videos without captions are left out."""
    captions: dict[str, list[str]] = {}
    for caption in dataset.captions:
        captions.setdefault(caption.video, []).append(caption.id)
    return captions


def _add(sums: dict[str, Tensor], terms: Terms) -> None:
    for name, value in terms.items():
        sums[name] = sums[name] + value.detach() if name in sums else value.detach()


def _epoch_seed(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + epoch
