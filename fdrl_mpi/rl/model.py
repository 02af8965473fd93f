"""What acts: a learner's parameters in one flat buffer, and the policy they stand for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fdrl_mpi.arrays import ActionArray, FloatMatrix, FloatVector
from fdrl_mpi.rl.convolutions import channel_axis
from fdrl_mpi.rl.distributions import Distribution, distribution_of
from fdrl_mpi.rl.network import (
    TRUNK,
    Network,
    NetworkShape,
    actor_critic_shape,
    head_name,
    mlp_layers,
    tower_name,
)
from fdrl_mpi.rl.rollout import Environment

Greedy = Callable[[FloatMatrix], ActionArray]
"""Takes observations, shape (n, observation_size), to the policy's best actions."""

NetworkFactory = Callable[[NetworkShape, np.random.Generator, FloatVector | None], Network]
"""Makes a network of the run's engine; its parameters lie in the given vector, if there is one."""


class Model(Protocol):
    """What a learner trains and an evaluation plays.

    Attributes
    ----------
    params : float32 array, shape (d,)
        Host memory.
    pieces : mapping
        Where each parameter lies in `params`, by name; every coordinate is in exactly one.
    groups : mapping
        Names that stand for several pieces: "actor" is all that `greedy` reads, "trunk" the hidden layers.
    """

    params: FloatVector
    pieces: Mapping[str, slice]
    groups: Mapping[str, Sequence[str]]

    def load(self) -> None:
        """Bring `params` to where the model computes."""

    def store(self) -> None:
        """Bring what has been learnt back to `params`."""

    def greedy(self, num_rows: int) -> Greedy:
        """Prepare to act on `num_rows` observations at a time, with the parameters as they are."""

    def state_dict(self) -> dict[str, FloatMatrix]:
        """Copy the parameters under the names and shapes of torch modules."""

    def describe(self) -> dict[str, Any]:
        """Say in JSON values what the tensors of `state_dict` form."""


class PolicyModel:
    """An actor-critic network and the family of distributions its actor's outputs stand for."""

    def __init__(self, network: Network, distribution: Distribution) -> None:
        self.network, self.distribution = network, distribution
        self.params: FloatVector = network.params
        self.pieces = network.pieces
        self.groups = network_groups(network)

    def load(self) -> None:
        self.network.load()

    def store(self) -> None:
        self.network.store()

    def greedy(self, num_rows: int) -> Greedy:
        act, choose = self.network.actor(num_rows), self.distribution.greedy
        return lambda observations: choose(act(observations))

    def state_dict(self) -> dict[str, FloatMatrix]:
        return self.network.state_dict()

    def describe(self) -> dict[str, Any]:
        return describe_network(self.network.shape)


def policy_model(
    settings: Any,
    environment: Environment,
    make_network: NetworkFactory,
    generator: np.random.Generator,
    params: FloatVector | None,
) -> PolicyModel:
    """Make the model of an on-policy learner, whose settings hold a `NetworkConfig`."""
    distribution, network = distribution_of(environment.action_spec), settings.network
    shape = actor_critic_shape(
        environment.observation_size,
        environment.action_spec.size,
        distribution.num_free,
        network.hidden,
        network.activation,
        network.shared,
        initialisation=network.initialisation,
        is_bounded=network.bounded,
        convolutions=network.convolutions,
        observation_shape=environment.observation_shape,
    )
    return PolicyModel(make_network(shape, generator, params), distribution)


def network_groups(network: Network) -> dict[str, list[str]]:
    """Sort the pieces of a network: what acts, and the hidden layers with the convolutions before them.

    Of a user's module the names decide: what begins with ``actor`` or ``trunk``.
    """
    names, shape = list(network.pieces), network.shape
    lasts = {head_name(shape, head) for head in shape.heads}
    other_heads = {head_name(shape, head) for head in shape.heads[1:]}
    other_towers = {tower_name(shape, tower) for tower in range(1, shape.num_towers)}
    layers = {name: name.rpartition(".")[0] for name in names}
    is_module = not lasts <= set(layers.values())
    if is_module:
        groups = {group: [name for name in names if name.startswith(group)] for group in ("actor", TRUNK)}
        return {group: members for group, members in groups.items() if members}
    return {
        "actor": [
            name
            for name in names
            if layers[name] not in other_heads and name.partition(".")[0] not in other_towers
        ],
        TRUNK: [name for name in names if layers[name] and layers[name] not in lasts],
    }


def describe_network(shape: NetworkShape) -> dict[str, Any]:
    """Describe a perceptron in JSON values; see `describe_convolutions` for what comes before it."""
    return {
        "layers": mlp_layers(shape),
        "activation": shape.activation,
        "convolutions": describe_convolutions(shape),
    }


def describe_convolutions(shape: NetworkShape) -> dict[str, Any] | None:
    """Describe what every tower makes of an image in JSON values; None where it makes nothing of it."""
    if not shape.convolutions:
        return None
    return {
        "channel_axis": channel_axis(shape.observation_shape),
        "channels": [shape.convolution_layers[0].inputs, *(layer[0] for layer in shape.convolutions)],
        "kernels": [kernel for _, kernel, _ in shape.convolutions],
        "strides": [stride for _, _, stride in shape.convolutions],
        "order": "observation_shape with channel_axis moved to the front; each convolution without padding, "
        "then a ReLU; flattened channel by channel into the layers",
    }


def _parts(pieces: Iterable[str]) -> list[str]:
    """List the names of pieces after the towers and layers they belong to: a, a.0, a.0.bias."""
    words = [piece.split(".") for piece in pieces]
    parts = {".".join(some[:depth]): None for some in words for depth in range(1, len(some) + 1)}
    return list(parts)


def shared_columns(model: Model, share: str | Sequence[str]) -> list[slice]:
    """Choose the coordinates of a model that are federated.

    Parameters
    ----------
    share : str or sequence of str
        "all", or names of groups or pieces; ``actor`` also stands for every piece ``actor.*``.

    Returns
    -------
    list of slices of `Model.params`, in ascending order, none touching the next

    Raises
    ------
    ValueError
        If a name stands for nothing.
    """
    wanted = [share] if isinstance(share, str) else list(share)
    if not wanted:
        raise ValueError("learner.share is empty: choose all, or mode = independent if nothing is to travel")
    chosen: set[str] = set()
    for name in wanted:
        members = set(model.groups.get(name, ())) or {
            piece for piece in model.pieces if name == "all" or piece == name or piece.startswith(f"{name}.")
        }
        if not members:
            raise ValueError(
                f"learner.share names {name!r}, which is no part of this network. It has: "
                f"{', '.join(dict.fromkeys(['all', *model.groups, *_parts(model.pieces)]))}"
            )
        chosen |= members
    columns: list[slice] = []
    for piece in sorted((model.pieces[name] for name in chosen), key=lambda piece: piece.start):
        if columns and columns[-1].stop == piece.start:
            columns[-1] = slice(columns[-1].start, piece.stop)
        else:
            columns.append(piece)
    return columns
