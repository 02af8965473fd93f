"""The run of a configuration in one process: what any number of ranks must come to."""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy

import numpy as np

from fdrl_mpi.aggregation.weighting import WEIGHTINGS
from fdrl_mpi.arrays import State
from fdrl_mpi.build import make_aggregator, make_participant, make_plan, make_server, make_wire
from fdrl_mpi.build_agent import draw_worlds, make_environment, make_model
from fdrl_mpi.config import Config
from fdrl_mpi.envs.vector import VectorEnv
from fdrl_mpi.federation.participant import Participant
from fdrl_mpi.federation.reference import reference_round

Agents = Callable[[int], Collection[int]]


def oracle(
    config: Config,
    num_agents: int,
    rounds: int | None = None,
    took_part: Agents | None = None,
    trained_in_vain: Agents = lambda round: (),
    refused: Collection[int] = (),
    replaced: Mapping[int, Mapping[int, int]] | None = None,
) -> np.ndarray:
    """Make the run in this process; return what is published last.

    Parameters
    ----------
    rounds : int, optional
        The configuration's, if not given.
    took_part : callable, optional
        Maps a round to the agents whose updates count, if not those that the configuration draws.
    trained_in_vain : callable
        Maps a round to agents that have trained for it, but whose updates do not count.
    refused : collection of int
        Rounds whose model is not taken.
    replaced : mapping, optional
        By round, agents that begin it with what they had saved, by id: the round of that, 0 for nothing.
    """
    worlds = draw_worlds(config, num_agents)

    def environment_of(agent: int) -> VectorEnv:
        return make_environment(config.environment, [worlds[agent - 1]] * config.environment.num_envs)

    model = make_model(config.learner, config.seed, environment_of(1), "numpy", "cpu")
    wire, plan = make_wire(config, model), make_plan(config, num_agents)

    def make(agent: int) -> Participant:
        """Make an agent as it begins."""
        environment, row = environment_of(agent), np.zeros(wire.length, np.float32)
        return make_participant(config, wire, environment, "numpy", "cpu", row)

    participants = {agent: make(agent) for agent in range(1, num_agents + 1)}
    saved = {0: _states(participants)} if replaced else {}
    params, server = wire.first(model.params), make_server(config, wire, num_agents)
    for round in range(1, (config.rounds if rounds is None else rounds) + 1):
        for agent, source in (replaced or {}).get(round, {}).items():
            state = saved[source][agent]
            participants[agent] = make(agent)
            participants[agent].set_state(deepcopy(state))
            if plan.saves(round - 1):  # those that are left save it once more
                saved[round - 1][agent] = state
        for agent in trained_in_vain(round):
            participants[agent].train(params, plan.schedule(round, agent))
        params = reference_round(
            participants,
            params,
            round,
            took_part or plan.participation,
            plan.schedule,
            WEIGHTINGS[config.aggregation.weighting],
            make_aggregator(config, wire),
            server,
            round in refused,
        )
        if replaced and plan.saves(round):
            saved[round] = _states(participants)
    return params


def _states(participants: Mapping[int, Participant]) -> dict[int, State]:
    return {agent: deepcopy(participant.get_state()) for agent, participant in participants.items()}
