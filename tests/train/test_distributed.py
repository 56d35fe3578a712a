"""Several processes train as one: the same losses, gradients and weights; and when one dies, all end with its reason."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Prvr, says
from dl_dkd import PLUS, split_changes
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.elastic.multiprocessing.errors import ErrorHandler, ProcessFailure
from toy_world import FRAMES, TEACHER, WORDS, toy_world
from waiting import until

from prvr.batch import collate, video_item
from prvr.errors import DataError, ProcessLost, PrvrError, SettingError
from prvr.features.packed import PackedWriter
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.methods.dl_dkd import DlDkd, DlDkdConfig
from prvr.train.distributed import Group, ProcessGroup, SingleProcess, join_group, places
from prvr.train.launch import _reason, launch
from prvr.train.loop import Data, Recipe, Training, _check_same_run, train_student
from prvr.train.optimiser import BertAdam, decay_groups

SMALL = DlDkdConfig(hidden=32, max_frames=32, margin=0.2, dropout=0.0, input_dropout=0.0)
WITH_DROPOUT = dataclasses.replace(SMALL, dropout=0.2, input_dropout=0.2)
# 40 videos: batches of 13, 13, 13 and 1. None divides by two, and of the last the second process has nothing.
QUICK = Training(lr=3e-3, epochs=3, batch_videos=13, seed=1)

# What a step has besides, all of it together.
EVERYTHING = dataclasses.replace(QUICK, optimiser="adamw", schedule="cosine", clip_norm=0.3, ema_decay=0.8)

# Name, changes to the settings, videos of the batch, number type.
STEPS: dict[str, tuple[dict[str, Any], int, torch.dtype]] = {
    "soft targets": ({}, 12, torch.float64),
    "single precision": ({}, 12, torch.float32),
    "dl-dkd": ({"soft_targets": "none", "shared_query_projection": True}, 12, torch.float64),
    "uneven": ({}, 11, torch.float64),
    "three videos": ({}, 3, torch.float64),
    "one video": ({}, 1, torch.float64),
    "random hard part": ({"hard_part": "random", "negative_pool": 5}, 12, torch.float64),
    "weights in the loss": ({"distillation_target": "feature"}, 11, torch.float64),
    "no teacher": ({"soft_targets": "none", "distillation_weight": 0.0}, 11, torch.float64),
    "bi-gru": ({"text_backbone": "bi_gru"}, 7, torch.float64),
}


def ragged_world() -> Data:
    """The toy world with videos of 3 to 15 frames, so that processes must pad to each other's lengths."""
    data = toy_world()
    length = {video: 3 + place % 13 for place, video in enumerate(data.features.frames)}
    teachers = tuple(
        dataclasses.replace(teacher, frames={id: rows[: length[id]] for id, rows in teacher.frames.items()})
        for teacher in data.features.teachers
    )
    frames = {id: rows[: length[id]] for id, rows in data.features.frames.items()}
    return dataclasses.replace(data, features=dataclasses.replace(data.features, frames=frames, teachers=teachers))


def student(**changes: Any) -> DlDkd:
    torch.manual_seed(3)
    return DlDkd(dataclasses.replace(SMALL, **changes), frame_columns=FRAMES, word_columns=WORDS)


def two_steps(group: Group, changes: dict[str, Any], videos: int, dtype: torch.dtype) -> dict[str, Any]:
    """Losses and gradients of two steps, and the weights after them, on the first videos of the ragged world."""
    own, distillation = split_changes(changes)
    data, model = ragged_world(), student(**own).to(dtype).train()
    torch.manual_seed(4)
    distiller = Distiller(distillation, method="dl_dkd", student=model, teacher_columns=[TEACHER]).to(dtype)
    learners = torch.nn.ModuleList([model, distiller])
    captions: dict[str, list[str]] = {}
    for caption in data.train.captions:
        captions.setdefault(caption.video, []).append(caption.id)
    chosen = list(captions)[:videos]
    optimiser = BertAdam(decay_groups(learners.parameters(), weight_decay=0.01), lr=1e-3, total_steps=10, warmup=0.1)
    found: dict[str, Any] = {}
    torch.manual_seed(11)
    for step in range(2):
        share = group.share([len(captions[video]) for video in chosen])
        videos_read = [chosen[place] for place in share.videos]
        batch = collate([video_item(video, captions[video], data.features, model.reading) for video in videos_read])
        group.draw_apart((11, step))
        terms = distiller.objective(model, *embed(model, batch.to(torch.device("cpu"), dtype), share.gather), 5)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        group.mean_gradients(learners.parameters())
        found |= {f"{step}/loss/{name}": value.detach().clone() for name, value in terms.items()}
        found |= {f"{step}/gradient/{n}": p.grad.clone() for n, p in learners.named_parameters() if p.grad is not None}
        optimiser.step()
    return found | {f"weight/{name}": parameter.detach().clone() for name, parameter in learners.named_parameters()}


