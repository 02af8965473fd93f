"""Evaluation in the root's free time: while the agents train."""

from collections.abc import Callable

from fdrl_mpi.arrays import FloatVector
from fdrl_mpi.federation.clock import Clock
from fdrl_mpi.federation.evaluation import Evaluated, Evaluation


class BackgroundEvaluation:
    """Evaluates one published model at a time, slice by slice.

    Parameters
    ----------
    evaluation : Evaluation or None
        None: this rank evaluates nothing.
    clock : Clock
    done : callable
        Takes the round and its result.

    Attributes
    ----------
    evaluation : Evaluation or None
    """

    def __init__(
        self, evaluation: Evaluation | None, clock: Clock, done: Callable[[int, Evaluated], None]
    ) -> None:
        self.evaluation = evaluation
        self._clock = clock
        self._done = done
        self._round = 0

    @property
    def round(self) -> int:
        """The round whose model is being evaluated; 0 if none is."""
        return self._round

    def submit(self, round: int, params: FloatVector) -> None:
        """Begin with the model of a round; the one before it is finished first."""
        if self.evaluation is not None:
            self.finish()
            with self._clock.phase("evaluate"):
                self.evaluation.start(params)
            self._round = round

    def work(self) -> bool:
        """Do a slice; return whether there was anything to do."""
        if self.evaluation is None or self._round == 0:
            return False
        with self._clock.phase("evaluate"):
            ended = self.evaluation.advance()
        if ended:
            round, self._round = self._round, 0
            self._done(round, self.evaluation.result())
        return True

    def finish(self) -> None:
        """Work until nothing is left."""
        while self.work():
            pass
