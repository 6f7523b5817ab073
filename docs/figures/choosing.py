"""Draws choosing.png from records of benchmarks/: errors of solvers by calls, and distances of families of samplers."""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SOLVERS = {"ddim": "C7", "heun": "C1", "dpmpp_2m": "C2", "unipc": "C0", "auto": "black"}
FAMILIES = {"ODE": "C2", "ancestral": "C0", "SDE": "C1", "with correctors": "C4"}


def record(name: str) -> list[dict[str, Any]]:
    """The rows of a record."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / name).read_text())["rows"]
    return rows


def ticks(axes: Axes, calls: list[int]) -> None:
    """Log axes with the numbers of calls."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(calls, [str(n) for n in calls])
    axes.minorticks_off()
    axes.set_xlabel("network evaluations")
    axes.grid(True, color="#dddddd")


def main() -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 3.9), constrained_layout=True)
    rows = [row for row in record("quality.json") if row["task"] == "gmm768" and row["system"] == "ours"]
    for name, colour in SOLVERS.items():
        points = sorted((row["budget"], row["error"]) for row in rows if row["name"] == name and row["error"])
        style = {"marker": "o", "markersize": 4, "linewidth": 2.2 if name == "auto" else 1.4}
        left.plot(*zip(*points, strict=True), label=name, color=colour, **style)
    ticks(left, [5, 8, 10, 15, 20, 50])
    left.set_title("gmm768: error against the exact flow", fontsize=10)
    left.legend(fontsize=9)
    rows = [r for r in record("samplers.json") if r["task"] == "digits-vp" and r["distance"].startswith("frechet")]
    for family, colour in FAMILIES.items():
        own = sorted((row["calls"], row["least"], row["most"]) for row in rows if row["family"] == family)
        calls, least, most = zip(*own, strict=True)
        right.fill_between(calls, least, most, color=colour, alpha=0.2, linewidth=0)
        right.plot(calls, least, color=colour, marker="o", markersize=4, linewidth=1.4, label=family)
    right.axhline(rows[0]["real"], color="black", linewidth=1, linestyle="--", label="real data")
    ticks(right, [5, 10, 20, 50])
    right.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    right.set_title("digits-vp: Frechet distance to the data, best and range of a family", fontsize=10)
    right.legend(fontsize=9)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
