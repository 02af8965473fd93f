"""Convolutions on torch's engine: sizes, names, gradients, and what the learners make of images."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from gymnasium import Env, spaces
from learners import budget, check_resume, make_learner
from torch import nn

from fdrl_mpi.build_agent import engine_of
from fdrl_mpi.config_file import read
from fdrl_mpi.rl.convolutions import channel_axis, convolution_layers
from fdrl_mpi.rl.model import PolicyModel, shared_columns
from fdrl_mpi.rl.network import Head, Network, NetworkShape, actor_critic_shape, tower_name
from fdrl_mpi.rl.torch_network import torch_cnn
from fdrl_mpi.streams import stream

LAYERS = ((6, 4, 2), (5, 3, 1))
ROWS = 23
LAST = {"convolutions": LAYERS, "observation_shape": (12, 11, 3)}
FIRST = {"convolutions": LAYERS, "observation_shape": (2, 11, 12)}
SHAPES = {
    "two towers, channels last": actor_critic_shape(396, 2, 0, (8, 7), "tanh", False, **LAST),
    "a trunk, channels first": actor_critic_shape(264, 3, 3, (9,), "relu", True, **FIRST),
    "bounded, free, uniform": actor_critic_shape(
        396, 1, 1, (8,), "relu", False, initialisation="uniform", is_bounded=True, **LAST
    ),
    "one head": NetworkShape(264, (Head("q", 4),), (8,), "relu", **FIRST),
}
EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
ON_CATCH = {
    "environment.id": "Catch",
    "environment.num_envs": "2",
    "learner.network.hidden": "[8]",
    "learner.network.convolutions": "[[4, 3, 2]]",
}
LEARNERS = {
    "ppo": {"learner.num_steps": "16", "learner.budget": "64"},
    "a2c": {"learner.budget": "80"},
    "reinforce": {"learner.batch_episodes": "4", "learner.budget": "8"},
    "svrpg": {"learner.batch_episodes": "4", "learner.budget": "8"},
    "dqn": {
        "learner.budget": "120",
        "learner.learning_starts": "32",
        "learner.batch_size": "16",
        "learner.target_every": "40",
        "learner.dueling": "true",
        "learner.federate_target": "true",
    },
}


class Lamp(Env):
    """A bright square in the left or the right half of 12 x 12 pixels; going there pays 1."""

    observation_space = spaces.Box(0, 255, (12, 12, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        image = np.zeros((12, 12, 1), np.uint8)
        self._is_right = bool(self.np_random.integers(2))
        row, column = self.np_random.integers((10, 4))
        column += 6 * self._is_right
        image[row : row + 3, column : column + 3] = 255
        return image, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros((12, 12, 1), np.uint8), float(action == self._is_right), True, False, {}


class AsTorch(nn.Module):
    """The network of a shape, put together from torch's modules under the names of `state_dict`."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape, self.tops = shape, nn.ModuleDict()
        for tower in range(shape.num_towers):
            name, heads = tower_name(shape, tower), [head for head in shape.heads if head.tower == tower]
            modules = self._tower()
            if name == "trunk":
                for head in heads:
                    self.add_module(head.name, nn.Linear(shape.hidden[-1], head.outputs))
            else:
                modules[str(2 * len(shape.hidden))] = nn.Linear(shape.hidden[-1], heads[0].outputs)
            self.add_module(name, nn.Sequential(modules))
        if shape.num_free:
            self.log_std = nn.Parameter(torch.zeros(shape.num_free))

    def _tower(self) -> OrderedDict[str, nn.Module]:
        convolutions: list[nn.Module] = []
        for layer in self.shape.convolution_layers:
            convolutions += [nn.Conv2d(layer.inputs, layer.channels, layer.kernel, layer.stride), nn.ReLU()]
        modules = OrderedDict([("conv", nn.Sequential(*convolutions, nn.Flatten()))])
        inputs = self.shape.num_features
        for number, units in enumerate(self.shape.hidden):
            modules[str(2 * number)] = nn.Linear(inputs, units)
            modules[str(2 * number + 1)] = nn.Tanh() if self.shape.activation == "tanh" else nn.ReLU()
            inputs = units
        return modules

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        images = observations.reshape(-1, *self.shape.observation_shape)
        if images.shape[-1] == 3:
            images = images.permute(0, 3, 1, 2)
        towers = {tower_name(self.shape, head.tower) for head in self.shape.heads}
        units = self.trunk(images) if "trunk" in towers else images
        outputs = [getattr(self, head.name)(units) for head in self.shape.heads]
        if self.shape.is_bounded:
            outputs[0] = torch.tanh(outputs[0])
        return torch.cat(outputs, dim=1)


def _random_network(shape: NetworkShape) -> Network:
    network = torch_cnn(shape, stream(0, "network"), "cpu")
    network.params[:] = stream(1, "weights").normal(0.0, 0.3, len(network.params))
    return network


