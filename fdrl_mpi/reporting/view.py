"""A run as text: a small page of a terminal, or one line."""

import tomllib
from collections.abc import Iterator
from math import isnan

import numpy as np

from fdrl_mpi.arrays import BoolVector, DoubleArray, IntVector
from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.reporting.block_curve import bar, block_curve
from fdrl_mpi.reporting.news import News
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import (
    ERRORS,
    RECENT,
    RETURN,
    LearningCurve,
    agent_phases,
    exact_measures,
    known,
    learning_curve,
    mean_of_present,
    moved_bytes,
    over_agents,
    recent_rate,
    root_phases,
    seconds_per_round,
)
from fdrl_mpi.reporting.units import BYTES, SECONDS, UNKNOWN, number, quantity, typeset

WIDEST = 100
"""Characters of a line at most: a curve that is wider tells no more."""
_LABEL = 10
_BEST, _WORST = 2, 3
_MOST_NAMES = 8
_SMALLEST_SHARE = 0.005


def page(news: News, width: int) -> list[str]:
    """Write the lines of a page that is `width` characters wide."""
    width = min(width, WIDEST)
    lines = [_title(news), state(news)]
    if news.run is not None:
        lines += [f"{label:<{_LABEL}}{text}" for label, text in _body(news.run, width - _LABEL)]
    lines += [f"{label:<{_LABEL}}{text}" for label, text in _incidents(news)]
    return [_plain(line)[:width] for line in lines]


def line(news: News, round: int) -> str:
    """Say in one line how well the run did in `round`, and when it will end."""
    assert news.run is not None
    metrics = news.run.metrics
    now = int(np.searchsorted(metrics.rounds, round))
    parts = [f"round {round}{_planned(news.run, '/')}"]
    for name in measures(metrics):
        curve = learning_curve(metrics, name)
        parts += [f"{_called(name)} {_standing(metrics, name, curve, row)}" for row in _row(curve, round)]
    training = mean_of_present(metrics, "train_return")[now]
    parts += [] if isnan(training) else [f"training {number(training)}"]
    parts += [_speed(metrics), *_left(news)]
    return _plain("  ".join(filter(None, parts)))


def state(news: News) -> str:
    """Say in one line whether the run goes on, and how it ended."""
    verdict = news.verdict
    if verdict is not None:
        return _plain(f"{verdict.outcome} after round {verdict.round} of {verdict.rounds}: {verdict.reason}")
    if news.state == "waiting":
        return _plain(f"waiting: {news.trouble}")
    if news.state == "silent":
        return f"no news for {duration(news.silent_s)}"
    return ", ".join(["running", *_left(news)])


def measures(metrics: Metrics) -> list[str]:
    """List what tells how well a run does, the most telling first."""
    return [*exact_measures(metrics), *([RETURN] if known(metrics, RETURN).any() else [])]


