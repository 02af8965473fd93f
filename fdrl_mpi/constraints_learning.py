"""What a configuration asks of learners and of what travels that cannot work; see `constraints`."""

from collections.abc import Iterator

from fdrl_mpi.build_agent import learner_class
from fdrl_mpi.build_collective import ROOT_ALONE
from fdrl_mpi.config import AverageConfig, Config, FedPGConfig
from fdrl_mpi.problem import Problem
from fdrl_mpi.rl.hyperparameters import (
    DQNConfig,
    LearnerConfig,
    NetworkLearnerConfig,
    OnPolicyConfig,
    OwnConfig,
    PPOConfig,
    QAveragingConfig,
    QLearningConfig,
    ReinforceConfig,
    SACConfig,
    SVRPGConfig,
)


def check_learning(config: Config) -> Iterator[Problem]:
    """Collect violations that need neither ranks nor environments."""
    learner = config.learner
    if isinstance(learner, OnPolicyConfig):
        yield from _rollouts(learner, config.environment.num_envs)
    elif isinstance(learner, ReinforceConfig):
        yield from _episodes(learner, config.environment.num_envs)
    elif isinstance(learner, DQNConfig):
        yield from _replay(learner, config.environment.num_envs)
    elif isinstance(learner, SACConfig):
        yield from _soft_actor_critic(learner, config.environment.num_envs)
    elif isinstance(learner, OwnConfig):
        yield from _own(config, learner)
    elif not isinstance(learner, QAveragingConfig):
        yield from _steps(learner, config.environment.num_envs)
    yield from _engine(learner)
    yield from _alone(config)
    yield from _update_kind(config)
    yield from _objective(config)
    yield from _exact(config)
    yield from _visits(config)
    yield from _server(config)


def _rollouts(learner: OnPolicyConfig, num_envs: int) -> Iterator[Problem]:
    rollout = learner.num_steps * num_envs
    if learner.budget % rollout:
        nearest = max(round(learner.budget / rollout), 1) * rollout
        yield Problem(
            f"learner.budget = {learner.budget} with rollouts of {rollout} steps",
            f"a round is made of whole rollouts (learner.num_steps = {learner.num_steps} "
            f"x environment.num_envs = {num_envs})",
            f"choose a multiple of {rollout}, for example {nearest}",
        )
    if isinstance(learner, PPOConfig) and rollout % learner.num_minibatches:
        yield Problem(
            f"learner.num_minibatches = {learner.num_minibatches} with rollouts of {rollout} steps",
            "minibatches of a rollout have the same size",
            f"choose a divisor of {rollout}",
        )


def _episodes(learner: ReinforceConfig, num_envs: int) -> Iterator[Problem]:
    if learner.batch_episodes % num_envs:
        yield Problem(
            f"learner.batch_episodes = {learner.batch_episodes} with environment.num_envs = {num_envs}",
            "every environment plays the same number of episodes of a batch",
            f"choose a multiple of {num_envs}, or another environment.num_envs",
        )
    if learner.budget % learner.batch_episodes:
        yield Problem(
            f"learner.budget = {learner.budget} with batches of {learner.batch_episodes} episodes",
            "a round is made of whole batches",
            f"choose a multiple of {learner.batch_episodes}",
        )
    if learner.network.shared and learner.baseline != "value":
        yield Problem(
            f"learner.network.shared = true with learner.baseline = {learner.baseline}",
            "there is no value to share layers with",
            "set learner.network.shared to false, or learner.baseline to value",
        )


def _replay(learner: DQNConfig, num_envs: int) -> Iterator[Problem]:
    if learner.buffer_size < max(learner.batch_size, learner.learning_starts):
        yield Problem(
            f"learner.buffer_size = {learner.buffer_size} with learner.batch_size = {learner.batch_size} and "
            f"learner.learning_starts = {learner.learning_starts}",
            "the buffer never holds what the first gradient waits for",
            f"choose at least {max(learner.batch_size, learner.learning_starts)}",
        )
    if learner.train_every % num_envs:
        yield Problem(
            f"learner.train_every = {learner.train_every} with environment.num_envs = {num_envs}",
            "all environments step together between two gradients",
            f"choose a multiple of {num_envs}, or another environment.num_envs",
        )
    if learner.budget % learner.train_every:
        yield Problem(
            f"learner.budget = {learner.budget} with learner.train_every = {learner.train_every}",
            "a round ends with a gradient",
            f"choose a multiple of {learner.train_every}",
        )
    if learner.dueling and learner.network.module:
        yield Problem(
            f"learner.dueling = true with learner.network.module = {learner.network.module}",
            "a module gives one value for each action",
            "set learner.dueling to false and let the module have both heads",
        )


