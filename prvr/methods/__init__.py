"""One file, one paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from prvr.config import from_dict
from prvr.methods import (
    beside_teacher,
    collaborative_experts,
    dl_dkd,
    dual_encoding,
    dual_encoding_hybrid,
    gmmformer,
    gmmformer_v2,
    hgr,
    hlformer,
    ms_sl,
    ral,
    reloclnet,
    rivrl,
    xml,
    zero_shot,
)
from prvr.methods.contract import Profile
from prvr.nn import views


def _never(config: Any) -> bool:
    return False


@dataclass(frozen=True)
class Method:
    """A method's settings, its model and, if it learns, its objective.

    `model(config, frame_columns=, word_columns=)` gives a `contract.Model`; `objective(model, queries, videos, batch,
    epoch)` the loss that the paper defines, as `contract.Terms`, of what `contract.embed` gives; `distils(config)` whether
    that loss itself needs a teacher. An objective that distils by settings of its own takes `kept=`, too: what teachers that
    are trained models say of the batch (`prvr.train.similarities`).

    For distillation on top (`methods.taught`): `contrasts`, whether the objective takes `contrast=`, a `contract.Contrast`
    in place of its `losses.info_nce`, so that its targets can be soft; `profile`, what scores a query along its own video
    where `score_weights` does not say it.

    revision: raised when the method computes something else than before, so that older checkpoints are refused.
    """

    config: type
    model: Callable[..., nn.Module]
    objective: Callable[..., Any] | None
    distils: Callable[[Any], bool] = _never
    contrasts: bool = False
    profile: Profile | None = None
    revision: int = 1


def _student(method: str, settings: Mapping[str, Any], frame_columns: int, word_columns: int) -> nn.Module:
    made = METHODS[method]
    return made.model(from_dict(made.config, dict(settings)), frame_columns=frame_columns, word_columns=word_columns)


METHODS: dict[str, Method] = {
    "beside_teacher": Method(beside_teacher.BesideTeacherConfig, partial(beside_teacher.BesideTeacher, build=_student), None),
    "dl_dkd": Method(dl_dkd.DlDkdConfig, dl_dkd.DlDkd, dl_dkd.objective, dl_dkd.distils),
    "gmmformer": Method(gmmformer.GmmFormerConfig, gmmformer.GmmFormer, gmmformer.objective, contrasts=True, revision=2),
    "gmmformer_v2": Method(
        gmmformer_v2.GmmFormerV2Config,
        gmmformer_v2.GmmFormerV2,
        gmmformer_v2.objective,
        contrasts=True,
        profile=views.profile,
        revision=2,
    ),
    "hgr": Method(hgr.HgrConfig, hgr.Hgr, hgr.objective, profile=hgr.profile),
    "ms_sl": Method(ms_sl.MsSlConfig, ms_sl.MsSl, ms_sl.objective, contrasts=True, profile=ms_sl.profile, revision=2),
    "hlformer": Method(
        hlformer.HlFormerConfig, hlformer.HlFormer, hlformer.objective, contrasts=True, profile=views.profile, revision=2
    ),
    "ral_gmmformer_v2": Method(ral.RalGmmFormerV2Config, ral.Ral, ral.objective, contrasts=True, profile=ral.profile, revision=2),
    "rivrl": Method(rivrl.RivrlConfig, rivrl.Rivrl, rivrl.objective),
    "xml": Method(xml.XmlConfig, xml.Xml, xml.objective),
    "reloclnet": Method(
        reloclnet.ReloclnetConfig, reloclnet.Reloclnet, reloclnet.objective, contrasts=True, profile=reloclnet.profile
    ),
    "dual_encoding": Method(dual_encoding.DualEncodingConfig, dual_encoding.DualEncoding, dual_encoding.objective),
    "dual_encoding_hybrid": Method(
        dual_encoding_hybrid.DualEncodingHybridConfig,
        dual_encoding_hybrid.DualEncodingHybrid,
        dual_encoding_hybrid.objective,
    ),
    "collaborative_experts": Method(
        collaborative_experts.CollaborativeExpertsConfig,
        collaborative_experts.CollaborativeExperts,
        collaborative_experts.objective,
    ),
    "zero_shot": Method(zero_shot.ZeroShotConfig, zero_shot.ZeroShot, None),
}

# Names that checkpoints on disk may have, and why there is no such method any more.
WITHDRAWN = dict.fromkeys(
    ("ral_gmmformer", "ral_ms_sl"),
    "is no longer here: RAL is published on GMMFormer v2 alone, and on other students it was guessed; train gmmformer-v2+ral",
)
