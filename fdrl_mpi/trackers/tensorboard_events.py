"""Event files for TensorBoard: a folder for the run, and one in it for each agent."""

import time
from pathlib import Path

from tensorboard.summary import Writer

from fdrl_mpi.process import EXIT_STATUS
from fdrl_mpi.record.metrics_file import Metrics
from fdrl_mpi.reporting.news import Watch
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.trackers.curves import agent_name, curves


class Events:
    """The event files of one run, which grow with it. Those of an earlier export are replaced.

    Parameters
    ----------
    folder : path
        Agents have the same names in it as their curves: TensorBoard draws them with the mean of all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[Path, Writer] = {}
        self._last: dict[tuple[str, int | None], int] = {}
        for old in [*folder.glob("events.out.tfevents.*"), *folder.glob("agent_*/events.out.tfevents.*")]:
            old.unlink()

    def write(self, metrics: Metrics) -> None:
        """Add the points of later rounds than each curve has; a round that is done again is the same."""
        for curve in curves(metrics):
            last = self._last.get((curve.name, curve.agent), -1)
            new = curve.rounds > last
            writer = self._writer(metrics, curve.agent)
            points = zip(curve.rounds[new], curve.values[new], curve.unix_s[new], strict=True)
            for round, value, unix_s in points:
                when = float(unix_s) if unix_s == unix_s else None
                writer.add_scalar(
                    curve.name, float(value), int(round), wall_time=when, description=curve.description
                )
            self._last[curve.name, curve.agent] = int(curve.rounds[-1])
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """End the files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, metrics: Metrics, agent: int | None) -> Writer:
        folder = self._folder if agent is None else self._folder / agent_name(metrics, agent)
        if folder not in self._writers:
            self._writers[folder] = Writer(str(folder))
        return self._writers[folder]


def write_events(run: Run, folder: Path) -> list[Path]:
    """Write the event files of a run to a folder of its name; return that folder."""
    events = Events(folder / run.path.resolve().name)
    events.write(run.metrics)
    events.close()
    return [folder / run.path.resolve().name]


def follow_events(path: Path, folder: Path, every_s: float) -> int:
    """Write what a run records, which need not have begun, until it ends; return its exit status."""
    watch, events, written = Watch(path), Events(folder / path.resolve().name), None
    try:
        while True:
            news = watch.look()
            if news.run is not None and news.run is not written:
                events.write(news.run.metrics)
                written = news.run
            if news.verdict is not None:
                return EXIT_STATUS[news.verdict.outcome]
            time.sleep(every_s)
    finally:
        events.close()
