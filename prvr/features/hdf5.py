"""Features as published: one HDF5 file, a key per video or per caption.

Files come from strangers. What lies in another file (external links, external storage, virtual data sets) is refused before it
is opened, and every error of h5py about a damaged file is one line: h5py raises OSError, RuntimeError, KeyError, ValueError,
TypeError and others, depending on which bytes are damaged.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from prvr.errors import DataError, PrvrError
from prvr.features.rows import as_rows, check_numbers, check_size

# Soft links that are followed for one name; more are links in a circle.
MOST_LINKS = 16
# Items that tell the usual width of a file's items.
LOOKED_AT = 9
ELSEWHERE = "in another file, which is not opened; copy them into this one"


class Hdf5Features(Mapping[str, np.ndarray]):
    """`features[id]` reads (rows, columns) from the file; (1, rows, columns) and a single row count as that, too.

    Raises:
        DataError: there is no such file, it is no HDF5 file, or another process has it open for writing; later also: it is
            damaged, or an item is not rows of numbers or lies in another file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_file(path)
        self._ids: list[str] | None = None
        self._columns = 0

    def __getitem__(self, id: str) -> np.ndarray:
        with _one_line_errors(self.path, f"features of {id!r}"):
            rows = self._read(id)
        if rows is None:
            raise KeyError(id)
        return as_rows(id, self.path, rows)

    def __iter__(self) -> Iterator[str]:
        # Listed once: a file that is open for reading does not grow, and to list is to visit every name.
        if self._ids is None:
            with _one_line_errors(self.path, "the list of its items"):
                self._ids = self._list()
        return iter(self._ids)

    def __len__(self) -> int:
        iter(self)
        assert self._ids is not None
        return len(self._ids)

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str):
            return False
        with _one_line_errors(self.path, f"features of {id!r}"):
            found = self._find(id)
            # An item of another file is in the list, so that reading it says why it is refused.
            return found is not None and (_is_elsewhere(*found) or _is_data(*found))

    def usual_width(self, rows: np.ndarray) -> int:
        """The columns of the item that was read first; of most of the file's first items, if these rows have others."""
        if self._columns not in (0, rows.shape[1]):
            widths: Counter[int] = Counter()
            for id in islice(self, LOOKED_AT):
                with suppress(DataError):
                    widths[self[id].shape[1]] += 1
            self._columns = widths.most_common(1)[0][0] if widths else self._columns
        self._columns = self._columns or rows.shape[1]
        return self._columns

    def _read(self, id: str) -> np.ndarray | None:
        import h5py

        found = self._find(id)
        if found is None:
            return None
        if _is_elsewhere(*found):
            raise DataError(f"features of {id!r} in {self.path} lie {ELSEWHERE}")
        if not _is_data(*found):
            return None
        value = h5py.Dataset(h5py.h5d.open(*found))
        # Such rows would be bytes of any file of this machine.
        if value.external or value.is_virtual:
            raise DataError(f"features of {id!r} in {self.path} lie {ELSEWHERE}")
        shape, dtype = value.shape or (), value.dtype
        check_numbers(id, self.path, shape if value.shape is not None else None, dtype)
        check_size(id, self.path, shape, dtype)
        # A chunk is read as a whole, however few rows of it are rows of the item.
        check_size(id, self.path, value.chunks or (), dtype)
        self._check_filters(id, value)
        if value.size and not value.id.get_storage_size():
            raise DataError(f"features of {id!r} in {self.path} were declared and never written; write them again")
        return np.asarray(value[()])

    def _check_filters(self, id: str, value: Any) -> None:
        import h5py

        plan = value.id.get_create_plist()
        for code, _, _, name in (plan.get_filter(place) for place in range(plan.get_nfilters())):
            if not h5py.h5z.filter_avail(code):
                known = f" ({name.decode(errors='replace')})" if name else ""
                raise DataError(
                    f"features of {id!r} in {self.path} are compressed by filter {code}{known}, which this HDF5 does not have; "
                    "write them uncompressed or with gzip (h5repack -f GZIP=4 OLD NEW)"
                )

    def _find(self, id: str) -> tuple[Any, bytes] | None:
        """Returns the group and the name of the link that an id ends at: a hard link, or one out of the file."""
        import h5py

        root = here = self._file.id
        parts = _name_of(id).split(b"/")
        if not all(parts):
            return None
        hops = 0
        while True:
            name, *parts = parts
            if name == b"." or not here.links.exists(name):
                return None
            kind = here.links.get_info(name).type
            if kind == h5py.h5l.TYPE_SOFT:
                hops += 1
                if hops > MOST_LINKS:
                    raise DataError(f"{id!r} in {self.path} is a link to itself; write the file again")
                target = here.links.get_val(name)
                here = root if target.startswith(b"/") else here
                parts = [part for part in target.split(b"/") if part not in (b"", b".")] + parts
                if not parts:
                    return None
                continue
            if not parts or kind != h5py.h5l.TYPE_HARD:
                return here, name
            if h5py.h5o.get_info(here, name).type != h5py.h5o.TYPE_GROUP:
                return None
            here = h5py.h5g.open(here, name)

    def _list(self) -> list[str]:
        """Returns all ids, group by group. Each group is visited once, because a damaged file may contain itself."""
        import h5py

        root = self._file.id
        ids: list[str] = []
        seen = {h5py.h5o.get_info(root).addr}
        stack: list[tuple[bytes, Any, Iterator[bytes]]] = [(b"", root, iter(root))]
        while stack:
            inside, group, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                continue
            id = _id_of(inside + name)
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                ids += [id] if id in self else []
                continue
            # To ask what a name stands for is six times as quick as to open it.
            about = h5py.h5o.get_info(group, name)
            if about.type == h5py.h5o.TYPE_DATASET:
                ids.append(id)
            elif about.type == h5py.h5o.TYPE_GROUP and about.addr not in seen:
                seen.add(about.addr)
                below = h5py.h5g.open(group, name)
                stack.append((inside + name + b"/", below, iter(below)))
        return ids


