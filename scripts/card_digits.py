"""Measures an embedded digits model and writes the figures into its card (config.json and README.md).

    python scripts/card_digits.py digits-vp digits-ve digits-ddpm
    python scripts/card_digits.py digits-vp --images 600 --samples 1797 --grid samples.png

Likelihood: probability-flow ODE on the first test images, dequantised once; its error is the standard error of
the mean over images. Samples: as many as there are test images, and the training images as the yardstick.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdediff import hub
from sdediff.datasets import save_grid
from sdediff.hub.config import read
from sdediff.likelihood import bits_per_dim, log_likelihood
from sdediff.metrics.distances import frechet
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample

RANGE, LEVELS, FEATURES = (-1.0, 1.0), 17, "pca64"
SOLVER: dict[str, Any] = {"solver": "dpmpp_2m", "steps": 50}
# As published, over the angle; the end at t0 and the prior N(0, sigma_T^2 I).
PROTOCOL: dict[str, Any] = {
    "method": "ode", "rtol": 1e-4, "atol": 1e-4, "trace": "rademacher", "probes": 1, "end": "t0", "prior": "sigma",
}  # fmt: skip


def main() -> None:
    """Parses the command line and measures every model named there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="embedded names or folders")
    parser.add_argument("--images", type=int, default=600, help="test images whose likelihood is taken")
    parser.add_argument("--samples", type=int, default=1797)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grid", type=Path, help="also write a PNG grid of 100 samples there (one model)")
    given = parser.parse_args()
    for name in given.models:
        folder = Path(name) if Path(name).is_dir() else hub.ASSETS / name
        model, config = hub.load(name), read(folder)
        config["card"]["bits_per_dim"] = likelihood(model, given.images, given.seed)
        x, config["card"]["frechet"] = distance(model, given.samples, given.seed)
        hub.write_config(folder, config)
        if given.grid:
            save_grid(x[:100], given.grid)
        print(f"{name}: {hub.summary(config)}")


def likelihood(model: ScoreModel, images: int, seed: int) -> dict[str, Any]:
    """Bits/dim of the first test images by the probability-flow ODE, one Rademacher probe an image."""
    x = hub.data("digits", "test").dequantised(seed=seed, index=range(images), range=RANGE)
    start = time.perf_counter()
    result = log_likelihood(model, x, **PROTOCOL, seed=seed)
    bits = bits_per_dim(result, levels=LEVELS, range=RANGE)
    return {
        "value": bits.mean().item(), "std_error": bits.std().item() / math.sqrt(images), "images": images,
        "method": f"log_likelihood({', '.join(f'{k}={v!r}' for k, v in PROTOCOL.items())}, seed={seed}), "
        f"test images 0..{images - 1}, dequantised with seed {seed}; the error is that of the mean over images, "
        "their own spread and the probes' together",
        "density": f"log p at t0 = {model.sde.t0:g}", "calls": result.calls.double().mean().item(),
        "seconds": round(time.perf_counter() - start),
    }  # fmt: skip


def distance(model: ScoreModel, samples: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Samples, and their Frechet distance from the test images beside that of the training images."""
    test, real = (hub.data("digits", split).dequantised(seed=seed, range=RANGE) for split in ("test", "train"))
    start = time.perf_counter()
    parts = [sample(model, (len(rows), 1, 8, 8), seed=seed, index=int(rows[0]), **SOLVER)
             for rows in torch.arange(samples).split(256)]  # fmt: skip
    x = torch.cat(parts)
    seconds = time.perf_counter() - start
    ours = frechet(x, test, features=FEATURES)
    best, same = (frechet(rows, test, features=FEATURES) for rows in (real, real[:samples]))
    return x, {
        "features": ours.name, "value": ours.value, "std_error": ours.std_error, "samples": samples,
        "real": best.value, "real_std_error": best.std_error, "real_first": same.value,
        "method": f"sample({', '.join(f'{k}={v!r}' for k, v in SOLVER.items())}, seed={seed}) against the "
        f"{len(test)} test images; real: all {len(real)} training images; real_first: the first {samples}",
        "seconds": round(seconds),
    }  # fmt: skip


if __name__ == "__main__":
    main()
