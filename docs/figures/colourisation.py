"""Draws colourisation.png: grey digits coloured by every method, where each class of digits has its own colour.

The model is exact: a mixture of a Gaussian for each class, fitted to the training digits in its colour.
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

import sdediff as sd
from sdediff import inverse

# Of equal brightness, so that grey images do not give the class away.
COLOURS = torch.tensor(
    [[1.0, 0.25, 0.25], [0.25, 1.0, 0.25], [0.25, 0.25, 1.0], [0.7, 0.7, 0.1], [0.1, 0.7, 0.7], [0.7, 0.1, 0.7],
     [0.9, 0.5, 0.1], [0.1, 0.5, 0.9], [0.5, 0.9, 0.1], [0.5, 0.5, 0.5]], dtype=torch.float64,
)  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "replacement": {}, "repaint": {"resamplings": 5}, "mcg": {"scale": 0.5}, "dps": {"scale": 0.5}, "pigdm": {},
    "tmpd": {}, "diffpir": {}, "ddrm": {},
}  # fmt: skip
RANK, FLOOR = 12, 1e-3


def coloured(grey: Tensor, label: Tensor) -> Tensor:
    """Digits (B, 1, 8, 8) in [-1, 1] in the colours of their classes, (B, 3, 8, 8)."""
    return -1 + (grey.double() + 1) * COLOURS[label][:, :, None, None]


def mixture() -> sd.targets.Mixture:
    """Of each class the mean, its first principal directions, and a floor in every other direction."""
    data = sd.data("digits", "train")
    label, parts = torch.as_tensor(data.labels).long().reshape(-1), []
    for k in range(10):
        rows = coloured(data.tensor()[label == k], torch.full((int((label == k).sum()),), k)).flatten(1)
        values, vectors = torch.linalg.eigh(torch.cov(rows.T))
        parts.append((rows.mean(0), values[-RANK:].clamp(min=1e-6), vectors[:, -RANK:]))
    means, variances, bases = (torch.stack(part) for part in zip(*parts, strict=True))
    floors = torch.full((10,), FLOOR)
    return sd.targets.Mixture(torch.full((10,), 0.1), means, variances, bases, floors, shape=(3, 8, 8))


def main() -> None:
    model, data = mixture().model(sd.VP()), sd.data("digits", "test")
    every = torch.as_tensor(data.labels).long().reshape(-1)
    rows = torch.stack([(every == k).nonzero()[i, 0] for k in range(10) for i in (0, 1)])
    image, label = coloured(data.tensor()[rows], every[rows]), every[rows]
    grey = image.mean(1, keepdim=True)
    sheet = {"digits": image, "grey": grey.expand_as(image)}
    for by, options in METHODS.items():
        x = inverse.colourise(model, grey, by=by, steps=50, **options)
        hue = (x + 1).mean((2, 3)) @ COLOURS.T / COLOURS.norm(dim=1)
        error = (x.mean(1, keepdim=True) - grey).abs().max().item()
        print(
            f"{by}: {(hue.argmax(1) == label).sum()} of {len(x)} in the colour of their class, grey off by {error:.1e}"
        )
        sheet[by] = x
    pictures = torch.nn.functional.pad(torch.stack(list(sheet.values())), (1, 1, 1, 1), value=1.0)
    figure, axis = plt.subplots(figsize=(9, 4.2), constrained_layout=True)
    canvas = pictures.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    axis.imshow(((canvas + 1) / 2).clamp(0, 1))
    axis.set_yticks([10 * i + 5 for i in range(len(sheet))], list(sheet))
    axis.set_xticks([])
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
