"""The picture of `scaling.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

PHASES = {"train_ms": "train", "wait_ms": "wait", "encode_ms": "encode", "exchange_ms": "exchange"}


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw speed, time per agent and round, and memory against the number of agents."""
    figure, (speed, time, memory) = plt.subplots(1, 3, figsize=(12.0, 3.6), layout="constrained")
    for scaling, marker in (("weak", "o"), ("strong", "s")):
        some = [row for row in rows if row["scaling"] == scaling]
        agents = [row["agents"] for row in some]
        speed.plot(agents, [row["env_steps_per_s"] for row in some], marker=marker, label=scaling)
    weak = [row for row in rows if row["scaling"] == "weak"]
    places, bottom = np.arange(len(weak)), np.zeros(len(weak))
    for key, label in PHASES.items():
        share = np.array([row[key] / row["round_ms"] for row in weak])
        time.bar(places, share, bottom=bottom, label=label)
        bottom += share
    time.set_xticks(places, [str(row["agents"]) for row in weak], rotation=45)
    time.axhline(1.0, color="black", linewidth=0.6)
    memory.plot([row["agents"] for row in weak], [row["memory_mb_per_rank"] for row in weak], marker="o")
    for axes, title, unit in (
        (speed, "environment steps of all agents", "steps/s"),
        (time, "an agent's round (weak)", "share of the round"),
        (memory, "memory of a rank (weak)", "MB"),
    ):
        axes.set_title(title)
        axes.set_xlabel("agents")
        axes.set_ylabel(unit)
    for axes in (speed, memory):
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
    speed.legend()
    time.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.28))
    figure.savefig(path, dpi=120)
