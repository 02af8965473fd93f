"""What an experiment is: runs of this program, and numbers beside those of a paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf
from pathlib import Path

from fdrl_mpi.comm.world import World
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import read
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.record.metrics_file import Metrics, read_metrics
from fdrl_mpi.session import Session
from fdrl_mpi.trained_run import Policies, load_trained_run

QUIET = {"log.level": "warning", "log.progress": "none", "run.resume": "never", "checkpoint.keep": "1"}


@dataclass(frozen=True)
class Comparison:
    """One number of a paper, and ours.

    Attributes
    ----------
    quantity : str
    published, ours : float
    low, high : float
        Where ours may lie; by default anywhere, and the number is there to be read.
    """

    quantity: str
    published: float | None
    ours: float
    low: float = -inf
    high: float = inf

    @property
    def holds(self) -> bool:
        """Whether ours lies where it may."""
        return self.low <= self.ours <= self.high

    @property
    def decides(self) -> bool:
        """Whether ours could lie where it may not."""
        return not (isinf(self.low) and isinf(self.high))


def near(quantity: str, published: float, ours: float, tolerance: float) -> Comparison:
    """Compare with a number that ours should equal up to `tolerance`."""
    return Comparison(quantity, published, ours, published - tolerance, published + tolerance)


@dataclass(frozen=True)
class Result:
    """What one run left.

    Attributes
    ----------
    metrics : Metrics
    policies : Policies
    """

    config: Config
    metrics: Metrics
    policies: Policies


class Laboratory:
    """Runs this program on the first ranks of a job, one run after another.

    Parameters
    ----------
    world : World
    folder : path
        Holds the runs.
    is_full : bool
        Whether to spend what the paper spent.
    tell : callable
        Is told the name of each run before it begins, on every rank.
    """

    def __init__(self, world: World, folder: Path, is_full: bool, tell: Callable[[str], None]) -> None:
        self._world, self._folder, self._tell = world, folder, tell
        self.is_full = is_full

    def train(self, name: str, num_ranks: int, settings: Mapping[str, str]) -> Result | None:
        """Make one run on the root and the `num_ranks` ranks behind it; every rank calls it.

        Returns
        -------
        Result on the root, None elsewhere

        Raises
        ------
        RuntimeError
            On the root, if the run did not finish.
        """
        self._tell(name)
        named = {"run.dir": str(self._folder), "run.name": name}
        config = read([], [*(QUIET | named | dict(settings)).items()])
        part = self._world.part(num_ranks + 1, config.agents_per_rank)
        status = 0 if part is None else Session(config, part).run(Interrupt())
        self._world.barrier()
        if not self._world.is_root:
            return None
        if status != 0:
            raise RuntimeError(f"run {name} ended with status {status}; see {self._folder / name}")
        path = self._folder / name
        return Result(config, read_metrics(path / "metrics.h5"), load_trained_run(path).policies)


Conduct = Callable[[Laboratory], Sequence[Comparison]]
"""Makes the runs of an experiment; every rank calls it, and only the root's comparisons count."""


@dataclass(frozen=True)
class Experiment:
    """A published experiment.

    Attributes
    ----------
    name, title, paper : str
    num_ranks : int
        That the job must have, the root included.
    minutes : tuple of two floats
        What it takes on two idle cores, reduced and in full.
    conduct : callable
    """

    name: str
    title: str
    paper: str
    num_ranks: int
    minutes: tuple[float, float]
    conduct: Conduct
