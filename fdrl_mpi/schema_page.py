"""The reference of all keys: ``python -m fdrl_mpi.schema_page > docs/configuration.md``."""

from collections.abc import Iterator, Sequence

from fdrl_mpi.config import Config
from fdrl_mpi.config_file import toml
from fdrl_mpi.schema import Key, Section, alternatives, sections

HEADING = """# Configuration

Every key of a run, as the schema in [config.py](../fdrl_mpi/config.py) says it. A key is given in a TOML file
(`--config FILE`) or on the command line (`--section.key VALUE`), which wins. `--print-config` prints a whole
configuration, and `--dry-run` says what does not fit together.

This page is made by `python -m fdrl_mpi.schema_page > docs/configuration.md`; a test keeps it current.
"""


def page() -> str:
    """Write the page."""
    others = alternatives()
    parts = [HEADING]
    for section in sections(Config()):
        parts.append(_table(section))
        parts += [_table(other, _choice(other)) for other in others if other.name == section.name]
    return "\n".join(parts)


def _choice(section: Section) -> str:
    """Name the choice that brings a table."""
    return next(str(key.value) for key in section.keys if key.name == f"{section.name}.name")


def _table(section: Section, choice: str = "") -> str:
    name = f"[{section.name}]" if section.name else "Top level"
    heading = f'`{name}` with `name = "{choice}"`' if choice else f"`{name}`" if section.name else name
    return "\n".join([f"## {heading}", "", section.title, "", *_rows(section.keys), ""])


def _rows(keys: Sequence[Key]) -> Iterator[str]:
    yield "| key | default | accepts | meaning |"
    yield "|---|---|---|---|"
    for key in keys:
        cells = f"`{key.name}`", f"`{toml(key.value)}`", key.accepts, key.description
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(page(), end="")
