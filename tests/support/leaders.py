"""Numbers of the published code of Holmes and DreamPRVR, and our models with its parameters.

Sizes, weights and windows come from each folder's config.json, as in `gmmformer_family`, whose batches these are.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
import torch
from gmmformer_family import FOLDER, Peer, read

from prvr.config import from_dict
from prvr.methods import open_method
from prvr.papers.authors.follow_up_names import our_names

HOLMES = ("holmes", "holmes_dual")
METHODS = (*HOLMES, "dreamprvr")
# The first epoch of hard negatives, and of Holmes' calibrated targets.
HARD = 1
every_leader = pytest.mark.parametrize("name", METHODS)


class Leader(Peer):
    """One folder: numbers of the published code, and our model with its parameters."""

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        arrays = read(self.name, "batch.npz")
        return {key.replace("raw_token", "raw_word"): value for key, value in arrays.items()}

    @cached_property
    def ours(self) -> dict[str, str]:
        return our_names(self.name, read(self.name, "params.npz"))

    @cached_property
    def training(self) -> dict[str, Any]:
        return json.loads((FOLDER / self.name / "training.json").read_text())

    def settings(self, *, pool: int) -> Any:
        theirs = self.config
        sizes, weights, diversity = theirs["sizes"], theirs["weights"], theirs["diversity"]
        moved = theirs.get("transport", {})
        named = {
            "hidden": sizes["hidden"],
            "heads": sizes["heads"],
            "max_frames": sizes["frames"],
            "max_words": sizes["words"],
            "clips": sizes["clips"],
            "registers": sizes.get("registers"),
            "steps": sizes.get("steps"),
            "dropout": 0.0,
            "input_dropout": 0.0,
            "margin": theirs["margin"],
            "frame_weight": theirs["fusion"]["frame"],
            "negative_pool": pool,
            "hard_from_epoch": HARD,
            "warmup_epochs": HARD if self.name in HOLMES else None,
            "widths": tuple(map(float, theirs["windows"])),
            "clip_nce_weight": weights["clip_nce"],
            "frame_nce_weight": weights["frame_nce"],
            "diversity_weight": weights["diversity"],
            "diversity_margin": diversity["margin"],
            "diversity_scale": float(diversity["scale"]),
            "diversity_focus": float(diversity["power"]),
            "consolidation_temperature": theirs["consolidation_temperature"],
            "evidence_weight": weights.get("evidence"),
            "evidence_temperature": theirs.get("tau"),
            "transport_weight": weights.get("transport"),
            "transport_temperature": theirs.get("tau_transport"),
            "partition_share": theirs.get("beta"),
            "soft_share": theirs.get("gamma"),
            "coupling_temperature": moved.get("temperature"),
            "dustbin_share": moved.get("dustbin_share"),
            "transport_rounds": moved.get("iterations"),
            "similarity_weight": weights.get("query_similarity"),
            "similarity_temperature": theirs.get("tau_query"),
            "kl_weight": weights.get("kl"),
            "diffusion_weight": weights.get("diffusion"),
        }
        assert theirs["fusion"]["clip"] + theirs["fusion"]["frame"] == pytest.approx(1)
        given = {key: value for key, value in named.items() if value is not None}
        return from_dict(open_method(self.name).config, given)

    def model(self, *, pool: int = 1) -> Any:
        sizes = self.config["sizes"]
        columns = {"frame_columns": sizes["visual"], "word_columns": sizes["query"]}
        model: Any = open_method(self.name).model(self.settings(pool=pool), **columns).double().eval()
        model.load_state_dict({self.ours[key]: value for key, value in self.tensors("params.npz").items()})
        model.reading = replace(model.reading, precision="float64")
        return model


@cache
def leader(name: str) -> Leader:
    return Leader(name, json.loads((FOLDER / name / "config.json").read_text()))


def free_scores(name: str) -> dict[str, torch.Tensor]:
    """The fixture of the losses alone."""
    return {key: torch.from_numpy(value) for key, value in read(name, "free_scores.npz").items()}
