"""A step of training: optimiser, schedule, clipping, the average of the weights, mixed precision; and all of it resumed."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from dl_dkd import PLUS
from torch import Tensor, nn
from toy_world import toy_world

from prvr import device
from prvr.errors import SettingError
from prvr.evaluate.evaluation import retrieve
from prvr.methods import checkpoint as checkpoints
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.train.distributed import SingleProcess
from prvr.train.loop import Recipe, Training, train_student
from prvr.train.optimisation import Optimisation
from prvr.train.optimiser import learning_rate
from prvr.train.presets import PRESETS, preset
from prvr.train.recipe import change

CPU = torch.device("cpu")
SMALL = DlDkdConfig(hidden=32, max_frames=32, margin=0.2, dropout=0.1, input_dropout=0.1)
QUICK = Training(lr=3e-3, epochs=3, batch_videos=16, seed=1)
EVERYTHING = {"optimiser": "adamw", "schedule": "cosine", "clip_norm": 0.5, "ema_decay": 0.9}


@pytest.fixture
def any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every precision on the CPU, which torch computes on every processor, if slowly."""
    monkeypatch.setattr(device, "_reduced_precisions", lambda device: ["bfloat16", "float16"])


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def losses_of(model: nn.Module, steps: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(5, 4) for _ in range(steps)]


def optimised(model: nn.Module, training: Training, *, steps: int) -> Optimisation:
    return Optimisation(model, model, training, steps=steps, device=CPU)


# The rate


@pytest.mark.parametrize(("step", "share"), [(0, 0), (1, 0.5), (2, 1), (6, 0.5), (10, 0)])
def test_the_cosine_by_hand(step: int, share: float) -> None:
    rate = learning_rate(step, lr=4.0, total_steps=10, warmup=0.2, schedule="cosine")
    assert rate == pytest.approx(4 * share, abs=1e-12)
    # A quarter of the way down: (1 + cos(pi / 4)) / 2.
    quarter = learning_rate(4, lr=4.0, total_steps=10, warmup=0.2, schedule="cosine")
    assert quarter == pytest.approx(4 * (1 + math.sqrt(0.5)) / 2, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in PRESETS if "matching" in name])
def test_bgm_nets_rate_is_that_of_its_specification(name: str) -> None:
    training, steps = preset(name).training, 1000
    for step in range(0, steps, 7):
        # p: the share of the steps after the warm-up, which has 1 % of all.
        p = (step - 10) / 990
        expected = step / 10 if step < 10 else 0.5 * (1 + math.cos(math.pi * p))
        rate = learning_rate(step, lr=training.lr, total_steps=steps, warmup=training.warmup, schedule=training.schedule)
        assert rate == pytest.approx(training.lr * expected, rel=1e-9, abs=1e-15), step


def test_no_other_preset_has_a_setting_of_this_file() -> None:
    plain = Training()
    for name in PRESETS:
        training = preset(name).training
        assert training.schedule == ("cosine" if "matching" in name else "linear"), name
        added = ("optimiser", "clip_norm", "ema_decay", "precision")
        assert all(getattr(training, setting) == getattr(plain, setting) for setting in added), name


# The optimiser


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_adamw_is_torchs_with_a_schedule_written_plainly(schedule: Any) -> None:
    model, other, steps = small_model(), small_model(), 12
    training = Training(lr=0.1, warmup=0.25, weight_decay=0.2, optimiser="adamw", schedule=schedule)
    ours = optimised(model, training, steps=steps)
    # Biases do not decay.
    groups = [
        {"params": [p for n, p in other.named_parameters() if n.endswith("weight")], "weight_decay": 0.2},
        {"params": [p for n, p in other.named_parameters() if n.endswith("bias")], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=0.1)

    def share(step: int) -> float:
        if step < 3:
            return step / 3
        p = (step - 3) / 9
        return (1 + math.cos(math.pi * p)) / 2 if schedule == "cosine" else 1 - p

    down = torch.optim.lr_scheduler.LambdaLR(theirs, share)
    for rows in losses_of(model, steps):
        ours.step(model(rows).square().sum(), SingleProcess())
        theirs.zero_grad()
        other(rows).square().sum().backward()
        theirs.step()
        down.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, dict(other.named_parameters())[name], rtol=1e-6, atol=1e-8)
    assert ours.last_rate == pytest.approx(0.1 * share(steps - 1))


