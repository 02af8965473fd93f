"""The tables of a scaling study: what was measured, what was fitted to it, what follows for more ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cost_model import SHARING, Fit, fit
from round_model import RoundModel, model_of, phases_of
from scaling_runs import ROLLOUT, WEAK_ROLLOUTS, Run, Study, Table, strong_steps

HERE, CORE_EACH = "this machine", "a core a rank"
MOST_RANKS = 4096
"""Up to which the model is carried on."""
SERIES = ("weak", "strong")


@dataclass(frozen=True)
class Tables:
    """What a study comes to; a row is a mapping from columns, whose names end in their units, to values.

    Attributes
    ----------
    measured : table
        A run a row.
    fitted : table
        A collective a row: the costs and how far they are off.
    exchanges : table
        Single exchanges, measured and by the fit; `residual` is predicted over measured time, less 1.
    predicted : table
        The model of a round at the measured sizes on this machine, and with a core for each rank beyond them.
        Where there is a run of the same size on as many cores, beside its time; elsewhere NaN.
    """

    measured: Table
    fitted: Table
    exchanges: Table
    predicted: Table


def tables_of(study: Study) -> Tables:
    """Make all tables."""
    fits = {
        name: fit(HERE, name, SHARING[name], points, study.crypto, study.cores)
        for name, points in _by_collective(study.exchanges).items()
    }
    models = {
        name: model_of(runs, fits[name], study.cores) for name, runs in _runs_of_models(study, fits).items()
    }
    return Tables(
        _measured(study),
        [_fitted(fits[name], model) for name, model in models.items()],
        [row for one in fits.values() for row in _residuals(one)],
        _predicted(study, models),
    )


def cores_in_use(ranks: int, cores: int) -> int:
    """Count the cores of ranks with agents; the root, which waits while they train, is left out."""
    return min(ranks, cores)


def add_efficiency(rows: Table) -> None:
    """Add the speed-up and the efficiency of each row, relative to the first one.

    The speed-up is the ratio of the environment steps per second of all agents to those of the first row, the
    efficiency is the speed-up over the ratio of the cores in use: ``E = (S / S_1) / (c / c_1)``. In a weak
    series that compares the speed of a core; in a strong one, whose rounds all have the same work, S / S_1 is
    the ratio of the times. Ranks beyond the cores share them: the ideal speed-up ends there, and c too.
    An efficiency of 1 then says that sharing costs nothing, not that more ranks make a machine faster.
    """
    for row in rows:
        row["speed_up"] = row["env_steps_per_s"] / rows[0]["env_steps_per_s"]
        row["ideal_speed_up"] = row["cores_in_use"] / rows[0]["cores_in_use"]
        row["efficiency"] = row["speed_up"] / row["ideal_speed_up"]


def _by_collective(points: Table) -> dict[str, Table]:
    names = dict.fromkeys(point["collective"] for point in points)
    return {name: [point for point in points if point["collective"] == name] for name in names}


def _runs_of_models(study: Study, names: Mapping[str, Fit]) -> dict[str, list[Run]]:
    chosen = {name: [run for run in study.runs if run.case.collective == name] for name in names}
    return {name: some for name, some in chosen.items() if some}


def _measured(study: Study) -> Table:
    rows = [_row(run, study.cores) for run in study.runs]
    for series in SERIES:
        # Hosted agents do the work of weak ones: their ranks are compared with the first weak one.
        add_efficiency([row for row in rows if (row["series"] == "strong") == (series == "strong")])
    return rows


def _row(run: Run, cores: int) -> dict[str, object]:
    case, phases = run.case, phases_of(run)
    round_s = float(np.median(run.steady("round_s")))
    root_bytes = run.steady("root_sent_bytes") + run.steady("root_received_bytes")
    return {
        "series": case.series,
        "collective": case.collective,
        "ranks": case.ranks,
        "agents": case.agents,
        "cores_in_use": cores_in_use(case.ranks, cores),
        "steps_per_agent": case.steps,
        "env_steps_per_s": case.agents * case.steps / round_s,
        "round_s": round_s,
        **phases,
        "rank_sent_messages": float(run.steady("sent_messages").mean() * case.agents_per_rank),
        "agent_sent_bytes": float(run.steady("sent_bytes").mean()),
        "root_moved_bytes": float(root_bytes.mean()),
        "memory_mb_per_rank": run.memory_mb / (case.ranks + 1),
    }


def _fitted(one: Fit, model: RoundModel) -> dict[str, object]:
    errors = one.errors()
    return {
        "collective": one.collective,
        "exchange_message_s": one.message_s,
        "exchange_byte_s": one.byte_s,
        "exchange_points": len(one.points),
        "exchange_median_error": float(np.median(errors)),
        "exchange_worst_error": max(errors),
        "train_fixed_s": model.train_fixed_s,
        "train_step_s": model.train_step_s,
        "encode_s": model.encode_s,
        "rest_fixed_s": model.rest_fixed_s,
        "rest_shared_s": model.rest_shared_s,
        "record_fixed_s": model.record_fixed_s,
        "record_agent_s": model.record_agent_s,
        "num_parameters": model.num_parameters,
    }


def _residuals(one: Fit) -> Table:
    rows = [dict(point) | {"predicted_s": one.predict(point["agents"], point["d"])} for point in one.points]
    return [row | {"residual": row["predicted_s"] / row["median_s"] - 1.0} for row in rows]


def _predicted(study: Study, models: Mapping[str, RoundModel]) -> Table:
    rows = []
    for series in SERIES:
        for place in (HERE, CORE_EACH):
            some = [
                _prediction(series, place, name, ranks, steps, study, model)
                for name, model in models.items()
                for ranks, steps in _sizes(series, place, name, study)
            ]
            if some:
                add_efficiency(some)
            rows += some
    return rows


def _sizes(series: str, place: str, name: str, study: Study) -> list[tuple[int, int]]:
    """List ranks and steps of an agent: those measured and, with a core a rank, powers of 2 beyond them.

    In a strong series no agent can do less than a rollout: it ends where each does one.
    """
    runs = [run.case for run in study.runs if (run.case.series, run.case.collective) == (series, name)]
    measured = {case.ranks: case.steps for case in runs}
    if place == HERE or not runs:
        return sorted(measured.items())
    total = max(case.ranks * case.steps for case in runs)
    most = MOST_RANKS if series == "weak" else total // ROLLOUT
    beyond = [2**power for power in range(13) if max(measured) < 2**power <= most]
    steps = {
        ranks: WEAK_ROLLOUTS * ROLLOUT if series == "weak" else strong_steps(total, ranks) for ranks in beyond
    }
    return sorted((measured | steps).items())


def _prediction(
    series: str, place: str, name: str, ranks: int, steps: int, study: Study, model: RoundModel
) -> dict[str, object]:
    cores = study.cores if place == HERE else ranks + 1
    parts = model.predict(ranks, steps, cores)
    measured_s = (
        _measured_round_s(study.runs, series, name, ranks)
        if ranks + 1 <= study.cores or place == HERE
        else np.nan
    )
    return {
        "series": series,
        "place": place,
        "collective": name,
        "ranks": ranks,
        "cores_in_use": cores_in_use(ranks, cores),
        "steps_per_agent": steps,
        "env_steps_per_s": ranks * steps / parts["round_s"],
        **parts,
        "measured_round_s": measured_s,
        "residual": parts["round_s"] / measured_s - 1.0,
    }


def _measured_round_s(runs: Sequence[Run], series: str, name: str, ranks: int) -> float:
    same = [
        run for run in runs if (run.case.series, run.case.collective, run.case.ranks) == (series, name, ranks)
    ]
    return float(np.median(same[0].steady("round_s"))) if same else np.nan
