"""Exported policies: complete, and usable without this program."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors import safe_open

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.build_agent import engine_of, make_environment, make_model
from fdrl_mpi.config import Config, EnvironmentConfig
from fdrl_mpi.config_file import to_toml
from fdrl_mpi.export import main
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.state_file import write_state
from fdrl_mpi.rl.hyperparameters import DQNConfig, LearnerConfig, NetworkConfig, PPOConfig, QLearningConfig
from fdrl_mpi.rl.model import PolicyModel
from fdrl_mpi.streams import stream
from fdrl_mpi.trained_run import load_trained_run

MakeRun = Callable[..., Path]
TABLES = ("rounds", "agents", "worlds", "variables")
CARTPOLE = Config(learner=PPOConfig(network=NetworkConfig(hidden=(5, 3))))
PENDULUM = Config(
    environment=EnvironmentConfig(id="Pendulum-v1", heterogeneity={}),
    learner=PPOConfig(network=NetworkConfig(hidden=(6, 4), activation="relu", shared=True)),
)
CATCH = Config(
    environment=EnvironmentConfig(id="Catch", heterogeneity={}),
    learner=PPOConfig(network=NetworkConfig(convolutions=((4, 3, 2), (5, 2, 1)), hidden=(6,))),
)
WIDE_CATCH = Config(
    environment=EnvironmentConfig(id="Catch", heterogeneity={}, kwargs={"columns": 12}),
    learner=PPOConfig(network=NetworkConfig(convolutions=((4, 3, 1),), hidden=(6,), shared=True)),
)

# What another program does with `policy.json` and one of the files beside it.
LOADER = """
import json, sys
from collections import OrderedDict
sys.modules["fdrl_mpi"] = None
from pathlib import Path
import numpy, torch
from safetensors.torch import load_file
from torch import nn

def modules(sizes, activation, ends_linear):
    layers = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*(layers[:-1] if ends_linear else layers))

def convolutions(facts):
    channels, layers = facts["channels"], []
    for inputs, outputs, kernel, stride in zip(channels, channels[1:], facts["kernels"], facts["strides"]):
        layers += [nn.Conv2d(inputs, outputs, kernel, stride), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())

folder = Path(sys.argv[1])
facts = json.loads((folder / "policy.json").read_text())
activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[facts["activation"]]
observations = torch.from_numpy(numpy.load(folder / "observations.npy"))
seen = facts["convolutions"]
if seen:
    observations = observations.reshape(-1, *facts["observation_shape"]).movedim(1 + seen["channel_axis"], 1)
for tensors in (load_file(folder / "policy.safetensors"), torch.load(folder / "policy.pt")):
    log_std = tensors.pop("log_std", None)
    assert facts["log_std"] == (None if log_std is None else log_std.tolist())
    network = nn.Module()
    for name, sizes in facts["layers"].items():
        is_head = "trunk" in facts["layers"] and name != "trunk"
        module = nn.Linear(*sizes) if is_head else modules(sizes, activation, name != "trunk")
        if seen and not is_head:
            parts = [("conv", convolutions(seen)), *module.named_children()]
            module = nn.Sequential(OrderedDict(parts))
        network.add_module(name, module)
    network.load_state_dict(tensors)
    hidden = network.trunk(observations) if "trunk" in facts["layers"] else observations
    outputs = torch.cat([network.actor(hidden), network.critic(hidden)], dim=1)
    numpy.testing.assert_allclose(
        outputs.detach().numpy().T, numpy.load(folder / "outputs.npy"), rtol=1e-6, atol=1e-5
    )
"""

MODULE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, observation_size, num_outputs):
        super().__init__()
        self.only = nn.Linear(observation_size, num_outputs + 1)

    def forward(self, observations):
        return self.only(observations)
"""

DIALS = """
import gymnasium
from gymnasium import spaces

class Dials(gymnasium.Env):
    observation_space = spaces.Box(0.0, 1.0, (2,))
    action_space = spaces.MultiDiscrete([3, 4], start=[-1, 2])
"""

FILM = """
import gymnasium
import numpy as np
from gymnasium import spaces

class Film(gymnasium.Env):
    observation_space = spaces.Box(0, 255, (4, 5, 3), np.uint8)
    action_space = spaces.Discrete(2)
"""


