"""Evaluating a run: reproducible, complete, and careful with what is damaged or missing."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.build import make_wire
from fdrl_mpi.build_agent import learner_class, make_environment, make_model
from fdrl_mpi.config import AggregationConfig, CommConfig, Config, EnvironmentConfig, ObjectiveConfig
from fdrl_mpi.config_file import read, to_toml
from fdrl_mpi.cross_evaluation import CrossEvaluation, CrossEvaluator
from fdrl_mpi.evaluate import WIDTH, format_text, main
from fdrl_mpi.federation.evaluation import Evaluation
from fdrl_mpi.fine_tuning import FineTuning, least_work
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.run_directory import RunDirectory
from fdrl_mpi.record.state_file import write_state
from fdrl_mpi.rl.dqn import EpsilonGreedy
from fdrl_mpi.rl.hyperparameters import NetworkConfig, PPOConfig, QLearningConfig
from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.rl.model import Model, PolicyModel
from fdrl_mpi.rl.network import NetworkShape, actor_critic_shape, initialise_mlp, mlp_layout
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.streams import stream
from fdrl_mpi.trained_run import Policies, TrainedRun, load_trained_run

SMALL = PPOConfig(network=NetworkConfig(hidden=(4,)))
QUICK = PPOConfig(network=NetworkConfig(hidden=(4,)), num_steps=16, num_epochs=2, lr=0.01)
SHAPE = actor_critic_shape(4, 2, 0, (4,), "tanh", False, observation_shape=(4,))
ONE_WORLD = EnvironmentConfig(heterogeneity={})

PUSH = """
import gymnasium, numpy
from gymnasium.spaces import Box, Discrete

class Push(gymnasium.Env):
    observation_space, action_space = Box(-9.0, 9.0, (2,)), Discrete(2)

    def __init__(self, masscart, **others):
        self.mass = masscart

    def reset(self, *, seed=None, options=None):
        self.left = 3
        return numpy.array([1.0, self.mass], numpy.float32), {}

    def step(self, action):
        self.left -= 1
        observation = numpy.array([self.left, self.mass], numpy.float32)
        return observation, self.mass * (1 + action), False, self.left == 0, {}
"""


def model(number: int, shape: NetworkShape = SHAPE) -> FloatVector:
    params = np.empty(mlp_layout(shape).size, np.float32)
    params[:] = stream(number, "model").normal(0.0, 1.0, len(params))
    return params


def balancing_model() -> FloatVector:
    """Push to where the pole falls, through one hidden unit that is almost linear."""
    params = np.zeros(mlp_layout(SHAPE).size, np.float32)
    views = mlp_layout(SHAPE).views(params)
    views["weight_0"][0, :, 0] = [0.005, 0.02, 0.4, 0.1]
    views["head_weight"][:2, 0] = [-1.0, 1.0]
    return params


def write_run(
    path: Path, config: Config, shared: FloatVector, own: list[FloatVector], round: int = 10
) -> Path:
    """Write what a run of `config` leaves; a federated agent's learner differs from the published model."""
    states: list[dict[str, Any]] = [{} if config.mode == "independent" else {"params": shared}]
    for agent, params in enumerate(own, 1):
        if config.mode == "independent":
            spoiled = np.full_like(params, np.nan)
            states.append({"params": params, "model": params, "learner": {"params": spoiled}})
        elif config.mode == "centralised" and agent > 1:
            states.append({"learner": {}})
        else:
            states.append({"learner": {"params": params}})
    return write_states(path, config, states, round)


def write_states(path: Path, config: Config, states: list[dict[str, Any]], round: int = 10) -> Path:
    """Write a checkpoint: the root's state and each agent's."""
    path.mkdir(exist_ok=True)
    RunDirectory(path).config.write_text(to_toml(config))
    store = CheckpointStore(path, keep=3)
    staging = store.prepare(round)
    files = {store.file_for(agent): state for agent, state in enumerate(states)}
    digests = {file: write_state(staging / file, state) for file, state in files.items()}
    store.commit(round, digests, {"agents": len(states) - 1})
    return path


