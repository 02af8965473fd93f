"""A run of Weights & Biases that stays on this disk until somebody sends it off with ``wandb sync``."""

import os
import tomllib
from collections import defaultdict
from pathlib import Path

import wandb

from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.trackers.curves import agent_name, curves

PROJECT = "fdrl_mpi"


def write_offline_run(run: Run, folder: Path) -> list[Path]:
    """Write a new offline run below `folder`; return its folder. Nothing is sent anywhere."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    folder.mkdir(parents=True, exist_ok=True)
    offline = wandb.init(
        mode="offline",
        dir=str(folder),
        project=PROJECT,
        name=run.path.resolve().name,
        config=tomllib.loads(run.config),
        settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
    )
    for round, values in sorted(_by_round(run).items()):
        offline.log(values, step=round)
    if run.verdict is not None:
        offline.summary.update({"outcome": run.verdict.outcome, "reason": run.verdict.reason})
    written = Path(offline.dir).parent
    offline.finish()
    return [written]


def _by_round(run: Run) -> dict[int, dict[str, float]]:
    """Put the points of all curves in order: an offline run takes each round once."""
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for curve in curves(run.metrics):
        prefix = f"{agent_name(run.metrics, curve.agent)}/" if curve.agent is not None else ""
        for round, value in zip(curve.rounds.tolist(), curve.values.tolist(), strict=True):
            found[round][prefix + curve.name] = value
    return found
