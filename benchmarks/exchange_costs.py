"""Times of single exchanges at chosen sizes: what the model of costs is fitted to."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from launching import REPOSITORY, run

SECURE = "secure_ring"
FEWEST_AGENTS = {SECURE: 3}
"""Where a collective needs more than one: fewer honest ones than two keep nothing secret."""


def exchange_points(
    num_agents: int,
    names: Iterable[str],
    lengths: Sequence[int],
    repeats: int,
    start: Callable[..., list[str]],
) -> list[dict[str, Any]]:
    """Time collectives with the two benchmarks; a point is a collective, agents, parameters and seconds.

    Parameters
    ----------
    num_agents : int
        A rank each; the root is one more.
    names : iterable of str
        Collectives; those that need more agents are left out.
    lengths : sequence of int
        Parameters of the models.
    start : callable
        Makes the command line that runs Python with some words on ``num_agents + 1`` ranks.
    """
    fitting = [name for name in names if FEWEST_AGENTS.get(name, 1) <= num_agents]
    plain = [name for name in fitting if name != SECURE]
    common = ["--d", *map(str, lengths), "--repeats", str(repeats), "--json"]
    points = []
    if plain:
        rows = _results(start(_script("collectives.py"), "--collectives", *plain, *common))
        points += [_point(row, row["collective"], "median_s") for row in rows]
    if SECURE in fitting:
        rows = _results(start(_script("secure_sum.py"), "--training-ms", "30", *common))
        points += [_point(row, SECURE, "on_path_s") for row in rows]
    return points


def _script(name: str) -> str:
    return str(REPOSITORY / "benchmarks" / name)


def _point(row: dict[str, Any], collective: str, key: str) -> dict[str, Any]:
    return {"collective": collective, "agents": row["agents"], "d": row["d"], "median_s": row[key]}


def _results(command: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run(command).splitlines()[-1])["results"]
    return rows
