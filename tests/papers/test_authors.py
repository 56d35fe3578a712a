"""Published checkpoints become ours with the published scores; other files do nothing and are refused in one line."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from commands import Prvr
from published import arrays, batch, numbers
from torch import Tensor

from prvr.child import ENVIRONMENT
from prvr.errors import ModelError, SettingError
from prvr.evaluate.evaluation import protocol_of
from prvr.features.sources import Source
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import CONFIG
from prvr.methods.dl_dkd import DlDkd
from prvr.nn import scores
from prvr.papers import authors
from prvr.papers.authors import import_checkpoint, quarantine
from prvr.papers.authors.names import our_name, read_names
from tests.methods.test_parity_model import close

FOLDERS = ["model_double", "model_single", "model_iccv"]


@pytest.fixture
def easydict(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class as the library of that name has it: every entry is also an attribute, so that both are pickled."""

    class EasyDict(dict):
        def __init__(self, entries: dict[str, Any] | None = None) -> None:
            super().__init__()
            for name, value in (entries or {}).items():
                setattr(self, name, value)

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            super().__setitem__(name, value)

    EasyDict.__module__, EasyDict.__qualname__ = "easydict", "EasyDict"
    module = types.ModuleType("easydict")
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "easydict", module)
    return EasyDict


def weights(folder: str = "model_double") -> OrderedDict[str, Tensor]:
    return OrderedDict((name, torch.from_numpy(value).float()) for name, value in arrays(f"{folder}/params.npz").items())


def stored(easydict: type, folder: str = "model_double", **changes: object) -> dict[str, Any]:
    """What the published training loop saves."""
    heads = numbers(f"{folder}/config.json")["n_heads"]
    config = {
        "n_heads": heads,
        "drop": 0.15,
        "input_drop": 0.25,
        "margin": 0.2,
        "hard_pool_size": 7,
        "nested": easydict({"a": 1}),
    }
    return {"model": weights(folder), "model_cfg": easydict({**config, **changes}), "epoch": 57}


def save(path: Path, value: object, *, old: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path, _use_new_zipfile_serialization=not old)
    return path


# The published numbers, through the real command


@pytest.mark.parametrize(("folder", "old"), [("model_double", False), ("model_single", True), ("model_iccv", False)])
def test_a_published_checkpoint_gives_the_published_scores(
    prvr: Prvr,
    easydict: type,
    tmp_path: Path,
    folder: str,
    old: bool,
) -> None:
    made = save(tmp_path / "model.ckpt", stored(easydict, folder), old=old)
    answer = prvr("checkpoint", "import", made, tmp_path / "run", "--visual-feature", "i3d_resnet", "--json")
    assert answer.status == 0, answer.err
    checkpoint = checkpoints.load(tmp_path / "run")
    assert answer.json["fingerprint"] == checkpoint.fingerprint
    model, given = checkpoint.model, batch(torch.float32)
    assert isinstance(model, DlDkd)
    with torch.inference_mode():
        queries, videos = model.encode_queries(given.words, given.word_mask), model.encode_videos(given.frames, given.frame_mask)
    dtype = "f32" if folder == "model_double" else "f64"
    theirs, fused = arrays(f"{folder}/forward_{dtype}.npz"), []
    branches = ["B", "A"] if folder == "model_iccv" else ["inher", "explore"][: len(queries)]
    for name, query, video in zip(branches, queries, videos, strict=True):
        close(query, theirs[f"{name}_query"], tolerance=1e-5)
        real = given.frame_mask
        close(video[real], theirs[f"{name}_frames"][real.numpy()], tolerance=1e-5)
        close(scores.video_scores(scores.frame_cosines(query, video, real)), theirs[f"{name}_max_cos"], tolerance=1e-5)
        fused.append(theirs[f"{name}_max_cos"])
    expected = 0.7 * fused[0] + 0.3 * fused[1] if len(fused) == 2 else fused[0]
    close(model.score(queries, videos, given.frame_mask), expected, tolerance=1e-5)