def model_of(config: Config) -> Model:
    environment = make_environment(config.environment, [{}])
    return make_model(config.learner, config.seed, environment, "numpy", "cpu")


def write_published(
    path: Path, config: Config, shared: FloatVector, own: list[FloatVector], company: float = 0.0
) -> Path:
    """Write what a run leaves that publishes what its wire says; `company` fills what goes with a model.

    What does not travel is `shared` in the root's model, and an agent's own in the agent's.
    """
    wire = make_wire(config, model_of(config))
    published = np.full(wire.length, company, np.float32)
    wire.parameters(published)[:] = wire.shared(shared)
    root: dict[str, Any] = {"server": {}}
    states: list[dict[str, Any]] = [{"learner": {"params": params}} for params in own]
    is_global = config.comm.collective != "gossip"
    if is_global:
        root["params"] = published
    if is_global and wire.acts and not wire.is_plain:
        root["model"] = wire.model(published, shared)
    for state, params in zip(states, own, strict=True):
        if not is_global:
            state["params"] = published
        if not (is_global and wire.is_whole):
            state["model"] = wire.model(published, params)
    return write_states(path, config, [root, *states])


def evaluate(path: Path, episodes: int = 2, unseen: int = 0, fine_tune: int = 0) -> CrossEvaluation:
    return CrossEvaluator(load_trained_run(path), episodes, unseen, fine_tune).run(lambda what: None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Make a federated run of three agents in three worlds."""
    return write_run(tmp_path / "run", Config(learner=SMALL), model(0), [model(1), model(2), model(3)])


@pytest.fixture(autouse=True)
def _unchanged_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this process's thread variables and its arithmetic as they are."""
    monkeypatch.setattr("fdrl_mpi.evaluate.prepare_process", lambda: None)
    monkeypatch.setattr("fdrl_mpi.rl.denormals.flush_denormals", lambda: False)


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, dict[str, Any]]:
    assert main([*arguments, "--json"]) == 0
    text, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    return text, json.loads(last, parse_constant=refuse_constant)


def damage(path: Path, round: int, file: str) -> None:
    target = path / "checkpoints" / f"round_{round:06d}" / file
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)


def test_two_evaluations_print_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, str(run)) == printed(capsys, str(run))


def test_json_has_a_return_for_every_pair(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, answer = printed(capsys, str(run), "--episodes", "2", "--unseen", "5")
    assert np.shape(answer["table"]) == (3, 3)
    assert np.shape(answer["global_returns"]) == np.shape(answer["contexts"]) == (3,)
    assert np.shape(answer["unseen_returns"]) == np.shape(answer["unseen_contexts"]) == (5,)
    assert (answer["episodes"], answer["round"], answer["agents"]) == (2, 10, 3)
    assert answer["global_mean_return"] == pytest.approx(np.mean(answer["global_returns"]))
    assert answer["unseen_mean_return"] == pytest.approx(np.mean(answer["unseen_returns"]))
    assert answer["worst_agent_return"] == min(answer["global_returns"])
    assert all(world not in answer["contexts"] for world in answer["unseen_contexts"])


def test_diagonal_is_what_the_agents_world_alone_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "push_worlds.py").write_text(PUSH)
    monkeypatch.syspath_prepend(tmp_path)
    worlds = EnvironmentConfig().heterogeneity
    config = Config(learner=SMALL, environment=EnvironmentConfig(id="push_worlds:Push", heterogeneity=worlds))
    shape = actor_critic_shape(2, 2, 0, (4,), "tanh", False)
    own = [model(agent, shape) for agent in range(1, 6)]
    path = write_run(tmp_path / "run", config, model(0, shape), own)
    result = evaluate(path)
    table = result.table()
    assert table is not None
    for agent, world in enumerate(result.worlds):
        environment = make_environment(config.environment, [world])
        alone = Evaluation(environment, result.run.model(environment), 1, seed=99).run(own[agent])
        assert table[agent, agent] == alone.returns[0]
    assert len(set(table.ravel().tolist())) > 5  # both actions occur


