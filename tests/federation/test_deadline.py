"""How long the root waits."""

from math import inf, nan

import numpy as np

from fdrl_mpi.federation.deadline import NUM_RECENT, Deadline


def test_without_a_deadline_the_root_waits_for_ever():
    deadline = Deadline(0.0, 0.0)
    deadline.note(np.array([1.0]))
    assert deadline.next_s == inf


def test_a_fixed_deadline_stays():
    deadline = Deadline(2.5, 0.0)
    deadline.note(np.array([1.0, 1.0, 100.0]))
    assert deadline.next_s == 2.5


def test_a_learnt_deadline_follows_the_agents_of_recent_rounds():
    deadline = Deadline(0.1, 1.5)
    assert deadline.next_s == inf, "nothing is learnt yet"
    deadline.note(np.array([1.0, 1.0, nan, 0.0]))
    assert deadline.next_s == 1.5
    for _ in range(NUM_RECENT):
        deadline.note(np.arange(11.0))
    assert np.isclose(deadline.next_s, 1.5 * np.percentile(np.arange(1, 11), 90))


def test_a_learnt_deadline_is_never_shorter_than_the_fixed_one():
    deadline = Deadline(5.0, 1.5)
    deadline.note(np.array([0.01]))
    assert deadline.next_s == 5.0


def test_a_fixed_deadline_below_what_half_of_the_agents_took_is_raised_and_told_once(caplog):
    deadline = Deadline(0.5, 0.0)
    assert deadline.next_s == 0.5
    for _ in range(2):
        deadline.note(np.array([1.0, 2.0, 6.0]))
    assert deadline.next_s == 2.0
    [record] = caplog.records
    assert "choose 7.8 or more" in record.getMessage()  # 1.5 times the 90th percentile, 5.2
