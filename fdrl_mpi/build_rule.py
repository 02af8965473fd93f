"""From the name of an aggregation rule to the rule."""

from collections.abc import Callable

from fdrl_mpi.aggregation.aggregator import Aggregator
from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.own_rule import OwnRule
from fdrl_mpi.config import AggregationConfig
from fdrl_mpi.own_class import check_members, construct, import_class
from fdrl_mpi.problem import UNLIKE, did_you_mean

RULES: dict[str, Callable[..., Aggregator]] = {"mean": Mean}


def make_rule(aggregation: AggregationConfig) -> Aggregator:
    """Make the rule that a configuration names.

    Raises
    ------
    ValueError
        If there is none, it is no rule, or it does not take, or refuses, the arguments that are given.
    """
    name, kwargs = aggregation.rule, aggregation.rule_kwargs
    if name in RULES:
        return construct(name, RULES[name], [], kwargs)
    if ":" not in name:
        raise ValueError(
            f"there is no such rule: {did_you_mean(name, RULES, UNLIKE)} There is: {', '.join(RULES)}; "
            "a class of yours is written package.module:Class"
        )
    rule = construct(name, import_class(name), [], kwargs)
    check_members(name, rule, "aggregation rule", ("needs", "min_updates", "aggregate"))
    return OwnRule(name, rule)
