"""What a mirror does with the record of a root that is lost."""

import numpy as np

from fdrl_mpi.comm.post import MIRROR, Letter
from fdrl_mpi.federation.mirror import MirroredRecord, Reflection
from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.topology.view import first_view


class Crew:
    """Hands what is sent to the mirror straight to a reflection."""

    def __init__(self, reflection: Reflection) -> None:
        self.view, self.rank, self.post, self._reflection = first_view(4, 1, 1), 0, self, reflection

    def send(self, letter: Letter, to) -> None:
        assert (letter.kind, list(to)) == (MIRROR, [3])
        self._reflection.keep_letter(letter)


def _values(record, path):
    record.write()
    return MetricsRecord.resume(path, [1, 2], {}, {})._snapshot().values


def test_rows_and_changes_that_were_not_written_are_not_lost(tmp_path):
    reflection = Reflection()
    own = MetricsRecord(tmp_path / "a.h5", [1, 2], {}, {})
    record = MirroredRecord(own, Crew(reflection))
    record.append(1, {"round_s": 1.0, "weight": np.array([1.0, np.nan])})
    record.write()
    record.append(2, {"round_s": 2.0})
    record.append(3, {"round_s": 3.0})
    record.rewind(2)
    record.append(3, {"round_s": 4.0})
    record.amend(1, {"evaluation_return": np.array([7.0, 8.0])})

    taken_over = MetricsRecord.resume(tmp_path / "a.h5", [1, 2], {}, {})
    assert taken_over.last_round == 1
    reflection.apply(taken_over)
    assert taken_over.last_round == 3
    ours, theirs = own._snapshot().values, taken_over._snapshot().values
    assert all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours)


def test_changes_count_once(tmp_path):
    reflection = Reflection()
    record = MirroredRecord(MetricsRecord(tmp_path / "a.h5", [1, 2], {}, {}), Crew(reflection))
    record.append(1, {"round_s": 1.0})
    new = MetricsRecord(tmp_path / "b.h5", [1, 2], {}, {})
    reflection.apply(new)
    reflection.apply(new)
    assert new.last_round == 1
