"""Going on from the newest checkpoint that is whole."""

from types import SimpleNamespace

import numpy as np
import pytest

from fdrl_mpi.federation.persistence import restore
from fdrl_mpi.record.checkpoint import CheckpointStore

FRESH = np.zeros(3, np.float32)


def parts_of_root() -> SimpleNamespace:
    """Make what `restore` needs of a root that is alone."""
    world = SimpleNamespace(is_root=True, agents=(), from_root=lambda value: value, broadcast=lambda one: one)
    world.gather_objects = lambda value: [value]
    server = SimpleNamespace(set_state=lambda state: None)
    return SimpleNamespace(
        world=world, server=server, participants={}, collective=SimpleNamespace(has_global_model=True)
    )


def save(store: CheckpointStore, round: int) -> None:
    store.prepare(round)
    state = {"params": np.full(3, round, np.float32)}
    store.commit(round, store.write(round, {0: state}), {})


@pytest.mark.parametrize("file", ["global.h5", "manifest.json"])
@pytest.mark.parametrize("cut", [1, 2, 100, 4096])
def test_a_newest_checkpoint_that_was_cut_off_gives_way_to_the_one_before_it(tmp_path, caplog, file, cut):
    store = CheckpointStore(tmp_path, 3)
    save(store, 5)
    save(store, 10)
    path = store.folder / "round_000010" / file
    path.write_bytes(path.read_bytes().rstrip()[:-cut])
    saved = restore(store, parts_of_root(), FRESH)
    assert saved.round == 5
    assert saved.models[0].tolist() == [5.0, 5.0, 5.0]
    assert "round 10 is damaged" in caplog.text


@pytest.mark.parametrize("file", ["global.h5", "manifest.json"])
def test_a_run_does_not_begin_again_because_its_only_checkpoint_is_damaged(tmp_path, file):
    store = CheckpointStore(tmp_path, 3)
    save(store, 5)
    path = store.folder / "round_000005" / file
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match="none of the checkpoints"):
        restore(store, parts_of_root(), FRESH)
    path.unlink()
    with pytest.raises(ValueError, match="none of the checkpoints"):
        restore(store, parts_of_root(), FRESH)


def test_a_run_without_checkpoints_begins(tmp_path):
    assert restore(CheckpointStore(tmp_path, 3), parts_of_root(), FRESH).round == 0
