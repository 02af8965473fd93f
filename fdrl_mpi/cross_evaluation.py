"""Every policy of a run, played greedily in every agent's world and in worlds that nobody trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatVector
from fdrl_mpi.build_agent import Context, draw_worlds, make_environment
from fdrl_mpi.federation.evaluation import Evaluation
from fdrl_mpi.fine_tuning import FineTuning
from fdrl_mpi.trained_run import TrainedRun

PURPOSE = "evaluate"
"""Stream of the episodes' starts: other episodes than those by which the training was followed."""


@dataclass(frozen=True)
class CrossEvaluation:
    """The return of every episode.

    Attributes
    ----------
    worlds, unseen_worlds : lists of contexts, lengths K and U
    shared : float64 array, shape (K, episodes), or None
        Of the global policy in each agent's world; None where agents learn alone.
    unseen : float64 array, shape (U, episodes), or None
        Of the global policy in worlds that no agent trained on; None as above, or if U is 0.
    own : float64 array, shape (K, K, episodes), or None
        ``own[i, k]``: agent i + 1's own policy in the world of agent k + 1; None for a centralised run.
    fine_tuning : FineTuning or None
        How the global policy was trained on; None if nobody asked for that.
    fine_tuned : float64 array, shape (K, episodes), or None
        Of what each agent has made of the global policy, in its own world; None if nobody asked, or there is
        nothing that agents have in common.
    """

    run: TrainedRun
    episodes: int
    worlds: list[Context]
    unseen_worlds: list[Context]
    shared: DoubleArray | None
    unseen: DoubleArray | None
    own: DoubleArray | None
    fine_tuning: FineTuning | None = None
    fine_tuned: DoubleArray | None = None

    def table(self) -> DoubleArray | None:
        """Average over episodes: shape (K, K), rows are policies, columns worlds."""
        return None if self.own is None else self.own.mean(axis=2)

    def published(self) -> DoubleArray:
        """Return what each agent gets from the run in its own world, shape (K, episodes).

        That is the return of the global policy, or of the agent's own one where there is no global policy.
        """
        if self.shared is not None:
            return self.shared
        own = self.own_at_home()
        assert own is not None
        return own

    def own_at_home(self) -> DoubleArray | None:
        """Return what each agent's own policy gets in its own world, shape (K, episodes)."""
        return None if self.own is None else self.own.diagonal().T

    def as_json(self) -> dict[str, Any]:
        """Summarise everything in JSON values; what there is not, or is not finite, is None."""
        config, table, tuning = self.run.config, self.table(), self.fine_tuning
        num_agents = len(self.worlds)
        return {
            "run": str(self.run.directory.path),
            "mode": config.mode,
            "environment": config.environment.id,
            "round": self.run.round,
            "agents": num_agents,
            "episodes": self.episodes,
            "global_mean_return": _mean(self.shared),
            "worst_agent_return": _json(self.published().mean(axis=1).min()),
            "own_mean_return": _mean(self.own_at_home()),
            "fine_tuned_mean_return": _mean(self.fine_tuned),
            "unseen_mean_return": _mean(self.unseen),
            "global_returns": _means(self.shared),
            "global_stds": _stds(self.shared),
            "fine_tuning_work": None if tuning is None else tuning.work,
            "fine_tuning_unit": None if tuning is None else tuning.unit,
            "fine_tuned_returns": _means(self.fine_tuned),
            "fine_tuned_stds": _stds(self.fine_tuned),
            "unseen_returns": _means(self.unseen),
            "unseen_stds": _stds(self.unseen),
            "table": [[None] * num_agents] * num_agents if table is None else _json(table),
            "contexts": self.worlds,
            "unseen_contexts": self.unseen_worlds,
        }


