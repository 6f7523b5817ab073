"""Draws solvers.png: one noise taken to digits by four solvers at 5, 10 and 20 calls, and their errors by calls."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import SubFigure

import sdediff as sd

SOLVERS = {"euler": "C7", "ddim": "C0", "heun": "C1", "dpmpp_2m": "C2"}
SHOWN = (5, 10, 20)


def sheet(x: torch.Tensor) -> torch.Tensor:
    """Pictures (N, 1, H, W) side by side, N/2 in each of two rows."""
    x = torch.nn.functional.pad(x[:, 0], (1, 1, 1, 1), value=-1.0)
    rows = x.unflatten(0, (2, -1))
    return rows.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


def pictures(figure: SubFigure, model: sd.ScoreModel, noise: torch.Tensor) -> None:
    """One row a solver: the noise, and where it ends with so many calls."""
    axes = figure.subplots(len(SOLVERS), 1 + len(SHOWN))
    for row, solver in zip(axes, SOLVERS, strict=True):
        ends = [sd.sample(model, x=noise, solver=solver, calls=n) for n in SHOWN]
        for axis, x in zip(row, [noise / 2, *ends], strict=True):
            axis.imshow(sheet(x), cmap="gray_r", vmin=-1, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(solver)
    for axis, title in zip(axes[0], ("noise", *(f"{n} calls" for n in SHOWN)), strict=True):
        axis.set_title(title, fontsize=11)


def errors(figure: SubFigure, model: sd.ScoreModel, noise: torch.Tensor) -> None:
    """The median distance to the exact end of the flow, by calls."""
    exact = sd.sample(model, x=noise, solver="dpmpp_3m", calls=200)
    axis = figure.subplots()
    for solver, colour in SOLVERS.items():
        counts = [n for n in (5, 7, 9, 11, 15, 21, 31, 41) if solver != "heun" or n % 2]
        ends = [sd.sample(model, x=noise, solver=solver, calls=n) for n in counts]
        found = [(x - exact).flatten(1).norm(dim=1).median().item() / 8 for x in ends]
        print(solver, dict(zip(counts, (round(v, 4) for v in found), strict=True)))
        axis.loglog(counts, found, "o-", color=colour, label=solver, markersize=4)
    axis.set_xticks(counts := [5, 10, 20, 40], [str(n) for n in counts])
    axis.minorticks_off()
    axis.set_xlabel("calls (network evaluations)")
    axis.set_title("error of a pixel, of a range of 2", fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


def main() -> None:
    model = sd.load("digits-vp")
    noise = sd.sample(model, (96, 1, 8, 8), solver="ddim", steps=1, stop=0.999, denoise=False, seed=3)
    figure = plt.figure(figsize=(11, 3.7), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    pictures(left, model, noise[:12])
    errors(right, model, noise)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
