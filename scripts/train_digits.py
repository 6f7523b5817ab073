"""Trains an embedded digits model and writes its folder: weights, config and the training part of its card.

    python scripts/train_digits.py vp --out sdediff/assets/digits-vp
    python scripts/train_digits.py ve --out sdediff/assets/digits-ve
    python scripts/train_digits.py ddpm --out sdediff/assets/digits-ddpm    (no training: digits-vp's weights)

The same seed, steps and threads on the same machine give the same weights to the bit. `card_digits.py` then
measures the likelihood and the samples.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sdediff import hub
from sdediff._utils.progress import track
from sdediff.hub.config import FORMAT
from sdediff.model.data_statistics import statistics
from sdediff.model.score_model import ScoreModel
from sdediff.nets import UNet
from sdediff.sde.processes import VE, VP
from sdediff.training import Mixture, Objective, TrainingSettings, UniformLam, build, dequantised, train

BATCH = 128
LEVELS = 17
DATA = {"name": "digits", "levels": LEVELS, "dequantised": True, "range": [-1, 1], "shape": [1, 8, 8]}
LICENCE = "Weights MIT; data UCI Optical Recognition of Handwritten Digits, Alpaydin and Kaynak 1998, CC BY 4.0."


@dataclass(frozen=True)
class Recipe:
    """What one model is and how its times are drawn: `even` of a batch evenly in t, the rest in log-SNR."""

    sde: VP | VE
    lowest: float
    predicts: str
    time: str
    net: dict[str, Any]
    even: float
    steps: int
    about: str


RECIPES = {
    "vp": Recipe(
        VP(), 1e-5, "eps", "t", {"clock": "log"}, 0.3, 3300,
        "A continuous variance-preserving model of 8x8 handwritten digits (Song et al. 2021).",
    ),
    "ve": Recipe(
        VE(sigma_min=0.01, sigma_max=20.0), 1e-5, "score", "sigma", {"clock": "log", "input": "ve"}, 0.0, 3000,
        "A score network of 8x8 handwritten digits on geometric noise levels, as NCSN (Song and Ermon 2019).",
    ),
}  # fmt: skip


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=[*RECIPES, "ddpm"])
    parser.add_argument("--out", type=Path, help="folder to write (default sdediff/assets/digits-MODEL)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="updates (default: the recipe's)")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    out = given.out or hub.ASSETS / f"digits-{given.model}"
    if given.model == "ddpm":
        table(out)
    else:
        recipe = RECIPES[given.model]
        run(replace(recipe, steps=given.steps or recipe.steps), out, given.seed)


def run(recipe: Recipe, out: Path, seed: int) -> None:
    """Trains one recipe on the training images and saves it."""
    net = build(lambda: UNet(width=32, blocks=1, **recipe.net), seed)
    sde = replace(recipe.sde, t_min=recipe.lowest)
    model = ScoreModel(net, sde, recipe.predicts, recipe.time)
    images = torch.from_numpy(hub.data("digits", "train").x)
    generator = torch.Generator().manual_seed(seed + 1)
    settings = TrainingSettings(updates=recipe.steps, rate=2e-3, seed=seed)
    bar = track(range(recipe.steps), recipe.steps, out.name)

    def report(step: int, value: float) -> None:
        next(bar, None)
        if not sys.stderr.isatty() and (step + 1) % 500 == 0:
            print(f"{out.name}: step {step + 1} of {recipe.steps}, loss {value:.4f}", file=sys.stderr)

    cpu = time.process_time()
    # A share `even` of the times evenly in t, the rest in log-SNR, which is the likelihood's own weight.
    objective = Objective("simple", Mixture(recipe.even) if recipe.even else UniformLam(), lowest=recipe.lowest)
    log = train(model, dequantised(images, LEVELS, BATCH, generator), settings, objective, report)
    next(bar, None)
    tail = log.losses[-500:]
    card = {"about": recipe.about, "licence": LICENCE, "training": {
        "data": f"{len(images)} training images, dequantised afresh each epoch: x = 2 (k + u)/{LEVELS} - 1",
        "objective": f"mean |eps - eps_hat|^2, {recipe.even:.0%} of a batch evenly in t, the rest in log-SNR",
        "lowest t": recipe.lowest, "steps": recipe.steps, "batch": BATCH, "seed": seed,
        "optimiser": repr(settings), "parameters": sum(p.numel() for p in net.parameters()),
        "loss of the last 500 steps": sum(tail) / len(tail), "seconds": round(log.seconds),
        "cpu seconds": round(time.process_time() - cpu),
        "threads": torch.get_num_threads(), "machine": f"{platform.machine()}, torch {torch.__version__}",
    }}  # fmt: skip
    stats = statistics(hub.data("digits", "train").dequantised(seed=seed, range=(-1.0, 1.0)))
    hub.save(replace(model, sde=recipe.sde, stats=stats), out, card=card, data=DATA)
    print(f"{out}: {recipe.steps} steps in {log.seconds:.0f} s, last loss {sum(tail) / len(tail):.4f}")


def table(out: Path) -> None:
    """Writes the folder of the 1000-step DDPM table, which is served by digits-vp's weights."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist()
    about = "DDPM's table of 1000 steps, betas 1e-4..0.02 (Ho et al. 2020), served by the weights of digits-vp."
    out.mkdir(parents=True, exist_ok=True)
    sde = {"class": "Table", "kind": "betas", "values": betas}
    card = {"about": about, "licence": LICENCE}
    hub.write_config(out, {"format": FORMAT, "weights_of": "digits-vp", "sde": sde, "data": DATA, "card": card})


if __name__ == "__main__":
    main()
