"""Named views of one flat model."""

import numpy as np
import pytest

from fdrl_mpi.rl.flat import Layout

LAYOUT = Layout({"weight": (2, 3), "bias": (3,), "scale": ()})


def test_views_lie_one_after_the_other_in_the_order_of_their_names() -> None:
    views = LAYOUT.views(np.arange(10, dtype=np.float32))
    np.testing.assert_array_equal(views["weight"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(views["bias"], [6, 7, 8])
    assert views["scale"] == 9
    assert list(views) == ["weight", "bias", "scale"]


def test_views_share_the_memory_of_the_flat_model_both_ways() -> None:
    flat = np.zeros(10, np.float32)
    views = LAYOUT.views(flat)
    views["bias"][:] = 5.0
    flat[0] = 7.0
    np.testing.assert_array_equal(flat, [7, 0, 0, 0, 0, 0, 5, 5, 5, 0])
    assert views["weight"][0, 0] == 7.0
    assert all(np.shares_memory(flat, view) for view in views.values())


def test_every_value_of_the_model_belongs_to_exactly_one_view() -> None:
    flat = np.zeros(LAYOUT.size, np.float32)
    for view in LAYOUT.views(flat).values():
        view += 1.0
    np.testing.assert_array_equal(flat, 1.0)


@pytest.mark.parametrize("shape", [(9,), (11,), (10, 1), ()])
def test_a_model_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"has shape \(10,\), not"):
        LAYOUT.views(np.zeros(shape, np.float32))
