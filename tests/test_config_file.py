from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import convert
from msgspec.inspect import (
    BoolType,
    FloatType,
    IntType,
    LiteralType,
    StrType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
)

from fdrl_mpi.config import AdagradConfig, Config
from fdrl_mpi.config_file import ConfigError, differing_keys, read, to_toml, toml
from fdrl_mpi.envs.heterogeneity import Choice, Normal, Uniform
from fdrl_mpi.rl.hyperparameters import DQNConfig, ReinforceConfig
from fdrl_mpi.schema import alternatives, keys

EXPERIMENTS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))
LEARNERS = [section.keys[0].value for section in alternatives() if section.name == "learner"]

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.booleans() | st.integers() | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def distributions(draw):
    low, high = sorted((draw(FINITE), draw(FINITE)))
    return draw(
        st.sampled_from(
            [
                {"distribution": "uniform", "low": low, "high": high},
                {"distribution": "normal", "mean": low, "std": abs(high), "low": low},
                {"distribution": "choice", "values": [high, low]},
                {"distribution": "evenly", "low": low, "high": high},
            ]
        )
    )


def values_of(kind: Type) -> SearchStrategy:
    match kind:
        case BoolType():
            return st.booleans()
        case IntType():
            return st.integers(min_value=kind.ge, max_value=kind.le)
        case FloatType():
            low = kind.ge if kind.gt is None else kind.gt
            high = kind.le if kind.lt is None else kind.lt
            ends = {"exclude_min": kind.gt is not None, "exclude_max": kind.lt is not None}
            return st.floats(low, high, allow_infinity=False, **ends)
        case StrType():
            return st.text(min_size=kind.min_length or 0)
        case LiteralType():
            return st.sampled_from(kind.values)
        case VarTupleType():
            return st.lists(values_of(kind.item_type), min_size=kind.min_length or 0, max_size=3)
        case TupleType():
            return st.tuples(*map(values_of, kind.item_types))
        case UnionType():
            return st.one_of(*map(values_of, kind.types))
    raise NotImplementedError(kind)


_TAGS = {section.keys[0].name for section in alternatives()}


@st.composite
def configs(draw):
    special = {
        "environment.heterogeneity": st.dictionaries(st.text(), distributions(), max_size=3),
        "environment.kwargs": st.dictionaries(st.text(), PLAIN, max_size=3),
        "aggregation.rule_kwargs": st.dictionaries(st.text(), PLAIN, max_size=3),
        "learner.kwargs": st.dictionaries(st.text(), PLAIN, max_size=3),
    }
    tree, tagged = {}, {}
    for section in draw(st.lists(st.sampled_from(alternatives()), max_size=2)):
        tag = section.keys[0]
        special[tag.name] = st.just(tag.value)
        table = tagged
        for parent in section.name.split("."):
            table = table.setdefault(parent, {})
        table["name"] = tag.value
    chosen = convert(tagged, Config)
    for dotted, key in keys(chosen).items():
        if dotted not in special:
            special[dotted] = st.just(key.value) if dotted in _TAGS else values_of(key.kind)
        *parents, name = dotted.split(".")
        table = tree
        for parent in parents:
            table = table.setdefault(parent, {})
        table[name] = draw(special[dotted])
    return convert(tree, Config)


