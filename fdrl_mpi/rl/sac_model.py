"""What a soft actor-critic trains: an actor, twin critics and a temperature in one flat buffer."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from fdrl_mpi.arrays import ActionArray, FloatMatrix, FloatVector
from fdrl_mpi.rl.hyperparameters import SACConfig
from fdrl_mpi.rl.model import Greedy, NetworkFactory, describe_network, network_groups
from fdrl_mpi.rl.network import TRUNK, Head, NetworkShape, mlp_layout
from fdrl_mpi.rl.rollout import Environment
from fdrl_mpi.steps import ActionSpec


class SACModel:
    """Actor, twin critics and temperature in one flat buffer, in this order; see `Model` for the interface.

    The critics are two towers of one network. Their inputs are an observation and an action in -1..1, which
    stands for the whole range between the bounds of each number. Their targets come last in the buffer, or
    lie outside of it.

    Parameters
    ----------
    settings : SACConfig
    observation_size : int
    spec : ActionSpec
    make_network : NetworkFactory
    generator : numpy.random.Generator
        Draws the initial weights.
    params : float32 array, shape (d,), optional
        Where the parameters are to lie.

    Attributes
    ----------
    actor, critics, target : Network
    log_alpha : float32 array, shape (1,)
        Logarithm of the temperature, a view of `params`.
    sections : mapping
        Where each network lies in `params`.
    """

    def __init__(
        self,
        settings: SACConfig,
        observation_size: int,
        spec: ActionSpec,
        make_network: NetworkFactory,
        generator: np.random.Generator,
        params: FloatVector | None,
    ) -> None:
        actor = _actor_shape(settings, observation_size, spec.size)
        critics, target = (
            _critics_shape(settings, observation_size + spec.size, name) for name in ("critic", "target")
        )
        sizes = {"actor": mlp_layout(actor).size, "critics": mlp_layout(critics).size, "log_alpha": 1}
        if settings.federate_target:
            sizes["target"] = mlp_layout(target).size
        self.sections = _sections(sizes)
        self.params: FloatVector = np.zeros(sum(sizes.values()), np.float32) if params is None else params
        views = {name: self.params[section] for name, section in self.sections.items()}
        self.actor = make_network(actor, generator, views["actor"])
        self.critics = make_network(critics, generator, views["critics"])
        self.target = make_network(target, generator, views.get("target"))
        self.target.blend(self.critics, 1.0)
        self.log_alpha: FloatVector = views["log_alpha"]
        self.log_alpha[:] = 0.0
        self._travelling = {
            name: network
            for name, network in (("actor", self.actor), ("critics", self.critics), ("target", self.target))
            if name in self.sections
        }
        self.pieces: Mapping[str, slice] = self._pieces()
        self.groups: Mapping[str, Sequence[str]] = {
            "actor": list(self.actor.pieces),
            TRUNK: [name for network in self._travelling.values() for name in network_groups(network)[TRUNK]],
        }
        self.action_size = spec.size
        low, high = np.array(spec.low, np.float32), np.array(spec.high, np.float32)
        self._scale, self._centre = (high - low) / 2, (high + low) / 2
        self.store()

    def load(self) -> None:
        for network in self._travelling.values():
            network.load()

    def store(self) -> None:
        for network in self._travelling.values():
            network.store()

    def greedy(self, num_rows: int) -> Greedy:
        act, size = self.actor.actor(num_rows), self.action_size
        actions = np.empty((num_rows, size), np.float32)

        def choose(observations: FloatMatrix) -> ActionArray:
            np.tanh(act(observations)[:size], out=actions.T)
            return self.scale(actions, actions).copy()

        return choose

    def scale(self, actions: FloatMatrix, out: FloatMatrix) -> FloatMatrix:
        """Stretch actions in -1..1, shape (n, action_size), to the bounds of the environment."""
        np.multiply(actions, self._scale, out=out)
        return np.add(out, self._centre, out=out)

    def state_dict(self) -> dict[str, FloatMatrix]:
        networks = self._travelling.values()
        tensors = {name: tensor for network in networks for name, tensor in network.state_dict().items()}
        return {**tensors, "log_alpha": self.log_alpha.copy()}

    def describe(self) -> dict[str, Any]:
        networks = [describe_network(network.shape) for network in self._travelling.values()]
        layers = {name: sizes for network in networks for name, sizes in network["layers"].items()}
        return {
            **networks[0],
            "layers": layers,
            "greedy_action": "tanh of the first half of the actor's outputs, -1..1 stretched to "
            "action_low..action_high",
        }

    def _pieces(self) -> dict[str, slice]:
        pieces = {"log_alpha": self.sections["log_alpha"]}
        for section, network in self._travelling.items():
            start = self.sections[section].start
            pieces |= {
                name: slice(start + piece.start, start + piece.stop) for name, piece in network.pieces.items()
            }
        return pieces


def _actor_shape(settings: SACConfig, observation_size: int, action_size: int) -> NetworkShape:
    own = settings.network
    head = Head("actor", 2 * action_size, gain=0.01)
    return NetworkShape(
        observation_size, (head,), own.hidden, own.activation, initialisation=own.initialisation
    )


def _critics_shape(settings: SACConfig, inputs: int, name: str) -> NetworkShape:
    own = settings.network
    heads = (Head(f"{name}_1", 1, 0), Head(f"{name}_2", 1, 1))
    return NetworkShape(
        inputs,
        heads,
        own.hidden,
        own.activation,
        initialisation=own.initialisation,
        differentiates_inputs=name == "critic",
    )


def _sections(sizes: Mapping[str, int]) -> dict[str, slice]:
    sections, start = {}, 0
    for name, size in sizes.items():
        sections[name] = slice(start, start + size)
        start += size
    return sections


def sac_model(
    settings: SACConfig,
    environment: Environment,
    make_network: NetworkFactory,
    generator: np.random.Generator,
    params: FloatVector | None,
) -> SACModel:
    """Make the model of a soft actor-critic.

    Raises
    ------
    ValueError
        If an action has no bounds.
    """
    spec = environment.action_spec
    if not all(map(isfinite, (*spec.low, *spec.high))):
        raise ValueError(
            f"learner.name = sac with actions between {spec.low} and {spec.high}: its actions are a tanh, "
            "stretched to their bounds; wrap the environment so that actions have bounds, or choose "
            "learner.name = ppo"
        )
    return SACModel(settings, environment.observation_size, spec, make_network, generator, params)
