"""A long run with random faults: ``python tests/faults/soak.py [--seed 0] [--rounds 200] [--agents 16]``.

Every few rounds a rank that the seed chooses dies or stops, root and spares included; spares take the places.
At the end the model is compared with the oracle's, and the memory and the open files of every rank with what
they were when a third of the run was over.
"""

import argparse
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import play, ranks_of

from fdrl_mpi.federation.injection import PHASES

ACTIONS = ("kill", "kill", "stop")
MOST_GROWTH_BYTES, MOST_NEW_FILES = 4 << 20, 3
"""Of a rank, from a third of its samples to their end: allocators keep a little."""


def draw_faults(seed: int, num_faults: int, num_agents: int, rounds: int, phases: Sequence[str]) -> str:
    """Spread faults over the rounds, each for another one of the root and the first agents' ranks."""
    rng = np.random.default_rng(seed)
    victims = rng.permutation(1 + num_agents)[:num_faults]
    gap = rounds // (num_faults + 1)
    faults = []
    for number, rank in enumerate(victims, 1):
        round, phase, action = (
            number * gap + rng.integers(gap // 2),
            rng.choice(phases),
            rng.choice(ACTIONS),
        )
        faults.append(f"rank={rank},round={round},phase={phase},action={action}")
    return ";".join(faults)


@dataclass(frozen=True)
class Growth:
    """What a rank needed more at the end."""

    rank: int
    memory_bytes: float
    files: float


class Watch:
    """Samples memory and open files of the ranks of a folder's run until it is stopped."""

    def __init__(self, folder: Path, pause_s: float = 0.5) -> None:
        self._folder, self._pause_s = folder, pause_s
        self._samples: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._is_over = threading.Event()

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._is_over.set()
        self._thread.join()

    def growth(self) -> list[Growth]:
        """Compare the last samples of each rank with those after a third; ranks begin in their order."""
        grown = []
        for rank, pid in enumerate(sorted(self._samples)):
            values = np.array(self._samples[pid])
            if len(values) < 12:
                continue
            third, few = len(values) // 3, max(len(values) // 12, 2)
            change = np.median(values[-few:], axis=0) - np.median(values[third : third + few], axis=0)
            grown.append(Growth(rank, *change))
        return grown

    def _run(self) -> None:
        while not self._is_over.wait(self._pause_s):
            for pid in ranks_of(self._folder):
                try:
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                except OSError:
                    continue
                self._samples[pid].append((pages * 4096, files))


def main() -> int:
    """Soak; return 1 if the run did not end right, or something has grown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--faults", type=int, default=10)
    parser.add_argument("--collective", default="node", help="node: to the bit")
    parser.add_argument("--limit-s", type=float, default=1800.0)
    options = parser.parse_args()
    num_spares = options.faults + 1
    num_ranks = 1 + options.agents + num_spares
    silent = {"mid_exchange"} if options.collective == "node" else set()  # nothing happens without a message
    phases = [phase for phase in PHASES[1:-2] if phase not in silent]
    faults = draw_faults(options.seed, options.faults, options.agents, options.rounds, phases)
    settings = {
        "rounds": str(options.rounds),
        "learner__budget": "1024",
        "checkpoint__every": "10",
        "comm__collective": options.collective,
        "faults__spares": str(num_spares),
        "faults__silence_s": "20",
    }
    with tempfile.TemporaryDirectory() as folder:
        with Watch(Path(folder)) as watch:
            ending = play(Path(folder), faults, options.limit_s, num_ranks, **settings)
        grown = watch.growth()
    failures = ending.verdict.get("failures", [])
    lost = [rank for failure in failures for rank in failure["lost_ranks"]]
    seconds = ending.recovery_s or [float("nan")]
    stayed = [one for one in grown if 1 <= one.rank <= options.agents and one.rank not in lost]
    memory, files = max(one.memory_bytes for one in stayed), max(one.files for one in stayed)
    print(f"{ending.verdict.get('outcome')} after round {ending.verdict.get('round')}; faults: {faults}")
    print(f"lost ranks {lost}; recovery: median {np.median(seconds):.2f} s, worst {max(seconds):.2f} s")
    left = ", ".join(ending.left_in_memory) or "nothing"
    print(f"difference from the oracle {ending.error:.1e}; left in /dev/shm: {left}")
    print(
        f"most growth of {len(stayed)} agents that stayed: {memory / 2**20:.1f} MiB, {files:.0f} open files"
    )
    others = {
        one.rank: f"{one.memory_bytes / 2**20:.1f} MiB, {one.files:.0f}" for one in grown if one not in stayed
    }
    print(f"of the others, by rank: {others}")
    is_flat = memory <= MOST_GROWTH_BYTES and files <= MOST_NEW_FILES
    if not ending.is_right:
        print(ending.output[-3000:])
    return int(not (ending.is_right and is_flat and len(lost) == options.faults))


if __name__ == "__main__":
    sys.exit(main())
