"""The configuration of a run: one frozen structure per section, every default in one place.

Declarations only (msgspec, no numpy), so that every rank can read its configuration, and refuse it, before
anything heavy is loaded.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from fdrl_mpi.envs.heterogeneity import Distribution, Uniform
from fdrl_mpi.rl.hyperparameters import (
    A2CConfig,
    Count,
    DQNConfig,
    NonNegative,
    OwnConfig,
    Positive,
    PPOConfig,
    QAveragingConfig,
    QLearningConfig,
    ReinforceConfig,
    SACConfig,
    SVRPGConfig,
    TDConfig,
    Text,
    about,
)

MAY_DIFFER_ON_RESUME = ("rounds", "agents", "agents_per_rank", "run", "log", "evaluation", "checkpoint")
"""Keys and sections that a resumed run may change; any other difference makes it another experiment."""


def _sixteen_cartpoles() -> dict[str, Distribution]:
    return {
        "gravity": Uniform(low=5.0, high=15.0),
        "masscart": Uniform(low=0.5, high=2.0),
        "masspole": Uniform(low=0.05, high=0.3),
        "length": Uniform(low=0.3, high=0.8),
        "force_mag": Uniform(low=7.0, high=15.0),
    }


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the TOML file."""


class RunConfig(_Section, frozen=True, kw_only=True):
    """Where a run lives and how it goes on."""

    name: Annotated[Text, about("folder of the run below run.dir")] = "cartpole"
    dir: Annotated[Text, about("folder that holds all runs")] = "runs"
    resume: Annotated[
        Text,
        about(
            "auto: go on where the run stopped; never: start over, the old run is kept aside; "
            "PATH: go on from another run"
        ),
    ] = "auto"


class EnvironmentConfig(_Section, frozen=True, kw_only=True):
    """Where agents act, and how their worlds differ."""

    id: Annotated[
        Text,
        about(
            "CartPole-v1, Pendulum-v1, Acrobot-v1, MountainCar-v0, Catch, RandomMDP, WindyCliff, "
            "RewardProcess, TwoState (own, vectorised), gym:ID or package.module:Class"
        ),
    ] = "CartPole-v1"
    num_envs: Annotated[Count, Meta(le=100_000), about("environments each agent steps together")] = 8
    heterogeneity: Annotated[
        dict[str, Distribution],
        about(
            "context name = distribution, from which every agent draws its own value; {}: identical "
            "worlds, also when environment.id is set to another than the default and this key is not set"
        ),
    ] = field(default_factory=_sixteen_cartpoles)
    kwargs: Annotated[dict[str, Any], about("constructor arguments, the same for every agent")] = {}


Decay = Annotated[float, Meta(ge=0.0, lt=1.0)]
Small = Annotated[float, Meta(ge=1e-15)]
"""Whose square is still a number in float32."""


class AverageConfig(_Section, frozen=True, kw_only=True, tag_field="name", tag="average"):
    """The model moves by lr times the mean update; with lr = 1 it is the mean of the models (FedAvg)."""

    lr: Annotated[Positive, about("server step size")] = 1.0


class MomentumConfig(_Section, frozen=True, kw_only=True, tag_field="name", tag="momentum"):
    """FedAvgM (Hsu et al. 2019): the model moves along a decaying sum of mean updates."""

    lr: Annotated[Positive, about("server step size")] = 1.0
    beta: Annotated[Decay, about("share of the sum that is kept")] = 0.9


class AdagradConfig(_Section, frozen=True, kw_only=True, tag_field="name", tag="adagrad"):
    """FedAdagrad (Reddi et al., ICLR 2021)."""

    lr: Annotated[Positive, about("server step size")] = 0.01
    beta_1: Annotated[Decay, about("decay of the mean update")] = 0.0
    tau: Annotated[Small, about("added to the root of the squares; the first square is tau^2")] = 1e-3


class AdamConfig(_Section, frozen=True, kw_only=True, tag_field="name", tag="adam"):
    """FedAdam (Reddi et al., ICLR 2021)."""

    lr: Annotated[Positive, about("server step size")] = 0.01
    beta_1: Annotated[Decay, about("decay of the mean update")] = 0.9
    beta_2: Annotated[Decay, about("decay of the squares")] = 0.99
    tau: Annotated[Small, about("added to the root of the squares; the first square is tau^2")] = 1e-3


class YogiConfig(AdamConfig, frozen=True, kw_only=True, tag_field="name", tag="yogi"):
    """FedYogi (Reddi et al., ICLR 2021): squares move by their sign, not towards their mean."""


class FedPGConfig(_Section, frozen=True, kw_only=True, tag_field="name", tag="fedpg"):
    """FedPG (Fan et al., NeurIPS 2021): the root corrects the mean gradient by episodes of its own."""

    lr: Annotated[Positive, about("step size of the root's Adam")] = 1e-3
    num_envs: Annotated[Count, about("episodes of an inner step, b", "episodes")] = 4
    inner_steps: Annotated[
        int, Meta(ge=0), about("inner steps of a round; 0: drawn anew, geometric with mean B / b + 1")
    ] = 0
    ratio_range: Annotated[
        Positive,
        about(
            "the inner loop ends where the mean of the steps' importance ratios is farther from 1; as in the "
            "paper's program, whose weights are biased: this measures sampling noise"
        ),
    ] = 0.005


