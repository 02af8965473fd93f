"""The runs of a scaling study: which there are, how one is measured, what of it is kept."""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from exchange_costs import FEWEST_AGENTS
from launching import peak_memory_mb, recorded, run, train

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.batch_system import tasks_per_host

NUM_ENVS, NUM_STEPS = 2, 64
ROLLOUT = NUM_ENVS * NUM_STEPS
"""Environment steps of the shortest round of an agent."""
WEAK_ROLLOUTS = 2
"""Of every agent in a round, where all do the same whatever their number."""
STRONG_ROLLOUTS = 4
"""Of an agent on the most ranks, where a round has the same work in all."""
HOSTING_RANKS = 16
"""Most ranks with several agents each."""
FEWEST_ROUNDS = 4
STEADY = slice(2, -1)
"""Rounds that count: the first two read and write for the first time, the last one saves."""

PHASES = ("train_s", "wait_s", "encode_s", "exchange_s")
KEPT = (
    *("round_s", *PHASES, "train_cpu_s", "record_s", "env_steps"),
    *("sent_messages", "sent_bytes", "root_sent_bytes", "root_received_bytes"),
)
"""Variables of a run's record that are kept, of all rounds: see `fdrl_mpi.record.variables`."""

Table: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """What one run is to do.

    Attributes
    ----------
    series : "weak", "strong" or "hosted"
        The same work for every agent; the same work in all; several agents on each rank, the same for each.
    ranks : int
        With agents; the root is one more.
    steps : int
        Environment steps of an agent in a round.
    """

    series: str
    collective: str
    ranks: int
    agents_per_rank: int
    steps: int

    @property
    def agents(self) -> int:
        return self.ranks * self.agents_per_rank


@dataclass(frozen=True)
class Run:
    """What one run did.

    Attributes
    ----------
    values : mapping of float64 arrays, shape (R, K) or (R,)
        By variable (`KEPT`), all rounds.
    memory_mb : float
        Largest sum over all ranks, shared pages counted once, of another run; NaN where it was not measured.
    """

    case: Case
    num_parameters: int
    memory_mb: float
    values: Mapping[str, DoubleArray]

    def steady(self, name: str) -> DoubleArray:
        """Give the values of the rounds that count, averaged over the agents; shape (R - 3,)."""
        values = self.values[name][STEADY]
        mean: DoubleArray = values if values.ndim == 1 else values.mean(axis=1)
        return mean


@dataclass
class Study:
    """Everything that was measured; all tables and pictures follow from it.

    Attributes
    ----------
    facts : dict
        Versions, machine, command line, commit.
    cores : int
        That the ranks share.
    crypto : mapping
        Seconds a parameter of the arithmetic of a secure sum.
    exchanges : table
        Single exchanges: collective, agents, d, median_s.
    runs : list of Run
    """

    facts: dict[str, Any]
    cores: int
    crypto: Mapping[str, float]
    exchanges: Table
    runs: list[Run] = field(default_factory=list)


def cases(collectives: Iterable[str], ranks: Sequence[int], agents_per_rank: Sequence[int]) -> list[Case]:
    """List the runs of a study, those of the first collective on the fewest ranks first.

    Several agents on a rank are measured with the first collective alone.
    """
    sizes, total = sorted(set(ranks)), max(ranks) * STRONG_ROLLOUTS * ROLLOUT
    listed = []
    for number, name in enumerate(collectives):
        fitting = [size for size in sizes if size >= FEWEST_AGENTS.get(name, 1)]
        listed += [Case("weak", name, size, 1, WEAK_ROLLOUTS * ROLLOUT) for size in fitting]
        listed += [Case("strong", name, size, 1, strong_steps(total, size)) for size in fitting]
        hosting = min(HOSTING_RANKS, max(sizes))
        if number == 0:
            listed += [
                Case("hosted", name, hosting, many, WEAK_ROLLOUTS * ROLLOUT)
                for many in sorted(set(agents_per_rank))
            ]
    return listed


def strong_steps(total: int, ranks: int) -> int:
    """Share `total` environment steps among ranks, as nearly as whole rollouts allow."""
    return max(round(total / ranks / ROLLOUT), 1) * ROLLOUT


def measure(case: Case, rounds: int) -> Run:
    """Make a run, and another one for its memory where its ranks can be seen from here.

    Raises
    ------
    RuntimeError
        If it fails, or its models did not travel as they should have.
    """
    words = _words(case)
    with tempfile.TemporaryDirectory() as folder:
        run(train(case.ranks + 1, Path(folder), "--rounds", str(rounds), *words))
        metrics = recorded(Path(folder))
        memory_mb = np.nan
        if case.series != "strong" and len(tasks_per_host(os.environ)) <= 1:
            memory_mb = peak_memory_mb(train(case.ranks + 1, Path(folder), "--rounds", "3", *words))
    used = str(metrics.attributes["collective"]).replace(" ", "_")
    if not used.startswith(case.collective):  # node is node_and_tree over several hosts
        raise RuntimeError(f"models were to travel by {case.collective}, and travelled by {used}")
    values = {name: metrics.values[name] for name in KEPT}
    return Run(case, int(metrics.attributes["num_parameters"]), memory_mb, values)


def _words(case: Case) -> list[str]:
    keys = {
        "--agents_per_rank": case.agents_per_rank,
        "--comm.collective": case.collective,
        "--environment.num_envs": NUM_ENVS,
        "--learner.num_steps": NUM_STEPS,
        "--learner.budget": case.steps,
        "--evaluation.every": 1_000_000,
        "--evaluation.episodes": 1,
        "--checkpoint.every": 1_000_000,
        "--log.level": "warning",
    }
    return [str(word) for pair in keys.items() for word in pair]
