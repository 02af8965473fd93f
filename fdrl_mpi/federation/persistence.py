"""Saving and resuming a run on all ranks: each agent writes its own private state, the root the rest."""

import logging
from dataclasses import dataclass

from fdrl_mpi.arrays import FloatVector, State
from fdrl_mpi.comm.world import World
from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.state_file import DamagedCheckpoint, write_state
from fdrl_mpi.rl.learner import Learner

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """Where a run goes on.

    Attributes
    ----------
    round : int
        Last round done; 0 for a new run.
    params : float32 array, shape (d,)
        Its model: the published one, or each rank's own where there is none.
    """

    round: int
    params: FloatVector


def save(
    store: CheckpointStore, world: World, round: int, params: FloatVector, learner: Learner | None
) -> bool:
    """Write a checkpoint; every rank calls it. Return whether it is complete.

    A rank that cannot write (disk full) is named in a warning, the older checkpoints stay, and the run
    goes on.
    """
    if world.is_root:
        store.prepare(round)
    world.barrier()
    file, digest, trouble = store.file_for(world.rank), "", ""
    try:
        digest = write_state(store.staging(round) / file, _state(params, learner))
    except OSError as error:
        trouble = f"rank {world.rank} on {world.host}: {error}"
    written = world.gather_objects((file, digest, trouble))
    troubles = [trouble for _, _, trouble in written if trouble]
    if world.is_root and troubles:
        LOG.warning("checkpoint of round %d not written: %s", round, "; ".join(troubles))
    elif world.is_root:
        store.commit(round, {file: digest for file, digest, _ in written}, {"ranks": world.size})
    return not troubles


def restore(store: CheckpointStore, world: World, fresh: FloatVector, learner: Learner | None) -> Saved:
    """Load the newest checkpoint that is whole on every rank; every rank calls it.

    Raises
    ------
    ValueError
        On all ranks, if there are checkpoints but none is whole.
    """
    rounds: list[int] = world.from_root(store.rounds() if world.is_root else None)
    for round in reversed(rounds):
        trouble = ""
        try:
            state = store.load(round, store.file_for(world.rank))
        except (DamagedCheckpoint, OSError) as error:
            trouble = str(error)
        troubles = [text for text in world.gather_objects(trouble) if text]
        if not troubles:
            if learner is not None:
                learner.set_state(state["learner"])
            return Saved(round, state["params"])
        if world.is_root:
            LOG.warning("checkpoint of round %d is damaged, trying an older one: %s", round, troubles[0])
    if rounds:
        raise ValueError(f"none of the checkpoints (rounds {rounds}) is whole")
    return Saved(0, fresh)


def _state(params: FloatVector, learner: Learner | None) -> State:
    return {"params": params, "learner": learner.get_state() if learner is not None else {}}
