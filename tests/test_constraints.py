"""Every refusal names what clashes, why, and what to choose instead; what fits is not refused."""

import pytest

import fdrl_mpi.build_rule as build_rule
from fdrl_mpi.aggregation.mean import Mean
from fdrl_mpi.aggregation.views import View
from fdrl_mpi.config_file import read
from fdrl_mpi.constraints import check

CONVOLUTIONS = ("learner.network.convolutions", "[[16, 3, 1]]")


class Picky(Mean):
    """A rule that looks at single updates and wants five of them."""

    needs = View.STACK
    min_updates = 5


def _problems(*overrides: tuple[str, str], world_size: int = 17, environ: dict[str, str] | None = None):
    return check(read([], overrides), world_size, environ or {})


def test_default_job_is_fine_on_two_to_sixty_five_ranks() -> None:
    assert [size for size in range(2, 66) if _problems(world_size=size)] == []


def test_world_of_one_rank_is_refused_with_the_command_to_use() -> None:
    (problem,) = _problems(world_size=1)
    assert "mpirun -n 17 python -m fdrl_mpi.train" in problem.remedy


def test_lone_tasks_of_a_slurm_step_are_refused_with_the_command_to_use() -> None:
    (problem,) = _problems(world_size=1, environ={"SLURM_STEP_NUM_TASKS": "17"})
    assert "17 SLURM tasks" in problem.clash
    assert "srun --mpi=pmix" in problem.remedy


@pytest.mark.parametrize(
    ("overrides", "clash", "remedy"),
    [
        ([("learner.budget", "1000")], "learner.budget = 1000", "1024"),
        ([("learner.budget", "1")], "learner.budget = 1", "1024"),
        ([("learner.num_minibatches", "3")], "learner.num_minibatches = 3", "divisor of 1024"),
        ([("mode", "centralised"), ("participation.fraction", "0.5")], "participation.fraction = 0.5", "1.0"),
        ([("learner.engine", "numpy"), ("learner.device", "cuda")], 'learner.device = "cuda"', '"torch"'),
        ([("learner.name", "q_learning"), ("learner.device", "cuda")], 'learner.device = "cuda"', '"torch"'),
        ([("learner.engine", "numpy"), ("learner.network.module", "a:B")], '"a:B"', '"torch"'),
        ([("learner.engine", "numpy"), CONVOLUTIONS], "[[16, 3, 1]]", '"torch"'),
        ([("learner.network.module", "a:B"), CONVOLUTIONS], "[[16, 3, 1]]", "into the module"),
    ],
)
def test_what_clashes_is_named_with_what_to_choose(overrides, clash: str, remedy: str) -> None:
    (problem,) = _problems(*overrides)
    assert clash in problem.clash
    assert remedy in problem.remedy
    assert problem.reason


def test_all_violations_are_collected() -> None:
    problems = _problems(("learner.budget", "1000"), ("learner.num_minibatches", "3"), world_size=1)
    assert len(problems) == 3


@pytest.fixture
def picky_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build_rule.RULES, "mean", Picky)


@pytest.mark.usefixtures("picky_rule")
def test_rule_that_needs_single_updates_is_refused_on_a_sum_and_accepted_on_a_stack() -> None:
    (problem,) = _problems(("comm.collective", "allreduce"))
    assert "comm.collective = allreduce" in problem.clash
    assert "gather" in problem.remedy
    assert _problems(("comm.collective", "gather")) == []


@pytest.mark.usefixtures("picky_rule")
@pytest.mark.parametrize(
    ("world_size", "fraction", "is_refused"), [(5, "1.0", True), (6, "1.0", False), (11, "0.4", True)]
)
def test_rule_is_held_to_the_smallest_possible_cohort(
    world_size: int, fraction: str, is_refused: bool
) -> None:
    problems = _problems(
        ("comm.collective", "gather"), ("participation.fraction", fraction), world_size=world_size
    )
    assert bool(problems) == is_refused


MEDIAN = ("aggregation.rule", "geometric_median:GeometricMedian")


