"""Learners, and what travels, that do not fit are refused, and what fits is not."""

import sys
from types import SimpleNamespace

import pytest

from fdrl_mpi.build_agent import LEARNER_MEMBERS
from fdrl_mpi.config_file import read
from fdrl_mpi.constraints import check
from fdrl_mpi.schema import alternatives

REINFORCE = {"learner.name": "reinforce", "learner.baseline": "episode"}
FEDPG = REINFORCE | {"aggregation.update_kind": "gradient", "aggregation.server.name": "fedpg"}
TABLE = {"learner.name": "q_learning"}
EXACT = {"learner.name": "q_averaging", "aggregation.weighting": "uniform"}
CONTROLS = {"objective.control_variates": "true"}
GOSSIP = {"comm.collective": "gossip", "aggregation.weighting": "uniform"}
REFUSED = {
    "episodes over environments": (REINFORCE | {"learner.batch_episodes": "12"}, "batch_episodes = 12"),
    "budget over batches": (REINFORCE | {"learner.budget": "24"}, "learner.budget = 24"),
    "layers with nobody": (REINFORCE | {"learner.network.shared": "true"}, "network.shared = true"),
    "buffer below batch": ({"learner.name": "dqn", "learner.buffer_size": "64"}, "buffer_size = 64"),
    "gradients between steps": ({"learner.name": "dqn", "learner.train_every": "10"}, "train_every = 10"),
    "round inside a cycle": (
        {"learner.name": "dqn", "learner.train_every": "8", "learner.budget": "1001"},
        "learner.budget = 1001",
    ),
    "heads of a module": (
        {
            "learner.name": "dqn",
            "learner.train_every": "8",
            "learner.dueling": "true",
            "learner.network.module": "a:B",
        },
        "learner.dueling = true",
    ),
    "steps over environments": (TABLE | {"learner.budget": "1001"}, "learner.budget = 1001"),
    "difference from nobody": (
        GOSSIP | {"aggregation.update_kind": "difference"},
        "update_kind = difference",
    ),
    "gradient of a table": (TABLE | {"aggregation.update_kind": "gradient"}, "update_kind = gradient"),
    "gradient of a loop": (
        {"learner.name": "svrpg", "aggregation.update_kind": "gradient"},
        "update_kind = gradient",
    ),
    "proximal table": (TABLE | {"objective.proximal": "0.1"}, "objective.proximal"),
    "target without a gradient": (
        {
            "learner.name": "dqn",
            "learner.federate_target": "true",
            "aggregation.update_kind": "gradient",
        },
        "federate_target = true",
    ),
    "soft target without a gradient": (
        {
            "learner.name": "sac",
            "learner.federate_target": "true",
            "aggregation.update_kind": "gradient",
        },
        "federate_target = true",
    ),
    "decay of no step": (
        {"aggregation.update_kind": "gradient", "learner.lr_decay": "0.9"},
        "update_kind = gradient with learner.lr_decay",
    ),
    "decay to no step": (
        {"aggregation.update_kind": "gradient", "learner.lr_decay_rounds": "9"},
        "update_kind = gradient with learner.lr_decay",
    ),
    "divergence of nothing": (
        {"aggregation.update_kind": "gradient", "objective.kl_coefficient": "1.0"},
        "objective.kl_coefficient",
    ),
    "probabilities of values": (
        {"learner.name": "dqn", "learner.train_every": "8", "objective.kl_coefficient": "1.0"},
        "objective.kl_coefficient",
    ),
    "controls without a server": (GOSSIP | {"objective.control_variates": "true"}, "control_variates"),
    "corrected twice": ({"learner.name": "svrpg", "objective.proximal": "0.1"}, "objective.proximal"),
    "bent without a step": (
        {"aggregation.update_kind": "gradient", "objective.proximal": "0.1"},
        "objective.proximal",
    ),
    "samples of nothing": ({"learner.name": "q_averaging"}, "weighting = samples"),
    "decay of a plateau": (EXACT | {"learner.lr_decay": "0.9"}, "learner.lr_decay"),
    "decay to a plateau": (EXACT | {"learner.lr_decay_rounds": "9"}, "learner.lr_decay"),
    "controls by returns": (CONTROLS | {"aggregation.weighting": "returns"}, "weighting = returns"),
    "controls by episodes": (CONTROLS | {"aggregation.weighting": "episodes"}, "weighting = episodes"),
    "controls by lengths": (CONTROLS | REINFORCE, "weighting = samples"),
    "visits of a network": ({"aggregation.weighting": "visits"}, "weighting = visits"),
    "visits and momentum": (
        TABLE | {"aggregation.weighting": "visits", "aggregation.server.name": "momentum"},
        "weighting = visits",
    ),
    "visits in fixed point": (
        TABLE | {"aggregation.weighting": "visits", "comm.collective": "secure_ring"},
        "comm.collective = secure_ring",
    ),
    "server of nobody": (GOSSIP | {"aggregation.server.name": "adam"}, "server.name = adam"),
    "root without gradients": (
        REINFORCE | {"aggregation.server.name": "fedpg"},
        "update_kind = parameters",
    ),
    "root with a value": (FEDPG | {"learner.baseline": "value"}, "learner.baseline = value"),
    "root that is not alone": (FEDPG | {"comm.collective": "node"}, "comm.collective = node"),
    "images of critics": (
        {"learner.name": "sac", "learner.network.convolutions": "[[8, 3, 1]]"},
        "learner.network.convolutions",
    ),
    "no class": ({"learner.name": "own"}, 'learner.id = ""'),
    "no learner": ({"learner.name": "own", "learner.id": "geometric_median:GeometricMedian"}, "learner.id"),
    "own steps without gradients": (
        {"learner.name": "own", "learner.id": "gradient_free:Walk", "objective.proximal": "0.1"},
        "objective.proximal",
    ),
    "own weights without a bound": (
        {"learner.name": "own", "learner.id": "gradient_free:Walk", "comm.collective": "secure_ring"},
        "weighting = samples",
    ),
    "own weights that differ": (
        {"learner.name": "own", "learner.id": "gradient_free:Walk"} | CONTROLS,
        "weighting = samples",
    ),
    "unbounded weights": (
        REINFORCE | {"comm.collective": "secure_ring", "comm.secure.ring_degree": "1"},
        "weighting = samples",
    ),
}


