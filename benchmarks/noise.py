"""What per-sample noise costs: sdediff's counter beside torch.randn and a small U-Net's forward pass.

One draw and one forward pass are what a stochastic step needs. 3x32x32, float32, one thread, batch 1 and 16,
the U-Net of about 1.7 million parameters. The gate: a draw takes at most 2 % of the U-Net's time.

    python benchmarks/noise.py [--repeats 30] [--json benchmarks/results/noise.json]
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
from overhead import RESULTS, show, timed, versions, write

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.nets import UNet

IMAGE = (3, 32, 32)
BATCHES = (1, 16)
GATE = 0.02


def network() -> UNet:
    """The small U-Net, its zero-initialised layers filled, ready to evaluate."""
    torch.manual_seed(0)
    net = UNet(channels_in=3, width=32, multiples=(1, 2, 4), blocks=1).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.02)
    return net


def draws(batch: int) -> dict[str, Callable[[], Any]]:
    """One draw of a batch by every source of noise."""
    x = torch.zeros(batch, *IMAGE)
    t, s = sd.levels(sd.VP(), [0.5, 0.4])
    counter, stream, path = sd.Counter(0), sd.Stream(0), sd.Brownian(0)
    return {
        "torch.randn": lambda: torch.randn(x.shape),
        "Stream": lambda: stream(t, s, x),
        "Counter": lambda: counter(t, s, x),
        # A fresh path, as a run's first step finds it; later steps look up one end, not two.
        "Brownian": lambda: sd.Brownian(path.seed)(t, s, x),
    }


@torch.no_grad()
def measure(net: UNet, repeats: int) -> list[dict[str, Any]]:
    """One row a source and batch: median microseconds, its share of the U-Net's time, and over randn.

    Every draw is timed right after a forward pass, with the caches as the network leaves them, as in a step.
    """
    rows = []
    for batch in BATCHES:
        x, clock = torch.randn(batch, *IMAGE), torch.full((batch,), 0.5)
        sources = draws(batch)
        found: dict[str, list[float]] = {"U-Net": [], **{name: [] for name in sources}}
        for turn in range(repeats + 2):
            for name, draw in sources.items():
                forward, drawn = timed(lambda x=x, clock=clock: net(x, clock)), timed(draw)
                if turn >= 2:
                    found["U-Net"].append(forward)
                    found[name].append(drawn)
            show(turn + 1, repeats + 2)
        middle = {name: statistics.median(v) for name, v in found.items()}
        rows += [
            {"batch": batch, "what": name, "us": us, "of_unet": us / middle["U-Net"],
             "over_randn": us / middle["torch.randn"]}
            for name, us in middle.items()
        ]  # fmt: skip
    return rows


def main() -> int:
    """Measure, print, write; exit status 1 when the gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30, help="interleaved rounds (30)")
    parser.add_argument("--json", type=Path, default=RESULTS / "noise.json", help="where the record goes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    net = network()
    size = sum(p.numel() for p in net.parameters())
    rows = measure(net, chosen.repeats)
    place = machine() | {"load": round(os.getloadavg()[0], 1)}
    print(f"{IMAGE}, float32, U-Net of {size / 1e6:.2f}M parameters, {chosen.repeats} rounds; {place}")
    print(f"{'batch':>5s}  {'':14s}{'us':>10s}{'of U-Net':>10s}{'over randn':>12s}")
    for row in rows:
        print(f"{row['batch']:5d}  {row['what']:14s}{row['us']:10.0f}{row['of_unet']:10.2%}{row['over_randn']:12.1f}")
    held = [
        {"gate": f"Counter of U-Net, batch {row['batch']}", "value": row["of_unet"], "bound": GATE,
         "held": row["of_unet"] <= GATE}
        for row in rows if row["what"] == "Counter"
    ]  # fmt: skip
    for gate in held:
        print(f"gate: {gate['gate']}: {gate['value']:.2%}, at most {GATE:.0%}: {'held' if gate['held'] else 'FAILED'}")
    write(chosen.json, {
        "image": IMAGE, "dtype": "float32", "unet": net.config | {"parameters": size}, "repeats": chosen.repeats,
        "clock": "thread CPU time", "machine": place,
        "versions": {"sdediff": sd.__version__, **versions(["torch", "numpy"])}, "rows": rows, "gates": held,
    })  # fmt: skip
    return 0 if all(gate["held"] for gate in held) else 1


if __name__ == "__main__":
    sys.exit(main())
