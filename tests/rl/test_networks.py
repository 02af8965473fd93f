"""Both engines compute the same function and the same gradient, and torch's autograd agrees."""

import numpy as np
import pytest

from fdrl_mpi.rl.mlp import MLP
from fdrl_mpi.rl.network import Head, Network, NetworkShape, actor_critic_shape, mlp_state_dict
from fdrl_mpi.rl.torch_network import torch_mlp, torch_module
from fdrl_mpi.streams import stream

SHAPES = [
    actor_critic_shape(4, 2, 0, (64, 64), "tanh", False),
    actor_critic_shape(3, 1, 1, (16,), "relu", True),
    actor_critic_shape(5, 3, 3, (8, 7, 6), "relu", False),
    actor_critic_shape(2, 4, 0, (9, 5), "tanh", True),
]
ROWS = 37


def _gradient(network: Network) -> np.ndarray:
    return network.flat_gradient() if hasattr(network, "flat_gradient") else network.gradient.copy()


def _randomised(network: Network) -> Network:
    network.params[:] = stream(1, "weights").normal(0.0, 0.3, len(network.params))
    return network


def _both(shape: NetworkShape) -> list[Network]:
    networks: list[Network] = [
        MLP(shape, stream(0, "network")),
        torch_mlp(shape, stream(0, "network"), "cpu"),
    ]
    return [_randomised(network) for network in networks]


