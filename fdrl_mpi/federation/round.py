"""One synchronous round: train, meet, encode, exchange, aggregate, publish."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from time import perf_counter, process_time
from typing import TypeAlias

import numpy as np

from fdrl_mpi.aggregation.aggregator import Aggregator
from fdrl_mpi.aggregation.server import ServerOptimizer
from fdrl_mpi.aggregation.views import Received
from fdrl_mpi.aggregation.weighting import Weighting
from fdrl_mpi.arrays import DoubleArray, FloatVector, State
from fdrl_mpi.comm.collective import Collective, Models
from fdrl_mpi.comm.world import World
from fdrl_mpi.federation.clock import Clock
from fdrl_mpi.federation.injection import Injector
from fdrl_mpi.federation.participant import Participant
from fdrl_mpi.federation.together import Squad, Together
from fdrl_mpi.federation.wire import Wire
from fdrl_mpi.rl.learner import Budget, TrainStats

NOT_FINITE = "the server's step was not finite: choose a smaller aggregation.server.lr"
NOT_FINITE_RULE = "the next model was not finite: mend aggregation.rule, or choose a smaller server step"

Mirror: TypeAlias = Callable[[int, FloatVector], None]
Check: TypeAlias = Callable[[FloatVector, FloatVector, Received | None], str]


@dataclass
class Parts:
    """What a rank needs for a round.

    Attributes
    ----------
    participants : mapping
        By agent id, empty where nobody trains.
    fresh : float32 array, shape (d,)
        The whole model a run begins with, also for what does not travel.
    together : Together, optional
        Trains several agents at once; without it they train in turn.
    mirror : callable, optional
        Gives another rank the next model before it is published; every rank calls it.
    kept : dict
        By agent id, what was brought to a round that has not ended: if it has to be done again, nobody trains
        again for it.
    counted : dict
        By round, for the two newest exchanges: the weight of every agent, by id, where it was not 0.
    server_before : State, optional
        Of the server before its step of a round that has not ended.
    checks : sequence of callables
        Every rank calls them with the last model, the next one and what it was made of; where one of them
        says why not, on the root, the next model is not taken.
    """

    world: World
    collective: Collective
    aggregator: Aggregator
    weighting: Weighting
    server: ServerOptimizer
    participants: Mapping[int, Participant]
    wire: Wire
    fresh: FloatVector
    clock: Clock = field(default_factory=Clock)
    injector: Injector = field(default_factory=Injector)
    together: Together | None = None
    mirror: Mirror | None = None
    kept: dict[int, "Contribution"] = field(default_factory=dict)
    counted: dict[int, dict[int, float]] = field(default_factory=dict)
    server_before: State | None = None
    checks: Sequence[Check] = ()

    @property
    def has_global_policy(self) -> bool:
        """Whether what is published is one policy for all agents."""
        return self.collective.has_global_model and self.wire.acts


@dataclass(frozen=True)
class Contribution:
    """What one agent brings to a round."""

    weight: float = 0.0
    is_present: bool = False
    is_rejected: bool = False
    update_norm: float = nan
    train_s: float = 0.0
    train_cpu_s: float = 0.0
    stats: TrainStats = field(default_factory=TrainStats)


@dataclass(frozen=True)
class Outcome:
    """What a round came to: the same on every rank, except for `contributions`.

    Attributes
    ----------
    models : sequence of float32 arrays, shape (length of the wire,)
        What each agent of this rank goes on from; on the root one, the published model. Valid until the next
        round's exchange.
    contributions : list of Contribution
        Of this rank's agents.
    total_weight : float
        Of all agents; where the collective hides weights, the number of agents that had one.
    loss : str
        Why there is no next model; empty if there is one, or if nobody has trained.
    refusal : str
        Why the next model was refused, so that the last one stays; empty if it was not.
    is_taken : bool
        Whether there is a next model: not where it was refused, a secure sum was given up, or nobody trained.
    num_stopping : int
        Ranks that were asked to stop.
    """

    models: Models
    contributions: list[Contribution]
    total_weight: float
    loss: str
    refusal: str
    is_taken: bool
    num_stopping: int


def federated_round(
    parts: Parts,
    round: int,
    models: Models,
    budgets: Mapping[int, Budget],
    is_stopping: bool,
    meanwhile: Callable[[], bool],
    deadline_s: float = inf,
) -> Outcome:
    """Make one round; every rank calls it.

    Parameters
    ----------
    round : int
    models : sequence of float32 arrays, shape (length of the wire,)
        What the round before published: see `Outcome`.
    budgets : mapping
        Local work of this rank's agents that take part, by agent id.
    is_stopping : bool
        Whether this rank was asked to stop.
    meanwhile : callable
        Work for the time in which this rank waits for slower ones; says whether there was any.
    deadline_s : float
        How long the root waits for them.
    """
    clock, world, collective, come_to = parts.clock, parts.world, parts.collective, parts.injector.at
    come_to(round, "before_train")
    with clock.phase("train"):
        mine = _bring(parts, models, budgets)
    come_to(round, "train", collective.rows)

    with clock.phase("wait"):
        own_weights = np.array([one.weight for one in mine])
        ballots = world.meet(_ballot(parts, mine, is_stopping), meanwhile, deadline_s)
        weights, is_lost, num_stopping = _counted(parts, ballots)
        loss = "no agent's update was finite" if is_lost else ""
        _note(parts, round, weights)

    params, refusal, is_taken = models[0], "", False
    if weights.any():
        with clock.phase("encode"):
            collective.encode(models, own_weights, weights)
        come_to(round, "exchange")
        with clock.phase("exchange"):
            received = collective.exchange()
        params, refusal = _made(parts, round, models[0], received)
    come_to(round, "mirror")
    if parts.mirror is not None:
        parts.mirror(round, params)
    if weights.any():
        come_to(round, "publish")
        with clock.phase("exchange"):
            published = collective.publish(params)
        is_taken, models = published is not models and not refusal, published
        if is_taken:
            _accept(parts, mine)
        else:
            parts.counted[round] = {}
    parts.kept, parts.server_before = {}, None
    return Outcome(models, mine, float(weights.sum()), loss, refusal, is_taken, num_stopping)


def _bring(parts: Parts, models: Models, budgets: Mapping[int, Budget]) -> list[Contribution]:
    """Let this rank's agents train, unless they have for this round before it broke off."""
    agents, kept, participants = parts.world.agents, parts.kept, parts.participants
    published = dict(zip(agents, models, strict=False))  # the root has a model, and no agent
    waiting = {
        agent: budgets[agent]
        for agent in agents
        if agent not in kept and agent in participants and agent in budgets
    }
    squads: list[Squad] = [(agent,) for agent in waiting]
    if parts.together is not None:
        squads = parts.together.squads(participants, waiting)
    for squad in squads:
        _train(parts, squad, published, waiting)
    return [kept.setdefault(agent, Contribution()) for agent in agents]