def _soft_actor_critic(learner: SACConfig, num_envs: int) -> Iterator[Problem]:
    if learner.budget % num_envs:
        nearest = max(round(learner.budget / num_envs), 1) * num_envs
        yield Problem(
            f"learner.budget = {learner.budget} with environment.num_envs = {num_envs}",
            "the environments of an agent are stepped together",
            f"choose a multiple of {num_envs}, for example {nearest}",
        )
    if learner.buffer_size < max(learner.batch_size, num_envs):
        yield Problem(
            f"learner.buffer_size = {learner.buffer_size} with learner.batch_size = {learner.batch_size} and "
            f"environment.num_envs = {num_envs}",
            "an agent cannot remember one batch, or one step",
            "raise learner.buffer_size",
        )
    if learner.learning_starts < learner.batch_size:
        yield Problem(
            f"learner.learning_starts = {learner.learning_starts} with learner.batch_size = "
            f"{learner.batch_size}",
            "the first batches would repeat a few transitions",
            f"set learner.learning_starts to {learner.batch_size} or more",
        )
    if learner.network.convolutions:
        yield Problem(
            'learner.name = "sac" with learner.network.convolutions',
            "its critics read actions beside observations, which are no image",
            "set learner.network.convolutions to [], or choose ppo, a2c, reinforce or dqn",
        )
    if learner.network.module:
        yield Problem(
            f'learner.name = "sac" with learner.network.module = "{learner.network.module}"',
            "an actor and two critics, which read actions too, are not one module",
            'set learner.network.module to "" and choose layers',
        )


def _steps(learner: LearnerConfig, num_envs: int) -> Iterator[Problem]:
    if learner.budget % num_envs:
        yield Problem(
            f"learner.budget = {learner.budget} with environment.num_envs = {num_envs}",
            "all environments step together",
            f"choose a multiple of {num_envs}",
        )


def _own(config: Config, learner: OwnConfig) -> Iterator[Problem]:
    """Refuse a class that is none, or that has no gradients where some are wanted."""
    try:
        cls = learner_class(learner.id)
    except ValueError as error:
        yield Problem(
            f'learner.name = "own" with learner.id = "{learner.id}"',
            str(error),
            "name a class of yours in learner.id, or choose another learner.name",
        )
        return
    wanted = {
        "aggregation.update_kind = gradient": config.aggregation.update_kind == "gradient",
        "objective.proximal": config.objective.proximal > 0.0,
        "objective.control_variates": config.objective.control_variates,
    }
    named = " and ".join(name for name, is_wanted in wanted.items() if is_wanted)
    if named and not getattr(cls, "has_gradients", False):
        yield Problem(
            f"{named} with learner.id = {learner.id}",
            "the class does not say that it steps along gradients, through the objective's optimisers",
            "leave it at its default, or do that in the class and say has_gradients = True",
        )


def _engine(learner: LearnerConfig) -> Iterator[Problem]:
    if isinstance(learner, QLearningConfig) and learner.device == "cuda" and learner.engine != "torch":
        yield Problem(
            f'learner.engine = "{learner.engine}" with learner.device = "cuda"',
            "the numpy engine computes on the CPU",
            'set learner.engine to "torch", or learner.device to "cpu"',
        )
    if not isinstance(learner, NetworkLearnerConfig):
        return
    if learner.engine == "numpy" and learner.device == "cuda":
        yield Problem(
            'learner.engine = "numpy" with learner.device = "cuda"',
            "the numpy engine computes on the CPU",
            'set learner.engine to "auto" or "torch", or learner.device to "cpu"',
        )
    if learner.engine == "numpy" and learner.network.module:
        yield Problem(
            f'learner.engine = "numpy" with learner.network.module = "{learner.network.module}"',
            "a module is differentiated by torch",
            'set learner.engine to "auto" or "torch"',
        )
    yield from _convolutions(learner)


