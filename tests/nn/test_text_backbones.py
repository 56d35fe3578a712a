"""The text backbones: padding changes nothing, the graph is the one that the labels draw, and both learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_pipelines import OPENS, parsed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prvr.batch import Reading, pad, read_words
from prvr.encoders.roles import ACTIONS, ENTITIES, LABEL_COLUMNS, ROLES, role_labels
from prvr.errors import DataError, SettingError
from prvr.nn.layers import initialise
from prvr.nn.text_backbones import NODES, TEXT_BACKBONES, BiGru, RoleGraph, TextBackbone, graph

VECTOR = 5
AGENT, PATIENT = 1, 2


def random_queries(lengths: list[int], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Word vectors with labels such as a parser could give, padded: some nodes, some roles, some words of no node."""
    draw = np.random.default_rng(seed)
    queries = []
    for length in lengths:
        labels = np.zeros((length, LABEL_COLUMNS), np.float32)
        roles = draw.integers(0, 1 + len(ROLES), (1 + ENTITIES, ACTIONS)) * draw.integers(0, 2, (1 + ENTITIES, ACTIONS))
        for word, kind in enumerate(draw.integers(0, 3, length)):
            if kind == 1:
                labels[word, 0] = draw.integers(1, 1 + ACTIONS)
            elif kind == 2:
                labels[word, 1] = entity = draw.integers(1, 1 + ENTITIES)
                labels[word, 2:] = roles[entity]
        queries.append(np.concatenate([draw.normal(size=(length, VECTOR)).astype(np.float32), labels], axis=1))
    return pad(queries)


def sentence(words: str, *, seed: int = 0) -> Tensor:
    labels = role_labels(parsed(words))
    vectors = np.random.default_rng(seed).normal(size=(len(labels), VECTOR)).astype(np.float32)
    return torch.from_numpy(np.concatenate([vectors, labels], axis=1))[None]


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    words = VECTOR + LABEL_COLUMNS
    made = BiGru(words, 6) if name == "bi_gru" else RoleGraph(words, 12, layers=2)
    # Roles that differ, as after training.
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.mark.parametrize("name", TEXT_BACKBONES)
def test_what_a_backbone_is(name: str) -> None:
    made = TEXT_BACKBONES[name](300 + LABEL_COLUMNS)
    assert isinstance(made, TextBackbone)
    # As wide as RoBERTa's words, so that the student's projection stays as it is (docs/how/dl-dkd.md).
    assert made.columns == 1024
    assert made.label_columns == (LABEL_COLUMNS if name == "graph" else 0)
    features, mask = make(name)(*random_queries([7, 3]))
    assert features.shape == (2, 7 if name == "bi_gru" else NODES, 12)
    assert mask.shape == features.shape[:2]


@pytest.mark.parametrize("name", TEXT_BACKBONES)
def test_more_padding_and_what_is_in_it_change_nothing(name: str) -> None:
    model, (words, mask) = make(name), random_queries([9, 1, 4, 6])
    features, real = model(words, mask)
    rubbish = torch.cat([torch.where(mask[..., None], words, 7.7), torch.full((4, 5, words.shape[2]), -3.3)], dim=1)
    longer, still = model(rubbish, torch.cat([mask, torch.zeros(4, 5, dtype=torch.bool)], dim=1))
    torch.testing.assert_close(longer[:, : features.shape[1]], features, atol=1e-6, rtol=1e-5)
    assert torch.equal(still[:, : real.shape[1]], real)
    assert not still[:, real.shape[1] :].any()
    assert not features[~real].any()


@pytest.mark.parametrize("name", TEXT_BACKBONES)
def test_queries_do_not_see_each_other(name: str) -> None:
    model, lengths = make(name), [9, 1, 4, 6]
    words, mask = random_queries(lengths)
    features, real = model(words, mask)
    for query, length in enumerate(lengths):
        alone, there = model(words[query : query + 1, :length], mask[query : query + 1, :length])
        torch.testing.assert_close(features[query][real[query]], alone[0][there[0]], atol=1e-6, rtol=1e-5)


def test_a_bigru_is_a_gru_each_way() -> None:
    """Against one cell at a time, from the first word on and from the last word back."""
    model, lengths = BiGru(VECTOR, 4), [5, 2]
    words, mask = pad([np.random.default_rng(n).normal(size=(n, VECTOR)).astype(np.float32) for n in lengths])
    features, _ = model(words, mask)
    for way, suffix in enumerate(("", "_reverse")):
        cell = nn.GRUCell(VECTOR, 4)
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, kind).data.copy_(getattr(model.gru, f"{kind}_l0{suffix}"))
        for query, length in enumerate(lengths):
            state = torch.zeros(1, 4)
            for word in range(length) if way == 0 else reversed(range(length)):
                state = cell(words[query, word][None], state)
                torch.testing.assert_close(features[query, word, 4 * way : 4 * way + 4], state[0], atol=1e-6, rtol=1e-5)