def _samples(shape: NetworkShape, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = stream(2, "samples")
    return (
        draws.standard_normal((rows, shape.observation_size), dtype=np.float32),
        draws.standard_normal((shape.num_outputs + 1, rows), dtype=np.float32),
        draws.standard_normal(shape.num_free, dtype=np.float32),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_engines_start_from_the_same_model(shape: NetworkShape) -> None:
    ours = MLP(shape, stream(0, "network"))
    theirs = torch_mlp(shape, stream(0, "network"), "cpu")
    np.testing.assert_array_equal(ours.params, theirs.params)


@pytest.mark.parametrize("shape", SHAPES)
def test_engines_agree_on_outputs_and_gradient(shape: NetworkShape) -> None:
    observations, d_outputs, d_free = _samples(shape)
    outputs, gradients = [], []
    for network in _both(shape):
        outputs.append(network.forward(observations).copy())
        network.backward(d_outputs, d_free, accumulate=False)
        gradients.append(_gradient(network))
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_matches_a_difference_quotient_in_double_precision(shape: NetworkShape) -> None:
    """The directional derivative of ``sum(d_outputs * outputs)``, with outputs computed in float64."""
    observations, d_outputs, d_free = _samples(shape)
    network = _both(shape)[0]
    network.forward(observations)
    network.backward(d_outputs, d_free, accumulate=False)
    direction = stream(3, "direction").standard_normal(len(network.params))

    def loss(step: float) -> float:
        params = network.params.astype(np.float64) + step * direction
        outputs = _double_outputs(shape, network, params, observations)
        free = network.layout.views(params).get("free", np.empty(0))
        return float((d_outputs * outputs).sum() + (d_free * free).sum())

    quotient = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert float(network.gradient @ direction) == pytest.approx(quotient, rel=2e-4)


def _double_outputs(
    shape: NetworkShape, network: Network, params: np.ndarray, observations: np.ndarray
) -> np.ndarray:
    views = network.layout.views(params)
    units = observations.astype(np.float64)
    for number in range(len(shape.hidden)):
        units = units @ views[f"weight_{number}"] + views[f"bias_{number}"]
        units = np.tanh(units) if shape.activation == "tanh" else np.maximum(units, 0.0)
    actor, critic = units[0], units[-1]
    head = views["head_weight"]
    return np.vstack([head[:-1] @ actor.T, head[-1:] @ critic.T]) + views["head_bias"]


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_two_blocks_add_up_to_the_gradient_of_the_whole(shape: NetworkShape) -> None:
    observations, d_outputs, d_free = _samples(shape)
    for network in _both(shape):
        network.forward(observations)
        network.backward(d_outputs, d_free, accumulate=False)
        whole = _gradient(network)
        for start, stop in ((0, 20), (20, ROWS)):
            network.forward(observations[start:stop])
            share = d_free if start == 0 else np.zeros_like(d_free)
            network.backward(np.ascontiguousarray(d_outputs[:, start:stop]), share, accumulate=start > 0)
        np.testing.assert_allclose(_gradient(network), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_acting_gives_the_actor_outputs_of_the_full_pass(shape: NetworkShape) -> None:
    observations, _, _ = _samples(shape)
    for network in _both(shape):
        full = network.forward(observations)[:-1].copy()
        np.testing.assert_allclose(network.actor(ROWS)(observations), full, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_optimisers_of_both_engines_take_the_same_steps(shape: NetworkShape) -> None:
    observations, d_outputs, d_free = _samples(shape)
    networks = _both(shape)
    for network in networks:
        optimiser = network.optimiser()
        for _ in range(5):
            network.forward(observations)
            network.backward(d_outputs, d_free, accumulate=False)
            optimiser.step(1e-3, 0.5)
    np.testing.assert_allclose(networks[0].params, networks[1].params, rtol=1e-4, atol=1e-6)


def test_adam_takes_the_published_step() -> None:
    """Against algorithm 1 of Kingma and Ba written out in float64, gradients below the clipping norm."""
    network = MLP(SHAPES[3], stream(0, "network"))
    optimiser = network.optimiser()
    params, mean, square = network.params.astype(np.float64), 0.0, 0.0
    draws = stream(5, "gradients")
    for step in range(1, 8):
        network.gradient[:] = draws.normal(0.0, 1e-3, len(params))
        gradient = network.gradient.astype(np.float64)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        params -= 1e-2 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-5)
        optimiser.step(1e-2, 1e9)
    np.testing.assert_allclose(network.params, params, rtol=1e-5, atol=1e-6)


def test_optimiser_continues_from_its_state() -> None:
    observations, d_outputs, d_free = _samples(SHAPES[0])
    for network in _both(SHAPES[0]):
        network.forward(observations)
        network.backward(d_outputs, d_free, accumulate=False)
        first, second = network.optimiser(), network.optimiser()
        first.step(1e-3, 0.5)
        second.set_state(first.get_state())
        params = network.params.copy()
        first.step(1e-3, 0.5)
        expected = network.params.copy()
        network.params[:] = params
        second.step(1e-3, 0.5)
        np.testing.assert_array_equal(network.params, expected)


def test_optimiser_continues_from_the_state_of_the_other_engine() -> None:
    """A run that is resumed where the engine is another one keeps its moments."""
    observations, d_outputs, d_free = _samples(SHAPES[0])
    networks = _both(SHAPES[0])
    optimisers = [network.optimiser() for network in networks]
    for network, optimiser in zip(networks, optimisers, strict=True):
        network.forward(observations)
        network.backward(d_outputs, d_free, accumulate=False)
        optimiser.step(1e-3, 1e9)
    states = [optimiser.get_state() for optimiser in optimisers]
    after, params = [], networks[0].params.copy()
    for network, optimiser, state in zip(networks, optimisers, reversed(states), strict=True):
        network.params[:] = params
        optimiser.set_state(state)
        optimiser.step(1e-3, 1e9)
        after.append(network.params.copy())
    np.testing.assert_allclose(after[0], after[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[1]])
def test_exported_state_dict_fits_plain_torch_modules(shape: NetworkShape) -> None:
    from torch import from_numpy, nn

    network = _both(shape)[0]
    arrays = mlp_state_dict(shape, network.params)
    activation = nn.Tanh if shape.activation == "tanh" else nn.ReLU
    layers: list[nn.Module] = []
    for inputs, units in zip((shape.observation_size, *shape.hidden[:-1]), shape.hidden, strict=True):
        layers += [nn.Linear(inputs, units), activation()]
    if shape.num_towers == 1:
        trunk, actor = nn.Sequential(*layers), nn.Linear(shape.hidden[-1], shape.num_outputs)
        plain = nn.ModuleDict({"trunk": trunk, "actor": actor, "critic": nn.Linear(shape.hidden[-1], 1)})
        policy = nn.Sequential(trunk, actor)
    else:
        policy = nn.Sequential(*layers, nn.Linear(shape.hidden[-1], shape.num_outputs))
        plain = nn.ModuleDict({"actor": policy})
        arrays = {name: array for name, array in arrays.items() if name.startswith("actor")}
    plain.load_state_dict({name: from_numpy(array) for name, array in arrays.items() if name != "log_std"})
    observations, _, _ = _samples(shape)
    outputs = policy(from_numpy(observations)).detach().numpy().T
    np.testing.assert_allclose(network.forward(observations)[:-1], outputs, rtol=1e-5, atol=1e-6)


def test_a_users_module_trains_on_the_flat_buffers() -> None:
    from torch import nn

    def make(observation_size: int, num_outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(observation_size, 8), nn.ReLU(), nn.Linear(8, num_outputs + 1))

    shape = actor_critic_shape(3, 2, 2, (), "tanh", False)
    network = torch_module(make, shape, stream(0, "network"), "cpu")
    observations, d_outputs, d_free = _samples(shape)
    before = network.forward(observations).copy()
    network.backward(d_outputs, d_free, accumulate=False)
    views = network.layout.views(network.flat_gradient())
    np.testing.assert_allclose(views["free"], d_free)
    np.testing.assert_allclose(views["2.bias"], d_outputs.sum(axis=1), rtol=1e-4)
    network.params *= 2.0
    assert not np.allclose(network.forward(observations), before)
    assert set(network.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias", "log_std"}


def test_a_module_with_another_output_shape_is_refused() -> None:
    from torch import nn

    shape = actor_critic_shape(3, 2, 0, (), "tanh", False)
    with pytest.raises(ValueError, match="2 of the actor, then 1 of the critic"):
        torch_module(lambda inputs, outputs: nn.Linear(inputs, outputs), shape, stream(0, "network"), "cpu")


TWINS = NetworkShape(
    4, (Head("critic_1", 1, 0), Head("critic_2", 1, 1)), (130, 9), "relu", differentiates_inputs=True
)
INPUT_SHAPES = [
    TWINS,
    NetworkShape(5, (Head("q", 3),), (8, 7, 6), "tanh", is_bounded=True, differentiates_inputs=True),
]


@pytest.mark.parametrize("shape", INPUT_SHAPES)
@pytest.mark.parametrize("passing", ["all", "one_tower_each", "nothing"])
def test_engines_agree_on_the_derivative_by_the_inputs(shape: NetworkShape, passing: str) -> None:
    observations = stream(2, "samples").standard_normal((ROWS, shape.observation_size), dtype=np.float32)
    d_outputs = stream(3, "samples").standard_normal((shape.total_outputs, ROWS), dtype=np.float32)
    if passing == "one_tower_each":
        d_outputs *= np.arange(ROWS) % shape.total_outputs == np.arange(shape.total_outputs)[:, None]
    elif passing == "nothing":
        d_outputs *= 0.0
    found, gradients = [], []
    for network in _both(shape):
        network.forward(observations)
        network.backward(d_outputs, np.empty(0, np.float32), accumulate=False)
        gradients.append(network.flat_gradient())
        network.forward(observations)
        found.append(network.input_gradient(d_outputs).copy())
        np.testing.assert_array_equal(network.flat_gradient(), gradients[-1])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("initialisation", ["orthogonal", "uniform"])
def test_networks_that_begin_alike_draw_alike_and_leave_the_generator_where_drawing_does(initialisation):
    shape = actor_critic_shape(4, 2, 0, (8, 8), "tanh", False, initialisation=initialisation)
    first, again, other = stream(5, "network"), stream(5, "network"), stream(6, "network")
    networks = [MLP(shape, generator) for generator in (first, again, other, first)]
    np.testing.assert_array_equal(networks[0].params, networks[1].params)
    assert first.random() != again.random(), "the first one has drawn twice"
    for different in networks[2:]:
        assert np.all(
            networks[0].params[different.params != 0.0] != different.params[different.params != 0.0]
        )
    networks[1].params[:] = 0.0
    np.testing.assert_array_equal(networks[0].params, MLP(shape, stream(5, "network")).params)
