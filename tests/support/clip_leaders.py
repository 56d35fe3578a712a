"""Numbers of the published code of BGM-Net and MSC-PRVR, and our models with its parameters.

Sizes, weights and windows come from each folder's config.json, the folders from $PRVR_PEERS, so that other sets of the same
layout can be run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from gmmformer_family import FOLDER, check_close, read, rows_by_id
from peer_fixtures import Peer
from torch import Tensor

from prvr.batch import Batch, collate, video_item
from prvr.features import FeatureSet
from prvr.features.sources import FeatureSources, Source
from prvr.methods import open_method
from prvr.methods.contract import embed
from prvr.nn import losses
from prvr.papers.authors.follow_up_names import our_names
from prvr.train.optimiser import BertAdam, decay_groups

# The first epoch of hard negatives, and of BGM-Net's matching.
HARD = 2


class Leader(Peer):
    """A folder, and our model with its parameters. The fixture has videos and captions in the order of our batch or another."""

    def __init__(self, name: str, method: str, settings: dict[str, Any]) -> None:
        super().__init__(name)
        self.method, self.settings = open_method(method), settings
        self.ours = our_names(method, read(name, "params.npz"))
        self.cases: dict[str, Any] = self.json("losses.json")["cases"]
        self.training: dict[str, Any] = self.json("training.json")

    def model(self, **changes: Any) -> Any:
        sizes = self.config["sizes"]
        settings = self.method.config(**{**self.settings, **changes})
        model: Any = self.method.model(settings, frame_columns=sizes["visual"], word_columns=sizes["query"]).double().eval()
        model.load_state_dict({self.ours[name]: torch.from_numpy(value) for name, value in self.arrays("params.npz").items()})
        model.reading = replace(model.reading, precision="float64")
        return model

    @cached_property
    def frames(self) -> dict[str, np.ndarray]:
        return rows_by_id("video", read(self.path.name, "batch.npz")["raw_frames"], self.batch["raw_frame_counts"])

    @cached_property
    def words(self) -> dict[str, np.ndarray]:
        return rows_by_id("caption", read(self.path.name, "batch.npz")["raw_tokens"], self.batch["raw_token_counts"])

    @cached_property
    def video_order(self) -> list[int]:
        captions = np.bincount(self.batch["labels"])
        return sorted(range(len(captions)), key=lambda video: -captions[video])

    @cached_property
    def query_order(self) -> list[int]:
        return [query for video in self.video_order for query in np.flatnonzero(self.batch["labels"] == video).tolist()]

    def read(self, model: Any) -> Batch:
        """The videos and captions, by our own loaders."""
        columns = (next(iter(rows.values())).shape[1] for rows in (self.frames, self.words))
        sources = FeatureSources(*(Source(name, width) for name, width in zip(("frames", "words"), columns, strict=True)))
        features = FeatureSet(self.frames, self.words, sources)
        captions = {f"video {v}": [f"caption {n}" for n in np.flatnonzero(self.batch["labels"] == v)] for v in self.video_order}
        return collate([video_item(video, its, features, model.reading) for video, its in captions.items()])

    def ordered(self, array: np.ndarray, by: str) -> Tensor:
        """An array in the order of our batch; `by` names what its axes are: q, v, or - for any other."""
        values = torch.from_numpy(array)
        for axis, kind in enumerate(by):
            if kind != "-":
                values = values.index_select(axis, torch.tensor(self.query_order if kind == "q" else self.video_order))
        return values

    def expected(self, name: str, by: str) -> Tensor:
        return self.ordered(self(name), by)

    def objective(self, model: Any, batch: Batch, epoch: int) -> dict[str, Tensor]:
        assert self.method.objective is not None
        return self.method.objective(model, *embed(model, batch), epoch)

    def check_terms(self, case: str, terms: dict[str, Tensor], names: dict[str, str]) -> None:
        theirs = self.cases[case]["terms"]
        assert set(terms) == {names.get(term, term) for term in theirs}
        for term, value in theirs.items():
            told = terms[names.get(term, term)].detach()
            assert abs(float(told) - value) <= 1e-9, term
        total = float(torch.stack(list(terms.values())).sum().detach())
        assert abs(total - self.cases[case]["total"]) <= 1e-9

    def check_gradients_of(self, case: str, model: Any) -> None:
        """Compares every parameter's gradient by its norm and its probe; None for one that has none."""
        parameters = dict(model.named_parameters())
        theirs = self.cases[case]["gradient_sums"]
        assert set(parameters) == {self.ours[name] for name in theirs}
        for name, sums in theirs.items():
            gradient = parameters[self.ours[name]].grad
            assert (sums is None) == (gradient is None), name
            if gradient is not None:
                flat = gradient.flatten()
                places = torch.arange(1, len(flat) + 1, dtype=torch.float64)
                found = torch.stack([flat.norm(), flat @ places.cos()])
                assert found.isfinite().all(), name
                assert float((found - torch.tensor(sums, dtype=torch.float64)).abs().max()) <= 1e-9, name

    def check_all_gradients(self, model: Any) -> None:
        theirs = {self.ours[name]: torch.from_numpy(value) for name, value in self.arrays("grads.npz").items()}
        largest = max(float(value.abs().max()) for value in theirs.values())
        parameters = dict(model.named_parameters())
        for name, value in theirs.items():
            assert parameters[name].grad.isfinite().all(), name
            assert float((parameters[name].grad - value).abs().max()) <= 1e-7 * largest, name

    def check_training(self, model: Any, epoch: int, *, schedule: str) -> None:
        """Six steps with a schedule of `BertAdam`."""
        theirs, batch = self.training, self.read(model)
        groups = decay_groups(model.parameters(), weight_decay=theirs["weight_decay"])
        decaying = {id(parameter) for parameter in groups[0]["params"]}
        parameters = dict(model.named_parameters())
        assert len(decaying) == theirs["with_decay_count"]
        assert all(id(parameters[self.ours[name]]) in decaying for name in theirs["decayed_though_a_norm"])
        rate = {"lr": theirs["lr"], "total_steps": theirs["t_total"], "warmup": theirs["warmup"], "schedule": schedule}
        optimiser = BertAdam(groups, **rate, clip=theirs["max_grad_norm"])
        for step, wanted in enumerate(theirs["totals"]):
            loss = torch.stack(list(self.objective(model, batch, epoch).values())).sum()
            assert abs(float(loss.detach()) - wanted) <= 1e-8 * abs(wanted), step
            if step < theirs["t_total"]:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        ours = torch.stack([parameters[self.ours[name]].detach().norm() for name in theirs["final_norms"]])
        check_close(ours, torch.tensor(list(theirs["final_norms"].values()), dtype=torch.float64), tolerance=1e-8)