def test_the_edges_of_a_sentence() -> None:
    labels = torch.from_numpy(role_labels(parsed(OPENS))).long()
    roles = torch.zeros(1, ENTITIES, ACTIONS, dtype=torch.long)
    roles[0, :3] = torch.stack([labels[1, 2:], labels[4, 2:], labels[8, 2:]])
    real = torch.zeros(1, NODES, dtype=torch.bool)
    event, opens, enters, man, door, room = nodes = (0, 1, 2, 1 + ACTIONS, 2 + ACTIONS, 3 + ACTIONS)
    real[0, list(nodes)] = True
    edges, shares = graph(roles, real)
    wanted = {(event, opens), (event, enters), (opens, man), (opens, door), (enters, man), (enters, room)}
    wanted |= {(j, i) for i, j in wanted} | {(node, node) for node in range(NODES)}
    assert {(int(i), int(j)) for i, j in edges[0].nonzero()} == wanted
    given = {man: AGENT, door: PATIENT, room: PATIENT}
    for node in nodes:
        row = torch.zeros(2 + len(ROLES))
        row[1 + given[node] if node in given else int(node != event)] = 1
        torch.testing.assert_close(shares[0, node], row)


def test_an_entity_of_several_roles_has_their_mean() -> None:
    roles = torch.zeros(1, ENTITIES, ACTIONS, dtype=torch.long)
    roles[0, 0] = torch.tensor([AGENT, PATIENT, AGENT, AGENT])
    _, shares = graph(roles, torch.ones(1, NODES, dtype=torch.bool))
    assert shares[0, 1 + ACTIONS].tolist() == [0, 0, 0.75, 0.25, *[0] * (len(ROLES) - 2)]


def attended(nodes: dict[int, Tensor], neighbours: dict[int, set[int]], layer: nn.Module) -> dict[int, Tensor]:
    out = {}
    for i in nodes:
        among = sorted(neighbours[i])
        logits = [float(layer.query(nodes[i]) @ layer.key(nodes[j])) / math.sqrt(len(nodes[i])) for j in among]
        powers = [math.exp(logit - max(logits)) for logit in logits]
        mixed = sum((power / sum(powers)) * nodes[j] for power, j in zip(powers, among, strict=True))
        out[i] = nodes[i] + layer.context(mixed)
    return out


def slow_graph(model: RoleGraph, words: Tensor) -> dict[int, Tensor]:
    """One query without padding: every node and edge by itself, from the docstring's equations."""
    states = model.words(words[None, :, :VECTOR], torch.ones(1, len(words), dtype=torch.bool))[0][0]
    labels = words[:, VECTOR:].int().tolist()
    powers = [math.exp(float(model.pooling.weight(state))) for state in states]
    nodes = {0: sum(power / sum(powers) * state for power, state in zip(powers, states, strict=True))}
    roles: dict[int, list[int]] = {0: [0]}
    neighbours: dict[int, set[int]] = {0: {0}}
    for action in range(1, 1 + ACTIONS):
        if members := [state for state, row in zip(states, labels, strict=True) if row[0] == action]:
            nodes[action], roles[action], neighbours[action] = torch.stack(members).amax(0), [1], {0, action}
    for entity in range(1, 1 + ENTITIES):
        node = ACTIONS + entity
        members = [(state, row[2:]) for state, row in zip(states, labels, strict=True) if row[1] == entity]
        if members:
            nodes[node] = torch.stack([state for state, _ in members]).amax(0)
            ties = {action: role for action, role in enumerate(members[0][1], start=1) if role and action in nodes}
            roles[node] = [1 + role for role in ties.values()] or [1 + len(ROLES)]
            neighbours[node] = {node, *(ties or [0])}
    for i in list(neighbours):
        for j in neighbours[i]:
            neighbours[j].add(i)
    nodes = {i: node * torch.stack([model.roles[role] for role in roles[i]]).mean(0) for i, node in nodes.items()}
    for layer in model.layers:
        nodes = attended(nodes, neighbours, layer)
    return nodes