class Stopped(Exception):
    """Both processes stop here."""


def trained(
    out: Path,
    group: Group,
    settings: DlDkdConfig = SMALL,
    *,
    until: int | None = None,
    data: Data | None = None,
    training: Training = QUICK,
) -> tuple[str, list[str]]:
    """The fingerprint of the checkpoint, and of the weights before each step; `until` is the step that is not made any more."""
    objective, steps = Distiller.objective, []

    def watched(distiller: Distiller, model: DlDkd, *rest: Any) -> Any:
        weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
        steps.append(hashlib.sha256(weights).hexdigest())
        return objective(distiller, model, *rest)

    def stop(note: str, done: int, total: int) -> None:
        if done == until:
            raise Stopped

    Distiller.objective = watched  # type: ignore[method-assign, assignment]
    try:
        recipe = Recipe("dl_dkd", settings, training, PLUS)
        best = train_student(out, recipe, data=data or toy_world(), on_progress=stop, group=group)
        return best.fingerprint, steps
    except Stopped:
        return "stopped", steps
    finally:
        Distiller.objective = objective  # type: ignore[method-assign]


def drawn(group: Group) -> list[float]:
    """Random numbers: of its own, then of all."""
    torch.manual_seed(5)
    share = group.share([1, 1])
    group.draw_apart((5, 0))
    apart = torch.rand(()).item()
    one = torch.zeros(1, 1)
    batch = collate([video_item("video001", ["video001#0"], toy_world().features, student().reading)])
    share.gather((one,), (one[None],), batch)
    return [apart, torch.rand(()).item()]


