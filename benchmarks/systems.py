"""Every system in one table: the digits networks that one trainer made by configuration, each with its own sampler.

Likelihoods are bits a dimension of test images: by the flow on dequantised images, and by the chain's bound on the
levels themselves, which are two numbers. A network of the levels themselves has no density of dequantised images: its
flow is scored from the levels, noised until half a bin is two standard deviations, which bounds their probability.
Distances are between 1797 samples and all 1797 test images, dequantised: Frechet of 64 principal components, and the
energy distance, which has no bias. "real" is the same of as many training images. A model is a name of `sdediff models`
or a folder that `sdediff train` wrote; each part of a row is kept in the record when it is measured, so that a run that
was stopped goes on.

    python benchmarks/systems.py [digits-edm ...] [--models FOLDER] [--only flow bound samples] [--again]
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import RESULTS, judged, versions, write
from systems_table import gates, lines
from torch import Tensor

import sdediff as sd
from sdediff import datasets, metrics
from sdediff.benchmark import machine
from sdediff.sde import first_gamma

SHAPE, SIZE = (1, 8, 8), 1797
IMAGES, EVERY = 400, 18  # of the likelihood by the flow; the bound takes one in so many of all test images
CALLS = (10, 50)
MICRO = 300

Row = dict[str, Any]


@dataclass(frozen=True)
class System:
    """A row: solver and options of its own sampler, its calls, the variances of its chain's bound.

    matched: whether dpmpp_2m starts at a Gaussian of the data's mean and covariance, noised, because N(0, sigma_T^2) is
    far from the data's law there; Langevin dynamics forgets where it started. clip: whether the chain and the samplers
    keep x0 within the data's range, as the papers' code does: at its last timestep the cosine table multiplies an
    error of eps by 20,000.
    """

    solver: str
    own: int = 100
    options: tuple[tuple[str, Any], ...] = ()
    grid: str | None = None
    bounds: tuple[str, ...] = ()
    dpmpp: bool = True
    matched: bool = False
    clip: bool = False

    def in_range(self, model: sd.ScoreModel) -> sd.ScoreModel:
        """The model as its chain and the samplers take it."""
        return sd.guidance.clip(model, *bounds_of(model)) if self.clip else model


IMPROVED_DDPM = System(
    "ancestral", 100, (("variance", "learned_range"),), bounds=("small", "large", "learned_range"), clip=True
)
SYSTEMS: dict[str, System] = {
    "digits-ncsn": System("annealed_langevin", 201, matched=True),
    "digits-ncsnv2": System("annealed_langevin", 193, matched=True),
    "digits-ddpm": System("ddpm", 100, bounds=("small", "large"), clip=True),
    "digits-iddpm": IMPROVED_DDPM,
    "digits-iddpm-levels": IMPROVED_DDPM,
    "digits-vp": System("reverse_diffusion", 100),
    "digits-vp-likelihood": System("reverse_diffusion", 100),
    "digits-subvp": System("euler_maruyama", 100),
    "digits-ve": System("predictor_corrector", 100),
    "digits-vdm": System("ancestral", 100, bounds=("continuous",)),
    "digits-flow": System("euler", 100),
    "digits-edm": System("heun", 35, grid="karras"),
    "digits-cond": System("heun", 35, grid="karras"),
}


class Data:
    """The digits, and a judge of their classes that no network here has been trained with."""

    def __init__(self) -> None:
        self.train, self.test = sd.data("digits", "train"), sd.data("digits", "test")
        self.real = self.test.dequantised(0)
        self.labels = torch.from_numpy(np.array(self.test.labels)).flatten().long()

    @functools.cached_property
    def judge(self) -> Any:
        """A support vector machine of the training images."""
        from sklearn.svm import SVC

        x = self.train.dequantised(1).flatten(1).numpy()
        return SVC(C=10.0, gamma=0.02).fit(x, np.array(self.train.labels).ravel())

    def classes(self, x: Tensor) -> np.ndarray:
        """The classes (N,) of images."""
        return self.judge.predict(x.flatten(1).numpy())

    def distances(self, x: Tensor) -> Row:
        """Frechet and energy distance of images to the test images, each with its error, and the shares of classes."""
        found = {name: metrics.distance(name)(x, self.real) for name in ("frechet", "energy")}
        shares = np.bincount(self.classes(x), minlength=10) / len(x)
        return {
            **{name: [v.value, v.std_error] for name, v in found.items()}, "shares": [round(s, 4) for s in shares],
        }  # fmt: skip

    def reference(self, draws: int = 8) -> Row:
        """The distances of as many training images, means over draws of them, and the spread of one draw."""
        images = self.train.dequantised(2)
        found = []
        for i in range(draws):
            rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(i))[:SIZE]
            found.append(self.distances(images[rows]))
        means = {
            name: [float(np.mean([f[name][0] for f in found])), float(np.std([f[name][0] for f in found]))]
            for name in ("frechet", "energy")
        }
        shares = np.bincount(np.array(self.train.labels).ravel(), minlength=10) / len(images)
        accuracy = float((self.classes(self.real) == self.labels.numpy()).mean())
        return {"name": "train", "samples": {"real": means | {"shares": list(shares)}}, "judge_accuracy": accuracy}


def bounds_of(model: sd.ScoreModel) -> tuple[float, float]:
    """The range of the data that the network knows."""
    low, high = model.card["data"]["range"]
    return float(low), float(high)


def figure(bits: Tensor, calls: Tensor, seconds: float) -> Row:
    """A mean with its error over images."""
    error = float(bits.std() / len(bits) ** 0.5)
    return {
        "value": float(bits.mean()), "std_error": error, "images": len(bits), "calls": float(calls.double().mean()),
        "cpu_seconds": round(seconds, 1),
    }  # fmt: skip


def given(model: sd.ScoreModel, labels: Tensor) -> Row | None:
    """The conditions of a class-conditional network."""
    return {"label": labels} if getattr(model.net, "config", {}).get("classes") else None


def by_flow(model: sd.ScoreModel, system: System, data: Data) -> Row:
    """bits/dim of dequantised test images by the probability flow."""
    began, rows, bounds = time.process_time(), range(IMAGES), bounds_of(model)
    how: Row = {"probes": 1, "cond": given(model, data.labels[:IMAGES]), "micro_batch": 200}
    if model.card["data"]["dequantised"]:
        x, what = data.test.dequantised(0, rows, bounds), "dequantised with seed 0"
        result = sd.log_likelihood(model, x, **how)
        bits = sd.bits_per_dim(result, levels=17, range=bounds)
    else:
        x, what = data.test.tensor(bounds, index=rows), "the levels themselves, noised to t0"
        how |= {"end": "noised", "t0": timestep_of_bins(model.sde), "discrete": sd.Discrete(17, bounds)}
        result = sd.log_likelihood(model, x, **how)
        bits = sd.bits_per_dim(result)
    return figure(bits, result.calls, time.process_time() - began) | {
        "method": f"log_likelihood(probes=1), test images 0..{IMAGES - 1}, {what}",
        "density": f"log p by end={result.end!r}, t0={result.t0:g}",
    }


def timestep_of_bins(sde: Any, levels: int = 17, deviations: float = 2.0) -> float:
    """The timestep whose noise is nearest to that where half a bin is so many standard deviations.

    Every t0 gives a bound. That of 60 training images falls by at most 0.03 bits/dim below two deviations, and is 0.15
    and 0.19 higher at three.
    """
    lam = torch.tensor([-first_gamma(levels, deviations) / 2], dtype=torch.float64)
    return float(sde.t_of_lam(lam).round().clamp(min=1))


def by_bound(model: sd.ScoreModel, system: System, data: Data) -> Row:
    """bits/dim of test images' levels by the variational bound, one row a variance."""
    x, found = data.test.tensor(bounds_of(model), index=range(0, len(data.test), EVERY)), {}
    for variance in system.bounds:
        began = time.process_time()
        how: Row = {"method": "continuous_vlb"} if variance == "continuous" else {"method": "vlb", "variance": variance}
        how["discrete"] = sd.Discrete(17, bounds_of(model))
        result = sd.log_likelihood(system.in_range(model), x, micro_batch=128, **how)
        bits = sd.bits_per_dim(result)
        unit = x[0].numel() * np.log(2)
        found[variance] = figure(bits, result.calls, time.process_time() - began) | {
            "terms": {name: float(-v.mean() / unit) for name, v in result.terms.items()},
            "clipped": system.clip,
        }
    return found


