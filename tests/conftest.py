"""Small runs, recorded as the root records them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.arrays import DoubleArray
from fdrl_mpi.record.metrics import AgentFact, MetricsRecord, Row
from fdrl_mpi.record.run_directory import RunDirectory
from fdrl_mpi.record.verdict import Verdict

MakeRun = Callable[..., Path]


def row(round: int, returns: DoubleArray | None, num_agents: int) -> Row:
    """Give a full row; the agents' ids scale what they did."""
    ids = np.arange(1.0, num_agents + 1.0)
    return {
        "present": np.ones(num_agents),
        "env_steps": 100.0 * ids,
        "train_return": 10.0 * round + ids,
        "policy_loss": -0.01 * ids,
        "value_loss": ids / round,
        "train_s": np.full(num_agents, 0.06),
        "wait_s": np.full(num_agents, 0.02),
        "encode_s": np.full(num_agents, 0.01),
        "exchange_s": np.full(num_agents, 0.01),
        "sent_bytes": np.full(num_agents, 1000.0),
        "received_bytes": np.full(num_agents, 2000.0),
        "end_wall_s": 0.1 * round,
        "round_s": 0.1,
        "aggregate_s": 0.001,
        "root_exchange_s": 0.01,
        "evaluate_s": 0.05,
        "record_s": 0.002,
        "root_sent_bytes": 500.0,
        "root_received_bytes": 250.0,
    } | ({} if returns is None else {"evaluation_return": returns})


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Record a run below `tmp_path`; every second round is evaluated, the last one included."""

    def make(
        name: str = "one",
        num_agents: int = 3,
        num_rounds: int = 5,
        mode: str = "federated",
        gravity: float = 9.81,
        is_evaluated: bool = True,
        has_verdict: bool = True,
    ) -> Path:
        directory = RunDirectory(tmp_path / name)
        directory.path.mkdir(parents=True)
        ids = np.arange(1.0, num_agents + 1.0)
        facts = {
            "context_gravity": AgentFact(gravity + ids, "m/s^2", "gravity in the agent's world"),
            "host": AgentFact(["n1"] * num_agents, "1", "host the agent runs on"),
        }
        config = f'mode = "{mode}"  # <&>\nrounds = {num_rounds}\n'
        attributes = {"config": config, "command": "fdrl-train <script>"}
        record = MetricsRecord(directory.metrics, range(1, num_agents + 1), attributes, facts)
        for round in range(1, num_rounds + 1):
            due = is_evaluated and (num_rounds - round) % 2 == 0
            record.append(round, row(round, 20.0 * round - ids if due else None, num_agents))
        record.write()
        if has_verdict:
            directory.write_verdict(
                Verdict("finished", num_rounds, num_rounds, "all rounds are done", 97.5, 0.1 * num_rounds)
            )
        return directory.path

    return make
