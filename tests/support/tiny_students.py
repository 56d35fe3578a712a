"""Students of every kind, with settings so small that a step takes milliseconds."""

from __future__ import annotations

from typing import Any

from prvr.methods.collaborative_experts import CollaborativeExpertsConfig
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.dual_encoding import DualEncodingConfig
from prvr.methods.gmmformer import GmmFormerConfig
from prvr.methods.gmmformer_v2 import GmmFormerV2Config
from prvr.methods.hlformer import HlFormerConfig
from prvr.methods.ms_sl import MsSlConfig
from prvr.methods.ral import RalGmmFormerV2Config
from prvr.methods.reloclnet import ReloclnetConfig
from prvr.methods.xml import XmlConfig

SIZES: dict[str, Any] = {"hidden": 8, "heads": 2, "max_frames": 20, "dropout": 0.0, "input_dropout": 0.0}
STUDENTS: dict[str, Any] = {
    "dl_dkd": DlDkdConfig(**SIZES),
    "xml": XmlConfig(**SIZES),
    "reloclnet": ReloclnetConfig(**SIZES),
    "ms_sl": MsSlConfig(**SIZES, clips=4),
    "gmmformer": GmmFormerConfig(**SIZES, clips=4),
    "gmmformer_v2": GmmFormerV2Config(**SIZES, clips=4),
    "hlformer": HlFormerConfig(**SIZES, clips=4, lorentz_columns=3),
    "ral_gmmformer_v2": RalGmmFormerV2Config(**SIZES, clips=4),
    "dual_encoding": DualEncodingConfig(hidden=8),
    "collaborative_experts": CollaborativeExpertsConfig(experts=(8, 12)),
}
