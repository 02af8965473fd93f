"""The folder of checkpoints: what counts, what is kept, what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.record import checkpoint
from fdrl_mpi.record.checkpoint import CheckpointStore, DamagedCheckpoint, write_state


def write_checkpoint(store: CheckpointStore, round: int, value: float = 0.0) -> None:
    staging = store.prepare(round)
    digests = {
        name: write_state(staging / name, {"params": np.full(3, value)})
        for name in (store.file_for(0), store.file_for(7))
    }
    store.commit(round, digests, {"seed": 3, "agents": [7]})


def test_a_committed_checkpoint_is_read(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write_checkpoint(store, 120, 1.5)

    assert store.rounds() == [120]
    assert store.manifest(120).facts == {"seed": 3, "agents": [7]}
    np.testing.assert_array_equal(store.load(120, "agent_0007.h5")["params"], np.full(3, 1.5))
    folder = tmp_path / "checkpoints" / "round_000120"
    assert {path.name for path in folder.iterdir()} == {"global.h5", "agent_0007.h5", "manifest.json"}
    assert store.manifest(120).sizes_bytes["global.h5"] == (folder / "global.h5").stat().st_size


def test_nothing_is_created_before_the_first_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    assert store.rounds() == []
    store.discard_after(0)
    assert list(tmp_path.iterdir()) == []


def test_all_ranks_find_the_staging_folder_without_asking(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path, 1).prepare(5) == CheckpointStore(tmp_path, 1).staging(5)


def test_an_uncommitted_checkpoint_does_not_count_and_is_cleared_away(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write_checkpoint(store, 10)
    write_state(store.prepare(20) / "global.h5", {"round": 20})
    assert store.rounds() == [10]

    write_checkpoint(store, 30)
    assert store.rounds() == [10, 30]
    assert not store.staging(20).exists()


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for round in (1, 2, 3, 4):
        write_checkpoint(store, round)
        assert store.rounds() == [1, 2, 3, 4][max(round - 2, 0) : round]
    assert len(list(store.folder.iterdir())) == 2


def test_a_checkpoint_older_than_others_survives_its_own_commit(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write_checkpoint(store, 20)
    write_checkpoint(store, 10)
    assert store.rounds() == [10, 20]


def test_keeping_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep is 0"):
        CheckpointStore(tmp_path, keep=0)


def test_going_back_discards_what_came_later(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=5)
    for round in (1, 2, 3, 4):
        write_checkpoint(store, round)
    store.discard_after(2)
    assert store.rounds() == [1, 2]


def test_a_round_done_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    write_checkpoint(store, 10, 1.0)
    write_checkpoint(store, 10, 2.0)
    assert store.rounds() == [10]
    assert store.load(10, "global.h5")["params"][0] == 2.0
    assert [path.name for path in store.folder.iterdir()] == ["round_000010"]


def test_a_replacement_that_was_interrupted_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write_checkpoint(store, 10, 1.0)
    (store.folder / "round_000010").rename(store.folder / "round_000010.old")
    assert store.rounds() == [10]
    assert store.load(10, "global.h5")["params"][0] == 1.0

    write_checkpoint(store, 10, 2.0)
    assert store.load(10, "global.h5")["params"][0] == 2.0
    assert [path.name for path in store.folder.iterdir()] == ["round_000010"]


def test_files_are_on_the_disk_before_their_digests_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, synced = CheckpointStore(tmp_path, 1), list[str]()
    monkeypatch.setattr(checkpoint, "sync", lambda path: synced.append(Path(path).name))
    store.prepare(10)
    digests = store.write(10, {agent: {"params": np.full(3, agent)} for agent in range(70)})
    assert set(digests) < set(synced)
    assert len(set(digests.values())) == 70
    store.commit(10, digests, {})
    assert store.load(10, "agent_0069.h5")["params"].tolist() == [69, 69, 69]


def test_files_that_do_not_reach_the_disk_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        if "agent_0003" in str(path):
            raise OSError(28, "No space left on device")

    store = CheckpointStore(tmp_path, 1)
    store.prepare(10)
    monkeypatch.setattr(checkpoint, "sync", fail)
    with pytest.raises(OSError, match="No space left"):
        store.write(10, {agent: {"params": np.zeros(3)} for agent in range(5)})


def test_a_file_that_was_never_written_prevents_the_commit(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write_checkpoint(store, 10)
    store.prepare(20)
    with pytest.raises(FileNotFoundError):
        store.commit(20, {"global.h5": "0" * 64}, {})
    assert store.rounds() == [10]


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"round": 10}'])
def test_a_checkpoint_without_a_usable_manifest_does_not_count(tmp_path: Path, text: str | None) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    write_checkpoint(store, 5)
    write_checkpoint(store, 10)
    manifest = store.folder / "round_000010" / "manifest.json"
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)
    assert store.rounds() == [5]
    with pytest.raises(DamagedCheckpoint, match="manifest"):
        store.load(10, "global.h5")


def test_a_folder_under_the_name_of_another_round_does_not_count(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    write_checkpoint(store, 10)
    shutil.copytree(store.folder / "round_000010", store.folder / "round_000011")
    assert store.rounds() == [10]


@pytest.mark.parametrize("file", ["global.h5", "agent_0007.h5"])
def test_a_damaged_file_is_found_out(tmp_path: Path, file: str) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write_checkpoint(store, 10)
    path = store.folder / "round_000010" / file
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedCheckpoint, match=file):
        store.load(10, file)
    path.unlink()
    with pytest.raises(DamagedCheckpoint, match=file):
        store.load(10, file)


def test_a_file_that_is_not_part_of_the_checkpoint_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write_checkpoint(store, 10)
    with pytest.raises(DamagedCheckpoint, match=r"no agent_0001.h5, but .*agent_0007.h5"):
        store.load(10, "agent_0001.h5")


def test_rounds_with_more_digits_than_the_name_has_are_in_order(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    for round in (999_999, 1_000_000):
        write_checkpoint(store, round)
    assert store.rounds() == [999_999, 1_000_000]


LAST_BYTES = 4096


@pytest.mark.parametrize("file", ["global.h5", "manifest.json"])
def test_a_file_cut_off_at_any_byte_of_its_end_is_found_out_and_the_checkpoint_before_it_counts(
    tmp_path: Path, file: str
) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    write_checkpoint(store, 5, 1.0)
    write_checkpoint(store, 10, 2.0)
    path = store.folder / "round_000010" / file
    whole = path.read_bytes()
    for size in range(max(len(whole) - LAST_BYTES, 0), len(whole) - (file == "manifest.json")):
        path.write_bytes(whole[:size])  # the manifest's last byte ends its line, and may be missing
        with pytest.raises(DamagedCheckpoint):
            store.load(10, "global.h5")
        assert store.committed() == [5, 10]
    assert store.load(5, "global.h5")["params"][0] == 1.0
    path.write_bytes(whole)
    assert store.load(10, "global.h5")["params"][0] == 2.0


def test_a_damaged_file_is_not_carried_into_the_next_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write_checkpoint(store, 5, 1.0)
    write_checkpoint(store, 10, 2.0)
    path = store.folder / "round_000010" / "agent_0007.h5"
    path.write_bytes(path.read_bytes()[:-1])
    store.prepare(15)
    digest = store.carry(15, "agent_0007.h5")
    assert digest == store.manifest(5).digests["agent_0007.h5"]
    store.commit(15, {"agent_0007.h5": digest}, {})
    assert store.load(15, "agent_0007.h5")["params"][0] == 1.0


def test_a_checkpoint_that_was_given_up_takes_no_room(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write_checkpoint(store, 10)
    write_state(store.prepare(20) / "global.h5", {"round": 20})
    store.abandon()
    assert [path.name for path in store.folder.iterdir()] == ["round_000010"]
