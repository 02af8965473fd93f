"""The settings of each learner: names, units, ranges and defaults, in one place.

Declarations only (msgspec, no numpy), so that a configuration can be read and refused before anything
heavy is imported.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

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

    convolutions: Annotated[
        tuple[tuple[Count, Count, Count], ...],
        about(
            "[channels, kernel, stride] of each convolution in front of the hidden layers, for images: "
            "[[16, 8, 4], [32, 4, 2]]; no padding, a ReLU after each"
        ),
    ] = ()
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
    lr_decay: Annotated[float, Meta(gt=0.0, le=1.0), about("factor of lr from one round to the next")] = 1.0
    gamma: Annotated[Fraction, about("discount factor per step")] = 0.99

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return str(self.__struct_config__.tag)


class NetworkLearnerConfig(LearnerConfig, frozen=True, kw_only=True):
    """What every learner with a network has."""

    max_gradient_norm: Annotated[Positive, about("global L2 norm gradients are scaled down to")] = 0.5
    optimiser: Annotated[
        Literal["adam", "rmsprop", "sgd"], about("what steps the agent's own parameters")
    ] = "adam"
    share: Annotated[
        str | tuple[str, ...],
        about(
            "what is federated: all, actor (what acts), trunk (the hidden layers), or names of towers "
            "(critic), layers (actor.0) and their parts (actor.0.weight); the rest stays with the agent"
        ),
    ] = "all"
    engine: Annotated[
        Literal["auto", "numpy", "torch"], about("auto: numpy for plain layers on the CPU, else torch")
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

    budget: Annotated[Count, about("environment steps of one agent in one round", "steps")] = 8000
    num_steps: Annotated[Count, about("rollout length of each environment", "steps")] = 5
    gae_lambda: Annotated[Fraction, about("decay of generalised advantage estimation")] = 1.0
    lr: Annotated[Positive, about("step size")] = 7e-4
    optimiser: Annotated[
        Literal["adam", "rmsprop", "sgd"], about("what steps the agent's own parameters")
    ] = "rmsprop"
    entropy_coefficient: Annotated[NonNegative, about("weight of the entropy bonus")] = 0.0
    value_coefficient: Annotated[NonNegative, about("weight of half the squared error of the value")] = 1.0
    normalise_advantages: Annotated[bool, about("zero mean, unit variance in each rollout")] = False


class ReinforceConfig(NetworkLearnerConfig, frozen=True, kw_only=True, tag="reinforce"):
    """Policy gradients from whole episodes (Williams 1992; Baxter and Bartlett 2001)."""

    budget: Annotated[Count, about("episodes of one agent in one round", "episodes")] = 64
    batch_episodes: Annotated[
        Count, about("episodes of one gradient; a multiple of environment.num_envs", "episodes")
    ] = 16
    horizon: Annotated[Count, about("episodes are cut after this", "steps")] = 1000
    lr: Annotated[Positive, about("step size")] = 1e-3
    credit: Annotated[
        Literal["reward_to_go", "return"],
        about("a step is credited with the discounted rewards from it on (GPOMDP), or of the whole episode"),
    ] = "reward_to_go"
    baseline: Annotated[
        Literal["none", "episode", "batch", "value"],
        about(
            "episode, batch: credits get zero mean and unit deviation in each; value: a learnt state value "
            "is taken off"
        ),
    ] = "value"
    mean_over: Annotated[
        Literal["steps", "episodes"], about("what the sum over all steps is divided by the number of")
    ] = "steps"
    entropy_coefficient: Annotated[NonNegative, about("weight of the entropy bonus")] = 0.0
    value_coefficient: Annotated[NonNegative, about("weight of half the squared error of the value")] = 0.5
    max_gradient_norm: Annotated[Positive, about("global L2 norm gradients are scaled down to")] = 1000.0
    network: NetworkConfig = NetworkConfig()


class SVRPGConfig(ReinforceConfig, frozen=True, kw_only=True, tag="svrpg"):
    """Stochastic variance-reduced policy gradients (Papini et al. 2018); SCSG with geometric inner loops."""

    budget: Annotated[Count, about("episodes of the large batches of one agent in one round", "episodes")] = (
        64
    )
    baseline: Annotated[
        Literal["none", "episode", "batch"],
        about("episode, batch: credits get zero mean and unit deviation in each"),
    ] = "episode"
    inner_steps: Annotated[
        int,
        Meta(ge=0),
        about(
            "corrected steps of environment.num_envs episodes after each large batch; 0: their number is "
            "drawn anew, geometric with mean batch_episodes / num_envs + 1 (SCSG)"
        ),
    ] = 3
    importance: Annotated[
        Literal["trajectory", "step"],
        about(
            "weights of the correction: the product of an episode's ratios, which is unbiased, or the ratio "
            "of each step alone as in FedPG-BR's program, which is biased"
        ),
    ] = "trajectory"
    ratio_range: Annotated[
        Positive,
        about(
            "the inner loop ends where the root mean square of an episode's weight less 1 is larger; with "
            "importance = step where the mean ratio is farther from 1, which measures sampling noise"
        ),
    ] = 0.5


class QNetworkConfig(PerceptronConfig, frozen=True, kw_only=True):
    """Action values of a learner."""

    hidden: Annotated[tuple[Count, ...], Meta(min_length=1), about("units of each hidden layer")] = (120, 84)
    activation: Annotated[Literal["tanh", "relu"], about("hidden non-linearity")] = "relu"
    initialisation: Annotated[
        Literal["orthogonal", "uniform"],
        about("orthogonal weights and zero biases, or all uniform in +-1 / sqrt(inputs of the layer)"),
    ] = "uniform"


class DQNConfig(NetworkLearnerConfig, frozen=True, kw_only=True, tag="dqn"):
    """Deep Q-learning (Mnih et al. 2015) with the parts of Rainbow (Hessel et al. 2018) as options."""

    batch_size: Annotated[Count, about("transitions of one gradient")] = 128
    buffer_size: Annotated[Count, about("newest transitions kept")] = 10_000
    learning_starts: Annotated[Count, about("transitions before the first gradient", "steps")] = 1000
    train_every: Annotated[
        Count, about("environment steps from one gradient to the next; a multiple of num_envs", "steps")
    ] = 8
    gradient_steps: Annotated[Count, about("gradients each time")] = 1
    target_every: Annotated[Count, about("environment steps from one target to the next", "steps")] = 500
    tau: Annotated[
        float, Meta(gt=0.0, le=1.0), about("share by which the target moves; 1: it becomes the network")
    ] = 1.0
    epsilon_start: Annotated[Fraction, about("share of random actions in the beginning")] = 1.0
    epsilon_end: Annotated[Fraction, about("share of random actions in the end")] = 0.05
    epsilon_steps: Annotated[Count, about("steps in which the share falls", "steps")] = 25_000
    double: Annotated[bool, about("the network chooses the action that the target values")] = False
    dueling: Annotated[bool, about("state value and advantages on common layers")] = False
    n_step: Annotated[Count, about("rewards summed before the value of the state reached", "steps")] = 1
    prioritised: Annotated[bool, about("transitions with large errors are drawn more often")] = False
    priority_exponent: Annotated[Fraction, about("alpha: 0 draws uniformly")] = 0.6
    importance_exponent: Annotated[Fraction, about("beta: 1 corrects for the drawing in full")] = 0.4
    loss: Annotated[Literal["squared", "huber"], about("of the temporal-difference error")] = "squared"
    federate_target: Annotated[bool, about("the target network travels too")] = False
    max_gradient_norm: Annotated[Positive, about("global L2 norm gradients are scaled down to")] = 1000.0
    network: QNetworkConfig = QNetworkConfig()


class QLearningConfig(LearnerConfig, frozen=True, kw_only=True, tag="q_learning"):
    """Tabular Q-learning (Watkins and Dayan 1992), SARSA and expected SARSA."""

    budget: Annotated[Count, about("environment steps of one agent in one round", "steps")] = 1000
    lr: Annotated[float, Meta(gt=0.0, lt=1.0), about("step size")] = 0.1
    method: Annotated[
        Literal["q_learning", "sarsa", "expected_sarsa"],
        about("whose action the next state is valued by: the best one, the next one, or their mean"),
    ] = "q_learning"
    behaviour: Annotated[
        Literal["epsilon_greedy", "uniform", "fixed"],
        about("how the agent acts while it learns; fixed: the environment says what is always played"),
    ] = "epsilon_greedy"
    epsilon_start: Annotated[Fraction, about("share of random actions in the beginning")] = 1.0
    epsilon_end: Annotated[Fraction, about("share of random actions in the end")] = 0.05
    epsilon_steps: Annotated[Count, about("steps in which the share falls", "steps")] = 10_000
    engine: Annotated[
        Literal["auto", "numpy", "torch"],
        about("torch: the agents of a rank learn together on learner.device; auto: numpy"),
    ] = "auto"
    device: Annotated[
        Literal["auto", "cpu", "cuda"], about("of the torch engine; auto: CUDA when present")
    ] = "auto"


class TDConfig(LearnerConfig, frozen=True, kw_only=True, tag="td"):
    """TD(0) of state values (Sutton 1988), for processes without choices."""

    budget: Annotated[Count, about("environment steps of one agent in one round", "steps")] = 1000
    lr: Annotated[float, Meta(gt=0.0, lt=1.0), about("step size")] = 0.05


class QAveragingConfig(LearnerConfig, frozen=True, kw_only=True, tag="q_averaging"):
    """Exact sweeps over a known process (QAvg, Jin et al. 2022); nothing is sampled."""

    budget: Annotated[Count, about("sweeps of one agent in one round", "sweeps")] = 8
    lr: Annotated[float, Meta(gt=0.0, le=1.0), about("step size of a sweep")] = 0.01
    plateau_decay: Annotated[
        Fraction, about("factor of the step size wherever the return has stopped rising")
    ] = 0.95


class SoftNetworkConfig(QNetworkConfig, frozen=True, kw_only=True):
    """Actor and critics of a learner."""

    hidden: Annotated[tuple[Count, ...], Meta(min_length=1), about("units of each hidden layer")] = (256, 256)


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
    network: SoftNetworkConfig = SoftNetworkConfig()


class OwnConfig(NetworkLearnerConfig, frozen=True, kw_only=True, tag="own"):
    """A class of yours; which of these settings it heeds is its own matter."""

    id: Annotated[str, about("package.module:Class")] = ""
    kwargs: Annotated[dict[str, Any], about("constructor arguments, the same for every agent")] = {}
    budget: Annotated[Count, about("work of one agent in one round, in the unit that the class names")] = 8192
    network: NetworkConfig = NetworkConfig()

    @property
    def algorithm(self) -> str:
        """Name of the class."""
        return self.id or "own"


def pooled(learner: LearnerConfig, times: int) -> LearnerConfig:
    """Let a learner with the worlds of several agents learn as often as one of them, from more at once."""
    counted_in_steps = ("train_every", "target_every", "epsilon_steps", "batch_episodes")
    scaled = {name: times * getattr(learner, name) for name in counted_in_steps if hasattr(learner, name)}
    return replace(learner, **scaled) if times > 1 else learner


def settled(learner: LearnerConfig) -> LearnerConfig:
    """Let a learner explore from its first step as it does when its schedule has come to the end."""
    end = getattr(learner, "epsilon_end", None)
    return learner if end is None else replace(learner, epsilon_start=end)
