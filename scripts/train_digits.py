"""Trains digits-vp or digits-ve by its configuration and writes its folder: weights, config, the card's training part.

    python scripts/train_digits.py vp --out sdediff/assets/digits-vp
    python scripts/train_digits.py ve --out sdediff/assets/digits-ve

Network, process, objective and settings are those of `sdediff train vp` and `sdediff train ve`. The two networks of the
package are older than the trainer's order of rows, so that images and their dequantisation are drawn here by torch's
generator; this is all that differs. The same seed, steps and threads on the same machine give the same weights to the
bit. `card_digits.py` then measures the likelihood and the samples.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from sdediff import hub
from sdediff._utils.progress import track
from sdediff.training import Configuration, dequantised, read_config, train

DATA = {"name": "digits", "levels": 17, "dequantised": True, "range": [-1, 1], "shape": [1, 8, 8]}
LICENCE = "Weights MIT; data UCI Optical Recognition of Handwritten Digits, Alpaydin and Kaynak 1998, CC BY 4.0."


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["vp", "ve"])
    parser.add_argument("--out", type=Path, help="folder to write (default sdediff/assets/digits-MODEL)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="updates (default: the configuration's)")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    changes: dict[str, Any] = {"training.seed": given.seed}
    if given.steps is not None:
        changes["training.updates"] = given.steps
    run(read_config(given.model, changes), given.out or hub.ASSETS / f"digits-{given.model}")


def run(config: Configuration, out: Path) -> None:
    """Trains one configuration on the training images and saves it."""
    digits, settings = hub.data("digits", "train"), config.training
    model, objective = config.model(digits), config.objective(digits)
    images = torch.from_numpy(digits.x)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    bar = track(range(settings.updates), settings.updates, out.name)

    def report(step: int, value: float) -> None:
        next(bar, None)
        if not sys.stderr.isatty() and (step + 1) % 500 == 0:
            print(f"{out.name}: step {step + 1} of {settings.updates}, loss {value:.4f}", file=sys.stderr)

    cpu = time.process_time()
    log = train(model, dequantised(images, digits.levels or 17, settings.batch, generator), settings, objective, report)
    next(bar, None)
    tail = log.losses[-500:]
    card = {"about": config.about, "licence": LICENCE, "training": {
        "data": f"{len(images)} training images, dequantised afresh each epoch: x = 2 (k + u)/{digits.levels} - 1",
        "objective": repr(objective), "optimiser": repr(settings), "config": config.plain(),
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "loss of the last 500 steps": sum(tail) / len(tail), "seconds": round(log.seconds),
        "cpu seconds": round(time.process_time() - cpu),
        "threads": torch.get_num_threads(), "machine": f"{platform.machine()}, torch {torch.__version__}",
    }}  # fmt: skip
    hub.save(dataclasses.replace(model, card={}), out, card=card, data=DATA)
    print(f"{out}: {settings.updates} steps in {log.seconds:.0f} s, last loss {sum(tail) / len(tail):.4f}")


if __name__ == "__main__":
    main()
