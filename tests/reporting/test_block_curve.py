"""Curves and bars in one line of text."""

import numpy as np
import pytest

from fdrl_mpi.reporting.block_curve import BLOCKS, EMPTY, FULL, PLAIN, bar, block_curve


def test_values_go_from_the_lowest_block_to_the_highest() -> None:
    assert block_curve(np.arange(8.0), 8) == BLOCKS
    assert block_curve(np.array([3.0, np.nan, -1.0, np.inf]), 10) == "█▁"


def test_values_that_do_not_differ_are_drawn_at_half_height() -> None:
    assert block_curve(np.full(3, 7.0), 5) == BLOCKS[4] * 3


def test_neighbours_share_a_block_where_there_are_more_values_than_blocks() -> None:
    assert block_curve(np.repeat(np.arange(8.0), 100), 8) == BLOCKS
    assert block_curve(np.arange(1000.0), 1) == BLOCKS[4]


def test_nothing_known_is_no_curve() -> None:
    assert block_curve(np.array([np.nan]), 5) == ""


@pytest.mark.parametrize(("share", "full"), [(0.0, 0), (0.999, 9), (1.0, 10), (1.5, 10), (-1.0, 0)])
def test_bar_is_only_full_at_the_end(share: float, full: int) -> None:
    assert bar(share, 10) == FULL * full + EMPTY * (10 - full)


def test_every_block_has_a_plain_character() -> None:
    assert f"{BLOCKS}{EMPTY}".translate(PLAIN).isascii()