def _convolutions(learner: NetworkLearnerConfig) -> Iterator[Problem]:
    if not learner.network.convolutions:
        return
    chosen = f"learner.network.convolutions = {[list(layer) for layer in learner.network.convolutions]}"
    if learner.engine == "numpy":
        yield Problem(
            f'learner.engine = "numpy" with {chosen}',
            "convolutions are computed and differentiated by torch",
            'set learner.engine to "auto" or "torch", or learner.network.convolutions to []',
        )
    if learner.network.module:
        yield Problem(
            f'learner.network.module = "{learner.network.module}" with {chosen}',
            "a module of your own is the whole network, nothing is put in front of it",
            "put the convolutions into the module, or set learner.network.convolutions to []",
        )


def _alone(config: Config) -> Iterator[Problem]:
    """Refuse what needs a server and agents that meet."""
    if config.mode == "federated":
        return
    kind = config.aggregation.update_kind
    wanted = {
        f"aggregation.update_kind = {kind}": kind != "parameters",
        "aggregation.server.name = fedpg": isinstance(config.aggregation.server, FedPGConfig),
        "objective.control_variates = true": config.objective.control_variates,
    }
    for named in (name for name, is_wanted in wanted.items() if is_wanted):
        yield Problem(
            f'{named} with mode = "{config.mode}"',
            "it says how agents and root work together; here whoever learns steps its own model",
            "leave it at its default, or set mode to federated",
        )


def _update_kind(config: Config) -> Iterator[Problem]:
    kind, name = config.aggregation.update_kind, config.algorithm
    if kind != "parameters" and config.comm.collective == "gossip":
        yield Problem(
            f"aggregation.update_kind = {kind} with comm.collective = gossip",
            "neighbours mix models; there is no common one to differ from",
            "set aggregation.update_kind to parameters",
        )
    if kind == "gradient" and not isinstance(config.learner, NetworkLearnerConfig):
        yield Problem(
            f"aggregation.update_kind = gradient with learner.name = {name}",
            "tables have no gradients",
            "set aggregation.update_kind to parameters or difference",
        )
    if kind == "gradient" and getattr(config.learner, "federate_target", False):
        yield Problem(
            f"aggregation.update_kind = gradient with learner.name = {name} and "
            "learner.federate_target = true",
            "a target has no gradient, so the federated one would never move",
            "set learner.federate_target to false, or aggregation.update_kind to parameters or difference",
        )
    if kind == "gradient" and _has_decay(config.learner):
        yield Problem(
            "aggregation.update_kind = gradient with learner.lr_decay or learner.lr_decay_rounds",
            "agents do not step their models, so only the server's step size counts, and that stays",
            "leave both at their defaults and choose aggregation.server.lr",
        )
    if kind == "gradient" and isinstance(config.learner, SVRPGConfig):
        yield Problem(
            "aggregation.update_kind = gradient with learner.name = svrpg",
            "its inner loop moves, and a gradient is that of one place",
            "let the root make the inner loop: learner.name = reinforce and aggregation.server.name = fedpg",
        )


def _has_decay(learner: LearnerConfig) -> bool:
    """Whether the step size is to fall from round to round."""
    return learner.lr_decay != 1.0 or learner.lr_decay_rounds != 0


def _objective(config: Config) -> Iterator[Problem]:
    objective, learner = config.objective, config.learner
    wanted = [
        name
        for name, is_wanted in (
            ("proximal", objective.proximal > 0.0),
            ("control_variates", objective.control_variates),
            ("kl_coefficient", objective.kl_coefficient > 0.0),
        )
        if is_wanted
    ]
    named = " and ".join(f"objective.{name}" for name in wanted)
    if wanted and not isinstance(learner, NetworkLearnerConfig):
        yield Problem(
            f"{named} with learner.name = {config.algorithm}", "tables have no gradients", "drop it"
        )
        return
    if objective.kl_coefficient and not isinstance(learner, OnPolicyConfig | ReinforceConfig):
        yield Problem(
            f"objective.kl_coefficient with learner.name = {config.algorithm}",
            "it looks at the probabilities of a policy, and this learner has none",
            "choose ppo, a2c, reinforce or svrpg, or objective.proximal",
        )
    if objective.control_variates and config.comm.collective == "gossip":
        yield Problem(
            "objective.control_variates with comm.collective = gossip",
            "a server keeps the mean of all control variates, and there is none",
            "choose another collective, or objective.proximal",
        )
    if isinstance(learner, SVRPGConfig) and {"proximal", "control_variates"} & set(wanted):
        yield Problem(
            f"{named} with learner.name = svrpg",
            "its inner loop corrects gradients itself",
            "choose reinforce, or leave it at its default",
        )
    if config.aggregation.update_kind == "gradient" and wanted:
        yield Problem(
            f"{named} with aggregation.update_kind = gradient",
            "agents make no steps that it could bend: where they stay, its gradient is 0",
            "set aggregation.update_kind to parameters or difference",
        )
    if objective.control_variates:
        yield from _controls(config)


