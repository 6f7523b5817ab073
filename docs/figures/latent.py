"""Draws latent.png: pictures between two digits, by their latent codes and by the pixels."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import sdediff as sd


def main() -> None:
    model, digits = sd.load("digits-vp"), sd.data("digits")
    x = digits.dequantised()[:8]
    a, b = x[:4], x[4:]
    z = sd.encode(model, x)
    arc = sd.latent.interpolate(z[:4], z[4:], 9)
    between = sd.decode(model, arc.flatten(0, 1)).unflatten(0, arc.shape[:2])
    straight = sd.latent.interpolate(a, b, 9, sd.latent.lerp)
    print(f"round trip: largest error {(sd.decode(model, z) - x).abs().max():.4f} of a range of 2")
    figure, axes = plt.subplots(1, 2, figsize=(10, 2.7), constrained_layout=True)
    titles = ("arc between latents, decoded", "line between pictures")
    for axis, rows, title in zip(axes, (between, straight), titles, strict=True):
        sheet = torch.nn.functional.pad(rows, (1, 1, 1, 1), value=1.0)  # (9, 4, 1, 10, 10)
        axis.imshow(sheet[:, :, 0].permute(1, 2, 0, 3).flatten(0, 1).flatten(1), cmap="gray_r", vmin=-1, vmax=1)
        axis.set_title(title)
        axis.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
