"""Collaborative experts and the mixture of embedding experts beside the numbers of their published code, TeachText among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peer_fixtures import Peer, close, make_batch, near
from torch import Tensor

from prvr.batch import Batch, frames_of
from prvr.config import from_dict
from prvr.features.joined import JoinedFeatures
from prvr.methods import open_method
from prvr.methods.contract import embed
from prvr.methods.distiller import Distiller
from prvr.nn.experts import ExpertModel, max_margin
from prvr.train.presets import preset

COMMON = [(r"\bclusters2\b", "centres"), (r"batch_norm2", "own_norm"), (r"batch_norm", "norm"), (r"\.cg\.fc", ".gate")]
TEXTS = [
    (r"text_pooling", "texts.pooling"),
    (r"ce\.moe_fc", "texts.mixture"),
    (r"ce\.text_GU", "texts.units"),
    (r"(units\.\d+)\.fc", r"\1.linear"),
    (r"\.cg\.norm", ".norm"),
]
NAMES = {
    "embedding_experts": [*COMMON, (r"ce\.video_GU", "videos.units"), *TEXTS],
    "collaborative_experts": [
        *COMMON,
        (r"ce\.video_dim_reduce\.(\d+)\.fc", r"videos.reductions.\1"),
        (r"ce\.g_reason_1", "videos.first"),
        (r"ce\.g_reason_shared\.0", "videos.first_norm"),
        (r"ce\.g_reason_shared\.2", "videos.second"),
        (r"ce\.g_reason_shared\.3", "videos.second_norm"),
        (r"ce\.g_reason_shared\.5", "videos.third"),
        (r"ce\.video_GU\.(\d+)\.gate", r"videos.gates.\1.linear"),
        (r"ce\.video_GU\.(\d+)\.cg", r"videos.gates.\1"),
        *TEXTS,
    ],
}
FOLDERS = {"embedding_experts": "collaborative_experts_moee", "collaborative_experts": "collaborative_experts"}
each = pytest.mark.parametrize("name", FOLDERS)


def names_of(peer: Peer, name: str) -> list[tuple[str, str]]:
    order = peer.config["expert_order"]
    return [(rf"^pooling\.{expert}\.", f"experts.poolings.{place}.") for place, expert in enumerate(order)] + NAMES[name]


def make(peer: Peer, name: str) -> Any:
    config, order = peer.config, peer.config["expert_order"]
    sequences = [expert in config["vlad_clusters"] for expert in order]
    settings = {
        "experts": [config["experts"][expert] for expert in order],
        "expert_clusters": [config["vlad_clusters"][e] if s else 0 for e, s in zip(order, sequences, strict=True)],
        "expert_tokens": [config["max_tokens"][e] if s else 0 for e, s in zip(order, sequences, strict=True)],
        "clusters": config["vlad_clusters"]["text"],
        "ghost_clusters": config["text_ghost"],
        "max_words": config["max_tokens"]["text"],
        "margin": config["margin"],
    }
    if name == "collaborative_experts":
        settings["hidden"] = config["shared_dim"]
    widths = {"frame_columns": sum(settings["experts"]), "word_columns": config["text_dim"]}
    method = open_method(name)
    model = method.model(from_dict(method.config, settings), **widths)
    peer.load(model, names_of(peer, name))
    return model.eval()


def joined(peer: Peer) -> JoinedFeatures:
    """The experts' rows side by side; an expert without rows of a video is not there."""
    parts = []
    for expert in peer.config["expert_order"]:
        rows = peer.sequence(f"frames/{expert}")
        parts.append(({str(v): r for v, r in enumerate(rows) if len(r)}, peer.config["experts"][expert]))
    return JoinedFeatures(parts)


def batch_of(peer: Peer, model: ExpertModel, words: list[np.ndarray], target: list[int]) -> Batch:
    features = frames_of(joined(peer), model.reading)
    empty = np.zeros((1, model.reading.frame_columns))
    rows = [features.get(str(v), empty) for v in range(len(peer.config["words"]))]
    return make_batch(model, rows, words, torch.tensor(target))


def every_caption(peer: Peer) -> tuple[list[np.ndarray], list[int], list[int]]:
    """The captions, the video of each, and its row in the published matrices."""
    counts = [len(of_video) for of_video in peer.config["words"]]
    places = [(v, c) for v, count in enumerate(counts) for c in range(count)]
    return [peer.batch[f"words/{v}/{c}"] for v, c in places], [v for v, _ in places], [v * max(counts) + c for v, c in places]


