"""What travels is made of the configuration, and said in words."""

from types import SimpleNamespace

import pytest

from fdrl_mpi.build import Builder, describe_wire, make_wire
from fdrl_mpi.build_agent import make_environment, make_model
from fdrl_mpi.config_file import read
from fdrl_mpi.topology.placement import Placement


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


@pytest.mark.parametrize(("agents_per_rank", "num_ranks"), [(1, 3), (512, 2)], ids=["in turn", "a team"])
@pytest.mark.parametrize("has_bytes", [1 << 28, 1 << 40])
def test_ranks_that_do_not_fit_on_their_card_are_refused_before_anything_is_made(
    monkeypatch, agents_per_rank, num_ranks, has_bytes
):
    """The root needs its card where it plays there; beside teams it does not."""
    monkeypatch.setattr("fdrl_mpi.build.choose_device", lambda wanted, local_rank: "cuda:0")
    monkeypatch.setattr("fdrl_mpi.build.cuda_devices", lambda: ["a card"])
    monkeypatch.setattr("fdrl_mpi.rl.device.cuda_memory_bytes", lambda ordinal: has_bytes)
    config = read([], [("agents_per_rank", str(agents_per_rank)), ("environment.num_envs", "2")])
    agents = tuple(range(1, 2 * agents_per_rank + 1))
    world = SimpleNamespace(
        rank=1,
        is_root=False,
        local_rank=1,
        nodes=(0, 0, 0),
        num_enrolled=len(agents),
        num_agents=len(agents),
        agents=agents[:agents_per_rank],
        placement=Placement(3, len(agents)),
    )
    if has_bytes == 1 << 40:
        assert "GB a rank on cuda:0" in Builder(config, world)._trains
        return
    with pytest.raises(
        ValueError, match=rf"{num_ranks} ranks on cuda:0 need about .* each\), and it has 0\.3 GB"
    ):
        Builder(config, world)