def test_equal_policies_earn_equal_rows(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", Config(learner=SMALL), model(1), [model(1), model(1), model(2)])
    result = evaluate(path)
    assert result.own is not None
    np.testing.assert_array_equal(result.own[0], result.shared)
    np.testing.assert_array_equal(result.own[1], result.shared)
    assert not np.array_equal(result.own[2], result.shared)


def test_number_of_unseen_worlds_leaves_the_table_alone(run: Path) -> None:
    none, some = evaluate(run, unseen=0), evaluate(run, unseen=3)
    np.testing.assert_array_equal(none.own, some.own)
    assert none.unseen is None
    assert some.unseen is not None
    assert some.unseen.shape == (3, 2)


def test_a_policy_that_balances_beats_a_fresh_one(tmp_path: Path) -> None:
    fresh = np.empty(mlp_layout(SHAPE).size, np.float32)
    initialise_mlp(SHAPE, fresh, stream(0, "network"))
    result = evaluate(write_run(tmp_path / "run", Config(learner=SMALL), balancing_model(), [fresh, fresh]))
    assert result.shared is not None
    assert result.own is not None
    assert result.shared.mean() > 400.0
    assert result.own.mean() < 150.0


def test_other_worlds_are_other_worlds(run: Path, tmp_path: Path) -> None:
    same = Config(learner=SMALL, environment=ONE_WORLD)
    path = write_run(tmp_path / "same", same, model(0), [model(1), model(2), model(3)])
    assert not np.array_equal(evaluate(path).own, evaluate(run).own)
    assert evaluate(path).worlds == [{}, {}, {}]
    assert "1.0" in format_text(evaluate(path))


def test_independent_run_has_no_global_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(learner=SMALL, mode="independent")
    path = write_run(tmp_path / "run", config, model(0), [balancing_model(), model(2)])
    text, answer = printed(capsys, str(path))
    assert "no global policy" in text
    assert not re.search(r"^ *global", text, re.MULTILINE)
    names = ("global_mean_return", "global_returns", "unseen_mean_return", "unseen_returns")
    assert [answer[name] for name in names] == [None] * 4
    assert answer["table"][0][0] > 400.0
    assert answer["worst_agent_return"] == min(answer["table"][0][0], answer["table"][1][1])


def test_centralised_run_has_only_the_global_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(learner=SMALL, mode="centralised")
    path = write_run(tmp_path / "run", config, balancing_model(), [model(1), model(2)])
    text, answer = printed(capsys, str(path))
    assert answer["table"] == [[None, None], [None, None]]
    assert answer["global_mean_return"] > 400.0
    assert answer["own_mean_return"] is None
    assert text.splitlines()[-2].split() == ["policy", "1", "2", "mean"]
    assert text.splitlines()[-1].split()[0] == "global"


def test_table_by_hand() -> None:
    own = np.array([[10.0, 20.0], [30.0, 41.0]])[:, :, None] + np.array([-1.0, 1.0])
    result = fabricated(own, own.mean(axis=0))
    assert format_text(result).splitlines()[-6:] == [
        "Mean return of each policy (row) in each agent's world (column); * its own world:",
        "policy     1     2   mean",
        "     1  10.0* 20.0   15.0",
        "     2  30.0  41.0*  35.5",
        "  mean  20.0  30.5   25.2",
        "global  20.0  30.5   25.2",
    ]


@pytest.mark.parametrize("scale", [500.0, -1999.0, 0.9])
def test_table_of_sixteen_agents_fits_a_terminal(scale: float) -> None:
    draws = stream(0, "returns")
    text = format_text(fabricated(draws.random((16, 16, 4)) * scale, draws.random((16, 4)) * scale))
    assert "Mean return of each policy" in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_table_of_sixty_four_agents_is_left_to_json() -> None:
    own = stream(0, "returns").random((64, 64, 4)) * 500.0
    text = format_text(fabricated(own, own[0]))
    assert "all policies here" in text
    assert text.endswith("64 x 64 returns is too wide to print; --json has it.")
    assert max(map(len, text.splitlines())) <= WIDTH
    assert len(text.splitlines()) < 80


def test_what_is_not_finite_is_null_in_json() -> None:
    own = np.array([[[np.nan], [1.0]], [[np.inf], [2.0]]])
    answer = fabricated(own, own[0]).as_json()
    assert answer["table"] == [[None, 1.0], [None, 2.0]]
    assert answer["global_returns"] == [None, 1.0]
    assert answer["worst_agent_return"] is None
    json.dumps(answer, allow_nan=False)


def test_what_is_not_a_number_is_a_dash_in_the_text() -> None:
    own = np.array([[[np.nan], [1.0]], [[3.0], [2.0]]])
    text = format_text(fabricated(own, own[0]))
    assert "nan" not in text
    assert text.splitlines()[-1].split() == ["global", "–", "1.000", "–"]


def fabricated(own: np.ndarray, shared: np.ndarray) -> CrossEvaluation:
    worlds = [dict.fromkeys(EnvironmentConfig().heterogeneity, 1.2345) for _ in own]
    run = TrainedRun(RunDirectory("runs/x"), Config(), 7, Policies(None, [], len(own)), [])
    return CrossEvaluation(run, own.shape[2], worlds, [], shared, None, own)


def test_asked_for_round_is_read(run: Path) -> None:
    write_run(run, Config(learner=SMALL), model(9), [model(1), model(2), model(3)], round=20)
    assert load_trained_run(run).round == 20
    np.testing.assert_array_equal(load_trained_run(run, 10).policies.shared, model(0))


def test_damaged_checkpoint_gives_way_to_the_older_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = printed(capsys, str(run))
    write_run(run, Config(learner=SMALL), model(9), [model(1), model(2), model(3)], round=20)
    damage(run, 20, "agent_0002.h5")
    assert main([str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1]) == expected[1]
    assert "round 20 is damaged" in err
    assert "round 10 is used" in err


def test_nothing_whole_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(run, 10, "global.h5")
    assert main([str(run)]) == 2
    assert "no checkpoint is whole" in capsys.readouterr().err


def test_checkpoint_replaced_while_it_is_read_leads_to_the_new_one(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, pending = CheckpointStore.load, [True]

    def load_late(store: CheckpointStore, round: int, file: str) -> dict[str, Any]:
        if pending and file == "agent_0001.h5":
            pending.clear()
            write_run(run, Config(learner=SMALL), model(9), [model(1), model(2), model(3)], round=20)
            (run / "checkpoints" / "round_000010" / file).unlink()
        return load(store, round, file)

    monkeypatch.setattr(CheckpointStore, "load", load_late)
    trained = load_trained_run(run)
    assert (trained.round, trained.damage) == (20, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/none"], "there is no such run directory"),
        (["{tmp}"], "has no config.toml"),
        (["{tmp}/fresh"], "has no checkpoint yet"),
        (["{tmp}/run", "--round", "7"], "has no checkpoint of round 7, but of 10"),
        (["{tmp}/run", "--episodes", "0"], "0 is not a whole number of at least 1"),
        (["{tmp}/run", "--unseen", "few"], "few is not a whole number of at least 0"),
        (["{tmp}/run", "--fine-tune", "-1"], "-1 is not a whole number of at least 0"),
        (["{tmp}/misfit"], "describes a model of 9155 parameters, the checkpoint has 55"),
        (["{tmp}/unknown"], "gravityy"),
    ],
)
def test_bad_input_is_refused_with_a_message(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "config.toml").write_text(to_toml(Config()))
    write_run(tmp_path / "misfit", Config(), model(0), [model(1)])
    unknown = EnvironmentConfig(heterogeneity={"gravityy": EnvironmentConfig().heterogeneity["gravity"]})
    write_run(tmp_path / "unknown", Config(learner=SMALL, environment=unknown), model(0), [model(1)])
    capsys.readouterr()
    try:
        status: object = main([argument.format(tmp=tmp_path) for argument in arguments])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_model_comes_with_control_variates_and_is_told_from_them(tmp_path: Path) -> None:
    config = Config(learner=SMALL, objective=ObjectiveConfig(control_variates=True))
    path = write_published(tmp_path / "run", config, model(0), [model(1), model(2)], company=7.0)
    policies = load_trained_run(path).policies
    assert policies.common == "model"
    np.testing.assert_array_equal(policies.shared, model(0))
    np.testing.assert_array_equal(policies.own, [model(1), model(2)])


def test_table_comes_in_pairs_with_weights_and_is_told_from_them(tmp_path: Path) -> None:
    config = Config(
        environment=EnvironmentConfig(id="WindyCliff", heterogeneity={}),
        learner=QLearningConfig(),
        aggregation=AggregationConfig(weighting="visits"),
    )
    table, *own = (stream(agent, "table").random(64, np.float32) for agent in range(3))
    policies = load_trained_run(write_published(tmp_path / "run", config, table, own, company=7.0)).policies
    assert policies.common == "model"
    np.testing.assert_array_equal(policies.shared, table)
    np.testing.assert_array_equal(policies.own, own)


def test_with_a_shared_actor_agents_act_alike_and_keep_their_critics(tmp_path: Path) -> None:
    config = Config(learner=replace(SMALL, share="actor"))
    path = write_published(tmp_path / "run", config, model(0), [model(1), model(2)])
    result = evaluate(path)
    policies, critic = result.run.policies, model_of(config).pieces["critic.0.weight"]
    assert policies.common == "part"
    np.testing.assert_array_equal(policies.begins()[1][critic], model(2)[critic])
    assert result.own is not None
    np.testing.assert_array_equal(result.own[0], result.shared)
    np.testing.assert_array_equal(result.own[1], result.shared)


@pytest.mark.parametrize("control_variates", [False, True])
def test_with_a_shared_trunk_there_are_personal_models_only(
    tmp_path: Path, control_variates: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = ObjectiveConfig(control_variates=control_variates)
    config = Config(learner=replace(QUICK, share="trunk"), objective=objective)
    path = write_published(tmp_path / "run", config, model(0), [model(1), model(2)])
    policies = load_trained_run(path).policies
    assert (policies.shared, policies.common) == (None, "part")
    trunk, head = (model_of(config).pieces[name] for name in ("actor.0.weight", "actor.2.weight"))
    np.testing.assert_array_equal(policies.own[1][trunk], model(0)[trunk])
    np.testing.assert_array_equal(policies.own[1][head], model(2)[head])
    text, answer = printed(capsys, str(path), "--fine-tune", "128")
    assert "no global policy: what agents have in common is not enough to act" in text
    assert "from what is common and the agent's own part, by 128 steps of ppo" in text
    assert len(answer["fine_tuned_returns"]) == 2


def test_part_that_is_as_long_as_a_model_is_no_model(tmp_path: Path) -> None:
    config = Config(learner=replace(SMALL, share="trunk"), objective=ObjectiveConfig(control_variates=True))
    own = [model(1), model(2)]
    states: list[dict[str, Any]] = [{"learner": {"params": params}, "model": params} for params in own]
    path = write_states(tmp_path / "run", config, [{"params": model(0)}, *states])
    assert load_trained_run(path).policies.shared is None


LEARNERS = {
    "ppo": {"learner.num_steps": "16", "learner.num_epochs": "2", "learner.budget": "128"},
    "a2c": {},
    "reinforce": {},
    "svrpg": {"learner.inner_steps": "1"},
    "dqn": {"learner.learning_starts": "32", "learner.batch_size": "16"},
    "sac": {"environment.id": "Pendulum-v1"},
    "q_learning": {"environment.id": "WindyCliff"},
    "q_averaging": {"environment.id": "RandomMDP"},
    "td": {"environment.id": "RewardProcess"},
}


def configured(name: str, others: dict[str, str]) -> Config:
    settings = {"learner.name": name, "environment.heterogeneity": "{}", **LEARNERS[name], **others}
    return read([], list(settings.items()))


@pytest.mark.parametrize("name", LEARNERS)
def test_least_work_is_what_a_learner_spends(name: str) -> None:
    config = configured(name, {})
    num_envs, least = config.environment.num_envs, least_work(config)
    environment = make_environment(config.environment, [{}] * num_envs)
    model = make_model(config.learner, 0, environment, "numpy", "cpu")
    learner = learner_class(name)(config.learner, model, environment, LocalObjective())
    stats = learner.train(Budget(least, config.learner.lr, stream(0, "train")))
    spent = {"steps": stats.env_steps, "episodes": len(stats.episodes), "sweeps": stats.gradient_steps}
    inner = num_envs if name == "svrpg" else 0  # episodes of its inner loop are not in the budget
    assert spent[learner.unit] - inner == least
    assert learner.train(Budget(least - 1, config.learner.lr, stream(0, "train"))).gradient_steps == 0


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "q_averaging"])
def test_fine_tuning_without_work_leaves_the_global_model(tmp_path: Path, name: str) -> None:
    config = configured(name, {})
    size = len(model_of(config).params)
    shared, own = (stream(number, "model").random(size, np.float32) for number in range(2))
    tuning = FineTuning(load_trained_run(write_run(tmp_path / "run", config, shared, [own, own])), 0)
    assert tuning.work == 0
    np.testing.assert_array_equal(tuning.model(1), shared)
    np.testing.assert_array_equal(tuning.model(2), shared)


