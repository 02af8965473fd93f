"""Signals that ask a run to stop, sent to the test's own process."""

import os
import signal
from collections.abc import Iterator

import pytest

from fdrl_mpi.federation.interrupt import Interrupt

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]


@pytest.fixture
def interrupt() -> Iterator[Interrupt]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield Interrupt()
    for number, action in before.items():
        signal.signal(number, action)


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Statuses with which the process would have ended."""
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    return statuses


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_and_does_not_end_the_process(
    number: signal.Signals, interrupt: Interrupt, exits: list[int]
) -> None:
    assert not interrupt.requested
    signal.raise_signal(number)
    assert interrupt.requested
    assert exits == []


def test_repeated_requests_of_a_batch_system_do_not_end_the_process(
    interrupt: Interrupt, exits: list[int]
) -> None:
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        signal.raise_signal(number)
    assert interrupt.requested
    assert exits == []


def test_an_impatient_user_ends_the_process_with_the_status_of_the_signal(
    interrupt: Interrupt, exits: list[int]
) -> None:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert exits == [130]
