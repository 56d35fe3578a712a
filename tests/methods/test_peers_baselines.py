"""The Dual Encoding family beside the numbers of its published code: inputs, levels, scores, losses, gradients, statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peer_fixtures import Peer, close, make_batch, near, only, pairs_of
from torch import Tensor, nn

from prvr.batch import Batch
from prvr.config import from_dict
from prvr.methods import dual_encoding
from prvr.methods.contract import Embeddings, embed
from prvr.methods.dual_encoding import DualEncoding, DualEncodingConfig
from prvr.methods.dual_encoding_hybrid import DualEncodingHybrid, DualEncodingHybridConfig
from prvr.methods.rivrl import BRANCHES, Rivrl, RivrlConfig
from prvr.nn import losses
from prvr.nn.hybrid import InSpace, hybrid_scores, hybrid_terms, published_fusion
from prvr.nn.levels import count_words, mean_row, word_ids

LEVELS = [
    (r"text_encoding\.embed\b", "words.table"),
    (r"text_encoding\.rnn", "words.encoder.gru.gru"),
    (r"text_encoding\.convs1", "words.encoder.convolutions"),
    (r"mapping\.fc1", "linear"),
    (r"mapping\.bn_1", "norm"),
]
FRAME_LEVELS = [
    *LEVELS,
    (r"vid_encoding\.rnn", "frames.encoder.gru.gru"),
    (r"vid_encoding\.convs1", "frames.encoder.convolutions"),
]
NAMES = {
    "dual_encoding": [*FRAME_LEVELS, (r"vid_encoding\.visual_", "frame_mapping."), (r"text_encoding\.text_", "word_mapping.")],
    "dual_encoding_hybrid": [
        *FRAME_LEVELS,
        (r"tag_fc_batch_norm", "concepts.norm"),
        (r"tag_fc", "concepts.linear"),
        (r"mapping\.(linear|norm)", r"mapping.latent.\1"),
        (r"vid_mapping", "frame_space"),
        (r"text_mapping", "word_space"),
    ],
    "rivrl": [
        *LEVELS,
        (r"vid_encoding\.rnn", "preview.gru.gru"),
        (r"vid_encoding\.fc_org", "intensive.frames"),
        (r"vid_encoding\.convs1", "intensive.segments"),
        (r"qkv\.linear_q", "qkv.query"),
        (r"qkv\.linear_k", "qkv.key"),
        (r"qkv\.linear_v", "qkv.value"),
        (r"qkv\.fc_v", "qkv.attended"),
        (r"qkv\.layer_norm", "qkv.norm"),
        (r"ffn\.w_1", "qkv.feed_forward.0"),
        (r"ffn\.w_2", "qkv.feed_forward.2"),
        (r"ffn\.layer_norm", "qkv.last_norm"),
        (r"vid_encoding\.paa\.qkv", "intensive"),
        (r"tag_fc_batch_norm", "concepts.norm"),
        (r"tag_fc", "concepts.linear"),
        (r"(preview|intensive)\.(mapping\.)?(linear|norm)\b", r"\1.\3"),
        (r"vid_encoding\.vid_mapping_preview", "frame_spaces.0"),
        (r"vid_encoding\.vid_mapping_intensive", "frame_spaces.1"),
        (r"text_encoding\.text_mapping_preview", "word_spaces.0"),
        (r"text_encoding\.text_mapping_intensive", "word_spaces.1"),
        (r"spaces\.(\d)\.(linear|norm)", r"spaces.\1.latent.\2"),
    ],
}
SPACES = ("latent", "concepts")
both_paddings = pytest.mark.parametrize("reads_padding", [True, False])


def settings_of(peer: Peer, **more: Any) -> dict[str, Any]:
    config = peer.config
    if "concept_margin" in config:
        more["concept_margin"] = config["concept_margin"]
    return {
        **only(config, "frame_gru", "word_gru", "word_kernels", "filters", "margin"),
        "sequence_frames": config["most_frames"],
        "vocabulary": config["word_vocabulary"],
        "word_vectors": config["word_columns"],
        "bag_words": config["bag_vocabulary"],
        "dropout": 0.0,
        **more,
    }


def loaded(peer: Peer, name: str, model: Any) -> Any:
    peer.load(model, NAMES[name])
    return model.eval()


def make_dual_encoding(peer: Peer, *, reads_padding: bool) -> DualEncoding:
    more = only(peer.config, "hidden", "frame_kernels")
    config = from_dict(DualEncodingConfig, settings_of(peer, reads_padding=reads_padding, **more))
    model: DualEncoding = loaded(
        peer, "dual_encoding", DualEncoding(config, frame_columns=peer.config["visual_columns"], word_columns=1)
    )
    return model


def make_hybrid(peer: Peer, *, reads_padding: bool) -> DualEncodingHybrid:
    more = only(peer.config, "latent", "concepts", "latent_weight", "frame_kernels")
    config = from_dict(DualEncodingHybridConfig, settings_of(peer, reads_padding=reads_padding, **more))
    made = DualEncodingHybrid(config, frame_columns=peer.config["visual_columns"], word_columns=1)
    model: DualEncodingHybrid = loaded(peer, "dual_encoding_hybrid", made)
    return model


def make_rivrl(peer: Peer, *, reads_padding: bool) -> Rivrl:
    names = ("latent", "concepts", "latent_weight", "attention", "segment_widths", "segment_strides")
    sizes = {"segment_filters": peer.config["width"], "sentence_columns": peer.config["bert_columns"]}
    more = only(peer.config, *names) | sizes | {"feed_forward_dropout": 0.0}
    config = from_dict(RivrlConfig, settings_of(peer, reads_padding=reads_padding, **more))
    made = Rivrl(config, frame_columns=peer.config["visual_columns"], word_columns=1 + config.sentence_columns)
    model: Rivrl = loaded(peer, "rivrl", made)
    return model


def batch_of(peer: Peer, model: Any) -> Batch:
    """Videos and captions as our loader gives them; a sentence's own vector stands beside each of its words."""
    words = [ids[:, None].astype(np.float64) for ids in peer.sequence("word_ids")]
    if "bert" in peer.batch:
        whole = peer.batch["bert"]
        words = [np.concatenate([rows, whole[[place]].repeat(len(rows), 0)], 1) for place, rows in enumerate(words)]
    return make_batch(model, peer.sequence("frames"), words, peer.labels)