def toml_file(folder: Path, text: str, name: str = "some.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def problems_of(*overrides, files=()):
    with pytest.raises(ConfigError) as refusal:
        read(files, overrides)
    return refusal.value.problems


@settings(deadline=None, max_examples=60)
@given(configs(), st.booleans())
def test_a_written_configuration_reads_back_equal(tmp_path_factory, config, comments):
    file = toml_file(tmp_path_factory.getbasetemp(), to_toml(config, comments))
    assert read([file], []) == config


@settings(deadline=None, max_examples=60)
@given(configs())
def test_overriding_every_key_gives_the_same_as_a_file(config):
    overrides = [(name, toml(key.value)) for name, key in keys(config).items()]
    assert read([], overrides) == config


def test_without_input_every_key_has_its_default():
    assert read([], []) == Config()


def test_later_sources_win_key_by_key(tmp_path):
    first = toml_file(tmp_path, "rounds = 7\n[learner]\nlr = 1.0\ngamma = 0.5\n", "first.toml")
    second = toml_file(tmp_path, "rounds = 8\n[learner]\nlr = 2.0\n", "second.toml")
    config = read([first, second], [("learner.lr", "3"), ("learner.network", "{shared = true}")])
    assert (config.rounds, config.learner.gamma, config.learner.lr) == (8, 0.5, 3.0)
    assert config.learner.network.shared
    assert config.learner.network.hidden == Config().learner.network.hidden


def test_another_kind_leaves_behind_what_it_lacks(tmp_path):
    first = toml_file(
        tmp_path,
        "learner.clip_range = 0.1\nlearner.gamma = 0.5\nlearner.network.shared = true\n",
        "first.toml",
    )
    second = toml_file(tmp_path, '[learner]\nname = "dqn"\nbatch_size = 7\n', "second.toml")
    for files, overrides in (([first, second], []), ([first], [("learner.name", "dqn")])):
        learner = read(files, overrides).learner
        assert isinstance(learner, DQNConfig)
        assert learner.gamma == 0.5
        assert learner.batch_size == (DQNConfig().batch_size if overrides else 7)
        assert learner.network == DQNConfig().network


def test_another_server_keeps_what_both_have(tmp_path):
    file = toml_file(tmp_path, '[aggregation.server]\nname = "yogi"\nbeta_1 = 0.5\nbeta_2 = 0.6\n')
    server = read([file], [("aggregation.server.name", "adagrad")]).aggregation.server
    assert server == AdagradConfig(beta_1=0.5)


def test_another_distribution_leaves_behind_what_it_lacks():
    name = "environment.heterogeneity.gravity"
    overrides = [(f"{name}.distribution", "choice"), (f"{name}.values", "[3]")]
    assert read([], overrides).environment.heterogeneity["gravity"] == Choice(values=(3.0,))


def test_a_budget_in_steps_is_no_budget_in_episodes(tmp_path):
    file = toml_file(tmp_path, "learner.budget = 4096")
    assert read([file], [("learner.name", "reinforce")]).learner.budget == ReinforceConfig().budget
    assert read([file], [("learner.name", "a2c")]).learner.budget == 4096


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_reads_with_every_learner(experiment):
    for learner in ("ppo", *LEARNERS):
        assert read([experiment], [("learner.name", learner)]).algorithm == learner


def test_what_a_kind_lacks_is_refused_where_it_is_set_with_the_kind_or_later(tmp_path):
    both = toml_file(tmp_path, 'learner.clip_range = 0.1\nlearner.name = "dqn"\n')
    name, clip = ("learner.name", "dqn"), ("learner.clip_range", "0.1")
    for files, overrides in (([both], []), ([both], [name]), ([], [name, clip]), ([], [clip, name])):
        [problem] = problems_of(*overrides, files=files)
        assert problem.clash == "unknown key `learner.clip_range`"


def test_what_no_kind_has_is_refused_however_early(tmp_path):
    file = toml_file(tmp_path, "learner.clip_rang = 0.1\nlearner.clip_value = true\n")
    [problem] = problems_of(("learner.name", "dqn"), files=[file])
    assert problem.clash == "unknown key `learner.clip_rang`"


@pytest.mark.parametrize(
    ("chosen", "key", "owner", "remedy"),
    [
        ("learner.name = dqn", "learner.clip_range", "learner.name = ppo", "or choose learner.name = ppo"),
        (
            "aggregation.server.name = adam",
            "aggregation.server.beta",
            "aggregation.server.name = momentum",
            "or did you mean `aggregation.server.beta_1` or `aggregation.server.beta_2`?",
        ),
        (
            "learner.name = q_learning",
            "learner.share",
            "learner.name = ppo or a2c or dqn or reinforce or sac or svrpg or own",
            "or choose learner.name = ppo or a2c or dqn or reinforce or sac or svrpg or own",
        ),
        (
            "learner.name = dqn",
            "learner.network.bounded",
            "learner.name = ppo or a2c or reinforce or svrpg or own",
            "or choose learner.name = ppo or a2c or reinforce or svrpg or own",
        ),
        (
            "environment.heterogeneity.gravity.distribution = uniform",
            "environment.heterogeneity.gravity.std",
            "environment.heterogeneity.gravity.distribution = normal",
            "or choose environment.heterogeneity.gravity.distribution = normal",
        ),
    ],
)
def test_a_key_of_another_kind_is_refused_with_whose_it_is(chosen, key, owner, remedy):
    [problem] = problems_of(tuple(chosen.split(" = ")), (key, "3"))
    assert problem.clash == f"unknown key `{key}`"
    assert problem.reason == f"it belongs to {owner}"
    assert problem.remedy == f"leave it out, {remedy}"


def test_a_later_file_replaces_tables_with_free_keys(tmp_path):
    head = "[environment.heterogeneity]\n"
    first = toml_file(tmp_path, head + 'a = {distribution = "uniform", low = 0, high = 1}\n', "first.toml")
    second = toml_file(tmp_path, head + 'b = {distribution = "normal", mean = 0, std = 1}\n', "second.toml")
    assert read([first, second], []).environment.heterogeneity == {"b": Normal(mean=0.0, std=1.0)}


def test_an_override_of_one_world_parameter_leaves_the_others():
    name = "environment.heterogeneity.gravity"
    expected = Config().environment.heterogeneity
    whole = read([], [(name, '{distribution = "normal", mean = 9.8, std = 1}')])
    assert whole.environment.heterogeneity == expected | {"gravity": Normal(mean=9.8, std=1.0)}
    part = read([], [(f"{name}.high", "6")])
    assert part.environment.heterogeneity == expected | {"gravity": Uniform(low=5.0, high=6.0)}


def test_worlds_can_be_made_identical_by_an_override(tmp_path):
    file = toml_file(tmp_path, 'environment.heterogeneity.g = {distribution = "choice", values = [1]}')
    assert read([file], [("environment.heterogeneity", "{}")]).environment.heterogeneity == {}


def test_another_environment_starts_with_identical_worlds():
    pendulum = ("environment.id", "Pendulum-v1")
    gravity = ("environment.heterogeneity.gravity", '{distribution = "uniform", low = 8, high = 12}')
    assert read([], [pendulum]).environment.heterogeneity == {}
    assert read([], [gravity, pendulum]).environment.heterogeneity == {"gravity": Uniform(low=8.0, high=12.0)}
    assert read([], [("environment.id", "CartPole-v1")]) == Config()


def test_constructor_arguments_are_reached_one_by_one():
    overrides = [("environment.kwargs.max_episode_steps", "200"), ("environment.kwargs.mode", "fast")]
    assert read([], overrides).environment.kwargs == {"max_episode_steps": 200, "mode": "fast"}


@pytest.mark.parametrize("text", ["2024", "true", "2024-01-01", "[1]", '"quoted"', "a b", "1\nrounds = 3"])
def test_a_key_that_holds_text_takes_it_as_it_stands(text):
    assert read([], [("run.name", text)]).run.name == text.strip('"')


def test_whole_numbers_are_accepted_for_numbers():
    lr = read([], [("learner.lr", "1")]).learner.lr
    assert isinstance(lr, float)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("learner.lr", "abc", "a number above 0"),
        ("learner.lr", "0", "a number above 0"),
        ("learner.lr", "nan", "a number above 0"),
        ("learner.lr", "inf", "a number above 0"),
        ("learner.lr", "true", "a number above 0"),
        ("learner.gamma", "1.5", "a number of at least 0, up to 1"),
        ("rounds", "2.5", "a whole number of at least 1"),
        ("rounds", "true", "a whole number of at least 1"),
        ("seed", "9" * 5000, "a whole number of at least 0"),
        ("learner.clip_value", "1", "true or false"),
        ("learner.network.hidden", "[64, 0]", "a list, each item a whole number of at least 1"),
        ("learner.network.hidden", "64", "a list, each item a whole number of at least 1"),
        ("comm.collective", "gathr", "one of allreduce, auto, gather, gossip, node, secure_ring, tree"),
        ("learner.name", "pppo", "one of ppo"),
        ("run.name", "", "text that is not empty"),
        ("learner", "ppo", "a table"),
        ("environment.heterogeneity", "3", "a table"),
        ("environment.heterogeneity.gravity", "3", "a table"),
        ("environment.heterogeneity.gravity.low", "-inf", "a number"),
        ("environment.heterogeneity.gravity.distribution", "unifrom", "one of uniform, log_uniform"),
        ("environment.kwargs.day", "2024-01-01", "a table"),
        ("environment.kwargs.nested", "{x = [nan]}", "a table"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_expected(key, text, expected):
    [problem] = problems_of((key, text))
    assert problem.clash.startswith((f"{key} = ", "environment.kwargs = "))
    assert f"expected {expected}" in problem.reason
    assert problem.remedy


@pytest.mark.parametrize(
    ("key", "text", "word"),
    [
        ("comm.collective", "gathr", "gather"),
        ("learner.name", "pppo", "ppo"),
        ("learner.name", "DQN", "dqn"),
        ("environment.heterogeneity.gravity.distribution", "unifrom", "uniform"),
    ],
)
def test_a_mistyped_choice_gets_the_nearest(key, text, word):
    [problem] = problems_of((key, text))
    assert problem.remedy == f"did you mean {word}?"


def test_a_choice_like_none_is_refused_with_one_list_of_them():
    [problem] = problems_of(("learner.name", "alphago"))
    assert str(problem).count("q_averaging") == 1


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learner.lrr", "`learner.lr`"),
        ("learner.gama", "`learner.gamma`"),
        ("lr", "`learner.lr` or `aggregation.server.lr`"),
        ("my.lr", "`learner.lr` or `aggregation.server.lr`"),
        ("environment.num-envs", "`environment.num_envs`"),
        ("every", "`evaluation.every` or `checkpoint.every`"),
        ("round", "`rounds`"),
        ("environment.heterogeneity.gravity.hihg", "`environment.heterogeneity.gravity.high`"),
    ],
)
def test_an_unknown_key_gets_what_may_be_meant(key, meant):
    [problem] = problems_of((key, "3"))
    assert problem.clash == f"unknown key `{key}`"
    assert problem.remedy == f"did you mean {meant}?"


