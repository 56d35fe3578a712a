"""XML and ReLoCLNet beside the numbers of their published code: inputs, encodings, scores, losses, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peer_fixtures import Peer, close, make_batch, near, only, pairs_of
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
CASES = {
    name: [case for case, about in Peer(name).json("losses.json").items() if isinstance(about, dict)]
    for name in ("xml", "reloclnet")
}


def make(name: str, peer: Peer, **changes: Any) -> Any:
    sizes = only(peer.config, "hidden", "heads", "max_frames", "max_words", "margin")
    widths = {"frame_columns": peer.config["visual_columns"], "word_columns": peer.config["word_columns"]}
    still = {"dropout": 0.0, "input_dropout": 0.0, "hard_from_epoch": 1}
    if name == "xml":
        model: Any = Xml(from_dict(XmlConfig, {**sizes, **still, **changes, "sampling": "first"}), **widths)
        peer.load(model, BLOCKS, but=OF_SPANS)
    else:
        sizes |= only(peer.config, "video_contrast_weight")
        model = Reloclnet(from_dict(ReloclnetConfig, {**sizes, **still, **changes}), **widths)
        peer.load(model, BLOCKS)
    return model.eval()


def batch_of(peer: Peer, model: Any) -> Batch:
    return make_batch(model, peer.sequence("frames"), peer.sequence("words"), peer.labels)


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


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
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