def test_a_published_checkpoint_with_branches_of_two_widths(
    easydict: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(monkeypatch)
    about = numbers("model_double/config.json")
    whole, narrow = about["exploration_hidden"], about["n_heads"]
    narrower = {
        name: tensor[tuple(slice(narrow if size == whole else size) for size in tensor.shape)].clone()
        for name, tensor in weights().items()
        if name.startswith("exp_")
    }
    save(tmp_path / "model.ckpt", {**stored(easydict), "model": OrderedDict({**weights(), **narrower})})
    made = import_checkpoint(tmp_path / "model.ckpt", tmp_path / "run", visual_feature="i3d").checkpoint
    assert (made.settings.hidden, made.settings.exploration_hidden) == (about["inheritance_hidden"], narrow)
    assert isinstance(made.model, DlDkd)
    assert made.model.branches[1].mapping.weight.shape == (narrow, narrow)


def test_what_is_known_of_an_imported_checkpoint(easydict: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    save(tmp_path / "model.ckpt", stored(easydict, "model_iccv"))
    done = import_checkpoint(tmp_path / "model.ckpt", tmp_path / "run", visual_feature="i3d")
    made, expected = done.checkpoint, numbers("model_iccv/config.json")
    settings = made.settings
    sizes = [expected[name] for name in ("B_hidden_size", "n_heads", "max_ctx_l", "max_desc_l")]
    assert [settings.hidden, settings.heads, settings.max_frames, settings.max_words] == sizes
    assert (settings.margin, settings.dropout, settings.input_dropout, settings.negative_pool) == (0.2, 0.15, 0.25, 7)
    assert (settings.branches, settings.shared_query_projection) == (("inheritance", "exploration"), True)
    # What the file does not tell is of the conference version.
    assert settings.exploration_weight == 0.3
    assert made.sources.frames == Source("i3d", expected["visual_input_size"])
    assert made.sources.text == Source("roberta", expected["query_input_size"])
    assert set(done.left_out) == {name for name in weights("model_iccv") if name.startswith("A_query_input_proj.")}
    assert len(done.left_out) == 4
    assert made.about["epoch"] == 57
    assert protocol_of(made, "test") == "community"
    assert made.about["imported"]["file"] == "model.ckpt"
    assert made.about["imported"]["stored"]["margin"] == 0.2


def test_the_preset_fills_in_what_the_file_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    source = save(tmp_path / "model.ckpt", {"model": weights()})
    first = import_checkpoint(source, tmp_path / "a", visual_feature="i3d").checkpoint
    second = import_checkpoint(source, tmp_path / "b", visual_feature="i3d", preset_name="dl-dkd++/activitynet").checkpoint
    assert (first.settings.margin, second.settings.margin) == (0.1, 0.2)
    assert first.about["epoch"] is None
    with pytest.raises(SettingError, match="unknown preset 'dl-dkd/tvrr'; did you mean 'dl-dkd/tvr'"):
        import_checkpoint(source, tmp_path / "c", visual_feature="i3d", preset_name="dl-dkd/tvrr")


# Names and shapes


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_published_name_is_a_name_of_ours(folder: str) -> None:
    names = read_names(list(weights(folder)))
    assert names.unknown == ()
    assert len(set(names.ours.values())) == len(names.ours) == len(weights(folder)) - len(names.left_out)
    wrapped = read_names([f"module.{name}" for name in weights(folder)])
    assert list(wrapped.ours.values()) == list(names.ours.values())


def test_names_by_hand() -> None:
    assert our_name("exp_query_encoder.self.key.bias") == "branches.1.words.attention.key.bias"
    assert our_name("B_frame_pos_embed.position_embeddings.weight") == "branches.0.frames.positions.table.weight"
    assert our_name("A_mapping_linear.weight") == "branches.1.mapping.weight"
    for name in ("queri_encoder.self.key.bias", "exp_", "", "query_encoder", "C_mapping_linear.weight"):
        with pytest.raises(KeyError):
            our_name(name)


def test_one_branch_alone_comes_first() -> None:
    alone = read_names([name for name in weights() if name.startswith("exp_")])
    assert alone.branches == ("exploration",)
    assert all(name.startswith("branches.0.") for name in alone.ours.values())


def test_a_parameter_may_not_come_twice() -> None:
    names = read_names(["mapping_linear.weight", "B_mapping_linear.weight"])
    assert (list(names.ours), names.unknown) == (["mapping_linear.weight"], ("B_mapping_linear.weight",))


def change(group: OrderedDict[str, Tensor], *without: str, **more: Tensor) -> OrderedDict[str, Tensor]:
    return OrderedDict({name: value for name, value in {**group, **more}.items() if name not in without})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (change(weights(), "out_mapping_linear.bias"), "missing: branches.0.mapping.bias"),
        (change(weights(), more=torch.zeros(2), exp_hidden=torch.zeros(3)), "unknown: exp_hidden, more"),
        (change(weights(), **{"modular_vector_mapping.bias": torch.zeros(1)}), "unknown: modular_vector_mapping.bias"),
        (
            change(weights(), **{"exp_out_mapping_linear.weight": torch.zeros(32, 31)}),
            "of another shape: exp_out_mapping_linear.weight (32, 31) where (32, 32) fits",
        ),
        (change(weights(), **{"out_mapping_linear.bias": torch.full((32,), np.nan)}), "not finite: out_mapping_linear.bias"),
        (change(weights(), "visual_pos_embed.position_embeddings.weight"), "no matrix branches.0.frames.positions.table.weight"),
        (OrderedDict(layer=torch.zeros(2, 3)), "is no DL-DKD or DL-DKD++ model"),
        # A table of 2^20 columns asks for layers of 2^40 entries.
        (change(weights(), **{"visual_pos_embed.position_embeddings.weight": torch.zeros(1, 1 << 20)}), "where (1048576,) fits"),
    ],
)
def test_weights_of_another_model(
    changed: OrderedDict[str, Tensor], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_process(monkeypatch)
    source = save(tmp_path / "model.ckpt", {"model": changed})
    text = refusal(source, tmp_path)
    assert words in text
    assert len(text) < 2500


def test_settings_that_cannot_be(easydict: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    for changes, words in (
        ({"n_heads": 5}, "hidden 32 is not a multiple of heads 5"),
        ({"margin": "wide"}, "margin is 'wide'; it takes a number"),
        ({"drop": 1.5}, "dropout is 1.5"),
    ):
        assert words in refusal(save(tmp_path / "model.ckpt", stored(easydict, **changes)), tmp_path)


# The shapes that a file may have


def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a child process, which takes seconds to start; hostile files go to `convert` alone."""
    monkeypatch.setattr(authors, "_convert", quarantine.convert)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda group: group,
        lambda group: {"state_dict": group, "optimizer": {"state": {0: {"step": 3}}, "param_groups": []}},
        lambda group: {"model_state": {f"module.{name}": value.double() for name, value in group.items()}, "best": 1.5},
        lambda group: {"weights of the best epoch": {name: value.half() for name, value in group.items()}},
        lambda group: {"model": group, "ema": dict(group)},
        lambda group: {"model": {name: torch.nn.Parameter(value.flip(0).contiguous().flip(0)) for name, value in group.items()}},
    ],
    ids=["bare", "state_dict", "module., float64", "odd key, float16", "with an average", "parameters"],
)
def test_any_one_mapping_of_tensors(wrap: Callable, old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    group = OrderedDict((name, value.half().float()) for name, value in weights().items())
    source = save(tmp_path / "model.ckpt", wrap(group), old=old)
    made = import_checkpoint(source, tmp_path / "run", visual_feature="i3d").checkpoint
    state = made.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(state[our_name(name)], value) for name, value in group.items())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"epoch": 3}, "no weights"),
        ({"a": {"x": torch.zeros(1)}, "b": {"x": torch.zeros(1)}}, "several mappings of tensors (a, b)"),
        ([torch.zeros(2)], "a list and no weights"),
        ({"model": {3: torch.zeros(2)}}, "no parameter's name"),
        ({"model": {"a\x1b[31m": torch.zeros(2)}}, "no parameter's name"),
        ({"model": {"a": torch.zeros(2, dtype=torch.int64)}}, "a is a torch.int64 tensor"),
        ({"model": {"a": torch.eye(2).to_sparse()}}, "of torch.sparse_coo"),
        ({"model": {"a": torch.zeros(2, device="meta")}}, "on meta"),
        # One stored number that claims to be 2^40 of them.
        ({"model": {"a": torch.zeros(1).expand(1 << 40)}}, "larger than 256 MiB"),
        ({"model": {"a": torch.zeros(1)}, "when": np.float64(3)}, "it names numpy"),
    ],
)
def test_a_file_that_holds_something_else(value: object, words: str, tmp_path: Path) -> None:
    assert words in quarantined(save(tmp_path / "model.ckpt", value), tmp_path)


# Files that mean harm


class Call:
    """Unpickled by pickle itself, this calls a function."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def quarantined(path: Path, tmp_path: Path) -> str:
    """Why `convert` refuses a file."""
    with open(path, "rb") as file, pytest.raises(quarantine.Refusal) as problem:
        quarantine.convert(file)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def refusal(path: Path, tmp_path: Path) -> str:
    """What an import of a file says; nothing is there afterwards."""
    with pytest.raises(ModelError) as problem:
        import_checkpoint(path, tmp_path / "out", visual_feature="i3d")
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(problem.value)
    assert str(path) in str(problem.value)
    return str(problem.value)


def traps(marker: Path) -> Iterator[tuple[str, object]]:
    yield "system", Call(os.system, f"touch {marker}")
    yield "mkdir", Call(os.mkdir, str(marker))
    yield "eval", Call(builtins.eval, f"open({str(marker)!r}, 'w')")
    yield "exec", Call(builtins.exec, f"open({str(marker)!r}, 'w')")
    yield "getattr", Call(builtins.getattr, "text", "join")
    yield "Popen", Call(subprocess.Popen, ["touch", str(marker)])
    yield "import_module", Call(__import__("importlib").import_module, "antigravity")
    yield "torch.load", Call(torch.load, str(marker))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("name", [name for name, _ in traps(Path("marker"))])
def test_code_in_a_file_is_named_and_not_run(name: str, old: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    trap = dict(traps(marker))[name]
    source = save(tmp_path / "model.ckpt", {"model": weights(), "model_cfg": trap}, old=old)
    said = quarantined(source, tmp_path)
    assert said.startswith("it names ")
    assert name.rpartition(".")[2] in said
    assert not marker.exists()
    if name == "mkdir":  # the trap is one: what the library's own reader would have done
        torch.load(source, weights_only=False)
        assert marker.exists()


def test_code_in_a_file_through_the_command(prvr: Prvr, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    source = save(tmp_path / "model.ckpt", {"model": weights(), "model_cfg": Call(os.system, f"touch {marker}")})
    answer = prvr("checkpoint", "import", source, tmp_path / "run", "--visual-feature", "i3d")
    assert (answer.status, answer.out) == (1, "")
    said = "it names posix.system, and only tensors, plain values and easydict.EasyDict are read"
    assert answer.err == f"prvr: {source} is refused: {said}\n"
    assert not marker.exists()
    assert not (tmp_path / "run").exists()


def test_the_class_that_is_allowed_does_nothing(easydict: type, tmp_path: Path) -> None:
    """Its name stands for a plain dictionary: whatever its attributes are set to is only stored."""

    def trap(self: object, state: object) -> None:
        raise AssertionError("called")

    easydict.__setstate__ = trap  # type: ignore[attr-defined]
    value = stored(easydict)
    value["model_cfg"].__dict__.update(__class__="os", keys="y", get="z")
    value["model_cfg"]["keys"] = "yes"
    source = save(tmp_path / "model.ckpt", value)
    with open(source, "rb") as file:
        converted = quarantine.convert(file)
    (tmp_path / "converted").write_bytes(converted)
    with safetensors.safe_open(tmp_path / "converted", framework="pt") as opened:
        settings = json.loads(opened.metadata()[quarantine.ABOUT])["settings"]
    assert settings["margin"] == 0.2
    assert settings["keys"] == "yes"


class Claims(pickle.Pickler):
    """Pickles a `Call` as a storage of as many floats as it says."""

    def persistent_id(self, value: object) -> object:
        return ("storage", torch.FloatStorage, "0", "cpu", value.call[1][0], None) if isinstance(value, Call) else None


def old_file(path: Path, pickled: bytes, keys: list[str], storages: bytes = b"") -> Path:
    """A file of the old format: its header, the pickle of what it holds, the names of its storages, and these."""
    header = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(header + pickled + pickle.dumps(keys, protocol=2) + storages)
    return path


def huge(path: Path, count: int) -> Path:
    """A file of some hundred bytes that claims a storage of `count` floats."""
    out = io.BytesIO()
    Claims(out, protocol=2).dump({"model": Call(print, count)})
    return old_file(path, out.getvalue(), ["0"], struct.pack("<q", count))


def test_a_file_that_claims_more_memory_than_there_may_be(tmp_path: Path) -> None:
    # 4 GiB, which the machine may have and the child process may not use.
    text = refusal(huge(tmp_path / "model.ckpt", 1 << 30), tmp_path)
    assert "it wants more than 2 GiB of memory" in text


def test_a_small_file_whose_values_need_much_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its bytes is a set of 216 bytes; here with a lower limit, which takes less time to reach."""
    script = Path(quarantine.__file__).read_text()
    assert "MEMORY = 2 << 30" in script
    child(monkeypatch, tmp_path, script.replace("MEMORY = 2 << 30", "MEMORY = 1 << 29"))
    source = old_file(tmp_path / "model.ckpt", b"\x80\x02](" + b"\x8f" * 3_000_000 + b"e.", [])
    # No memory may be left for the reason.
    assert re.search(
        "it wants more than 0 GiB of memory|or wants more memory than a checkpoint needs$", refusal(source, tmp_path)
    )


def test_a_small_file_that_makes_the_reader_crash(tmp_path: Path) -> None:
    """A key that is a tuple in a tuple in a tuple, a million times: to hash it overflows the stack of the process."""
    source = old_file(tmp_path / "model.ckpt", b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.", [])
    assert "the process that read it ended with status" in refusal(source, tmp_path)


def test_a_small_file_that_takes_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys all have one hash: the time grows with the square of their number."""
    monkeypatch.setattr(authors, "WAIT", 5)
    keys = (b"\x8a\x0c" + (number * (2**61 - 1)).to_bytes(12, "little") + b"K\x01" for number in range(1, 200_001))
    source = old_file(tmp_path / "model.ckpt", b"\x80\x02}(" + b"".join(keys) + b"u.", [])
    assert "it was not read within 5 seconds" in refusal(source, tmp_path)


def archive(path: Path, made: zipfile.ZipInfo | str, data: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """A torch file with one more entry."""
    save(path, {"model": weights()})
    with zipfile.ZipFile(path, "a", compression) as file:
        file.writestr(made, data, compression)
    return path


def test_a_compressed_archive(tmp_path: Path) -> None:
    source = archive(tmp_path / "bomb.ckpt", "archive/data/999", bytes(1 << 24), zipfile.ZIP_DEFLATED)
    assert source.stat().st_size < 1 << 20
    assert "its archive is compressed" in quarantined(source, tmp_path)


def test_an_archive_with_a_link(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("archive/link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert "its archive holds a link" in quarantined(archive(tmp_path / "link.ckpt", link, b"/etc/passwd"), tmp_path)


def test_an_archive_whose_files_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many entries of the directory that are one and the same stored megabyte."""
    path = tmp_path / "overlap.ckpt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data/0", bytes(1 << 20))
        file.filelist = file.filelist * 300
    assert path.stat().st_size < 2 << 20
    assert "overlap" in quarantined(path, tmp_path)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off(old: bool, kept: float, tmp_path: Path) -> None:
    source = save(tmp_path / "model.ckpt", {"model": weights()}, old=old)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * kept)])
    assert "broken" in quarantined(source, tmp_path)


def test_noise(tmp_path: Path) -> None:
    for data in (b"hello", b"\x80\x02", b"PK\x03\x04", bytes(1000), b"\x80\x02}q\x00."):
        (tmp_path / "model.ckpt").write_bytes(data)
        said = quarantined(tmp_path / "model.ckpt", tmp_path)
        assert "broken" in said, data


def test_no_file_to_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("nowhere", "pipe", "dangling", "device", "."):
        assert refusal(tmp_path / name, tmp_path).endswith("name the downloaded model.ckpt")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with open(tmp_path / "model.ckpt", "wb") as file:
        file.truncate(quarantine.LARGEST + 1)
    assert "larger than 256 MiB" in refusal(tmp_path / "model.ckpt", tmp_path)


# The process apart


def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """The child runs this instead."""
    script = tmp_path / "script.py"
    script.write_text(text)
    monkeypatch.setattr(quarantine, "__file__", str(script))


def test_the_child_knows_no_secrets_and_stands_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    source = save(tmp_path / "model.ckpt", {"model": weights()})
    seen = tmp_path / "seen.json"
    child(monkeypatch, tmp_path, f"import os, json; json.dump([os.getcwd(), dict(os.environ)], open({str(seen)!r}, 'w'))")
    assert "its conversion gave nothing" in refusal(source, tmp_path)
    where, environment = json.loads(seen.read_text())
    assert Path(where) not in (Path.cwd(), tmp_path)
    assert not Path(where).exists()
    assert set(environment) <= {*ENVIRONMENT, "PYTHONPATH", "OMP_NUM_THREADS", "LC_CTYPE"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
        ("raise SystemExit('refused: it \\x1b[31mis\\u202e red')", "refused: it ?[31mis? red"),
        ("import time; time.sleep(9)", "it was not read within 0.5 seconds"),
        ("pass", "gave nothing that can be read (SafetensorError)"),
        ("print('x' * 1000)", "gave nothing that can be read (SafetensorError)"),
        ("import sys; sys.stdout.buffer.write(b'\\2\\0\\0\\0\\0\\0\\0\\0{}')", "gave nothing that can be read (KeyError)"),
    ],
    ids=["killed", "colours", "sleeps", "writes nothing", "writes noise", "writes no settings"],
)
def test_a_child_that_fails(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authors, "WAIT", 0.5 if "sleep" in text else 60)
    child(monkeypatch, tmp_path, text)
    assert words in refusal(save(tmp_path / "model.ckpt", {"model": weights()}), tmp_path)


def test_the_limits_hold(tmp_path: Path) -> None:
    """They are set and read in a process of their own."""
    pytest.importorskip("resource")
    text = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import quarantine
quarantine.limit_resources(memory=quarantine.MEMORY, file_bytes=2 * quarantine.LARGEST)
assert resource.getrlimit(resource.RLIMIT_DATA)[1] == quarantine.MEMORY
assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == 2 * quarantine.LARGEST
try:
    bytearray(quarantine.MEMORY)
except MemoryError:
    sys.exit(7)
"""
    folder = Path(quarantine.__file__).parent
    assert subprocess.run([sys.executable, "-c", text, str(folder)], check=False).returncode == 7


# Elsewhere


def test_nothing_else_opens_such_a_file(prvr: Prvr, easydict: type, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    run = tmp_path / "results"
    source = save(run / "model.ckpt", {**stored(easydict), "trap": Call(os.mkdir, str(marker))})
    wanted = f"prvr checkpoint import {source} OUT --visual-feature NAME"
    for model in (source, run):
        answer = prvr("index", tmp_path, tmp_path / "gallery", "--model", model)
        assert answer.status == 1
        assert answer.err.startswith(f"prvr: no checkpoint in {model} ({CONFIG} is missing); {source} looks like a torch file")
        assert answer.err.endswith(f"{wanted}\n")
        assert answer.err.count("\n") == 1
    assert not marker.exists()


def test_the_command_has_help_with_an_example(prvr: Prvr) -> None:
    answer = prvr("checkpoint", "import", "--help")
    assert answer.status == 0
    assert "Example: prvr checkpoint import model.ckpt run --visual-feature i3d_resnet" in answer.out


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    source = save(tmp_path / "model.ckpt", {"model": weights()})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.jsonl").write_text("")
    for out in (tmp_path / "run", source):
        with pytest.raises(SettingError, match="not an empty folder"):
            import_checkpoint(source, out, visual_feature="i3d")
