"""Files of features from strangers: what leads out of them, what they lack, what is damaged. One line each, and no memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from commands import Prvr, says

from prvr.errors import DataError
from prvr.features import compare_lengths, durations_of, open_features, rows_of
from prvr.features.packed import ITEMS, PackedWriter

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def other_file(file: h5py.File) -> Path:
    """A second HDF5 file beside the first, whose rows must not be read."""
    path = Path(file.filename).with_name("secret.h5")
    with h5py.File(path, "w") as secret:
        secret["a"] = ROWS
    return path


def external_link(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink(str(other_file(file)), "/a")


def soft_link_to_an_external_one(file: h5py.File) -> None:
    file["in/out"] = h5py.ExternalLink(str(other_file(file)), "/a")
    file["a"] = h5py.SoftLink("/in/out")


def external_group(file: h5py.File) -> None:
    file["out"] = h5py.ExternalLink(str(other_file(file)), "/")
    file["a"] = h5py.SoftLink("out/a")


def link_to_a_file_that_is_not_there(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink("/nowhere/x.h5", "/a")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 4), np.float32)
    layout[:] = h5py.VirtualSource(str(other_file(file)), "a", (3, 4))
    file.create_virtual_dataset("a", layout)


def virtual_within(file: h5py.File) -> None:
    file["b"] = ROWS
    layout = h5py.VirtualLayout((3, 4), np.float32)
    layout[:] = h5py.VirtualSource(".", "b", (3, 4))
    file.create_virtual_dataset("a", layout)


def raw_storage(file: h5py.File) -> None:
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(bytes(64))
    file.create_dataset("a", (4, 4), np.float32, external=[(str(secret), 0, 64)])


ELSEWHERE = [
    external_link,
    soft_link_to_an_external_one,
    external_group,
    link_to_a_file_that_is_not_there,
    virtual,
    virtual_within,
    raw_storage,
]


def make(path: Path, fill: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as file:
        fill(file)
    return path


@pytest.mark.parametrize("fill", ELSEWHERE, ids=lambda fill: fill.__name__)
def test_rows_in_another_file_are_refused_and_listed(tmp_path: Path, fill: Callable[[h5py.File], object]) -> None:
    features = open_features(make(tmp_path / "features.h5", fill))
    assert "a" in features
    assert "a" in list(features)
    with pytest.raises(DataError, match=r"features of 'a' in .*features\.h5 lie in another file, which is not opened"):
        features["a"]


def test_a_pipe_behind_an_external_link_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    features = open_features(
        make(tmp_path / "features.h5", lambda file: file.__setitem__("a", h5py.ExternalLink("pipe.h5", "/a")))
    )
    assert list(features) == ["a"]
    with pytest.raises(DataError, match="another file"):
        features["a"]


def test_soft_links_within_the_file_are_followed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["in/b"] = ROWS
        file["a"] = h5py.SoftLink("/in/b")
        file["c"] = h5py.SoftLink("a")
        file["lost"] = h5py.SoftLink("/nothing")
        file["x"] = h5py.SoftLink("y")
        file["y"] = h5py.SoftLink("/x")

    features = open_features(make(tmp_path / "features.h5", fill))
    for id in ("a", "c", "in/b"):
        np.testing.assert_array_equal(features[id], ROWS)
    assert "lost" not in features
    with pytest.raises(DataError, match=r"'x' in .* is a link to itself"):
        features["x"]


def test_groups_that_hold_themselves_are_listed_once(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["in/b"] = ROWS
        file["in/again"] = file["in"]
        file["in/whole"] = file["/"]
        group = file.create_group("deep")
        for _ in range(40):
            below = group.create_group("left")
            group["right"] = below
            group = below
        group["last"] = ROWS

    features = open_features(make(tmp_path / "features.h5", fill))
    assert set(features) == {"in/b", "/".join(["deep", *["left"] * 40, "last"])}
    np.testing.assert_array_equal(features["in/again/again/b"], ROWS)


ODD: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "a table": (lambda f: f.create_dataset("a", data=np.zeros(3, [("x", "f4"), ("y", "i8")])), "not rows of numbers"),
    "text": (lambda f: f.create_dataset("a", data=["x", "y"], dtype=h5py.string_dtype()), "not rows of numbers"),
    "references": (lambda f: f.create_dataset("a", (2, 2), h5py.ref_dtype), "not rows of numbers"),
    "lists": (lambda f: f.create_dataset("a", (2,), h5py.vlen_dtype(np.float32)), "not rows of numbers"),
    "an enumeration": (lambda f: f.create_dataset("a", (2, 2), h5py.enum_dtype({"x": 1})), "not rows of numbers"),
    "bytes": (lambda f: f.create_dataset("a", (2, 2), "V16"), "not rows of numbers"),
    "no columns": (lambda f: f.create_dataset("a", (3, 0), np.float32), "not rows of numbers"),
    "terabytes": (lambda f: f.create_dataset("a", (10**9, 512), np.float32, chunks=(1, 512)), "declare 2048000000000 bytes"),
    "terabytes of one row": (lambda f: f.create_dataset("a", (2**40,), np.float16, chunks=(512,)), "declare 2199023255552 bytes"),
    "chunks of gigabytes": (
        lambda f: f.create_dataset("a", (4, 4), np.float32, maxshape=(None, None), chunks=(2**14, 2**15)),
        "declare 2147483648 bytes",
    ),
    "never written": (lambda f: f.create_dataset("a", (4, 4), np.float32), "were declared and never written"),
}


@pytest.mark.parametrize(("fill", "said"), ODD.values(), ids=list(ODD))
def test_what_is_no_rows_is_refused_before_it_is_read(tmp_path: Path, fill: Callable[[h5py.File], object], said: str) -> None:
    features = open_features(make(tmp_path / "features.h5", fill))
    with pytest.raises(DataError, match=said) as problem:
        features["a"]
    assert "'a'" in str(problem.value)
    assert str(tmp_path / "features.h5") in str(problem.value)


def test_a_filter_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = make(
        tmp_path / "features.h5", lambda file: file.create_dataset("a", data=ROWS, chunks=(3, 4), shuffle=True, fletcher32=True)
    )
    data = bytearray(path.read_bytes())
    # The filter's number and name in the description of the data set.
    place = data.index(b"\x02\x00\x08\x00\x01\x00\x01\x00shuffle")
    data[place : place + 2] = (32001).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=r"are compressed by filter 32001 .*which this HDF5 does not have; write them uncompressed"
    ):
        open_features(path)["a"]


LOCK = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+', locking=True); print('open', flush=True); sys.stdin.read()"


def test_a_file_that_another_process_writes_is_in_use(tmp_path: Path) -> None:
    path = make(tmp_path / "features.h5", lambda file: file.__setitem__("a", ROWS))
    with subprocess.Popen([sys.executable, "-c", LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(DataError, match=r"is in use: another process .*h5clear .*HDF5_USE_FILE_LOCKING=FALSE"):
            open_features(path)
        writer.communicate(b"")
    np.testing.assert_array_equal(open_features(path)["a"], ROWS)


def test_a_mark_of_a_killed_writer_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["a"] = ROWS
    code = "import h5py, os, sys; f = h5py.File(sys.argv[1], 'r+', libver='latest'); f['b'] = 1.0; f.flush(); os._exit(1)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    with pytest.raises(DataError, match=r"is in use: .*or one that was killed left it marked so .*h5clear -s FILE"):
        open_features(path)


def base(path: Path, version: str, compression: str | None) -> bytes:
    with h5py.File(path, "w", libver=version) as file:
        for number in range(8):
            name = f"v{number}#enc#0" if number % 2 else f"in/v{number}.mp4"
            file.create_dataset(name, data=np.random.rand(5, 8).astype("f4"), compression=compression)
        file["alias"] = h5py.SoftLink("/in/v0.mp4")
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_damage_anywhere_is_one_line(tmp_path: Path, version: str, compression: str | None) -> None:
    whole = base(tmp_path / "base.h5", version, compression)
    draw, said = random.Random(f"{version} {compression}"), list[str]()
    for number in range(150):
        data = bytearray(whole)
        if number % 4 == 0:
            data = data[: draw.randrange(len(data))]
        for _ in range(draw.choice([1, 1, 2, 8]) if number % 4 else 0):
            data[draw.randrange(min(len(data), 4096 if number % 2 else len(data)))] = draw.randrange(256)
        # A new name each time: HDF5 shares what it knows of a file that is open.
        path = tmp_path / f"{number}.h5"
        path.write_bytes(data)
        try:
            features = open_features(path)
            for id in [*features, "in/v0.mp4", "v1#enc#0", "none"]:
                try:
                    if id in features:
                        rows_of("video", id, features)
                except DataError as problem:
                    said.append(str(problem))
        except DataError as problem:
            said.append(str(problem))
        path.unlink()
    assert len(said) > 30
    assert "\n" not in "".join(said)


@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing"])
def test_a_path_that_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "features.h5"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(DataError, match=r"features\.h5"):
        open_features(path)


def test_items_of_another_width_are_named(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["a"], file["b"] = ROWS, ROWS[:, :3]

    features = open_features(make(tmp_path / "features.h5", fill))
    rows_of("video", "a", features)
    with pytest.raises(DataError, match="features of video 'b' have 3 columns, most others 4"):
        rows_of("video", "b", features)


NPY: dict[str, tuple[Any, str]] = {
    "text": (np.array(["x"]), "not rows of numbers"),
    "nothing wide": (np.zeros((3, 0), np.float32), "not rows of numbers"),
    "a table": (np.zeros(3, [("x", "f4")]), "not rows of numbers"),
    "bytes of no width": (np.zeros(3, "V0"), "not rows of numbers|no readable npy"),
}


@pytest.mark.parametrize(("array", "said"), NPY.values(), ids=list(NPY))
def test_odd_arrays_in_npz_files(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "a.npz", features=array)
    with pytest.raises(DataError, match=said):
        open_features(tmp_path)


def test_damaged_npz_files_are_one_line(tmp_path: Path) -> None:
    draw, said = random.Random(5), list[str]()
    for compress in (np.savez, np.savez_compressed):
        compress(tmp_path / "a.npz", features=np.random.rand(6, 8).astype("f4"))
        whole = (tmp_path / "a.npz").read_bytes()
        for number in range(300):
            data = bytearray(whole)[: draw.randrange(len(whole)) if number % 4 == 0 else None]
            for _ in range(draw.choice([1, 2, 8]) if number % 4 else 0):
                data[draw.randrange(len(data))] = draw.randrange(256)
            (tmp_path / "a.npz").write_bytes(data)
            try:
                open_features(tmp_path)["a"]
            except DataError as problem:
                said.append(str(problem))
    assert len(said) > 300
    assert "\n" not in "".join(said)


def test_an_unknown_compression_is_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", b"x" * 40)
    data = (tmp_path / "a.npz").read_bytes().replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x00\x00\x63\x00")
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz"):
        open_features(tmp_path)


HEADERS: dict[str, Any] = {
    "columns a fraction": {"columns": 4.5},
    "columns too many": {"columns": 10**30},
    "columns infinite": '{"columns": 1e400, "dtype": "float32", "about": {}}',
    "columns true": {"columns": True},
    "about a list": {"about": []},
    "an encoder with a number for a name": {"about": {"encoder": {"name": 3}}},
    "a rate of text": {"about": {"rate": "1"}},
    "a source of numbers": {"source": 5},
    "deep": "[" * 100_000,
}
JOURNAL: dict[str, str] = {
    "an offset before the file": '{"id": "b", "offset": -5, "rows": 2, "info": {}}',
    "rows of text": '{"id": "b", "offset": 0, "rows": "2", "info": {}}',
    "rows a fraction": '{"id": "b", "offset": 0, "rows": 1.5, "info": {}}',
    "an id that is none": '{"id": 5, "offset": 0, "rows": 1, "info": {}}',
    "info a list": '{"id": "b", "offset": 0, "rows": 1, "info": []}',
    "deep": "[" * 100_000,
    "no object": "5",
}


def packed(path: Path) -> Path:
    with PackedWriter(path, columns=4, about={"kind": "frames", "encoder": {"name": "x", "fingerprint": None}}) as writer:
        writer.append("a", ROWS, {"duration": 10.0})
    return path


@pytest.mark.parametrize("change", HEADERS.values(), ids=list(HEADERS))
def test_headers_of_packed_folders(tmp_path: Path, change: Any) -> None:
    header = packed(tmp_path / "packed") / "packed.json"
    header.write_text(change if isinstance(change, str) else json.dumps({**json.loads(header.read_text()), **change}))
    with pytest.raises(DataError, match=r"packed\.json is broken; delete"):
        open_features(tmp_path / "packed")


@pytest.mark.parametrize("line", JOURNAL.values(), ids=list(JOURNAL))
def test_journals_of_packed_folders(tmp_path: Path, line: str) -> None:
    with open(packed(tmp_path / "packed") / ITEMS, "a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"items\.jsonl has a broken line"):
        open_features(tmp_path / "packed")


def test_a_pipe_in_a_packed_folder(tmp_path: Path) -> None:
    header = packed(tmp_path / "packed") / "packed.json"
    header.unlink()
    os.mkfifo(header)
    with pytest.raises(DataError, match="a pipe or a device"):
        open_features(tmp_path / "packed")


def test_durations_are_those_of_the_features(tmp_path: Path) -> None:
    features = open_features(packed(tmp_path / "packed"))
    assert durations_of(features, ["a", "b"]) == {"a": 10.0}
    assert durations_of({"a": ROWS}, ["a"]) == {}


def test_lengths_beside_a_teacher() -> None:
    student = {"a": np.ones((38, 4)), "b": np.ones((5, 4)), "c": np.ones((3, 4))}
    assert compare_lengths(student, {"a": np.ones((38, 2)), "b": np.ones((5, 2))}) == ""
    said = compare_lengths(student, {"a": np.ones((2, 2)), "b": np.ones((6, 2)), "c": np.ones((3, 2)), "d": np.ones((9, 2))})
    assert said.startswith("the teacher has another number of frames in 2 of 3 videos, most of all in 'a': 2, the student 38")
    assert compare_lengths(student, {}) == ""


def test_the_command_line_names_damage_in_one_line(tmp_path: Path, prvr: Prvr) -> None:
    (tmp_path / "toy/FeatureData").mkdir(parents=True)
    (tmp_path / "toy/TextData").mkdir()
    make(tmp_path / "toy/FeatureData/eyes.hdf5", external_link)
    answer = prvr("data", "check", tmp_path / "toy")
    assert answer.status == 1
    assert "lie in another file, which is not opened" in answer.out
    assert "Traceback" not in answer.err
    says(prvr("data", "convert", tmp_path / "toy", tmp_path / "out"), "features")
