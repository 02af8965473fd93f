"""The policies of a run, from its newest whole checkpoint; also while the run goes on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.build_agent import engine_of, make_model
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import read
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.record.checkpoint import CheckpointStore, DamagedCheckpoint
from fdrl_mpi.record.run_directory import RunDirectory
from fdrl_mpi.rl.model import Model

Common = Literal["model", "part", "nothing"]
"""What agents' models have in common when a round begins: all of it, a part, or nothing."""


@dataclass(frozen=True)
class Policies:
    """The models in one checkpoint, each a float32 array of shape (d,).

    Attributes
    ----------
    shared : array or None
        The published or the centralised model; None where agents learn alone.
    own : list of arrays, length K or 0
        Agent k's own model is ``own[k - 1]``: what its last training left, or what was published with its
        own part, where there is one; empty if it has none.
    num_agents : int
        K.
    common : "model", "part" or "nothing"
    """

    shared: FloatVector | None
    own: list[FloatVector]
    num_agents: int
    common: Common = "nothing"

    def begins(self) -> list[FloatVector]:
        """List what each agent's next training begins with: what is common, and its own part of the rest.

        Empty where nothing is common.
        """
        if self.common == "part":
            return self.own
        return [self.shared] * self.num_agents if self.common == "model" and self.shared is not None else []


@dataclass(frozen=True)
class TrainedRun:
    """A run and its policies after one of its rounds.

    Attributes
    ----------
    damage : list of str
        What is wrong with newer checkpoints, which were therefore not used.
    """

    directory: RunDirectory
    config: Config
    round: int
    policies: Policies
    damage: list[str]

    def model(self, environment: VectorEnv) -> Model:
        """Make the model of the run, on the CPU, as it began.

        Raises
        ------
        ValueError
            If the models in the checkpoint have another size.
        """
        config, policies = self.config, self.policies
        model = make_model(config.learner, config.seed, environment, engine_of(config.learner, "cpu"), "cpu")
        sizes = {len(params) for params in (policies.shared, *policies.own) if params is not None}
        if sizes != {len(model.params)}:
            raise ValueError(
                f"{self.directory.path}: {self.directory.config.name} describes a model of "
                f"{len(model.params)} parameters, the checkpoint has {', '.join(map(str, sorted(sizes)))}"
            )
        return model


def load_trained_run(path: str | Path, round: int | None = None) -> TrainedRun:
    """Read configuration and policies of a run.

    Parameters
    ----------
    path : path
        The run directory.
    round : int, optional
        Read this checkpoint and no other. Without it the newest that is whole; what is wrong with newer
        ones is told in `TrainedRun.damage`.

    Raises
    ------
    ValueError
        If there is no run, or no such checkpoint. `DamagedCheckpoint` if none is whole.
    ConfigError
        If the configuration cannot be used by this version.
    """
    directory = RunDirectory(path)
    if not directory.exists():
        raise ValueError(f"{path}: there is no such run directory")
    if not directory.config.is_file():
        raise ValueError(f"{path}: has no {directory.config.name}; give the directory of a run")
    config, store = read([directory.config], []), CheckpointStore(path, keep=1)
    if not (rounds := store.rounds()):
        raise ValueError(f"{path}: has no checkpoint yet")
    if round is None:
        return _newest(directory, config, store)
    if round not in rounds:
        raise ValueError(f"{path}: has no checkpoint of round {round}, but of {', '.join(map(str, rounds))}")
    return TrainedRun(directory, config, round, _policies(store, round), [])


def _newest(directory: RunDirectory, config: Config, store: CheckpointStore) -> TrainedRun:
    """Load the newest whole checkpoint; look again after each failure, as a live run replaces them."""
    damage: dict[int, str] = {}
    while candidates := [round for round in store.rounds() if round not in damage]:
        round = candidates[-1]
        try:
            policies = _policies(store, round)
        except DamagedCheckpoint as error:
            damage[round] = f"checkpoint of round {round} is damaged: {error}"
            continue
        newer = [text for damaged, text in damage.items() if damaged > round]
        return TrainedRun(directory, config, round, policies, newer)
    raise DamagedCheckpoint("\n".join(["no checkpoint is whole", *damage.values()]))


def _policies(store: CheckpointStore, round: int) -> Policies:
    """Read every file of a checkpoint: see `federation.persistence` for what lies where.

    An agent's ``model`` is what it goes on from, where that is its own; else its learner holds what its last
    training left. What is published is a model only where no agent has one of its own; where it is something
    else and yet enough to act, the root's ``model`` is what it stands for.
    """
    num_agents = len(store.manifest(round).digests) - 1
    root, *agents = [store.load(round, store.file_for(agent)) for agent in range(num_agents + 1)]
    is_personal = any("model" in state for state in agents)
    try:
        own = [state["model"] if is_personal else state["learner"]["params"] for state in agents]
    except KeyError:  # a centralised learner is one for all agents
        own = []
    shared = root["model"] if "model" in root else None if is_personal else root.get("params")
    if shared is None and not own:
        raise DamagedCheckpoint(f"round {round}: holds no model")
    common: Common = "nothing" if "params" not in root else "part" if is_personal else "model"
    return Policies(shared, own, num_agents, common)
