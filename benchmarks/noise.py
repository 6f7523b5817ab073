"""What per-sample noise costs: sdediff's counter beside torch.randn and a small U-Net's forward pass.

A stochastic step is one forward pass and one draw, so the draws of 16 consecutive levels are timed, each right after
a forward pass (with the caches as the network leaves them) and once more alone. 3x32x32, float32, one thread, batch
1 and 16, a U-Net of about 1.7 million parameters. The gate: a draw takes at most 2 % of the U-Net's time.

    python benchmarks/noise.py [--repeats 7] [--json benchmarks/results/noise.json]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from overhead import timed
from record import RESULTS, Gate, judged, show, versions, write

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.nets import UNet

IMAGE = (3, 32, 32)
BATCHES = (1, 16)
STEPS = 16
GATE = 0.02


def network() -> UNet:
    """The small U-Net, its zero-initialised layers filled, ready to evaluate."""
    torch.manual_seed(0)
    net = UNet(channels_in=3, width=32, multiples=(1, 2, 4), blocks=1).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.02)
    return net


def sources(batch: int) -> dict[str, Callable[[int], Any]]:
    """Every source of noise as a function of the level's number, made anew: nothing drawn, nothing kept."""
    x, row = torch.zeros(batch, *IMAGE), sd.levels(sd.VP(), torch.linspace(1.0, 1e-3, STEPS + 1))
    found: dict[str, Callable[[int], Any]] = {"torch.randn": lambda i: torch.randn(x.shape)}
    for noise in (sd.Stream(0), sd.Counter(0), sd.Brownian(0)):
        found[type(noise).__name__] = lambda i, noise=noise: noise(row[i], row[i + 1], x)
    return found


@torch.no_grad()
def measure(net: UNet, repeats: int) -> list[dict[str, Any]]:
    """One row a source and batch: microseconds a draw in a step and alone, and the share of the U-Net's time."""
    rows = []
    for batch in BATCHES:
        x, clock = torch.randn(batch, *IMAGE), torch.full((batch,), 0.5)
        net(x, clock)
        forward: list[float] = []
        step: dict[str, list[float]] = {name: [] for name in sources(batch)}
        alone: dict[str, list[float]] = {name: [] for name in step}
        for turn in range(repeats):
            for name, draw in sources(batch).items():
                spent = []
                for i in range(STEPS):
                    forward.append(timed(lambda x=x, clock=clock: net(x, clock)))
                    spent.append(timed(lambda draw=draw, i=i: draw(i)))
                step[name].append(statistics.mean(spent))
            for name, draw in sources(batch).items():
                alone[name].append(timed(lambda draw=draw: [draw(i) for i in range(STEPS)]) / STEPS)
            show(turn + 1, repeats)
        unet = statistics.median(forward)
        rows.append({"batch": batch, "what": "U-Net", "us": unet, "alone_us": None, "of_unet": 1.0})
        for name, spent in step.items():
            us = statistics.median(spent)
            rows.append(
                {"batch": batch, "what": name, "us": us, "alone_us": statistics.median(alone[name]),
                 "of_unet": us / unet}
            )  # fmt: skip
    return rows


def main() -> int:
    """Measure, print, write; exit status 1 when the gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument("--json", type=Path, default=RESULTS / "noise.json", help="where the record goes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    net = network()
    size = sum(p.numel() for p in net.parameters())
    rows = measure(net, chosen.repeats)
    place = machine() | {"load": round(os.getloadavg()[0], 1)}
    print(f"{IMAGE}, float32, U-Net of {size / 1e6:.2f}M parameters, {chosen.repeats} rounds; {place}")
    print(f"{'batch':>5s}  {'':14s}{'us in a step':>13s}{'of U-Net':>10s}{'us alone':>10s}")
    for row in rows:
        alone = "" if row["alone_us"] is None else f"{row['alone_us']:10.0f}"
        print(f"{row['batch']:5d}  {row['what']:14s}{row['us']:13.0f}{row['of_unet']:10.2%}{alone:>10s}")
    held = judged(
        Gate(f"Counter of U-Net, batch {row['batch']}", row["of_unet"], GATE)
        for row in rows
        if row["what"] == "Counter"
    )
    write(chosen.json, {
        "image": IMAGE, "dtype": "float32", "unet": net.config | {"parameters": size}, "steps": STEPS,
        "repeats": chosen.repeats, "clock": "thread CPU time", "machine": place,
        "versions": {"sdediff": sd.__version__, **versions(["torch", "numpy"])}, "rows": rows, "gates": held,
    })  # fmt: skip
    return 0 if all(gate["held"] for gate in held) else 1


if __name__ == "__main__":
    sys.exit(main())
