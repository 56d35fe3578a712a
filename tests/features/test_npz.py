"""Folders of npz files as features, honest ones and hostile ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prvr.errors import DataError
from prvr.features import columns, open_features, place
from prvr.features.npz import NpzFolder
from prvr.features.rows import MOST_BYTES

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_items_by_the_names_of_their_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "x_0.0_150.0.npz", features=ROWS)
    np.savez_compressed(tmp_path / "qid7.npz", pooler_output=ROWS[0], last_hidden_state=ROWS.astype(np.float16))
    np.savez(tmp_path / "alone.npz", anything=np.asfortranarray(ROWS[None]))
    np.savez(tmp_path / "row.npz", ROWS[1])
    features = open_features(tmp_path)
    assert isinstance(features, NpzFolder)
    assert sorted(features) == ["alone", "qid7", "row", "x_0.0_150.0"]
    assert (len(features), columns(features), place(features)) == (4, 3, str(tmp_path))
    for id in ("x_0.0_150.0", "qid7", "alone"):
        np.testing.assert_array_equal(features[id], ROWS)
    np.testing.assert_array_equal(features["row"], ROWS[1:])


def test_an_id_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "secret.npz", ROWS)
    np.savez(tmp_path / "in" / "a.npz", ROWS)
    features = open_features(tmp_path / "in")
    assert "../secret" not in features
    with pytest.raises(KeyError):
        features["../secret"]


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + data


def member(name: str, data: bytes) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)

    return write


def objects(path: Path) -> None:
    # What a pickle in it would do is not seen to: it is not read.
    np.savez(path, features=np.array([[{}]], dtype=object))


def cut(path: Path) -> None:
    np.savez(path, features=ROWS)
    data = path.read_bytes()
    path.write_bytes(data.replace(ROWS.tobytes(), ROWS[::-1].tobytes()))


def bomb(path: Path) -> None:
    """A member that declares more than may be read, and holds little."""
    member("features.npy", b"x")(path)
    data, size = path.read_bytes(), (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(data[: data.index(b"PK\x01\x02") + 24] + size + data[data.index(b"PK\x01\x02") + 28 :])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a zip bomb": (bomb, rf"declares 4294967294 bytes, more than the {MOST_BYTES} that one may have"),
    "a bomb in the header": (
        member("features.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 512), }")),
        r"features of 'a' in .* declare 2048000000000 bytes, more than",
    ),
    "less than it says": (
        member("features.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", bytes(20))),
        r"declares float32 of shape \(2, 3\), and holds 20 bytes",
    ),
    "less than nothing": (
        member("features.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3), }", bytes(24))),
        r"declares float32 of shape \(-2, -3\)",
    ),
    "code in the header": (
        member("features.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (print(1),), }")),
        "holds no readable npy array",
    ),
    "no npy": (member("features.npy", b"nothing"), "holds no readable npy array"),
    "a later npy": (member("features.npy", npy("{}", version=b"\x09\x00")), "holds no readable npy array"),
    "objects": (objects, "holds Python objects, which are not read"),
    "other bytes": (cut, r"member 'features.npy' is broken \(Bad CRC-32"),
    "a path that leads out": (member("../features.npy", b""), r"member '\.\./features.npy' leads out of the archive"),
    "no zip": (lambda path: path.write_text("no"), "is not a readable zip archive"),
    "nothing": (lambda path: np.savez(path), "holds no array; it takes features or last_hidden_state"),
    "two, and neither known": (lambda path: np.savez(path, b=ROWS, c=ROWS), "holds b, c; it takes features or last_hidden_state"),
    "rank 3": (lambda path: np.savez(path, ROWS[:, None]), r"features of 'a' in .* are float32 of shape \(2, 1, 3\), not rows"),
    "rank 0": (lambda path: np.savez(path, np.float32(1)), r"are float32 of shape \(\), not rows"),
    "whole numbers": (lambda path: np.savez(path, np.ones((2, 3), int)), r"are int64 of shape \(2, 3\), not rows of numbers"),
    "complex numbers": (lambda path: np.savez(path, ROWS * 1j), "are complex64 of shape"),
    "letters": (lambda path: np.savez(path, np.array([["a"]])), r"are <U1 of shape \(1, 1\), not rows"),
}


@pytest.mark.parametrize(("make", "said"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_item_is_refused_in_one_line(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "a.npz")
    with pytest.raises(DataError, match=said) as caught:
        open_features(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_items_of_another_width_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ROWS)
    np.savez(tmp_path / "b.npz", ROWS[:, :2])
    features = open_features(tmp_path)
    with pytest.raises(DataError, match=r"b.npz has 2 columns, the first of its folder 3"):
        features["b"]


def test_one_item_is_no_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ROWS)
    with pytest.raises(DataError, match=r"a.npz holds one item; give its folder"):
        open_features(tmp_path / "a.npz")


def test_no_rows_are_rows_for_whoever_asks_for_some(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ROWS[:0])
    assert open_features(tmp_path)["a"].shape == (0, 3)


def test_what_is_read_is_what_numpy_reads(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, features=np.random.default_rng(0).normal(size=(5, 7)))
    (tmp_path / "a.npz").write_bytes(file.getvalue())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as expected:
        np.testing.assert_array_equal(open_features(tmp_path)["a"], expected["features"])