@pytest.fixture(autouse=True)
def _gradient_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner of the user's own that does not say that it follows gradients."""
    members = dict.fromkeys(LEARNER_MEMBERS) | {"unit": "steps"}
    monkeypatch.setitem(sys.modules, "gradient_free", SimpleNamespace(Walk=type("Walk", (), members)))


@pytest.mark.parametrize(("settings", "clash"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_named(settings: dict[str, str], clash: str) -> None:
    problems = check(read([], list(settings.items())), 17, {})
    assert [problem for problem in problems if clash in problem.clash], problems
    assert all(problem.reason and problem.remedy for problem in problems)


@pytest.mark.parametrize(
    "settings",
    [
        REINFORCE,
        FEDPG,
        {"learner.name": "svrpg"},
        {"learner.name": "a2c"},
        {"learner.name": "dqn"},
        EXACT,
        CONTROLS | REINFORCE | {"aggregation.weighting": "uniform"},
        {"learner.name": "sac", "aggregation.update_kind": "gradient"},
        {"learner.name": "dqn", "learner.federate_target": "true", "aggregation.update_kind": "difference"},
        {"learner.name": "q_averaging", "mode": "independent"},
        {"learner.name": "own", "learner.id": "gradient_free:Walk"},
        {
            "learner.name": "own",
            "learner.id": "evolution_strategy:EvolutionStrategy",
            "aggregation.update_kind": "gradient",
        },
        TABLE | {"aggregation.weighting": "visits"},
        {
            "objective.control_variates": "true",
            "objective.proximal": "0.1",
            "objective.kl_coefficient": "1.0",
        },
        {"aggregation.update_kind": "gradient", "aggregation.server.name": "yogi", "learner.share": "trunk"},
    ],
    ids=str,
)
def test_what_fits_is_not_refused(settings: dict[str, str]) -> None:
    assert check(read([], list(settings.items())), 17, {}) == []


@pytest.mark.parametrize(
    "learner", {section.keys[0].value for section in alternatives() if section.name == "learner"} - {"own"}
)
def test_the_defaults_of_every_learner_fit_together(learner: str) -> None:
    settings = [("learner.name", learner), ("aggregation.weighting", "uniform")]
    assert check(read([], settings), 17, {}) == []
