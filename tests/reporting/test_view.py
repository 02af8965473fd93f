"""What the page in the terminal says of a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.record.verdict import Verdict
from fdrl_mpi.reporting.news import News
from fdrl_mpi.reporting.runs import load_run
from fdrl_mpi.reporting.view import duration, line, page, state

MakeRun = Callable[..., Path]


def texts(news: News, width: int = 79) -> dict[str, str]:
    """Give the page by its labels; what belongs to the same label is joined."""
    found, label = {"title": "", "state": ""}, ""
    found["title"], found["state"], *rows = page(news, width)
    for row in rows:
        label = row[:10].strip() or label
        found[label] = f"{found.get(label, '')}\n{row[10:]}".strip()
    return found


def test_page_says_where_a_run_is_and_how_good(make_run: MakeRun) -> None:
    run = load_run(make_run(num_agents=6, has_verdict=False))
    run = replace(run, planned_rounds=605)
    told = texts(News(run.path, run))
    assert told["title"] == "one: federated, 6 agents"
    assert told["state"] == "running, 1 min 0 s left"  # 600 rounds of 0.1 s
    assert told["round"] == f"5 of 605  {'░' * 30}  100 ms each"
    assert told["return"] == "mean 96.5, worst 94 (agent 6), after round 5\n▁▅█  16.5 to 96.5"
    assert told["training"] == "mean return 53.5"
    assert told["speed"] == "21,000 environment steps/s, 65 kB/s sent"
    assert told["agents"] == "train 60%, wait 20%, encode 10%, exchange 10%"
    assert told["root"] == "evaluate 50%, aggregate 1%, exchange 10%, record 2%"
    assert told["best"].splitlines() == [
        "agent 1         99  gravity 10.8 m/s²",
        "agent 2         98  gravity 11.8 m/s²",
    ]
    assert [row.split()[1] for row in told["worst"].splitlines()] == ["6", "5", "4"]
    assert "absent" not in told


def test_line_says_the_same_shortly(make_run: MakeRun) -> None:
    run = load_run(make_run(has_verdict=False))
    assert line(News(run.path, run), 3) == (
        "round 3/5  return mean 58, worst 57 (agent 3)  training 32  6,000 environment steps/s  0 s left"
    )


@pytest.mark.parametrize("width", [20, 40, 79, 300])
def test_no_line_is_wider_than_the_terminal(make_run: MakeRun, width: int) -> None:
    run = load_run(make_run("a" * 90, num_rounds=200))
    verdict = Verdict("failed", 3, 200, "too long a reason\nin two lines\033[2J " * 9, None, 1.0)
    lines = page(News(run.path, run, verdict), width)
    assert max(map(len, lines)) <= min(width, 100)
    assert all(text.isprintable() for text in lines)


def test_those_who_are_away_or_left_out_are_named(tmp_path: Path) -> None:
    record = MetricsRecord(tmp_path / "metrics.h5", range(1, 13), {}, {})
    for round in range(1, 5):
        present, rejected = np.ones(12), np.zeros(12)
        present[1:] = 1.0 if round < 3 else np.nan
        rejected[0] = round == 2
        record.append(round, {"present": present, "rejected": rejected, "refused": float(round == 2)})
    record.write()
    told = texts(News(tmp_path, load_run(tmp_path)))
    assert told["absent"] == "agents 2, 3, 4, 5, 6, 7, 8, 9 and 3 more since round 3"
    assert told["rejected"] == "agent 1, 1 in all, last in round 2"
    assert told["refused"] == "1 models, the last one in round 2"
    assert told["agents"] == told["root"] == "–"


def test_an_exact_measure_comes_first_and_its_worst_is_the_greatest_error(tmp_path: Path) -> None:
    record = MetricsRecord(tmp_path / "metrics.h5", [1, 2], {}, {})
    for round in (1, 2):
        record.append(
            round,
            {"table_error": np.array([0.25, 0.75]) / round, "round_s": 0.5}
            | {"gradient_steps": np.full(2, 10.0), "env_steps": np.zeros(2)},
        )
    record.write()
    told = texts(News(tmp_path, load_run(tmp_path)))
    assert told["error"].startswith("mean 0.25, worst 0.375 (agent 2), after round 2")
    assert told["best"] == "agent 1      0.125"
    assert told["speed"].startswith("40 gradient steps/s")


def test_run_without_any_round_has_a_page(make_run: MakeRun) -> None:
    run = load_run(make_run(num_rounds=0, has_verdict=False))
    assert page(News(run.path, run), 79) == ["one: federated, 3 agents", "running"]


def test_survived_failures_are_told_at_the_end_and_warnings_before(make_run: MakeRun) -> None:
    run = load_run(make_run(has_verdict=False))
    assert texts(News(run.path, run, warnings=["12:00:01 rank 0: a", "12:00:02 rank 0: b"]))["warnings"] == (
        "12:00:01 rank 0: a\n12:00:02 rank 0: b"
    )
    failure = {"round": 4, "lost_agents": [2, 3], "recovery_s": 0.25, "reason": "rank 2 is dead"}
    verdict = Verdict("finished", 5, 5, "all rounds done", 1.0, 1.0, failures=[failure])
    told = texts(News(run.path, run, verdict, warnings=["12:00:01 rank 0: a"]))
    assert told["survived"] == "round 4: agents 2, 3 lost, on after 0.2 s: rank 2 is dead"
    assert told["state"] == "finished after round 5 of 5: all rounds done"
    assert "warnings" not in told


def test_a_record_that_stays_as_it_is_is_no_news(make_run: MakeRun) -> None:
    run = load_run(make_run(has_verdict=False))
    assert state(News(run.path, run, silent_s=9.0)).startswith("running")
    assert state(News(run.path, run, silent_s=200.0)) == "no news for 3 min 20 s"
    slow = replace(run.metrics, values=run.metrics.values | {"round_s": np.full(5, 60.0)})
    assert state(News(run.path, replace(run, metrics=slow), silent_s=200.0)).startswith("running")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (3599.0, "59 min 59 s"), (7290.0, "2 h 1 min")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
