"""XML and ReLoCLNet beside the numbers of their published code: inputs, encodings, scores, losses, gradients.

First of pictures alone, then of pictures and subtitles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peer_fixtures import GRADIENTS, Peer, close, make_batch, near, only, our_name, pairs_of
from torch import Tensor

from prvr.batch import Batch
from prvr.config import from_dict
from prvr.methods import open_method
from prvr.methods.contract import Terms, embed
from prvr.methods.reloclnet import Reloclnet, ReloclnetConfig
from prvr.methods.xml import Xml, XmlConfig
from prvr.nn import losses, scores

BLOCKS = [
    (r"query_input_proj", "word_projection"),
    (r"video_input_proj", "frame_projection"),
    (r"query_pos_embed", "words.positions"),
    (r"ctx_pos_embed", "frames.positions"),
    (r"query_encoder1", "second_words"),
    (r"query_encoder", "words.attention"),
    (r"video_encoder1", "frames.attention"),
    (r"video_encoder2", "second_frames"),
    (r"video_encoder3", "extra_frames"),
    (r"modular_vector_mapping", "pooling.weight"),
    (r"position_embeddings", "table"),
    (r"\.net\.1", ".linear"),
    (r"\.self\.", "."),
    (r"output\.dense", "output"),
    (r"output\.LayerNorm", "norm"),
    (r"LayerNorm", "norm"),
]
# What finds spans reads the later blocks of XML, and nothing of it is scored.
OF_SPANS = r"video_encoder[23]|video_query_linear|_predictor"
TWO = {"xml": "xml_two_modalities", "reloclnet": "reloclnet_two_modalities"}
CASES = {
    name: [case for case, about in Peer(name).json("losses.json").items() if isinstance(about, dict)]
    for name in ("xml", "reloclnet", *TWO.values())
}
SPOKEN_BLOCKS = {
    "xml": [
        (r"modular_vector_mapping\.sub", "subtitle_pooling.weight.weight"),
        (r"modular_vector_mapping\.video", "pooling.weight.weight"),
        (r"sub_input_proj", "subtitles.projection"),
        (r"sub_encoder1", "subtitles.attention"),
        *BLOCKS,
    ],
    "reloclnet": [
        (r"modular_vector_mapping\.sub", "spoken.pooling.weight.weight"),
        (r"modular_vector_mapping\.video", "pooling.weight.weight"),
        (r"sub_input_proj", "spoken.first.projection"),
        (r"sub_encoder1", "spoken.first.attention"),
        (r"sub_encoder2", "spoken.second"),
        (r"sub_encoder3", "spoken.extra"),
        (r"video_cross_(att|layernorm)", r"spoken.heard_by_frames.\1"),
        (r"sub_cross_(att|layernorm)", r"spoken.hears_frames.\1"),
        (r"\.att\.", "."),
        (r"\.layernorm\.", ".norm."),
        *BLOCKS,
    ],
}
OF_SPOKEN_SPANS = {
    "xml": r"(video|sub)_(encoder2|cross_|query_linear)|_predictor",
    "reloclnet": r"(video|sub)_query_linear|_predictor",
}


class SpokenPeer(Peer):
    """A folder of two modalities: the rows of its modular vectors, pictures' and subtitles', under two names."""

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        arrays = super().arrays(name)
        both = arrays.pop("modular_vector_mapping.weight", None)
        rows = {} if both is None else {f"modular_vector_mapping.{m}": both[[n]] for n, m in enumerate(("video", "sub"))}
        return arrays | rows


def make(name: str, peer: Peer, **changes: Any) -> Any:
    spoken = isinstance(peer, SpokenPeer)
    blocks, without = (SPOKEN_BLOCKS[name], OF_SPOKEN_SPANS[name]) if spoken else (BLOCKS, OF_SPANS)
    sizes = only(peer.config, "hidden", "heads", "max_frames", "max_words", "margin")
    widths = {"frame_columns": peer.config["visual_columns"], "word_columns": peer.config["word_columns"]}
    if spoken:
        widths["subtitle_columns"] = peer.config["sub_columns"]
    still = {"dropout": 0.0, "input_dropout": 0.0, "hard_from_epoch": 1}
    if name == "xml":
        model: Any = Xml(from_dict(XmlConfig, {**sizes, **still, **changes, "sampling": "first"}), **widths)
        peer.load(model, blocks, but=without)
    else:
        sizes |= only(peer.config, "video_contrast_weight")
        model = Reloclnet(from_dict(ReloclnetConfig, {**sizes, **still, **changes}), **widths)
        peer.load(model, blocks, **({"but": without} if spoken else {}))
    return model.eval()


def batch_of(peer: Peer, model: Any) -> Batch:
    frames = peer.sequence("frames")
    if isinstance(peer, SpokenPeer):
        frames = [np.concatenate(both, axis=1) for both in zip(frames, peer.sequence("subtitles"), strict=True)]
    return make_batch(model, frames, peer.sequence("words"), peer.labels)


each = pytest.mark.parametrize("name", ["xml", "reloclnet"])


@each
@torch.no_grad()
def test_inputs_encodings_and_scores(name: str) -> None:
    peer = Peer(name)
    model = make(name, peer)
    given = batch_of(peer, model)
    for ours, mask, what in ((given.frames, given.frame_mask, "frame"), (given.words, given.word_mask, "word")):
        real = peer.batch[f"loader_{what}_mask"] > 0
        assert mask.sum(1).tolist() == real.sum(1).tolist()
        close(ours[mask], peer.batch[f"loader_{what}s"][real])
    real = peer.batch["loader_frame_mask"] > 0
    queries, videos, _ = embed(model, given)
    close(queries[0], peer("query_video"))
    close(videos[0][given.frame_mask], peer("frames_first" if name == "xml" else "frames_last")[real])
    if name == "reloclnet":
        _, middle = model.train().encode_videos(given.frames, given.frame_mask)
        close(middle[given.frame_mask], peer("frames_middle")[real])
        model.eval()
    close(model.score(queries, videos, given.frame_mask), peer("scores"))
    pairs = pairs_of(given)
    close(model.score(*embed(model, pairs)[:2], pairs.frame_mask), peer("pair_scores"))


def terms_of(name: str, peer: Peer, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Terms]:
    """The objective's terms on pairs, its random ranks those that were recorded: first of videos, then of captions."""
    recorded = iter((case["ranks_drawn_video_for_caption"], case["ranks_drawn_caption_for_video"]))
    most = min(case["pool"], len(peer.labels) - 1) if case["hard"] else len(peer.labels) - 1

    def draw(given: int | Tensor, rows: int, **options: Any) -> Tensor:
        assert rows == len(peer.labels)
        assert set(torch.as_tensor(given).flatten().tolist()) == {most}
        return torch.tensor(next(recorded)) - 1

    monkeypatch.setattr(losses, "draw_ranks", draw)
    form = {"ranking_loss": case["loss"]} if name == "xml" else {}
    model = make(name, peer, negative_pool=case["pool"], **form).train()
    pairs = pairs_of(batch_of(peer, model))
    objective: Any = open_method(name).objective
    terms: Terms = objective(model, *embed(model, pairs), 1 if case["hard"] else 0)
    assert list(recorded) == []
    return model, terms


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in ("xml", "reloclnet") for case in CASES[name]])
def test_losses_and_gradients(name: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(name)
    wanted = peer.json("losses.json")[case]
    model, terms = terms_of(name, peer, wanted, monkeypatch)
    near(terms["triplet"], wanted["loss_neg_ctx"] + wanted["loss_neg_q"])
    if name == "reloclnet":
        near(terms["video_contrast"], wanted["loss_vcl"])
    total = torch.stack(list(terms.values())).sum()
    near(total, wanted["loss_overall"])
    if "grads_file" in wanted:
        total.backward()
        peer.check_gradients(model, wanted["grads_file"], BLOCKS)


def test_the_video_contrast_of_reloclnet_alone() -> None:
    peer = Peer("reloclnet")
    dots = torch.from_numpy(peer("free_dots")).requires_grad_()
    loss = losses.pair_contrast(dots, torch.arange(len(dots)))
    near(loss, peer.json("losses.json")["free_video_contrast"])
    loss.backward()
    close(dots.grad, peer("free_dots_grad"))
    model = make("reloclnet", peer).train()
    pairs = pairs_of(batch_of(peer, model))
    queries, videos, _ = embed(model, pairs)
    close(scores.compare(queries[0], videos[1], pairs.frame_mask, pairs.target).dots, peer("pair_dots_middle"))


@each
@torch.no_grad()
def test_two_modalities(name: str) -> None:
    """Inputs, encodings and scores."""
    peer = SpokenPeer(TWO[name])
    model = make(name, peer)
    given = batch_of(peer, model)
    real, columns = peer.batch["loader_frame_mask"] > 0, peer.config["visual_columns"]
    assert given.frame_mask.sum(1).tolist() == real.sum(1).tolist()
    close(given.frames[given.frame_mask][:, :columns], peer.batch["loader_frames"][real])
    close(given.frames[given.frame_mask][:, columns:], peer.batch["loader_subtitles"][real])
    queries, videos, _ = embed(model, given)
    last = "first" if name == "xml" else "last"
    for side, (query, video) in enumerate(zip(queries, videos, strict=True)):
        close(query, peer(("query_video", "query_sub")[side]))
        close(video[given.frame_mask], peer(("frames_", "subtitles_")[side] + last)[real])
    if name == "reloclnet":
        _, _, *middles = model.train().encode_videos(given.frames, given.frame_mask)
        for side, middle in zip(("frames", "subtitles"), middles, strict=True):
            close(middle[given.frame_mask], peer(f"{side}_middle")[real])
        model.eval()
    close(model.score(queries, videos, given.frame_mask), peer("scores"))
    pairs = pairs_of(given)
    close(model.score(*embed(model, pairs)[:2], pairs.frame_mask), peer("pair_scores"))


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, folder in TWO.items() for case in CASES[folder]])
def test_losses_of_two_modalities(name: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = SpokenPeer(TWO[name])
    wanted = peer.json("losses.json")[case]
    _, terms = terms_of(name, peer, wanted, monkeypatch)
    near(terms["triplet"], wanted["loss_neg_ctx"] + wanted["loss_neg_q"])
    # What is left of the published total are the losses of spans, and FrameCL.
    left = wanted["loss_overall"] - wanted["loss_st_ed"]
    if name == "reloclnet":
        near(terms["video_contrast"], wanted["loss_vcl"])
        left -= wanted["loss_fcl"]
    near(torch.stack(list(terms.values())).sum(), left)


@each
def test_gradients_of_two_modalities(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cases differ in their negatives alone: the difference of their gradients is that of the ranking, without spans."""
    peer, ours, theirs = SpokenPeer(TWO[name]), [], []
    for case in ("hardest", "random_before_hard_epoch"):
        wanted = peer.json("losses.json")[case]
        model, terms = terms_of(name, peer, wanted, monkeypatch)
        terms["triplet"].backward()
        ours.append({key: parameter.grad.numpy() for key, parameter in model.named_parameters()})
        theirs.append({our_name(key, SPOKEN_BLOCKS[name]): value for key, value in peer.arrays(wanted["grads_file"]).items()})
    differences = {key: value - theirs[1][key] for key, value in theirs[0].items()}
    largest = max(float(np.abs(value).max()) for value in differences.values())
    assert largest > 0
    assert ours[0].keys() <= differences.keys()
    for key, value in differences.items():
        found = ours[0][key] - ours[1][key] if key in ours[0] else np.zeros(value.shape)  # what finds spans is not ours
        assert np.abs(found.reshape(value.shape) - value).max() <= GRADIENTS * largest, key


def test_the_video_contrast_of_two_modalities() -> None:
    peer = SpokenPeer(TWO["reloclnet"])
    model = make("reloclnet", peer).train()
    pairs = pairs_of(batch_of(peer, model))
    queries, videos, _ = embed(model, pairs)
    dots = [scores.compare(q, v, pairs.frame_mask, pairs.target).dots for q, v in zip(queries, videos[2:], strict=True)]
    close(torch.stack(dots).mean(0), peer("pair_dots_middle"))
