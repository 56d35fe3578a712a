"""Checkpoints of MS-SL, GMMFormer and what followed them, by the parameter names of their published code, become ours."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Prvr
from gmmformer_family import FOLDER, METHOD, Peer, check_close, every_peer, peer, read
from leaders import Leader, every_leader, leader
from torch import Tensor, nn

from prvr.errors import ModelError, SettingError
from prvr.methods import checkpoint as checkpoints
from prvr.papers import authors
from prvr.papers.authors import import_checkpoint, quarantine
from prvr.papers.authors.follow_up_names import our_names, read_follow_up_names

PLUS = {"ms-sl++": "ms-sl++/tvr"}


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a child process, which takes seconds to start; test_authors.py has files that mean harm."""
    monkeypatch.setattr(authors, "_convert", quarantine.convert)


def weights(name: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((key, torch.from_numpy(value).float()) for key, value in read(name, "params.npz").items())


def saved(path: Path, given: Peer, state: OrderedDict[str, Tensor] | None = None) -> Path:
    stored = {"n_heads": given.config["n_heads"], "map_size": given.config["map_size"], "drop": 0.25, "margin": 0.3}
    torch.save({"model": state or weights(given.name), "model_cfg": stored, "epoch": 12}, path)
    return path


@every_peer
def test_a_published_checkpoint_becomes_our_model(name: str, tmp_path: Path) -> None:
    given = peer(name)
    source = saved(tmp_path / "model.ckpt", given)
    done = import_checkpoint(source, tmp_path / "run", visual_feature="i3d", preset_name=PLUS.get(name, ""))
    made, theirs = done.checkpoint, given.config
    assert made.method == METHOD[name]
    assert (made.settings.hidden, made.settings.clips) == (theirs["hidden_size"], theirs["map_size"])
    assert (made.settings.max_frames, made.settings.max_words) == (theirs["max_ctx_l"], theirs["max_desc_l"])
    assert (made.settings.heads, made.settings.dropout, made.settings.margin) == (theirs["n_heads"], 0.25, 0.3)
    assert (made.sources.frames.columns, made.sources.text.columns) == (theirs["visual_input_size"], theirs["query_input_size"])
    assert done.left_out == tuple(key for key in sorted(weights(name)) if "manifold.k" in key)
    ours, wanted = state_of(made.model), state_of(given.model().float())
    assert ours.keys() == wanted.keys()
    assert all(torch.equal(ours[key], wanted[key]) for key in ours)
    assert made.about["epoch"] == 12


@every_leader
def test_a_published_checkpoint_of_a_leader_becomes_our_model(name: str, tmp_path: Path) -> None:
    given, state = leader(name), weights(name)
    sizes = given.config["sizes"]
    names = read_follow_up_names([f"module.{key}" for key in state])
    assert names is not None
    assert (names.method, names.unknown, names.left_out) == (name, (), ())
    stored = {"n_heads": sizes["heads"], "map_size": sizes["clips"], "drop": 0.25, "margin": 0.3}
    torch.save({"model": state, "model_cfg": stored, "epoch": 12}, tmp_path / "model.ckpt")
    made = import_checkpoint(tmp_path / "model.ckpt", tmp_path / "run", visual_feature="i3d").checkpoint
    assert made.method == name
    wanted = vars(given.settings(pool=1))
    for key in ("hidden", "heads", "clips", "max_frames", "max_words", "registers", "steps", "widths"):
        assert getattr(made.settings, key, None) == wanted.get(key), key
    assert (made.settings.dropout, made.settings.margin) == (0.25, 0.3)
    ours, theirs = state_of(made.model), state_of(given.model().float())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_published_checkpoint_of_msc_reads_words_of_another_name(prvr: Prvr, tmp_path: Path) -> None:
    sizes = json.loads((FOLDER / "msc" / "config.json").read_text())["sizes"]
    stored = {"n_heads": sizes["heads"], "map_size": sizes["clips"], "margin": 0.3}
    torch.save({"model": weights("msc"), "model_cfg": stored, "epoch": 12}, tmp_path / "model.ckpt")
    names = ("--visual-feature", "clip_l14", "--words", "clip_l14_words")
    answer = prvr("checkpoint", "import", tmp_path / "model.ckpt", tmp_path / "run", *names)
    assert answer.status == 0, answer.err
    made = checkpoints.load(tmp_path / "run")
    assert (made.method, made.settings.margin) == ("msc", 0.3)
    assert (made.sources.frames.name, made.sources.text.name) == ("clip_l14", "clip_l14_words")
    assert made.sources.text.columns == weights("msc")["query_input_proj.net.1.weight"].shape[1]


def test_a_leader_of_other_shapes_is_refused(tmp_path: Path) -> None:
    given: Leader = leader("dreamprvr")
    stored = {"n_heads": given.config["sizes"]["heads"], "map_size": 32}
    for key, value, words in (
        ("video_qformer.query_tokens", torch.zeros(2, 3, 10), "no matrix register_queries"),
        ("diffusion_mlp.short_cut.bias", torch.zeros(11), "of another shape: diffusion_mlp.short_cut.bias"),
    ):
        torch.save({"model": weights("dreamprvr") | {key: value}, "model_cfg": stored, "epoch": 1}, tmp_path / "model.ckpt")
        with pytest.raises(ModelError, match=words):
            import_checkpoint(tmp_path / "model.ckpt", tmp_path / "run", visual_feature="i3d")


def state_of(model: Any) -> dict[str, Tensor]:
    assert isinstance(model, nn.Module)
    return model.state_dict()


@torch.no_grad()
def test_an_imported_model_gives_the_published_scores(tmp_path: Path) -> None:
    given = peer("gmmformer")
    made = import_checkpoint(saved(tmp_path / "model.ckpt", given), tmp_path / "run", visual_feature="i3d").checkpoint
    batch = given.batch(made.model)
    queries = made.model.encode_queries(batch.words, batch.word_mask)
    videos = made.model.encode_videos(batch.frames, batch.frame_mask, None, batch.clips)  # type: ignore[call-arg]
    scores = made.model.score(queries, videos, batch.frame_mask)
    check_close(scores, given.expected("scores", by="qv").float(), tolerance=1e-5)


def test_through_the_command(prvr: Prvr, tmp_path: Path) -> None:
    source = saved(tmp_path / "model.ckpt", peer("gmmformer_v2"))
    answer = prvr("checkpoint", "import", source, tmp_path / "run", "--visual-feature", "i3d")
    assert answer.status == 0, answer.err
    assert "gmmformer_v2, clips + frames, " in answer.out
    assert checkpoints.load(tmp_path / "run").method == "gmmformer_v2"


@every_peer
def test_every_published_name_is_a_name_of_ours(name: str) -> None:
    names = read_follow_up_names(list(weights(name)))
    assert names is not None
    assert names.method == METHOD[name]
    assert names.unknown == ()
    assert len(set(names.ours.values())) == len(names.ours) == len(weights(name)) - len(names.left_out)
    wrapped = read_follow_up_names([f"module.{key}" for key in weights(name)])
    assert wrapped is not None
    assert list(wrapped.ours.values()) == list(names.ours.values())


def test_names_by_hand() -> None:
    names = [
        "clip_encoder.e_attns.0.self.key.bias",
        "clip_encoder.e_attns.1.norm1.weight",
        "clip_encoder.h_attns.2.self.scale_alpha",
    ]
    assert list(our_names("hlformer", names).values()) == [
        "clips.views.0.attention.key.bias",
        "clips.views.1.norm.weight",
        "clips.views.4.attention.log_scale",
    ]
    assert our_names("gmmformer", ["frame_encoder_2.attn3.output.LayerNorm.bias"]) == {
        "frame_encoder_2.attn3.output.LayerNorm.bias": "frames.blocks.1.blocks.3.norm.bias"
    }
    assert read_follow_up_names(["query_encoder.self.key.bias", "B_frame_pos_embed.LayerNorm.weight"]) is None


@pytest.mark.parametrize(
    ("dropped", "more", "words"),
    [
        ("clip_encoder.layer2.bias", {}, "missing: clips.consolidation.second.bias"),
        ("", {"clip_encoder.layer3.bias": torch.zeros(2)}, "unknown: clip_encoder.layer3.bias"),
        (
            "frame_pos_embed.position_embeddings.weight",
            {},
            "no gmmformer-v2 model: it has no matrix frames.positions.table.weight",
        ),
        ("", {"weight_token": torch.full((1, 1, 12), torch.nan)}, "weight_token"),
    ],
)
def test_weights_of_another_model(dropped: str, more: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    given, state = peer("gmmformer_v2"), weights("gmmformer_v2")
    state = OrderedDict({key: value for key, value in {**state, **more}.items() if key != dropped})
    with pytest.raises(ModelError) as problem:
        import_checkpoint(saved(tmp_path / "model.ckpt", given, state), tmp_path / "run", visual_feature="i3d")
    assert words in str(problem.value)
    assert not (tmp_path / "run").exists()


def test_a_preset_of_another_method(tmp_path: Path) -> None:
    source = saved(tmp_path / "model.ckpt", peer("gmmformer"))
    with pytest.raises(SettingError, match=r"preset 'hlformer/tvr' is of hlformer; take one of gmmformer, such as gmmformer/tvr"):
        import_checkpoint(source, tmp_path / "run", visual_feature="i3d", preset_name="hlformer/tvr")
