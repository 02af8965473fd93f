from pathlib import Path

import pytest

from fdrl_mpi.inspection import (
    DEFAULT_RANKS,
    HostFacts,
    Job,
    applies,
    inspect_host,
    package_state,
    version_key,
)


def host(name: str) -> HostFacts:
    return HostFacts(name, cores=4, shared_memory=0, free_disk=0, directory_error="")


def test_missing_directory_is_judged_by_its_parent_and_not_made(tmp_path: Path) -> None:
    wanted = tmp_path / "new" / "runs"
    assert inspect_host(wanted).directory_error == ""
    assert not wanted.parent.exists()


def test_ranks_are_counted_per_host() -> None:
    first, second = host("n1"), host("n2")
    assert Job(None, "", [first, second, first]).ranks_per_host() == {"n1": 2, "n2": 1}
    assert Job(None, "", [first]).ranks_per_host() == {"n1": DEFAULT_RANKS}


@pytest.mark.parametrize(
    ("marker", "extra", "expected"),
    [
        ("", "", True),
        ("", "report", False),
        (' extra == "report"', "report", True),
        (" extra == 'report'", "", False),
        (' python_version < "3.11" and extra == "report"', "report", False),
        (' python_version >= "3.11" and extra == "report"', "report", True),
        (' platform_system == "Windows"', "", False),
    ],
)
def test_condition_of_a_requirement(marker: str, extra: str, expected: bool) -> None:
    assert applies(marker, extra) is expected


def test_package_is_missing_old_or_there() -> None:
    assert package_state("no-such-package-here", "1") == ("no-such-package-here missing", False)
    assert not package_state("numpy", "999")[1]
    assert package_state("numpy", "1.0")[1]


def test_versions_compare_as_numbers() -> None:
    assert version_key("2.13.0+cpu") == (2, 13, 0)
    assert version_key("2.6") < version_key("2.13")
