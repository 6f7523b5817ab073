"""Draws image_to_image.png: digits varied by a strength, inverted and sampled back, and edited into other classes."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff import guidance, inverse


def main() -> None:
    model, conditional = sd.load("digits-vp"), sd.load("digits-cond")
    data = sd.data("digits", "test")
    image, label = data.tensor()[:16], torch.as_tensor(data.labels).long().reshape(-1)[:16]
    rows = {"digits": image}
    for strength in (0.3, 0.6, 0.9):
        rows[f"strength {strength}"] = inverse.image_to_image(model, image, strength, steps=40)
    run = {"steps": 50, "grid": "log_snr"}
    latent = inverse.invert(conditional, image, **run, cond={"label": label})
    back = sd.sample(conditional, x=latent, solver="ddim", **run, cond={"label": label})
    print(f"round trip: at most {(back - image).abs().max():.1e}")
    rows |= {"inverted": latent / latent.std(), "and back": back}
    for target in (3, 9):
        guided = guidance.classifier_free(conditional, 2.0)
        rows[f"edited into {target}"] = inverse.edit(
            conditional, image, {"label": label}, {"label": torch.full((16,), target)}, steps=50, guided=guided
        )
    sheet = torch.nn.functional.pad(torch.stack(list(rows.values())), (1, 1, 1, 1), value=1.0)[:, :, 0]
    figure, axis = plt.subplots(figsize=(9, 4.5), constrained_layout=True)
    axis.imshow(sheet.permute(0, 2, 1, 3).flatten(0, 1).flatten(1), cmap="gray_r", vmin=-1, vmax=1)
    axis.set_yticks([10 * i + 5 for i in range(len(rows))], list(rows))
    axis.set_xticks([])
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
