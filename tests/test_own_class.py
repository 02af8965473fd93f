"""Classes named in a configuration: what they lack or do not take is said before they are used."""

import json

import pytest

from fdrl_mpi.own_class import check_members, construct, import_class, place_of


class Pair:
    def __init__(self, first, second=2, *, third=3):
        self.values = first, second, third


def test_what_is_given_comes_before_what_is_configured():
    assert construct("a:Pair", Pair, [7], {"third": 9}).values == (7, 2, 9)


def test_a_constructor_that_takes_everything_is_given_everything():
    assert construct("a:Any", lambda **settings: settings, [], {"anything": 1}) == {"anything": 1}


@pytest.mark.parametrize(
    ("given", "kwargs", "message"),
    [
        ([1], {"thrid": 9}, "a:Pair has no argument 'thrid': did you mean third"),
        ([], {"second": 9}, "a:Pair: missing a required argument: 'first'"),
        ([1], {"first": 9}, "multiple values for argument 'first'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_without_a_call(given, kwargs, message):
    with pytest.raises(ValueError, match=message):
        construct("a:Pair", Pair, given, kwargs)


def test_an_error_of_the_constructor_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        construct("a:Bad", lambda: 1 / 0, [], {})


def test_all_that_is_missing_is_named():
    check_members("a:Pair", Pair(1), "pair", ["values"])
    with pytest.raises(ValueError, match="a:Pair is no triple: it has no third, no fourth"):
        check_members("a:Pair", Pair(1), "triple", ["values", "third", "fourth"])


def test_an_error_that_passes_a_user_s_code_is_placed_there():
    def own():
        json.loads("{")  # raised in a library

    with pytest.raises(ValueError, match="Expecting property name") as caught:
        own()
    assert place_of(caught.value).startswith(f" ({__file__}:")
    assert place_of(caught.value).endswith(", in own)")


def test_an_error_of_the_program_has_no_place_in_a_user_s_code():
    with pytest.raises(ValueError, match="must be written") as caught:
        import_class("no name of a class")
    caught.value.__traceback__ = caught.tb.tb_next  # without this test
    assert place_of(caught.value) == ""
