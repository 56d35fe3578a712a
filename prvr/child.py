"""Child processes: those that must import the same modules as this one, and those for files of unknown origin, with limits."""

from __future__ import annotations

import os
import sys

# What Python, torch and FFmpeg need to find their files, on Linux, macOS and Windows.
ENVIRONMENT = ("HOME", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "SYSTEMROOT", "USERPROFILE")


def child_environment() -> dict[str, str]:
    """Returns the environment of such a process: no secrets of this one, its module path, and one thread."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    # The child runs in another folder and must import the same modules.
    return {**kept, "PYTHONPATH": _module_path(), "OMP_NUM_THREADS": "1"}


def environment_with_modules() -> dict[str, str]:
    """Returns the environment of this process, in which a child imports the same modules, those of the working folder too."""
    return {**os.environ, "PYTHONPATH": _module_path()}


def _module_path() -> str:
    return os.pathsep.join(map(os.path.abspath, sys.path))


def limit_resources(*, memory: int, file_bytes: int) -> None:
    """Limits this process: its data, the size of a file that it writes, and no core dump.

    Linux enforces all three; macOS does not limit data, and Windows has no such limits.

    Args:
        memory: in bytes.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    for kind, limit in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (allowed, allowed))