def duration(seconds: float) -> str:
    """Write a time in its two largest units."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def _title(news: News) -> str:
    if news.run is None:
        return str(news.path)
    run, settings = news.run, tomllib.loads(news.run.config)
    algorithm = settings.get("learner", {}).get("name", "")
    world = settings.get("environment", {}).get("id", "")
    what = " ".join(filter(None, [run.mode, algorithm, f"on {world}" if world else ""]))
    count = len(run.metrics.agents)
    return f"{run.label}: {', '.join(filter(None, [what, f'{count} agent' + 's' * (count != 1)]))}"


def _left(news: News) -> list[str]:
    """Say when the run will have all its rounds, if that can be said."""
    run = news.run
    if run is None or run.planned_rounds is None or news.verdict is not None or not len(run.metrics.rounds):
        return []
    left_s = (run.planned_rounds - int(run.metrics.rounds[-1])) * seconds_per_round(run.metrics)
    return [] if isnan(left_s) else [f"{duration(max(left_s, 0.0))} left"]


def _body(run: Run, width: int) -> Iterator[tuple[str, str]]:
    """Give the rows of a page, label and text."""
    metrics = run.metrics
    if not len(metrics.rounds):
        return
    yield "round", _rounds(run)
    names = measures(metrics)
    for name in names:
        curve = learning_curve(metrics, name)
        yield _called(name), f"{_standing(metrics, name, curve, -1)}, after round {curve.rounds[-1]}"
        yield "", _range(curve, width)
    training = mean_of_present(metrics, "train_return")
    if not np.isnan(training).all():
        yield "training", f"mean return {number(training[~np.isnan(training)][-1])}"
    yield "speed", f"{_speed(metrics)}, {quantity(recent_rate(metrics, moved_bytes(metrics)), BYTES)}/s sent"
    yield "agents", _shares(agent_phases(metrics))
    yield "root", _shares(root_phases(metrics), metrics.values["round_s"])
    if names:
        yield from _ranking(run, names[0])
    yield from _missing(metrics)


def _rounds(run: Run) -> str:
    last = int(run.metrics.rounds[-1])
    planned, each = run.planned_rounds, quantity(seconds_per_round(run.metrics), SECONDS)
    progress = f"  {bar(last / planned, 30)}" if planned else ""
    return f"{last}{_planned(run, ' of ')}{progress}  {each} each"


def _planned(run: Run, between: str) -> str:
    return f"{between}{run.planned_rounds}" if run.planned_rounds else ""


def _called(name: str) -> str:
    return "return" if name == RETURN else name.replace("_", " ").removeprefix("table ")


def _row(curve: LearningCurve, round: int) -> list[int]:
    """Find the last value of a curve up to a round."""
    found = int(np.searchsorted(curve.rounds, round, side="right"))
    return [found - 1] if found else []


def _standing(metrics: Metrics, name: str, curve: LearningCurve, row: int) -> str:
    """Write the mean over the agents, and the worst of them."""
    values = metrics.values[name][metrics.rounds == curve.rounds[row]][0]
    worst = int(np.nanargmax(values) if name in ERRORS else np.nanargmin(values))
    mean = f"mean {number(curve.mean[row])}"
    return f"{mean}, worst {number(values[worst])} (agent {metrics.agents[worst]})"


def _range(curve: LearningCurve, width: int) -> str:
    """Draw the means, and say between which values."""
    between = f"  {number(curve.mean.min())} to {number(curve.mean.max())}"
    return block_curve(curve.mean, max(width - len(between), 1)) + between


def _speed(metrics: Metrics) -> str:
    for name, what in (("env_steps", "environment"), ("gradient_steps", "gradient")):
        rate = recent_rate(metrics, over_agents(metrics, name))
        if rate > 0.0:
            return f"{number(rate)} {what} steps/s"
    return f"{UNKNOWN} steps/s"


def _shares(phases: dict[str, DoubleArray], whole: DoubleArray | None = None) -> str:
    """Write which shares of the last rounds the phases took, of their own sum or of the `whole`."""
    seconds = {name: float(np.nansum(values[-RECENT:])) for name, values in phases.items()}
    total_s = sum(seconds.values()) if whole is None else float(np.nansum(whole[-RECENT:]))
    if total_s <= 0.0:
        return UNKNOWN
    shares = {name: part / total_s for name, part in seconds.items()}
    told = [f"{name} {part:.0%}" for name, part in shares.items() if part >= _SMALLEST_SHARE]
    return ", ".join(told) or "idle"


def _ranking(run: Run, name: str) -> Iterator[tuple[str, str]]:
    """Give the best and the worst agents of the last round in which `name` is known, with their worlds."""
    metrics = run.metrics
    values = metrics.values[name][known(metrics, name)][-1]
    order = np.argsort(values if name in ERRORS else -values, kind="stable")
    order = order[~np.isnan(values[order])]
    best = order[: min(_BEST, len(order) // 2)]
    worst = order[max(len(best), len(order) - _WORST) :][::-1]
    for label, agents in (("best", best), ("worst", worst)):
        for place, agent in enumerate(agents):
            yield label if place == 0 else "", _agent(run, agent, values[agent])


def _agent(run: Run, agent: int, value: float) -> str:
    world = [
        f"{context.name} {context.values[agent]:.3g} {typeset(context.units).removeprefix('1')}".rstrip()
        for context in run.contexts
    ]
    return f"agent {run.metrics.agents[agent]:<4} {number(value):>7}  {', '.join(world)}".rstrip()


def _missing(metrics: Metrics) -> Iterator[tuple[str, str]]:
    """Tell whose updates are not in the last model, or not in one of the last rounds."""
    away = metrics.values["present"] != 1.0
    if away[-1].any():
        yield "absent", f"{_names(metrics, away[-1])} {_since(metrics.rounds, away[:, away[-1]])}"
    rejected = metrics.values["rejected"] == 1.0
    if rejected.any():
        last = metrics.rounds[rejected.any(axis=1)][-1]
        yield (
            "rejected",
            f"{_names(metrics, rejected.any(axis=0))}, {rejected.sum()} in all, last in round {last}",
        )
    refused = metrics.rounds[metrics.values["refused"] == 1.0]
    if len(refused):
        yield "refused", f"{len(refused)} models, the last one in round {refused[-1]}"


def _since(rounds: IntVector, away: BoolVector) -> str:
    """Say since when those who are away now have been, at the earliest; `away` has shape (R, agents)."""
    begun = [np.flatnonzero(~column) for column in away.T]
    first = min(int(here[-1]) + 1 if len(here) else 0 for here in begun)
    return f"in round {rounds[-1]}" if first == len(rounds) - 1 else f"since round {rounds[first]}"


def _names(metrics: Metrics, chosen: BoolVector) -> str:
    agents = metrics.agents[chosen].tolist()
    more = f" and {len(agents) - _MOST_NAMES} more" if len(agents) > _MOST_NAMES else ""
    return f"agent{'s' * (len(agents) > 1)} {', '.join(map(str, agents[:_MOST_NAMES]))}{more}"


def _incidents(news: News) -> Iterator[tuple[str, str]]:
    """Tell what the run has survived, from its verdict, and from its logs as long as there is none."""
    failures = news.verdict.failures if news.verdict is not None else []
    told = [_failure(failure) for failure in failures[-_WORST:]] or news.warnings
    label = "survived" if failures else "warnings"
    for place, text in enumerate(told):
        yield label if place == 0 else "", text


def _failure(failure: dict[str, object]) -> str:
    lost, recovery_s = failure.get("lost_agents"), failure.get("recovery_s")
    seconds = f", on after {recovery_s:.1f} s" if isinstance(recovery_s, float) else ""
    ids = lost if isinstance(lost, list) else []
    who = f"agent{'s' * (len(ids) > 1)} {', '.join(map(str, ids))} lost" if ids else "no agent lost"
    return f"round {failure.get('round')}: {who}{seconds}: {failure.get('reason')}"


def _plain(text: str) -> str:
    """Keep a text from a file in its line: no control characters."""
    return "".join(character if character.isprintable() else " " for character in text)