def drawn(model: sd.ScoreModel, system: System, calls: int, data: Data, own: bool) -> tuple[Tensor, str]:
    """Images in [-1, 1] at so many calls, by the system's own sampler or by dpmpp_2m, and how they were drawn."""
    how: Row = {"solver": "dpmpp_2m", "calls": calls}
    if getattr(model.sde, "n", calls + 1) <= calls:  # a ladder of few levels: between them too
        how["grid"] = "log_snr"
    if own and system.solver == "annealed_langevin":
        levels = min(int(model.sde.n), calls - 1)
        n = (calls - 1) // levels
        smallest = float(sd.level(model.sde, 1).sigma)
        ratio = (float(sd.level(model.sde, model.sde.n).sigma) / smallest) ** (1 / (levels - 1))
        step = 2 * sd.training.langevin_step(ratio, smallest, n) / smallest**2
        how = {"solver": sd.solver("annealed_langevin", n=n, step_size=step), "steps": levels - 1}
    elif own:
        how = {"solver": sd.solver(system.solver, **dict(system.options)), "calls": calls}
        how |= {"grid": system.grid} if system.grid else {}
    parts = []
    for first in range(0, SIZE, MICRO):
        size = min(MICRO, SIZE - first)
        cond = given(model, data.labels[first : first + size])
        if system.matched and not own:
            how["x"] = matched(model, data, size, first)
        parts.append(sd.sample(system.in_range(model), (size, *SHAPE), seed=0, index=first, cond=cond, **how))
    low, high = bounds_of(model)
    if system.clip:
        how |= {"x0": "clipped"}
    told = how | {"x": "matched in mean and covariance"} if "x" in how else how
    return (torch.cat(parts) - low) / (high - low) * 2 - 1, ", ".join(f"{k}={v}" for k, v in told.items())