def test_fine_tuning_in_tiny_steps_earns_what_the_global_model_does(tmp_path: Path) -> None:
    config = Config(learner=replace(QUICK, lr=1e-12))
    path = write_run(tmp_path / "run", config, model(0), [model(1), model(2), model(3)])
    result = evaluate(path, fine_tune=256)
    np.testing.assert_array_equal(result.fine_tuned, result.shared)
    np.testing.assert_allclose(FineTuning(result.run, 256).model(2), model(0), rtol=0.0, atol=1e-9)


def test_fine_tuning_is_reproducible_and_changes_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_run(tmp_path / "run", Config(learner=QUICK), model(0), [model(1), model(2)])
    first = printed(capsys, str(path), "--fine-tune", "1000")
    assert printed(capsys, str(path), "--fine-tune", "1000") == first
    text, answer = first
    assert "from the global policy, by 1024 steps of ppo, the least it can spend from 1000 on" in text
    assert (answer["fine_tuning_work"], answer["fine_tuning_unit"]) == (1024, "steps")
    assert answer["fine_tuned_mean_return"] == pytest.approx(np.mean(answer["fine_tuned_returns"]))
    without = printed(capsys, str(path))[1]
    tuned = {name for name in answer if name.startswith("fine_tun")}
    assert {name for name in answer if answer[name] != without[name]} == tuned
    assert all(without[name] is None for name in tuned)


