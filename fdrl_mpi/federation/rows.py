"""The numbers of a round: what an agent sends to the root, and the row the root records."""

from math import nan, sqrt
from time import time

import numpy as np

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.comm.collective import Traffic
from fdrl_mpi.federation.evaluation import Evaluated
from fdrl_mpi.federation.round import Contribution, Outcome
from fdrl_mpi.record.variables import AGENT_VARIABLES

Seconds = dict[str, float]
_AGENT_TIMES = ("train_s", "encode_s", "wait_s", "exchange_s", "train_cpu_s", "cpu_s")
_ROOT_TIMES = ("aggregate_s", "evaluate_s", "record_s", "evaluate_cpu_s")


def agent_row(
    contribution: Contribution, seconds: Seconds, traffic: Traffic, evaluated: Evaluated | None
) -> DoubleArray:
    """List one agent's numbers in the order of `AGENT_VARIABLES`, shape (n,); NaN where there is none."""
    stats = contribution.stats
    values: dict[str, float] = {name: seconds.get(name, 0.0) for name in _AGENT_TIMES}
    values |= {"present": contribution.is_present, "weight": contribution.weight}
    values |= {"sent_bytes": traffic.sent_bytes, "received_bytes": traffic.received_bytes}
    if contribution.is_present:
        returns, lengths = zip(*stats.episodes, strict=True) if stats.episodes else ((), ())
        values |= stats.means | {
            "rejected": contribution.is_rejected,
            "train_return": float(np.mean(returns)) if returns else nan,
            "train_length": float(np.mean(lengths)) if lengths else nan,
            "num_episodes": len(returns),
            "env_steps": stats.env_steps,
            "gradient_steps": stats.gradient_steps,
            "rollout_s": stats.rollout_s,
            "update_norm": contribution.update_norm,
        }
    if evaluated is not None:
        values["evaluation_return"] = float(evaluated.returns.mean())
        values["evaluation_length"] = float(evaluated.lengths.mean())
    return np.array([values.get(name, nan) for name in AGENT_VARIABLES], np.float64)


def root_row(
    outcome: Outcome, seconds: Seconds, traffic: Traffic, round_s: float, wall_s: float
) -> dict[str, float]:
    """Name the root's own numbers of a round."""
    params = outcome.params
    return {
        **{name: seconds.get(name, 0.0) for name in _ROOT_TIMES},
        "root_cpu_s": seconds["cpu_s"],
        "root_exchange_s": seconds.get("exchange_s", 0.0),
        "root_sent_bytes": traffic.sent_bytes,
        "root_received_bytes": traffic.received_bytes,
        "total_weight": outcome.total_weight,
        "model_norm": sqrt(float(np.dot(params, params))),
        "round_s": round_s,
        "end_wall_s": wall_s,
        "end_unix_s": time(),
        "checkpoint_s": 0.0,
    }


def named_columns(agent_rows: DoubleArray) -> dict[str, DoubleArray]:
    """Name the columns of the agents' rows, shape (K, n): one array of shape (K,) each."""
    return {name: agent_rows[:, column] for column, name in enumerate(AGENT_VARIABLES)}
