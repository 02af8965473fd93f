"""The global model, trained on by each agent in its own world: what personalisation would add to it.

References
----------
Yu, Bagdasaryan and Shmatikov, "Salvaging Federated Learning by Local Adaptation", 2020 (arXiv 2002.04758),
section 4: fine-tuning. Arivazhagan et al., "Federated Learning with Personalization Layers", 2019 (arXiv
1912.00818): where only a part is federated, the agent's own part comes with it.
"""

import logging

import numpy as np

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.build_agent import draw_worlds, learner_class, make_environment, make_learner
from fdrl_mpi.config import Config
from fdrl_mpi.rl.hyperparameters import (
    DQNConfig,
    OnPolicyConfig,
    QAveragingConfig,
    ReinforceConfig,
    settled,
)
from fdrl_mpi.rl.learner import Budget
from fdrl_mpi.rl.objective import LocalObjective
from fdrl_mpi.streams import stream
from fdrl_mpi.trained_run import TrainedRun

LOG = logging.getLogger(__name__)
PURPOSE = "fine-tune"
"""Stream of every draw of the training."""


class FineTuning:
    """Lets each agent train on, alone and afresh: no optimiser state, memory or statistics of the run.

    Each agent learns with the run's learner and its first step size, but minimises nothing besides its own
    loss (no proximal term, control variate or divergence), and explores as little as at the end of the
    schedule: with epsilon from its start, a policy that is good would be taught by random steps. The draws
    follow from the run's seed.

    Parameters
    ----------
    run : TrainedRun
    asked : int
        Work of each agent, in the learner's unit, at least 0.

    Attributes
    ----------
    work : int
        What is spent: the least that is made of whole steps of the learner and not below `asked`.
    unit : str
        What work is counted in: "steps", "episodes" or "sweeps".
    learning_starts : int
        Steps of it that only fill an empty memory: with less nothing is learnt.
    is_settled : bool
        Whether there is a schedule of exploration, which stands at its end.
    """

    def __init__(self, run: TrainedRun, asked: int) -> None:
        self._run, self.asked = run, asked
        self._worlds = draw_worlds(run.config, run.policies.num_agents)
        whole = least_work(run.config)
        self.work = -(-asked // whole) * whole
        self.unit: str = learner_class(run.config.algorithm).unit
        self._settings = settled(run.config.learner)
        self.learning_starts: int = getattr(self._settings, "learning_starts", 0)
        self.is_settled = hasattr(self._settings, "epsilon_end")

    def model(self, agent: int) -> FloatVector:
        """Train agent `agent` (1 to K) and return its model, float32, shape (d,).

        A training that diverges is dropped with a warning: then the model is what it began with.
        """
        config, begin = self._run.config, self._run.policies.begins()[agent - 1]
        environment = make_environment(
            config.environment, [self._worlds[agent - 1]] * config.environment.num_envs
        )
        model = self._run.model(environment)
        learner = make_learner(self._settings, model, environment, LocalObjective())
        model.params[:] = begin
        learner.train(Budget(self.work, config.learner.lr, stream(config.seed, PURPOSE, agent)))
        if not np.isfinite(model.params).all():
            LOG.warning("agent %d: its fine-tuning diverged, the model is as it was", agent)
            return begin
        return model.params.copy()


def least_work(config: Config) -> int:
    """Compute the least work that a learner can spend, in its unit; it spends multiples of it."""
    learner, num_envs = config.learner, config.environment.num_envs
    if isinstance(learner, QAveragingConfig):
        return 1
    if isinstance(learner, ReinforceConfig):
        return learner.batch_episodes
    if isinstance(learner, OnPolicyConfig):
        return learner.num_steps * num_envs
    if isinstance(learner, DQNConfig):
        return learner.train_every // num_envs * num_envs
    return num_envs
