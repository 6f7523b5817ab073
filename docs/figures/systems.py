"""Draws systems.png: ten samples of each system in the package, a row each, by its own sampler."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import sdediff as sd

SAMPLERS: dict[str, dict[str, Any]] = {
    "digits-ncsn": {"solver": sd.solver("annealed_langevin", n=20, step_size=0.232), "grid": "knots"},
    "digits-ncsnv2": {"solver": sd.solver("annealed_langevin", n=8, step_size=0.360), "grid": "knots"},
    "digits-ddpm": {"solver": "ddpm", "calls": 100},
    "digits-iddpm": {"solver": sd.solver("ancestral", variance="learned_range"), "calls": 100},
    "digits-iddpm-levels": {"solver": sd.solver("ancestral", variance="learned_range"), "calls": 100},
    "digits-vp": {"solver": "reverse_diffusion", "calls": 100},
    "digits-vp-likelihood": {"solver": "reverse_diffusion", "calls": 100},
    "digits-subvp": {"solver": "euler_maruyama", "calls": 100},
    "digits-ve": {"solver": "predictor_corrector", "calls": 100},
    "digits-vdm": {"solver": "ancestral", "calls": 100},
    "digits-flow": {"solver": "euler", "calls": 50},
    "digits-edm": {"solver": "heun", "grid": "karras", "calls": 35},
    "digits-cond": {"solver": "heun", "grid": "karras", "calls": 35, "cond": {"label": torch.arange(10)}},
}

CLIPPED = ("digits-ddpm", "digits-iddpm", "digits-iddpm-levels")  # x0 within the data's range, as their papers' code


def main() -> None:
    names = [name for name in SAMPLERS if name in sd.models()]
    figure, axes = plt.subplots(len(names), 1, figsize=(5.4, 0.5 * len(names)), constrained_layout=True)
    for axis, name in zip(axes, names, strict=True):
        model = sd.load(name)
        low, high = model.card["data"]["range"]
        if name in CLIPPED:
            model = sd.guidance.clip(model, low, high)
        x = sd.sample(model, (10, 1, 8, 8), **SAMPLERS[name])
        row = torch.nn.functional.pad((x - low) / (high - low), (1, 1, 0, 0), value=0.0)[:, 0]
        axis.imshow(row.permute(1, 0, 2).flatten(1), cmap="gray_r", vmin=0, vmax=1)
        axis.set_ylabel(name.removeprefix("digits-"), rotation=0, ha="right", va="center", fontsize=8)
        axis.set(xticks=[], yticks=[])
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