MAKE = {"dual_encoding": make_dual_encoding, "dual_encoding_hybrid": make_hybrid, "rivrl": make_rivrl}


@pytest.mark.parametrize("name", MAKE)
def test_what_our_loader_gives_is_what_the_published_one_gives(name: str) -> None:
    peer = Peer(name)
    model = MAKE[name](peer, reads_padding=True)
    given = batch_of(peer, model)
    first = peer.config["most_frames"]
    real = peer.batch["loader_frame_mask"] > 0
    assert given.frame_mask[:, :first].sum(1).tolist() == real.sum(1).tolist()
    close(given.frames[:, :first][given.frame_mask[:, :first]], peer.batch["loader_frames"][real])
    if "loader_frame_mean" in peer.batch:
        close(mean_row(given.frames, given.frame_mask), peer.batch["loader_frame_mean"])
    ids = word_ids(given.words[..., :1], given.word_mask, peer.config["word_vocabulary"])
    close(ids[given.word_mask], peer.batch["loader_word_ids"][peer.batch["loader_word_mask"] > 0])
    close(count_words(ids, given.word_mask, peer.config["bag_vocabulary"]).double(), peer.batch["bags"])


@both_paddings
@torch.no_grad()
def test_dual_encoding_scores(reads_padding: bool) -> None:
    peer = Peer("dual_encoding")
    model, end = make_dual_encoding(peer, reads_padding=reads_padding), "" if reads_padding else "_each_alone"
    given = batch_of(peer, model)
    close(model.frames(given.frames, given.frame_mask), peer(f"video_levels{end}"))
    close(model.words(given.words, given.word_mask), peer(f"text_levels{end}"))
    (queries,), (videos,), _ = embed(model, given)
    close(queries, peer(f"queries{end}"))
    close(videos[:, 0], peer(f"videos{end}"))
    close(model.score((queries,), (videos,), given.frame_mask), peer(f"scores{end}"))


def test_dual_encoding_learns() -> None:
    peer = Peer("dual_encoding")
    model, wanted = make_dual_encoding(peer, reads_padding=True).train(), peer.json("losses.json")
    given = pairs_of(batch_of(peer, model))
    queries, videos, _ = embed(model, given)
    order, count = wanted["pair_order"], len(given.target)
    scores = model.score(queries, videos, given.frame_mask)
    close(scores[order][:, order], peer("train_pair_scores"))
    ((_, loss),) = dual_encoding.objective(model, queries, videos, given, 0).items()
    near(loss, wanted["hardest_mean"]["loss"])
    near(count * loss, wanted["hardest_sum"]["loss"])
    every = losses.hardest_triplet(scores, given.target, margin=peer.config["margin"], hardest=None)
    near(count * (count - 1) * every, wanted["all_sum"]["loss"])
    loss.backward()
    check_step(peer, model, "dual_encoding", wanted["hardest_sum"]["grads_file"], wanted["hardest_sum"]["gradient_norm"], count)


def check_step(peer: Peer, model: nn.Module, name: str, gradients: str, norm: float, count: int) -> None:
    """Gradients, their norm and the running figures; the published total is `count` times ours."""
    peer.check_gradients(model, gradients, NAMES[name], times=count)
    peer.check_running(model, NAMES[name])
    near(count * nn.utils.clip_grad_norm_(model.parameters(), 2.0), norm)


def branches_of(queries: Embeddings, videos: Embeddings) -> list[tuple[InSpace, InSpace]]:
    return [((queries[k], queries[k + 1]), (videos[k], videos[k + 1])) for k in range(0, len(videos), 2)]


