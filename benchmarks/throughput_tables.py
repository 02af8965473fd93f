"""Updates per second of tabular Q-learning on one core, beside the environment alone.

``python benchmarks/throughput_tables.py [--environments 1 100 1000 4000] [--json]``
"""

import argparse
from typing import Any

from fdrl_mpi.process import prepare_process

prepare_process()

import numpy as np  # noqa: E402
from clocks import ProcessorClock  # noqa: E402
from one_core import pin  # noqa: E402
from reporting import Spread, machine, print_json, print_report  # noqa: E402

from fdrl_mpi.build_agent import learner_class, make_environment, make_model  # noqa: E402
from fdrl_mpi.config import EnvironmentConfig  # noqa: E402
from fdrl_mpi.rl.hyperparameters import QLearningConfig  # noqa: E402
from fdrl_mpi.rl.learner import Budget  # noqa: E402
from fdrl_mpi.rl.objective import LocalObjective  # noqa: E402
from fdrl_mpi.rl.table import States  # noqa: E402
from fdrl_mpi.streams import stream  # noqa: E402

REPEATS, STEPS = 5, 2000
COLUMNS = {
    "environments": "environments",
    "updates_per_s": "updates/s",
    "spread": "+-",
    "stepping_per_s": "stepping alone, steps/s",
    "share": "of that",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--environments", nargs="+", type=int, default=[1, 100, 1000, 4000])
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    options = parser.parse_args()
    facts = machine() | {"pinned_to_core": pin(), "clock": "processor"}
    rows = [_row(num_envs) for num_envs in options.environments]
    print_report(
        "Tabular Q-learning on RandomMDP, 5 states and 5 actions", rows, COLUMNS, f"medians of {REPEATS}"
    )
    if options.json:
        print_json(facts, rows)


def _row(num_envs: int) -> dict[str, Any]:
    settings, clock = QLearningConfig(), ProcessorClock()
    place = EnvironmentConfig(id="RandomMDP", kwargs={"max_episode_steps": 1000})
    environment = make_environment(place, [{}] * num_envs)
    model = make_model(settings, 0, environment, "numpy", "cpu")
    learner = learner_class("q_learning")(settings, model, environment, LocalObjective())
    updates, stepping, work = [], [], STEPS * num_envs
    for round in range(1, REPEATS + 2):
        started = clock.now()
        learner.train(Budget(work, settings.lr, stream(0, "train", 1, round)))
        updates.append(work / (clock.now() - started))
        stepping.append(work / _stepping(environment, num_envs, clock))
    speed, floor = Spread.of(updates[1:]), Spread.of(stepping[1:])
    return {
        "environments": num_envs,
        "updates_per_s": speed.median,
        "spread": speed.relative,
        "stepping_per_s": floor.median,
        "share": speed.median / floor.median,
    }


def _stepping(environment: Any, num_envs: int, clock: ProcessorClock) -> float:
    """Step with actions drawn beforehand; return the seconds."""
    states, generator = States(environment), stream(0, "stepping")
    actions = generator.integers(5, size=(STEPS, num_envs)).astype(np.int64)
    states.begin_round(generator)
    started = clock.now()
    for chosen in actions:
        states.step(chosen)
    return clock.now() - started


if __name__ == "__main__":
    main()
