"""Saving and resuming a run on all ranks: each agent writes its own private state, the root the rest."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fdrl_mpi.arrays import FloatVector, State
from fdrl_mpi.comm.collective import Models
from fdrl_mpi.federation.round import Parts
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.state_file import DamagedCheckpoint, write_state

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """Where a run goes on.

    Attributes
    ----------
    round : int
        Last round done; 0 for a new run.
    models : sequence of float32 arrays, shape (d,)
        As `Outcome.models`.
    """

    round: int
    models: Models


def save(store: CheckpointStore, round: int, parts: Parts, models: Models) -> bool:
    """Write a checkpoint; every rank calls it. Return whether it is complete.

    A rank that cannot write (disk full) is named in a warning, the older checkpoints stay, and the run
    goes on.
    """
    world = parts.world
    if not world.agree(_succeeds(lambda: store.prepare(round)) if world.is_root else True):
        return False
    digests, trouble = {}, ""
    try:
        for file, state in _states(store, parts, models).items():
            digests[file] = write_state(store.staging(round) / file, state)
    except OSError as error:
        trouble = f"rank {world.rank} on {world.host}: {error}"
    written = world.gather_objects((digests, trouble))
    troubles = [trouble for _, trouble in written if trouble]
    if world.is_root and troubles:
        LOG.warning("checkpoint of round %d not written: %s", round, "; ".join(troubles))
    if troubles:
        return False
    everything = {file: digest for digests, _ in written for file, digest in digests.items()}
    facts = {"agents": world.num_agents}
    return world.agree(_succeeds(lambda: store.commit(round, everything, facts)) if world.is_root else True)


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
    fresh : float32 array, shape (d,)
        The model of a new run.

    Raises
    ------
    ValueError
        On all ranks, if there are checkpoints but none is whole.
    """
    world = parts.world
    rounds: list[int] = world.from_root(store.rounds() if world.is_root else None)
    for round in reversed(rounds):
        trouble = ""
        try:
            states = [store.load(round, store.file_for(agent)) for agent in world.agents or [0]]
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


def _states(store: CheckpointStore, parts: Parts, models: Models) -> dict[str, State]:
    """List what this rank saves, by file.

    The model is saved once where there is one for all, by the root, else by each agent.
    """
    world, is_shared = parts.world, parts.collective.has_global_model
    if world.is_root:
        return {store.file_for(0): {"params": models[0]} if is_shared else {}}
    states: dict[str, State] = {}
    for agent, model in zip(world.agents, models, strict=True):
        learner = parts.learners.get(agent)
        state: State = {"learner": learner.get_state() if learner is not None else {}}
        states[store.file_for(agent)] = state if is_shared else state | {"params": model}
    return states


def _put_back(parts: Parts, states: list[State], fresh: FloatVector) -> Models:
    """Give the learners their states; return the models."""
    world, models = parts.world, [state.get("params", fresh) for state in states]
    if parts.collective.has_global_model:
        shared = models[0] if world.is_root else np.empty_like(fresh)
        models = [world.broadcast(shared)] * max(len(world.agents), 1)
    for agent, state in zip(world.agents, states, strict=False):  # may fail on one rank: no message after it
        if agent in parts.learners:
            parts.learners[agent].set_state(state["learner"])
    return models
