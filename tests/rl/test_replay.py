"""A ring of transitions, and drawing them by priority."""

import numpy as np
import pytest

from fdrl_mpi.rl.n_step import Transitions
from fdrl_mpi.rl.prioritised import Priorities, PriorityTree
from fdrl_mpi.rl.replay import COLUMNS, Replay
from fdrl_mpi.streams import stream


def _numbered(first: int, count: int) -> Transitions:
    """Transitions whose every column holds their number."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    columns = np.repeat(numbers[:, None], 3, axis=1)
    return Transitions(columns, numbers.astype(np.int64), numbers, columns, numbers)


def _replay(capacity: int = 5, batch_size: int = 4) -> Replay:
    return Replay(capacity, 3, (), np.int64, batch_size)


@pytest.mark.parametrize("sizes", [[1] * 9, [3, 3, 3], [4, 5], [2, 5, 1, 1]])
def test_a_full_ring_holds_the_newest_transitions(sizes: list[int]) -> None:
    replay, added = _replay(), 0
    for count in sizes:
        replay.add(_numbered(added, count))
        added += count
    assert len(replay) == 5
    batch = replay.gather(np.arange(5).repeat(1)[:4])
    everything = sorted(
        {*replay.gather(np.array([0, 1, 2, 3])).rewards, *replay.gather(np.full(4, 4)).rewards}
    )
    assert everything == [4, 5, 6, 7, 8]
    for name in COLUMNS:
        column = getattr(batch, name)
        np.testing.assert_array_equal(column.reshape(4, -1)[:, 0], batch.rewards)


def test_places_are_where_transitions_lie() -> None:
    replay = _replay()
    replay.add(_numbered(0, 4))
    places = replay.add(_numbered(4, 4))
    assert places.tolist() == [4, 0, 1, 2]
    np.testing.assert_array_equal(replay.gather(places).rewards, [4, 5, 6, 7])


def test_a_restored_ring_draws_and_fills_alike() -> None:
    one, other = _replay(), _replay()
    one.add(_numbered(0, 3))
    other.set_state(one.get_state())
    for replay in (one, other):
        replay.add(_numbered(3, 4))
    drawn = [replay.draw(stream(0, "draw")).rewards.copy() for replay in (one, other)]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("capacity", [1, 2, 5, 8, 13])
def test_tree_sums_are_sums_of_the_leaves(capacity: int) -> None:
    generator, tree, leaves = stream(0, "tree"), PriorityTree(capacity), np.zeros(capacity)
    for _ in range(20):
        indices = generator.integers(capacity, size=3)
        priorities = generator.random(3)
        tree.set(indices, priorities)
        leaves[indices] = priorities
        assert tree.total == pytest.approx(leaves.sum(), rel=1e-12)


def test_leaves_are_drawn_in_proportion_to_their_priorities() -> None:
    """Of 40,000 stratified draws each share is within a hundredth; a leaf of priority 0 is never drawn."""
    tree, priorities = PriorityTree(5), np.array([1.0, 0.0, 2.0, 3.0, 4.0])
    tree.set(np.arange(5), priorities)
    drawn = np.bincount(tree.draw(stream(0, "draw"), 40_000), minlength=5)
    assert drawn[1] == 0
    np.testing.assert_allclose(drawn / drawn.sum(), priorities / priorities.sum(), atol=0.01)


def test_weights_undo_what_priorities_do() -> None:
    """With beta = 1 the weight is 1 / (N P), over the largest of the batch: hand-worked for 1, 1 and 2."""
    priorities = Priorities(3, alpha=1.0, beta=1.0)
    priorities.add(np.arange(3))
    priorities.renew(np.arange(3), np.array([1.0, -1.0, 2.0], np.float32))
    indices, weights = priorities.draw(stream(0, "draw"), 64, 3)
    expected = np.where(indices == 2, 0.5, 1.0)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_alpha_zero_draws_uniformly() -> None:
    priorities = Priorities(4, alpha=0.0, beta=0.4)
    priorities.add(np.arange(4))
    priorities.renew(np.arange(4), np.array([0.0, 1.0, 5.0, 50.0], np.float32))
    indices, weights = priorities.draw(stream(0, "draw"), 4000, 4)
    assert np.bincount(indices).tolist() == [1000] * 4
    np.testing.assert_array_equal(weights, 1.0)
