"""The page of all configuration keys."""

from pathlib import Path

from fdrl_mpi.schema import every_key
from fdrl_mpi.schema_page import page

PAGE = Path(__file__).parents[1] / "docs/configuration.md"


def test_the_page_in_the_repository_is_that_of_the_schema():
    assert PAGE.read_text() == page(), "run: python -m fdrl_mpi.schema_page > docs/configuration.md"


def test_the_page_names_every_key():
    assert all(f"`{name}`" in page() for name in every_key())
