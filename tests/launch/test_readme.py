"""What README shows works as it stands."""

import re
from pathlib import Path

import pytest

from fdrl_mpi.record.metrics_file import read_metrics

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.launch


def test_environment_of_the_readme_trains_with_corridors_of_different_length(finish, tmp_path):
    (source,) = re.findall(r"```python\n(# corridor\.py\n.*?)```", README, re.DOTALL)
    (heterogeneity,) = re.findall(r"--environment\.heterogeneity '(\{length = .*?\}\})'", README)
    (tmp_path / "corridor.py").write_text(source)
    ended = finish(
        3,
        "--environment.id",
        "corridor:Corridor",
        "--environment.heterogeneity",
        heterogeneity,
        "--rounds",
        "2",
    )
    assert ended.returncode == 0, ended.stderr
    lengths = read_metrics(tmp_path / "runs/cartpole/metrics.h5").agent_facts["context_length"].values
    assert len(set(lengths)) == 2


def test_record_is_read_as_the_readme_shows(finish, tmp_path, monkeypatch, capsys):
    assert finish(3, "--rounds", "2").returncode == 0
    (program,) = re.findall(r"```python\n(import xarray\n.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "round" in shown
    assert "context_gravity" in shown