def all_of_it(root: Path) -> None:
    """What each of two processes does once; what it finds is written down for the tests below."""
    torch.set_num_threads(1)
    with join_group("cpu") as group, pytest.MonkeyPatch.context() as patch:
        assert isinstance(group, ProcessGroup)
        patch.setattr("prvr.train.run_state.write_picture", lambda path, figure: None)
        place = root / f"process{group.rank}"
        place.mkdir()
        for name, case in STEPS.items():
            np.savez(place / f"{name}.npz", **two_steps(group, *case))
        found: dict[str, Any] = {"size": group.size, "drawn": drawn(group)}
        found["bytes"] = [len(group.bytes_from_leader(data)) for data in (b"", b"abc" if group.leads else b"")]
        found["value"] = group.from_leader([1.5, None] if group.leads else "ignored")
        found["whole"] = trained(root / "whole", group)
        found["dropout"] = trained(root / "dropout", group, WITH_DROPOUT)
        found["dropout again"] = trained(root / "dropout again", group, WITH_DROPOUT, until=6)
        found["dropout resumed"] = trained(root / "dropout again", group, WITH_DROPOUT)
        trained(root / "dropout handed on", group, WITH_DROPOUT, until=5)
        found["everything"] = trained(root / "everything", group, training=EVERYTHING)
        with patch.context() as patch:
            patch.setattr("prvr.device._reduced_precisions", lambda device: ["bfloat16", "float16"])
            for precision in ("bfloat16", "float16"):
                reduced = dataclasses.replace(EVERYTHING, precision=precision)
                found[precision] = trained(root / precision, group, training=reduced)
                trained(root / f"{precision} again", group, training=reduced, until=6)
                found[f"{precision} resumed"] = trained(root / f"{precision} again", group, training=reduced)
        # One process was here for an epoch, two go on for another; what is left is for one again.
        found["middle"] = trained(root / "handed on", group, until=9)
        (place / "found.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have written down what they found."""
    root = tmp_path_factory.mktemp("two")
    assert trained(root / "handed on", SingleProcess(), until=5)[0] == "stopped"
    launch(partial(all_of_it, root), 2, device="cpu")
    return root


@pytest.fixture
def found(made: Path) -> list[dict[str, Any]]:
    both = [json.loads((made / f"process{rank}" / "found.json").read_text()) for rank in range(2)]
    assert [one["size"] for one in both] == [2, 2]
    return both


def history(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def numbers(out: Path) -> Any:
    """The history as an array: epochs, losses, figures on the dev split."""
    return np.array([[r["epoch"], *r["losses"].values(), *r["dev"].values(), r["best"]] for r in history(out)])


# The same as one process


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_losses_gradients_and_weights_of_two_processes_are_those_of_one(made: Path, name: str) -> None:
    changes, videos, dtype = STEPS[name]
    tolerance = 1e-5 if dtype is torch.float32 else 1e-10
    one = two_steps(SingleProcess(), changes, videos, dtype)
    assert any(value.any() for key, value in one.items() if "gradient" in key)
    for rank in range(2):
        with np.load(made / f"process{rank}" / f"{name}.npz") as two:
            assert sorted(two) == sorted(one)
            for key, value in one.items():
                np.testing.assert_allclose(two[key], value.numpy(), rtol=tolerance, atol=tolerance, err_msg=key)


@pytest.mark.slow
def test_three_epochs_of_two_processes_are_those_of_one(made: Path, found: list[dict], tmp_path: Path) -> None:
    _, steps = trained(tmp_path / "one", SingleProcess())
    assert len(steps) == len(found[0]["whole"][1]) == 3 * 4
    np.testing.assert_allclose(numbers(made / "whole"), numbers(tmp_path / "one"), rtol=1e-5, atol=1e-5)
    one, two = (safetensors_of(root) for root in (tmp_path / "one", made / "whole"))
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, rtol=1e-5, atol=1e-5, err_msg=name)


def safetensors_of(out: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(out / "state.safetensors")


@pytest.mark.slow
def test_clipping_adamw_and_the_average_of_two_processes_are_those_of_one(made: Path, tmp_path: Path) -> None:
    trained(tmp_path / "one", SingleProcess(), training=EVERYTHING)
    np.testing.assert_allclose(numbers(made / "everything"), numbers(tmp_path / "one"), rtol=1e-4, atol=1e-4)
    one, two = (safetensors_of(root) for root in (tmp_path / "one", made / "everything"))
    assert any(name.startswith("average/") for name in one)
    # AdamW divides small gradients by their own size: what differs by rounding may differ by more after it.
    for name in (name for name in one if name.startswith(("average/", "model/"))):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-2, atol=2e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_two_processes_in_mixed_precision_resume_to_the_same_bits(made: Path, found: list[dict], precision: str) -> None:
    assert found[0][f"{precision} resumed"][0] == found[0][precision][0]
    whole, again = (safetensors_of(made / name) for name in (precision, f"{precision} again"))
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["whole", "dropout", "everything", "bfloat16", "float16"])
def test_the_weights_of_the_processes_are_the_same_to_the_bit(found: list[dict], run: str) -> None:
    (best, steps), (other_best, other_steps) = (one[run] for one in found)
    assert steps == other_steps
    # The first step has a rate of 0; in float16 the first ones may be left out.
    assert len(set(steps)) >= (2 if run == "float16" else len(steps) - 1)
    assert best == other_best


@pytest.mark.slow
def test_a_run_goes_from_one_process_to_two_and_back(made: Path, found: list[dict], tmp_path: Path) -> None:
    # Of the third epoch two processes made one step, which is lost.
    assert [len(one["middle"][1]) for one in found] == [5, 5]
    assert [record["epoch"] for record in history(made / "handed on")] == [0, 1]
    trained(made / "handed on", SingleProcess())
    trained(tmp_path / "one", SingleProcess())
    assert [record["epoch"] for record in history(made / "handed on")] == [0, 1, 2]
    np.testing.assert_allclose(numbers(made / "handed on"), numbers(tmp_path / "one"), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_with_dropout_two_processes_repeat_themselves(made: Path, found: list[dict]) -> None:
    assert found[0]["dropout again"][0] == "stopped"
    assert found[0]["dropout resumed"][0] == found[0]["dropout"][0]
    assert np.array_equal(numbers(made / "dropout again"), numbers(made / "dropout"))


@pytest.mark.slow
def test_a_run_with_dropout_goes_on_in_one_process(made: Path, tmp_path: Path) -> None:
    handed_on = tmp_path / "handed on"
    shutil.copytree(made / "dropout handed on", handed_on)
    assert len(history(handed_on)) == 1
    trained(handed_on, SingleProcess(), WITH_DROPOUT)
    two, one = numbers(made / "dropout"), numbers(handed_on)
    assert np.array_equal(two[0], one[0])
    # Other numbers drop out in one process: near, and not the same.
    assert not np.array_equal(two, one)
    np.testing.assert_allclose(two[:, 1:6], one[:, 1:6], rtol=0.2)


@pytest.mark.slow
def test_processes_drop_out_apart_and_draw_negatives_alike(found: list[dict]) -> None:
    (apart, alike), (other_apart, other_alike) = (one["drawn"] for one in found)
    assert apart != other_apart
    assert alike == other_alike
    torch.manual_seed(5)
    assert alike == torch.rand(()).item()


@pytest.mark.slow
def test_bytes_of_the_leader(found: list[dict]) -> None:
    assert [one["bytes"] for one in found] == [[0, 3], [0, 3]]
    assert [one["value"] for one in found] == [[1.5, None]] * 2


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(2, 5))
def test_every_query_and_video_is_found_again(captions: list[int], processes: int) -> None:
    order = sorted(captions, reverse=True)
    # What each process has after `ProcessGroup.share`: (video, caption) of each query, in the order of its own batch.
    shares = [
        [(video, k) for video in range(len(order))[rank::processes] for k in range(order[video])] for rank in range(processes)
    ]
    ((ranks, rows), (video_ranks, video_rows)), target = places(torch.tensor(order), processes=processes)
    wanted = [(video, k) for video in range(len(order)) for k in range(order[video])]
    assert [shares[rank][row] for rank, row in zip(ranks.tolist(), rows.tolist(), strict=True)] == wanted
    assert target.tolist() == [video for video, _ in wanted]
    held = [list(range(len(order)))[rank::processes] for rank in range(processes)]
    assert [held[r][row] for r, row in zip(video_ranks.tolist(), video_rows.tolist(), strict=True)] == list(range(len(order)))


# What goes wrong


def fails(root: Path) -> None:
    """The second process ends in the midst of training; the first waits for it."""
    torch.set_num_threads(1)
    with join_group("cpu") as group:

        def end(note: str, done: int, total: int) -> None:
            if done == 6 and not group.leads:
                raise DataError("rows are gone; put them back")

        train_student(root, Recipe("dl_dkd", SMALL, QUICK, PLUS), data=toy_world(), on_progress=end, group=group)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_process_that_fails_ends_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^rows are gone; put them back$") as failed:
        launch(partial(fails, tmp_path), 2, device="cpu")
    assert "in end" in str(failed.value.__cause__)
    assert not list(tmp_path.rglob("*.part"))
    assert len(history(tmp_path)) == 1


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (KeyError("thing"), r"^a process failed \(KeyError: 'thing'\); --debug shows where, and completed work is kept$"),
        (OSError(28, "No space left on device", "run/state"), r"No space left on device: 'run/state'"),
        (DataError("rows are gone; put them back"), r"^rows are gone; put them back$"),
    ],
)
def test_the_line_of_a_process_that_failed(
    problem: Exception, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    ErrorHandler().record_exception(problem)
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=1, error_file=str(tmp_path / "error.json"))
    error = _reason(1, failure, 2)
    assert isinstance(error, type(problem) if isinstance(problem, PrvrError | OSError) else ProcessLost)
    with pytest.raises((PrvrError, OSError), match=says):
        raise error


