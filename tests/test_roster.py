"""The command line that makes identities."""

import pytest

from fdrl_mpi.privacy.keys import Roster, load_identity
from fdrl_mpi.process import REFUSED
from fdrl_mpi.roster import main


def test_keys_and_roster_of_a_job_belong_together(tmp_path, capsys):
    assert main([str(tmp_path / "keys"), "--agents", "3"]) == 0
    roster = Roster(tmp_path / "keys/roster.txt")
    roster.check_complete([0, 1, 2, 3])
    for party in range(4):
        roster.check_own(party, load_identity(tmp_path / f"keys/party_{party}.pem"))
    assert f"--comm.secure.roster {tmp_path}/keys/roster.txt" in capsys.readouterr().out


def test_parties_are_named_by_the_first_agent_of_a_rank(tmp_path):
    assert main([str(tmp_path), "--agents", "6", "--agents-per-rank", "3"]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.pem")) == [
        "party_0.pem",
        "party_1.pem",
        "party_4.pem",
    ]


def test_hosts_may_make_their_own_keys(tmp_path):
    assert main([str(tmp_path), "--parties", "0", "1"]) == main([str(tmp_path), "--parties", "2"]) == 0
    Roster(tmp_path / "roster.txt").check_complete([0, 1, 2])


def test_keys_are_never_overwritten(tmp_path, capsys):
    main([str(tmp_path), "--agents", "2"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([str(tmp_path), "--agents", "2"]) == REFUSED
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--agents", "0"], ["--agents", "x"], []])
def test_bad_arguments_are_refused(tmp_path, arguments):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "keys"), *arguments])
    assert not (tmp_path / "keys").exists()