class ObjectiveConfig(_Section, frozen=True, kw_only=True):
    """What an agent minimises besides its own loss."""

    proximal: Annotated[
        NonNegative,
        about("mu: half of it times the squared distance from the global model (FedProx)"),
    ] = 0.0
    control_variates: Annotated[
        bool, about("correct local gradients by the difference of the global and the own mean (SCAFFOLD)")
    ] = False
    kl_coefficient: Annotated[
        NonNegative, about("weight of the policy's KL divergence from the global policy (FedKL)", "per nat")
    ] = 0.0


class ValidationConfig(_Section, frozen=True, kw_only=True):
    """What the next model must stand before it is published; otherwise the last one stays."""

    most_drop: Annotated[
        NonNegative,
        about(
            "how far the mean return over all worlds may fall from one model to the next, or three standard "
            "errors where they are more; the root plays every model, and all wait; 0: not checked"
        ),
    ] = 0.0
    episodes: Annotated[
        Count, about("episodes in each world, which start alike for every model", "episodes")
    ] = 4
    recompute: Annotated[
        bool,
        about(
            "whether the root's mirror makes the next model too, bit for bit (needs faults.mode = survive)"
        ),
    ] = False


class AggregationConfig(_Section, frozen=True, kw_only=True):
    """What the root computes from the agents' updates."""

    rule: Annotated[
        Text, about("mean: weighted mean of the updates (FedAvg); or a class of yours: package.module:Class")
    ] = "mean"
    rule_kwargs: Annotated[dict[str, Any], about("constructor arguments of the rule")] = {}
    weighting: Annotated[
        Literal["uniform", "samples", "episodes", "returns", "visits"],
        about(
            "weight of an agent: 1, its environment steps, its finished episodes, or the mean return of its "
            "newest ones; visits: each entry of a table by how often the agent was there"
        ),
    ] = "samples"
    update_kind: Annotated[
        Literal["parameters", "difference", "gradient"],
        about(
            "what agents hand in: their models, the difference from the global one, or the mean of their "
            "gradients at the global one, along which the server steps: only the server's lr counts then"
        ),
    ] = "parameters"
    server: AverageConfig | MomentumConfig | AdagradConfig | AdamConfig | YogiConfig | FedPGConfig = (
        AverageConfig()
    )
    validation: ValidationConfig = ValidationConfig()


class GossipConfig(_Section, frozen=True, kw_only=True):
    """Who talks to whom where there is no root model."""

    graph: Annotated[
        Literal["ring", "torus", "hypercube", "exponential", "complete", "random", "own"],
        about(
            "who is next to whom; exponential: distances 1, 2, 4, ... on a ring; random: `degree` neighbours "
            "each; own: `edges` or `matrix`"
        ),
    ] = "exponential"
    degree: Annotated[Count, about("neighbours of every agent in a random graph")] = 4
    edges: Annotated[
        tuple[tuple[int, ...], ...], about("pairs of agent ids that are neighbours, for graph = own")
    ] = ()
    matrix: Annotated[
        tuple[tuple[NonNegative, ...], ...],
        about("K rows of K mixing weights, doubly stochastic, for graph = own"),
    ] = ()
    step: Annotated[
        NonNegative,
        about("models move by this times the sum of differences; 0: Metropolis-Hastings weights"),
    ] = 0.0


class SecureConfig(_Section, frozen=True, kw_only=True):
    """The secure sum: what it withstands, and who the parties are."""

    identity: Annotated[
        Literal["none", "roster"],
        about("roster: parties sign who they are; none: only a root that follows the protocol is withstood"),
    ] = "none"
    roster: Annotated[str, about("file with the public key of every party, for identity = roster")] = ""
    private_key: Annotated[
        str, about("file with a party's private key; {party} stands for its id: 0 is the root")
    ] = "party_{party}.pem"
    ring_degree: Annotated[Count, about("neighbours on each side with which a party shares masks")] = 4
    colluders: Annotated[
        int, Meta(ge=0), about("parties that may work with the root, T: 2 ring_degree >= T + dropouts + 1")
    ] = 1
    dropouts: Annotated[int, Meta(ge=0), about("parties that may be lost without weakening the ring, D")] = 0
    range: Annotated[
        Positive,
        about(
            "largest change of a parameter, or gradient, in a round, times its weight; larger ones are cut"
        ),
    ] = 4.0