@pytest.mark.parametrize(("status", "how"), [(-9, r"by SIGKILL \(a machine out of memory does that\)"), (3, "with status 3")])
def test_the_line_of_a_process_that_was_ended(status: int, how: str, tmp_path: Path) -> None:
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=status, error_file=str(tmp_path / "none"))
    with pytest.raises(ProcessLost, match=f"process 2 of 2 was ended {how}; completed work is kept"):
        raise _reason(1, failure, 2)


def test_processes_with_other_data_are_refused() -> None:
    run = {"lr": 0.1, "train": "9 captions"}
    _check_same_run(run, dict(run), rank=1)
    with pytest.raises(SettingError, match=r"process 1 has train '9 captions', the first process '8 captions'; .*same data"):
        _check_same_run(run, {**run, "train": "8 captions"}, rank=1)


def test_more_devices_than_there_are() -> None:
    there = torch.cuda.device_count()
    with pytest.raises(SettingError, match=rf"--devices {there + 2} on cuda: torch sees {there} GPUs"):
        launch(lambda: None, there + 2, device="cuda")


def test_processes_within_those_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(SettingError, match="--devices 2 within 4 processes that torchrun has started"):
        launch(lambda: None, 2, device="cpu")


@pytest.mark.parametrize(
    ("environment", "device", "says"),
    [
        ({"WORLD_SIZE": "many"}, "cpu", "WORLD_SIZE is 'many'"),
        ({"WORLD_SIZE": "2"}, "cpu", "RANK is ''.*start with torchrun, or unset WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "-1"}, "cpu", "LOCAL_RANK is '-1'"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "cuda:1", "'cuda:1' is one device"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "99"}, "cuda", "cannot run on device 'cuda:99' here"),
    ],
)
def test_an_environment_that_is_not_whole(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], device: str, says: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=says), join_group(device):
        pass