def test_clipping_by_hand() -> None:
    # Gradients (3, 4) and 12: their norm together is 13, and each becomes half of itself over 6.5.
    model = nn.ParameterDict({"a": torch.zeros(2), "b": torch.zeros(1)})
    ours = optimised(model, Training(lr=1.0, warmup=0.0, clip_norm=6.5, optimiser="adamw", weight_decay=0.0), steps=4)
    ours.step(3 * model["a"][0] + 4 * model["a"][1] + 12 * model["b"][0], SingleProcess())
    assert model["a"].grad.tolist() == pytest.approx([1.5, 2.0], rel=1e-5)
    assert model["b"].grad.tolist() == pytest.approx([6.0], rel=1e-5)
    ours.step(3 * model["a"][0] + 4 * model["a"][1], SingleProcess())
    assert model["a"].grad.tolist() == pytest.approx([3.0, 4.0])


def test_bert_adam_clips_each_tensor_after_all_together() -> None:
    model = nn.ParameterDict({"a": torch.zeros(2, 1), "b": torch.zeros(1, 1)})
    ours = optimised(model, Training(lr=1.0, warmup=0.0, clip_norm=6.5, weight_decay=0.0), steps=4)
    ours.step(3 * model["a"][0, 0] + 4 * model["a"][1, 0] + 12 * model["b"][0, 0], SingleProcess())
    # (1.5, 2) has norm 2.5, and 6 has 6: both are scaled to 1; a tenth of it is the mean of gradients.
    assert ours.optimiser.state[model["a"]]["mean"].flatten().tolist() == pytest.approx([0.06, 0.08], rel=1e-5)
    assert ours.optimiser.state[model["b"]]["mean"].flatten().tolist() == pytest.approx([0.1], rel=1e-5)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_average_of_the_weights_by_a_slow_loop(decay: float) -> None:
    model, steps = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), 6
    ours = optimised(model, Training(lr=0.1, warmup=0.0, ema_decay=decay, optimiser="adamw"), steps=steps)
    slow: list[list[float]] = []
    for rows in losses_of(model, steps):
        ours.step((model(rows) - 1).square().sum(), SingleProcess())
        now = [parameter.flatten().tolist() for parameter in model.parameters()]
        slow = [
            [decay * before + (1 - decay) * value for before, value in zip(old, new, strict=True)]
            for old, new in zip(slow or now, now, strict=True)
        ]
    averages = [parameter.flatten().tolist() for parameter in ours.student.parameters()]
    for mine, theirs in zip(averages, slow, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    assert not torch.equal(ours.student[0].weight, model[0].weight)
    assert torch.equal(ours.student[1].running_mean, model[1].running_mean)


# Mixed precision


@pytest.mark.usefixtures("any_precision")
def test_a_step_that_overflows_is_left_out() -> None:
    model = nn.ParameterDict({"a": torch.ones(2)})
    training = Training(lr=0.1, warmup=0.5, precision="float16", **EVERYTHING)
    ours = optimised(model, training, steps=4)
    fine = lambda: model["a"].sum()  # noqa: E731
    ours.step(fine(), SingleProcess())
    before = (ours.steps, ours.optimiser.param_groups[0]["lr"], ours.numbers()["scaler"]["scale"])
    weights, average = model["a"].detach().clone(), ours.student["a"].detach().clone()
    ours.step(1e37 * fine(), SingleProcess())
    assert torch.equal(model["a"], weights)
    assert torch.equal(ours.student["a"], average)
    assert (ours.steps, ours.optimiser.param_groups[0]["lr"]) == before[:2]
    assert ours.numbers()["scaler"]["scale"] == before[2] / 2
    ours.step(fine(), SingleProcess())
    assert ours.steps == before[0] + 1
    assert not torch.equal(model["a"], weights)


@pytest.mark.usefixtures("any_precision")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_encoders_compute_in_the_precision_and_losses_in_float32(precision: str, tmp_path: Path) -> None:
    seen: dict[str, set[torch.dtype]] = {"products": set(), "scores": set()}
    product = torch.nn.functional.linear

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if function is product and torch.is_autocast_enabled("cpu"):
                seen["products"].add(result.dtype)
            if function is torch.Tensor.backward:
                seen["scores"].add(args[0].dtype)
            return result

    with Watch():
        run(tmp_path / "run", precision=precision, epochs=1)
    assert seen == {"products": {getattr(torch, precision)}, "scores": {torch.float32}}
    assert {weight.dtype for weight in safetensors.torch.load_file(tmp_path / "run" / "model.safetensors").values()} == {
        torch.float32
    }


# HGR reads words with roles, which this world lacks.
LEARN_HERE = [name for name in PRESETS if name.endswith("/toy") and name not in ("hgr/toy", "prvr-best/toy")]


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.usefixtures("any_precision")
@pytest.mark.parametrize("name", LEARN_HERE)
def test_every_method_learns_in_bfloat16(name: str, tmp_path: Path) -> None:
    data, losses = toy_world(videos=24), {}
    for precision in ("float32", "bfloat16"):
        recipe = change(preset(name), [f"precision={precision}", "epochs=1", "batch_videos=8"])
        train_student(tmp_path / precision, recipe, data=data)
        losses[precision] = json.loads((tmp_path / precision / "history.jsonl").read_text())["loss"]
    # Random numbers of another type are drawn, of dropout, too.
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_precision_that_the_device_lacks(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    with pytest.raises(
        SettingError, match=rf"^precision is '{precision}', and cpu has no products in {precision} .*take float32$"
    ):
        run(tmp_path / "run", precision=precision)
    assert not (tmp_path / "run").exists()


def test_a_processor_with_bfloat16_has_no_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    device.check_precision("bfloat16", CPU)
    with pytest.raises(SettingError, match="take bfloat16 or float32"):
        device.check_precision("float16", CPU)


# Settings


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("optimiser=sgd", "optimiser is 'sgd'; it takes bert_adam or adamw"),
        ("schedule=steps", "schedule is 'steps'; it takes linear or cosine"),
        ("precision=half", "precision is 'half'; it takes float32 or bfloat16 or float16"),
        ("clip_norm=0", "clip_norm is 0.0; it must be above 0"),
        ("clip_norm=-1", "clip_norm is -1.0; it must be above 0"),
        ("clip_norm=nan", "clip_norm is nan; it takes a number or none"),
        ("ema_decay=1", r"ema_decay is 1.0; it is 0 or more and below 1"),
        ("ema_decay=-0.1", r"ema_decay is -0.1; it is 0 or more and below 1"),
    ],
)
def test_settings_that_are_refused(setting: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        change(preset("dl-dkd++"), [setting])


def test_an_unknown_optimiser_from_python() -> None:
    with pytest.raises(SettingError, match="unknown optimiser 'adam'; did you mean 'adamw'"):
        Training(optimiser="adam")  # type: ignore[arg-type]


# Resumed


def run(out: Path, *, until: int | None = None, **changes: Any) -> checkpoints.Checkpoint:
    def kill(note: str, done: int, total: int) -> None:
        if done == until:
            raise Killed

    recipe = Recipe("dl_dkd", SMALL, dataclasses.replace(QUICK, **changes), PLUS)
    return train_student(out, recipe, data=toy_world(), on_progress=kill)


class Killed(BaseException):
    """Nothing may catch this."""


WAYS: dict[str, dict[str, Any]] = {
    "bert_adam, cosine": {"schedule": "cosine"},
    "adamw": {"optimiser": "adamw"},
    "clipped and averaged": {"clip_norm": 0.1, "ema_decay": 0.9},
    "everything": EVERYTHING,
    "bfloat16": {**EVERYTHING, "precision": "bfloat16"},
    "float16": {**EVERYTHING, "precision": "float16"},
}


@pytest.mark.slow
@pytest.mark.usefixtures("any_precision")
@pytest.mark.parametrize("way", WAYS)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, way: str) -> None:
    whole = run(tmp_path / "whole", **WAYS[way])
    # Three batches an epoch: within the first epoch, between two, within the last.
    for step in (1, 3, 7):
        with pytest.raises(Killed):
            run(tmp_path / "cut", until=step, **WAYS[way])
    resumed = run(tmp_path / "cut", **WAYS[way])
    assert resumed.fingerprint == whole.fingerprint
    (first, about), (second, other) = (stored(tmp_path / name) for name in ("whole", "cut"))
    assert about == other
    assert sorted(first) == sorted(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert any(name.startswith("average/") for name in first) == ("ema_decay" in WAYS[way])


def stored(out: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = (out / "state.safetensors").read_bytes()
    about = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["prvr"])
    for record in about["state"]["history"]:
        record.pop("seconds")
    return safetensors.torch.load(content), about


@pytest.mark.slow
def test_the_average_is_what_is_evaluated_and_saved(tmp_path: Path) -> None:
    best = run(tmp_path, **EVERYTHING, epochs=1)
    state, about = stored(tmp_path)
    for name, weight in best.model.state_dict().items():  # type: ignore[attr-defined]
        assert torch.equal(weight, state[f"average/module.{name}"]), name
    assert any(not torch.equal(state[f"average/module.{name}"], state[f"model/{name}"]) for name in best.model.state_dict())  # type: ignore[attr-defined]
    data = toy_world()
    assert retrieve(best.model, data.dev, data.features).as_dict() == about["state"]["history"][0]["dev"]


def test_a_setting_of_this_file_that_changed_is_refused(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    with pytest.raises(SettingError, match=r"holds a run with ema_decay None \(now 0.9\)"):
        run(tmp_path, epochs=1, ema_decay=0.9)


def test_the_history_has_the_rate_of_each_epochs_last_step(tmp_path: Path) -> None:
    run(tmp_path, schedule="cosine", warmup=0.0)
    rates = [json.loads(line)["lr"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([3e-3 * (1 + math.cos(math.pi * step / 9)) / 2 for step in (2, 5, 8)])
