import json
import subprocess
import sys
from pathlib import Path

from fdrl_mpi.diagnosis import Finding
from fdrl_mpi.doctor import format_findings


def test_findings_are_aligned_and_advice_follows() -> None:
    text = format_findings(
        [Finding("ok", "python", "3.12"), Finding("problem", "mpi", "none", "install one")]
    )
    first, second, advice = text.splitlines()
    assert first.index("3.12") == second.index("none") == advice.index("->")


def test_exit_status_and_json_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fdrl_mpi.doctor", "--json", "--dir", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = json.loads(answer.stdout)
    levels = [finding["level"] for finding in found["findings"]]
    assert levels.count("problem") == found["problems"]
    assert answer.returncode == int(found["problems"] > 0)
