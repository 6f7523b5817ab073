"""Flow matching and VP on a table, the MAGIC telescope's 19,020 rows of 10 columns, from `sdediff train`'s settings.

The columns are standardised by the training rows, nine in ten; the others give the mean log density in nats, by the
flow with the exact trace, and the energy distance of as many samples. A Gaussian and a mixture of 30 of them, fitted to
the same rows, stand beside.

    python benchmarks/tables.py FOLDER    (with uci_magic.npz)
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import RESULTS, Gate, judged, versions, write
from torch import Tensor

import sdediff as sd
from sdediff import metrics
from sdediff.benchmark import machine
from sdediff.training import read_config, train

CONFIGS = ("flow_magic", "vp_magic")


def split(folder: Path) -> tuple[Tensor, Tensor]:
    """Standardised training and held-out rows, float32."""
    x = np.load(folder / "uci_magic.npz")["x"].astype(np.float64)
    held = np.arange(len(x)) % 10 == 0
    x = (x - x[~held].mean(0)) / x[~held].std(0)
    return torch.from_numpy(x[~held]).float(), torch.from_numpy(x[held]).float()


def mean(values: Any) -> list[float]:
    """A mean over rows with its error."""
    values = np.asarray(values, dtype=np.float64)
    return [float(values.mean()), float(values.std() / len(values) ** 0.5)]


def measure(name: str, x: Tensor, held: Tensor) -> dict[str, Any]:
    """Train by the configuration of that name, then score."""
    began, config = time.process_time(), read_config(name)
    rows = sd.datasets.DataSet(x.numpy(), name="magic")
    model = config.model(rows)
    train(model, config.rows(rows), config.training, config.objective(rows), progress=False)
    trained = time.process_time() - began
    result = sd.log_likelihood(model, held, trace="exact", micro_batch=len(held))
    samples = sd.sample(model, tuple(held.shape), calls=50)
    distance = metrics.distance("energy")(samples, held)
    return {
        "nats": mean(result.log_prob), "energy": [distance.value, distance.std_error], "cpu_seconds": round(trained, 1),
        "updates": config.training.updates, "calls": float(result.calls.double().mean()),
    }  # fmt: skip


def fitted(x: Tensor, held: Tensor, size: int) -> dict[str, Any]:
    """A mixture of Gaussians of full covariance."""
    from sklearn.mixture import GaussianMixture

    fit = GaussianMixture(size, random_state=0, reg_covar=1e-6).fit(x.numpy())
    return {"nats": mean(fit.score_samples(held.numpy()))}


def main() -> int:
    """Measure, print, write; exit status 1 when a gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, default=RESULTS / "tables.json", help="where the record goes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    x, held = split(given.folder)
    rows = {"gaussian": fitted(x, held, 1), "mixture of 30": fitted(x, held, 30)}
    rows |= {name: measure(name, x, held) for name in CONFIGS}
    some = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: len(held)]]
    real = metrics.distance("energy")(some, held)
    rows["training rows"] = {"energy": [real.value, real.std_error]}
    for name, row in rows.items():
        cells = "  ".join(f"{key} {row[key][0]:.4f} +- {row[key][1]:.4f}" for key in ("nats", "energy") if key in row)
        print(f"{name:14s} {cells}")
    best = rows["mixture of 30"]["nats"][0]
    held_to = judged([Gate(f"the mixture's nats less those of {name}", best - rows[name]["nats"][0], 0.0)
                      for name in CONFIGS])  # fmt: skip
    facts = {"machine": machine(), "versions": versions(["torch", "scikit-learn"]), "held_out": len(held)}
    write(given.json, {**facts, "rows": rows, "gates": held_to})
    return 0 if all(line["held"] for line in held_to) else 1


if __name__ == "__main__":
    sys.exit(main())