def _samples(shape: NetworkShape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = stream(2, "samples")
    return (
        draws.random((ROWS, shape.observation_size), dtype=np.float32),
        draws.standard_normal((shape.total_outputs, ROWS), dtype=np.float32),
        draws.standard_normal(shape.num_free, dtype=np.float32),
    )


@EACH_SHAPE
def test_outputs_and_gradient_are_those_of_torchs_modules(shape: NetworkShape) -> None:
    """The parameters go through `state_dict`: its names, shapes and order are torch's too."""
    network, modules = _random_network(shape), AsTorch(shape)
    modules.load_state_dict({name: torch.from_numpy(array) for name, array in network.state_dict().items()})
    observations, d_outputs, d_free = _samples(shape)
    outputs = modules(torch.from_numpy(observations)).T
    np.testing.assert_allclose(network.forward(observations), outputs.detach(), rtol=1e-5, atol=1e-5)
    outputs.backward(torch.from_numpy(d_outputs))
    network.backward(d_outputs, d_free, accumulate=False)
    gradient = network.flat_gradient()
    expected = {name: parameter.grad for name, parameter in modules.named_parameters()}
    if shape.num_free:
        expected["log_std"] = torch.from_numpy(d_free)
    network.params[:] = gradient
    found = network.state_dict()
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-3, err_msg=name)


@EACH_SHAPE
def test_gradients_of_two_blocks_add_up_to_the_gradient_of_the_whole(shape: NetworkShape) -> None:
    observations, d_outputs, d_free = _samples(shape)
    network = _random_network(shape)
    network.forward(observations)
    network.backward(d_outputs, d_free, accumulate=False)
    whole = network.flat_gradient()
    for start, stop in ((0, 9), (9, ROWS)):
        network.forward(observations[start:stop])
        share = d_free if start == 0 else np.zeros_like(d_free)
        network.backward(np.ascontiguousarray(d_outputs[:, start:stop]), share, accumulate=start > 0)
    np.testing.assert_allclose(network.flat_gradient(), whole, rtol=1e-4, atol=1e-3)


@EACH_SHAPE
def test_acting_gives_the_first_head_of_the_full_pass(shape: NetworkShape) -> None:
    observations, _, _ = _samples(shape)
    network = _random_network(shape)
    full = network.forward(observations)[: shape.num_outputs]
    np.testing.assert_allclose(network.actor(ROWS)(observations), full, rtol=1e-5, atol=1e-5)


def test_input_gradient_is_that_of_torchs_modules() -> None:
    shape = NetworkShape(396, (Head("q", 2),), (8,), "tanh", differentiates_inputs=True, **LAST)
    network, modules = _random_network(shape), AsTorch(shape)
    modules.load_state_dict({name: torch.from_numpy(array) for name, array in network.state_dict().items()})
    observations, d_outputs, _ = _samples(shape)
    inputs = torch.from_numpy(observations.copy()).requires_grad_()
    modules(inputs).backward(torch.from_numpy(d_outputs).T)
    network.forward(observations)
    np.testing.assert_allclose(network.input_gradient(d_outputs), inputs.grad, rtol=1e-4, atol=1e-5)


@EACH_SHAPE
def test_pieces_cut_the_model_without_gap_or_overlap(shape: NetworkShape) -> None:
    network = _random_network(shape)
    pieces = sorted(network.pieces.values(), key=lambda piece: piece.start)
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == len(network.params)
    for name, array in network.state_dict().items():
        np.testing.assert_array_equal(np.sort(array.ravel()), np.sort(network.params[network.pieces[name]]))


@pytest.mark.parametrize("shape", list(SHAPES.values())[:3], ids=list(SHAPES)[:3])
def test_equal_seeds_give_equal_models_and_other_streams_others(shape: NetworkShape) -> None:
    before = torch.random.get_rng_state()
    models = [
        torch_cnn(shape, stream(seed, purpose), "cpu").params
        for seed, purpose in ((0, "network"), (0, "network"), (1, "network"), (0, "critic"))
    ]
    np.testing.assert_array_equal(models[0], models[1])
    for model in models[2:]:
        assert np.abs(models[0] - model).max() > 0.1
    assert torch.equal(before, torch.random.get_rng_state())


def test_kernels_begin_orthogonal_or_uniform() -> None:
    shape = SHAPES["two towers, channels last"]
    arrays = torch_cnn(shape, stream(0, "network"), "cpu").state_dict()
    for name in ("actor.conv.0", "critic.conv.0", "actor.conv.2"):
        kernels = arrays[f"{name}.weight"].reshape(len(arrays[f"{name}.weight"]), -1)
        np.testing.assert_allclose(kernels @ kernels.T, 2.0 * np.eye(len(kernels)), atol=1e-5)
        assert not arrays[f"{name}.bias"].any()
    assert not np.allclose(arrays["actor.conv.0.weight"], arrays["critic.conv.0.weight"])
    uniform = torch_cnn(SHAPES["bounded, free, uniform"], stream(0, "network"), "cpu").state_dict()
    for kind in ("weight", "bias"):
        largest = np.abs(uniform[f"critic.conv.2.{kind}"]).max()
        assert 0.5 < largest * np.sqrt(6 * 3 * 3) <= 1.0