class DrawAsRecorded:
    """Makes an objective draw the recorded negatives, in the order of branches."""

    def __init__(self, given: Leader, case: str, patch: pytest.MonkeyPatch) -> None:
        self.given, self.case = given, given.cases[case]
        self.videos, self.queries = iter(self._videos()), iter(self._queries())
        patch.setattr(losses, "hard_negative_videos", self._draw_videos)
        patch.setattr(losses, "hardest_negative_queries", self._draw_queries)
        patch.setattr(losses, "random_negative_queries", self._draw_queries)

    def _moved(self, values: list[int], order: list[int], back: list[int]) -> Tensor:
        place = {old: new for new, old in enumerate(back)}
        return torch.tensor([place[values[old]] for old in order])

    def _videos(self) -> Iterator[Tensor]:
        queries, videos = self.given.query_order, self.given.video_order
        for picks in self.case["picks"].values():
            if "video_of_query" in picks:
                yield self._moved(picks["video_of_query"], queries, videos)
            else:
                yield self._moved(picks["column_of_row"], queries, queries)
                yield self._moved(picks["row_of_column"], queries, queries)

    def _queries(self) -> Iterator[Tensor]:
        for picks in self.case["picks"].values():
            if "query_of_video" in picks:
                yield self._moved(picks["query_of_video"], self.given.video_order, self.given.query_order)

    def _draw_videos(self, scored: Tensor, target: Tensor, *, pool: int, generator: object = None) -> Tensor:
        negative = next(self.videos)
        assert not (negative == target).any()
        if pool == 1:
            wrong = scored.detach().masked_fill(losses.ownership(target, scored.shape[1]), losses.LOWEST)
            assert torch.equal(wrong.argmax(1), negative)
        return negative

    def _draw_queries(self, scored: Tensor, target: Tensor) -> Tensor:
        negative = next(self.queries)
        assert not (target[negative] == torch.arange(len(negative))).any()
        return negative


__all__ = ["FOLDER", "HARD", "DrawAsRecorded", "Leader", "check_close"]
