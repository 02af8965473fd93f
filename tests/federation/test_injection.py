"""Faults on purpose: read, refused, and done once where they are due."""

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
