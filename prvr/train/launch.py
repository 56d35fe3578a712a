"""Several processes of one command on this machine, started by PyTorch's elastic launcher."""

from __future__ import annotations

import builtins
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from tempfile import TemporaryDirectory

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from prvr import errors
from prvr.errors import ProcessLost, PrvrError, SettingError

# Seconds for which a process that has lost another one waits, so that the launcher finds the other one first.
GRACE = 10.0


def launch(work: Callable[[], None], processes: int, *, device: str) -> None:
    """Runs `work` in several processes, each with the environment that `join_group` reads.

    Args:
        work: a function that can be pickled.

    Raises:
        SettingError: there are fewer devices than processes, or `torchrun` has already started processes.
        PrvrError, OSError: what the first process that failed raised.
        ProcessLost: a process was killed, or failed by a fault of the program.
    """
    _check(processes, device)
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        # Their reports of many lines, in place of which our error has one.
        logging.getLogger(name).propagate = False
        logging.getLogger(name).addHandler(logging.NullHandler())
    before = signal.getsignal(signal.SIGTERM)
    with TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            # An interrupt is Python's KeyboardInterrupt.
            signals_to_handle="SIGTERM",
        )
        try:
            elastic_launch(config, _run)(work, processes)
        except ChildFailedError as failed:
            raise _reason(*failed.get_first_failure(), processes) from failed
        except SignalException as ended:
            sys.exit(128 + ended.sigval)
        finally:
            signal.signal(signal.SIGTERM, before)


def _check(processes: int, device: str) -> None:
    if "WORLD_SIZE" in os.environ:
        size = os.environ["WORLD_SIZE"]
        raise SettingError(f"--devices {processes} within {size} processes that torchrun has started; leave one of them out")
    if device.startswith("cuda") and processes > (there := torch.cuda.device_count()):
        raise SettingError(f"--devices {processes} on {device}: torch sees {there} GPUs here; take as many, or --device cpu")


def _run(work: Callable[[], None], size: int) -> None:
    """What each process does."""
    # The launcher ends it with SIGTERM; an interrupt of the terminal ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # All processes are on this machine, whose name may have no address.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
    try:
        work()
    except ProcessLost:
        time.sleep(GRACE)
        raise


def _reason(rank: int, failure: ProcessFailure, processes: int) -> Exception:
    """The error of the process that failed first, in one line."""
    message = failure.error_file_data["message"]
    if not isinstance(message, dict):
        how = f"with status {failure.exitcode}" if failure.exitcode >= 0 else f"by {failure.signal_name()}"
        if failure.signal_name() == "SIGKILL":
            how += " (a machine out of memory does that)"
        return ProcessLost(
            f"process {rank + 1} of {processes} was ended {how}; completed work is kept: run the same command to continue"
        )
    line = message["message"].partition("\n")[0]
    name, _, text = line.partition(": ")
    for module, root in ((errors, PrvrError), (builtins, OSError)):
        kind = getattr(module, name, None)
        if isinstance(kind, type) and issubclass(kind, root):
            error: Exception = kind(text)
            return error
    return ProcessLost(f"a process failed ({line}); --debug shows where, and completed work is kept")
