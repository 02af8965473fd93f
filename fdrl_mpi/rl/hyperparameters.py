"""The settings of each learner: names, units, ranges and defaults, in one place.

Declarations only (msgspec, no numpy), so that a configuration can be read and refused before anything
heavy is imported.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Meta(ge=0.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Text = Annotated[str, Meta(min_length=1)]


def about(description: str, units: str = "") -> Meta:
    """Describe a key to whoever asks for --help."""
    return Meta(description=description, extra={"units": units})


class NetworkConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Function approximator of a learner."""

    hidden: Annotated[tuple[Count, ...], Meta(min_length=1), about("units of each hidden layer")] = (64, 64)
    activation: Annotated[Literal["tanh", "relu"], about("hidden non-linearity")] = "tanh"
    shared: Annotated[bool, about("actor and critic share the hidden layers")] = False
    module: Annotated[
        str,
        about(
            "own torch module as package.module:Class, called as Class(observation_size, num_outputs); "
            "empty: the layers above"
        ),
    ] = ""


class PPOConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="name", tag="ppo"):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), the clipped form."""

    budget: Annotated[Count, about("environment steps of one agent in one round", "steps")] = 8192
    num_steps: Annotated[Count, about("rollout length of each environment", "steps")] = 128
    num_minibatches: Annotated[Count, about("minibatches an epoch is cut into")] = 4
    num_epochs: Annotated[Count, about("passes over each rollout")] = 4
    lr: Annotated[Positive, about("Adam step size")] = 2.5e-4
    lr_decay_rounds: Annotated[
        int, Meta(ge=0), about("rounds in which lr falls to 0; 0: it stays", "rounds")
    ] = 0
    gamma: Annotated[Fraction, about("discount factor per step")] = 0.99
    gae_lambda: Annotated[Fraction, about("decay of generalised advantage estimation")] = 0.95
    clip_range: Annotated[Positive, about("clip of the probability ratio, epsilon")] = 0.2
    clip_value: Annotated[bool, about("clip the value loss by clip_range too")] = True
    entropy_coefficient: Annotated[NonNegative, about("weight of the entropy bonus")] = 0.01
    value_coefficient: Annotated[NonNegative, about("weight of the value loss")] = 0.5
    max_gradient_norm: Annotated[Positive, about("global L2 norm gradients are scaled down to")] = 0.5
    target_kl: Annotated[
        NonNegative,
        about("stop the epochs of a rollout above this approximate KL divergence; 0: never", "nats"),
    ] = 0.0
    normalise_advantages: Annotated[bool, about("zero mean, unit variance in each minibatch")] = True
    normalise_rewards: Annotated[
        bool,
        about("divide rewards by the running deviation of the discounted return; stays with the agent"),
    ] = False
    network: NetworkConfig = NetworkConfig()
    engine: Annotated[
        Literal["auto", "numpy", "torch"], about("auto: numpy for layers on the CPU, else torch")
    ] = "auto"
    device: Annotated[Literal["auto", "cpu", "cuda"], about("auto: CUDA when present")] = "auto"
