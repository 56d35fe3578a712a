"""Exports as ONNX: onnxruntime computes what the model computes, and nothing half-written or of another model is taken."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Prvr, says

from prvr.errors import ModelError, SettingError
from prvr.features.sources import FeatureSources, Source
from prvr.index.contract import Entry
from prvr.index.encode import Sampled, encode, encode_queries
from prvr.index.moments import relevance
from prvr.methods import BUILT_IN, export, open_method
from prvr.methods import checkpoint as checkpoints
from prvr.methods.checkpoint import Checkpoint
from prvr.methods.dl_dkd import DlDkdConfig
from prvr.methods.export import TOLERANCE, export_checkpoint
from prvr.methods.exported import EXPORT, FOLDER, QUERIES, VIDEOS, copy_export, open_exported, output_name, run
from prvr.methods.zero_shot import ZeroShotConfig

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

# An export takes ten seconds of processor.
pytestmark = pytest.mark.slow

SOURCES = FeatureSources(Source("frames", 12), Source("words", 10, "vectors:words.txt"))
# What the exporter makes of these: docs/hub.md has the list.
NOT_EXPORTED: dict[str, str] = {
    "hlformer": "crashes",
    "hgr": "roles",
    "msc": "cannot be exported",
    "rivrl": "cannot be exported",
    "collaborative_experts": "cannot be exported",
    "embedding_experts": "cannot be exported",
    "dual_encoding": "cannot be exported",
    "dual_encoding_hybrid": "cannot be exported",
}


def make(method: str, settings: object) -> Checkpoint:
    torch.manual_seed(0)
    made = checkpoints.build(method, settings, SOURCES)
    assert isinstance(made.model, torch.nn.Module)
    made.model.eval()
    return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of DL-DKD++ with its export beside it."""
    root = tmp_path_factory.mktemp("export") / "run"
    made = make("dl_dkd", DlDkdConfig(hidden=8, heads=2, max_frames=16, max_words=9))
    checkpoints.save(made, root)
    done = export_checkpoint(made, root / FOLDER)
    assert done.queries <= TOLERANCE
    assert done.videos <= TOLERANCE
    assert done.without_torch, done.reason
    hub = replace(made, sources=replace(SOURCES, text=Source("clip", 10, "openai/clip")))
    assert export._why_torch(hub, (1.0,)) == "its text encoder, openai/clip, takes it"
    return root


def test_an_export_computes_what_the_model_computes_at_any_length(exported: Path) -> None:
    made = checkpoints.load(exported)
    generator = np.random.default_rng(0)
    with torch.inference_mode():
        for file, name, width, longest, ours in (
            (QUERIES, "words", 10, 9, made.model.encode_queries),
            (VIDEOS, "frames", 12, 16, made.model.encode_videos),
        ):
            session = export.open_session(exported / FOLDER / file, "cpu")
            for length in (1, 2, 5, longest):
                rows = generator.normal(size=(1, length, width)).astype(np.float32)
                theirs = run(session, map(output_name, made.model.embedding_fields), {name: rows})
                expected = ours(torch.from_numpy(rows), torch.ones(1, length, dtype=torch.bool))
                for a, b in zip(expected, theirs, strict=True):
                    np.testing.assert_allclose(b, a.numpy(), atol=1e-5)


def entry_of(checkpoint: Checkpoint) -> Entry:
    rows = np.random.default_rng(1).normal(size=(12, 12)).astype(np.float32)
    (entry,) = encode(checkpoint.model, [Sampled("a", rows, tuple(float(n) for n in range(12)), 12.0)])
    return entry


def test_sentences_and_curves_are_those_of_the_model(exported: Path) -> None:
    made = checkpoints.load(exported)
    light = open_exported(exported, fingerprint=made.fingerprint)
    assert light is not None
    words = np.random.default_rng(2).normal(size=(20, 10)).astype(np.float32)
    from prvr.batch import read_words

    query = light.model.encode_sentence(read_words(words, light.model.reading))
    expected = encode_queries(made.model, [words])
    for a, b in zip(query, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-5)
    curve, edges = relevance(light.model, query, entry_of(made))
    theirs, same = relevance(made.model, expected, entry_of(made))
    np.testing.assert_allclose(curve, theirs, atol=1e-5)
    assert edges == same
    assert (light.method, light.sources, light.fingerprint) == (made.method, made.sources, made.fingerprint)


@pytest.mark.parametrize("parts", ["frames", "clips"])
def test_an_encoder_alone_needs_no_export(tmp_path: Path, parts: str) -> None:
    one = Source("clip", 12, "/somewhere/clip", "1" * 16, 1.0)
    made = checkpoints.build("zero_shot", ZeroShotConfig(parts), FeatureSources(one, one))
    checkpoints.save(made, tmp_path)
    light = open_exported(tmp_path, fingerprint=made.fingerprint)
    assert light is not None
    assert light.fingerprint == made.fingerprint
    for name in ("embedding_fields", "frame_fields", "score_weights", "reading"):
        assert getattr(light.model, name) == getattr(made.model, name)
    sentence = np.random.default_rng(3).normal(size=(1, 12)).astype(np.float32)
    (vector,), (expected,) = light.model.encode_sentence(sentence), encode_queries(made.model, [sentence])
    np.testing.assert_array_equal(vector, expected.numpy())
    np.testing.assert_allclose(
        relevance(light.model, (vector,), entry_of(made))[0], relevance(made.model, (expected,), entry_of(made))[0], atol=1e-6
    )
    assert open_exported(tmp_path, fingerprint="0" * 16) is None
    with pytest.raises(SettingError, match="an encoder alone has nothing to export"):
        export_checkpoint(made, tmp_path / "onnx")


