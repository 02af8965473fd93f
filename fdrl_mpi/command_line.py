"""The command line of training: options, overrides of single keys, and the help made from the schema."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill

from msgspec.inspect import type_info

from fdrl_mpi.config import Config
from fdrl_mpi.config_file import ConfigError, toml
from fdrl_mpi.envs.heterogeneity import Distribution
from fdrl_mpi.problem import Problem
from fdrl_mpi.schema import Key, alternatives, sections, structures, title

_OPTIONS = {
    "--config": "FILE ...: read TOML files; a key of a later file wins over that of an earlier one; where a "
    "file or KEY chooses another learner or server, what earlier files set for the old one alone is left out",
    "--dry-run": "check the configuration against the number of ranks, say what would run, and stop",
    "--print-config": "print the complete configuration as TOML, and stop",
    "--version": "print the version, and stop",
    "--help": "print this text, and stop",
}

_USAGE = """\
usage: mpirun -n RANKS fdrl-train [--config FILE ...] [--KEY VALUE ...] [OPTION]

Train one policy with many agents: rank 0 is the root, the others are agents.

examples:
  mpirun -n 17 fdrl-train
  mpirun -n 17 fdrl-train --config configs/lunarlander.toml --learner.lr 1e-4
  mpirun -n 9 fdrl-train --run.name wide --learner.network.hidden '[256, 256]'
  mpirun -n 9 fdrl-train --environment.heterogeneity.length.high 1.2
  mpirun -n 17 fdrl-train --config configs/cartpole.toml --learner.name dqn
  fdrl-train --rounds 200 --print-config > longer.toml"""


@dataclass(frozen=True)
class TrainArguments:
    """What the command line of training asks for; the caller prints help and version, on one rank."""

    config_files: tuple[Path, ...]
    overrides: tuple[tuple[str, str], ...]
    dry_run: bool
    print_config: bool
    help: bool
    version: bool


def parse_train_arguments(argv: Sequence[str]) -> TrainArguments:
    """Sort the words after the program's name into files, overrides and switches.

    Every ``--NAME VALUE`` that is no option sets a key; `fdrl_mpi.config_file.read` refuses unknown ones. A
    value may begin with one dash, as negative numbers do.

    Raises
    ------
    ConfigError
        With every missing value, surplus word and mistyped option.
    """
    groups = _grouped(argv)
    options = {option for option, _ in groups}
    problems = [problem for option, values in groups for problem in _refusals(option, values)]
    if problems and "--help" not in options:
        raise ConfigError(problems)
    keys = [(option, values) for option, values in groups if option and option not in _OPTIONS]
    return TrainArguments(
        config_files=tuple(
            Path(file) for option, values in groups if option == "--config" for file in values
        ),
        overrides=tuple(
            (option.removeprefix("--"), value) for option, values in keys for value in values[:1]
        ),
        dry_run="--dry-run" in options,
        print_config="--print-config" in options,
        help="--help" in options,
        version="--version" in options,
    )


def _grouped(argv: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Pair each option with the words up to the next one; words before the first belong to no option."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for word in argv:
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            groups.append((option, [value] if equals else []))
        elif word == "-h":
            groups.append(("--help", []))
        else:
            groups[-1][1].append(word)
    return [group for group in groups if group != ("", [])]


def _refusals(option: str, values: Sequence[str]) -> Iterator[Problem]:
    known = option in _OPTIONS or not option
    if option == "--config":
        if not values:
            yield Problem(option, "no file is given", "write --config FILE, or several files after it")
    elif not known and (similar := get_close_matches(option, _OPTIONS, n=1, cutoff=0.8)):
        yield Problem(f"unknown option {option}", "nothing reads it", f"did you mean {similar[0]}?")
    elif not known and not values:
        remedy = f"write {option} VALUE, or {option}=VALUE where the value begins with two dashes"
        yield Problem(option, "its value is missing", remedy)
    else:
        for word in values[0 if known else 1 :]:
            remedy = "name files after --config, and quote values that hold spaces"
            yield Problem(f"unexpected word {word!r}", "it belongs to no option", remedy)


def help_text() -> str:
    """Describe the options and every key, its values and its default, wrapped to the terminal."""
    blocks = {"options": {"--KEY": "VALUE: set one of the keys below; wins over every file", **_OPTIONS}}
    sections_by_name = {section.name: section for section in sections(Config())}
    for section in sections_by_name.values():
        heading = f"[{section.name}] {section.title}" if section.name else section.title
        blocks[heading] = {f"--{key.name}": _meaning(key) for key in section.keys}
    for section in alternatives():
        default = {key.name: key.value for key in sections_by_name[section.name].keys}
        tag, *others = section.keys
        own = [key for key in others if key.name not in default or default[key.name] != key.value]
        blocks[f"[{section.name}] with --{tag.name} {tag.value}: {section.title}"] = {
            f"--{key.name}": _meaning(key) for key in own
        }
    blocks['distributions, each as {distribution = "NAME", PARAMETER = NUMBER, ...}'] = _distributions()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 80
    column = max(len(name) for rows in blocks.values() for name in rows) + 4
    lines = [_USAGE]
    for heading, rows in blocks.items():
        lines += ["", fill(heading, width)]
        lines += [_row(name, text, column, width) for name, text in rows.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, text: str, column: int, width: int) -> str:
    first = f"  {name}".ljust(column)
    return fill(text, width, initial_indent=first, subsequent_indent=" " * column, break_on_hyphens=False)


def _meaning(key: Key) -> str:
    return f"{key.description} [{key.accepts}; default {toml(key.value)}]"


def _distributions() -> dict[str, str]:
    kinds = structures(type_info(Distribution))
    parameters = {name: ", ".join(field.name for field in kind.fields) for name, kind in kinds.items()}
    return {name: f"{parameters[name]}: {title(kind.cls)}" for name, kind in kinds.items()}
