"""The network of the configuration `fashion` on held-out images of 28 x 28: bits/dim by the flow, a grid of samples.

The record is of Fashion-MNIST's t10k part: the first 9,000 images trained on, the last 1,000 held out.

    sdediff train fashion --data train.npy --out runs/fashion --set training.precision=bf16
    python benchmarks/fashion.py runs/fashion/model test.npy [--images 1000] [--grid samples.png]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from record import RESULTS, Gate, judged, versions, write

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.datasets import read, save_grid

BOUNDS, LEVELS, PART, MOST = (-1.0, 1.0), 256, 100, 3.6


def main() -> int:
    """Measure, print, write; exit status 1 when the gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("test")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--grid", type=Path)
    parser.add_argument("--json", type=Path, default=RESULTS / "fashion.json", help="where the record goes")
    given, began = parser.parse_args(), time.process_time()
    torch.set_num_threads(1)
    model, images, parts = sd.load(given.model), read(given.test), []
    if given.grid is not None:
        save_grid(sd.sample(model, (60, *images.shape), solver="dpmpp_2m", calls=50), given.grid, 10, BOUNDS)
    for first in range(0, given.images, PART):
        x = images.dequantised(0, range(first, min(first + PART, given.images)), BOUNDS)
        result = sd.log_likelihood(model, x, probes=1, rtol=1e-2, atol=1e-2, micro_batch=50, index=first)
        parts.append(sd.bits_per_dim(result, levels=LEVELS, range=BOUNDS))
    bits = torch.cat(parts)
    value, error = float(bits.mean()), float(bits.std() / len(bits) ** 0.5)
    print(f"{value:.3f} +- {error:.3f} bits/dim on {len(bits)} images")
    gates = judged([Gate("bits/dim of Fashion-MNIST", value, MOST)])
    facts = {"bits_per_dim": [value, error], "images": len(bits), "cpu_seconds": round(time.process_time() - began, 1)}
    write(given.json, {"machine": machine(), "versions": versions(["torch"]), **facts, "gates": gates})
    return 0 if all(line["held"] for line in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
