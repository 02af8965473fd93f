"""Follow a run while it goes on: a page that is drawn again in a terminal, plain lines anywhere else."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TextIO

from fdrl_mpi.process import EXIT_STATUS
from fdrl_mpi.reporting.block_curve import BLOCKS, PLAIN
from fdrl_mpi.reporting.news import News, Watch
from fdrl_mpi.reporting.runs import Run
from fdrl_mpi.reporting.series import RETURN, learning_curve
from fdrl_mpi.reporting.view import line, page, state

LONGEST_SILENCE_S = 10.0
_UP, _CLEAR = "\033[{}F", "\033[J"


class Output(Protocol):
    """What text is written to."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> None: ...


class Display(Protocol):
    """Where news are shown."""

    def show(self, news: News) -> None: ...


class Page:
    """A page that takes the place of the last one, in a terminal of whatever size it has by then.

    Parameters
    ----------
    out : Output
        A terminal that moves its cursor up.
    size : callable
        Gives columns and lines.
    """

    def __init__(
        self, out: Output, size: Callable[[], tuple[int, int]] = lambda: shutil.get_terminal_size((80, 24))
    ) -> None:
        self._out, self._size = out, size
        self._widths: list[int] = []

    def show(self, news: News) -> None:
        """Draw the page over the last one, cut to what fits."""
        columns, rows = self._size()
        lines = [text.rstrip() for text in page(news, columns - 1)][: rows - 1]
        height = sum(
            1 + max(width - 1, 0) // max(columns, 1) for width in self._widths
        )  # narrower, lines are broken
        back = _UP.format(min(height, rows - 1)) + _CLEAR if height else ""
        self._out.write(back + "".join(f"{text}\n" for text in lines))
        self._out.flush()
        self._widths = [len(text) for text in lines]


class Lines:
    """A line for each new evaluation, for a run's changes of state, and now and then if there is neither."""

    def __init__(self, out: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._told: tuple[str, str] = ("running", "")
        self._round, self._told_s = -1, clock()

    def show(self, news: News) -> None:
        """Write what is new."""
        for round in self._new_rounds(news.run):
            self._say(line(news, round))
            self._round = round
        told = (news.state, news.trouble)
        if told != self._told and news.state != "running":
            self._say(state(news))
        self._told = told

    def _new_rounds(self, run: Run | None) -> list[int]:
        """List the evaluated rounds that are new; at first, and after a long silence, the last one."""
        if run is None or not len(run.metrics.rounds):
            return []
        last = int(run.metrics.rounds[-1])
        evaluated = learning_curve(run.metrics, RETURN).rounds.tolist()
        new = [round for round in evaluated if round > self._round]
        if self._round < 0:
            return new[-1:] or [last]
        is_due = last > self._round and self._clock() - self._told_s > LONGEST_SILENCE_S
        return new or ([last] if is_due else [])

    def _say(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()
        self._told_s = self._clock()


class Ascii:
    """A stream that knows no block characters gets others for them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        """Write what there is a character for, and a question mark for the rest."""
        self._out.write(text.translate(PLAIN).encode("ascii", "replace").decode())

    def flush(self) -> None:
        """Hand everything on."""
        self._out.flush()


def follow(path: Path, every_s: float, out: TextIO) -> int:
    """Show a run, which need not have begun, until it ends; return its exit status.

    Parameters
    ----------
    path : path
        The run directory.
    every_s : float
        Seconds between two looks at it.
    out : text stream
    """
    display, watch = make_display(out), Watch(path)
    while True:
        news = watch.look()
        display.show(news)
        if news.verdict is not None:
            return EXIT_STATUS[news.verdict.outcome]
        time.sleep(every_s)


def make_display(out: TextIO) -> Display:
    """Choose a page for a terminal of a person, and lines for anything else.

    mpirun gives its ranks a terminal for their standard output alone, even where its own is a file.
    """
    is_terminal = out.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    known = Ascii(out) if not _can_write(out, BLOCKS) else out
    return Page(known) if is_terminal else Lines(known)


def _can_write(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
