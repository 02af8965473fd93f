"""The numbers of a round: what an agent sends to the root, and the row the root records."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import nan, sqrt
from time import time

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatVector
from fdrl_mpi.comm.collective import Traffic
from fdrl_mpi.federation.evaluation import Evaluated
from fdrl_mpi.federation.round import Contribution, Outcome
from fdrl_mpi.record.variables import AGENT_VARIABLES, EXACT

Seconds = dict[str, float]
_RANK_TIMES = ("encode_s", "exchange_s")
_ROOT_TIMES = ("aggregate_s", "check_s", "evaluate_s", "record_s", "evaluate_cpu_s")
_SHARED = ("cpu_s", "sent_bytes", "received_bytes", "sent_messages", "received_messages", "crossing_bytes")
"""What agents of one rank share: each gets its part."""


def agent_rows(
    contributions: Sequence[Contribution],
    seconds: Seconds,
    traffic: Traffic,
    evaluated: Mapping[int, Evaluated],
    measured: Mapping[str, DoubleArray],
    hides_updates: bool,
) -> DoubleArray:
    """List the numbers of a rank's agents in the order of `AGENT_VARIABLES`, shape (A, n); NaN: none.

    Parameters
    ----------
    evaluated : mapping
        How an agent did, by its place among those of the rank.
    measured : mapping
        What the collective measured, by variable.
    hides_updates : bool
        Leave out what the root must not learn of a single update.
    """
    rank = {name: seconds.get(name, 0.0) for name in ("wait_s", "train_s", "cpu_s", *_RANK_TIMES)}
    rank |= asdict(traffic)
    rows = np.full((len(contributions), len(AGENT_VARIABLES)), nan)
    for number, contribution in enumerate(contributions):
        values = _values(contribution, rank, len(contributions)) | _results(evaluated.get(number))
        if hides_updates:
            values |= {"weight": nan, "update_norm": nan}
        values |= {name: float(column[number]) for name, column in measured.items()}
        rows[number] = [values.get(name, nan) for name in AGENT_VARIABLES]
    return rows


def _values(contribution: Contribution, rank: Mapping[str, float], agents_per_rank: int) -> dict[str, float]:
    """Name the numbers of one agent; `rank` are those of its rank."""
    stats = contribution.stats
    values: dict[str, float] = {name: rank[name] for name in _RANK_TIMES}
    values |= {name: rank[name] / agents_per_rank for name in _SHARED}
    values |= {
        "present": contribution.is_present,
        "weight": contribution.weight,
        "train_s": contribution.train_s,
        "train_cpu_s": contribution.train_cpu_s,
        "wait_s": rank["wait_s"] + rank["train_s"] - contribution.train_s,
    }
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
    return values


def _results(evaluated: Evaluated | None) -> dict[str, float]:
    if evaluated is None:
        return {}
    return {
        "evaluation_return": float(evaluated.returns.mean()),
        "evaluation_length": float(evaluated.lengths.mean()),
    }


def root_row(
    outcome: Outcome,
    agents: Mapping[str, DoubleArray],
    seconds: Seconds,
    traffic: Traffic,
    has_global_model: bool,
    server: Mapping[str, float],
    round_s: float,
    wall_s: float,
) -> dict[str, float]:
    """Name the root's own numbers of a round.

    `agents` are the columns of the agents' rows, `server` what the server's step has to tell.
    """
    params = outcome.models[0]
    return {
        **server,
        **{name: seconds.get(name, 0.0) for name in _ROOT_TIMES},
        "root_cpu_s": seconds["cpu_s"],
        "root_exchange_s": seconds.get("exchange_s", 0.0),
        "root_sent_bytes": traffic.sent_bytes,
        "root_received_bytes": traffic.received_bytes,
        "root_crossing_bytes": traffic.crossing_bytes,
        "root_sent_messages": traffic.sent_messages,
        "root_received_messages": traffic.received_messages,
        "total_weight": outcome.total_weight,
        "refused": outcome.total_weight > 0.0 and not outcome.is_taken,
        "model_norm": _norm(params) if has_global_model else nan,
        "consensus_distance": sqrt(float(np.square(agents["distance_to_mean"]).mean())),
        "round_s": round_s,
        "end_wall_s": wall_s,
        "end_unix_s": time(),
        "checkpoint_s": 0.0,
    }


def exact_means(agents: Mapping[str, DoubleArray]) -> dict[str, float]:
    """Average each exact measure over the agents that have one; leave out what nobody has."""
    known = {name: agents[name][np.isfinite(agents[name])] for name in EXACT}
    return {name: float(values.mean()) for name, values in known.items() if values.size}


def named_columns(agent_rows: DoubleArray) -> dict[str, DoubleArray]:
    """Name the columns of the agents' rows, shape (K, n): one array of shape (K,) each."""
    return {name: agent_rows[:, column] for column, name in enumerate(AGENT_VARIABLES)}


def _norm(params: FloatVector) -> float:
    """Compute an L2 norm; infinite where its square is beyond float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        return sqrt(float(np.dot(params, params)))
