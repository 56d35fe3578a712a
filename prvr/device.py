"""Where networks run: a device by name, seen to work."""

from __future__ import annotations

import torch

from prvr.errors import SettingError


def open_device(name: str) -> torch.device:
    """The device of that name: cpu, cuda, cuda:1 ...

    Raises:
        SettingError: there is no such device here, or this torch cannot use it.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # A torch without CUDA says so by an AssertionError.
    except (RuntimeError, AssertionError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0][:200]
        raise SettingError(f"networks cannot run on device {name!r} here ({reason}); take cpu") from None
    return device
