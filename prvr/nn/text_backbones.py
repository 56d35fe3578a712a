"""Text backbones between the words of a sentence and the student (DL-DKD, supplementary, Table 4).

RoBERTa's features need no backbone. `BiGru` reads word vectors (`prvr.encoders.vectors`); `RoleGraph` reads word vectors with the
label columns of `prvr.encoders.roles`. Both are trained with the student.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from prvr.encoders.roles import ACTIONS, ENTITIES, LABEL_COLUMNS, ROLES
from prvr.errors import DataError, SettingError
from prvr.nn.layers import AttentivePooling
from prvr.nn.shapes import WordMask, Words

NODES = 1 + ACTIONS + ENTITIES


@runtime_checkable
class TextBackbone(Protocol):
    """Turns the words of queries into the sequence that the student reads. Every implementation is also an `nn.Module`.

    columns: the width of its output.
    label_columns: the number of last word columns that are labels.
    """

    columns: int
    label_columns: int

    def __call__(self, words: Words, mask: WordMask) -> tuple[Float[Tensor, "Q N D"], Bool[Tensor, "Q N"]]: ...


class BiGru(nn.Module):
    """A bidirectional GRU over words; returns a row per word with both directions joined: 2 * hidden columns.

    Args:
        packed: the backward direction starts at the last word. Otherwise it starts in the padding, with zeros there, so that
            the output depends on the longest sequence of the batch (as in the released code of Dual Encoding, over frames).
    """

    def __init__(self, word_columns: int, hidden: int = 512, *, packed: bool = True) -> None:
        super().__init__()
        self.columns, self.label_columns, self.packed = 2 * hidden, 0, packed
        self.gru = nn.GRU(word_columns, hidden, batch_first=True, bidirectional=True)

    def forward(self, words: Words, mask: WordMask) -> tuple[Float[Tensor, "Q W D"], WordMask]:
        if not self.packed:
            return self.gru(words.masked_fill(~mask[..., None], 0))[0], mask
        packed = pack_padded_sequence(words, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])
        return states, mask


class RoleGraph(nn.Module):
    """The text side of HGR: attention over the graph of a sentence's event, actions and entities.

    Words h_w = BiGru(words). The event is their attentive pooling, an action or entity the maximum over its words. Then, with r
    the learned vector of a node's role (the mean, if an entity has several),

        g = node * r        g <- g + W_t sum_j softmax_j(<W_q g_i, W_k g_j> / sqrt(hidden)) g_j      `layers` times

    where j runs over the node itself and its neighbours. The event is a neighbour of all actions, an action of its entities, and
    the event of entities without an action. Row 0 is the event, followed by `ACTIONS` actions and `ENTITIES` entities; a
    mask hides those that the sentence does not have.

    Args:
        word_columns: including the label columns.
        hidden: the columns of a node, and of both directions of the GRU together.
    """

    def __init__(self, word_columns: int, hidden: int = 1024, *, layers: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        if word_columns <= LABEL_COLUMNS or hidden % 2:
            raise SettingError(
                f"{word_columns} word columns and {hidden} hidden: the graph needs more than {LABEL_COLUMNS} word columns "
                "(vectors with roles) and an even hidden size"
            )
        self.columns, self.label_columns = hidden, LABEL_COLUMNS
        self.words = BiGru(word_columns - LABEL_COLUMNS, hidden // 2)
        self.pooling = AttentivePooling(hidden)
        # Rows: event, action, and an entity in each of its roles. They are factors and start at 1; an Embedding would be
        # initialised near 0 by `layers.initialise`.
        self.roles = nn.Parameter(torch.ones(2 + len(ROLES), hidden))
        self.layers = nn.ModuleList(GraphAttention(hidden, dropout) for _ in range(layers))

    def forward(self, words: Words, mask: WordMask) -> tuple[Float[Tensor, "Q N D"], Bool[Tensor, "Q N"]]:
        states, _ = self.words(words[..., :-LABEL_COLUMNS], mask)
        labels = read_labels(words, mask)
        slots = torch.where(labels[..., 1] > 0, ACTIONS + labels[..., 1], labels[..., 0])
        nodes = largest_of_slots(states, slots)
        nodes = torch.cat([self.pooling(states, mask)[:, None], nodes[:, 1:]], dim=1)
        real = (one_hot(slots, NODES) * mask[..., None]).sum(1) > 0
        real[:, 0] = True
        edges, roles = graph(largest_of_slots(labels[..., 2:], slots)[:, 1 + ACTIONS :], real)
        nodes = nodes * (roles.to(nodes.dtype) @ self.roles)
        for layer in self.layers:
            nodes = layer(nodes, edges)
        return nodes * real[..., None], real


class GraphAttention(nn.Module):
    """g_i + W_t sum_j softmax_j(<W_q g_i, W_k g_j> / sqrt(hidden)) g_j over the nodes j that i has an edge to."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.context = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Float[Tensor, "Q N D"], edges: Bool[Tensor, "Q N N"]) -> Float[Tensor, "Q N D"]:
        logits = self.query(nodes) @ self.key(nodes).mT / math.sqrt(nodes.shape[-1])
        share = logits.masked_fill(~edges, -float("inf")).softmax(-1)
        return nodes + self.dropout(self.context(share @ nodes))


