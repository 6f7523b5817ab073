"""What a learned schedule gains on the digits: the variance of the bound's estimate, with the network held fixed.

The loss of variational diffusion, (1/2) gamma'(t) |eps - eps_hat|^2 over uniform t, has the same mean for every gamma
between two ends, and a variance that depends on gamma. The network of digits-vp is measured at 49 values of gamma, and
gives the variance of the linear schedule, of the best one, gamma' ~ 1/sqrt(E|eps - eps_hat|^4), and of one that
`sd.train` learns. digits-vdm, whose network and schedule were trained together, is measured in the same way.

    python benchmarks/schedule.py [--updates 200]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import RESULTS, Gate, judged, versions, write
from torch import Tensor, nn

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.sde.learned import first_gamma
from sdediff.training import TrainingSettings, VariationalDiffusion

LAST = 5.0
LEAST = 1.5


class Fixed(nn.Module):
    """The network of a model of continuous time on the clock lam. `unused` is there for the trainer to train."""

    def __init__(self, model: sd.ScoreModel) -> None:
        super().__init__()
        self.net, self.process = model.net.requires_grad_(False), model.sde
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, lam: Tensor) -> Tensor:
        """eps of states (B, ...) at lam (B,)."""
        return self.net(x, self.process.t_of_lam(lam.detach().double()).to(x))


class Moments:
    """E[l] and E[l^2] of l = |eps - eps_hat|^2/2 by gamma, and what they make of a schedule."""

    def __init__(self, model: sd.ScoreModel, x0: Tensor, ends: tuple[float, float], points: int = 49) -> None:
        self.gammas, self.ends, self.unit = np.linspace(*ends, points), ends, x0[0].numel() * math.log(2)
        generator, first, second = torch.Generator().manual_seed(0), [], []
        for gamma in self.gammas:
            t = model.sde.t_of_lam(torch.tensor([-gamma / 2], dtype=torch.float64)).item()
            at, eps = sd.level(model.sde, t), torch.randn(x0.shape, generator=generator)
            with torch.no_grad():
                error = model(at.alpha * x0 + at.sigma * eps, t).eps - eps
            loss = error.flatten(1).double().square().sum(1) / 2
            first.append(loss.mean().item())
            second.append(loss.square().mean().item())
        self.first, self.second = np.array(first), np.array(second)

    def bound(self) -> float:
        """The diffusion part of the bound, bits/dim."""
        return float(np.trapezoid(self.first, self.gammas) / self.unit)

    def best(self) -> float:
        """The least variance that any schedule has, (bits/dim)^2."""
        return float((np.trapezoid(np.sqrt(self.second), self.gammas) / self.unit) ** 2 - self.bound() ** 2)

    def variance(self, process: sd.LearnedVP | None = None) -> tuple[float, float]:
        """The bound, and its variance from one sample, under a schedule; by default the linear one."""
        t = np.linspace(1e-6, 1 - 1e-6, 20001)
        with torch.no_grad():
            gamma = (
                self.ends[0] + (self.ends[1] - self.ends[0]) * t
                if process is None
                else process.gamma(torch.from_numpy(t)).numpy()
            )
        slope = np.gradient(gamma, t)
        mean = np.trapezoid(np.interp(gamma, self.gammas, self.first) * slope, t) / self.unit
        square = np.trapezoid(np.interp(gamma, self.gammas, self.second) * slope**2, t) / self.unit**2
        return float(mean), float(square - mean**2)


def together_trained(digits: sd.datasets.DataSet) -> dict[str, tuple[float, float]]:
    """Bound and variance of digits-vdm under the linear, its learned and the best schedule."""
    model = sd.load("digits-vdm")
    learned: Any = model.sde
    moments = Moments(model, digits.dequantised(0, range(256)), learned.ends.tolist())
    best = moments.bound(), moments.best()
    return {"linear": moments.variance(), "learned": moments.variance(learned), "best": best}


def main() -> int:
    """Measure, print, write; exit status 1 when the gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--json", type=Path, default=RESULTS / "schedule.json", help="where the record goes")
    given, began = parser.parse_args(), time.process_time()
    torch.set_num_threads(1)
    model, digits = sd.load("digits-vp"), sd.data("digits", "train")
    ends = (first_gamma(digits.levels or 17), LAST)
    moments = Moments(model, digits.dequantised(0, range(256)), ends)
    process = sd.LearnedVP(*ends)
    learned = sd.ScoreModel(Fixed(model), process, time="lam", card=model.card)
    settings = TrainingSettings(updates=given.updates, batch=64, rate=3e-2, warmup=5, average=0.9)
    sd.train(learned, digits, settings, VariationalDiffusion())
    rows = {
        "linear": moments.variance(),
        "learned": moments.variance(process),
        "best": (moments.bound(), moments.best()),
    }
    rows |= {f"digits-vdm, {name}": row for name, row in together_trained(digits).items()}
    for name, (bound, variance) in rows.items():
        print(f"{name:20s} bound {bound:.4f} bits/dim, variance {variance:.3f}")
    share = rows["learned"][1] / rows["linear"][1]
    gates = judged([
        Gate("variance of the learned schedule over the linear one's", share, 1 / LEAST),
        Gate("difference of their bounds, bits/dim", abs(rows["learned"][0] - rows["linear"][0]), 1e-3),
    ])  # fmt: skip
    write(given.json, {
        "machine": machine(), "versions": versions(["torch"]), "ends": ends, "updates": given.updates, "gates": gates,
        "rows": {name: {"bound": b, "variance": v} for name, (b, v) in rows.items()},
        "cpu_seconds": round(time.process_time() - began, 1),
    })  # fmt: skip
    return 0 if all(line["held"] for line in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