def test_an_export_of_another_checkpoint_or_a_broken_one(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=rf"is of checkpoint \w+, and the index of {'0' * 16}; delete that folder, or export the"
    ):
        open_exported(exported, fingerprint="0" * 16)
    fingerprint = checkpoints.load(exported).fingerprint
    copy_export(exported, tmp_path / "model", checkpoints.load(exported))
    (tmp_path / "model" / "config.json").write_bytes((exported / "config.json").read_bytes())
    assert open_exported(tmp_path / "model", fingerprint=fingerprint) is not None
    about = tmp_path / "model" / FOLDER / EXPORT
    whole = about.read_text()
    for broken in (
        "",
        "[]",
        "{}",
        json.dumps({**json.loads(whole), "curve_weights": [1.0]}),
        whole.replace('"reading"', '"red"'),
    ):
        about.write_text(broken)
        with pytest.raises(ModelError, match=r"export.json is broken .*; export the checkpoint again"):
            open_exported(tmp_path / "model", fingerprint=fingerprint)
    about.write_text(whole)
    # The same weights beside other settings: the reader with torch decides.
    config = tmp_path / "model" / "config.json"
    text = json.loads(config.read_text())
    config.write_text(json.dumps({**text, "settings": {**text["settings"], "exploration_weight": 0.11}}))
    assert open_exported(tmp_path / "model", fingerprint=fingerprint) is None
    config.write_text(json.dumps(text))
    (tmp_path / "model" / FOLDER / QUERIES).write_bytes(b"nothing")
    assert open_exported(tmp_path / "model", fingerprint=fingerprint, accept=lambda _: False) is None
    for _ in range(2):
        with pytest.raises(ModelError, match=r"cannot open .*; delete the folder and export again: prvr checkpoint export"):
            open_exported(tmp_path / "model", fingerprint=fingerprint)
        (tmp_path / "model" / FOLDER / QUERIES).unlink(missing_ok=True)


def test_a_stale_export_is_not_copied(exported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = make("dl_dkd", DlDkdConfig(hidden=8, heads=2, max_frames=15))
    copy_export(exported, tmp_path / "model", other)
    assert "is not of this checkpoint and is not copied" in caplog.text
    assert os.listdir(tmp_path) == []


def test_a_difference_is_of_the_largest_value_and_never_nan() -> None:
    small = np.array([1e-3, 0], np.float32)
    assert export._difference(small, np.array([2e-3, 0], np.float32)) == pytest.approx(1.0)
    assert np.isnan(export._difference(small, np.array([np.nan, 0], np.float32)))
    assert export._difference(0 * small, 0 * small) == 0
    assert export._lengths(9) == [1, 2, 3, 7, 9]
    assert export._lengths(None)[-1] == export.LONGEST


@pytest.mark.thorough
def test_an_export_that_differs_or_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    made = checkpoints.load(exported)
    with pytest.raises(SettingError, match="is there already"):
        export_checkpoint(made, exported / FOLDER)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(
        ModelError, match=r"dl_dkd cannot be exported as ONNX \(no such operator\); search its indexes with torch"
    ):
        export_checkpoint(made, tmp_path / "onnx")
    assert os.listdir(tmp_path) == []


def test_a_method_that_ends_the_exporter_is_refused_before(tmp_path: Path) -> None:
    made = make("hlformer", open_method("hlformer").config())
    with pytest.raises(ModelError, match=r"hlformer cannot be exported as ONNX \(torch's exporter crashes\)"):
        export_checkpoint(made, tmp_path / "onnx")
    assert os.listdir(tmp_path) == []


def test_the_command(exported: Path, prvr: Prvr) -> None:
    says(prvr("checkpoint", "export", exported), "is there already", "onnx")
    says(prvr("checkpoint", "export", exported.parent / "none"), "no checkpoint in")


@pytest.mark.thorough
@pytest.mark.parametrize("method", sorted(set(BUILT_IN) - {"zero_shot", "beside_teacher"}))
def test_every_method(method: str, tmp_path: Path) -> None:
    if method == "gmmformer":
        pytest.skip("the type checks of tests refuse the symbolic lengths of the exporter in it; without them it is exported")
    made = make(method, open_method(method).config())
    if method in NOT_EXPORTED:
        with pytest.raises(ModelError, match=NOT_EXPORTED[method]):
            export_checkpoint(made, tmp_path / "onnx")
        return
    done = export_checkpoint(made, tmp_path / "onnx")
    assert max(done.queries, done.videos) <= TOLERANCE
