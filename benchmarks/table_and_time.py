"""DDPM, trained on the thousand timesteps of its table, beside VP, trained in continuous time, on the digits.

Three networks of one size and number of updates: two of the configuration `ddpm` from two seeds, which decide the order
of the images, times and noise, and one of `vp` with times uniform in t, as the table's are. They begin at the same
weights and denoise the same test images with the same noise at training timesteps. At each of them the root mean square
of the difference of D between the two kinds, of one seed, is divided by that between the two seeds; the largest of the
ratios counts.

    python benchmarks/table_and_time.py [--updates 400]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, Gate, judged, versions, write
from torch import Tensor

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.training import read_config, train

MOST = 1.5
KNOTS = (1, 2, 5, 10, 20, 50, *range(100, 1001, 100))
COMMON = {"training.batch": 128, "training.average": 0.99}
CONTINUOUS = {
    "network.clock": "linear",
    "network.clock_scale": 1000.0,
    "objective.spread": "t",
    "objective.lowest": 1e-3,
}


def trained(name: str, updates: int, seed: int, changes: dict[str, Any]) -> sd.ScoreModel:
    """A network of the configuration, its first weights those of seed 0."""
    config = read_config(name, {**COMMON, **changes, "training.updates": updates})
    data = sd.data("digits", "train")
    model, settings = config.model(data), read_config(name, {**COMMON, **changes, "training.updates": updates,
                                                             "training.seed": seed}).training  # fmt: skip
    train(model, config.rows(data), settings, config.objective(data), progress=False)
    return model


def denoised(model: sd.ScoreModel, table: Any, x0: Tensor) -> Tensor:
    """D at the timesteps, (len(KNOTS), *x0.shape), float64."""
    model = model if isinstance(model.sde, sd.Table) else sd.reschedule(model, table)
    eps, found = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)), []
    for knot in KNOTS:
        at = sd.level(table, float(knot))
        with torch.no_grad():
            found.append(model(at.alpha * x0 + at.sigma * eps, float(knot)).x0.double())
    return torch.stack(found)


def rms(difference: Tensor) -> Tensor:
    """The root mean square of each timestep."""
    return difference.flatten(1).square().mean(1).sqrt()


def main() -> int:
    """Measure, print, write; exit status 1 when the gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=RESULTS / "table_and_time.json", help="where the record goes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began, x0 = time.process_time(), sd.data("digits").dequantised(0, range(given.images))
    first, second = (trained("ddpm", given.updates, seed, {}) for seed in (0, 1))
    continuous = trained("vp", given.updates, 0, CONTINUOUS)
    one, two, other = (denoised(model, first.sde, x0) for model in (first, second, continuous))
    kinds, seeds, error = rms(one - other), rms(one - two), rms(one - x0)
    ratios = kinds / seeds
    print(f"{'timestep':>9s}{'between kinds':>15s}{'between seeds':>15s}{'ratio':>7s}{'error':>9s}")
    for row in zip(KNOTS, kinds.tolist(), seeds.tolist(), ratios.tolist(), error.tolist(), strict=True):
        print("{:9d}{:15.4f}{:15.4f}{:7.2f}{:9.3f}".format(*row))
    ratio = statistics.median(ratios.tolist())
    print(f"median ratio {ratio:.2f}")
    held = judged([Gate("D of table and continuous time over D of two seeds, largest", ratios.max().item(), MOST)])
    rows = {"timesteps": KNOTS, "kinds": kinds.tolist(), "seeds": seeds.tolist(), "error": error.tolist()}
    facts = {"updates": given.updates, "images": given.images, "cpu_seconds": round(time.process_time() - began, 1)}
    facts |= {"median_ratio": ratio, "rows": rows, "gates": held}
    write(given.json, {"machine": machine(), "versions": versions(["torch"]), **facts})
    return 0 if all(line["held"] for line in held) else 1


if __name__ == "__main__":
    sys.exit(main())