@both_paddings
@pytest.mark.parametrize("name", ["dual_encoding_hybrid", "rivrl"])
@torch.no_grad()
def test_hybrid_scores(name: str, reads_padding: bool) -> None:
    peer = Peer(name)
    model, end = MAKE[name](peer, reads_padding=reads_padding), "" if reads_padding else "_each_alone"
    given = batch_of(peer, model)
    queries, videos, _ = embed(model, given)
    fused = torch.zeros(len(queries[0]), len(videos[0]), dtype=torch.float64)
    prefixes = ("",) if name == "dual_encoding_hybrid" else tuple(f"{branch}_" for branch in BRANCHES)
    for prefix, (query, video) in zip(prefixes, branches_of(queries, videos), strict=True):
        matrices = hybrid_scores(query, video)
        fused += published_fusion(*matrices, latent_weight=peer.config["latent_weight"])
        for space, of_queries, of_videos, scores in zip(SPACES, query, video, matrices, strict=True):
            close(of_queries, peer(f"queries_{prefix}{space}{end}"))
            check_videos(of_videos[:, 0], peer(f"videos_{prefix}{space}{end}"))
            if reads_padding:
                close(scores, peer(f"scores_{prefix}{space}"))
    if f"scores{end}" in peer:
        close(fused, peer(f"scores{end}"))


def check_videos(ours: Tensor, theirs: np.ndarray) -> None:
    """The released code of RIVRL fails for a video that is shorter than its convolution and alone: its row is not a number."""
    assert ours.isfinite().all()
    there = np.isfinite(theirs).all(1)
    assert there.any()
    close(ours[torch.from_numpy(there)], theirs[there])


@torch.no_grad()
def test_dual_encoding_hybrid_levels() -> None:
    peer = Peer("dual_encoding_hybrid")
    model = make_hybrid(peer, reads_padding=True)
    given = batch_of(peer, model)
    close(model.frames(given.frames, given.frame_mask), peer("video_levels"))
    close(model.words(given.words, given.word_mask), peer("text_levels"))


@torch.no_grad()
def test_rivrl_levels() -> None:
    peer = Peer("rivrl")
    model, first = make_rivrl(peer, reads_padding=True), peer.config["most_frames"]
    given = batch_of(peer, model)
    frames, mask = given.frames[:, :first], given.frame_mask[:, :first]
    close(model.intensive(frames, mask, model.preview(frames, mask)), peer("videos_intensive_levels"))


def test_dual_encoding_hybrid_learns() -> None:
    peer = Peer("dual_encoding_hybrid")
    model, wanted = make_hybrid(peer, reads_padding=True).train(), peer.json("losses.json")
    given = pairs_of(batch_of(peer, model))
    queries, videos, _ = embed(model, given)
    ((query, video),) = branches_of(queries[:2], videos)
    order, count = wanted["pair_order"], wanted["batch_size"]
    for name, matrix in zip(SPACES, hybrid_scores(query, video), strict=True):
        close(matrix[order][:, order], peer(f"train_pair_{name}"))
    shown = torch.from_numpy(peer.batch["concepts"])[peer.labels]
    terms = hybrid_terms(query, video, shown, given.target, margins=model.config.margins)
    near(count * terms["latent_triplet"], wanted["latent_triplet_sum"])
    near(count * terms["concept_triplet"], wanted["concept_triplet_sum"])
    near(terms["video_concepts"], wanted["concepts_videos_mean"])
    near(terms["query_concepts"], wanted["concepts_captions_mean"])
    total = torch.stack(list(terms.values())).sum()
    near(count * total, wanted["total"])
    total.backward()
    check_step(peer, model, "dual_encoding_hybrid", wanted["grads_file"], wanted["gradient_norm"], count)


def test_rivrl_learns() -> None:
    peer = Peer("rivrl")
    model, wanted = make_rivrl(peer, reads_padding=True).train(), peer.json("losses.json")
    given = pairs_of(batch_of(peer, model))
    queries, videos, _ = embed(model, given)
    shown, count = torch.from_numpy(peer.batch["concepts"])[peer.labels], wanted["batch_size"]
    total = torch.zeros((), dtype=torch.float64)
    for name, (query, video) in zip(BRANCHES, branches_of(queries, videos), strict=True):
        terms = hybrid_terms(query, video, shown, given.target, margins=model.config.margins)
        near(count * terms["latent_triplet"], wanted[f"{name}_latent"])
        near(count * terms["concept_triplet"], wanted[f"{name}_concepts"])
        near(terms["video_concepts"], wanted[f"bce_video_{name}"])
        near(terms["query_concepts"], wanted[f"bce_text_{name}"])
        total = total + torch.stack(list(terms.values())).sum()
    near(count * total, wanted["total"])
    total.backward()
    check_step(peer, model, "rivrl", wanted["grads_file"], wanted["gradient_norm"], count)
