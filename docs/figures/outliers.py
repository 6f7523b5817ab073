"""Draws outliers.png and prints areas under ROC curves: log p and typicality of digits against other pictures."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

import sdediff as sd
from sdediff.datasets import DataSet

N, KNOWN = 200, 400
SHOWN = ("natural patches", "stripes", "noiseless digits", "mirrored digits")


def pictures(levels: np.ndarray) -> torch.Tensor:
    """Pictures (N, 8, 8) of levels 0..16 as the network sees digits."""
    return DataSet(levels[:, None], 17, (0, 16), None, "pictures").dequantised(seed=3)


def patches(n: int) -> np.ndarray:
    """8x8 cuts at random places of two photographs in grey, a quarter of their size, in 17 levels."""
    photos = [Image.fromarray(photo).convert("L") for photo in load_sample_images().images]
    grey = np.stack([np.asarray(photo.resize((160, 107), Image.Resampling.BOX)) for photo in photos])
    rng = np.random.default_rng(0)
    places = zip(rng.integers(2, size=n), rng.integers(99, size=n), rng.integers(152, size=n), strict=True)
    return np.stack([grey[i, r : r + 8, c : c + 8] for i, r, c in places]) // 15.01


def stripes(n: int) -> np.ndarray:
    """Two full columns in the middle of an empty page, of random brightness."""
    drawn = np.zeros((n, 8, 8))
    drawn[:, :, 3:5] = np.random.default_rng(0).integers(8, 17, size=(n, 8, 2))
    return drawn


def outliers() -> dict[str, torch.Tensor]:
    """Sets of N pictures that are not digits of the kind that the network knows."""
    digits = sd.data("digits")
    other = digits.x[N : 2 * N, 0].astype(float)
    blurred = np.stack([gaussian_filter(digit, 1.5, mode="constant") for digit in other])
    return {
        "natural patches": pictures(patches(N)),
        "blurred digits": pictures(blurred.round()),
        "empty pages": pictures(np.zeros((N, 8, 8))),
        "mirrored digits": pictures(other[:, :, ::-1].copy()),
        "stripes": pictures(stripes(N)),
        "noiseless digits": (2 * torch.from_numpy(other)[:, None].float() + 1) / 17 - 1,
    }


def area(inside: torch.Tensor, outside: torch.Tensor) -> tuple[float, float]:
    """The area under the ROC curve and its standard error, from 500 draws of both sets."""
    rng, values = np.random.default_rng(0), []
    for draw in range(501):
        a, b = ((v if draw == 0 else v[rng.integers(len(v), size=len(v))]).numpy() for v in (inside, outside))
        values.append(roc_auc_score(np.r_[np.ones(len(a)), np.zeros(len(b))], np.r_[a, b]))
    return values[0], float(np.std(values[1:]))


def main() -> None:
    model, options = sd.load("digits-vp"), {"kappa": 8, "probes": 2, "rtol": 1e-2, "atol": 1e-2}
    known = sd.data("digits", "train").dequantised(seed=1, index=range(KNOWN))
    reference = sd.path_statistics(model, known, seed=1, **options)
    inside = sd.path_statistics(model, sd.data("digits").dequantised(seed=0, index=range(N)), **options)
    figure, axes = plt.subplots(2, len(SHOWN), figsize=(11, 4), constrained_layout=True)
    for name, x in outliers().items():
        outside = sd.path_statistics(model, x, **options)
        scores = {"log p": [s.log_prob for s in (inside, outside)],
                  "typicality": [s.typicality(reference) for s in (inside, outside)]}  # fmt: skip
        areas = {kind: area(*both) for kind, both in scores.items()}
        figures = "   ".join(f"{kind} {a:.3f} +- {e:.3f}" for kind, (a, e) in areas.items())
        typical = f"median p {outside.p_value.median():.2g}, dimension {outside.dimension[:, 3].median():.0f}"
        print(f"{name:18} mean log p {scores['log p'][1].mean():6.1f}   {figures}   {typical}", flush=True)
        if name not in SHOWN:
            continue
        for axis, (kind, (a, b)) in zip(axes[:, SHOWN.index(name)], scores.items(), strict=True):
            roc, b = areas[kind][0], b.clamp(min=2.5 * a.min() - 1.5 * a.max())
            both = torch.cat([a, b])
            bins = np.linspace(both.min().item(), both.max().item(), 31)
            axis.hist(a.numpy(), bins, alpha=0.6, label="digits")
            axis.hist(b.numpy(), bins, alpha=0.6, label="the others")
            axis.set(xlabel=f"{kind}: area {roc:.2f}", yticks=[], title=name if kind == "log p" else "")
    print(f"digits: mean log p {inside.log_prob.mean():.1f}, dimension {inside.dimension[:, 3].median():.0f}")
    print(f"at kappa {inside.kappa.numpy().round(3)}: {inside.dimension.median(0).values.numpy().round(1)}")
    axes[0, 0].legend(frameon=False)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
