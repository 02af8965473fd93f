"""Make a page with figures and tables of one run, or of several runs side by side.

A run may still be going on; nothing in its record is touched.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fdrl_mpi.process import REFUSED
from fdrl_mpi.record.run_directory import RunDirectory


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and print what was written; return the exit status, 2 after a refusal."""
    options = _parse(argv)
    if find_spec("matplotlib") is None:
        return _refuse('the figures need matplotlib: pip install "fdrl-mpi[report]"')
    from fdrl_mpi.reporting.page import write_report
    from fdrl_mpi.reporting.runs import load_runs

    try:
        runs = load_runs(options.runs)
    except ValueError as error:
        return _refuse(str(error))
    try:
        written = write_report(runs, options.out or RunDirectory(options.runs[0]).report)
    except OSError as error:
        return _refuse(f"the report cannot be written: {error}")
    print("\n".join(map(str, written)))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fdrl_mpi.report", description=__doc__)
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="run directory, such as runs/cartpole"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="page to write, with a folder `figures` beside it (default: report.html in the first RUN)",
    )
    return parser.parse_args(argv)


def _refuse(reason: str) -> int:
    print(f"fdrl_mpi.report: {reason}", file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