def test_the_graph_against_slow_loops() -> None:
    model, lengths = make("graph"), [12, 1, 7, 20, 3, 9]
    words, mask = random_queries(lengths, seed=4)
    with torch.no_grad():
        features, real = model(words, mask)
        for query, length in enumerate(lengths):
            wanted = slow_graph(model, words[query, :length])
            assert sorted(wanted) == real[query].nonzero()[:, 0].tolist()
            for node, row in wanted.items():
                torch.testing.assert_close(features[query, node], row, atol=1e-5, rtol=1e-4)
    assert real[:, 1 : 1 + ACTIONS].any()
    assert real[:, 1 + ACTIONS :].any()


def test_an_entity_whose_verb_was_cut_off_is_tied_to_the_event() -> None:
    words = sentence("a|DET|det|1 man|NOUN|nsubj|3 quickly|ADV|advmod|3 runs|VERB|ROOT|3")
    reading = Reading(1, VECTOR + LABEL_COLUMNS, None, 2, unit=True, text="words", label_columns=LABEL_COLUMNS)
    cut = torch.from_numpy(read_words(words[0].numpy(), reading))[None]
    model = make("graph")
    features, real = model(cut, torch.ones(1, 2, dtype=torch.bool))
    assert real[0].nonzero()[:, 0].tolist() == [0, 1 + ACTIONS]
    with torch.no_grad():
        wanted = slow_graph(model, cut[0])
    torch.testing.assert_close(features[0, 1 + ACTIONS], wanted[1 + ACTIONS], atol=1e-5, rtol=1e-4)
    assert features[0, 0].allclose(wanted[0], atol=1e-5)


def test_a_sentence_without_verbs_and_nouns_is_its_event() -> None:
    model = make("graph").train()
    words = sentence("quickly|ADV|ROOT|0 up|ADV|advmod|0")
    features, real = model(words, torch.ones(1, 2, dtype=torch.bool))
    assert real[0].nonzero()[:, 0].tolist() == [0]
    features.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("wrong", [0.37, -1.0, 7.0, float("nan")])
def test_words_without_roles_are_refused(wrong: float) -> None:
    words, mask = random_queries([4, 2])
    words[1, 1, -1] = wrong
    with pytest.raises(DataError, match=rf"the last 6 columns of the words hold {wrong:.4g}, which is no role.*--words roles:"):
        make("graph")(words, mask)


@pytest.mark.parametrize(("columns", "hidden"), [(LABEL_COLUMNS, 8), (300, 7)])
def test_sizes_that_do_not_fit(columns: int, hidden: int) -> None:
    with pytest.raises(SettingError, match=f"{columns} word columns and {hidden} hidden"):
        RoleGraph(columns, hidden)


def test_every_parameter_learns_and_the_student_leaves_the_roles_at_one() -> None:
    model = RoleGraph(VECTOR + LABEL_COLUMNS, 12, layers=2).apply(initialise)
    assert (model.roles == 1).all()
    # Every sort of role must occur for its vector to learn.
    words, mask = random_queries([20] * 20)
    features, real = model(words, mask)
    (features[real] ** 2).sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert still == []
    assert (model.roles.grad.abs().sum(1) > 0).all()


def test_word_order_is_learned() -> None:
    """Which of two words came first: the same words, and only the GRU can tell."""
    torch.manual_seed(0)
    model, head = BiGru(2, 8), nn.Linear(16, 2)
    words, target = torch.eye(2)[torch.tensor([[0, 1], [1, 0]])], torch.tensor([0, 1])
    optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
    for _ in range(60):
        loss = cross_entropy(head(model(words, torch.ones(2, 2, dtype=torch.bool))[0].mean(1)), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


def test_who_does_what_is_learned() -> None:
    """The same words in the same order, active and passive: only the roles differ."""
    torch.manual_seed(0)
    active = sentence("dog|NOUN|nsubj|1 bites|VERB|ROOT|1 man|NOUN|dobj|1")
    passive = sentence("dog|NOUN|dobj|1 bites|VERB|ROOT|1 man|NOUN|nsubj|1")
    assert torch.equal(active[..., :VECTOR], passive[..., :VECTOR])
    words, mask, target = torch.cat([active, passive]), torch.ones(2, 3, dtype=torch.bool), torch.tensor([0, 1])
    # From the entities by way of the action to the event: two steps.
    model, head = RoleGraph(VECTOR + LABEL_COLUMNS, 16, layers=2, dropout=0.0), nn.Linear(16, 2)
    optimiser = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
    for _ in range(60):
        loss = cross_entropy(head(model(words, mask)[0][:, 0]), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