class CrossEvaluator:
    """Plays all policies of a run on the same episodes.

    The episodes follow from the run's seed and the number of worlds and episodes. Those of the agents'
    worlds do not depend on `num_unseen`.

    Parameters
    ----------
    episodes : int
        Of each policy in each world, at least 1.
    num_unseen : int
        Worlds to draw besides those of the agents.
    fine_tune : int
        Work with which each agent trains the global policy on before it is played; 0: nobody does.

    Raises
    ------
    ValueError
        If configuration, environment and checkpoint do not fit together.

    Notes
    -----
    All episodes of a policy are stepped together; K + 1 policies are played one after another, or 2 K + 1
    with fine-tuning: whatever is played in an agent's world meets the same episodes there.
    """

    def __init__(self, run: TrainedRun, episodes: int, num_unseen: int, fine_tune: int = 0) -> None:
        num_agents = run.policies.num_agents
        worlds = draw_worlds(run.config, num_agents, num_unseen)
        self._run, self._episodes = run, episodes
        self._worlds, self._unseen_worlds = worlds[:num_agents], worlds[num_agents:]
        self._seen = self._evaluation(self._worlds, PURPOSE)
        self._fine_tuning = FineTuning(run, fine_tune) if fine_tune else None
        is_needed = num_unseen > 0 and run.policies.shared is not None
        self._unseen = self._evaluation(self._unseen_worlds, f"{PURPOSE}/unseen") if is_needed else None

    def run(self, tell: Callable[[str], None]) -> CrossEvaluation:
        """Play all episodes; `tell` is told what is played next."""
        shared = unseen = own = None
        policies = self._run.policies
        if policies.shared is not None:
            tell("global policy")
            shared = self._returns(self._seen, policies.shared)
            if self._unseen is not None:
                unseen = self._returns(self._unseen, policies.shared)
        if policies.own:
            own = self._all_returns(policies.own, tell)
        return CrossEvaluation(
            self._run,
            self._episodes,
            self._worlds,
            self._unseen_worlds,
            shared,
            unseen,
            own,
            self._fine_tuning,
            self._fine_tuned_returns(tell),
        )

    def _all_returns(self, models: list[FloatVector], tell: Callable[[str], None]) -> DoubleArray:
        returns = np.empty((len(models), len(self._worlds), self._episodes))
        for agent, params in enumerate(models, 1):
            tell(f"policy of agent {agent} of {len(models)}")
            returns[agent - 1] = self._returns(self._seen, params)
        return returns

    def _fine_tuned_returns(self, tell: Callable[[str], None]) -> DoubleArray | None:
        tuning, num_agents = self._fine_tuning, len(self._run.policies.begins())
        if tuning is None or not num_agents:
            return None
        returns = np.empty((num_agents, self._episodes))
        for agent in range(1, num_agents + 1):
            tell(f"fine-tuning by agent {agent} of {num_agents}")
            returns[agent - 1] = self._returns(self._seen, tuning.model(agent))[agent - 1]
        return returns

    def _evaluation(self, worlds: list[Context], purpose: str) -> Evaluation:
        """Make an evaluation that tells single episodes: each counts as a world."""
        config = self._run.config
        contexts = [world for world in worlds for _ in range(self._episodes)]
        environment = make_environment(config.environment, contexts)
        return Evaluation(environment, self._run.model(environment), 1, config.seed, purpose)

    def _returns(self, evaluation: Evaluation, params: FloatVector) -> DoubleArray:
        return evaluation.run(params).returns.reshape(-1, self._episodes)


def _mean(returns: DoubleArray | None) -> Any:
    return None if returns is None else _json(returns.mean())


def _means(returns: DoubleArray | None) -> Any:
    return None if returns is None else _json(returns.mean(axis=1))


def _stds(returns: DoubleArray | None) -> Any:
    return None if returns is None else _json(returns.std(axis=1))


def _json(values: Any) -> Any:
    """Turn an array into numbers and lists of them; JSON knows neither NaN nor infinity."""
    return _finite_or_none(values.tolist())


def _finite_or_none(items: Any) -> Any:
    if isinstance(items, list):
        return [_finite_or_none(item) for item in items]
    return items if isfinite(items) else None
