"""The report as one HTML file that needs nothing else: no network, no script, light and dark."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from fdrl_mpi import __version__
from fdrl_mpi.record.atomic_file import replacing
from fdrl_mpi.reporting.figures import Picture, draw_pictures
from fdrl_mpi.reporting.runs import Run, same_worlds
from fdrl_mpi.reporting.tables import provenance_table, summary_table, worlds_table

FIGURES_FOLDER = "figures"

# The dark page turns the white of the figures into its own background; the rotation brings the hues back.
_STYLE = """
:root { color-scheme: light dark; --text: #222; --soft: #666; --line: #ddd; --back: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --soft: #999; --line: #333; --back: #121212; }
  img, .swatch { filter: invert(0.93) hue-rotate(180deg); }
}
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: var(--text); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin-bottom: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 0.5rem; }
p.made, figcaption { color: var(--soft); font-size: 0.9rem; }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 0.5rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { text-align: left; font-weight: 600; }
tbody th { font-weight: 400; white-space: nowrap; }
table.numbers td, table.numbers thead th + th { text-align: right; font-variant-numeric: tabular-nums; }
table.text td { overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.4em; border-radius: 2px; }
summary { cursor: pointer; margin-top: 1rem; }
pre { overflow-x: auto; font-size: 0.85rem; line-height: 1.4; }
"""


def write_report(runs: Sequence[Run], target: Path) -> list[Path]:
    """Draw the figures, write them to a folder beside `target`, and write the page.

    Returns
    -------
    list of paths
        What was written, the page first.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    folder = target.parent / FIGURES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw_pictures(runs)
    contents = {target: page(runs, pictures).encode()}
    contents |= {folder / picture.file: picture.image for picture in pictures}
    for path, content in contents.items():
        with replacing(path, durable=False) as temporary:
            temporary.write_bytes(content)
    return list(contents)


def page(runs: Sequence[Run], pictures: Sequence[Picture]) -> str:
    """Write the report of `runs`."""
    title = runs[0].label if len(runs) == 1 else f"{len(runs)} runs: {', '.join(run.label for run in runs)}"
    made = f"Report of fdrl_mpi {__version__}, made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    sections = [
        summary_table(runs),
        *[_figure(picture) for picture in pictures],
        "<h2>Worlds and returns in numbers</h2>",
        *[worlds_table(group) for group in same_worlds(runs)],
        "<h2>Where the results come from</h2>",
        provenance_table(runs),
        *[_config(run) for run in runs if run.config],
    ]
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="made">{made}</p>
{body}
</body>
</html>
"""


def _figure(picture: Picture) -> str:
    data = b64encode(picture.image).decode("ascii")
    return (
        f"<h2>{escape(picture.heading)}</h2>\n"
        f'<figure><img alt="{escape(picture.heading)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _config(run: Run) -> str:
    return (
        f"<details><summary>Configuration of {escape(run.label)}</summary>\n"
        f"<pre>{escape(run.config)}</pre></details>"
    )
