"""The variables of `metrics.h5`: name, dimensions, unit and meaning, in one table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One dataset of the record."""

    name: str
    dimensions: tuple[str, ...]
    units: str
    long_name: str


_AGENT = ("round", "agent")
_ROUND = ("round",)

VARIABLES: tuple[Variable, ...] = (
    # Per agent: what it did in the round.
    Variable("present", _AGENT, "1", "1 where the agent took part, 0 where it did not"),
    Variable(
        "rejected", _AGENT, "1", "1 where the agent's update held a value that is not finite and was left out"
    ),
    Variable("weight", _AGENT, "1", "weight of the agent's update in the aggregate"),
    Variable("train_return", _AGENT, "1", "mean return of the training episodes finished in the round"),
    Variable("train_length", _AGENT, "steps", "mean length of the training episodes finished in the round"),
    Variable("num_episodes", _AGENT, "episodes", "training episodes finished in the round"),
    Variable("env_steps", _AGENT, "steps", "environment steps of the round"),
    Variable("gradient_steps", _AGENT, "steps", "optimiser steps of the round"),
    Variable("policy_loss", _AGENT, "1", "mean policy loss"),
    Variable("value_loss", _AGENT, "1", "mean value loss"),
    Variable("q_loss", _AGENT, "1", "mean squared, or Huber, error of the action values"),
    Variable("q_value", _AGENT, "1", "mean value of the actions taken"),
    Variable(
        "table_error",
        _AGENT,
        "1",
        "error of the table a round begins with, where the true one is known: of action values 1 - gamma "
        "times the largest, of state values the root of the mean square",
    ),
    Variable("exact_return", _AGENT, "1", "exact discounted return of the agent's table in its world"),
    Variable("train_objective", _AGENT, "1", "mean of that of the published table over the training worlds"),
    Variable("epsilon", _AGENT, "1", "share of random actions at the end of the round"),
    Variable("entropy", _AGENT, "nats", "mean entropy of the policy"),
    Variable("approx_kl", _AGENT, "nats", "mean KL divergence from the policy that made the rollout"),
    Variable("clip_fraction", _AGENT, "1", "share of samples whose probability ratio was clipped"),
    Variable("temperature", _AGENT, "1", "weight of the entropy at the end of the round"),
    Variable("gradient_norm", _AGENT, "1", "mean L2 norm of the gradient before clipping"),
    Variable(
        "update_norm", _AGENT, "1", "L2 norm of local model minus global model, or of the gradient handed in"
    ),
    Variable("rollout_s", _AGENT, "s", "part of train_s: acting in the environments"),
    Variable("train_s", _AGENT, "s", "time of local training"),
    Variable("train_cpu_s", _AGENT, "s", "processor time of local training"),
    Variable("cpu_s", _AGENT, "s", "processor time of the agent's rank in the round, waiting included"),
    Variable("encode_s", _AGENT, "s", "time to form and weigh the update"),
    Variable("mask_s", _AGENT, "s", "time to expand the masks of a secure sum, beside the training"),
    Variable("mask_wait_s", _AGENT, "s", "part of encode_s: waiting for masks that were not ready"),
    Variable("wait_s", _AGENT, "s", "time waited for slower agents, and for others of the same rank"),
    Variable("exchange_s", _AGENT, "s", "time in the collective, publication included"),
    Variable("sent_bytes", _AGENT, "bytes", "bytes of models sent, by MPI or in shared memory"),
    Variable("received_bytes", _AGENT, "bytes", "bytes of models received, by MPI or in shared memory"),
    Variable(
        "crossing_bytes",
        _AGENT,
        "bytes",
        "bytes of models that came from another host; see comm/collective.py",
    ),
    Variable("sent_messages", _AGENT, "1", "messages with models sent; a collective call of MPI is one"),
    Variable("received_messages", _AGENT, "1", "messages with models received"),
    Variable(
        "distance_to_mean", _AGENT, "1", "L2 norm of the agent's model minus the mean of all, under gossip"
    ),
    Variable(
        "evaluation_return",
        _AGENT,
        "1",
        "mean return of the evaluated policy in the agent's world; NaN: not evaluated",
    ),
    Variable(
        "evaluation_length",
        _AGENT,
        "steps",
        "mean episode length of the evaluated policy in the agent's world",
    ),
    # Of the root.
    Variable(
        "end_wall_s",
        _ROUND,
        "s",
        "wall time from the start of training to the end of the round, summed over restarts",
    ),
    Variable("end_unix_s", _ROUND, "s", "time of day at the end of the round, seconds since 1970"),
    Variable("round_s", _ROUND, "s", "wall time of the round"),
    Variable("aggregate_s", _ROUND, "s", "time of the aggregation on the root"),
    Variable("check_s", _ROUND, "s", "time of the root spent on checks of the next model, all ranks waiting"),
    Variable("root_exchange_s", _ROUND, "s", "time of the root in the collective, publication included"),
    Variable("evaluate_s", _ROUND, "s", "time of the root spent on evaluation, while agents train"),
    Variable("evaluate_cpu_s", _ROUND, "s", "processor time of the root spent on evaluation"),
    Variable("root_cpu_s", _ROUND, "s", "processor time of the root's rank in the round, waiting included"),
    Variable("record_s", _ROUND, "s", "time of the root spent on the record"),
    Variable("checkpoint_s", _ROUND, "s", "time of all ranks spent on the checkpoint after the round"),
    Variable("root_sent_bytes", _ROUND, "bytes", "bytes of models the root sent"),
    Variable("root_received_bytes", _ROUND, "bytes", "bytes of models the root received"),
    Variable(
        "root_crossing_bytes", _ROUND, "bytes", "bytes of models that came to the root from another host"
    ),
    Variable("root_sent_messages", _ROUND, "1", "messages with models the root sent"),
    Variable("root_received_messages", _ROUND, "1", "messages with models the root received"),
    Variable("total_weight", _ROUND, "1", "sum of the agents' weights; 0 leaves the model unchanged"),
    Variable("refused", _ROUND, "1", "1 where there were updates, but no next model"),
    Variable("server_episodes", _ROUND, "episodes", "episodes the root played for its own step"),
    Variable("server_env_steps", _ROUND, "steps", "environment steps of these"),
    Variable("model_norm", _ROUND, "1", "L2 norm of the published model; NaN where there is none"),
    Variable(
        "consensus_distance",
        _ROUND,
        "1",
        "root of the mean square of distance_to_mean (Kong et al., ICML 2021)",
    ),
)

AGENT_VARIABLES: tuple[str, ...] = tuple(v.name for v in VARIABLES if v.dimensions == _AGENT)
"""Names of the variables with a value for each agent, in the order in which ranks send them."""

EXACT: tuple[str, ...] = ("table_error", "exact_return")
"""What a learner computes instead of sampling it, where its process is known: it says more than a return."""
