"""Of ranks that fail alike, one tells where in the program; the others name a rank that has said the same."""

import time
from collections.abc import Callable, Iterator

import pytest

from fdrl_mpi.comm.crew import Crew
from fdrl_mpi.comm.world import World

pytestmark = pytest.mark.mpi(min_size=2)
WHY = "RuntimeError: the pump has stopped"


@pytest.fixture
def crew(world: World) -> Iterator[Crew]:
    made = Crew(world.comm, 0, 1, 5.0, 5.0, 1)
    yield made
    world.barrier()
    made.close()


def _hear_all(world: World, crew: Crew) -> None:
    """Wait until the last words of all others have come, or for ten seconds."""
    until = time.monotonic() + 10.0
    while len(crew.post.last_words) < world.size - 1 and time.monotonic() < until:
        crew.post.collect()


@pytest.mark.parametrize("step", [1, -1])
def test_who_speaks_later_names_who_spoke_first(
    world: World, crew: Crew, on_all_ranks: Callable[[bool, str], None], step: int
) -> None:
    order, named = range(world.size)[::step], None
    for rank in order:
        if rank == world.rank:
            named = crew.say_last(WHY)
        world.barrier()
    on_all_ranks(named == (None if world.rank == order[0] else order[0]), f"named {named}")


def test_of_those_who_speak_at_once_one_refers_to_nobody(
    world: World, crew: Crew, on_all_ranks: Callable[[bool, str], None]
) -> None:
    for _ in range(5):
        world.barrier()
        crew.post.last_words.clear()
        crew.post.echoes.clear()
        world.barrier()
        all_named = world.gather_objects(crew.say_last(WHY))
        _hear_all(world, crew)
        on_all_ranks(None in all_named, f"named {all_named}")


def test_other_words_are_no_echo(world: World, crew: Crew, on_all_ranks: Callable[[bool, str], None]) -> None:
    named = crew.say_last(f"{WHY} on rank {world.rank}")
    world.barrier()
    _hear_all(world, crew)
    others = set(range(world.size)) - {world.rank}
    on_all_ranks(named is None and not crew.post.echoes, f"named {named}")
    on_all_ranks(crew.post.last_words.keys() == others, f"heard {crew.post.last_words}")


def test_the_same_words_of_several_ranks_are_told_once(world: World, crew: Crew) -> None:
    crew.post.last_words.update({3: WHY, 5: "MemoryError: ", 4: WHY})
    assert crew.last_words_of([3, 4, 5, 6]) == [f"rank 3, 4: {WHY}", "rank 5: MemoryError: "]
