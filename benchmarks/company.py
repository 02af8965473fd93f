"""The agents of one rank in this process: trained in turn, or together; what their networks cost at least."""

from collections.abc import Callable
from typing import Any

CARTPOLE = {"environment.id": "CartPole-v1", "learner.network.hidden": "[64, 64]"}
LEARNERS = {
    "ppo": CARTPOLE | {"learner.budget": "1024"},
    "a2c": CARTPOLE | {"learner.budget": "1000"},
    "reinforce": CARTPOLE | {"learner.budget": "16"},
    "dqn": CARTPOLE | {"learner.budget": "800", "learner.learning_starts": "200"},
    "q_learning": {"environment.id": "RandomMDP", "learner.gamma": "0.9", "learner.budget": "1000"},
}
"""What is set of each learner's configuration."""


def settings_of(learner: str, num_envs: int) -> Any:
    """Make the configuration of such agents."""
    from fdrl_mpi.config_file import read

    changes = {"learner.name": learner, "environment.num_envs": str(num_envs), **LEARNERS[learner]}
    return read([], [("environment.heterogeneity", "{}"), *changes.items()])


def passes_per_step(learner: Any) -> float:
    """Count the forward passes of a whole network that one environment step takes; a backward pass is two.

    Acting with one of two towers is half of one. PPO and A2C value each step once, and learn from it in every
    epoch; DQN learns from a batch every few steps, and passes it through the target too.
    """
    name = learner.__struct_config__.tag
    if name == "dqn":
        samples = learner.batch_size * learner.gradient_steps / learner.train_every
        return float(1.0 + (4.0 + learner.double) * samples)
    if name in ("q_learning", "reinforce"):
        return 3.5 if name == "reinforce" else 0.0
    return 1.5 + 3.0 * float(getattr(learner, "num_epochs", 1))


def gradients_of(learner: Any, num_envs: int, steps: float) -> float:
    """Count the gradients of one agent in so many environment steps, which are a round."""
    name = learner.__struct_config__.tag
    if name == "dqn":
        return float(steps / learner.train_every * learner.gradient_steps)
    if name == "reinforce":
        return float(learner.budget / learner.batch_episodes)
    each = getattr(learner, "num_epochs", 1) * getattr(learner, "num_minibatches", 1)
    return float(each * steps / (learner.num_steps * num_envs))


def make_company(
    learner: str, num_envs: int, count: int, is_together: bool, engine: str = "numpy", device: str = "cpu"
) -> Callable[[int], int]:
    """Make agents; return what trains them all for a round and counts their environment steps.

    Raises
    ------
    ValueError
        If they cannot train together on this engine, with the reason.
    """
    import numpy as np

    from fdrl_mpi.build import make_participant, make_plan, make_wire
    from fdrl_mpi.build_agent import draw_worlds, make_environment, make_model
    from fdrl_mpi.build_team import make_together, why_in_turn

    config = settings_of(learner, num_envs)
    one = make_environment(config.environment, [{}] * num_envs)
    model = make_model(config.learner, config.seed, one, "numpy", "cpu")
    wire, plan, worlds = make_wire(config, model), make_plan(config, count), draw_worlds(config, count)
    alone = ("numpy", "cpu") if is_together else (engine, device)
    participants = {}
    for agent, row in enumerate(np.zeros((count, wire.length), np.float32), 1):
        environment = make_environment(config.environment, [{}] * num_envs)
        participants[agent] = make_participant(config, wire, environment, *alone, row)
    published = dict.fromkeys(participants, model.params.copy())
    if is_together and (reason := why_in_turn(config, worlds, wire, engine, one, model)):
        raise ValueError(reason)
    together = make_together(config, worlds, one, model, engine, device)

    def train(round: int) -> int:
        budgets = {agent: plan.schedule(round, agent) for agent in participants}
        if not is_together:
            return sum(
                participants[agent].train(published[agent], budget).env_steps
                for agent, budget in budgets.items()
            )
        return sum(
            stats.env_steps
            for squad in together.squads(participants, budgets)
            for stats in together.train(squad, participants, published, budgets)
        )

    return train
