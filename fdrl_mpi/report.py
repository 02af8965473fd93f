"""Make a page with figures and tables of one run, or of several side by side; or follow one in the terminal.

A run may still be going on; nothing in its record is touched.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fdrl_mpi.process import LEFT, REFUSED, positive_seconds
from fdrl_mpi.record.run_directory import RunDirectory


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and print what was written, or follow; return the exit status, 2 after a refusal."""
    options = _parse(argv)
    if options.follow:
        return _follow(options)
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
    parser.add_argument(
        "--follow",
        action="store_true",
        help="show in the terminal how RUN gets on, until it ends with its status; it need not have begun",
    )
    parser.add_argument(
        "--every",
        metavar="SECONDS",
        type=positive_seconds,
        default=2.0,
        help="time between two looks at a run that is followed (default: 2)",
    )
    options = parser.parse_args(argv)
    if options.follow and (len(options.runs) > 1 or options.out is not None):
        parser.error("--follow shows one RUN, and writes no file")
    return options


def _follow(options: argparse.Namespace) -> int:
    from fdrl_mpi.reporting.follow import follow

    try:
        return follow(options.runs[0], options.every, sys.stdout)
    except KeyboardInterrupt:
        return LEFT
    except BrokenPipeError:  # nobody reads any more; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return LEFT


def _refuse(reason: str) -> int:
    print(f"fdrl_mpi.report: {reason}", file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
