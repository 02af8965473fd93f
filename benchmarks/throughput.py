"""Environment steps per second of one learner on one core, by phase, beside the limit and other programs.

``python benchmarks/throughput.py [--engine numpy torch] [--peers] [--cleanrl ppo.py] [--solve] [--json]``

All that is compared takes turns on the same core, with the hyperparameters of CleanRL's `ppo.py`.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from one_core import pin

from fdrl_mpi.process import prepare_process
from fdrl_mpi.rl.hyperparameters import PPOConfig

if TYPE_CHECKING:
    from clocks import Clock
    from peers import CleanRL, StableBaselines

SETTINGS = PPOConfig()
"""CleanRL's: 64-64 tanh, 128 steps, 4 minibatches, 4 epochs, lr 2.5e-4, clip 0.2, entropy 0.01, value 0.5."""

ENVIRONMENT = "CartPole-v1"
SOLVE_ENVS, SOLVED_RETURN, SOLVE_STEPS = 4, 475.0, 500_000
SEEDS = (1, 2, 3, 4, 5)

SPEED_COLUMNS = {
    "program": "program",
    "environment": "environment",
    "num_envs": "envs",
    "env_steps_per_s": "steps/s",
    "spread": "+-",
    "environment_us": "env us",
    "inference_us": "inference us",
    "batch_us": "values+GAE us",
    "update_us": "update us",
    "other_us": "other us",
    "limit_steps_per_s": "limit steps/s",
    "ratio_to_limit": "of limit",
    "ratio_to_stable-baselines3": "x SB3",
    "ratio_to_CleanRL": "x CleanRL",
}
SOLVE_COLUMNS = {
    "program": "program",
    "environment": "environment",
    "median_s": "median s",
    "median_env_steps": "median steps",
    "seconds": "s by seed",
    "env_steps": "steps by seed",
}


def main() -> None:
    """Measure and report."""
    prepare_process()
    arguments = _arguments()

    from reporting import machine, print_json, print_report

    from fdrl_mpi.rl.denormals import flush_denormals

    facts = machine()
    facts |= {"pinned_to_core": pin(), "clock": "processor" if arguments.cpu_time else "wall"}
    flush_denormals()
    if arguments.solve:
        rows, columns = _solve(arguments), SOLVE_COLUMNS
        title, repeats = f"Time to a mean return of {SOLVED_RETURN:g}", f"once for each seed {SEEDS}"
    else:
        rows, columns = _speeds(arguments), SPEED_COLUMNS
        title = "PPO on one core"
        repeats = f"medians of {arguments.repeats}, {arguments.seconds:g} s each; +-: half the quartile range"
    print_report(title, rows, columns, repeats)
    if arguments.json:
        print_json(facts, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--engine", nargs="+", default=["numpy"], choices=("numpy", "torch"))
    parser.add_argument("--environment", nargs="+", default=[ENVIRONMENT, f"gym:{ENVIRONMENT}"])
    parser.add_argument("--num-envs", nargs="+", type=int, default=[4, 64])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each single measurement")
    parser.add_argument("--peers", action="store_true", help="compare with stable-baselines3 if installed")
    parser.add_argument("--cleanrl", type=Path, metavar="PATH", help="compare with this ppo.py of CleanRL")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time: others use the core")
    parser.add_argument("--solve", action="store_true", help=f"time until CartPole returns {SOLVED_RETURN:g}")
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _clock(arguments: argparse.Namespace) -> "Clock":
    from clocks import ProcessorClock, WallClock

    return ProcessorClock() if arguments.cpu_time else WallClock()


def _peers(
    arguments: argparse.Namespace, num_envs: int, clock: "Clock", seed: int
) -> "list[StableBaselines | CleanRL]":
    """Make the other programs that are asked for and there."""
    from peers import CleanRL, StableBaselines, has_stable_baselines

    peers: list[StableBaselines | CleanRL] = []
    if arguments.peers and has_stable_baselines():
        peers.append(StableBaselines(SETTINGS, ENVIRONMENT, num_envs, clock, seed))
    elif arguments.peers:
        print("stable-baselines3 is not installed")
    if arguments.cleanrl is not None:
        script = arguments.cleanrl.resolve()
        peers.append(CleanRL(script, SETTINGS, ENVIRONMENT, num_envs, clock, seed))
    return peers


def _speeds(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all cases, their limits and the peers in turn, and set them beside each other."""
    from cases import OwnCase, PeerCase

    clock, seconds = _clock(arguments), arguments.seconds
    rows: list[dict[str, Any]] = []
    for num_envs in arguments.num_envs:
        peers = [
            PeerCase(peer, f"gym:{ENVIRONMENT}", num_envs, seconds)
            for peer in _peers(arguments, num_envs, clock, seed=1)
        ]
        own = [
            OwnCase(SETTINGS, engine, environment, num_envs, clock, seconds)
            for engine in arguments.engine
            for environment in arguments.environment
        ]
        for _ in range(arguments.repeats):
            for own_case in own:
                own_case.measure()
            for peer in peers:
                peer.measure()
        rows += [case.row(peers) for case in own] + [peer.row() for peer in peers]
    return rows


def _solve(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train from each seed until the environment is solved; learners take turns."""
    from cases import solve_row
    from learning import OwnPPO
    from peers import Solved

    clock = _clock(arguments)
    solved: dict[tuple[str, str], list[Solved]] = {}
    for seed in SEEDS:
        own = [
            (
                f"fdrl_mpi {engine}",
                environment,
                OwnPPO(SETTINGS, engine, environment, SOLVE_ENVS, clock, seed),
            )
            for engine in arguments.engine
            for environment in arguments.environment
        ]
        peers = [
            (peer.name, f"gym:{ENVIRONMENT}", peer) for peer in _peers(arguments, SOLVE_ENVS, clock, seed)
        ]
        for program, environment, learner in (*own, *peers):
            result = learner.solve(SOLVED_RETURN, SOLVE_STEPS)
            solved.setdefault((program, environment), []).append(result)
    return [solve_row(*case, SOLVE_ENVS, results) for case, results in solved.items()]


if __name__ == "__main__":
    main()
