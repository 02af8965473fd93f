"""What travels is made of the configuration, and said in words."""

import pytest

from fdrl_mpi.build import describe_wire, make_wire
from fdrl_mpi.build_agent import make_environment, make_model
from fdrl_mpi.config_file import read


def description_of(**changes: str) -> str:
    config = read([], [(key.replace("__", "."), value) for key, value in changes.items()])
    environment = make_environment(config.environment, [{}])
    model = make_model(config.learner, config.seed, environment, "numpy", "cpu")
    return describe_wire(make_wire(config, model), model)


def test_a_model_that_travels_whole_needs_no_words() -> None:
    assert description_of() == description_of(learner__share="trunk", mode="independent") == ""


def test_a_part_that_travels_is_counted() -> None:
    hidden = 2 * (4 * 64 + 64 + 64 * 64 + 64)
    assert description_of(learner__share="trunk") == f"; {hidden} of the parameters travel"
    assert description_of(learner__share="actor.0") == f"; {4 * 64 + 64} of the parameters travel"


@pytest.mark.parametrize("share", ["critic", '["critic.0", "critic.2.bias"]'])
def test_where_nothing_that_acts_travels_this_is_said(share: str) -> None:
    assert "none of those that act" in description_of(learner__share=share)


def test_every_name_that_is_offered_for_a_part_can_be_chosen() -> None:
    with pytest.raises(ValueError, match="It has: all, actor, trunk, ") as refusal:
        description_of(learner__share="head")
    offered = str(refusal.value).partition("It has: ")[2].split(", ")
    assert {"critic", "critic.0", "actor.4.bias"} <= set(offered)
    assert len(set(offered)) == len(offered)
    for name in offered:
        description_of(learner__share=name)
