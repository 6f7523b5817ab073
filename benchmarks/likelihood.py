"""What a log-likelihood costs and is wrong by: two passes beside the protocols of the field, restated.

Digits: the embedded VP network, test images, errors against the exact trace at a finer tolerance. RK45 is score_sde's
protocol and dopri5 k-diffusion's and torchdiffeq's, through scipy and torchdiffeq; drift and divergence share a call
here, which score_sde's code does not do, so its time flatters it. Oracles: exact trace, against the closed density.

    python benchmarks/likelihood.py [--images 6] [--json benchmarks/results/likelihood.json]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from overhead import RESULTS, versions, write

import sdediff as sd
from sdediff.benchmark import machine

FIXED = {"method": "ode", "variable": "t", "trace": "rademacher", "prior": "sigma"}
# name -> options: the field's protocols, then ours.
DIGITS: dict[str, dict[str, Any]] = {
    "RK45 1e-5, 1 probe (score_sde)": {"preset": "literature"},
    "dopri5 1e-4, 1 probe (k-diffusion)": {**FIXED, "integrator": "dopri5", "rtol": 1e-4, "atol": 1e-4, "probes": 1},
    "dopri5 1e-5, 8 probes (torchdiffeq)": {**FIXED, "integrator": "dopri5", "rtol": 1e-5, "atol": 1e-5, "probes": 8},
    "dopri5 1e-3, exact (flow_matching)": {
        **FIXED, "integrator": "dopri5", "rtol": 1e-3, "atol": 1e-3, "trace": "exact",
    },
    "two-pass 1e-2, 1 probe": {"rtol": 1e-2, "atol": 1e-2, "probes": 1, "end": "t0"},
    "two-pass 1e-2, 8 Hadamard": {"rtol": 1e-2, "atol": 1e-2, "end": "t0"},
    "two-pass 1e-3, 8 Hadamard": {"rtol": 1e-3, "atol": 1e-3, "end": "t0"},
    "two-pass 1e-3, 8 Hadamard, forwards alone": {"rtol": 1e-3, "atol": 1e-3, "end": "t0", "autograd": False},
    "two-pass 1e-3, exact": {"rtol": 1e-3, "atol": 1e-3, "end": "t0", "trace": "exact"},
}  # fmt: skip


def digits(images: int) -> list[dict[str, Any]]:
    """Root mean square errors an image in bits/dim, forwards an image and seconds, a row a protocol."""
    model, x = sd.load("digits-vp"), sd.data("digits").dequantised(seed=0)[:images]
    nats = math.log(2) * x[0].numel()
    shared = {"micro_batch": images, "seed": 1, "progress": False}
    reference = sd.log_likelihood(model, x, trace="exact", rtol=1e-4, atol=1e-4, end="t0", **shared).log_prob
    rows = []
    for name, options in DIGITS.items():
        began = time.process_time()
        found = sd.log_likelihood(model, x, **options, **shared)
        seconds = time.process_time() - began
        error = (found.log_prob - reference) / nats
        told = (found.std_error / nats).square().mean().sqrt().item()
        rows.append({
            "protocol": name, "rms": error.square().mean().sqrt().item(), "std_error": told if told == told else None,
            "calls": found.calls.double().mean().item(), "seconds": seconds,
            "variance_x_time": error.square().mean().item() * seconds,
        })  # fmt: skip
        print(f"{name:44s}{rows[-1]['rms']:10.4f}{told:10.4f}{rows[-1]['calls']:8.0f}{seconds:9.2f}", flush=True)
    return rows


def known(problem: Any, sde: sd.VP) -> sd.ScoreModel:
    """The exact network with the statistics of a sample of its data."""
    return replace(problem.model(sde), stats=sd.statistics(problem.sample(20_000, seed=9, dtype=torch.float64)))


def oracles() -> list[dict[str, Any]]:
    """Exact trace: RK45 at 1e-5 with N(0, I) against two passes, matched prior and heat term, the truth known."""
    rows = []
    for name, size in (("target_m", 256), ("ring_unequal", 256), ("gmm64", 32)):
        problem, sde = sd.problem(name), sd.VP()
        x, model = problem.sample(size, seed=1, dtype=torch.float64), known(problem, sde)
        runs: dict[str, dict[str, Any]] = {"RK45 1e-5, N(0, I)": {"preset": "literature", "prior": "unit"}}
        for tolerance, nodes in ((1e-3, 3), (1e-4, 3), (6e-5, 4), (1e-5, 4)):
            runs[f"two-pass {tolerance:g}, {nodes} nodes"] = {"rtol": tolerance, "atol": tolerance, "nodes": nodes}
        for run, options in runs.items():
            found = sd.log_likelihood(model, x, trace="exact", **options)
            truth = problem.log_prob(x) if found.end == "heat" else problem.log_prob(x, sde, found.t0)
            error = (found.log_prob - truth).abs()
            rows.append({
                "problem": name, "run": run, "calls": found.calls.double().mean().item(),
                "most_calls": found.calls.max().item(), "rms": error.square().mean().sqrt().item(),
                "median": error.median().item(), "max": error.max().item(),
                "solver_error": found.solver_error.square().mean().sqrt().nan_to_num(-1).item(),
            })  # fmt: skip
            told = " ".join(f"{rows[-1][key]:9.1e}" for key in ("median", "rms", "max", "solver_error"))
            print(f"{name:14s}{run:26s}{rows[-1]['calls']:7.1f} ({rows[-1]['most_calls']}) {told}", flush=True)
    return rows


def ends() -> list[dict[str, Any]]:
    """Without an integration: what is left by the heat term at sigma 1e-3, and by each prior at sigma 50."""
    from sdediff.likelihood.ends import heat_term, log_prior

    rows = []
    for name in ("ring_unequal", "gmm64", "gmm768"):
        problem, sde = sd.problem(name), sd.EDM(T=50.0)
        x, here = problem.sample(16, seed=2, dtype=torch.float64), sd.level(sde, 1e-3)
        stats = sd.statistics(problem.sample(4_000, seed=9, dtype=torch.float64))
        model = replace(problem.model(sde), stats=stats)
        inside = x.clone().requires_grad_(True)
        spread = sd.likelihood.divergence(problem.score(inside, sde, 1e-3), inside, None)[0]
        plain = problem.log_prob(x, sde, 1e-3)
        left = plain + heat_term(here, problem.score(x, sde, 1e-3), spread) - problem.log_prob(x)
        z = x + 50 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        truth = problem.log_prob(z, sde, 50.0)
        row = {
            "problem": name,
            "heat": left.abs().max().item(),
            "plain": (plain - problem.log_prob(x)).abs().max().item(),
        }
        for prior in ("sigma", "std", "full"):
            row[prior] = (log_prior(prior, model, z) - truth).square().mean().sqrt().item()
        rows.append(row)
        print(" ".join(f"{k} {v:.1e}" if isinstance(v, float) else f"{v:14s}" for k, v in row.items()), flush=True)
    return rows


def stiff() -> dict[str, float]:
    """One sample that starts in the tail of a narrow mode among 63 of the ring: forwards of all, with and without."""
    problem, sde = sd.problem("ring_unequal"), sd.VP()
    x, model = problem.sample(64, seed=3, dtype=torch.float64), known(problem, sde)
    without = sd.log_likelihood(model, x, trace="exact")
    x[63] = torch.tensor([0.01, 0.02], dtype=torch.float64)  # between the modes: the flow turns sharply
    found = sd.log_likelihood(model, x, trace="exact")
    row = {
        "stiff_calls": found.calls[63].item(), "mean_calls": found.calls[:63].double().mean().item(),
        "more": (found.calls.sum() / without.calls.sum() - 1).item(),
        "moved": (found.log_prob[:63] - without.log_prob[:63]).abs().max().item(),
    }  # fmt: skip
    print(row)
    return row


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6, help="digits that are scored (6)")
    parser.add_argument("--json", type=Path, default=RESULTS / "likelihood.json", help="where the record goes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {"images": chosen.images, "clock": "process CPU time", "machine": machine()}
    record["versions"] = {"sdediff": sd.__version__, **versions(["torch", "numpy", "scipy", "torchdiffeq"])}
    record["oracles"], record["ends"], record["stiff"] = oracles(), ends(), stiff()
    print(f"{'digits, bits/dim':44s}{'rms':>10s}{'s.e.':>10s}{'calls':>8s}{'seconds':>9s}")
    record["digits"] = digits(chosen.images)
    write(chosen.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
