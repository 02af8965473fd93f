"""Play a run's policies: the global one in every world, each agent's own one in all agents' worlds.

With --fine-tune also the global one that each agent has trained on, alone, in its own world.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

from fdrl_mpi.config_file import ConfigError
from fdrl_mpi.process import REFUSED, prepare_process

if TYPE_CHECKING:
    from fdrl_mpi.arrays import DoubleArray
    from fdrl_mpi.cross_evaluation import CrossEvaluation

WIDTH = 120
"""Columns of a terminal that tables are fitted to."""
_OWN = {
    "model": "what its agent's last training left, before it was aggregated",
    "part": "what is common, with its agent's own part of the rest",
    "nothing": "the model its agent would go on from",
}
_KEPT = "only the model is taken from the run: optimiser state and memory begin anew"


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate the run on the command line; return the exit status."""
    options = _parse(argv)
    prepare_process()
    from fdrl_mpi.cross_evaluation import CrossEvaluator
    from fdrl_mpi.rl.denormals import flush_denormals
    from fdrl_mpi.trained_run import load_trained_run

    flush_denormals()
    try:
        run = load_trained_run(options.run, options.round)
        evaluator = CrossEvaluator(run, options.episodes, options.unseen, options.fine_tune)
    except (ConfigError, OSError, ValueError) as error:
        print(f"fdrl_mpi.evaluate: {error}", file=sys.stderr)
        return REFUSED
    for damage in run.damage:
        print(f"{damage}\n    round {run.round} is used", file=sys.stderr)
    result = evaluator.run(_tell)
    _tell("")
    print(format_text(result))
    if options.json:
        print(json.dumps(result.as_json(), allow_nan=False))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fdrl_mpi.evaluate", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run directory; the run may still be going on")
    parser.add_argument(
        "--episodes",
        type=_at_least(1),
        default=10,
        metavar="N",
        help="of each policy in each world (default: 10)",
    )
    parser.add_argument(
        "--unseen",
        type=_at_least(0),
        default=16,
        metavar="N",
        help="worlds that no agent trained on, for the global policy (default: 16)",
    )
    parser.add_argument(
        "--fine-tune",
        type=_at_least(0),
        default=0,
        metavar="WORK",
        help="let each agent train the global policy on in its own world, for so many steps, episodes or "
        "sweeps, in whichever its learner counts, rounded up to what it can spend (default: 0)",
    )
    parser.add_argument(
        "--round", type=_at_least(1), metavar="R", help="checkpoint to use (default: the newest whole one)"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON that has everything")
    return parser.parse_args(argv)


class _at_least:  # noqa: N801 (reads as a function)
    """Convert an argument to a whole number that is not below `least`."""

    def __init__(self, least: int) -> None:
        self._least = least

    def __call__(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = self._least - 1
        if number < self._least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {self._least}")
        return number


def _tell(what: str) -> None:
    """Show on a terminal what is being played, in one line that is redrawn and in the end empty."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def format_text(result: "CrossEvaluation") -> str:
    """Lay out an evaluation for people, within `WIDTH` columns wherever the numbers allow it."""
    table = _table(result)
    is_too_wide = table is None
    per_world = _per_world(result, with_means=is_too_wide and result.own is not None)
    if table is None:
        num_agents = len(result.worlds)
        table = [f"The table of {num_agents} x {num_agents} returns is too wide to print; --json has it."]
    blocks = [[_title(result)], per_world, _summary(result), table]
    return "\n\n".join("\n".join(block) for block in blocks)


def _title(result: "CrossEvaluation") -> str:
    run = result.run
    return (
        f"{run.directory.path}: {run.config.mode} {run.config.algorithm} on {run.config.environment.id}, "
        f"{len(result.worlds)} agents, after round {run.round}; {result.episodes} greedy episodes a world"
    )


def _per_world(result: "CrossEvaluation", with_means: bool) -> list[str]:
    """One line for each agent's world: what the policies earn there, and what the world is like."""
    columns = [["agent", *(str(agent) for agent in range(1, len(result.worlds) + 1))]]
    if result.shared is not None:
        columns.append(["global policy", *_spreads(result.shared)])
    table = result.table()
    own = result.own_at_home()
    if own is not None:
        columns.append(["own policy", *_spreads(own)])
    if result.fine_tuned is not None:
        columns.append(["fine-tuned", *_spreads(result.fine_tuned)])
    if table is not None and with_means:
        decimals = _decimals(table)
        columns.append(["own, all worlds", *_numbers(table.mean(axis=1), decimals)])
        columns.append(["all policies here", *_numbers(table.mean(axis=0), decimals)])
    contexts = [[name, *(f"{world[name]:.3g}" for world in result.worlds)] for name in result.worlds[0]]
    lines = _aligned(columns + contexts)
    lines = lines if _fits(lines) else _aligned(columns)
    return ["Return in each agent's world, mean +- standard deviation of its episodes:", *lines]


def _summary(result: "CrossEvaluation") -> list[str]:
    """Say how good each kind of policy is on average, and where it is worst."""
    lines = []
    if result.shared is None:
        lines.append(f"There is no global policy: {_why_not_global(result)}.")
    else:
        lines.append(f"Global policy in the agents' worlds: {_mean_and_worst(result.shared)}")
    if result.unseen is not None:
        decimals, means = _decimals(result.unseen), result.unseen.mean(axis=1)
        lines.append(
            f"Global policy in {len(means)} worlds that no agent trained on: "
            f"mean {_number(float(means.mean()), decimals)}, worst {_number(float(means.min()), decimals)}"
        )
    own = result.own_at_home()
    if own is not None:
        lines.append(f"Own policies, each in its agent's world: {_mean_and_worst(own)}")
        lines.append(f"    an own policy is {_OWN[result.run.policies.common]}")
    return [*lines, *_fine_tuning_lines(result)]


def _why_not_global(result: "CrossEvaluation") -> str:
    if result.run.policies.common == "part":
        return "what agents have in common is not enough to act"
    return "every agent of this run has a model of its own"


def _fine_tuning_lines(result: "CrossEvaluation") -> list[str]:
    """Say what was spent on which model, and what came of it."""
    tuning, run = result.fine_tuning, result.run
    if tuning is None:
        return []
    if result.fine_tuned is None:
        return ["Nothing is fine-tuned: agents of this run have no model in common to begin with."]
    begins = {"model": "the global policy", "part": "what is common and the agent's own part"}
    spent = f"{tuning.work} {tuning.unit} of {run.config.algorithm}"
    rounded = "" if tuning.work == tuning.asked else f", the least it can spend from {tuning.asked} on"
    if tuning.learning_starts:
        rounded += f"; the first {tuning.learning_starts} only fill a memory"
    return [
        f"Fine-tuned policies, each in its agent's world: {_mean_and_worst(result.fine_tuned)}",
        f"    from {begins[run.policies.common]}, by {spent}{rounded}",
        f"    {_KEPT}{'; epsilon stays where its schedule ends' if tuning.is_settled else ''}",
    ]


def _mean_and_worst(returns: "DoubleArray") -> str:
    decimals, means = _decimals(returns), returns.mean(axis=1)
    worst = int(means.argmin())
    mean, least = (_number(float(value), decimals) for value in (means.mean(), means[worst]))
    return f"mean {mean}, worst {least} (agent {worst + 1})"


def _table(result: "CrossEvaluation") -> list[str] | None:
    """Lay out the mean returns of all policies in all worlds; None if nothing makes it fit."""
    title = "Mean return of each policy (row) in each agent's world (column)"
    best = _decimals(result.published())
    for decimals, gap in ((best, " "), (best - 1, " "), (best - 1, "")):
        lines = _table_lines(result, decimals, gap)
        if _fits(lines):
            return [f"{title}{'; * its own world' if result.own is not None else ''}:", *lines]
    return None


def _table_lines(result: "CrossEvaluation", decimals: int, gap: str) -> list[str]:
    agents = range(1, len(result.worlds) + 1)
    rows = [["policy ", *(f"{agent} " for agent in agents), " mean"]]
    table = result.table()
    if table is not None:
        for agent in agents:
            rows.append(_table_row(str(agent), table[agent - 1], decimals, own=agent))
        rows.append(_table_row("mean", table.mean(axis=0), decimals))
    if result.shared is not None:
        rows.append(_table_row("global", result.shared.mean(axis=1), decimals))
    return _aligned([list(column) for column in zip(*rows, strict=True)], gap)


def _table_row(label: str, means: "DoubleArray", decimals: int, own: int = 0) -> list[str]:
    """Write one row and its mean; a mark, or the space for it, follows each number."""
    marks = ["*" if agent == own else " " for agent in range(1, len(means) + 1)]
    cells = [number + mark for number, mark in zip(_numbers(means, decimals), marks, strict=True)]
    return [f"{label} ", *cells, f" {_number(float(means.mean()), decimals)}"]


def _decimals(returns: "DoubleArray") -> int:
    """Choose how many decimals to print; small returns need more."""
    return 1 if abs(returns).max() >= 10.0 else 3


def _spreads(returns: "DoubleArray") -> list[str]:
    """Write mean and standard deviation of each row."""
    decimals = _decimals(returns)
    stds = _numbers(returns.std(axis=1), decimals)
    width = max(map(len, stds))
    means = _numbers(returns.mean(axis=1), decimals)
    return [f"{mean} +- {std:>{width}}" for mean, std in zip(means, stds, strict=True)]


def _numbers(values: "DoubleArray", decimals: int) -> list[str]:
    return [_number(value, decimals) for value in values.tolist()]


def _number(value: float, decimals: int) -> str:
    """Write a number, and a dash for what is not known."""
    return "–" if isnan(value) else f"{value:.{decimals}f}"


def _aligned(columns: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Set columns of text side by side, each flush right."""
    widths = [max(map(len, column)) for column in columns]
    return [
        gap.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]


def _fits(lines: Sequence[str]) -> bool:
    return max(map(len, lines)) <= WIDTH


if __name__ == "__main__":
    sys.exit(main())
