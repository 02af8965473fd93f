"""What parallel tests share: a world, and assertions that fail on all ranks together."""

from collections.abc import Callable, Iterator

import pytest

from fdrl_mpi.comm.post import Post
from fdrl_mpi.comm.watched import WatchedComm
from fdrl_mpi.comm.world import World, open_world


@pytest.fixture(scope="session")
def world() -> World:
    return open_world()


@pytest.fixture
def on_all_ranks(world: World) -> Callable[[bool, str], None]:
    """Assert a condition of every rank on all of them: a rank that fails alone leaves the others waiting."""

    def check(condition: object, message: str = "") -> None:
        failed = [
            f"rank {rank}: {text}"
            for rank, (good, text) in enumerate(world.gather_objects((bool(condition), message)))
            if not good
        ]
        assert not failed, "; ".join(failed)

    return check


@pytest.fixture
def run_dir(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One directory for all ranks."""
    return world.from_root(str(tmp_path_factory.mktemp("runs")) if world.is_root else None)


@pytest.fixture(scope="session")
def watched_world(world: World) -> Iterator[World]:
    """The same ranks, none of whose waits is endless."""
    post = Post(world.comm, 60.0)
    yield World(WatchedComm(post, range(world.size), number=1, silence_s=20.0))
    post.close()