def test_a_meeting_place_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ProcessLost, match=r"the other processes cannot be reached .*MASTER_ADDR"), join_group("cpu"):
        pass


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with join_group("cpu") as group:
        assert isinstance(group, SingleProcess)
    assert not torch.distributed.is_initialized()


# The command


def write_world(root: Path) -> list[str]:
    """The toy world as `prvr train` reads it; the command's arguments, without the run's folder."""
    data = toy_world()
    (teacher,) = data.features.teachers
    captions = [*data.train.captions, *data.dev.captions]
    (root / "videos").mkdir(parents=True)
    lines = []
    for split in (data.train, data.dev):
        for caption in split.captions:
            (root / "videos" / f"{caption.video}.mp4").touch()
            lines.append({"video": f"{caption.video}.mp4", "text": caption.text, "split": split.split, "id": caption.id})
    lines.append({"video": "video000.mp4", "text": "again", "split": "dev", "id": "again"})
    lines = [{**line, "split": "test"} if line["video"] == "video003.mp4" else line for line in lines]
    (root / "videos" / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kinds = {"sight/frames": {f"{v}.mp4": rows for v, rows in data.features.frames.items()}}
    kinds["seer/frames"] = {f"{v}.mp4": rows for v, rows in teacher.frames.items()}
    kinds["seer/sentences"] = {**teacher.sentences, "again": teacher.sentences[captions[0].id]}
    kinds["reader/words"] = {**data.features.text, "again": data.features.text[captions[0].id]}
    for place, rows_of in kinds.items():
        name, kind = place.split("/")
        about = {"kind": kind, "encoder": {"name": name, "fingerprint": "0" * 16}, "rate": 1.0}
        width = next(iter(rows_of.values())).shape[1]
        with PackedWriter(root / "features" / name / kind, columns=width, about=about) as writer:
            for id, rows in rows_of.items():
                writer.append(id, rows)
    names = ["--frames", "sight", "--words", "reader", "--teacher", "seer"]
    settings = ["hidden=32", "dropout=0", "input_dropout=0", "batch_videos=13", "lr=3e-3", "patience=40000"]
    return [str(root / "videos"), str(root / "features"), *names, *settings]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_world(tmp_path_factory.mktemp("world"))


def command(world: list[str], run: Path, *more: str) -> list[str]:
    return ["-m", "prvr", "train", *world[:2], str(run), *world[2:], *more]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.mark.slow
@pytest.mark.thorough
def test_devices_and_torchrun_train_alike(world: list[str], tmp_path: Path, prvr: Prvr) -> None:
    assert prvr(*command(world, tmp_path / "one", "epochs=2", "--json")[2:]).status == 0
    by_torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "prvr"]
    starts = {"devices": ["-m", "prvr"], "torchrun": by_torchrun}
    for name, start in starts.items():
        more = ["--devices", "2"] if name == "devices" else []
        call = [*start, *command(world, tmp_path / name, "epochs=2", "--json", *more)[2:]]
        done = subprocess.run([sys.executable, *call], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["run"] == str(tmp_path / name)  # one process speaks
        np.testing.assert_allclose(numbers(tmp_path / name), numbers(tmp_path / "one"), rtol=1e-5, atol=1e-5)


def test_a_wrong_setting_is_told_before_processes_start(world: list[str], tmp_path: Path, prvr: Prvr) -> None:
    answer = prvr(*command(world, tmp_path, "marign=0.3", "--devices", "2")[2:])
    says(answer, "unknown setting 'marign'; did you mean 'margin'?")


def children_of(pid: int) -> Iterator[int]:
    """Processes that do the work, not those that Python keeps beside them."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            yield int(child)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="lists processes as Linux does")
@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        ("kill a worker", 1, r"prvr: process 2 of 2 was ended by SIGKILL"),
        pytest.param("interrupt", 130, "prvr: interrupted; completed work is kept", marks=pytest.mark.thorough),
    ],
)
def test_a_command_that_is_cut_off(world: list[str], tmp_path: Path, how: str, status: int, says: str) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    call = [sys.executable, *command(world, tmp_path / "run", "epochs=40000", "--devices", "2")]
    process = subprocess.Popen(
        call, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, before)
    # The history comes last of what an epoch writes.
    until((tmp_path / "run" / "history.jsonl").exists)
    workers = list(children_of(process.pid))
    assert len(workers) == 2
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(workers[1], signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status
    assert out == ""
    assert says in err
    assert len(err.splitlines()) <= (2 if status == 130 else 1), err
    assert 1 <= len(history(tmp_path / "run")) < 40000
    until(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])
