"""A model of a round: what training, waiting, encoding, exchange and the rest take on more ranks.

A round on P ranks with an agent each, which share c = min(P, cores) cores, is predicted part by part:

- *train*: processor time of an agent, ``fixed + step * steps``, fitted to the runs.
- *wait*: a rank waits until all have trained. Where ranks share cores, that is ``P / c`` times the own time.
  With a core each, it waits for the slowest of P, whose time is what the largest of P draws from the relative
  times measured comes to on average; beyond as many ranks as there are draws, the largest of them.
- *encode*: as measured on the fewest ranks, ``P / c`` times.
- *exchange*: `cost_model.Fit`, fitted to single exchanges of several sizes on the same ranks.
- *rest*: ``fixed + shared * P / c``, fitted to what the phases of the measured rounds leave over. The root
  records a round, ``fixed + each * P``, while agents train for the next: what that takes longer than all
  other parts adds to the rest.

With a core for each rank, a message still costs what it costs here. Where ranks share cores here, that
includes their turns: the prediction is then too long rather than too short.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from cost_model import Fit
from scaling_runs import PHASES, STEADY, Run

from fdrl_mpi.arrays import DoubleArray

PARTS = (*PHASES, "rest_s")


@dataclass(frozen=True)
class RoundModel:
    """What a round with one collective is made of.

    Attributes
    ----------
    train_fixed_s, train_step_s : float
        Processor time of an agent in a round: in any, and for each environment step.
    relative_train : float64 array, sorted
        Processor times of the agents' rounds over their mean.
    encode_s : float
    rest_fixed_s, rest_shared_s : float
    record_fixed_s, record_agent_s : float
        Of the root, in any round and for each agent.
    num_parameters : int
    exchange : Fit
    """

    train_fixed_s: float
    train_step_s: float
    relative_train: DoubleArray
    encode_s: float
    rest_fixed_s: float
    rest_shared_s: float
    record_fixed_s: float
    record_agent_s: float
    num_parameters: int
    exchange: Fit

    def predict(self, ranks: int, steps: int, cores: int) -> dict[str, float]:
        """Predict the seconds of each part of a round, and as ``round_s`` those of all."""
        crowd = ranks / min(ranks, cores)
        train_s = self.train_fixed_s + self.train_step_s * steps
        parts = {
            "train_s": train_s,
            "wait_s": train_s * max(crowd - 1.0, self._straggling(ranks)),
            "encode_s": self.encode_s * crowd,
            "exchange_s": replace(self.exchange, cores=cores).predict(ranks, self.num_parameters),
            "rest_s": self.rest_fixed_s + self.rest_shared_s * crowd,
        }
        record_s = self.record_fixed_s + self.record_agent_s * ranks
        parts["rest_s"] += max(record_s - sum(parts.values()), 0.0)
        return parts | {"round_s": sum(parts.values())}

    def _straggling(self, ranks: int) -> float:
        return largest_of(self.relative_train, ranks) - largest_of(self.relative_train, 1)


def model_of(runs: Sequence[Run], exchange: Fit, cores: int) -> RoundModel:
    """Fit the model to runs with one collective; those with several agents a rank tell of the record."""
    agents = np.array([float(run.case.agents) for run in runs])
    record_s = np.array([run.steady("record_s").min() for run in runs])
    record_fixed_s, record_agent_s = two_costs(agents, record_s, 1.0 / record_s)
    runs = [run for run in runs if run.case.agents_per_rank == 1]
    train_s = np.array([_median(run, "train_cpu_s") for run in runs])
    steps = np.array([float(run.case.steps) for run in runs])
    crowd = np.array([run.case.ranks / min(run.case.ranks, cores) for run in runs])
    rest = np.array([rest_s(run) for run in runs])
    round_s = np.array([_median(run, "round_s") for run in runs])
    train_fixed_s, train_step_s = two_costs(steps, train_s, 1.0 / train_s)
    rest_fixed_s, rest_shared_s = two_costs(crowd, rest, 1.0 / round_s)
    fewest = min(runs, key=lambda run: run.case.ranks)
    return RoundModel(
        train_fixed_s,
        train_step_s,
        np.sort(np.concatenate([_relative_train(run) for run in runs])),
        _median(fewest, "encode_s"),
        rest_fixed_s,
        rest_shared_s,
        record_fixed_s,
        record_agent_s,
        fewest.num_parameters,
        exchange,
    )


def phases_of(run: Run) -> Mapping[str, float]:
    """Give the median seconds of each part of a rank's round, averaged over ranks.

    The rest is what the parts leave of the root's round. Ranks begin their next round a little before the
    root, so it may be below 0.
    """
    agents, train_s = run.case.agents_per_rank, _median(run, "train_s")
    parts = {
        "train_s": agents * train_s,
        "wait_s": _median(run, "wait_s") - (agents - 1) * train_s,  # an agent waits for those of its rank too
        "encode_s": _median(run, "encode_s"),
        "exchange_s": _median(run, "exchange_s"),
    }
    return parts | {"rest_s": _median(run, "round_s") - sum(parts.values())}


def rest_s(run: Run) -> float:
    """Give the part of a round that is in no phase: the agents' numbers travel, the record is written."""
    return max(phases_of(run)["rest_s"], 0.0)


def largest_of(draws: DoubleArray, number: int) -> float:
    """Compute the mean of the largest of `number` independent draws from equally likely, sorted values."""
    below = np.arange(len(draws) + 1) / len(draws)
    return float(draws @ np.diff(below**number))


def two_costs(sizes: DoubleArray, seconds: DoubleArray, weights: DoubleArray) -> tuple[float, float]:
    """Fit ``fixed + each * size`` by weighted least squares, neither below 0.

    Where all sizes are alike, everything counts as `each`.
    """
    if np.ptp(sizes) == 0.0:
        return 0.0, float(np.average(seconds, weights=weights**2) / sizes[0])
    columns = weights[:, None] * np.stack([np.ones_like(sizes), sizes], axis=1)
    both = np.linalg.lstsq(columns, weights * seconds)[0]
    if (both >= 0.0).all():
        return float(both[0]), float(both[1])
    alone = [float(column @ (weights * seconds) / (column @ column)) for column in columns.T]
    losses = [
        float(np.square(column * one - weights * seconds).sum())
        for column, one in zip(columns.T, alone, strict=True)
    ]
    return (alone[0], 0.0) if losses[0] <= losses[1] else (0.0, alone[1])


def _median(run: Run, name: str) -> float:
    return float(np.median(run.steady(name)))


def _relative_train(run: Run) -> DoubleArray:
    values = run.values["train_cpu_s"][STEADY]
    relative: DoubleArray = (values / values.mean()).ravel()
    return relative
