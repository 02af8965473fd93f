"""Saving and resuming a run on all ranks: each agent writes its own private state, the root the rest."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fdrl_mpi.aggregation.server import assembled
from fdrl_mpi.arrays import FloatVector, State
from fdrl_mpi.comm.collective import Models
from fdrl_mpi.federation.round import Parts
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.state_file import DamagedCheckpoint

LOG = logging.getLogger(__name__)
FRESH = "fresh"
"""Fact of a checkpoint: agents that were lost before they had saved anything; they begin again."""


@dataclass(frozen=True)
class Saved:
    """Where a run goes on.

    Attributes
    ----------
    round : int
        Last round done; 0 for a new run.
    models : sequence of float32 arrays, shape (length of the wire,)
        As `Outcome.models`.
    is_recovered : bool
        Whether the run goes on after a loss, and not from a checkpoint.
    """

    round: int
    models: Models
    is_recovered: bool = False


def save(store: CheckpointStore, round: int, parts: Parts, models: Models) -> bool:
    """Write a checkpoint; every rank calls it. Return whether it is complete.

    A rank that cannot write (disk full) is named in a warning, the older checkpoints stay, and the run
    goes on.
    """
    world = parts.world
    if not world.agree(_succeeds(lambda: store.prepare(round)) if world.is_root else True):
        return False
    digests, trouble = {}, ""
    states = _states(parts, models)
    try:
        digests = store.write(round, states)
    except OSError as error:
        trouble = f"rank {world.rank} on {world.host}: {error}"
    written = world.gather_objects((digests, trouble))
    troubles = [trouble for _, trouble in written if trouble]
    if world.is_root and troubles:
        LOG.warning("checkpoint of round %d not written: %s", round, "; ".join(troubles))
        _succeeds(store.abandon)  # what is there of it takes the room that the record needs
    if troubles:
        return False
    everything = {file: digest for digests, _ in written for file, digest in digests.items()}
    return world.agree(_succeeds(lambda: _commit(store, round, everything, parts)) if world.is_root else True)


def _commit(store: CheckpointStore, round: int, digests: dict[str, str], parts: Parts) -> None:
    """Make a checkpoint count; agents that are lost keep the private state they saved last."""
    everyone = range(1, parts.world.num_enrolled + 1)
    lost = [agent for agent in everyone if agent not in parts.world.all_agents]
    carried = {agent: store.carry(round, store.file_for(agent)) for agent in lost}
    digests |= {store.file_for(agent): digest for agent, digest in carried.items() if digest}
    facts = {"agents": len(everyone), FRESH: [agent for agent, digest in carried.items() if not digest]}
    store.commit(round, digests, facts)


def _succeeds(work: Callable[[], object]) -> bool:
    """Do something to the file system; a failure is a warning."""
    try:
        work()
    except OSError as error:
        LOG.warning("checkpoint not written: %s", error)
        return False
    return True


def restore(store: CheckpointStore, parts: Parts, fresh: FloatVector) -> Saved:
    """Load the newest checkpoint that is whole on every rank; every rank calls it.

    Parameters
    ----------
    fresh : float32 array, shape (length of the wire,)
        What a new run begins with, as if it had been published.

    Raises
    ------
    ValueError
        On all ranks, if there are checkpoints but none is whole.
    """
    world = parts.world
    rounds: list[int] = world.from_root(store.committed() if world.is_root else None)
    for round in reversed(rounds):
        trouble = ""
        try:
            fresh_ones = store.manifest(round).facts.get(FRESH, ())
            states = [
                State() if agent in fresh_ones else store.load(round, store.file_for(agent))
                for agent in world.agents or [0]
            ]
        except (DamagedCheckpoint, OSError) as error:
            trouble = str(error)
        troubles = [text for text in world.gather_objects(trouble) if text]
        if not troubles:
            return Saved(round, _put_back(parts, states, fresh))
        if world.is_root:
            LOG.warning("checkpoint of round %d is damaged, trying an older one: %s", round, troubles[0])
    if rounds:
        raise ValueError(
            f"none of the checkpoints (rounds {', '.join(map(str, rounds))}) is whole; run.resume = never "
            "starts over and keeps the old run aside"
        )
    return Saved(0, [fresh] * max(len(world.agents), 1))


def _states(parts: Parts, models: Models) -> dict[int, State]:
    """List what this rank saves, by agent, 0 being the root; every rank calls it.

    What was published is saved once where it is the same for all, by the root, else by each agent. Whole
    models, for whoever wants to play them, are saved where they are something else.
    """
    world, wire, is_shared = parts.world, parts.wire, parts.collective.has_global_model
    server = world.gather_objects(parts.server.get_state())
    if world.is_root:
        state: State = {"server": assembled(server, wire.length)}
        if is_shared:
            state["params"] = models[0]
        if parts.has_global_policy and not wire.is_plain:
            state["model"] = wire.model(models[0], parts.fresh)
        return {0: state}
    states: dict[int, State] = {}
    for agent, published in zip(world.agents, models, strict=True):
        participant = parts.participants.get(agent)
        state = participant.get_state() if participant is not None else {"learner": {}}
        if not is_shared:
            state["params"] = published
        if participant is not None and not (is_shared and wire.is_whole):
            state["model"] = participant.model(published)
        states[agent] = state
    return states


def _put_back(parts: Parts, states: list[State], fresh: FloatVector) -> Models:
    """Give the learners their states; return the models."""
    world, models = parts.world, [state.get("params", fresh) for state in states]
    if parts.collective.has_global_model:
        shared = models[0] if world.is_root else np.empty_like(fresh)
        models = [world.broadcast(shared)] * max(len(world.agents), 1)
    parts.server.set_state(world.from_root(states[0].get("server", {}) if world.is_root else None))
    for agent, state in zip(world.agents, states, strict=False):  # may fail on one rank: no message after it
        if agent in parts.participants and state:
            parts.participants[agent].set_state(state)
    return models
