from pathlib import Path

import pytest

from fdrl_mpi.command_line import help_text, parse_train_arguments
from fdrl_mpi.config import Config
from fdrl_mpi.config_file import ConfigError, read, toml
from fdrl_mpi.schema import keys


def problems_of(*argv):
    with pytest.raises(ConfigError) as refusal:
        parse_train_arguments(argv)
    return refusal.value.problems


def test_without_words_nothing_is_asked_for():
    arguments = parse_train_arguments([])
    assert arguments.config_files == arguments.overrides == ()
    assert not any([arguments.dry_run, arguments.print_config, arguments.help, arguments.version])


def test_config_takes_several_files_and_can_be_repeated():
    arguments = parse_train_arguments(["--config", "a", "b", "--dry-run", "--config=c"])
    assert arguments.config_files == (Path("a"), Path("b"), Path("c"))
    assert arguments.dry_run


@pytest.mark.parametrize("value", ["3", "-3e-4", "-x", "", "a=b", "{x = 1}"])
def test_a_value_may_follow_a_space_or_an_equals_sign(value):
    expected = (("learner.lr", value),)
    assert parse_train_arguments(["--learner.lr", value]).overrides == expected
    assert parse_train_arguments([f"--learner.lr={value}"]).overrides == expected


def test_overrides_keep_their_order():
    argv = ["--rounds", "1", "--config", "a", "--rounds", "2"]
    assert parse_train_arguments(argv).overrides == (("rounds", "1"), ("rounds", "2"))


def test_a_value_may_begin_with_two_dashes_after_an_equals_sign():
    assert parse_train_arguments(["--run.name=--x"]).overrides == (("run.name", "--x"),)


@pytest.mark.parametrize("argv", [["--learner.lr"], ["--learner.lr", "--dry-run"]])
def test_a_missing_value_is_refused(argv):
    [problem] = problems_of(*argv)
    assert str(problem).startswith("--learner.lr: its value is missing\n    write --learner.lr VALUE")


def test_config_without_a_file_is_refused():
    [problem] = problems_of("--config", "--dry-run")
    assert str(problem).startswith("--config: no file is given")


@pytest.mark.parametrize(
    "argv", [["x"], ["--dry-run", "x"], ["--dry-run=x"], ["--rounds", "3", "x"], ["--rounds=3", "x"]]
)
def test_a_surplus_word_is_refused(argv):
    [problem] = problems_of(*argv)
    assert problem.clash == "unexpected word 'x'"


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [("--dryrun", "--dry-run"), ("--confg", "--config"), ("--print_config", "--print-config")],
)
def test_a_mistyped_option_gets_the_nearest(mistyped, meant):
    [problem] = problems_of(mistyped, "x")
    assert problem.remedy == f"did you mean {meant}?"


def test_all_problems_are_reported_at_once():
    assert len(problems_of("stray", "--rounds", "--dryrun", "--seed", "1", "2", "--config")) == 5


def test_an_unknown_option_is_refused_as_a_key():
    overrides = parse_train_arguments(["--lr", "1"]).overrides
    with pytest.raises(ConfigError, match=r"unknown key `lr`.*\n.*did you mean `learner\.lr` or"):
        read([], overrides)


def test_no_key_is_taken_for_a_mistyped_option():
    for name, key in keys(Config()).items():
        argv = [f"--{name}", toml(key.value)]
        assert parse_train_arguments(argv).overrides == ((name, toml(key.value)),)


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_given_whatever_else_is_wrong(word):
    assert parse_train_arguments([word, "--learner.lr", "--dryrun"]).help


def test_help_names_every_key_with_its_default():
    words = " ".join(help_text().split())
    for name, key in keys(Config()).items():
        assert f"--{name} {key.description} [{key.accepts}; default {toml(key.value)}]" in words


def test_help_fits_a_terminal_of_80_columns(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert max(map(len, help_text().splitlines())) <= 80


def test_help_names_every_distribution():
    for name in ("uniform", "log_uniform", "normal", "choice", "evenly"):
        assert f"\n  {name} " in help_text()
