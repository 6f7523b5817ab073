"""Draws path_densities.png: digits of the model, and particles tilted towards bright and dark pictures."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

import sdediff as sd


def tilted(strength: float) -> Tensor:
    """64 pictures of the model's law times exp(strength brightness)."""

    def log_tilt(x: Tensor) -> Tensor:
        return strength * x.mean((1, 2, 3))

    def twist(prediction: sd.Prediction) -> Tensor:
        return log_tilt(prediction.x0) / (1 + prediction.level.kappa**2)

    particles = sd.smc(sd.load("digits-vp"), (256, 1, 8, 8), log_tilt, twist=twist, steps=40, start=0.7)
    print(strength, particles)
    return particles.draw(64)


def main() -> None:
    plain = sd.sample(sd.load("digits-vp"), (64, 1, 8, 8), solver="ancestral", steps=40)
    rows = {"the model": plain, "tilted by exp(40 b)": tilted(40.0), "tilted by exp(-40 b)": tilted(-40.0)}
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), constrained_layout=True)
    for axis, (title, x) in zip(axes, rows.items(), strict=True):
        print(f"{title}: brightness {x.mean():.3f}")
        sheet = torch.nn.functional.pad(x, (1, 1, 1, 1), value=1.0).reshape(8, 8, 10, 10)
        axis.imshow(-sheet.permute(0, 2, 1, 3).reshape(80, 80), cmap="gray_r", vmin=-1, vmax=1)
        axis.set_title(title)
        axis.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
