"""The command: a page that needs nothing else, figures that are images, refusals that say why."""

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.report import main
from fdrl_mpi.reporting.learning import draw_learning_curve
from fdrl_mpi.reporting.runs import load_run
from fdrl_mpi.reporting.worlds import normalised, shown

MakeRun = Callable[..., Path]
FIGURES = {"learning_curve.png", "worlds.png", "phases.png", "bytes.png", "agents.png"}


def image_size(path: Path) -> tuple[int, int]:
    """Read width and height of a complete PNG file, in pixels."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def assert_complete(page: Path, expected: set[str] = FIGURES) -> None:
    """Check that the page brings everything along, and that its figures lie beside it."""
    html = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    sources = re.findall(r'src="([^"]{22})', html)
    assert sources == ["data:image/png;base64,"] * len(expected)
    figures = {path.name: image_size(path) for path in (page.parent / "figures").iterdir()}
    assert figures.keys() == expected
    assert all(width == 1500 and height > 100 for width, height in figures.values())


def test_report_of_three_modes_has_the_numbers_of_each(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make_run("fed"), make_run("ind", num_rounds=7, mode="independent", has_verdict=False)]
    runs.append(make_run("cen", num_agents=2, gravity=1.62, mode="centralised"))
    page = tmp_path / "elsewhere" / "three.html"
    assert main([*map(str, runs), "--out", str(page)]) == 0
    assert_complete(page)
    written = capsys.readouterr().out.splitlines()
    assert written[0] == str(page)
    assert {Path(path).name for path in written[1:]} == FIGURES

    html = page.read_text(encoding="utf-8")
    rows = dict(re.findall(r'<tr><th scope="row">([^<]*)</th>(.*)</tr>', html))
    cells = {name: re.findall("<td>(.*?)</td>", row) for name, row in rows.items()}
    assert cells["state"] == [
        "finished: all rounds are done",
        "no verdict: still running, or killed",
        "finished: all rounds are done",
    ]
    assert cells["mode"] == ["federated", "independent", "centralised"]
    assert cells["rounds"] == ["5 of 5", "7 of 7", "5 of 5"]
    assert cells["environment steps"] == ["3,000", "4,200", "1,500"]  # rounds * 100 * (1 + ... + K)
    assert cells["wall time"] == ["500 ms", "700 ms", "500 ms"]
    assert cells["mean evaluation return"] == ["98 (round 5)", "138 (round 7)", "98.5 (round 5)"]
    assert cells["worst agent&#x27;s return"] == ["97 (agent 3)", "137 (agent 3)", "98 (agent 2)"]
    assert cells["bytes sent per round"] == ["3.5 kB", "3.5 kB", "2.5 kB"]
    assert cells["agents&#x27; time outside training"] == ["40.0%"] * 3
    assert all(f"{name} ({mode})" in html for name, mode in zip(("fed", "ind"), cells["mode"], strict=False))


@pytest.mark.parametrize(
    "shape",
    [
        {"num_agents": 1, "num_rounds": 1},
        {"num_agents": 64, "num_rounds": 3},
        {"is_evaluated": False, "has_verdict": False},
        {"num_rounds": 0, "has_verdict": False},
    ],
    ids=["one agent, one round", "64 agents", "never evaluated", "no round yet"],
)
def test_report_stands_in_the_run_by_default_and_changes_nothing_else(
    make_run: MakeRun, shape: dict[str, int]
) -> None:
    run = make_run(**shape)
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert main([str(run)]) == 0
    assert_complete(run / "report.html")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_rounds_without_any_value_leave_gaps(tmp_path: Path) -> None:
    record = MetricsRecord(tmp_path / "metrics.h5", [1, 2], {}, {})
    for round in range(1, 4):
        record.append(round, {})
    record.amend(2, {"evaluation_return": np.array([np.nan, -3.25]), "end_wall_s": 1.0})
    record.write()
    assert main([str(tmp_path)]) == 0
    assert_complete(tmp_path / "report.html")
    assert "-3.25 (agent 2)" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_exact_measures_have_a_figure_and_a_row(make_run: MakeRun, tmp_path: Path) -> None:
    record = MetricsRecord(tmp_path / "metrics.h5", [1, 2], {}, {})
    for round in range(1, 4):
        values = {"table_error": np.array([0.25, 0.75]) / round, "env_steps": np.zeros(2)}
        record.append(round, {"present": np.ones(2), "end_wall_s": float(round)} | values)
    record.write()
    assert main([str(tmp_path), str(make_run()), "--out", str(tmp_path / "two.html")]) == 0
    assert_complete(tmp_path / "two.html", FIGURES | {"table_error.png"})
    html = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert '<th scope="row">mean table error (last)</th><td>0.1667</td><td>–</td>' in html
    assert html.index("Error of the table") < html.index("Learning curve")


def test_errors_that_fall_far_have_a_logarithmic_axis_with_plain_numbers(tmp_path: Path) -> None:
    for name, last in (("far", 0.001), ("near", 0.1), ("to zero", 0.0)):
        (tmp_path / name).mkdir()
        record = MetricsRecord(tmp_path / name / "metrics.h5", [1], {}, {})
        for round, error in enumerate((1.0, last), 1):
            record.append(round, {"table_error": np.array([error])})
        record.write()
        axes = draw_learning_curve([load_run(tmp_path / name)], "table_error").axes
        assert {each.get_yscale() for each in axes} == {"log" if last == 0.001 else "linear"}
        labels = " ".join(label.get_text() for label in axes[0].get_yticklabels())
        assert "$" not in labels
        assert name != "far" or "0.001 0.01 0.1 1" in labels


def test_costs_that_a_run_does_not_have_are_named(tmp_path: Path) -> None:
    record = MetricsRecord(tmp_path / "metrics.h5", [1], {}, {})
    record.append(1, {"exact_return": np.ones(1), "env_steps": np.zeros(1), "sent_bytes": np.ones(1)})
    record.write()
    _, steps, _, moved = draw_learning_curve([load_run(tmp_path)], "exact_return").axes
    assert steps.get_xlabel().endswith(f"\nno environment steps: {tmp_path.name}")
    assert "no bytes" not in moved.get_xlabel()


def test_texts_of_a_run_are_escaped(make_run: MakeRun) -> None:
    run = make_run("_a<b>&$x$")
    assert main([str(run)]) == 0
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "<title>_a&lt;b&gt;&amp;$x$</title>" in html
    assert "mode = &quot;federated&quot;  # &lt;&amp;&gt;" in html
    assert "fdrl-train &lt;script&gt;" in html


def test_what_cannot_be_reported_is_refused_in_one_line(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    assert main([str(run), str(tmp_path / "absent")]) == 2
    assert main([str(tmp_path)]) == 2
    assert main([str(run), "--out", "/proc/no/report.html"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    absent, no_record, no_place = captured.err.splitlines()
    assert "absent: there is no such run directory" in absent
    assert "has no metrics.h5" in no_record
    assert "cannot be written" in no_place
    assert not (run / "report.html").exists()


def test_missing_matplotlib_is_named_with_its_remedy(make_run: MakeRun) -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None; from fdrl_mpi.report import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, str(make_run())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == 'fdrl_mpi.report: the figures need matplotlib: pip install "fdrl-mpi[report]"\n'


def test_shades_go_from_the_least_to_the_greatest() -> None:
    np.testing.assert_array_equal(normalised(np.array([2.0, 4.0, np.nan, 3.0])), [0.0, 1.0, np.nan, 0.5])
    np.testing.assert_array_equal(normalised(np.array([7.0, 7.0])), [0.5, 0.5])


def test_of_many_agents_the_best_and_the_worst_get_a_row(make_run: MakeRun) -> None:
    few, many = (load_run(make_run(name, num_agents=number)) for name, number in (("few", 64), ("many", 200)))
    assert shown(few).tolist() == list(range(64))
    assert shown(many).tolist() == [*range(32), *range(168, 200)]  # the return falls with the id
