"""Every command line of the package is installed as a command, and README names it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = [
    module.stem
    for module in sorted((ROOT / "fdrl_mpi").glob("*.py"))
    if re.search(r"^def main\(", module.read_text(encoding="utf-8"), re.MULTILINE)
]


def test_every_module_with_a_main_is_installed_as_a_command() -> None:
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert installed == {f"fdrl-{module}": f"fdrl_mpi.{module}:main" for module in MODULES}


def test_readme_describes_every_command() -> None:
    assert set(re.findall(r"^\| `python -m fdrl_mpi\.(\w+)", README, re.MULTILINE)) == set(MODULES)
