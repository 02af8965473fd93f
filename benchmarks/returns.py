"""Returns after as many steps as others have published: one agent, several seeds, greedy episodes.

``python benchmarks/returns.py [--learner ppo dqn sac] [--seeds 3] [--json]``

Settings are CleanRL's or rl-baselines3-zoo's for the environment; what differs stands in `CASES`. Theirs are
means over training or test episodes of sampled or greedy policies, as `known_returns` says: compare to about
their deviation.
"""

import argparse
from dataclasses import dataclass
from math import nan
from typing import Any

from fdrl_mpi.process import prepare_process

prepare_process()

import numpy as np  # noqa: E402
from known_returns import KNOWN_RETURNS  # noqa: E402
from reporting import machine, print_json, print_report  # noqa: E402

from fdrl_mpi.build_agent import learner_class, make_environment, make_model  # noqa: E402
from fdrl_mpi.config import EnvironmentConfig  # noqa: E402
from fdrl_mpi.federation.evaluation import Evaluation  # noqa: E402
from fdrl_mpi.rl.denormals import flush_denormals  # noqa: E402
from fdrl_mpi.rl.hyperparameters import (  # noqa: E402
    DQNConfig,
    LearnerConfig,
    PPOConfig,
    QNetworkConfig,
    SACConfig,
)
from fdrl_mpi.rl.learner import Budget  # noqa: E402
from fdrl_mpi.rl.objective import LocalObjective  # noqa: E402
from fdrl_mpi.streams import stream  # noqa: E402

EPISODES = 50
COLUMNS = {
    "learner": "learner",
    "environment": "environment",
    "env_steps": "steps",
    "return": "ours",
    "deviation": "+- of seeds",
    "stable-baselines3": "SB3 (zoo)",
    "CleanRL": "CleanRL",
}


@dataclass(frozen=True)
class Case:
    """One learner on one environment; the step size falls to 0 where `anneals`."""

    environment: str
    num_envs: int
    env_steps: int
    settings: LearnerConfig
    rounds: int
    anneals: bool = False


_CLEANRL_DQN = DQNConfig(learning_starts=10_000, train_every=10, epsilon_steps=250_000)
_ZOO_DQN = {
    "lr": 6.3e-4,
    "batch_size": 128,
    "buffer_size": 50_000,
    "learning_starts": 128,
    "train_every": 4,
    "gradient_steps": 4,
    "target_every": 250,
    "epsilon_end": 0.1,
    "epsilon_steps": 12_000,
    "loss": "huber",
    "max_gradient_norm": 10.0,
    "network": QNetworkConfig(hidden=(256, 256)),
}
CASES = {
    "ppo": [
        Case("CartPole-v1", 4, 499_712, PPOConfig(), 976, anneals=True),
        Case("Acrobot-v1", 4, 499_712, PPOConfig(), 976, anneals=True),
        Case(
            "gym:LunarLander-v3",
            16,
            999_424,
            PPOConfig(
                num_steps=1024,
                num_minibatches=256,
                gae_lambda=0.98,
                gamma=0.999,
                lr=3e-4,
                clip_value=False,
            ),
            61,
        ),
        Case(
            "Pendulum-v1",
            4,
            102_400,
            PPOConfig(
                num_steps=1024,
                num_minibatches=64,
                num_epochs=10,
                gamma=0.9,
                lr=1e-3,
                entropy_coefficient=0.0,
                clip_value=False,
            ),
            25,
        ),
    ],
    "dqn": [
        Case(
            "CartPole-v1",
            1,
            500_000,
            DQNConfig(learning_starts=10_000, train_every=10, epsilon_steps=250_000),
            50,
        ),
        Case("Acrobot-v1", 1, 100_000, DQNConfig(**_ZOO_DQN), 25),
        Case("gym:LunarLander-v3", 1, 100_000, DQNConfig(**_ZOO_DQN), 25),
    ],
    "sac": [Case("Pendulum-v1", 1, 20_000, SACConfig(lr=1e-3, learning_starts=256, policy_frequency=1), 20)],
}


def main() -> None:
    """Train, play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--learner", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    options = parser.parse_args()
    flush_denormals()
    rows = [_row(name, case, options.seeds) for name in options.learner for case in CASES[name]]
    print_report(f"Returns of {EPISODES} greedy episodes", rows, COLUMNS, f"means of {options.seeds} seeds")
    if options.json:
        print_json(machine(), rows)


def _row(learner: str, case: Case, seeds: int) -> dict[str, Any]:
    means = [_return(learner, case, seed) for seed in range(1, seeds + 1)]
    known = {}
    for program in ("stable-baselines3", "CleanRL"):
        name = case.environment.removeprefix("gym:")
        entry = KNOWN_RETURNS.get((program, learner, name)) or KNOWN_RETURNS.get(
            (program, learner, name.replace("v3", "v2"))
        )
        known[program] = f"{entry.mean:g} +- {entry.deviation:g} ({entry.env_steps:,})" if entry else "-"
    deviation = float(np.std(means, ddof=1)) if seeds > 1 else nan
    named = {"learner": learner, "environment": case.environment, "env_steps": case.env_steps}
    return named | {"return": float(np.mean(means)), "deviation": deviation} | known


def _return(learner: str, case: Case, seed: int) -> float:
    place = EnvironmentConfig(id=case.environment)
    environment = make_environment(place, [{}] * case.num_envs)
    model = make_model(case.settings, seed, environment, "numpy", "cpu")
    agent = learner_class(learner)(case.settings, model, environment, LocalObjective())
    work = case.env_steps // case.rounds
    for round in range(1, case.rounds + 1):
        share = 1.0 - (round - 1) / case.rounds if case.anneals else 1.0
        stats = agent.train(Budget(work, share * case.settings.lr, stream(seed, "train", 1, round)))
        assert stats.env_steps == work, "a round is made of whole rollouts"
    worlds = make_environment(place, [{}] * EPISODES)
    own = make_model(case.settings, seed, worlds, "numpy", "cpu")
    return float(Evaluation(worlds, own, EPISODES, seed).run(agent.params).returns.mean())


if __name__ == "__main__":
    main()
