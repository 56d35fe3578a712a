"""What settings of several kinds must be: above 0, or a share."""

from __future__ import annotations

from typing import Any

from prvr.errors import SettingError


def above_zero(settings: Any, *names: str) -> None:
    """Sees that these settings are above 0.

    Raises:
        SettingError: one is not.
    """
    for name in names:
        if getattr(settings, name) <= 0:
            raise SettingError(f"{name} is {getattr(settings, name)}; it must be above 0")


def shares(settings: Any, *names: str) -> None:
    """Sees that these settings are shares from 0 to 1.

    Raises:
        SettingError: one is not.
    """
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise SettingError(f"{name} is {getattr(settings, name)}; it takes a share from 0 to 1")


def multiple_of_heads(settings: Any) -> None:
    """Sees that the heads of attention divide the hidden size.

    Raises:
        SettingError: they do not.
    """
    hidden, heads = settings.hidden, settings.heads
    if hidden % heads:
        raise SettingError(f"hidden {hidden} is not a multiple of heads {heads}; {hidden - hidden % heads + heads} is")
