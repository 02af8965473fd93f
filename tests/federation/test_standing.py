"""What the members of a view decide on."""

import pytest

from fdrl_mpi.federation.standing import NOTHING, Standing, decide


def _standing(round, view=0, digest=None, is_revealed=False, counted=None):
    return Standing(
        round, view, f"model {round}" if digest is None else digest, is_revealed, counted or {}, {}, []
    )


def test_the_newest_model_is_that_of_the_first_who_has_it():
    decision = decide([_standing(3), _standing(4), _standing(4), _standing(NOTHING, -1, "")])
    assert (decision.holder, decision.made_round, decision.round) == (1, 4, 4)
    assert decision.is_wanting
    assert not decision.is_given_up


def test_nobody_is_wanting_where_all_have_the_same():
    assert not decide([_standing(4), _standing(4, 1), _standing(4)]).is_wanting


def test_of_two_models_of_one_round_that_of_the_later_view_counts():
    """A rank that was stopped comes back with a model that the others have made again without it."""
    decision = decide([_standing(4, 1, "old"), _standing(4, 2, "new"), _standing(4, 2, "new")])
    assert (decision.holder, decision.digest, decision.is_wanting) == (1, "new", True)


def test_a_round_whose_masks_were_shown_is_given_up():
    decision = decide([_standing(4), _standing(4, is_revealed=True), _standing(3)])
    assert (decision.made_round, decision.round, decision.is_given_up) == (4, 5, True)


def test_masks_that_were_shown_for_a_round_that_has_ended_do_not_matter():
    assert not decide([_standing(4, is_revealed=True), _standing(5)]).is_given_up


@pytest.mark.parametrize("first", [{}, {1: 2.0}])
def test_who_is_counted_is_known_from_anyone_with_the_model(first):
    assert decide([_standing(4, counted=first), _standing(4, counted={1: 2.0}), _standing(3)]).counted == {
        1: 2.0
    }