def picked(peer: Peer) -> tuple[list[np.ndarray], list[int]]:
    chosen = peer.config["picked_captions"]
    return [peer.batch[f"words/{v}/{c}"] for v, c in enumerate(chosen)], list(range(len(chosen)))


@each
@torch.no_grad()
def test_inputs_embeddings_and_scores(name: str) -> None:
    peer = Peer(FOLDERS[name])
    model = make(peer, name)
    words, target, rows = every_caption(peer)
    given = batch_of(peer, model, words, target)
    check_inputs(peer, model, given)
    (queries,), (videos,), _ = embed(model, given)
    close(queries.norm(dim=-1), peer("mixture_weights")[rows])
    there = model.experts(given.frames, given.frame_mask)[1]
    for place, expert in enumerate(peer.config["expert_order"]):
        ours, real = queries[:, place], there[:, place].numpy()
        width = peer(f"text_{expert}").shape[1]
        close((ours / ours.norm(dim=-1, keepdim=True))[:, :width], peer(f"text_{expert}")[rows])
        assert not ours[:, width:].any()
        close(videos[real, place, :width], peer(f"video_{expert}")[real])
    close(model.score((queries,), (videos,), given.frame_mask), peer("scores")[rows])


def check_inputs(peer: Peer, model: ExpertModel, given: Batch) -> None:
    vectors, there = model.experts(given.frames, given.frame_mask)
    blocks = given.frames.split(model.experts.columns, dim=-1)
    for place, expert in enumerate(peer.config["expert_order"]):
        has = peer.batch[f"ind_{expert}"] > 0
        assert np.array_equal(there[:, place].numpy(), has)
        theirs = peer.batch[f"loader_{expert}"]
        if theirs.ndim == 2:
            close(vectors[place][has], theirs[has])
        else:
            tokens = blocks[place][:, : theirs.shape[1]].numpy()
            close(tokens[has], theirs[has][:, : tokens.shape[1]])


def teachers_of(peer: Peer) -> list[Tensor]:
    """The score matrices of the teachers, from the vectors of their experts."""
    found = []
    for place, experts in enumerate(peer.config["teachers"]):
        pairs = [[torch.from_numpy(peer.batch[f"teacher{place}_{side}_{e}"]) for side in ("text", "video")] for e in experts]
        found.append(torch.stack([text[:, 0] @ video.T for text, video in pairs]).sum(0))
        close(found[-1], peer(f"teacher{place}_scores"))
    close(torch.stack(found).mean(0), peer("teacher_mean"))
    return found


@each
@pytest.mark.parametrize("case", ["plain", "with_teachers"])
def test_losses_gradients_and_running_figures(name: str, case: str) -> None:
    peer = Peer(FOLDERS[name])
    model, wanted = make(peer, name), peer.json("losses.json")[case]
    given = batch_of(peer, model, *picked(peer))
    taught = case == "with_teachers"
    teachtext, kept = preset("teachtext/toy").distillation, len(peer.config["teachers"])
    distiller = Distiller(teachtext, method=name, student=model.float(), kept=kept) if taught else None
    model.double().train()
    queries, videos, _ = embed(model, given)
    close(model.score(queries, videos, given.frame_mask), peer("train_scores"))
    if distiller is None:
        objective: Any = open_method(name).objective
        terms = objective(model, queries, videos, given, 0)
    else:
        terms = distiller.objective(model, queries, videos, given, 7, teachers_of(peer))
        near(terms["distillation"], wanted["distillation"])
    near(terms["ranking"], wanted["ranking"])
    total = torch.stack(list(terms.values())).sum()
    near(total, wanted["total"])
    total.backward()
    peer.check_gradients(model, wanted["grads_file"], names_of(peer, name))
    peer.check_running(model, names_of(peer, name))


@each
def test_the_ranking_loss_alone(name: str) -> None:
    peer = Peer(FOLDERS[name])
    wanted = peer.json("losses.json")["free_matrix"]
    matrix = torch.from_numpy(peer("free_matrix")).requires_grad_()
    loss = max_margin(matrix, torch.arange(len(matrix)), margin=wanted["margin"])
    near(loss, wanted["ranking"])
    loss.backward()
    close(matrix.grad, peer("free_matrix_grad"))
