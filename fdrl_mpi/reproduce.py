"""Repeat published experiments with this program, and print ours beside theirs."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from fdrl_mpi.process import FAILED, REFUSED, is_launched, launched_rank, prepare_process
from fdrl_mpi.starting import start_mpi

if TYPE_CHECKING:
    from fdrl_mpi.comm.world import World
    from fdrl_mpi.published.experiment import Comparison, Experiment

LAUNCH = "mpirun -n {ranks} python -m fdrl_mpi.reproduce {name}"
LONGEST_SILENCE_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Conduct the experiment on the command line; return the exit status."""
    options = _parse(argv)
    prepare_process()
    from fdrl_mpi.published.catalogue import EXPERIMENTS

    if options.name == "LIST":
        if launched_rank() == 0:
            print(_listing(list(EXPERIMENTS.values())))
        return 0
    if options.name not in EXPERIMENTS:
        return _refuse(f"there is no experiment {options.name!r}; LIST names them all")
    experiment = EXPERIMENTS[options.name]
    launch = LAUNCH.format(ranks=experiment.num_ranks, name=experiment.name)
    if not is_launched():
        return _refuse(f"{experiment.name} is an MPI job; start it with\n    {launch}")
    return _launched(experiment, options)


def _launched(experiment: "Experiment", options: argparse.Namespace) -> NoReturn:
    """Conduct an experiment on all ranks of this job, and leave with them."""
    world = start_mpi()
    if world.size < experiment.num_ranks:
        _refuse(f"{experiment.name} needs {experiment.num_ranks} ranks, and this job has {world.size}")
        world.leave(REFUSED)
    try:
        status = _conduct(experiment, world, options)
    except BaseException as error:
        world.fail(error)
    world.leave(status)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fdrl_mpi.reproduce", description=__doc__)
    parser.add_argument("name", metavar="LIST|NAME", help="LIST: what there is; NAME: one of these")
    parser.add_argument("--full", action="store_true", help="spend what the paper spent (default: a part)")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="keep the runs here (default: nowhere)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of a table")
    return parser.parse_args(argv)


def _refuse(reason: str) -> int:
    if launched_rank() == 0:
        print(f"fdrl_mpi.reproduce: {reason}", file=sys.stderr, flush=True)
    return REFUSED


def _conduct(experiment: "Experiment", world: "World", options: argparse.Namespace) -> int:
    """Make all runs; print and judge on the root, which tells the others the exit status."""
    from fdrl_mpi.logs import log_to_terminal
    from fdrl_mpi.published.experiment import Laboratory

    log_to_terminal(world.rank, world.host, "warning")
    with tempfile.TemporaryDirectory() as temporary:
        folder: str = world.from_root(str(options.runs or temporary))
        teller = Teller(experiment.minutes[options.full], sys.stderr if world.is_root else None)
        found = experiment.conduct(Laboratory(world, Path(folder), options.full, teller))
        world.barrier()
    if world.is_root:
        print(json.dumps([asdict(one) for one in found]) if options.json else _table(experiment, found))
    fine: bool = world.from_root(all(one.holds for one in found))
    return 0 if fine else FAILED


class Teller:
    """Says which run begins, with the first and then at most every ten seconds.

    Parameters
    ----------
    minutes : float
        What all runs are expected to take.
    stream : text stream or None
        None says nothing.
    """

    def __init__(self, minutes: float, stream: TextIO | None) -> None:
        self._minutes, self._stream = minutes, stream
        self._begin_s = time.monotonic()
        self._next_s, self._runs = 0.0, 0

    def __call__(self, name: str) -> None:
        """Count a run, and say so if there was silence for long enough."""
        passed_s = time.monotonic() - self._begin_s
        self._runs += 1
        if self._stream is None or passed_s < self._next_s:
            return
        self._next_s = passed_s + LONGEST_SILENCE_S
        expected = f"{passed_s / 60.0:.1f} of about {self._minutes:g} minutes"
        print(f"run {self._runs} ({name}) begins; {expected}", file=self._stream, flush=True)


def _listing(experiments: "Sequence[Experiment]") -> str:
    blocks = []
    for one in experiments:
        reduced, full = one.minutes
        launch = LAUNCH.format(ranks=one.num_ranks, name=one.name)
        blocks.append(
            f"{one.name}: {one.title}\n    {one.paper}\n    {launch}\n"
            f"    about {reduced:g} minutes on two idle cores, {full:g} with --full"
        )
    return "\n".join(blocks)


def _table(experiment: "Experiment", found: "Sequence[Comparison]") -> str:
    lines = [f"{experiment.title} ({experiment.paper})", ""]
    width = max(len(one.quantity) for one in found)
    lines.append(f"{'':{width}}  {'published':>12}  {'ours':>12}  allowed")
    for one in found:
        published = "–" if one.published is None else f"{one.published:.8g}"
        ours = "–" if isnan(one.ours) else f"{one.ours:.8g}"
        mark = "" if one.holds else "  <- does not hold"
        allowed = f"{one.low:.8g} to {one.high:.8g}" if one.decides else "–"
        lines.append(f"{one.quantity:{width}}  {published:>12}  {ours:>12}  {allowed}{mark}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
