"""Methods: one file, one paper. A method's module is imported when the method is used, and torch with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, final

from prvr.errors import ModelError, SettingError, nearest

if TYPE_CHECKING:
    from prvr.methods.contract import Method

# The methods of this package, as MODULE:NAME of a `Method`; checkpoints and recipes hold the name on the left.
BUILT_IN: dict[str, str] = {
    "beside_teacher": "prvr.methods.beside_teacher:METHOD",
    "collaborative_experts": "prvr.methods.collaborative_experts:METHOD",
    "dl_dkd": "prvr.methods.dl_dkd:METHOD",
    "dreamprvr": "prvr.methods.dreamprvr:METHOD",
    "dual_encoding": "prvr.methods.dual_encoding:METHOD",
    "dual_encoding_hybrid": "prvr.methods.dual_encoding_hybrid:METHOD",
    "embedding_experts": "prvr.methods.embedding_experts:METHOD",
    "gmmformer": "prvr.methods.gmmformer:METHOD",
    "gmmformer_v2": "prvr.methods.gmmformer_v2:METHOD",
    "hgr": "prvr.methods.hgr:METHOD",
    "hlformer": "prvr.methods.hlformer:METHOD",
    "holmes": "prvr.methods.holmes:METHOD",
    "holmes_dual": "prvr.methods.holmes:DUAL",
    "ms_sl": "prvr.methods.ms_sl:METHOD",
    "ral_gmmformer_v2": "prvr.methods.ral:METHOD",
    "msc": "prvr.methods.msc:METHOD",
    "reloclnet": "prvr.methods.reloclnet:METHOD",
    "rivrl": "prvr.methods.rivrl:METHOD",
    "xml": "prvr.methods.xml:METHOD",
    "zero_shot": "prvr.methods.zero_shot:METHOD",
}

# Names that checkpoints may have, of methods that are gone, and why.
WITHDRAWN: dict[str, str] = dict.fromkeys(
    ("ral_gmmformer", "ral_ms_sl"),
    "is no longer here: RAL is published on GMMFormer v2 alone, and on other students it was guessed; train gmmformer-v2+ral",
)


@final
class Registry(Mapping[str, str]):
    """The methods that may be imported, as MODULE:NAME by name.

    Those of this package come first, then those that `register_method` was called with, then the entry points of the group
    `prvr.methods`. The last two can also be looked up by MODULE:NAME, which is what a checkpoint holds.
    """

    def __init__(self) -> None:
        self._registered: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        from prvr.methods import plugins

        own = BUILT_IN | self._registered
        if name in own:
            return own[name]
        installed = plugins.entry_point_methods()
        return name if name in installed.values() else installed[name]

    def __iter__(self) -> Iterator[str]:
        from prvr.methods import plugins

        return iter({**plugins.entry_point_methods(), **self._registered, **BUILT_IN})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, reference: str) -> None:
        """Adds a method by MODULE:NAME."""
        self._registered[reference] = reference


METHODS = Registry()


def register_method(method: str | type) -> str:
    """Imports an external method, and lets checkpoints, presets and indexes of it be opened in this process.

    Args:
        method: a class, its name `package.module:Class`, or the name of a method that is built in or installed.

    Returns:
        The name that recipes and checkpoints have: the name of a built-in method, else `package.module:Class`.

    Raises:
        SettingError: there is no such method.
        ModelError: it cannot be imported, or lacks a part of the contract; the text names each.
    """
    from prvr.methods import plugins

    reference = method if isinstance(method, str) else plugins.reference_to(method)
    reference = METHODS.get(reference, reference)
    if not plugins.REFERENCE.fullmatch(reference):
        known = nearest(reference, METHODS)
        raise SettingError(f"{reference!r} names no method; write package.module:Class, or the name of one: {known}")
    built_in = {path: name for name, path in BUILT_IN.items()}
    if reference in built_in:
        return built_in[reference]
    found = plugins.import_method(reference)
    if isinstance(method, type) and found.model is not method:
        raise SettingError(f"{reference} is not the class that its module has now; import it again")
    METHODS.add(reference)
    return reference


def open_method(name: str) -> Method:
    """A method by name; imports its module.

    An external method must have been registered, or be installed: its name may come from a file, and no file chooses what is
    imported.

    Raises:
        ModelError: there is no such method, it is no longer here, or may not be imported; the text has the next step.
    """
    from prvr.methods import plugins

    if name in WITHDRAWN:
        raise ModelError(f"{name} {WITHDRAWN[name]}")
    if name in METHODS:
        return plugins.import_method(METHODS[name])
    if plugins.REFERENCE.fullmatch(name):
        raise ModelError(
            f"the method {name} is not installed, and no code is imported because a file names it; if you trust it, name "
            f"the class yourself: --method {name}, in Python prvr.register_method({name!r})"
        )
    raise ModelError(f"unknown method {name!r}; {nearest(name, METHODS)}")