def write_run(path: Path, config: Config, num_agents: int = 2) -> Path:
    """Write what a run leaves; the models are random, that of the root has number 0."""
    path.mkdir()
    (path / "config.toml").write_text(to_toml(config))
    store = CheckpointStore(path, keep=1)
    staging, size = store.prepare(3), num_params(config)
    digests = {}
    for agent in range(num_agents + 1):
        shared, learner = {"params": model(agent, size)}, {"learner": {"params": model(agent, size)}}
        is_trained = config.mode != "centralised" or agent == 1
        if config.mode == "independent":
            state = shared | learner if agent else {}
        elif getattr(config.learner, "share", "all") != "all" and agent:
            state = learner | {"model": model(agent, size)}
        else:
            state = (learner if is_trained else {"learner": {}}) if agent else shared
        digests[store.file_for(agent)] = write_state(staging / store.file_for(agent), state)
    store.commit(3, digests, {"agents": num_agents})
    return path


def model(number: int, size: int) -> FloatVector:
    return stream(number, "model").normal(0.0, 0.5, size).astype(np.float32)


def num_params(config: Config) -> int:
    environment = make_environment(config.environment, [{}])
    engine = engine_of(config.learner, "cpu")
    return len(make_model(config.learner, 0, environment, engine, "cpu").params)


def facts_in(folder: Path, stem: str = "policy") -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / f"{stem}.json").read_text())
    return facts