@pytest.mark.parametrize(
    ("image", "axis"),
    [
        ((84, 84, 4), 2),
        ((4, 84, 84), 0),
        ((210, 160, 3), 2),
        ((3, 210, 160), 0),
        ((10, 10, 7), 2),
        ((1, 10, 10), 0),
        ((10, 10, 1), 2),
        ((10, 10, 10), 0),
        ((3, 3, 3), 0),
    ],
)
def test_channels_are_found(image: tuple[int, int, int], axis: int) -> None:
    assert channel_axis(image) == axis


def test_sizes_are_those_of_the_published_network() -> None:
    """Mnih et al. 2015: 84 x 84 x 4 to 20 x 20 x 32, 9 x 9 x 64 and 7 x 7 x 64, 3136 numbers."""
    layers = convolution_layers((84, 84, 4), ((32, 8, 4), (64, 4, 2), (64, 3, 1)))
    assert [(layer.height, layer.width, layer.channels) for layer in layers] == [
        (20, 20, 32),
        (9, 9, 64),
        (7, 7, 64),
    ]
    assert (layers[0].fan_in, layers[-1].size) == (8 * 8 * 4, 3136)


@pytest.mark.parametrize(
    ("observation_shape", "said"),
    [
        ((4,), r"shape \(4,\) is no image"),
        ((3, 3, 1), "kernel 1 of 4 x 4 is larger than the 3 x 3 pixels"),
        ((7, 9, 1), "kernel 2 of 3 x 3 is larger than the 2 x 3 pixels"),
    ],
)
def test_convolutions_that_do_not_fit_are_refused(observation_shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        convolution_layers(observation_shape, LAYERS)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_refuses_convolutions_without_images(name: str) -> None:
    overrides = {"learner.name": name, "learner.network.convolutions": "[[4, 3, 2]]", **LEARNERS[name]}
    with pytest.raises(ValueError, match="is no image"):
        make_learner(overrides, "torch")


@pytest.mark.parametrize(
    ("overrides", "engine"), [({}, "numpy"), ({"learner.network.convolutions": "[[4, 3, 2]]"}, "torch")]
)
def test_auto_takes_torch_for_convolutions_only(overrides: dict[str, str], engine: str) -> None:
    assert engine_of(read([], list(overrides.items())).learner, "cpu") == engine


@pytest.mark.parametrize("name", LEARNERS)
def test_resumed_training_equals_unbroken_training(name: str) -> None:
    overrides = {"learner.name": name, **ON_CATCH, **LEARNERS[name]}
    before = make_learner(overrides, "torch")[1].params
    trained = check_resume(overrides, "torch")
    assert (trained.params[:36] != before[:36]).any()  # the first kernels


@pytest.mark.parametrize("convolutions", ["[[8, 4, 2]]", "[]"])
def test_ppo_goes_where_the_light_is(convolutions: str) -> None:
    """By chance half of the returns are 1."""
    overrides = {
        "environment.id": f"{__name__}:Lamp",
        "environment.num_envs": "8",
        "learner.budget": "256",
        "learner.num_steps": "16",
        "learner.lr": "0.003",
        "learner.network.hidden": "[16]",
        "learner.network.convolutions": convolutions,
    }
    config, learner = make_learner(overrides, "torch" if convolutions != "[]" else "numpy")
    for round in range(1, 9):
        stats = learner.train(budget(config, round))
    assert np.mean([value for value, _ in stats.episodes]) > 0.9


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ("two towers, channels last", ["actor", "critic"]),
        ("a trunk, channels first", ["trunk"]),
    ],
)
def test_the_trunk_is_all_convolutions_and_hidden_layers(shape: str, names: list[str]) -> None:
    network = _random_network(SHAPES[shape])
    chosen = np.zeros(len(network.params), bool)
    for columns in shared_columns(PolicyModel(network, None), "trunk"):
        chosen[columns] = True
    hidden = [f"{2 * number}" for number in range(len(SHAPES[shape].hidden))]
    inside = {
        f"{name}.{layer}.{kind}"
        for name in names
        for layer in ("conv.0", "conv.2", *hidden)
        for kind in ("weight", "bias")
    }
    for name, piece in network.pieces.items():
        assert chosen[piece].all() == (name in inside), name
        assert chosen[piece].any() == (name in inside), name


def test_the_actor_is_all_that_acting_reads() -> None:
    observations, _, _ = _samples(SHAPES["two towers, channels last"])
    network = _random_network(SHAPES["two towers, channels last"])
    before = network.actor(ROWS)(observations).copy()
    kept = np.zeros(len(network.params), bool)
    for columns in shared_columns(PolicyModel(network, None), "actor"):
        kept[columns] = True
    assert 0 < kept.sum() < len(kept)
    network.params[~kept] = 0.0
    np.testing.assert_array_equal(network.actor(ROWS)(observations), before)
    assert all(name.startswith("actor.") == kept[piece].all() for name, piece in network.pieces.items())
