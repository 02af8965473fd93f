"""The pictures of `scaling.py`: how speed grows with ranks, and where the time of a round goes."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, PercentFormatter
from round_model import PARTS
from scaling_runs import Table
from scaling_tables import CORE_EACH, HERE, SERIES, Tables

from fdrl_mpi.record.atomic_file import replacing
from fdrl_mpi.reporting.style import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    png,
    settings,
)
from fdrl_mpi.reporting.units import SECONDS, quantity

PART_COLOURS = dict(zip(PARTS, (SKY, ORANGE, PURPLE, VERMILION, GREY), strict=True))
COLOURS = {"node": BLUE, "tree": VERMILION, "allreduce": GREEN, "gather": PURPLE, "secure_ring": ORANGE}
FEWEST_BARS, MOST_BARS = 4, 8


def draw(tables: Tables, cores: int, folder: Path) -> list[Path]:
    """Write ``efficiency.png`` and ``phases.png``; return their paths."""
    with settings():
        images = {"efficiency.png": _efficiency(tables, cores), "phases.png": _phases(tables)}
    for name, image in images.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(image)
    return [folder / name for name in images]


def _efficiency(tables: Tables, cores: int) -> bytes:
    """Draw a row for each series: speed-up and efficiency here, and efficiency with a core for each rank."""
    figure = new_figure(6.4)
    figure.get_layout_engine().set(wspace=0.04, hspace=0.06)
    for series, row in zip(SERIES, figure.subplots(2, 3), strict=True):
        measured = [one for one in tables.measured if one["series"] == series]
        here, beyond = (
            [one for one in tables.predicted if (one["series"], one["place"]) == (series, place)]
            for place in (HERE, CORE_EACH)
        )
        if not measured:
            for axes in row:
                axes.set_axis_off()
            continue
        for axes, quantity_name in ((row[0], "speed_up"), (row[1], "efficiency")):
            _lines(axes, here, quantity_name, "--", ".")
            _lines(axes, measured, quantity_name, "", "o")
        ideal = {one["ranks"]: one["ideal_speed_up"] for one in measured}
        row[0].plot(sorted(ideal), [ideal[ranks] for ranks in sorted(ideal)], color=GREY)
        _lines(row[2], beyond, "efficiency", "--", ".")
        row[0].set_title(f"{series}: speed-up on {cores} cores")
        row[0].set_ylabel("steps/s over those of the first row")
        row[1].set_title(f"{series}: efficiency on {cores} cores")
        row[2].set_title(f"{series}: efficiency, a core a rank")
        for axes in row[1:]:
            axes.axhline(1.0, color=GREY)
            axes.set_ylabel("speed-up over cores in use")
        for axes in row:
            axes.set_ylim(bottom=0.0)
            axes.set_xlabel("ranks with an agent each")
            _label_ranks(axes)
    names = dict.fromkeys(one["collective"] for one in tables.measured)
    handles = [Patch(color=COLOURS[name], label=name) for name in names]
    handles += [
        Line2D([], [], color=DARK, linestyle="", marker="o", label="measured"),
        Line2D([], [], color=DARK, linestyle="--", label="model"),
        Line2D([], [], color=GREY, label="ideal"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return png(figure)


def _label_ranks(axes: Axes) -> None:
    """Make the horizontal axis one of powers of 2, written out."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(2, numticks=MOST_BARS))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%d"))
    axes.minorticks_off()


def _lines(axes: Axes, rows: Table, column: str, style: str, marker: str) -> None:
    for name in dict.fromkeys(row["collective"] for row in rows):
        some = sorted((row["ranks"], row[column]) for row in rows if row["collective"] == name)
        axes.plot(*zip(*some, strict=True), linestyle=style, marker=marker, color=COLOURS[name])


def _phases(tables: Tables) -> bytes:
    """Draw the shares of a round in panels: each collective in both series, its prediction, hosted agents."""
    panels: list[list[tuple[str, str, Table]]] = []
    for name in dict.fromkeys(row["collective"] for row in tables.measured):
        measured = [
            (f"{name}, {series}, measured", "ranks with an agent each", _some(tables.measured, series, name))
            for series in SERIES
        ]
        beyond = [row for row in _some(tables.predicted, "weak", name) if row["place"] == CORE_EACH]
        panels.append([*measured, (f"{name}, weak, model", "ranks with a core each", beyond)])
    hosted = [row for row in tables.measured if row["series"] == "hosted"]
    if hosted:
        title = f"{hosted[0]['collective']}, several agents on each of {hosted[0]['ranks']} ranks"
        panels.append([(title, "agents", hosted)])
    figure = new_figure(0.5 + 2.5 * len(panels))
    for row, line in zip(figure.subplots(len(panels), 3, squeeze=False), panels, strict=True):
        for axes in row[len(line) :]:
            axes.set_axis_off()
        for axes, (title, unit, rows) in zip(row, line, strict=False):
            axes.set_title(title)
            _stack(axes, unit, rows)
        row[0].set_ylabel("share of the round")
    handles = [Patch(color=PART_COLOURS[part], label=part.removesuffix("_s")) for part in PARTS]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return png(figure)


def _some(rows: Table, series: str, name: str) -> Table:
    return [row for row in rows if (row["series"], row["collective"]) == (series, name)]


def _stack(axes: Axes, unit: str, rows: Table) -> None:
    """Pile up the parts, a bar a row; below it the time of the round. A part below 0 has no height."""
    shown = rows[:: -(-len(rows) // MOST_BARS)] if rows else rows
    heights = [[max(row[part], 0.0) for part in PARTS] for row in shown]
    totals = [sum(parts) for parts in heights]
    bottoms = [0.0] * len(shown)
    for number, part in enumerate(PARTS):
        shares = [parts[number] / total for parts, total in zip(heights, totals, strict=True)]
        axes.bar(range(len(shown)), shares, bottom=bottoms, color=PART_COLOURS[part])
        bottoms = [bottom + share for bottom, share in zip(bottoms, shares, strict=True)]
    labels = [f"{row[unit.split()[0]]}\n{_short(row['round_s'])}" for row in shown]
    axes.set_xticks(range(len(shown)), labels)
    axes.set_xlabel(f"{unit}, time of a round")
    axes.set_xlim(-0.6, max(len(shown), FEWEST_BARS) - 0.4)
    axes.set_ylim(0.0, 1.0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(visible=False, axis="x")


def _short(seconds: float) -> str:
    """Write a time with two digits, value above unit."""
    number, unit = quantity(float(f"{seconds:.2g}"), SECONDS).split(" ")
    return f"{number}\n{unit}"
