"""Of two processes that both hold themselves for the root, only the one that took over last writes."""

from pathlib import Path

import numpy as np
import pytest

from fdrl_mpi.record.checkpoint import CheckpointStore
from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.record.metrics_file import read_metrics
from fdrl_mpi.record.run_directory import RunDirectory, TakenOver, Verdict


def writer(path: Path, view: int, is_root: bool = True, job: str = "job") -> RunDirectory:
    directory = RunDirectory(path)
    directory.owner.stand_for(job, view, is_root)
    return directory


def record_of(directory: RunDirectory, round_s: float) -> MetricsRecord:
    record = MetricsRecord(directory.metrics, [1], {}, {}, directory.owner.check)
    record.append(1, {"round_s": round_s})
    return record


def save(directory: RunDirectory, round: int, value: float) -> None:
    store = CheckpointStore(directory.path, 3, directory.owner.check)
    store.prepare(round)
    store.commit(round, store.write(round, {0: {"params": np.full(3, value)}}), {})


def verdict(reason: str) -> Verdict:
    return Verdict("finished", 1, 1, reason, None, 1.0)


def test_a_root_that_was_given_up_writes_nothing_any_more(tmp_path):
    old, new = writer(tmp_path, 0), writer(tmp_path, 1)
    old.owner.claim()
    record_of(old, 1.0).write()
    save(old, 1, 1.0)
    record_of(new, 2.0).write()
    save(new, 2, 2.0)
    new.write_verdict(verdict("new"))

    with pytest.raises(TakenOver, match="view 1"):
        record_of(old, 3.0).write()
    with pytest.raises(TakenOver):
        save(old, 3, 3.0)
    with pytest.raises(TakenOver):
        old.write_verdict(verdict("old"))
    assert read_metrics(old.metrics).values["round_s"].tolist() == [2.0]
    assert CheckpointStore(tmp_path, 3).rounds() == [1, 2]
    assert Verdict.read(old.verdict).reason == "new"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_root_that_wakes_up_in_the_middle_of_a_write_does_not_finish_it(tmp_path):
    """Its temporary file has the name of the new one's: the new root must not write to the same file."""
    old, new = writer(tmp_path, 0), writer(tmp_path, 1)
    old.owner.claim()
    with open(tmp_path / "metrics.h5.tmp", "wb") as half:
        half.write(b"half")
        half.flush()
        new.owner.check()
        new.sweep()
        record_of(new, 2.0).write()
        half.write(b"the other half")
    assert read_metrics(new.metrics).values["round_s"].tolist() == [2.0]


def test_a_checkpoint_that_was_begun_before_a_take_over_is_not_committed_after_it(tmp_path):
    old, new = writer(tmp_path, 0), writer(tmp_path, 1)
    old.owner.claim()
    store = CheckpointStore(tmp_path, 3, old.owner.check)
    store.prepare(5)
    digests = store.write(5, {0: {"params": np.zeros(3)}})
    new.owner.check()
    with pytest.raises(TakenOver):
        store.commit(5, digests, {})
    assert store.rounds() == []


def test_a_root_that_stays_owns_the_next_view_too(tmp_path):
    directory = writer(tmp_path, 0)
    directory.owner.claim()
    directory.owner.stand_for("job", 4, is_root=True)
    record_of(directory, 1.0).write()
    with pytest.raises(TakenOver):
        writer(tmp_path, 3).owner.check()


def test_an_agent_that_was_given_up_does_not_write_into_a_later_checkpoint(tmp_path):
    writer(tmp_path, 2).owner.claim()
    writer(tmp_path, 2, is_root=False).owner.check()
    writer(tmp_path, 3, is_root=False).owner.check()
    old = CheckpointStore(tmp_path, 3, writer(tmp_path, 1, is_root=False).owner.check)
    old.staging(7).mkdir(parents=True)
    with pytest.raises(TakenOver):
        old.write(7, {2: {}})
    assert list(old.staging(7).iterdir()) == []


def test_a_root_of_an_earlier_job_writes_nothing(tmp_path):
    old = writer(tmp_path, 9, job="earlier")
    old.owner.claim()
    writer(tmp_path, 0).owner.claim()
    with pytest.raises(TakenOver, match="another job now: job"):
        old.owner.check()
    old.owner.path.unlink()  # a job that does not outlive its ranks has no owner
    with pytest.raises(TakenOver, match="is gone, or nobody's"):
        old.owner.check()


def test_an_agent_of_an_earlier_job_writes_nothing_once_that_of_its_own_is_over(tmp_path):
    """It may have come before its root has claimed the directory; not after."""
    directory = writer(tmp_path, 0, is_root=False)
    writer(tmp_path, 0, job="earlier").owner.claim()
    directory.owner.check()
    writer(tmp_path, 0).owner.claim()
    directory.owner.check()
    writer(tmp_path, 0, job="later").owner.claim()
    with pytest.raises(TakenOver, match="later"):
        directory.owner.check()


def test_without_a_view_everybody_writes_and_no_file_is_made(tmp_path):
    directory = RunDirectory(tmp_path)
    record_of(directory, 1.0).write()
    directory.write_verdict(verdict("alone"))
    assert not directory.owner.path.exists()


def test_a_directory_with_nothing_but_its_owner_is_empty(tmp_path):
    directory = writer(tmp_path, 0)
    directory.owner.claim()
    assert directory.is_empty()
