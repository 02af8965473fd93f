import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from fdrl_mpi.record.atomic_file import replacing, write_json, write_json_first


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path, durable) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("ne\ud800", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_that_other_programs_cannot_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_of_many_writers_at_once_one_is_the_first(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        won = list(pool.map(write_json_first, [path] * 40, [{"writer": number} for number in range(40)]))
    assert won.count(True) == 1
    assert json.loads(path.read_text()) == {"writer": won.index(True)}
    assert list(tmp_path.iterdir()) == [path]


def test_without_second_names_the_last_writer_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for number in (1, 2):
        assert write_json_first(tmp_path / "file.json", {"writer": number})
        assert json.loads((tmp_path / "file.json").read_text()) == {"writer": number}
    assert len(list(tmp_path.iterdir())) == 1
