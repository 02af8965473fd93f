"""Environment steps per second of DQN and SAC on one core: other people's, and this program's.

``python benchmarks/throughput_off_policy.py [--learner dqn sac] [--repeats 3] [--curve 100000] [--json]``

Programs take turns on the same core. Each lives in a process of its own, so that none sees what another has
done to torch, to its generators or to the arithmetic of denormal numbers.
"""

import argparse
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from one_core import pin

from fdrl_mpi.process import prepare_process

if TYPE_CHECKING:
    from off_policy_peers import OffPolicyPeer

STEPS = {"dqn": 30_000, "sac": 3_000}
"""Environment steps of one turn, by learner; SAC updates in each of them."""

CURVE_POINTS, CURVE_EPISODES = 10, 20

OWN = ("own_off_policy:OwnLearner", "own_off_policy:OwnLearnerInGymnasium")
PROGRAMS = {
    "dqn": ("peers_dqn:CleanRLDQN", "peers_dqn:StableBaselinesDQN", *OWN),
    "sac": ("peers_sac:CleanRLSAC", "peers_sac:StableBaselinesSAC", *OWN),
}
SPEED_COLUMNS = {
    "program": "program",
    "learner": "learner",
    "environment": "environment",
    "env_steps_per_s": "steps/s",
    "spread": "+-",
    "step_us": "us/step",
    "ratio_to_CleanRL": "x CleanRL",
}
CURVE_COLUMNS = {
    "program": "program",
    "learner": "learner",
    "seed": "seed",
    "env_steps": "steps",
    "seconds": "s after warm-up",
    "mean_return": "greedy return",
    "least_return": "least",
}

_peer: "OffPolicyPeer"
"""The program that this process is for."""


def main() -> None:
    """Measure and report."""
    prepare_process()
    arguments = _arguments()

    from reporting import machine, print_json, print_report

    facts = machine() | {"pinned_to_core": pin(), "clock": "processor" if arguments.cpu_time else "wall"}
    if arguments.curve:
        rows = [row for name in arguments.learner for row in _curves(name, arguments)]
        repeats = f"{CURVE_EPISODES} episodes from the same starts each"
        print_report("Learning curves", rows, CURVE_COLUMNS, repeats)
    else:
        rows = [row for name in arguments.learner for row in _speeds(name, arguments)]
        repeats = f"medians of {arguments.repeats}; +-: half the quartile range"
        print_report("DQN and SAC on one core", rows, SPEED_COLUMNS, repeats)
    if arguments.json:
        print_json(facts, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--learner", nargs="+", default=list(PROGRAMS), choices=PROGRAMS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="of learning curves")
    parser.add_argument(
        "--curve", type=int, metavar="STEPS", help="greedy returns while training for so long"
    )
    parser.add_argument("--zoo", action="store_true", help="DQN with rl-baselines3-zoo's settings")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time: others use the core")
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _speeds(learner: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the programs train in turn, one seed in all turns."""
    from reporting import Spread

    programs = _start(learner, arguments, seed=1)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(arguments.repeats):
        for name, program in programs.items():
            seconds[name].append(program.submit(_run, STEPS[learner]).result())
    _stop(programs)
    speeds = {name: Spread.of([STEPS[learner] / one for one in taken]) for name, taken in seconds.items()}
    return [
        {
            "program": name,
            "learner": learner,
            "environment": _settings(learner, arguments.zoo).environment_id,
            "env_steps_per_s": speed.median,
            "spread": speed.relative,
            "step_us": 1e6 / speed.median,
            "ratio_to_CleanRL": speed.median / speeds["CleanRL"].median,
        }
        for name, speed in speeds.items()
    ]


def _curves(learner: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train every program from every seed, and judge it at equal distances."""
    rows = []
    for seed in arguments.seeds:
        programs = _start(learner, arguments, seed)
        for name, program in programs.items():
            seconds = 0.0
            for _ in range(CURVE_POINTS):
                seconds += program.submit(_run, arguments.curve // CURVE_POINTS).result()
                env_steps, returns = program.submit(_judge).result()
                row = {"program": name, "learner": learner, "seed": seed, "env_steps": env_steps}
                means = {"mean_return": sum(returns) / len(returns), "least_return": min(returns)}
                rows.append(row | {"seconds": seconds} | means)
        _stop(programs)
    return rows


def _settings(learner: str, zoo: bool) -> Any:
    from off_policy_settings import ZOO_DQN, DQNSettings, SACSettings

    if learner == "sac":
        return SACSettings()
    return ZOO_DQN if zoo else DQNSettings()


def _start(learner: str, arguments: argparse.Namespace, seed: int) -> dict[str, Executor]:
    """Give every program a process; this one's environment and core are theirs."""
    context, programs = get_context("spawn"), {}
    for peer in PROGRAMS[learner]:
        made_from = learner, peer, arguments.zoo, arguments.cpu_time, seed
        program = ProcessPoolExecutor(1, context, _make, made_from)
        programs[program.submit(_name).result()] = program
    return programs


def _stop(programs: dict[str, Executor]) -> None:
    for program in programs.values():
        program.shutdown()


def _make(learner: str, peer: str, zoo: bool, cpu_time: bool, seed: int) -> None:
    global _peer
    from importlib import import_module

    from clocks import ProcessorClock, WallClock

    clock = ProcessorClock() if cpu_time else WallClock()
    module, _, class_name = peer.partition(":")
    _peer = getattr(import_module(module), class_name)(_settings(learner, zoo), clock, seed)


def _name() -> str:
    return _peer.name


def _run(num_steps: int) -> float:
    return _peer.run(num_steps)


def _judge() -> tuple[int, list[float]]:
    return _peer.env_steps, _peer.evaluate(CURVE_EPISODES)


if __name__ == "__main__":
    main()