TEXT_BACKBONES: dict[str, type[BiGru | RoleGraph]] = {"bi_gru": BiGru, "graph": RoleGraph}


def graph(entity_roles: Int[Tensor, "Q E A"], real: Bool[Tensor, "Q N"]) -> tuple[Bool[Tensor, "Q N N"], Float[Tensor, "Q N R"]]:
    """Returns the edges of each graph, including those of a node to itself, and the share of each role in a node.

    Args:
        entity_roles: the role of each entity in each action, from 1; 0 for none.
        real: the nodes that a sentence has.
    """
    actions, entities = real[:, 1 : 1 + ACTIONS], real[:, 1 + ACTIONS :]
    # An action whose words were cut has no entities.
    roles = entity_roles * (entities[:, :, None] & actions[:, None])
    tied = roles > 0
    free = entities & ~tied.any(-1)
    edges = torch.zeros(len(real), NODES, NODES, dtype=torch.bool, device=real.device)
    edges[:, 0, 1:] = torch.cat([actions, free], dim=1)
    edges[:, 1 : 1 + ACTIONS, 1 + ACTIONS :] = tied.mT
    edges = edges | edges.mT | torch.eye(NODES, dtype=torch.bool, device=real.device)
    counts = one_hot(roles, 1 + len(ROLES)).sum(2)[..., 1:]
    counts[..., -1] += free
    share = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    shares = torch.zeros(len(real), NODES, 2 + len(ROLES), device=real.device)
    shares[:, 0, 0] = 1
    shares[:, 1 : 1 + ACTIONS, 1] = 1
    shares[:, 1 + ACTIONS :, 2:] = share
    return edges, shares


def read_labels(words: Float[Tensor, "Q W C"], mask: Bool[Tensor, "Q W"]) -> Int[Tensor, "Q W L"]:
    """Returns the label columns of words (`prvr.encoders.roles`), 0 where padded.

    Raises:
        DataError: a number is not a label.
    """
    labels = words[..., -LABEL_COLUMNS:] * mask[..., None]
    largest = torch.tensor([ACTIONS, ENTITIES, *[len(ROLES)] * ACTIONS], device=words.device)
    wrong = labels[(labels != labels.round()) | (labels < 0) | (labels > largest)]
    if len(wrong):
        raise DataError(
            f"the last {LABEL_COLUMNS} columns of the words hold {wrong[0].item():.4g}, which is no role: the graph backbone "
            "reads words of prvr extract VIDEOS FEATURES --words roles:VECTORS.txt+PIPELINE"
        )
    return labels.long()


def largest_of_slots(rows: Tensor, slots: Int[Tensor, "Q W"]) -> Tensor:
    """Returns the maximum of the rows (Q, W, X) of each slot, (Q, NODES, X); 0 for a slot without rows."""
    empty = rows.new_zeros(len(rows), NODES, rows.shape[-1])
    place = slots[..., None].expand_as(rows)
    return empty.scatter_reduce(1, place, rows, reduce="amax", include_self=False)
