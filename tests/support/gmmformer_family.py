"""Numbers of the published code of MS-SL, GMMFormer and what follows them, and our models with its parameters.

Sizes, weights and windows come from each folder's config.json, the folders from $PRVR_PEERS, so that other sets of the same
layout can be run.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prvr.batch import Batch, collate, video_item
from prvr.config import from_dict
from prvr.features import FeatureSet
from prvr.features.sources import FeatureSources, Source
from prvr.methods import open_method
from prvr.papers.authors.follow_up_names import our_names

FOLDER = Path(os.environ.get("PRVR_PEERS", Path(__file__).parents[1] / "parity" / "peers"))
METHOD = {
    "gmmformer": "gmmformer",
    "gmmformer_v2": "gmmformer_v2",
    "gmmformer_v2+ral": "ral_gmmformer_v2",
    "hlformer": "hlformer",
    "ms-sl": "ms_sl",
    "ms-sl++": "ms_sl",
}
# The first epoch of hard negatives.
HARD = 1
every_peer = pytest.mark.parametrize("name", METHOD)


@dataclass(frozen=True)
class Peer:
    """One folder: numbers of the published code, and our model with its parameters."""

    name: str
    config: dict[str, Any] = field(hash=False)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        return read(self.name, "batch.npz")

    @cached_property
    def forward(self) -> dict[str, np.ndarray]:
        return read(self.name, "forward.npz")

    @cached_property
    def losses(self) -> dict[str, Any]:
        return json.loads((FOLDER / self.name / "losses.json").read_text())

    @cached_property
    def ours(self) -> dict[str, str]:
        return our_names(METHOD[self.name], read(self.name, "params.npz"))

    @property
    def widths(self) -> tuple[float, ...]:
        given = self.config.get("window_widths", self.config.get("euclidean_windows", []))
        return tuple(0.0 if width is None else float(width) for width in given)

    def model(self, *, pool: int = 1) -> Any:
        theirs = self.config
        weights = dict(zip(theirs["loss_factor_names"], theirs["loss_factor"], strict=True))
        diversity = dict(zip(theirs["neg_factor_names"], theirs["neg_factor"], strict=True))
        named = {
            "hidden": theirs["hidden_size"],
            "heads": theirs["n_heads"],
            "max_frames": theirs["max_ctx_l"],
            "max_words": theirs["max_desc_l"],
            "clips": theirs["map_size"],
            "dropout": theirs["dropout"],
            "input_dropout": theirs["dropout"],
            "margin": theirs["margin"],
            "frame_weight": theirs["frame_scale_w"],
            "negative_pool": pool,
            "hard_from_epoch": HARD,
            "widths": self.widths,
            "clip_nce_weight": weights["clip_nce"],
            "frame_nce_weight": weights["frame_nce"],
            "diversity_weight": weights.get("diversity"),
            "matching_weight": weights.get("matching"),
            "order_weight": weights.get("partial_order"),
            "diversity_margin": diversity.get("margin delta"),
            "diversity_scale": diversity.get("scale alpha"),
            "diversity_focus": diversity.get("focus gamma"),
            "consolidation_temperature": theirs.get("sft_factor"),
            "lorentz_columns": theirs.get("lorentz_dim"),
            "reduced_clips": theirs.get("cluster_num", 0) if self.name == "ms-sl++" else None,
            "proxies": theirs.get("proxies"),
            "support_captions": theirs.get("support_captions"),
            "proxy_weight": theirs.get("proxy_matching_weight"),
            "alignment_weight": theirs.get("distribution_alignment_weight"),
        }
        assert theirs["clip_scale_w"] + theirs["frame_scale_w"] == pytest.approx(1)
        method = open_method(METHOD[self.name])
        settings = from_dict(method.config, {key: value for key, value in named.items() if value is not None and value != ()})
        columns = {"frame_columns": theirs["visual_input_size"], "word_columns": theirs["query_input_size"]}
        model: Any = method.model(settings, **columns).double().eval()
        model.load_state_dict({self.ours[key]: value for key, value in self.tensors("params.npz").items()})
        model.reading = replace(model.reading, precision="float64")
        return model

    def tensors(self, file: str) -> dict[str, Tensor]:
        return {k: torch.from_numpy(v).double() for k, v in read(self.name, file).items() if k in self.ours}

    @property
    def frames(self) -> dict[str, np.ndarray]:
        return rows_by_id("video", self.arrays["raw_frames"], self.arrays["raw_frame_counts"])

    @property
    def words(self) -> dict[str, np.ndarray]:
        return rows_by_id("caption", self.arrays["raw_words"], self.arrays["raw_word_counts"])

    @property
    def features(self) -> FeatureSet:
        """What our loaders are given."""
        columns = (next(iter(rows.values())).shape[1] for rows in (self.frames, self.words))
        frames, words = (Source(name, width) for name, width in zip(("frames", "words"), columns, strict=True))
        return FeatureSet(self.frames, self.words, FeatureSources(frames, words))

    @cached_property
    def video_order(self) -> list[int]:
        """The videos of the fixture in the order of `collate`: those with most captions first."""
        captions = np.bincount(self.arrays["labels"])
        return sorted(range(len(captions)), key=lambda video: -captions[video])

    @cached_property
    def query_order(self) -> list[int]:
        return [query for video in self.video_order for query in np.flatnonzero(self.arrays["labels"] == video).tolist()]

    def batch(self, model: Any) -> Batch:
        """The videos and captions, by our own loaders."""
        captions = {f"video {v}": [f"caption {n}" for n in np.flatnonzero(self.arrays["labels"] == v)] for v in self.video_order}
        return collate([video_item(video, its, self.features, model.reading) for video, its in captions.items()])

    def expected(self, array: str, *, by: str) -> Tensor:
        """An array of the fixture in the order of our batch; `by` names what its axes are: q, v, or - for any other."""
        values = torch.from_numpy(self.forward[array])
        for axis, kind in enumerate(by):
            if kind != "-":
                values = values.index_select(axis, torch.tensor(self.query_order if kind == "q" else self.video_order))
        return values


@cache
def peer(name: str) -> Peer:
    return Peer(name, json.loads((FOLDER / name / "config.json").read_text()))


def read(name: str, file: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name / file, allow_pickle=False) as arrays:
        return dict(arrays)


def rows_by_id(what: str, rows: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{what} {n}": part for n, part in enumerate(np.split(rows, np.cumsum(counts)[:-1]))}


def check_close(ours: Tensor, theirs: Tensor, *, tolerance: float = 1e-9, what: str = "") -> None:
    """Relative to the largest value; NaN never passes."""
    assert ours.shape == theirs.shape, what
    assert ours.isfinite().all(), what
    assert theirs.isfinite().all(), what
    assert float((ours - theirs).abs().max()) <= tolerance * float(theirs.abs().max()), what
