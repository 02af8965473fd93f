"""Opening the record of a run on the root, new or where another process left it."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from fdrl_mpi.build import Rank
from fdrl_mpi.build_agent import context_units, draw_worlds
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import to_toml
from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.record.metrics_file import AgentFact, read_metrics
from fdrl_mpi.record.run_directory import RunDirectory

LOG = logging.getLogger(__name__)


def open_record(
    config: Config, directory: RunDirectory, rank: Rank, hosts: Sequence[str], round: int
) -> tuple[MetricsRecord, float]:
    """Open the record, rewound to `round`; return it and the training time so far.

    Parameters
    ----------
    hosts : sequence of str, length K
        Where each agent runs.
    """
    from fdrl_mpi.record.provenance import collect  # package metadata: only the root loads what reads it

    path, agents, facts = directory.metrics, range(1, len(hosts) + 1), agent_facts(config, hosts)
    check = directory.owner.check
    attributes = collect() | {
        "config": to_toml(config),
        "mode": config.mode,
        "engine": rank.engine,
        "device": rank.device,
        "num_parameters": len(rank.params),
        "collective": rank.parts.collective.name,
    }
    if round == 0:
        return MetricsRecord(path, agents, attributes, facts, check), 0.0
    try:
        record = MetricsRecord.resume(path, agents, attributes, facts, check)
        record.rewind(round)
        stored = read_metrics(path)
        return record, float(stored.values["end_wall_s"][stored.rounds <= round][-1])
    except (ValueError, IndexError) as error:
        LOG.warning("a new record begins with round %d: %s", round, error)
    with suppress(OSError):  # a disk that refuses also keeps the new record from taking its place
        path.rename(path.with_suffix(".damaged.h5"))
    record = MetricsRecord(path, agents, attributes, facts, check)
    record.append(round, {})
    return record, 0.0


def agent_facts(config: Config, hosts: Sequence[str]) -> Mapping[str, AgentFact]:
    """Describe each agent's world and host."""
    worlds = draw_worlds(config, len(hosts))
    units = context_units(config.environment.id)
    return {"host": AgentFact(list(hosts), "1", "host the agent runs on")} | {
        f"context_{name}": AgentFact(
            np.array([world[name] for world in worlds]),
            units.get(name, "1"),
            f"{name} in the agent's world",
        )
        for name in config.environment.heterogeneity
    }
