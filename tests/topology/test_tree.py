"""Trees: every rank once, few children, few steps, few crossings between nodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdrl_mpi.topology.tree import choose_fan_out, node_tree

SIZES = [*range(1, 66), 127, 257]


def _below(tree, rank):
    return {rank}.union(*(_below(tree, child) for child in tree.children[rank]))


@pytest.mark.parametrize("fan_out", [2, 3, 4, 8])
@pytest.mark.parametrize("size", SIZES)
def test_tree_on_one_node_reaches_every_rank_in_logarithmic_depth(size, fan_out):
    tree = node_tree([0] * size, fan_out)
    assert _below(tree, 0) == set(range(size))
    assert all(len(children) <= fan_out for children in tree.children)
    complete = next(depth for depth in range(size) if sum(fan_out**d for d in range(depth + 1)) >= size)
    assert tree.depth == complete


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=70),
    st.integers(2, 8),
    st.sampled_from([1, 8, 10_000]),
)
def test_tree_over_nodes_crosses_between_them_once_for_each(others, fan_out, num_chunks):
    nodes = [others[0], *others]
    tree = node_tree(nodes, fan_out, num_chunks)
    assert _below(tree, 0) == set(range(len(nodes)))
    assert all(len(children) <= fan_out for children in tree.children)
    assert tree.parents.count(-1) == 1
    assert all(rank in tree.children[parent] for rank, parent in enumerate(tree.parents) if parent >= 0)
    crossings = [r for r, parent in enumerate(tree.parents) if parent >= 0 and nodes[r] != nodes[parent]]
    assert len(crossings) == len(set(nodes)) - 1
    for rank, children in enumerate(tree.children):
        away = [nodes[child] != nodes[rank] for child in children]
        assert away == sorted(away), "children on the rank's own node come first"


def test_long_models_pass_each_link_between_nodes_once_and_short_ones_take_few_steps():
    nodes = [rank // 4 for rank in range(16)]
    chain, wide = node_tree(nodes, 4, num_chunks=1000), node_tree(nodes, 4, num_chunks=1)
    assert all(
        sum(
            nodes[child] != nodes[rank]
            for rank in range(16)
            if nodes[rank] == node
            for child in chain.children[rank]
        )
        <= 1
        for node in range(4)
    )
    assert wide.depth < chain.depth


def test_ranks_with_a_node_each_form_a_plain_tree():
    assert node_tree(range(7), 2, num_chunks=1).children[:3] == ((1, 2), (3, 4), (5, 6))


@pytest.mark.parametrize("size", SIZES)
def test_chosen_fan_out_suits_the_length_of_the_model(size):
    short, long = choose_fan_out(size, 1), choose_fan_out(size, 1000)
    assert 2 <= long <= short <= 8
    if size > 3:
        assert long == 2


def test_fan_out_of_one_is_refused():
    with pytest.raises(ValueError, match="choose 2 or more"):
        node_tree([0, 0, 0], 1)
