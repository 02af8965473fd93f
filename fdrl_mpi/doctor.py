"""Look at this machine and say what is ready, what is missing and how to start here.

One process is enough. Under `mpirun` or `srun` it looks at every host of the job.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fdrl_mpi.diagnosis import Finding, job_findings, process_findings
from fdrl_mpi.inspection import inspect_job, mpi_vendor
from fdrl_mpi.process import launched_rank, prepare_process


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings at rank 0; return 1 there if one is a problem, else 0."""
    options = _parse(argv)
    prepare_process()
    findings = process_findings(mpi_vendor())
    if launched_rank() == 0 and not options.json:
        print(format_findings(findings), flush=True)  # before MPI starts, which may end the process
    job = inspect_job(options.dir)
    if launched_rank() > 0 or (job.mpi and job.mpi["rank"] > 0):
        return 0
    later = job_findings(job, options.dir)
    findings += later
    print(format_json(findings) if options.json else format_findings(later), flush=True)
    return int(any(finding.level == "problem" for finding in findings))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fdrl_mpi.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="folder for results (default: runs)")
    return parser.parse_args(argv)


def format_findings(findings: Sequence[Finding]) -> str:
    """Write one aligned line a finding, and its advice below it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8}{finding.subject:<15}{finding.text}")
        if finding.advice:
            lines.append(f"{'':<8}{'':<15}-> {finding.advice}")
    return "\n".join(lines)


def format_json(findings: Sequence[Finding]) -> str:
    """Write the findings and the number of problems as one JSON object."""
    problems = sum(finding.level == "problem" for finding in findings)
    return json.dumps({"problems": problems, "findings": [asdict(finding) for finding in findings]}, indent=2)


if __name__ == "__main__":
    sys.exit(main())
