"""Agents that train together on a device, against what the device can do, and beside torch agents in turn.

``python benchmarks/gpu.py [--device cuda:0] [--agents 1 16 256 1024 4096] [--learner ppo] [--rounds 5]``

The device's own limits come first: a large product of matrices, once in float32 and once in what torch makes
of it (TF32), and a large copy. Then rounds of agents on CartPole with 64-64 networks: environment steps per
second, and the share of each phase: *copies* (models, moments and environments to the device and back, the
members' own bookkeeping included), *acting*, *valuing* and *learning*; between phases the device is waited
for. FLOP/s counts the products of the networks; bytes/s is the least that has to move: what passes of a layer
read and write once, and what the optimiser does. Steps that an environment makes after its one episode, while
those of others last (REINFORCE), count nothing. Agents in turn are those of the torch engine, at most
`--in-turn` of them: a plain loop over agents with a network each.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from time import perf_counter
from typing import Any

from company import gradients_of, make_company, passes_per_step, settings_of
from one_core import pin

from fdrl_mpi.process import prepare_process

PHASES = {
    "_take": "copies",
    "_give_back": "copies",
    "_act": "acting",
    "_batch": "valuing",
    "_update": "learning",
}
LARGE = 8192
"""Rows of the square matrices whose product shows what a device can do; on the CPU an eighth."""
COLUMNS = {
    "agents": "agents",
    "steps_per_s": "steps/s",
    "in_turn": "in turn steps/s",
    "ratio": "ratio",
    "round_ms": "round ms",
    "copies": "copies",
    "acting": "acting",
    "valuing": "valuing",
    "learning": "learning",
    "gflop_per_s": "GFLOP/s",
    "flop_share": "of limit",
    "gb_per_s": "GB/s",
    "byte_share": "of limit",
    "estimate_gb": "estimate GB",
    "held_gb": "held GB",
}


def main() -> None:
    """Measure and report."""
    prepare_process()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cpu for a try without a card")
    parser.add_argument("--agents", nargs="+", type=int, default=[1, 16, 256, 1024, 4096])
    parser.add_argument("--learner", default="ppo", choices=("ppo", "a2c", "reinforce", "dqn"))
    parser.add_argument("--num-envs", type=int, default=8, help="of each agent")
    parser.add_argument("--rounds", type=int, default=5, help="whose median is taken, after two that are not")
    parser.add_argument(
        "--in-turn", type=int, default=16, help="most agents that also train in turn; 0: none"
    )
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    options = parser.parse_args()

    import torch
    from reporting import machine, print_json, print_report

    is_card = options.device.startswith("cuda")
    facts = machine() | {"device": torch.cuda.get_device_name(options.device) if is_card else f"core {pin()}"}
    limits = _limits(options.device)
    rows = [_row(count, limits, options) for count in options.agents]
    print_report(
        f"Limits of {facts['device']}", [limits], {key: key.replace("_", " ") for key in limits}, "best of 5"
    )
    title = f"{options.learner} on CartPole, {options.num_envs} environments an agent"
    print_report(title, rows, COLUMNS, f"medians of {options.rounds} rounds")
    if options.json:
        print_json(facts | limits, rows)


def _limits(device: str) -> dict[str, float]:
    """Measure products and copies on a device."""
    import torch

    rows = LARGE if device != "cpu" else LARGE // 8
    left, right = torch.rand((2, rows, rows), device=device)
    into = torch.empty_like(left)
    limits = {}
    for kind, is_exact in (("float32_gflop_per_s", "highest"), ("tf32_gflop_per_s", "high")):
        torch.set_float32_matmul_precision(is_exact)
        limits[kind] = 2e-9 * rows**3 / _best(lambda: torch.matmul(left, right, out=into), device)
    torch.set_float32_matmul_precision("highest")
    large = torch.empty((2, 16 * rows * rows), device=device)
    limits["copy_gb_per_s"] = 1e-9 * large.nbytes / _best(lambda: large[0].copy_(large[1]), device)
    return limits


def _best(work: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(6):
        _wait(device)
        started = perf_counter()
        work()
        _wait(device)
        seconds.append(perf_counter() - started)
    return min(seconds[1:])


def _row(count: int, limits: dict[str, float], options: argparse.Namespace) -> dict[str, Any]:
    """Measure so many agents."""
    import numpy as np
    import torch

    is_card, device = options.device != "cpu", options.device
    if is_card:
        torch.cuda.reset_peak_memory_stats(device)
    train = make_company(options.learner, options.num_envs, count, True, "torch", device)
    seconds, steps = _rounds(train, options.rounds, device)
    with _phases(options.learner, device) as spent:
        _rounds(train, options.rounds, device, first=100)
    total = sum(spent.values())
    flop, moved, estimate = _work(options, count, steps)
    in_turn = float("nan")
    if count <= options.in_turn:
        alone = make_company(options.learner, options.num_envs, count, False, "torch", device)
        taken, _ = _rounds(alone, options.rounds, device)
        in_turn = steps / float(np.median(taken))
    median = float(np.median(seconds))
    return {
        "agents": count,
        "steps_per_s": steps / median,
        "in_turn": in_turn,
        "ratio": steps / median / in_turn,
        "round_ms": 1e3 * median,
        **{phase: f"{100.0 * share / total:.0f} %" for phase, share in spent.items()},
        "gflop_per_s": 1e-9 * flop / median,
        "flop_share": f"{1e-7 * flop / median / limits['float32_gflop_per_s']:.2g} %",
        "gb_per_s": 1e-9 * moved / median,
        "byte_share": f"{1e-7 * moved / median / limits['copy_gb_per_s']:.2g} %",
        "estimate_gb": 1e-9 * estimate,
        "held_gb": 1e-9 * torch.cuda.max_memory_allocated(device) if is_card else float("nan"),
    }


def _rounds(train: Callable[[int], int], number: int, device: str, first: int = 1) -> tuple[list[float], int]:
    """Train so many rounds after two; return the seconds of each, and its steps."""
    seconds, steps = [], 0
    for round in range(first, first + number + 2):
        _wait(device)
        started = perf_counter()
        steps = train(round)
        _wait(device)
        seconds.append(perf_counter() - started)
    return seconds[2:], steps


@contextmanager
def _phases(learner: str, device: str) -> Iterator[dict[str, float]]:
    """Add up the seconds of each phase of a team, which is waited for between them."""
    from fdrl_mpi.build_team import TEAMS

    module, _, class_name = TEAMS["torch"][learner].partition(":")
    spent = dict.fromkeys(PHASES.values(), 0.0)
    kept = []

    def timed(method: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            _wait(device)
            started = perf_counter()
            result = method(*arguments)
            _wait(device)
            spent[phase] += perf_counter() - started
            return result

        return run

    for cls in getattr(import_module(module), class_name).__mro__:
        for name, phase in PHASES.items():
            if name in vars(cls):
                kept.append((cls, name, vars(cls)[name]))
                setattr(cls, name, timed(vars(cls)[name], phase))
    try:
        yield spent
    finally:
        for cls, name, method in kept:
            setattr(cls, name, method)


def _work(options: argparse.Namespace, count: int, steps: int) -> tuple[float, float, int]:
    """Count the floating-point operations and the least bytes of a round, and estimate the memory.

    `steps` are those of all agents.
    """
    from fdrl_mpi.build_agent import make_environment, make_model
    from fdrl_mpi.build_team import team_bytes
    from fdrl_mpi.rl.hyperparameters import OnPolicyConfig
    from fdrl_mpi.rl.torch_stack import MOMENTS

    config = settings_of(options.learner, options.num_envs)
    settings = config.learner
    environment = make_environment(config.environment, [{}] * options.num_envs)
    model = make_model(settings, config.seed, environment, "numpy", "cpu")
    d, shape = len(model.params), model.network.shape
    is_on_policy = isinstance(settings, OnPolicyConfig)  # on a device it values every next observation too
    passes = passes_per_step(settings) + is_on_policy
    updates = gradients_of(settings, options.num_envs, steps / count)
    units = shape.num_towers * sum(shape.hidden) + shape.total_outputs + shape.observation_size
    optimiser = count * d * updates * (4 + 2 * len(MOMENTS[settings.optimiser]))
    moved = 4.0 * (2.0 * units * steps * passes + optimiser)
    return 2.0 * d * steps * passes, moved, team_bytes(config, environment, model, count)


def _wait(device: str) -> None:
    """Wait until the device has done what it was asked for."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
