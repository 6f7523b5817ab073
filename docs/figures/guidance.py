"""Draws guidance.png: digits of every class under classifier-free guidance of growing scale."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff import guidance


def main() -> None:
    model = sd.load("digits-cond")
    label = torch.arange(10).repeat_interleave(10)
    figure, axes = plt.subplots(1, 4, figsize=(11, 3), constrained_layout=True)
    for axis, scale in zip(axes, (1.0, 2.0, 4.0, 8.0), strict=True):
        guided = guidance.classifier_free(model, scale).given(label=label)
        x = sd.sample(guided, (100, 1, 8, 8), steps=10, seed=1)
        sheet = torch.nn.functional.pad(x, (1, 1, 1, 1), value=1.0).reshape(10, 10, 10, 10)
        axis.imshow(sheet.permute(0, 2, 1, 3).flatten(0, 1).flatten(1), cmap="gray_r", vmin=-1, vmax=1)
        axis.set_title(f"scale {scale:g}")
        axis.axis("off")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
