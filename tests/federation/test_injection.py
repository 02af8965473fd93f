"""Faults on purpose: read, refused, and done once where they are due."""

import numpy as np
import pytest

from fdrl_mpi.federation.injection import Fault, InjectedError, Injector, parse_faults


def test_faults_are_read_from_text():
    text = (
        "rank=3,round=5,phase=exchange,action=kill; rank=0, round=2, phase=train, action=sleep, delay_s=1.5"
    )
    assert parse_faults(text) == [Fault(3, 5, "exchange", "kill"), Fault(0, 2, "train", "sleep", 1.5)]
    assert parse_faults(" ; ") == []


@pytest.mark.parametrize(
    "text",
    [
        "rank=3,round=5,phase=exchange",
        "rank=x,round=5,phase=exchange,action=kill",
        "rank=3,round=5,phase=lunch,action=kill",
        "rank=3,round=5,phase=exchange,action=hug",
        "rank=3,round=5,phase=exchange,action=kill,mood=bad",
        "rank=3,round=5,phase=exchange,action=corrupt",
        "rank=3,rank=4,round=5,phase=exchange,action=kill",
        "rank=-3,round=5,phase=exchange,action=kill",
        "rank=3,round=5,phase=exchange,action=kill,delay_s=-1",
        "rank=3,round=5,phase=exchange,action=kill,delay_s=nan",
        "rank=3,round=5,phase=exchange,action=sleep",
    ],
)
def test_what_makes_no_sense_is_refused(text):
    with pytest.raises(ValueError, match="FDRL_FAULTS"):
        parse_faults(text)


def test_a_fault_happens_once_on_its_rank_in_its_round_and_phase():
    faults = [Fault(1, 4, "train", "raise"), Fault(2, 4, "train", "kill")]
    injector = Injector(faults, rank=1)
    injector.at(3, "train")
    injector.at(4, "exchange")
    with pytest.raises(InjectedError):
        injector.at(4, "train")
    injector.at(4, "train")
    assert injector.phase == "train"


def test_the_middle_of_an_exchange_is_behind_its_first_message():
    injector = Injector([Fault(0, 4, "mid_exchange", "raise")], rank=0)
    injector.on_message()
    injector.at(4, "exchange")
    with pytest.raises(InjectedError):
        injector.on_message()
    injector.on_message()


def test_corruption_flips_one_bit_in_the_middle():
    """1.5 is 0x3fc00000; with the first bit of its exponent flipped, no number: 0x7fc00000."""
    values = np.full(5, 1.5, np.float32)
    injector = Injector([Fault(0, 4, "train", "corrupt")], rank=0)
    for _ in range(2):
        injector.at(4, "train", values)
    assert values.view(np.uint32).tolist() == [0x3FC00000, 0x3FC00000, 0x7FC00000, 0x3FC00000, 0x3FC00000]


def test_where_there_are_no_numbers_nothing_is_corrupted(capfd):
    Injector([Fault(0, 4, "after_exchange", "corrupt")], rank=0).at(4, "after_exchange")
    assert "action='corrupt'" in capfd.readouterr().err, "the fault was due all the same"
