"""Error against the number of agents: federated TD(0), whose squared error should fall as 1 / K.

    python benchmarks/speed_up.py --out speed_up.png

Every K runs the same configuration (`configs/fedtd.toml`) with several seeds; an agent's share of work stays
the same. The error is that of the published values over the last fifth of the rounds, when the start is
forgotten.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from launching import recorded, run, train
from reporting import machine, print_json, print_report

CONFIG = Path(__file__).parents[1] / "configs" / "fedtd.toml"
COLUMNS = {
    "agents": "agents",
    "delta": "delta",
    "squared_error": "squared error",
    "spread": "+- of seeds",
    "gain": "gain over 1",
    "share": "of K",
}


def main() -> None:
    """Run, print and draw."""
    options = _arguments()
    rows = [_row(agents, delta, options.seeds) for delta in options.deltas for agents in options.agents]
    for row in rows:
        alone = next(one for one in rows if one["delta"] == row["delta"])
        row["gain"] = alone["squared_error"] / row["squared_error"] * alone["agents"]
        row["share"] = row["gain"] / row["agents"]
    print_report("Squared error of federated TD(0)", rows, COLUMNS, f"mean of {options.seeds} seeds")
    if options.out:
        _draw(rows, options.out)
    if options.json:
        print_json(machine(), rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--agents", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], help="numbers K")
    parser.add_argument("--deltas", nargs="+", type=float, default=[0.0, 0.1], help="differences")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="draw a PNG")
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _row(agents: int, delta: float, seeds: int) -> dict[str, Any]:
    errors = [_squared_error(agents, delta, seed) for seed in range(seeds)]
    spread = float(np.std(errors) / np.sqrt(seeds))
    return {"agents": agents, "delta": delta, "squared_error": float(np.mean(errors)), "spread": spread}


def _squared_error(agents: int, delta: float, seed: int) -> float:
    process = f"{{seed = {seed}, num_agents = {agents}, delta = {delta}, max_episode_steps = 1}}"
    numbers = f'{{agent = {{distribution = "listed", values = {list(range(1, agents + 1))}}}}}'
    keys = {
        "--config": CONFIG,
        "--seed": seed,
        "--agents_per_rank": agents,
        "--environment.kwargs": process,
        "--environment.heterogeneity": numbers,
        "--log.level": "warning",
    }
    with tempfile.TemporaryDirectory() as folder:
        run(train(2, Path(folder), *(str(word) for pair in keys.items() for word in pair)))
        error = recorded(Path(folder)).values["table_error"].mean(axis=1)
    return float(np.square(error[-len(error) // 5 :]).mean())


def _draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.0, 3.6), layout="constrained")
    for delta in dict.fromkeys(row["delta"] for row in rows):
        some = [row for row in rows if row["delta"] == delta]
        columns = ([row[key] for row in some] for key in ("agents", "squared_error", "spread"))
        label = "equal processes" if delta == 0.0 else f"processes differ by {delta:g}"
        axes.errorbar(*columns, marker="o", label=label)
    agents = np.array(sorted({row["agents"] for row in rows}))
    ideal = rows[0]["squared_error"] * rows[0]["agents"] / agents
    axes.plot(agents, ideal, color="black", linestyle=":", label="1 / K")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("agents K")
    axes.set_ylabel("squared error of the values")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
