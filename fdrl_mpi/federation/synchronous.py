"""The synchronous run: rounds one after another, with evaluation, record and checkpoints around them."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np

from fdrl_mpi.arrays import DoubleArray, FloatVector
from fdrl_mpi.comm.collective import Models, Traffic
from fdrl_mpi.federation.background import BackgroundEvaluation
from fdrl_mpi.federation.deadline import Deadline
from fdrl_mpi.federation.evaluation import Evaluated, Evaluation
from fdrl_mpi.federation.interrupt import Interrupt
from fdrl_mpi.federation.participation import Participation
from fdrl_mpi.federation.persistence import Saved, save
from fdrl_mpi.federation.round import Contribution, Outcome, Parts, federated_round
from fdrl_mpi.federation.rows import agent_rows, exact_means, named_columns, root_row
from fdrl_mpi.federation.schedule import Schedule
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics import Record
from fdrl_mpi.record.variables import AGENT_VARIABLES

Ending = Literal["finished", "stopped", "failed"]

LOG = logging.getLogger(__name__)
MOST_REFUSED = 3
"""Rounds in a row whose model is not taken: then the run ends, for it would go on for nothing."""
ROUNDS_KEPT = 1000
"""Rounds of which a rank keeps its own numbers, should the root be lost before it has written them."""


@dataclass(frozen=True)
class Plan:
    """When what happens.

    Attributes
    ----------
    participation : callable
        Maps a round to its cohort.
    schedule : callable
        Maps a round and an agent id to the agent's budget.
    rounds, evaluate_every, checkpoint_every : int
        The last round is always evaluated and saved.
    deadline_s, deadline_factor : float
        See `Deadline`.
    """

    participation: Participation
    schedule: Schedule
    rounds: int
    evaluate_every: int
    checkpoint_every: int
    deadline_s: float = 0.0
    deadline_factor: float = 0.0

    def evaluates(self, round: int) -> bool:
        """Whether the model of a round is evaluated."""
        return round % self.evaluate_every == 0 or round == self.rounds

    def saves(self, round: int) -> bool:
        """Whether there is a checkpoint after a round."""
        return round % self.checkpoint_every == 0 or round == self.rounds


@dataclass(frozen=True)
class Progress:
    """What there is to tell after a round, on the root; sums and means are over the agents.

    Attributes
    ----------
    evaluated_round : int
        The newest round whose model has been evaluated, 0 if none.
    mean_return, worst_return : float
        Of that model.
    train_return : float
        Mean return of the round's training episodes; NaN if none has ended.
    exact : mapping
        Means of the exact measures of the round, by variable; empty where learners only sample.
    env_steps, gradient_steps, sent_bytes : float
        Of the round.
    round_s, wall_s : float
        Of the round, and of the run so far.
    """

    round: int
    rounds: int
    evaluated_round: int
    mean_return: float
    worst_return: float
    train_return: float
    exact: Mapping[str, float]
    env_steps: float
    gradient_steps: float
    sent_bytes: float
    round_s: float
    wall_s: float


@dataclass(frozen=True)
class End:
    """How a run ended; the same on every rank, except that only the root knows `returns` and `exact`.

    Attributes
    ----------
    outcome : "finished", "stopped" or "failed"
        All rounds done; asked to stop, can be resumed; no agent had a finite update.
    round : int
        The last good round.
    returns : float64 array, shape (K,), or None
        Evaluation return of the last model in each agent's world; None if it was not evaluated.
    exact : mapping
        Means of the last round's exact measures, by variable; empty where learners only sample.
    """

    outcome: Ending
    round: int
    reason: str
    returns: DoubleArray | None
    exact: Mapping[str, float]
    wall_s: float


@dataclass(frozen=True)
class Evaluations:
    """What a rank evaluates.

    Attributes
    ----------
    published : Evaluation or None
        On the root, of the published model in every agent's world; None elsewhere, and where there is none.
    own : list of Evaluation
        One for each agent of this rank, of its own model in its own world; empty where there is a published
        model.
    """

    published: Evaluation | None
    own: Sequence[Evaluation] = ()


class SynchronousRun:
    """One rank's share of a run.

    Parameters
    ----------
    evaluations : Evaluations
    tell : callable
        Tells the user how it goes; called on the root after every round.
    wall_s : float
        Training time before this start.

    Attributes
    ----------
    round : int
        The last round done.
    models : sequence of float32 arrays, shape (d,)
        What it has published.
    parts : Parts
    record : Record
    before_round : callable
        Called on every rank before each round.
    """

    def __init__(
        self,
        parts: Parts,
        plan: Plan,
        evaluations: Evaluations,
        record: Record,
        store: CheckpointStore,
        interrupt: Interrupt,
        tell: Callable[[Progress], None],
        wall_s: float = 0.0,
    ) -> None:
        self.parts, self._plan = parts, plan
        self.record, self._store, self._interrupt, self._tell = record, store, interrupt, tell
        self.before_round: Callable[[], None] = lambda: None
        self._own_evaluations = evaluations.own
        self._background = BackgroundEvaluation(evaluations.published, parts.clock, self._record_evaluation)
        self._is_saved = True
        self.round = 0
        self.models: Models = []
        self._rows: dict[int, tuple[DoubleArray, Mapping[int, float]]] = {}
        self._deadline = Deadline(plan.deadline_s, plan.deadline_factor)
        self._newest: tuple[int, DoubleArray | None] = (0, None)
        self._num_refused = 0
        self._exact: Mapping[str, float] = {}
        self._wall_s, self._mark = wall_s, time.perf_counter()

    def go(self, start: Saved) -> End:
        """Make all rounds after `start`; every rank calls it."""
        plan, models, round = self._plan, start.models, start.round
        self.round, self.models = round, models
        outcome_name: Ending = "finished"
        reason = "all rounds done"
        self.parts.world.barrier()
        self._mark = time.perf_counter()
        if start.round and plan.evaluates(round) and round not in (self._newest[0], self._background.round):
            self._background.submit(round, self._whole(models[0]))
        if start.is_recovered and round and plan.saves(round):
            self._save(round, models)
        for round in range(start.round + 1, plan.rounds + 1):
            self.before_round()
            outcome = self._round(round, models)
            if outcome.loss:
                outcome_name, reason = "failed", f"round {round}: {outcome.loss}"
                round -= 1
                if round > start.round and not plan.saves(round):
                    self._save(round, models)
                break
            models = outcome.models
            self.round, self.models = round, models
            is_stopping = outcome.num_stopping > 0 and round < plan.rounds
            self._num_refused = self._num_refused + 1 if outcome.refusal else 0
            is_stuck = self._num_refused >= MOST_REFUSED
            self._after(round, outcome, is_stopping or is_stuck)
            if is_stuck:
                times = f"the model has not changed in {MOST_REFUSED} rounds"
                outcome_name, reason = "failed", f"round {round}: {outcome.refusal}; {times}"
                break
            if is_stopping:
                outcome_name, reason = "stopped", "asked to stop by a signal"
                break
        self._background.finish()
        self._write_record()
        if not self._is_saved:
            outcome_name, reason = "failed", f"{reason}, but the state was not saved: see the warnings"
        evaluated_round, returns = self._newest
        last = returns if evaluated_round == round else None
        return End(outcome_name, round, reason, last, self._exact, self._wall_s)

    def note_time(self, wall_s: float) -> None:
        """Learn how long the run had trained, from its record."""
        self._wall_s = max(self._wall_s, wall_s)

    def regroup(self, parts: Parts, evaluations: Evaluations) -> None:
        """Go on with other ranks: the next `go` begins with them."""
        parts.clock = self.parts.clock
        self.parts, self._own_evaluations, self._num_refused = parts, evaluations.own, 0
        if (evaluations.published is None) != (self._background.evaluation is None):
            self._background = BackgroundEvaluation(
                evaluations.published, parts.clock, self._record_evaluation
            )

    def keep_row(self, round: int, kept: Mapping[int, Contribution], counted: Mapping[int, float]) -> None:
        """Note what this rank knows of a round that ended without it: see `complete`.

        Parameters
        ----------
        kept : mapping
            What this rank's agents have brought to the round, by id.
        counted : mapping
            Weight of every agent in the round, by id.
        """
        brought = [kept[agent] for agent in self.parts.world.agents if agent in kept]
        mine = agent_rows(brought, {}, Traffic(), {}, {}, self.parts.collective.hides_updates)
        self._rows[round] = mine, counted

    def complete(self, round: int) -> None:
        """Record a round that is done, but whose row the root does not have; every rank calls it.

        Agents that are not here any more leave no more than that they took part.
        """
        world, hides_updates = self.parts.world, self.parts.collective.hides_updates
        unknown = np.full((len(world.agents), len(AGENT_VARIABLES)), nan)
        mine, own_counted = self._rows.get(round, (unknown, {}))
        rows = world.gather_agent_rows(mine if mine.shape == unknown.shape else unknown)
        counted: Mapping[int, float] = next(filter(None, world.gather_objects(dict(own_counted))), {})
        if rows is None:
            return
        columns = named_columns(rows)
        for agent in [agent for agent in counted if np.isnan(columns["present"][agent - 1])]:
            columns["present"][agent - 1], columns["rejected"][agent - 1] = 1.0, 0.0
            columns["weight"][agent - 1] = nan if hides_updates else counted[agent]
        self.record.append(round, {**columns, "refused": float(not counted), "end_wall_s": self._wall_s})

    def _round(self, round: int, models: Models) -> Outcome:
        plan = self._plan
        cohort = plan.participation(round)
        budgets = {a: plan.schedule(round, a) for a in self.parts.world.agents if a in cohort}
        return federated_round(
            self.parts,
            round,
            models,
            budgets,
            self._interrupt.requested,
            self._background.work,
            self._deadline.next_s,
        )

    def _after(self, round: int, outcome: Outcome, is_stopping: bool) -> None:
        """Record a round; evaluate and save its models where that is due."""
        plan, evaluated = self._plan, {}
        if self.parts.world.is_root and outcome.total_weight == 0.0:
            LOG.warning("round %d: no agent has a weight, so the model stays", round)
        if self.parts.world.is_root and outcome.refusal:
            LOG.warning("round %d: %s; the model stays", round, outcome.refusal)
        if plan.evaluates(round):
            with self.parts.clock.phase("evaluate"):
                for number, evaluation in enumerate(self._own_evaluations):
                    participant = self.parts.participants[self.parts.world.agents[number]]
                    evaluated[number] = evaluation.run(participant.model(outcome.models[number]))
        self._write_row(round, outcome, evaluated)
        if plan.evaluates(round):
            self._background.submit(round, self._whole(outcome.models[0]))
        if plan.saves(round) or is_stopping:
            self._save(round, outcome.models)

    def _whole(self, published: FloatVector) -> FloatVector:
        """Make the global model of what was published, for those that evaluate it."""
        return self.parts.wire.model(published, self.parts.fresh)

    def _write_row(self, round: int, outcome: Outcome, evaluated: Mapping[int, Evaluated]) -> None:
        """Collect every rank's numbers on the root; record and tell them."""
        world, clock, collective = self.parts.world, self.parts.clock, self.parts.collective
        seconds, traffic = clock.take(), collective.traffic.take()
        mine = agent_rows(
            outcome.contributions,
            seconds,
            traffic,
            evaluated,
            collective.measure(),
            collective.hides_updates,
        )
        self._rows[round] = mine, self.parts.counted.get(round, {})
        self._rows.pop(round - ROUNDS_KEPT, None)
        self.parts.injector.at(round, "record")
        rows = world.gather_agent_rows(mine)
        now = time.perf_counter()
        round_s, self._mark = now - self._mark, now
        self._wall_s += round_s
        if rows is None:
            return
        with clock.phase("record"):
            agents = named_columns(rows)
            own = root_row(
                outcome,
                agents,
                seconds,
                traffic,
                collective.has_global_model,
                self.parts.server.measure(),
                round_s,
                self._wall_s,
            )
            self.record.append(round, {**agents, **own})
            _warn_of_rejected(round, agents["rejected"])
            self._exact = exact_means(agents)
            if self._plan.evaluates(round) and not self.parts.has_global_policy:
                self._newest = (round, agents["evaluation_return"])
            self._deadline.note(agents["train_s"])
            self._tell(self._progress(round, agents, own))
            self.record.write_if_due()

    def _record_evaluation(self, round: int, evaluated: Evaluated) -> None:
        values = {"evaluation_return": evaluated.returns, "evaluation_length": evaluated.lengths}
        self.record.amend(round, values)
        self._newest = (round, evaluated.returns)

    def _save(self, round: int, models: Models) -> None:
        """Write the record, then a checkpoint that is never ahead of it."""
        started, world = time.perf_counter(), self.parts.world
        self.parts.injector.at(round, "checkpoint")
        self._background.finish()
        self._is_saved = world.agree(self._write_record()) and save(self._store, round, self.parts, models)
        if world.is_root:
            self.record.amend(round, {"checkpoint_s": time.perf_counter() - started})

    def _write_record(self) -> bool:
        try:
            self.record.write(durable=True)
        except OSError as error:
            LOG.warning("record not written, so no checkpoint either: %s", error)
            return False
        return True

    def _progress(self, round: int, agents: dict[str, DoubleArray], own: dict[str, float]) -> Progress:
        evaluated_round, returns = self._newest
        known = returns if returns is not None else np.array([nan])
        train_returns = agents["train_return"][np.isfinite(agents["train_return"])]
        return Progress(
            round=round,
            rounds=self._plan.rounds,
            evaluated_round=evaluated_round,
            mean_return=float(known.mean()),
            worst_return=float(known.min()),
            train_return=float(train_returns.mean()) if train_returns.size else nan,
            exact=self._exact,
            env_steps=float(np.nansum(agents["env_steps"])),
            gradient_steps=float(np.nansum(agents["gradient_steps"])),
            sent_bytes=float(np.nansum(agents["sent_bytes"])) + own["root_sent_bytes"],
            round_s=own["round_s"],
            wall_s=self._wall_s,
        )


def _warn_of_rejected(round: int, rejected: DoubleArray) -> None:
    agents = np.flatnonzero(rejected == 1.0) + 1
    if agents.size:
        names = ", ".join(map(str, agents))
        LOG.warning("round %d: left out agent %s: its update is not finite (NaN or infinity)", round, names)
