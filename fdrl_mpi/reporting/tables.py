"""The tables of the page, as HTML; every text from a run is escaped here."""

from collections.abc import Sequence
from html import escape

from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import last_evaluation, summarise
from fdrl_mpi.reporting.style import run_colours
from fdrl_mpi.reporting.units import BYTES, SECONDS, UNKNOWN, bracketed, number, quantity, share
from fdrl_mpi.reporting.worlds import by_return

_NO_VERDICT = "no verdict: still running, or killed"


def summary_table(runs: Sequence[Run]) -> str:
    """Put the numbers of each run into a column."""
    columns = [_summary(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *[column.get(name, UNKNOWN) for column in columns]] for name in names]
    swatches = [
        f'<span class="swatch" style="background:{colour}"></span>{escape(run.label)}'
        for run, colour in zip(runs, run_colours(len(runs)), strict=True)
    ]
    return _table(["", *swatches], rows)


def worlds_table(group: Sequence[Run]) -> str:
    """List the agents of runs with the same worlds: contexts, and the last evaluation return of each run."""
    first = group[0]
    evaluations = [last_evaluation(run.metrics) for run in group]
    headings = ["agent", *[bracketed(context.name, context.units) for context in first.contexts]]
    for run, evaluation in zip(group, evaluations, strict=True):
        when = "not evaluated" if evaluation.round is None else f"round {evaluation.round}"
        headings.append(f"return, {run.label}, {when}")
    columns = [*[context.values for context in first.contexts], *[entry.returns for entry in evaluations]]
    rows = [
        [str(first.metrics.agents[agent]), *[number(float(column[agent])) for column in columns]]
        for agent in by_return(first)
    ]
    return _table([escape(heading) for heading in headings], rows)


def provenance_table(runs: Sequence[Run]) -> str:
    """List what the record says about program, machine and start of each run."""
    names = dict.fromkeys(name for run in runs for name in run.metrics.attributes if name != "config")
    rows = [[name, *[str(run.metrics.attributes.get(name, UNKNOWN)) for run in runs]] for name in names]
    headings = ["", *[escape(run.label) for run in runs]]
    return _table(headings, [["directory", *[str(run.path.resolve()) for run in runs]], *rows], "text")


def _summary(run: Run) -> dict[str, str]:
    summary, planned = summarise(run.metrics), run.planned_rounds
    when = f" (round {summary.evaluated_round})" if summary.evaluated_round is not None else ""
    who = f" (agent {summary.worst_agent})" if summary.worst_agent is not None else ""
    return {
        "state": _state(run),
        "mode": run.mode or UNKNOWN,
        "rounds": f"{summary.last_round or 0}" + (f" of {planned}" if planned else ""),
        "agents": str(summary.num_agents),
        "environment steps": number(summary.env_steps),
        "wall time": quantity(summary.wall_s, SECONDS),
        "environment steps per second": number(summary.env_steps_per_s),
        "mean evaluation return": number(summary.mean_return) + when,
        "worst agent's return": number(summary.worst_return) + who,
        "bytes sent per round": quantity(summary.bytes_per_round, BYTES),
        "of which between hosts": quantity(summary.crossing_bytes_per_round, BYTES),
        "agents' time outside training": share(summary.share_outside_training),
        **{f"mean {name.replace('_', ' ')} (last)": number(value) for name, value in summary.exact.items()},
    }


def _state(run: Run) -> str:
    if run.verdict is None:
        return _NO_VERDICT
    return f"{run.verdict.outcome}: {run.verdict.reason}" if run.verdict.reason else run.verdict.outcome


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "numbers") -> str:
    """Write a table; headings are HTML, cells are text, the first cell of a row is its heading."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