@pytest.mark.parametrize(
    ("changes", "clash"),
    [
        ([("comm.collective", "tree")], "comm.collective = tree"),
        ([("mode", "independent")], "independent"),
        ([("comm.collective", "gossip")], "comm.collective = gossip"),
        ([("learner.name", "q_learning"), ("aggregation.weighting", "visits")], "weighting = visits"),
        ([("objective.control_variates", "true")], "control_variates"),
        ([("aggregation.rule_kwargs.iteration", "3")], "aggregation.rule"),
    ],
)
def test_what_a_rule_of_ones_own_does_not_go_with_is_refused(changes, clash: str) -> None:
    assert _problems(MEDIAN) == []
    problems = _problems(MEDIAN, *changes)
    assert [problem for problem in problems if clash in problem.clash], problems
    assert all(problem.reason and problem.remedy for problem in problems)


@pytest.mark.parametrize(
    ("changes", "agents", "said"),
    [
        ([("comm.gossip.graph", "hypercube")], 5, "power of 2"),
        (
            [("comm.gossip.graph", "own"), ("comm.gossip.edges", "[[1,2],[3,4]]")],
            4,
            "agent 1 is not connected",
        ),
        ([("comm.gossip.graph", "own"), ("comm.gossip.edges", "[[1,2,3]]")], 4, "does not join two"),
        (
            [("comm.gossip.graph", "own"), ("comm.gossip.matrix", "[[0.5,0.5],[0.4,0.6]]")],
            2,
            "doubly stochastic",
        ),
        ([("comm.gossip.graph", "own"), ("comm.gossip.matrix", "[[1.0]]")], 2, "2 rows of 2"),
        ([("comm.gossip.step", "0.9"), ("comm.gossip.graph", "ring")], 5, "below 1/2"),
        ([("aggregation.weighting", "samples")], 4, "equal weights"),
        ([("participation.fraction", "0.5")], 4, "equal weights"),
        ([("mode", "centralised")], 4, "nobody to mix models with"),
    ],
)
def test_gossip_that_would_not_agree_is_refused(changes, agents, said):
    gossip = [("comm.collective", "gossip"), ("aggregation.weighting", "uniform")]
    assert _problems(*gossip, world_size=agents + 1) == []
    (problem,) = _problems(*gossip, *changes, world_size=agents + 1)
    assert said in str(problem)


def test_tree_without_branches_is_refused():
    (problem,) = _problems(("comm.fan_out", "1"))
    assert "choose 2 or more" in problem.remedy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("agents_per_rank", "2")], "both say how many"),
        ([("agents", "15")], "start 16 ranks"),
        ([("agents", "100"), ("comm.collective", "gossip")], "choose 96 or 112 agents"),
        ([("agents", "100"), ("faults.mode", "survive")], "choose 96 or 112 agents"),
    ],
)
def test_agents_that_cannot_be_spread_are_refused(changes, said):
    assert _problems(("agents", "100"), world_size=17) == []
    assert any(said in str(problem) for problem in _problems(("agents", "32"), *changes, world_size=17))


@pytest.mark.parametrize(
    ("changes", "agents", "said"),
    [
        ([], 2, "a sum of one is no secret"),
        ([("comm.secure.colluders", "7"), ("comm.secure.ring_degree", "3")], 16, "4 are needed"),
        ([("comm.secure.range", "10000")], 16, "choose a smaller comm.secure.range"),
        ([("comm.secure.identity", "roster")], 16, "fdrl_mpi.roster makes one"),
        ([("participation.fraction", "0.1")], 16, "raise participation.fraction"),
        ([("participation.fraction", "0.2"), ("agents_per_rank", "4")], 8, "cohorts that may lie on 2 ranks"),
        ([("aggregation.weighting", "episodes")], 16, "lose their last bits"),
        ([("mode", "centralised")], 16, "a sum of one is no secret"),
    ],
)
def test_secure_sum_that_protects_nobody_is_refused(changes, agents, said):
    secure = [("comm.collective", "secure_ring")]
    assert _problems(*secure, world_size=17) == []
    (problem,) = _problems(*secure, *changes, world_size=agents + 1)
    assert said in str(problem)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("learner.budget", "1001", "choose a multiple of 8, for example 1000"),
        ("learner.buffer_size", "100", "cannot remember one batch"),
        ("learner.learning_starts", "255", "set learner.learning_starts to 256 or more"),
        ("learner.network.module", "mine:Module", "not one module"),
        ("objective.kl_coefficient", "0.1", "objective.proximal"),
    ],
)
def test_soft_actor_critic_that_cannot_work_is_refused(key: str, value: str, said: str) -> None:
    sac = [("learner.name", "sac"), ("environment.id", "Pendulum-v1")]
    assert _problems(*sac) == []
    [problem] = _problems(*sac, (key, value))
    assert said in str(problem)