def _controls(config: Config) -> Iterator[Problem]:
    """Refuse weights that are not the same for all agents under SCAFFOLD."""
    weighting = config.aggregation.weighting
    may_differ = isinstance(config.learner, ReinforceConfig | OwnConfig)
    if weighting != "uniform" and (weighting != "samples" or may_differ):
        yield Problem(
            f"objective.control_variates with aggregation.weighting = {weighting} and learner.name = "
            f"{config.algorithm}",
            "the global control variate is the plain mean of the agents' own, and here they differ in weight",
            "set aggregation.weighting to uniform",
        )


def _exact(config: Config) -> Iterator[Problem]:
    weighting, is_alone = config.aggregation.weighting, config.mode == "independent"
    if not isinstance(config.learner, QAveragingConfig):
        return
    if _has_decay(config.learner):
        yield Problem(
            f"learner.lr_decay or learner.lr_decay_rounds with learner.name = {config.algorithm}",
            "its step size falls where the return has stopped rising, and not from round to round",
            "leave both at their defaults and choose learner.plateau_decay",
        )
    if not is_alone and weighting not in ("uniform", "visits"):
        yield Problem(
            f"aggregation.weighting = {weighting} with learner.name = {config.algorithm}",
            "exact sweeps take no step, so the weight of every agent is 0 and nothing is ever published",
            "set aggregation.weighting to uniform",
        )


def _visits(config: Config) -> Iterator[Problem]:
    aggregation = config.aggregation
    if aggregation.weighting != "visits":
        return
    if not isinstance(config.learner, QLearningConfig):
        yield Problem(
            f"aggregation.weighting = visits with learner.name = {config.algorithm}",
            "only a table knows how often each of its entries was visited",
            "choose learner.name = q_learning, or another weighting",
        )
    if aggregation.update_kind != "parameters" or aggregation.server != AverageConfig():
        yield Problem(
            "aggregation.weighting = visits with another update_kind than parameters, or another server than "
            "average with lr = 1",
            "the weighted mean of the tables is the next table",
            "set aggregation.update_kind to parameters and aggregation.server.name to average",
        )
    if config.comm.collective in ("secure_ring", "gossip"):
        yield Problem(
            f"aggregation.weighting = visits with comm.collective = {config.comm.collective}",
            "fixed point keeps few orders of magnitude, and these weights have many; gossip has its own",
            "choose another collective, or aggregation.weighting = uniform",
        )


def _server(config: Config) -> Iterator[Problem]:
    server, learner = config.aggregation.server, config.learner
    if config.comm.collective == "gossip" and server != AverageConfig():
        yield Problem(
            f"aggregation.server.name = {server.__struct_config__.tag} with comm.collective = gossip",
            "there is no server",
            "set aggregation.server.name to average with lr = 1, or choose another collective",
        )
    if not isinstance(server, FedPGConfig):
        return
    is_plain = isinstance(learner, ReinforceConfig) and not isinstance(learner, SVRPGConfig)
    if not is_plain or config.aggregation.update_kind != "gradient":
        yield Problem(
            f"aggregation.server.name = fedpg with learner.name = {config.algorithm} and "
            f"aggregation.update_kind = {config.aggregation.update_kind}",
            "the root corrects the mean of policy gradients",
            "set learner.name to reinforce and aggregation.update_kind to gradient",
        )
    if isinstance(learner, ReinforceConfig) and (learner.baseline == "value" or learner.share != "all"):
        yield Problem(
            f"aggregation.server.name = fedpg with learner.baseline = {learner.baseline} and "
            f"learner.share = {learner.share}",
            "the root acts with the whole model, and importance ratios do not correct a value",
            "set learner.baseline to episode, batch or none, and learner.share to all",
        )
    if config.comm.collective not in ROOT_ALONE:
        yield Problem(
            f"aggregation.server.name = fedpg with comm.collective = {config.comm.collective}",
            "every rank sees the sum there, and the root alone makes the inner loop",
            f"choose {', '.join(ROOT_ALONE[:-1])} or {ROOT_ALONE[-1]}",
        )
