"""Distributions of contexts and the draws made from them."""

import subprocess
import sys

import numpy as np
import pytest

from fdrl_mpi.envs.heterogeneity import Choice, Evenly, LogUniform, Normal, Uniform, draw_context

WORLDS = {"gravity": Uniform(low=5.0, high=15.0), "length": LogUniform(low=0.1, high=2.0)}


def test_equal_arguments_draw_equal_contexts():
    assert draw_context(WORLDS, 3, 2, 16) == draw_context(WORLDS, 3, 2, 16)


def test_another_seed_or_agent_draws_another_context():
    contexts = [draw_context(WORLDS, seed, agent, 16)["gravity"] for seed in (0, 1) for agent in (1, 2)]
    assert len(set(contexts)) == 4


def test_adding_a_name_leaves_the_others_as_they_were():
    wider = draw_context({"force_mag": Uniform(low=1.0, high=2.0), **WORLDS}, 0, 1, 16)
    del wider["force_mag"]
    assert wider == draw_context(WORLDS, 0, 1, 16)


def test_equal_distributions_of_two_names_draw_apart():
    context = draw_context({"a": WORLDS["gravity"], "b": WORLDS["gravity"]}, 0, 1, 16)
    assert context["a"] != context["b"]


def test_order_in_the_configuration_does_not_matter():
    reverse = dict(reversed(WORLDS.items()))
    assert list(draw_context(reverse, 0, 1, 16).items()) == list(draw_context(WORLDS, 0, 1, 16).items())


def test_no_heterogeneity_is_the_default_world():
    assert draw_context({}, 0, 1, 16) == {}


@pytest.mark.parametrize(
    "distribution",
    [
        Uniform(low=2.0, high=3.0),
        LogUniform(low=2.0, high=3.0),
        Normal(mean=2.5, std=5.0, low=2.0, high=3.0),
        Choice(values=(2.0, 2.25, 3.0)),
        Evenly(low=2.0, high=3.0),
    ],
)
def test_values_are_floats_within_their_bounds(distribution):
    values = [draw_context({"x": distribution}, 0, agent, 20)["x"] for agent in range(1, 41)]
    assert all(type(value) is float and 2.0 <= value <= 3.0 for value in values)
    assert len(set(values)) > 1


def test_evenly_spaced_agents_span_the_range():
    values = [draw_context({"x": Evenly(low=1.0, high=2.0)}, 0, agent, 5)["x"] for agent in range(1, 6)]
    assert values == [1.0, 1.25, 1.5, 1.75, 2.0]


def test_one_evenly_spaced_agent_is_in_the_middle():
    assert draw_context({"x": Evenly(low=1.0, high=2.0)}, 0, 1, 1) == {"x": 1.5}


def test_log_uniform_gives_equal_chances_to_equal_ratios():
    generator = np.random.default_rng(0)
    values = [LogUniform(low=0.01, high=1.0).draw(generator, 1, 1) for _ in range(2000)]
    share_below = np.mean(np.array(values) < 0.1)
    assert abs(share_below - 0.5) < 5 * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(low=2.0, high=1.0), "low = 2.0 must not be above high = 1.0"),
        (lambda: LogUniform(low=0.0, high=1.0), "low = 0.0 must be above 0"),
        (lambda: Normal(mean=0.0, std=-1.0), "std = -1.0 must not be negative"),
        (lambda: Choice(values=()), "at least one number"),
    ],
)
def test_impossible_distribution_is_refused_with_its_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_reading_a_configuration_does_not_import_numpy():
    code = "import sys, fdrl_mpi.envs.heterogeneity; sys.exit('numpy' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=60
    )
