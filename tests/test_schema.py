from typing import Annotated, Literal

import pytest
from msgspec import Meta
from msgspec.inspect import type_info

from fdrl_mpi.config import Config, ParticipationConfig
from fdrl_mpi.envs.heterogeneity import Distribution
from fdrl_mpi.schema import expected, keys, sections, structures, title


def test_every_key_stands_once_in_the_section_it_is_named_after() -> None:
    listed = [(section.name, key.name) for section in sections(Config()) for key in section.keys]
    assert [name.rpartition(".")[0] for _, name in listed] == [section for section, _ in listed]
    assert [name for _, name in listed] == list(keys(Config()))


def test_every_section_and_key_is_explained() -> None:
    assert all(section.title for section in sections(Config()))
    assert all(key.description for key in keys(Config()).values())


def test_a_key_has_the_value_of_its_configuration() -> None:
    config = Config(seed=3, participation=ParticipationConfig(fraction=0.5))
    found = keys(config)
    assert (found["seed"].value, found["participation.fraction"].value) == (3, 0.5)
    assert found["learner.name"].value == "ppo"


def test_units_follow_what_a_key_accepts() -> None:
    assert keys(Config())["rounds"].accepts == "a whole number of at least 1, in rounds"
    assert keys(Config())["learner.gamma"].accepts == "a number of at least 0, up to 1"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true or false"),
        (int, "a whole number"),
        (Annotated[int, Meta(ge=1)], "a whole number of at least 1"),
        (Annotated[float, Meta(gt=0.0, le=1.0)], "a number above 0, up to 1"),
        (str, "text"),
        (Annotated[str, Meta(min_length=1)], "text that is not empty"),
        (Literal["a", "b"], "one of a, b"),
        (tuple[bool, ...], "a list, each item true or false"),
        (tuple[int, bool], "a list of 2: a whole number, true or false"),
        (dict[str, float], "a table"),
        (Config, "a table"),
    ],
)
def test_what_a_key_may_hold_is_said_in_words(kind: type, words: str) -> None:
    assert expected(type_info(kind)) == words


def test_a_table_is_chosen_by_its_tag() -> None:
    distributions = structures(type_info(Distribution))
    assert list(distributions) == ["uniform", "log_uniform", "normal", "choice", "evenly", "listed"]
    assert list(structures(type_info(Config))) == [None]


def test_a_title_is_the_first_line_of_a_docstring() -> None:
    assert title(Config) == "A whole experiment."