def test_a_mistyped_section_is_reported_once(tmp_path):
    file = toml_file(tmp_path, "[lerner]\nlr = 1\ngamma = 1\n")
    [problem] = problems_of(files=[file])
    assert (problem.clash, problem.remedy) == ("unknown key `lerner`", "did you mean `learner`?")


def test_an_unbounded_normal_may_be_written_out():
    text = '{distribution = "normal", mean = 0, std = 1, low = -inf, high = inf}'
    config = read([], [("environment.heterogeneity", f"{{x = {text}}}")])
    assert config.environment.heterogeneity["x"] == Normal(mean=0.0, std=1.0, low=-inf, high=inf)


@pytest.mark.parametrize(
    ("text", "clash", "reason"),
    [
        ("{low = 1, high = 2}", "{low = 1, high = 2}", "`distribution` is missing"),
        ('{distribution = "uniform", low = 1}', ".high is missing", "it has no default"),
        (
            '{distribution = "uniform", low = 3, high = 2}',
            "low = 3",
            "low = 3.0 must not be above high = 2.0",
        ),
        ('{distribution = "choice", values = []}', "values = []", "values must hold at least one number"),
    ],
)
def test_an_unusable_distribution_is_refused(text, clash, reason):
    [problem] = problems_of(("environment.heterogeneity.x", text))
    assert problem.clash.startswith("environment.heterogeneity.x")
    assert clash in problem.clash
    assert problem.reason == reason


def test_all_problems_are_reported_at_once(tmp_path):
    broken = toml_file(tmp_path, "rounds = 3\nseed = \n", "broken.toml")
    wrong = toml_file(tmp_path, 'rounds = "many"\n[learner]\nlr = -1\nlrr = 1\n', "wrong.toml")
    files = [broken, tmp_path / "none.toml", tmp_path, wrong]
    text = "\n".join(map(str, problems_of(("comm.collective", "bus"), files=files)))
    for part in (
        "broken.toml: not TOML: Invalid value (at line 2,",
        "none.toml: No such file or directory",
        "Is a directory",
        'rounds = "many": expected a whole number of at least 1',
        "learner.lr = -1: expected a number above 0",
        "unknown key `learner.lrr`",
        'comm.collective = "bus": expected one of allreduce, auto, gather, gossip, node, secure_ring, tree',
    ):
        assert part in text


def test_equal_configurations_differ_in_nothing():
    assert differing_keys(Config(), read([], [])) == []


def test_differing_keys_are_dotted_leaves():
    other = read([], [("learner.network.hidden", "[3]"), ("learner.lr", "1"), ("rounds", "3")])
    assert differing_keys(Config(), other) == ["rounds", "learner.lr", "learner.network.hidden"]
