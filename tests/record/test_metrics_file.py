"""What is read out of a record."""

from pathlib import Path

import numpy as np

from fdrl_mpi.record.metrics import MetricsRecord
from fdrl_mpi.record.metrics_file import read_metrics, took_part


def test_who_took_part_is_told_in_ranges(tmp_path: Path) -> None:
    record = MetricsRecord(tmp_path / "m.h5", [1, 2], {}, {})
    for round, (present, rejected) in enumerate(
        [([1, 1], [0, 0]), ([1, 1], [0, 0]), ([1, 1], [0, 1]), ([0, np.nan], [np.nan, np.nan])], 1
    ):
        record.append(round, {"present": np.array(present, float), "rejected": np.array(rejected, float)})
    record.write()
    assert took_part(read_metrics(tmp_path / "m.h5")) == [
        {"first": 1, "last": 2, "agents": [1, 2]},
        {"first": 3, "last": 3, "agents": [1]},
        {"first": 4, "last": 4, "agents": []},
    ]