def matched(model: sd.ScoreModel, data: Data, size: int, seed: int) -> Tensor:
    """States at T of a Gaussian with the mean and covariance of the noised training images."""
    x = data.train.dequantised(2, range=bounds_of(model)).flatten(1).double()
    top = sd.level(model.sde, model.sde.T)
    covariance = float(top.alpha) ** 2 * x.T.cov() + float(top.sigma) ** 2 * torch.eye(x.shape[1], dtype=x.dtype)
    z = torch.randn(size, x.shape[1], generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    return (float(top.alpha) * x.mean(0) + z @ torch.linalg.cholesky(covariance).T).reshape(size, *SHAPE).float()


def by_samples(model: sd.ScoreModel, system: System, data: Data, grids: Path | None = None, name: str = "") -> Row:
    """Distances of samples at 10 and 50 calls of dpmpp_2m and of its own sampler, and at its own calls."""
    found = {}
    plans = [(f"dpmpp_2m {calls}", calls, False) for calls in CALLS if system.dpmpp]
    plans += [(f"own {calls}", calls, True) for calls in dict.fromkeys((*CALLS, system.own))]
    for plan, calls, own in plans:
        began = time.process_time()
        x, how = drawn(model, system, calls, data, own)
        found[plan] = {
            "how": how,
            "samples": SIZE,
            **data.distances(x),
            "cpu_seconds": round(time.process_time() - began, 1),
        }
        if given(model, data.labels):
            found[plan]["accuracy"] = float((data.classes(x) == data.labels[:SIZE].numpy()).mean())
        if grids is not None:
            datasets.save_grid(x[:60], grids / f"{name}-{plan.replace(' ', '-')}.png", 10, (-1.0, 1.0))
    return found


PARTS: dict[str, Callable[..., Row]] = {"flow": by_flow, "bound": by_bound, "samples": by_samples}


def trained(model: sd.ScoreModel) -> Row:
    """What its card says of its training."""
    facts = model.card.get("training") or {}
    keys = ("objective", "parameters", "loss", "updates", "cpu_seconds")
    return {"about": model.card.get("about"), **{key: facts[key] for key in keys if key in facts}}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="rows to measure (default: all that there are)")
    parser.add_argument("--models", type=Path, help="a folder of model folders by these names, before the package's")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--again", action="store_true", help="measure anew what the record holds")
    parser.add_argument("--grids", type=Path, help="a folder for pictures of the samples")
    parser.add_argument("--json", type=Path, default=RESULTS / "systems.json", help="where the record goes")
    return parser.parse_args()


def _model(name: str, folder: Path | None) -> sd.ScoreModel | None:
    if folder is not None and (folder / name / "config.json").is_file():
        return sd.load(folder / name)
    return sd.load(name) if name in sd.models() else None


def main() -> int:
    """Measure, print, write after each part; exit status 1 when a gate fails."""
    chosen, data = _options(), Data()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows: dict[str, Row] = (
        {r["name"]: r for r in json.loads(chosen.json.read_text())["rows"]} if chosen.json.exists() else {}
    )
    if "train" not in rows:
        rows = {"train": data.reference(), **rows}

    def keep(**more: Any) -> None:
        facts = {
            "machine": machine(),
            "versions": {"sdediff": sd.__version__, **versions(["torch", "numpy", "scikit-learn"])},
        }
        order = ["train", *(name for name in SYSTEMS if name in rows)]
        write(chosen.json, {**facts, **more, "rows": [rows[name] for name in order]})

    for name in chosen.names or SYSTEMS:
        model = _model(name, chosen.models)
        if model is None:
            print(f"skipped: {name} is no model of the package or of --models")
            continue
        row = rows.setdefault(name, {"name": name})
        row["trained"] = trained(model)
        for part in chosen.only:
            if part in row and not chosen.again:
                continue
            more = {"grids": chosen.grids, "name": name} if part == "samples" else {}
            row[part] = PARTS[part](model, SYSTEMS[name], data, **more)
            keep()
            print(f"{name}: {part} measured", flush=True)
    print(*lines(rows), sep="\n")
    held = judged(gates(rows))
    keep(gates=held)
    return 0 if all(line["held"] for line in held) else 1


if __name__ == "__main__":
    sys.exit(main())
