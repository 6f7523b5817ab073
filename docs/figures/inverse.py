"""Draws inverse.png: digits whose right half is filled in by several methods."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff import inverse

METHODS: dict[str, dict[str, Any]] = {
    "replacement": {}, "repaint": {"resamplings": 10}, "mcg": {"scale": 0.5}, "dps": {"scale": 0.5},
    "pigdm": {"std": 0.7}, "tmpd": {}, "diffpir": {}, "ddrm": {},
}  # fmt: skip


def main() -> None:
    model, image = sd.load("digits-vp"), sd.data("digits").tensor()[:16]
    known = torch.ones(1, 8, 8, dtype=torch.bool)
    known[:, :, 4:] = False
    rows = [image, torch.where(known, image, -0.2)]
    for by, options in METHODS.items():
        x = inverse.inpaint(model, image, known, by=by, steps=40, **options)
        print(f"{by}: known pixels exact {torch.equal(x[:, known], image[:, known])}")
        rows.append(x)
    sheet = torch.nn.functional.pad(torch.stack(rows), (1, 1, 1, 1), value=1.0)[:, :, 0]
    figure, axis = plt.subplots(figsize=(9, 5.4), constrained_layout=True)
    axis.imshow(sheet.permute(0, 2, 1, 3).flatten(0, 1).flatten(1), cmap="gray_r", vmin=-1, vmax=1)
    axis.set_yticks([10 * i + 5 for i in range(len(rows))], ["digits", "known", *METHODS])
    axis.set_xticks([])
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