def _train(
    parts: Parts, squad: Squad, published: Mapping[int, FloatVector], budgets: Mapping[int, Budget]
) -> None:
    """Let some agents train, and keep what they bring; of the time each gets its share."""
    started, started_cpu = perf_counter(), process_time()
    if parts.together is None:
        all_stats = [parts.participants[agent].train(published[agent], budgets[agent]) for agent in squad]
    else:
        all_stats = parts.together.train(squad, parts.participants, published, budgets)
    seconds = (perf_counter() - started) / len(squad), (process_time() - started_cpu) / len(squad)
    for agent, stats in zip(squad, all_stats, strict=True):
        parts.kept[agent] = _contribution(parts, agent, published[agent], stats, seconds)


def _note(parts: Parts, round: int, weights: DoubleArray) -> None:
    """Remember who is counted in this round and the one before it."""
    everyone = zip(parts.world.all_agents, weights.tolist(), strict=True)
    parts.counted[round] = {agent: weight for agent, weight in everyone if weight}
    parts.counted.pop(round - 2, None)


def _made(parts: Parts, round: int, base: FloatVector, received: Received | None) -> tuple[FloatVector, str]:
    """Make and check the next model; return it, or the last one, `base`, and why it was refused."""
    params = base
    if received is not None:
        with parts.clock.phase("aggregate"):
            params = _stepped(parts, base, received)
    parts.injector.at(round, "after_exchange", None if received is None else params)
    if refusal := _refused(parts, base, params, received):
        params = _taken_back(parts, base, received)
    if refusal or (parts.world.is_root and received is None):
        parts.counted[round] = {}  # before the mirror hears of it
    return params, refusal


