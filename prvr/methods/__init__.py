"""Methods: one file, one paper. A method's module is imported when the method is used."""

from __future__ import annotations

import importlib

from prvr.errors import ModelError, nearest
from prvr.methods.contract import Method

# Where each method's `Method` stands, as MODULE:NAME; checkpoints and recipes hold the name on the left.
METHODS: dict[str, str] = {
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


def open_method(name: str) -> Method:
    """A method by name; imports its module.

    Raises:
        ModelError: there is no such method, or no longer; the text suggests the nearest name, or says why.
    """
    if name in WITHDRAWN:
        raise ModelError(f"{name} {WITHDRAWN[name]}")
    if name not in METHODS:
        raise ModelError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    method: Method = getattr(importlib.import_module(module), attribute)
    return method
