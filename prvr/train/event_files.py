"""The history of a run as TensorBoard reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prvr.errors import require

FOLDER = "tensorboard"


@contextmanager
def event_files(out: Path) -> Iterator[Callable[[Sequence[Mapping[str, Any]]], None]]:
    """Yields a function that writes those epochs of a history that are not yet in OUT/tensorboard.

    The first call replaces event files of earlier processes: they are made from the history, which holds every epoch, so that a
    run that was interrupted has one curve. Steps are epochs, counted from 1.

    Raises:
        MissingExtra: TensorBoard is not installed.
    """
    require("tensorboard", extra="tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer: SummaryWriter | None = None
    written = 0

    def write(history: Sequence[Mapping[str, Any]]) -> None:
        nonlocal writer, written
        if writer is None:
            for old in (out / FOLDER).glob("events.out.tfevents.*"):
                old.unlink()
            writer = SummaryWriter(str(out / FOLDER))
        for record in history[written:]:
            for name, value in _scalars(record).items():
                writer.add_scalar(name, value, record["epoch"] + 1)
        written = len(history)
        writer.flush()

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _scalars(record: Mapping[str, Any]) -> dict[str, float]:
    scalars = {f"loss/{name}": value for name, value in record["losses"].items()} | {"loss/total": record["loss"]}
    # Runs of older versions did not keep the rate.
    if "lr" in record:
        scalars["lr"] = record["lr"]
    return scalars | {f"dev/{name}": value for name, value in record["dev"].items()}