def test_agents_fine_tune_in_their_own_worlds(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", Config(learner=QUICK), model(0), [model(1), model(2)])
    tuning = FineTuning(load_trained_run(path), 128)
    assert not np.array_equal(tuning.model(1), tuning.model(2))
    assert not np.array_equal(tuning.model(1), model(0))


def test_exact_sweeps_fine_tune_to_the_best_policy_of_a_world(tmp_path: Path) -> None:
    config = configured("q_averaging", {"learner.lr": "1.0"})
    worst = -model_of(config).params
    worst[0::5] = 1.0
    result = evaluate(write_run(tmp_path / "run", config, worst, [worst, worst]), fine_tune=200)
    assert result.fine_tuned is not None
    assert result.shared is not None
    assert result.fine_tuned.mean() > result.shared.mean() + 1.0


def test_steps_that_only_fill_a_memory_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configured("dqn", {"environment.num_envs": "4"})
    own = [model_of(config).params] * 2
    path = write_run(tmp_path / "run", config, own[0], own)
    text, answer = printed(capsys, str(path), "--fine-tune", "24")
    assert "by 24 steps of dqn; the first 32 only fill a memory" in text
    assert answer["fine_tuned_returns"] == answer["global_returns"]


def test_fine_tuning_explores_as_at_the_end_of_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[float] = []
    noise = EpsilonGreedy.noise

    def watched(policy: EpsilonGreedy, generator: np.random.Generator, steps: int, n: int) -> np.ndarray:
        played.extend(policy.epsilon.tolist())
        return noise(policy, generator, steps, n)

    monkeypatch.setattr(EpsilonGreedy, "noise", watched)
    config = configured("dqn", {})
    own = [model_of(config).params]
    tuning = FineTuning(load_trained_run(write_run(tmp_path / "run", config, own[0], own)), 64)
    tuning.model(1)
    assert set(played) == {0.05}


def test_what_fine_tuning_keeps_of_the_run_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, more in (("dqn", "; epsilon stays where its schedule ends"), ("ppo", "")):
        config = configured(name, {})
        own = [model_of(config).params]
        text, _ = printed(capsys, str(write_run(tmp_path / name, config, own[0], own)), "--fine-tune", "8")
        assert f"optimiser state and memory begin anew{more}\n" in text


def test_what_an_own_policy_is_stands_below_its_return(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = Config(learner=replace(SMALL, share="trunk"))
    write_published(tmp_path / "part", part, model(0), [model(1), model(2)])
    alone = Config(learner=SMALL, mode="independent")
    write_run(tmp_path / "alone", alone, model(0), [model(1), model(2)])
    meanings = {
        run: "what its agent's last training left, before it was aggregated",
        tmp_path / "part": "what is common, with its agent's own part of the rest",
        tmp_path / "alone": "the model its agent would go on from",
    }
    for path, meaning in meanings.items():
        text, _ = printed(capsys, str(path))
        assert re.search(rf"^Own policies, .*\n    an own policy is {meaning}$", text, re.MULTILINE)


def test_centralised_model_is_fine_tuned_by_each_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(learner=QUICK, mode="centralised")
    path = write_run(tmp_path / "run", config, model(0), [model(1), model(2)])
    text, answer = printed(capsys, str(path), "--fine-tune", "128")
    assert "by 128 steps of ppo\n" in text
    assert len(answer["fine_tuned_returns"]) == 2


def test_without_anything_in_common_nothing_is_fine_tuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Config(learner=QUICK, mode="independent")
    gossip = Config(learner=replace(QUICK, share="trunk"), comm=CommConfig(collective="gossip"))
    write_run(tmp_path / "alone", alone, model(0), [model(1), model(2)])
    write_published(tmp_path / "gossip", gossip, model(0), [model(1), model(2)])
    for name in ("alone", "gossip"):
        text, answer = printed(capsys, str(tmp_path / name), "--fine-tune", "128")
        assert "no model in common to begin with" in text
        assert "fine-tuned" not in text.splitlines()[3]
        assert (answer["fine_tuned_returns"], answer["fine_tuned_mean_return"]) == (None, None)


def test_fine_tuning_that_diverges_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = Config(learner=replace(QUICK, lr=1e30))
    path = write_run(tmp_path / "run", config, model(0), [model(1)])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(FineTuning(load_trained_run(path), 128).model(1), model(0))
    assert "agent 1: its fine-tuning diverged" in caplog.text


def test_network_fits_the_environment() -> None:
    environment = make_environment(ONE_WORLD, [{}])
    model = make_model(SMALL, 0, environment, "numpy", "cpu")
    assert isinstance(model, PolicyModel)
    assert model.network.shape == SHAPE


def test_neither_mpi_nor_torch_is_loaded(run: Path) -> None:
    script = (
        "import sys; from fdrl_mpi.evaluate import main; status = main(sys.argv[1:]);"
        "print('loaded:', sorted({'torch', 'mpi4py', 'matplotlib'} & set(sys.modules)), status)"
    )
    arguments = [sys.executable, "-c", script, str(run), "--episodes", "1"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "loaded: [] 0"
    assert done.stderr == ""
