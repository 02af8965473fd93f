"""Graphs and mixing matrices: connected, doubly stochastic, with the contraction that theory gives them."""

from math import cos, pi

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from fdrl_mpi.topology import graph

FAMILIES = {
    "ring": graph.ring,
    "complete": graph.complete,
    "exponential": graph.exponential,
    "torus": graph.torus,
    "hypercube": graph.hypercube,
}


def _degrees(num_agents, edges):
    return np.bincount(np.array(sorted(edges), int).ravel(), minlength=num_agents)


@pytest.mark.parametrize("family", ["ring", "complete", "exponential"])
@pytest.mark.parametrize("num_agents", [*range(1, 20), 31, 64])
def test_families_for_any_number_of_agents_are_connected_and_mix(family, num_agents):
    edges = FAMILIES[family](num_agents)
    graph.check_connected(num_agents, edges)
    graph.check_mixing(graph.metropolis_hastings(num_agents, edges))


@pytest.mark.parametrize(
    ("family", "num_agents", "degree"),
    [
        ("ring", 7, 2),
        ("complete", 7, 6),
        ("torus", 9, 4),
        ("torus", 12, 4),
        ("torus", 4, 2),
        ("hypercube", 16, 4),
        ("exponential", 16, 7),
        ("exponential", 17, 8),
    ],
)
def test_every_agent_has_the_degree_of_its_family(family, num_agents, degree):
    assert set(_degrees(num_agents, FAMILIES[family](num_agents))) == {degree}


@over(st.integers(3, 40), st.integers(2, 6), st.integers(0, 100))
def test_random_regular_graph_is_regular_connected_and_follows_from_the_seed(num_agents, degree, seed):
    if degree >= num_agents or degree * num_agents % 2:
        with pytest.raises(ValueError, match="choose a degree"):
            graph.random_regular(num_agents, degree, seed)
        return
    edges = graph.random_regular(num_agents, degree, seed)
    assert set(_degrees(num_agents, edges)) == {degree}
    assert graph.is_connected(num_agents, edges)
    assert edges == graph.random_regular(num_agents, degree, seed)


def test_contraction_of_a_ring_is_that_of_its_eigenvalues():
    """Metropolis-Hastings weights of a ring are 1/3: eigenvalues are 1/3 + 2/3 cos(2 pi m / K)."""
    for num_agents in (5, 8, 16):
        weights = graph.metropolis_hastings(num_agents, graph.ring(num_agents))
        eigenvalues = [1 / 3 + 2 / 3 * cos(2 * pi * m / num_agents) for m in range(1, num_agents)]
        assert np.isclose(graph.contraction(weights), max(map(abs, eigenvalues)))


def test_complete_graph_averages_in_one_round():
    weights = graph.metropolis_hastings(9, graph.complete(9))
    assert np.allclose(weights, 1 / 9)
    assert graph.contraction(weights) < 1e-12


@over(st.integers(2, 20), st.data())
def test_metropolis_hastings_is_symmetric_stochastic_and_positive_along_edges(num_agents, data):
    pairs = st.tuples(st.integers(1, num_agents), st.integers(1, num_agents)).filter(lambda p: p[0] != p[1])
    edges = graph.given(num_agents, data.draw(st.lists(pairs, min_size=1, max_size=40)))
    weights = graph.metropolis_hastings(num_agents, edges)
    assert np.allclose(weights, weights.T)
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert (weights >= 0.0).all()
    assert {(i, j) for i, j in zip(*np.nonzero(np.triu(weights, 1)), strict=True)} == edges


def test_constant_step_is_the_update_of_the_literature():
    edges, models = graph.ring(6), np.random.default_rng(0).standard_normal((6, 3))
    mixed = graph.constant_step(6, edges, 0.2) @ models
    for agent in range(6):
        pull = sum(models[j] - models[agent] for j in ((agent + 1) % 6, (agent - 1) % 6))
        assert np.allclose(mixed[agent], models[agent] + 0.2 * pull)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: graph.torus(13), "choose ring"),
        (lambda: graph.hypercube(12), "power of 2"),
        (lambda: graph.given(3, [(1, 4)]), "from 1 to 3"),
        (lambda: graph.given(3, [(2, 2)]), "two different agents"),
        (lambda: graph.check_connected(4, graph.given(4, [(1, 2), (3, 4)])), "2 others (3, 4)"),
        (
            lambda: graph.check_mixing(np.array([[0.5, 0.5], [0.3, 0.7]])),
            "column 1 of the mixing matrix adds up to 0.8",
        ),
        (
            lambda: graph.check_mixing(np.array([[0.5, 0.4], [0.5, 0.5]])),
            "row 1 of the mixing matrix adds up to 0.9",
        ),
        (lambda: graph.check_mixing(np.eye(3)), "never agree"),
        (lambda: graph.check_mixing(graph.constant_step(6, graph.ring(6), 0.6)), "below 1/2"),
    ],
)
def test_what_does_not_mix_is_refused(build, message):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the message is compared below)
        build()
    assert message in str(refused.value)