@contextmanager
def _one_line_errors(path: Path, what: str) -> Iterator[None]:
    """Turns every error of h5py about a damaged file into one line.

    Raises:
        DataError: an error was raised within the block.
    """
    try:
        yield
    except PrvrError:
        raise
    # The types that h5py raises for damaged files are not documented; AttributeError and MemoryError are among them.
    except Exception as problem:
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise DataError(f"{what} in {path} cannot be read ({reason}); copy the file from its source again") from None


def _is_elsewhere(group: Any, name: bytes) -> bool:
    import h5py

    return bool(group.links.get_info(name).type not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT))


def _is_data(group: Any, name: bytes) -> bool:
    import h5py

    return bool(h5py.h5o.get_info(group, name).type == h5py.h5o.TYPE_DATASET)


def _name_of(id: str) -> bytes:
    return id.encode("utf-8", "surrogateescape")


def _id_of(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _open_file(path: Path) -> Any:
    import h5py

    if not path.is_file():
        raise DataError(f"{path} is not a file; give the HDF5 file itself" if path.exists() else f"there is no file {path}")
    try:
        return h5py.File(path, "r")
    # Beside OSError also RuntimeError and others, for damaged files.
    except Exception as problem:
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        if getattr(problem, "errno", None) in (errno.EAGAIN, errno.EWOULDBLOCK) or _is_in_use(reason):
            raise DataError(
                f"{path} is in use: another process has it open for writing, or one that was killed left it marked so "
                f"({reason}); wait for that process to end, clear the mark of a killed one with h5clear -s FILE, or, on a "
                "disk that cannot lock files, set HDF5_USE_FILE_LOCKING=FALSE"
            ) from None
        raise DataError(f"{path} is not a readable HDF5 file ({reason}); copy it again") from None


def _is_in_use(reason: str) -> bool:
    return any(words in reason for words in ("unable to lock file", "already open", "consistency flags"))
