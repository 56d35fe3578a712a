"""HGR beside the numbers of its published code: inputs, nodes, frames, the three scores, losses, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peer_fixtures import Peer, close, exact, near, only
from torch import Tensor

from prvr.batch import Batch, pad, read_frames
from prvr.config import from_dict
from prvr.encoders.roles import LABEL_COLUMNS
from prvr.methods.contract import Embeddings
from prvr.methods.hgr import ROLES, Graph, Hgr, HgrConfig, objective

NAMES = [
    (r"video_encoder\.level_embeds\.0", "event"),
    (r"video_encoder\.level_embeds\.1", "actions"),
    (r"video_encoder\.level_embeds\.2", "entities"),
    (r"video_encoder\.ft_attn", "pooling.weight"),
    (r"text_encoder\.embedding\.we", "table"),
    (r"text_encoder\.rnn", "words.gru"),
    (r"text_encoder\.ft_attn", "word_pooling.weight"),
    (r"text_encoder\.role_embedding", "roles"),
    (r"text_encoder\.gcn\.", ""),
    (r"ctx_layer", "context"),
    (r"layernorm", "norm"),
    (r"edge_attn_", ""),
]


def make(peer: Peer, **changes: int) -> Hgr:
    sizes = only(peer.config, "hidden", "layers", "max_frames", "max_words", "margin", "sharpness")
    words = {"vocabulary": peer.config["word_vocabulary"], "word_vectors": peer.config["word_columns"]}
    still = {"dropout": 0.0, "word_dropout": 0.0, "frame_dropout": 0.0}
    config = from_dict(HgrConfig, {**sizes, **words, **still, **changes})
    model = Hgr(config, frame_columns=peer.config["visual_columns"], word_columns=1 + LABEL_COLUMNS)
    peer.load(model, NAMES)
    return model.eval()


def graphs(peer: Peer) -> tuple[Tensor, Tensor, Graph]:
    """Word ids, their mask, and graphs from graphs.json: of the first `max_words` words, and the first nodes that these hold."""
    config, described = peer.config, peer.json("graphs.json")
    rows = [np.array(one["word_ids"][: config["max_words"]], np.float64)[:, None] for one in described]
    words, mask = pad(rows)
    counts = {"v": config["most_verbs"], "n": config["most_nouns"]}
    members = {kind: torch.zeros(len(rows), most, words.shape[1], dtype=torch.bool) for kind, most in counts.items()}
    roles = torch.zeros(len(rows), sum(counts.values()), dtype=torch.long)
    heard = torch.zeros(len(rows), 1 + roles.shape[1], 1 + roles.shape[1], dtype=torch.bool)
    for place, one in enumerate(described):
        slots: dict[str, int] = {}
        for node, about in one["nodes"].items():
            number = sum(other[0] == node[0] for other in slots)
            held = [word for word in about["spans"] if word < len(rows[place])]
            if number == counts[node[0]] or not held:
                continue
            slots[node] = number
            members[node[0]][place, number, held] = True
            role = about["role"].removeprefix("C-").removeprefix("R-")
            slot = number + (counts["v"] if node[0] == "n" else 0)
            roles[place, slot] = ROLES.index(role) if role in ROLES else ROLES.index("NOUN")
            if node[0] == "v":
                heard[place, 1 + slot, 0] = True
        for verb, noun in one["edges"]:
            if verb in slots and noun in slots:
                first, second = 1 + slots[verb], 1 + counts["v"] + slots[noun]
                heard[place, first, second] = heard[place, second, first] = True
    return words, mask, Graph(members["v"], members["n"], roles, heard)


def embeddings(peer: Peer, model: Hgr, *, pairs: bool = False) -> tuple[Embeddings, Embeddings, Tensor]:
    rows = [read_frames(frames, exact(model)) for frames in peer.sequence("frames")]
    frames, mask = pad([rows[v] for v in peer.labels.tolist()] if pairs else rows)
    words, word_mask, graph = graphs(peer)
    return model.encode_graphs(words, word_mask, graph), model.encode_videos(frames, mask), mask


def test_frames_and_graphs_are_the_published_loaders() -> None:
    peer = Peer("hgr")
    model = make(peer)
    for rows, theirs in zip(peer.sequence("frames"), peer.batch["loader_frames"], strict=True):
        ours = read_frames(rows, exact(model))
        close(ours, theirs[: len(ours)])
        assert not theirs[len(ours) :].any()
    words, mask, graph = graphs(peer)
    longest = words.shape[1]
    assert mask.sum(1).tolist() == peer.batch["sent_lens"].tolist()
    assert (words[..., 0].numpy() == peer.batch["sent_ids"][:, :longest])[mask.numpy()].all()
    assert np.array_equal(graph.actions.numpy(), peer.batch["verb_masks"][..., :longest])
    assert np.array_equal(graph.entities.numpy(), peer.batch["noun_masks"][..., :longest])
    assert np.array_equal(graph.heard.numpy(), peer.batch["rel_edges"] != 0)
    there = torch.cat([graph.actions, graph.entities], 1).any(-1).numpy()
    assert np.array_equal(graph.roles.numpy()[there], peer.batch["node_roles"][there])
    assert tuple(peer.config["roles"]) == ROLES


@torch.no_grad()
def test_nodes_frames_and_scores() -> None:
    peer = Peer("hgr")
    model = make(peer)
    queries, videos, mask = embeddings(peer, model)
    event, actions, entities, real_actions, real_entities = queries
    close(event, peer("queries_event"))
    close(actions[real_actions], peer("queries_actions")[real_actions.numpy()])
    close(entities[real_entities], peer("queries_entities")[real_entities.numpy()])
    close(videos[2][:, 0], peer("videos_event"))
    longest = mask.shape[1]
    for field, name in ((videos[0], "videos_actions"), (videos[1], "videos_entities")):
        close(field[mask], peer(name)[:, :longest][mask.numpy()])
    for level, name in zip(model.level_scores(queries, videos, mask), ("event", "actions", "entities"), strict=True):
        close(level, peer(f"scores_{name}"))
    close(model.score(queries, videos, mask), peer("scores"))


@pytest.mark.parametrize("case", Peer("hgr").json("losses.json"))
def test_losses_and_gradients(case: str) -> None:
    peer = Peer("hgr")
    wanted = peer.json("losses.json")[case]
    model = make(peer, hardest=wanted["topk"] if wanted["hardest_only"] else 0).train()
    queries, videos, mask = embeddings(peer, model, pairs=True)
    target = torch.arange(len(mask))
    close(model.score(queries, videos, mask), peer("pair_scores"))
    given = Batch(torch.zeros(*mask.shape, 1), mask, torch.zeros(len(mask), 1, 1), torch.ones(len(mask), 1) > 0, target, ())
    ((_, loss),) = objective(model, queries, videos, given, 0).items()
    near(loss, wanted["total"])
    if "grads_file" in wanted:
        loss.backward()
        peer.check_gradients(model, wanted["grads_file"], NAMES)
