"""Ranks that die or are cut off agree on a view: played without MPI, with a clock of its own."""

import random
from collections import defaultdict

import pytest

from fdrl_mpi.comm.membership import Change, Minority
from fdrl_mpi.comm.post import ALARM, CALL, GOODBYE, VIEW, Letter
from fdrl_mpi.topology.view import View, first_view, next_view

STEP_S, PATIENCE_S = 0.01, 1.0


class Network:
    """Letters under way, who is dead, and which ranks cannot reach each other."""

    def __init__(self, size: int, chance: random.Random) -> None:
        self.size, self.chance = size, chance
        self.under_way = defaultdict(list)  # (from, to) -> letters in order
        self.dead, self.side = set(), [0] * size
        self.now_s = 0.0

    def reaches(self, a: int, b: int) -> bool:
        return self.side[a] == self.side[b]


class Box:
    """What `Change` needs of the post, on one rank."""

    def __init__(self, network: Network, rank: int) -> None:
        self.network, self.rank, self.size = network, rank, network.size
        self.dead, self.waiting = set(), []

    def send(self, letter: Letter, to) -> None:
        for rank in to:
            if rank != self.rank and self.network.reaches(self.rank, rank):
                sent = Letter(letter.kind, letter.number, letter.body, self.rank)
                self.network.under_way[self.rank, rank].append(sent)

    def deliver(self) -> None:
        """Let some of what is under way arrive, in order between two ranks, in any order else."""
        for (_, target), letters in self.network.under_way.items():
            while target == self.rank and letters and self.network.chance.random() < 0.7:
                self.waiting.append(letters.pop(0))
        for rank in self.network.dead - self.dead:
            if self.network.reaches(rank, self.rank) and self.network.chance.random() < 0.2:
                self.dead.add(rank)

    def take(self, *kinds: str) -> Letter | None:
        found = next((letter for letter in self.waiting if letter.kind in kinds), None)
        if found is not None:
            self.waiting.remove(found)
        return found

    def is_halted(self, rank: int) -> bool:
        return rank in self.dead


class Party:
    """A rank: it works in a view, meets all its members first, and changes it when somebody is lost."""

    def __init__(self, network: Network, rank: int, first: View) -> None:
        self.box, self.network, self.rank = Box(network, rank), network, rank
        self.views, self.change, self.is_over = [first], None, False
        self.hosted, self.met, self.silent_since_s = first.agents_of(rank), set(), None

    @property
    def view(self) -> View:
        return self.views[-1]

    def step(self, established: dict[int, View]) -> None:
        self.box.deliver()
        if self.change is not None:
            self._change()
            return
        while letter := self.box.take("here"):
            if letter.number == self.view.number:
                self.met.add(letter.sender)
        if len(self.views) > 1 and self.met >= set(self.view.members) - {self.rank}:
            self.views = [self.view]
            old = established.setdefault(self.view.number, self.view)
            assert old == self.view, "two views of one number"
        self._look()

    def _look(self) -> None:
        disturbing = [
            letter
            for letter in self.box.waiting
            if (letter.kind in (CALL, VIEW) and letter.number > self.view.number)
            or (letter.kind == ALARM and letter.number == self.view.number)
            or letter.kind == GOODBYE
        ]
        lost = [rank for rank in self.view.members if rank in self.box.dead]
        silent = [rank for rank in self.view.members if not self.network.reaches(self.rank, rank)]
        if silent and self.silent_since_s is None:
            self.silent_since_s = self.network.now_s
        if silent and self.network.now_s - self.silent_since_s < 0.3:
            silent = []
        if disturbing or lost or silent:
            self.silent_since_s = None
            self.suspect(lost + silent)

    def suspect(self, suspects) -> None:
        clock = lambda: self.network.now_s  # noqa: E731
        self.change = Change(
            self.box, self.views, 0, self.hosted, len(self.hosted_by_all), suspects, PATIENCE_S, clock
        )

    def _change(self) -> None:
        try:
            view = self.change.step()
        except Minority:
            self.is_over = True
            return
        if view is not None:
            self.views.append(view)
            self.change, self.met = None, set()
            self.hosted = view.agents_of(self.rank)
            self.box.send(Letter("here", view.number), view.members)


def _play(size: int, spares: int, seed: int, disturb, seconds: float = 20.0) -> tuple[Network, list, dict]:
    chance = random.Random(seed)
    network, first = Network(size, chance), first_view(size, spares, 1)
    Party.hosted_by_all = first.agents
    parties = [Party(network, rank, first) for rank in range(size)]
    established: dict[int, View] = {}
    while network.now_s < seconds:
        disturb(network, parties)
        for party in chance.sample(parties, size):
            if party.rank not in network.dead and not party.is_over and chance.random() < 0.8:
                party.step(established)
        network.now_s += STEP_S
    return network, parties, established


