"""Links lead somewhere, commands are understood, and what is quoted is there."""

import ast
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest

from fdrl_mpi.command_line import parse_train_arguments
from fdrl_mpi.config_file import read
from fdrl_mpi.constraints import check

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
OWN = {
    "own_environment": "heating.py",
    "own_learner": "evolution_strategy.py",
    "own_rule": "geometric_median.py",
}
FIRST = {"own_environment": "12", "own_learner": "20", "own_rule": "2"}
"""Rounds of the first command of a page: as many as its claims need."""


def blocks(text: str, language: str) -> list[str]:
    """List the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[tuple[dict[str, str], list[str]]]:
    """List the commands of a page: variables set before it, and words."""
    found = []
    for line in "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        variables = {}
        while words and re.match(r"\w+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        if words and words[0] != "cd":
            found.append((variables, words))
    return found


def headings(text: str) -> set[str]:
    """List the anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def page(name: str) -> str:
    return (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")


def test_every_link_of_a_page_leads_to_a_file_and_its_heading(pages):
    lost = []
    for name, text in pages.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", link):
                continue
            file, _, anchor = link.partition("#")
            target = (ROOT / name).parent / file if file else ROOT / name
            if not target.exists() or (anchor and anchor not in headings(target.read_text(encoding="utf-8"))):
                lost.append(f"{name}: {link}")
    assert not lost, "\n".join(lost)


def test_the_readme_leads_to_every_page(pages):
    assert [name for name in pages if name != "README.md" and f"({name})" not in pages["README.md"]] == []


def test_commands_are_understood_and_fit_together(pages, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    understood = 0
    for name, text in pages.items():
        for _, words in commands(text):
            ranks = int(words[2]) if words[:2] == ["mpirun", "-n"] else 1
            words = words[words.index("python") :]
            assert words[1] == "-m", (name, words)
            if words[2] == "fdrl_mpi.train":
                arguments = parse_train_arguments(words[3:])
                config = read(arguments.config_files, arguments.overrides)
                assert check(config, ranks, {}) == [], (name, words)
            else:
                import_module(words[2])._parse(words[3:])
            understood += 1
    assert understood >= 10


@pytest.mark.parametrize("name", OWN)
def test_what_a_page_quotes_stands_in_its_example(name):
    source = (EXAMPLES / OWN[name]).read_text(encoding="utf-8")
    quotes = blocks(page(name), "python")
    assert quotes
    assert [quote for quote in quotes if quote not in source] == []


def test_every_stream_of_draws_is_in_the_table():
    named = set(re.findall(r"`([\w/-]+)`", page("concepts").partition("| purpose |")[2].partition("\n\n")[0]))
    used = set()
    for file in (ROOT / "fdrl_mpi").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "stream":
                used.add(ast.unparse(node.args[1]).strip("f'\""))
    assert {name.replace("{name}", "NAME") for name in used - {"PURPOSE", "self._purpose"}} <= named
    purposes = [import_module(f"fdrl_mpi.{module}").PURPOSE for module in ("fine_tuning", "cross_evaluation")]
    assert {*purposes, f"{purposes[1]}/unseen", "evaluation"} <= named


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    """A copy of the examples, to run in."""
    return shutil.copytree(EXAMPLES, tmp_path_factory.mktemp("docs") / "examples")


def returns(folder: Path, run: str) -> np.ndarray:
    """Read the mean returns of the evaluated rounds."""
    with h5py.File(folder / f"runs/{run}/metrics.h5") as file:
        means = file["evaluation_return"][:].mean(axis=1)
    return means[np.isfinite(means)]


@pytest.mark.launch
@pytest.mark.parametrize("name", OWN)
def test_commands_do_what_the_page_says(name, run, examples):
    for number, (variables, words) in enumerate(commands(page(name))):
        shorter = ["--rounds", "1" if number else FIRST[name]] if "fdrl_mpi.train" in words else []
        run([*words, *([] if "FDRL_FAULTS" in variables else shorter)], examples, **variables)
    if name == "own_environment":
        costs = -returns(examples, "heating")
        assert costs[-1] < 0.6 * costs[0]
        with h5py.File(examples / "runs/heating/metrics.h5") as file:
            assert file["context_resistance"].attrs["units"] == "K/kW"
            assert len(set(file["context_resistance"][:])) == 2
    elif name == "own_learner":
        assert returns(examples, "evolution")[-1] > 475.0
        assert (examples / "runs/evolution/exported/policy.safetensors").exists()
    else:
        norms = []
        for hit in ("mean_hit", "median_hit"):
            with h5py.File(examples / f"runs/{hit}/metrics.h5") as file:
                norms.append(file["model_norm"][:])
        with h5py.File(sorted(examples.glob("runs/mean_hit/checkpoints/*/global.h5"))[-1]) as file:
            assert np.abs(file["state/params"][:]).max() > 1e30
        assert np.isinf(norms[0][-1])
        assert norms[1][-1] == pytest.approx(norms[1][-2], rel=0.1)
