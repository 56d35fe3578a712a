"""Re-scoring by anchors: what evaluation and search make of it, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Prvr, says
from method_checks import build
from packed_toy import packed_toy
from toy_world import READS, toy_world

from prvr.datasets.splits import open_splits
from prvr.errors import ModelError, SettingError
from prvr.evaluate.evaluation import encode_split, evaluate_model
from prvr.evaluate.rescoring import ANCHORS, WEIGHTS, choose_rescoring
from prvr.features.shelf import student_features
from prvr.features.sources import FeatureSources, Source
from prvr.index.contract import Entry
from prvr.index.exact import ExactIndex
from prvr.index.rescoring import Anchors, Rescoring, rescoring_of, with_rescoring
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.collaborative_experts import CollaborativeExpertsConfig
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.dual_encoding import DualEncodingConfig
from prvr.methods.gmmformer import GmmFormerConfig
from prvr.methods.gmmformer_v2 import GmmFormerV2Config
from prvr.methods.hlformer import HlFormerConfig
from prvr.methods.ms_sl import MsSlConfig
from prvr.methods.ral import RalGmmFormerV2Config
from prvr.methods.xml import XmlConfig
from prvr.methods.zero_shot import ZeroShotConfig
from prvr.nn.anchors import evidence, temporal_anchors
from prvr.search.asking import VideoSearch

SIZES: dict[str, Any] = {"hidden": 8, "heads": 2, "max_frames": 20}
STUDENTS: dict[str, tuple[Any, str]] = {
    "dl_dkd": (DlDkdConfig(**SIZES), "inheritance"),
    "xml": (XmlConfig(**SIZES), "frames"),
    "ms_sl": (MsSlConfig(**SIZES, clips=4), "frames"),
    "gmmformer": (GmmFormerConfig(**SIZES, clips=4), "clips"),
    "gmmformer_v2": (GmmFormerV2Config(**SIZES, clips=4), "frames"),
    "hlformer": (HlFormerConfig(**SIZES, clips=4, lorentz_columns=3), "frames"),
    "zero_shot": (ZeroShotConfig(), "teacher"),
}


def checkpoint(method: str = "xml", settings: Any = None, sources: FeatureSources = READS) -> Checkpoint:
    torch.manual_seed(0)
    made = checkpoints.build(method, settings or STUDENTS[method][0], sources)
    return replace(made, model=build(method, made.settings, sources))


def sources_of(method: str) -> FeatureSources:
    return replace(READS, text=Source("toy_frames", READS.frames.columns)) if method == "zero_shot" else READS


@pytest.mark.parametrize("method", STUDENTS)
def test_every_student_with_frames_or_clips(method: str) -> None:
    model: Any = checkpoint(method, sources=sources_of(method)).model
    anchors = Anchors(model)
    assert model.embedding_fields[anchors.place] == STUDENTS[method][1]


@pytest.mark.parametrize("method", ["ral_gmmformer_v2"])
def test_queries_of_words_are_compared_by_their_one_vector(method: str) -> None:
    model: Any = build(method, RalGmmFormerV2Config(**SIZES, clips=4))
    assert model.embedding_fields[Anchors(model).place] == "frames"


@pytest.mark.parametrize(
    ("method", "settings"),
    [("dual_encoding", DualEncodingConfig(hidden=8)), ("collaborative_experts", CollaborativeExpertsConfig(experts=(8, 12)))],
)
def test_a_method_without_frames_or_clips_is_refused(method: str, settings: Any) -> None:
    with pytest.raises(ModelError, match="keeps no frames or clips"):
        Anchors(build(method, settings))


@pytest.mark.parametrize(("anchors", "weight"), [(0, 0.1), (4, -0.1), (4, float("nan")), (4, float("inf"))])
def test_what_is_no_rescoring_is_refused(anchors: int, weight: float) -> None:
    with pytest.raises(SettingError, match="re-scoring by"):
        Rescoring(anchors, weight)


def test_scores_of_a_split_are_the_old_ones_and_the_evidence() -> None:
    data, model = toy_world(videos=12), checkpoint().model
    plain = evaluate_model(model, data.dev, data.features)
    again = evaluate_model(model, data.dev, data.features, rescoring=Rescoring(4, 0.5))
    index, queries = encode_split(model, data.dev, data.features)
    for column, video in enumerate(plain.videos):
        rows = torch.from_numpy(index.fetch([video])[video].fields[0])[None]
        mask = torch.ones(1, rows.shape[1], dtype=torch.bool)
        said = evidence(queries[0], rows, mask, temporal_anchors(rows, mask, 4)).total[:, 0].numpy()
        np.testing.assert_allclose(again.scores[:, column], plain.scores[:, column] + 0.5 * said, rtol=1e-5)
    assert np.array_equal(plain.overlaps, again.overlaps, equal_nan=True)
    np.testing.assert_array_equal(
        plain.scores, evaluate_model(model, data.dev, data.features, rescoring=Rescoring(4, 0.0)).scores
    )


def test_the_choice_is_the_best_of_all_on_the_held_out_split() -> None:
    data, made = toy_world(videos=40), checkpoint()
    choice = choose_rescoring(made, data.dev, data.features)
    sums = {}
    for count in ANCHORS:
        for weight in WEIGHTS:
            told = evaluate_model(made.model, data.dev, data.features, rescoring=Rescoring(count, weight))
            sums[weight, count] = told.retrieval.sumr
    assert choice.after == max(sums.values()) == sums[choice.rescoring.weight, choice.rescoring.anchors]
    assert choice.before == evaluate_model(made.model, data.dev, data.features).retrieval.sumr
    assert all(sum_ < choice.after for (weight, _), sum_ in sums.items() if weight < choice.rescoring.weight)
    assert choice.split == "dev"


@pytest.mark.parametrize("method", ["xml", "gmmformer_v2"])
def test_a_search_ranks_as_evaluation_does(method: str) -> None:
    data, made, rescoring = toy_world(videos=30), checkpoint(method), Rescoring(6, 0.4)
    index, queries = encode_split(made.model, data.dev, data.features)
    wanted = evaluate_model(made.model, data.dev, data.features, rescoring=rescoring).scores
    anchors = Anchors(made.model)
    for n in range(len(queries[0])):
        query = tuple(field[n : n + 1] for field in queries)
        found = anchors.rescore(query, index.search(query, len(index.ids))[0], rescoring)
        assert [one.video for one in found] == [index.ids[place] for place in np.argsort(-wanted[n], kind="stable")]
        np.testing.assert_allclose([one.score for one in found], np.sort(wanted[n])[::-1], rtol=1e-5)
        assert all(one.parts == () for one in found)


def test_windows_of_a_long_video_are_one_video() -> None:
    model: Any = checkpoint().model
    rows = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    query = (torch.ones(1, 8),)
    whole, cut = (Anchors(model).evidence(query, Entry("a", (rows,), windows), 4) for windows in ((12,), (6, 6)))
    assert torch.equal(whole, cut)


class Encoder:
    """Gives every sentence the same words."""

    name = source = fingerprint = "words"
    word_columns = READS.text.columns

    def encode_words(self, texts: list[str]) -> list[np.ndarray]:
        return [np.random.default_rng(1).normal(size=(3, self.word_columns)).astype(np.float32) for _ in texts]


def test_searching_by_a_sentence() -> None:
    data, made = toy_world(videos=30), checkpoint()
    index, _ = encode_split(made.model, data.dev, data.features)
    encoder: Any = Encoder()
    plain = VideoSearch(made, index, encoder, videos=Path())
    with pytest.raises(SettingError, match="no re-scoring was chosen"):
        plain.search("a thing", rescore=True)
    search = VideoSearch(with_rescoring(made, Rescoring(4, 0.7)), index, encoder, videos=Path())
    first = {hit.video: hit for hit in search.search("a thing", k=10)}
    hits = search.search("a thing", k=10, rescore=True)
    assert len(hits) == 10
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.spans == first[hit.video].spans for hit in hits if hit.video in first)
    query = search.encode("a thing")
    best = Anchors(made.model).rescore(query, index.search(query, 10)[0], Rescoring(4, 0.7))[0]
    assert (hits[0].video, hits[0].score) == (best.video, best.score)
    none = VideoSearch(with_rescoring(made, Rescoring(4, 0.0)), index, encoder, videos=Path())
    assert [hit.score for hit in none.search("a thing", rescore=True)] == [hit.score for hit in plain.search("a thing")]


@pytest.mark.parametrize("kept", [3, {}, {"anchors": 0, "weight": 1, "calibration": None}, {"anchors": 4, "weight": "x"}])
def test_a_broken_choice_is_said(kept: Any) -> None:
    made = replace(checkpoint(), about={"rescoring": kept})
    with pytest.raises(ModelError, match="is broken"):
        rescoring_of(made)


def test_the_commands(tmp_path: Path, prvr: Prvr) -> None:
    package, features = packed_toy(tmp_path, train_videos=40)
    run = tmp_path / "run"
    learn = ("train", package, features, run, "--preset", "xml/toy", "--frames", "toy_frames", "--words", "words", "epochs=2")
    assert prvr(*learn).status == 0
    typed = ("evaluate", package, features, "--model", run)
    plain, made = prvr(*typed, "--json").json, checkpoints.load(run)
    again = prvr(*typed, "--rescore", "anchors", "--json").json
    kept = rescoring_of(checkpoints.load(run))
    choice = again["rescoring"]
    assert (choice["rescoring"]["anchors"], choice["rescoring"]["weight"]) == (kept.anchors, kept.weight)
    assert checkpoints.load(run).fingerprint == made.fingerprint
    assert "rescoring" not in plain
    dev = open_splits(package).dev
    read = student_features(features, frames="toy_frames", words="words")
    assert choice["after"] == evaluate_model(made.model, dev, read, rescoring=kept).retrieval.sumr
    assert f"weight {kept.weight:g}, chosen on {dev.split}" in prvr(*typed, "--rescore", "anchors").out
    assert prvr(*typed, "--json").json == plain
    says(prvr(*typed, "--rescore", "registers"), "--rescore is 'registers'", "anchors")
    flat = tmp_path / "flat"
    learn = ("train", package, features, flat, "--preset", "dual-encoding/toy", *learn[6:])
    assert prvr(*learn).status == 0
    says(prvr("evaluate", package, features, "--model", flat, "--rescore", "anchors"), "keeps no frames or clips")


def test_an_index_in_memory_is_not_changed() -> None:
    made = checkpoint()
    index = ExactIndex(made.model)
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    index.add([Entry("a", (rows,), (5,)), Entry("b", (rows[::-1].copy(),), (5,))])
    query = (torch.ones(1, 8),)
    before = index.search(query, 2)[0]
    Anchors(made.model).rescore(query, before, Rescoring(4, 1.0))
    assert index.search(query, 2)[0] == before
