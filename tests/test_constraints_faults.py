"""What cannot work of surviving failures is refused before anything begins."""

import pytest

from fdrl_mpi.config_file import read
from fdrl_mpi.constraints_faults import check_faults, check_validation

LAUNCHED = {"OMPI_MCA_mpi_ft_enable": "1", "OMPI_MCA_coll": "^han,adapt,hcoll,portals4"}


def _check(environ=LAUNCHED, world_size=7, **changes):
    settings = {"faults.mode": "survive"} | {key.replace("__", "."): value for key, value in changes.items()}
    return [str(problem) for problem in check_faults(read([], list(settings.items())), world_size, environ)]


def test_what_fits_is_not_refused():
    assert _check(faults__spares="5") == []
    assert _check(aggregation__server__name="adam", comm__collective="tree") == []
    assert _check(participation__deadline_s="2", participation__deadline_factor="1.5") == []
    assert _check({}, faults__mode="abort") == []


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("--with-ft ulfm", {"environ": {}}),
        ("han and adapt", {"environ": {"OMPI_MCA_mpi_ft_enable": "1"}}),
        ("han and adapt", {"environ": {"OMPI_MCA_mpi_ft_enable": "1", "OMPI_MCA_coll": "tuned,han"}}),
        ("FDRL_FAULTS", {"environ": LAUNCHED | {"FDRL_FAULTS": "rank=1,round=x"}}),
        ("8 ranks or more", {"faults__spares": "6"}),
        ("checkpoint", {"mode": "independent"}),
        ("checkpoint", {"comm__collective": "gossip"}),
        ("tree, gather, allreduce", {"aggregation__server__name": "momentum"}),
        ("no use for spares", {"faults__mode": "abort", "faults__spares": "1"}),
        ("go on without it", {"faults__mode": "abort", "participation__deadline_s": "1"}),
    ],
)
def test_what_cannot_work_is_refused_with_what_would(words, changes):
    (problem,) = _check(**changes)
    assert words in problem


def _check_validation(**changes):
    settings = [(key.replace("__", "."), value) for key, value in changes.items()]
    return [str(problem) for problem in check_validation(read([], settings))]


def test_checks_of_the_next_model_that_fit_are_not_refused():
    assert _check_validation(comm__collective="node") == []
    assert _check_validation(aggregation__validation__most_drop="5", comm__collective="allreduce") == []
    recompute = {"aggregation__validation__recompute": "true", "faults__mode": "survive"}
    assert _check_validation(comm__collective="gather", **recompute) == []
    assert _check_validation(comm__collective="tree", aggregation__rule="some:Rule", **recompute) == []
    stepping = {"aggregation__server__name": "adam", "comm__collective": "secure_ring"}
    assert _check_validation(**stepping, **recompute) == []


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("allreduce, tree or gather or secure_ring", {"aggregation__validation__most_drop": "5"}),
        ("mode = independent", {"aggregation__validation__most_drop": "5", "mode": "independent"}),
        ("faults.mode to", {"aggregation__validation__recompute": "true", "comm__collective": "gather"}),
        (
            "plain averaging",
            {
                "aggregation__validation__recompute": "true",
                "comm__collective": "tree",
                "faults__mode": "survive",
            },
        ),
        ("mirror", {"aggregation__validation__recompute": "true", "faults__mode": "survive"}),
    ],
)
def test_checks_of_the_next_model_that_cannot_work_are_refused(words, changes):
    (problem,) = _check_validation(**changes)
    assert words in problem