@pytest.mark.parametrize("seed", range(40))
def test_whoever_dies_the_others_end_in_one_view_of_all_that_live(seed):
    chance = random.Random(1000 + seed)
    size, spares = chance.choice([5, 6, 9, 13]), chance.choice([0, 1, 2])
    times = {rank: chance.uniform(0.0, 3.0) for rank in chance.sample(range(size), (size - 1) // 2)}
    if seed % 2:  # all within 50 ms
        times = dict.fromkeys(times, 1.0) | {next(iter(times)): 1.05}

    def disturb(network, parties):
        network.dead |= {rank for rank, time_s in times.items() if network.now_s >= time_s}

    network, parties, _ = _play(size, spares, seed, disturb)
    living = [party for party in parties if party.rank not in network.dead]
    assert not any(party.is_over for party in living)
    assert {party.view for party in living} == {living[0].view}
    assert set(living[0].view.members) == {party.rank for party in living}
    assert all(party.views == [party.view] and party.change is None for party in living), "all have met"


@pytest.mark.parametrize("seed", range(40))
def test_ranks_that_suspect_each_other_for_nothing_still_find_one_view(seed):
    """Several give the alarm at once and hold others, the root too, for lost: votes may be shared."""
    chance = random.Random(3000 + seed)
    size = chance.choice([5, 7, 10])
    wrong = {rank: chance.choice([0, 0, 1, size - 1]) for rank in chance.sample(range(size), 3)}

    def disturb(network, parties):
        if abs(network.now_s - 1.0) < STEP_S / 2:
            for rank, suspect in wrong.items():
                parties[rank].suspect({suspect} - {rank})

    _, parties, _ = _play(size, 1, seed, disturb)
    assert not any(party.is_over for party in parties)
    newest = max((party.view for party in parties), key=lambda view: view.number)
    inside = [party for party in parties if party.rank in newest.members]
    assert 2 * len(inside) > size
    assert {party.view for party in inside} == {newest}
    assert all(party.views == [newest] and party.change is None for party in inside)


@pytest.mark.parametrize("seed", range(40))
def test_of_two_sides_of_a_cut_network_at_most_one_goes_on(seed):
    chance = random.Random(2000 + seed)
    size = chance.choice([5, 8, 9])
    far = set(chance.sample(range(size), chance.randint(1, size - 1)))
    dying = chance.choice(range(size)) if seed % 2 else -1
    cut_s = chance.uniform(0.5, 1.5)

    def disturb(network, parties):
        if dying >= 0 and network.now_s >= cut_s - chance.uniform(0.0, 0.2):
            network.dead.add(dying)
        if network.now_s >= cut_s:
            network.side = [int(rank in far) for rank in range(size)]

    network, parties, _ = _play(size, 1, seed, disturb)
    living = [party for party in parties if party.rank not in network.dead]
    going_on = {
        party.view
        for party in living
        if not party.is_over
        and party.change is None
        and len({network.side[r] for r in party.view.members}) == 1
    }
    assert len(going_on) <= 1, "both sides went on"
    for side in (0, 1):
        here = [party for party in living if network.side[party.rank] == side]
        if 2 * len(here) > size + 1:  # a majority even if the dead one is counted
            assert not any(party.is_over for party in here)
            assert {party.view for party in here} == {here[0].view}


def test_the_root_stays_and_vacant_agents_go_to_all_spares_but_the_first():
    view = first_view(8, 2, 1)
    assert (view.root, view.agents, view.spares, view.mirror) == (0, (1, 2, 3, 4, 5), (6, 7), 6)
    present = [0, 1, 3, 4, 5, 6, 7]
    new = next_view(view, 1, dict.fromkeys(present, 4), {r: view.agents_of(r) for r in present}, 5)
    assert new == View(1, (0, 1, 7, 3, 4, 5), (1, 2, 3, 4, 5), (6,))


def test_the_mirror_takes_over_from_the_root_and_without_spares_the_newest_agent_does():
    view = first_view(6, 1, 1)
    present = [1, 2, 3, 4, 5]
    new = next_view(view, 1, dict.fromkeys(present, 4), {r: view.agents_of(r) for r in present}, 4)
    assert (new.root, new.agents, new.spares) == (5, (1, 2, 3, 4), ())
    view = first_view(5, 0, 1)
    present = [1, 2, 3, 4]
    rounds = {1: 3, 2: 3, 3: 4, 4: 4}
    new = next_view(view, 1, rounds, {r: view.agents_of(r) for r in present}, 4)
    assert (new.root, new.ranks, new.agents) == (3, (3, 1, 2, 4), (1, 2, 4))


def test_an_agent_that_was_replaced_comes_back_as_a_spare():
    view = View(3, (0, 7, 2, 3), (1, 2, 3), ())
    hosted = {0: (), 7: (1,), 2: (2,), 3: (3,), 1: (1,)}
    new = next_view(view, 4, dict.fromkeys(hosted, 9), hosted, 3)
    assert new == View(4, (0, 7, 2, 3), (1, 2, 3), (1,))


def test_several_agents_of_a_rank_stay_together():
    view = first_view(4, 1, 3)
    assert view.agents_of(2) == (4, 5, 6)
    new = next_view(view, 1, {0: 1, 2: 1, 3: 1}, {0: (), 2: (4, 5, 6), 3: ()}, 6)
    assert new == View(1, (0, 2), (4, 5, 6), (3,))