def _stepped(parts: Parts, params: FloatVector, received: Received) -> FloatVector:
    """Make the next model's columns, those that this rank sees, of what was received."""
    parts.server_before = parts.server.get_state()
    aggregate = parts.aggregator.aggregate(received)
    with np.errstate(all="ignore"):
        return parts.server.step(params[received.columns], aggregate, received.columns)


def _refused(parts: Parts, base: FloatVector, params: FloatVector, received: Received | None) -> str:
    """Say why the next model is not taken, the same on every rank; empty if it is.

    Parameters
    ----------
    base : float32 array, shape (length of the wire,)
        The last model.
    params : float32 array
        The next one, or the columns of it that were made here.
    """
    world = parts.world
    is_mean = parts.server.is_mean and parts.aggregator.is_mean
    if not is_mean and not world.agree(bool(np.isfinite(params).all())):
        return NOT_FINITE if parts.aggregator.is_mean else NOT_FINITE_RULE
    if not parts.checks:
        return ""
    with parts.clock.phase("check"):
        objections = [check(base, params, received) for check in parts.checks]
        return str(world.from_root(next(filter(None, objections), "")))


def _taken_back(parts: Parts, base: FloatVector, received: Received | None) -> FloatVector:
    """Undo the server's step where there was one; return the columns of the last model."""
    if parts.server_before is not None:
        parts.server.set_state(parts.server_before)
    return base if received is None else base[received.columns]


def _contribution(
    parts: Parts, agent: int, published: FloatVector, stats: TrainStats, seconds: tuple[float, float]
) -> Contribution:
    """Weigh what an agent has learnt; an update that is not finite is left out, and its cause dropped."""
    participant = parts.participants[agent]
    norm = participant.update_norm(published, stats)
    if not isfinite(norm):
        participant.withdraw(published)
        return Contribution(0.0, True, True, norm, *seconds, stats)
    weight = parts.weighting(stats.env_steps, len(stats.episodes), participant.recent_return)
    return Contribution(weight, True, False, norm, *seconds, stats)


def _ballot(parts: Parts, mine: list[Contribution], is_stopping: bool) -> DoubleArray:
    """Write down what the other ranks have to know of this one before the exchange."""
    agents_per_rank = parts.world.placement.agents_per_rank
    ballot = np.zeros((3, agents_per_rank))
    for number, one in enumerate(mine):
        ballot[:, number] = one.weight, one.is_rejected, one.is_present
    if parts.collective.hides_updates:
        ballot[0] = ballot[0] > 0.0
    return np.append(ballot.ravel(), is_stopping)


def _accept(parts: Parts, mine: list[Contribution]) -> None:
    """Let agents whose updates are in the published model keep what belongs to them."""
    for agent, one in zip(parts.world.agents, mine, strict=True):
        if one.weight > 0.0:
            parts.participants[agent].accept()


def _counted(parts: Parts, ballots: DoubleArray) -> tuple[DoubleArray, bool, int]:
    """Return the weight of every agent, whether all that trained are rejected, and how many ranks stop."""
    world = parts.world
    votes = ballots[1:, :-1].reshape(-1, 3, world.placement.agents_per_rank)
    weights, rejected, present = (world.of_seats(votes[:, number]) for number in range(3))
    is_lost = present.any() and rejected.sum() == present.sum()
    return weights, bool(is_lost), int(ballots[:, -1].sum())
