"""The picture of `model.py`: fitted against measured, carried on, and where a secure sum's time goes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from cost_model import Fit, crypto_seconds

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {"node": "C0", "tree": "C1", "allreduce": "C2", "gather": "C3", "secure_ring": "C4"}
STYLES = {10_000: "--", 1_000_000: "-"}
MANY = np.unique(np.logspace(0.3, 6, 60).astype(int))


def draw(fits: Sequence[Fit], crypto: Mapping[str, float], rate: str, path: Path) -> None:
    """Draw three panels."""
    figure, (here, far, secure) = plt.subplots(1, 3, figsize=(14.0, 5.2), layout="constrained")
    _lines(here, [one for one in fits if one.place == "this node"], np.arange(2, 65))
    here.set_title("one node, ranks share its cores")
    between = [one for one in fits if one.place == "hosts"]
    _lines(far, between, MANY)
    far.set_title(f"a host an agent, {rate} links: fitted, carried on")
    ring = next((one for one in between if one.collective == "secure_ring"), None)
    if ring is not None:
        _parts(secure, ring, crypto)
    for axes in (here, far, secure):
        axes.set_xlabel("agents")
        axes.set_ylabel("seconds")
        axes.set_xscale("log", base=2 if axes is here else 10)
        axes.set_yscale("log")
        axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    figure.savefig(path, dpi=120)


def _lines(axes: Axes, fits: Sequence[Fit], agents: np.ndarray) -> None:
    for one in fits:
        for d, style in STYLES.items():
            label = f"{one.collective}, d = {d:,}"
            axes.plot(
                agents,
                [one.predict(int(k), d) for k in agents],
                style,
                color=COLOURS[one.collective],
                label=label,
            )
            points = [p for p in one.points if p["d"] == d]
            measured = [p["median_s"] for p in points]
            axes.plot(
                [p["agents"] for p in points], measured, "o", color=COLOURS[one.collective], markersize=4
            )


def _parts(axes: Axes, ring: Fit, crypto: Mapping[str, float]) -> None:
    d = 1_000_000
    axes.set_title(f"parts of a secure sum, d = {d:,}")
    for part in ("encode", "unmask", "decode"):
        axes.plot(MANY, [crypto_seconds(crypto, int(k), d)[part] for k in MANY], label=f"{part} (timed)")
    travel = [ring.predict(int(k), d) - sum(crypto_seconds(crypto, int(k), d).values()) for k in MANY]
    axes.plot(MANY, travel, label="upload and publication (fitted)")
    axes.plot(MANY, [ring.predict(int(k), d) for k in MANY], color="black", linewidth=0.8, label="all")