class CommConfig(_Section, frozen=True, kw_only=True):
    """How updates move between ranks."""

    collective: Annotated[
        Literal["auto", "node", "tree", "allreduce", "gather", "secure_ring", "gossip"],
        about(
            "auto: node where ranks share memory or the rule needs single updates, else allreduce; "
            "node: memory that the ranks of a node share, nodes along a tree; "
            "tree: sums along a tree; allreduce: MPI's own sum; gather: the root gets every update; "
            "secure_ring: nobody learns more than the sum; gossip: neighbours mix their models, there is no "
            "common one"
        ),
    ] = "auto"
    fan_out: Annotated[
        int, Meta(ge=0), about("most children of a rank in a tree, at least 2; 0: chosen between 2 and 8")
    ] = 0
    gossip: GossipConfig = GossipConfig()
    secure: SecureConfig = SecureConfig()


class ParticipationConfig(_Section, frozen=True, kw_only=True):
    """Which agents take part in a round."""

    fraction: Annotated[
        float, Meta(gt=0.0, le=1.0), about("share of the agents drawn for each round, at least one agent")
    ] = 1.0
    deadline_s: Annotated[
        float,
        Meta(ge=0.0),
        about(
            "an agent that has not handed in by then is left out of the round, and may return; 0: the root "
            "waits for all",
            "s",
        ),
    ] = 0.0
    deadline_factor: Annotated[
        float,
        Meta(ge=0.0),
        about(
            "the deadline is this many times the 90th percentile of training times of the last ten rounds, "
            "and at least deadline_s; 0: deadline_s alone"
        ),
    ] = 0.0


class FaultsConfig(_Section, frozen=True, kw_only=True):
    """What happens when a rank dies, stops or falls silent."""

    mode: Annotated[
        Literal["abort", "survive"],
        about(
            "abort: the run ends, and goes on from its checkpoint when it is started again; survive: the "
            "others go on without it (needs mpirun --with-ft ulfm)"
        ),
    ] = "abort"
    spares: Annotated[
        int,
        Meta(ge=0),
        about(
            "the last ranks stand by: the first keeps a copy of the root's state and takes over from it, the "
            "others take the place of lost agents",
            "ranks",
        ),
    ] = 0
    silence_s: Annotated[
        Positive,
        about(
            "a rank that does not answer in an exchange for so long is lost; one on the same host that works "
            "meanwhile, or waits for a disk, after ten times as long",
            "s",
        ),
    ] = 60.0
    max_misses: Annotated[Count, about("an agent that has missed so many deadlines may not return")] = 3


class EvaluationConfig(_Section, frozen=True, kw_only=True):
    """The published policy played greedily in every agent's world."""

    every: Annotated[
        Count, about("rounds between evaluations; the last round is always evaluated", "rounds")
    ] = 2
    episodes: Annotated[Count, about("episodes in each world", "episodes")] = 4


class CheckpointConfig(_Section, frozen=True, kw_only=True):
    """When the state of the run is saved."""

    every: Annotated[Count, about("rounds between checkpoints; the last round is always saved", "rounds")] = (
        16
    )
    keep: Annotated[Count, about("newest checkpoints kept")] = 3


class LogConfig(_Section, frozen=True, kw_only=True):
    """What is printed while a run goes on."""

    level: Annotated[Literal["debug", "info", "warning"], about("least severe message that is logged")] = (
        "info"
    )
    progress: Annotated[
        Literal["lines", "bar", "none"],
        about("lines: a plain line per evaluation; bar: one line that is redrawn"),
    ] = "lines"


class Config(_Section, frozen=True, kw_only=True):
    """A whole experiment."""

    seed: Annotated[int, Meta(ge=0), about("every random draw of the run follows from it")] = 0
    rounds: Annotated[Count, about("rounds of train, exchange, aggregate, publish", "rounds")] = 32
    mode: Annotated[
        Literal["federated", "independent", "centralised"],
        about(
            "federated: updates are averaged; independent: no exchange; "
            "centralised: one learner on all worlds"
        ),
    ] = "federated"
    agents_per_rank: Annotated[
        Count,
        Meta(le=10_000),
        about("agents that a rank hosts; they train together where they can, else in turn", "agents"),
    ] = 1
    agents: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        about("agents of the run, spread over the ranks as evenly as they go; 0: agents_per_rank on each"),
    ] = 0
    run: RunConfig = RunConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    learner: (
        PPOConfig
        | A2CConfig
        | DQNConfig
        | QAveragingConfig
        | QLearningConfig
        | ReinforceConfig
        | SACConfig
        | SVRPGConfig
        | TDConfig
        | OwnConfig
    ) = PPOConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    aggregation: AggregationConfig = AggregationConfig()
    comm: CommConfig = CommConfig()
    participation: ParticipationConfig = ParticipationConfig()
    faults: FaultsConfig = FaultsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    def num_agents(self, num_hosting: int) -> int:
        """Count the agents of a job with so many ranks that host some."""
        return self.agents or num_hosting * self.agents_per_rank

    @property
    def algorithm(self) -> str:
        """Name of the algorithm every agent learns with."""
        return self.learner.algorithm
