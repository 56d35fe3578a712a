"""What Linux has and macOS or Windows lack is tested for before it is used: the package is imported and locks without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT = """
import importlib, os, pkgutil, sys, warnings

sys.modules.update(fcntl=None, resource=None)
del os.sched_getaffinity, os.fork
warnings.simplefilter("ignore")

import prvr

for module in pkgutil.walk_packages(prvr.__path__, "prvr."):
    if module.name != "prvr.__main__":
        importlib.import_module(module.name)
        print(module.name)

from pathlib import Path

from prvr.device import processor_count
from prvr.errors import DataError
from prvr.features.packed import PackedWriter

assert processor_count() >= 1
with PackedWriter(Path(sys.argv[1]), columns=3, about={}):
    try:
        PackedWriter(Path(sys.argv[1]), columns=3, about={})
    except DataError as problem:
        assert "another process is writing to" in str(problem)
    else:
        raise AssertionError("two writers at once")
PackedWriter(Path(sys.argv[1]), columns=3, about={}).close()
"""


def test_every_module_is_imported_without_what_only_posix_or_linux_has(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path / "features")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"prvr.features.packed", "prvr.extract.processes", "prvr.cli.index"} <= set(done.stdout.split())