def tensors_in(folder: Path, stem: str = "policy") -> dict[str, np.ndarray]:
    with safe_open(folder / f"{stem}.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


@pytest.fixture(autouse=True)
def _unchanged_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this process's thread variables as they are."""
    monkeypatch.setattr("fdrl_mpi.export.prepare_process", lambda: None)


@pytest.mark.parametrize(
    "config",
    [CARTPOLE, PENDULUM, CATCH, WIDE_CATCH],
    ids=["separate tanh", "shared relu", "separate convolutions", "shared convolutions"],
)
def test_policy_acts_alike_in_plain_torch_without_this_program(config: Config, tmp_path: Path) -> None:
    path, folder = write_run(tmp_path / "run", config), tmp_path / "run" / "exported"
    assert main([str(path), "--format", "both"]) == 0
    run = load_trained_run(path)
    model = run.model(make_environment(config.environment, [{}]))
    assert isinstance(model, PolicyModel)
    network = model.network
    network.params[:] = run.policies.shared
    network.load()
    size = facts_in(folder)["observation_size"]
    observations = stream(0, "observations").standard_normal((11, size), dtype=np.float32)
    np.save(folder / "observations.npy", observations)
    np.save(folder / "outputs.npy", network.forward(observations))
    command = [sys.executable, "-W", "error", "-c", LOADER, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_agents_own_policies_lie_beside_the_global_one_and_differ(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", CARTPOLE)
    folder = path / "exported"
    for arguments in ([], ["--agent", "1"], ["--agent", "2"]):
        assert main([str(path), *arguments]) == 0
    assert facts_in(folder)["agent"] is None
    own = facts_in(folder, "policy_agent_2")
    assert (own["agent"], own["files"]) == (2, ["policy_agent_2.safetensors"])
    assert set(own["context"]) == set(CARTPOLE.environment.heterogeneity)
    run = load_trained_run(path)
    model = run.model(make_environment(CARTPOLE.environment, [{}]))
    for name, params in {"policy": run.policies.shared, "policy_agent_2": run.policies.own[1]}.items():
        model.params[:] = params
        tensors = tensors_in(folder, name)
        assert tensors.keys() == model.state_dict().keys()
        for key, tensor in model.state_dict().items():
            np.testing.assert_array_equal(tensors[key], tensor)


@pytest.mark.parametrize(
    ("environment_id", "order"),
    [("CartPole-v1", "that of gymnasium's CartPole-v1"), ("TwoState", "the state")],
)
def test_order_of_an_observation_is_told(environment_id: str, order: str, tmp_path: Path) -> None:
    config = Config(environment=EnvironmentConfig(id=environment_id, heterogeneity={}))
    assert main([str(write_run(tmp_path / "run", config))]) == 0
    assert order in facts_in(tmp_path / "run" / "exported")["observation_order"]


@pytest.mark.parametrize(
    ("learner", "environment_id", "rule"),
    [
        (QLearningConfig(), "WindyCliff", "the largest entry in the state's row of q, counted from 0"),
        (DQNConfig(), "CartPole-v1", "the largest output of q, counted from 0"),
        (DQNConfig(dueling=True), "CartPole-v1", "the largest output of advantage, counted from 0"),
        (CARTPOLE.learner, "CartPole-v1", "the actor's largest output, counted from 0"),
    ],
)
def test_what_decides_on_an_action_is_named(
    learner: LearnerConfig, environment_id: str, rule: str, tmp_path: Path
) -> None:
    world = EnvironmentConfig(id=environment_id, heterogeneity={})
    assert main([str(write_run(tmp_path / "run", Config(environment=world, learner=learner)))]) == 0
    assert facts_in(tmp_path / "run" / "exported")["greedy_action"].endswith(f"index of {rule}")


def test_what_is_federated_is_told(tmp_path: Path) -> None:
    part = Config(learner=replace(CARTPOLE.learner, share="actor"))
    alone = Config(learner=CARTPOLE.learner, mode="independent")
    for number, (config, told) in enumerate([(CARTPOLE, "all"), (part, "actor"), (alone, None)]):
        path = write_run(tmp_path / str(number), config)
        assert main([str(path), "--agent", "1"]) == 0
        assert facts_in(path / "exported", "policy_agent_1")["federated"] == told


def test_metadata_repeats_the_facts_as_text(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", PENDULUM)
    assert main([str(path)]) == 0
    facts = facts_in(path / "exported")
    assert facts.pop("files") == ["policy.safetensors"]
    with safe_open(path / "exported" / "policy.safetensors", "np") as file:
        texts = file.metadata()
    assert texts == {
        name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()
    }
    assert facts["layers"] == {"trunk": [3, 6, 4], "actor": [4, 1], "critic": [4, 1]}
    assert facts["convolutions"] is None
    assert (facts["action_kind"], facts["action_low"], facts["action_high"]) == ("box", [-2.0], [2.0])
    assert (facts["round"], facts["environment"], facts["run"]) == (3, "Pendulum-v1", str(path.resolve()))


def test_several_choices_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows `greedy_action` acts as this program does."""
    (tmp_path / "own_dials.py").write_text(DIALS)
    monkeypatch.syspath_prepend(tmp_path)
    world = EnvironmentConfig(id="own_dials:Dials", heterogeneity={})
    path = write_run(tmp_path / "run", Config(environment=world, learner=CARTPOLE.learner))
    assert main([str(path)]) == 0
    facts = facts_in(path / "exported")
    assert (facts["action_kind"], facts["action_size"], facts["action_sizes"]) == (
        "multi_discrete",
        7,
        [3, 4],
    )
    assert (facts["action_low"], facts["action_high"]) == ([-1, 2], [1, 5])
    assert facts["layers"]["actor"] == [2, 5, 3, 7]
    model = load_trained_run(path).model(make_environment(world, [{}]))
    assert isinstance(model, PolicyModel)
    network, distribution = model.network, model.distribution
    outputs = network.forward(stream(0, "observations").standard_normal((11, 2), dtype=np.float32))[:-1]
    parts = np.split(outputs, np.cumsum(facts["action_sizes"])[:-1])
    expected = np.stack([low + part.argmax(0) for low, part in zip(facts["action_low"], parts, strict=True)])
    np.testing.assert_array_equal(distribution.greedy(outputs) + facts["action_low"], expected.T)


def test_images_are_described_as_the_policy_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_film.py").write_text(FILM)
    monkeypatch.syspath_prepend(tmp_path)
    world = EnvironmentConfig(id="own_film:Film", heterogeneity={})
    path = write_run(tmp_path / "run", Config(environment=world, learner=CARTPOLE.learner))
    assert main([str(path)]) == 0
    facts = facts_in(path / "exported")
    assert (facts["observation_size"], facts["observation_shape"]) == (60, [4, 5, 3])
    assert facts["observation_divisor"] == 255.0


def test_convolutions_are_described(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", CATCH)
    assert main([str(path)]) == 0
    facts = facts_in(path / "exported")
    order = facts["convolutions"].pop("order")
    assert facts["convolutions"] == {
        "channel_axis": 2,
        "channels": [1, 4, 5],
        "kernels": [3, 2],
        "strides": [2, 1],
    }
    assert facts["layers"] == {"actor": [5 * 3 * 3, 6, 3], "critic": [5 * 3 * 3, 6, 1]}
    assert facts["tensors"]["critic.conv.2.weight"] == [5, 4, 2, 2]
    assert "channel by channel" in order
    assert "top to bottom" in facts["observation_order"]


def test_everybody_may_read_what_the_user_allows(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", CARTPOLE)
    assert main([str(path), "--format", "both"]) == 0
    modes = {file.stat().st_mode for file in (path / "exported").iterdir()}
    assert modes == {(path / "config.toml").stat().st_mode}


def test_own_module_keeps_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    network = NetworkConfig(module="own_net:Net")
    config = Config(environment=PENDULUM.environment, learner=PPOConfig(network=network))
    path = write_run(tmp_path / "run", config)
    assert main([str(path)]) == 0
    facts = facts_in(path / "exported")
    assert (facts["module"], facts["layers"]) == ("own_net:Net", None)
    assert facts["tensors"] == {"only.weight": [2, 3], "only.bias": [2], "log_std": [1]}
    flat = [tensors_in(path / "exported")[name].ravel() for name in facts["tensors"]]
    np.testing.assert_array_equal(np.concatenate(flat), model(0, 9))


@pytest.mark.parametrize(
    ("mode", "arguments", "message"),
    [
        ("independent", [], "there is no global policy\n    choose --agent 1 to 2"),
        ("centralised", ["--agent", "1"], "leave out --agent"),
        ("federated", ["--agent", "3"], "there is no agent 3\n    choose --agent 1 to 2"),
        ("federated", ["--agent", "0"], "there is no agent 0"),
        ("federated", ["--round", "8"], "has no checkpoint of round 8, but of 3"),
    ],
)
def test_policy_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: Any, arguments: list[str], message: str
) -> None:
    path = write_run(tmp_path / "run", Config(mode=mode, learner=CARTPOLE.learner))
    assert main([str(path), *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert not (path / "exported").exists()


def test_missing_library_is_named_and_torch_still_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(tmp_path / "run", CARTPOLE)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert main([str(path)]) == 2
    assert 'pip install "fdrl-mpi[export]"' in capsys.readouterr().err
    assert main([str(path), "--format", "torch"]) == 0
    assert facts_in(path / "exported")["files"] == ["policy.pt"]


def test_paths_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path / "run", CARTPOLE)
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(path / "exported" / name) for name in ("policy.safetensors", "policy.json")]
    assert all(Path(line).is_file() for line in printed)


def test_numbers_are_written_beside_the_policy(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    assert main([str(run), "--to", "csv"]) == 0
    written = capsys.readouterr().out.splitlines()
    assert written == [str(run / "exported" / "csv" / f"{name}.csv") for name in TABLES]
    assert all(Path(path).is_file() for path in written)


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_tracker_is_named_with_its_remedy(
    make_run: MakeRun, tracker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fdrl_mpi.export.find_spec", lambda name: None)
    run = make_run()
    assert main([str(run), "--to", tracker]) == 2
    assert f"{tracker} is not installed\n    pip install {tracker}\n" in capsys.readouterr().err
    assert not (run / "exported").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--to", "csv", "--agent", "1"], "--agent, --round and --format are for a policy"),
        (["--to", "csv", "--format", "torch"], "--agent, --round and --format are for a policy"),
        (["--to", "csv", "--follow"], "--follow needs --to tensorboard"),
        (["--follow"], "--follow needs --to tensorboard"),
        (["--to", "tensorboard", "--follow", "--every", "-1"], "--every"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", *words])
    assert reason in capsys.readouterr().err


def test_numbers_of_no_run_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent"), "--to", "csv"]) == 2
    assert "there is no such run directory" in capsys.readouterr().err
