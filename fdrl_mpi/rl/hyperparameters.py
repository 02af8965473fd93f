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


class _Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the TOML file."""


class PerceptronConfig(_Settings, frozen=True, kw_only=True):
    """Function approximator of a learner."""

    hidden: Annotated[tuple[Count, ...], Meta(min_length=1), about("units of each hidden layer")] = (64, 64)
    activation: Annotated[Literal["tanh", "relu"], about("hidden non-linearity")] = "tanh"
    initialisation: Annotated[
        Literal["orthogonal", "uniform"],
        about("orthogonal weights and zero biases, or all uniform in +-1 / sqrt(inputs of the layer)"),
    ] = "orthogonal"
    module: Annotated[
        str,
        about(
            "own torch module as package.module:Class, called as Class(observation_size, num_outputs); "
            "empty: the layers above"
        ),
    ] = ""


class NetworkConfig(PerceptronConfig, frozen=True, kw_only=True):
    """Actor and critic of a learner."""

    shared: Annotated[bool, about("actor and critic share the hidden layers")] = False
    bounded: Annotated[bool, about("the actor's outputs pass through a tanh")] = False


class LearnerConfig(_Settings, frozen=True, kw_only=True, tag_field="name"):
    """What every learner has."""

    budget: Annotated[Count, about("environment steps of one agent in one round", "steps")] = 8192
    lr: Annotated[Positive, about("step size")] = 2.5e-4
    lr_decay_rounds: Annotated[
        int, Meta(ge=0), about("rounds in which lr falls to 0; 0: it stays", "rounds")
    ] = 0
    gamma: Annotated[Fraction, about("discount factor per step")] = 0.99


class NetworkLearnerConfig(LearnerConfig, frozen=True, kw_only=True):
    """What every learner with a network has."""

    max_gradient_norm: Annotated[Positive, about("global L2 norm gradients are scaled down to")] = 0.5
    optimiser: Annotated[
        Literal["adam", "rmsprop", "sgd"], about("what steps the agent's own parameters")
    ] = "adam"
    share: Annotated[
        str | tuple[str, ...],
        about(
            "what is federated: all, actor (what acts), trunk (the hidden layers), or names of layers; the "
            "rest stays with the agent"
        ),
    ] = "all"
    engine: Annotated[
        Literal["auto", "numpy", "torch"], about("auto: numpy for layers on the CPU, else torch")
    ] = "auto"
    device: Annotated[Literal["auto", "cpu", "cuda"], about("auto: CUDA when present")] = "auto"
    network: PerceptronConfig = PerceptronConfig()


class OnPolicyConfig(NetworkLearnerConfig, frozen=True, kw_only=True):
    """What learners have that learn from rollouts of their newest policy."""

    num_steps: Annotated[Count, about("rollout length of each environment", "steps")] = 128
    gae_lambda: Annotated[Fraction, about("decay of generalised advantage estimation")] = 0.95
    entropy_coefficient: Annotated[NonNegative, about("weight of the entropy bonus")] = 0.01
    value_coefficient: Annotated[NonNegative, about("weight of half the squared error of the value")] = 0.5
    normalise_advantages: Annotated[bool, about("zero mean, unit variance in each minibatch")] = True
    normalise_rewards: Annotated[
        bool,
        about("divide rewards by the running deviation of the discounted return; stays with the agent"),
    ] = False
    network: NetworkConfig = NetworkConfig()


class PPOConfig(OnPolicyConfig, frozen=True, kw_only=True, tag="ppo"):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), the clipped form."""

    num_minibatches: Annotated[Count, about("minibatches an epoch is cut into")] = 4
    num_epochs: Annotated[Count, about("passes over each rollout")] = 4
    clip_range: Annotated[Positive, about("clip of the probability ratio, epsilon")] = 0.2
    clip_value: Annotated[bool, about("clip the value loss by clip_range too")] = True
    target_kl: Annotated[
        NonNegative,
        about("stop the epochs of a rollout above this approximate KL divergence; 0: never", "nats"),
    ] = 0.0


class A2CConfig(OnPolicyConfig, frozen=True, kw_only=True, tag="a2c"):
    """Advantage actor-critic, synchronous (Mnih et al. 2016, arXiv 1602.01783): one step a rollout."""

    num_steps: Annotated[Count, about("rollout length of each environment", "steps")] = 5
    gae_lambda: Annotated[Fraction, about("decay of generalised advantage estimation")] = 1.0
    lr: Annotated[Positive, about("step size")] = 7e-4
    optimiser: Annotated[
        Literal["adam", "rmsprop", "sgd"], about("what steps the agent's own parameters")
    ] = "rmsprop"
    entropy_coefficient: Annotated[NonNegative, about("weight of the entropy bonus")] = 0.0
    value_coefficient: Annotated[NonNegative, about("weight of half the squared error of the value")] = 1.0
    normalise_advantages: Annotated[bool, about("zero mean, unit variance in each rollout")] = False


class SACConfig(NetworkLearnerConfig, frozen=True, kw_only=True, tag="sac"):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) with a temperature that is learnt."""

    budget: Annotated[Count, about("environment steps of one agent in one round", "steps")] = 1024
    lr: Annotated[Positive, about("step size of the actor")] = 3e-4
    critic_lr: Annotated[Positive, about("step size of critics and temperature; falls as lr does")] = 1e-3
    batch_size: Annotated[Count, about("transitions of one update")] = 256
    buffer_size: Annotated[Count, about("newest transitions an agent remembers", "steps")] = 100_000
    learning_starts: Annotated[
        int, Meta(ge=0), about("environment steps with random actions before the first update", "steps")
    ] = 5000
    train_every: Annotated[
        Count, about("environment steps, all environments together, between updates", "steps")
    ] = 1
    policy_frequency: Annotated[
        Count, about("updates of the critics between those of the actor, which are then as many at once")
    ] = 2
    tau: Annotated[Positive, Meta(le=1.0), about("share of the way targets move to the critics")] = 0.005
    federate_target: Annotated[
        bool, about("targets are part of the model; else every agent keeps its own")
    ] = False
    max_gradient_norm: Annotated[Positive, about("global L2 norm gradients are scaled down to")] = 1e9
    network: PerceptronConfig = PerceptronConfig(
        hidden=(256, 256), activation="relu", initialisation="uniform"
    )
