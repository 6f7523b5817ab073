"""What a log-likelihood costs and is wrong by: two passes beside the protocols of the field.

oracles: exact trace on mixtures, against the closed density. ends: both ends without an integration. stiff: one
hard sample among 63. digits: `digits-vp`, test images, against the exact trace on a finer path; RK45 is score_sde's
protocol and dopri5 k-diffusion's and torchdiffeq's, restated through scipy and torchdiffeq; score_sde's code calls the
network once for the drift and once for the divergence, which in the other rows share a call. exact: beside
flow_matching's own compute_likelihood on the same flow. bounds: the kinds of number that people call a likelihood.
sets: whole data sets as jobs; `--data` is a folder with uci_magic.npz and fashion-mnist-t10k-images-idx3-ubyte.gz.

    python benchmarks/likelihood.py [--only digits exact] [--images 100] [--data DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import RESULTS, Gate, judged, versions, write

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.likelihood.ends import heat_term, log_prior

Row = dict[str, Any]
FIXED = {"method": "ode", "variable": "t", "trace": "rademacher", "prior": "sigma", "integrator": "dopri5"}
PUBLISHED = "RK45 1e-5, 1 probe (score_sde)"
DEFAULT, EXACT = "two passes, the default", "two passes, exact trace"
# The field's protocols with one probe, at every tolerance, so that each is met at its best; then others, and ours.
DIGITS: dict[str, Row] = {
    PUBLISHED: {"preset": "literature"},
    **{f"RK45 {t:g}, 1 probe": {"preset": "literature", "rtol": t, "atol": t} for t in (1e-2, 1e-3, 1e-5)},
    **{f"dopri5 {t:g}, 1 probe": {**FIXED, "rtol": t, "atol": t, "probes": 1} for t in (1e-2, 1e-3, 1e-4, 1e-5)},
    "dopri5 1e-3, 8 probes": {**FIXED, "rtol": 1e-3, "atol": 1e-3, "probes": 8},
    "two passes, 1e-2, 1 probe": {"rtol": 1e-2, "atol": 1e-2, "probes": 1, "end": "t0"},
    DEFAULT: {"end": "t0"},
    "two passes, forwards alone": {"end": "t0", "autograd": False},
    EXACT: {"end": "t0", "trace": "exact"},
}  # fmt: skip
# Every protocol of the digits runs once in each, so that a busy machine meets all alike.
ROUNDS = 3
# Exact scores are smooth: a loose path and many nodes, for its error is taken away.
SMOOTH: Row = {"integrator": "bosh3", "rtol": 1e-2, "atol": 1e-2, "nodes": 8}


def errors(log_prob: torch.Tensor, truth: torch.Tensor, nats: float = 1.0) -> Row:
    """Root mean square, median and largest error, in units of so many nats."""
    gap = (log_prob.double() - truth).abs() / nats
    return {"rms": gap.square().mean().sqrt().item(), "median": gap.median().item(), "max": gap.max().item()}


def scored(model: sd.ScoreModel, x: torch.Tensor, options: Row) -> tuple[sd.Likelihood, float]:
    """A likelihood and the seconds of process CPU time that it took."""
    began = time.process_time()
    found = sd.log_likelihood(model, x, **options, micro_batch=len(x), progress=False)
    return found, time.process_time() - began


def shown(name: str, row: Row, *keys: str) -> Row:
    """A row, printed."""
    print(f"{name:44s}" + " ".join(f"{key} {row[key]:.3g}" for key in keys), flush=True)
    return row


def test_images(count: int) -> torch.Tensor:
    """Digits with uniform noise, as the bundled network sees them."""
    return sd.data("digits").dequantised(seed=0, index=range(count))


def _twice(net: Callable[..., Any]) -> Callable[..., Any]:
    """The network with a call more, without gradients, as score_sde has it."""

    def called(x: torch.Tensor, t: torch.Tensor, **cond: Any) -> Any:
        with torch.no_grad():
            net(x, t, **cond)
        return net(x, t, **cond)

    return called


def digits(images: int) -> tuple[list[Row], list[Gate]]:
    """Errors an image in bits/dim, forwards an image and seconds, a row a protocol: the median of rounds in turn."""
    model, x = sd.load("digits-vp"), test_images(images)
    nats = math.log(2) * x[0].numel()
    fine = {"trace": "exact", "integrator": "bosh3", "rtol": 3e-4, "atol": 3e-4, "nodes": 3, "end": "t0"}
    truth = scored(model, x, fine)[0].log_prob
    took: dict[str, list[float]] = {name: [] for name in DIGITS}
    likelihoods: dict[str, sd.Likelihood] = {}
    for _ in range(ROUNDS):
        for name, options in DIGITS.items():
            used = model.map_net(_twice) if name == PUBLISHED else model
            likelihoods[name], seconds = scored(used, x, {**options, "seed": 1})
            took[name].append(seconds)
    rows = []
    for name, found in likelihoods.items():
        row = {"protocol": name, **errors(found.log_prob, truth, nats), "seconds": statistics.median(took[name])}
        row["calls"] = found.calls.double().mean().item()
        row["std_error"] = (found.std_error / nats).square().mean().sqrt().nan_to_num(-1).item()
        row["solver_error"] = (found.solver_error / nats).square().mean().sqrt().nan_to_num(-1).item()
        row["variance_x_time"] = row["rms"] ** 2 * row["seconds"] / images
        rows.append(shown(name, row, "rms", "std_error", "solver_error", "calls", "seconds", "variance_x_time"))
    by = {row["protocol"]: row for row in rows}
    ours, theirs = by[DEFAULT], by[PUBLISHED]
    one = min(row["variance_x_time"] for name, row in by.items() if "1 probe" in name and "two" not in name)
    return rows, [
        Gate("exact trace, bits/dim rms", by[EXACT]["rms"], 0.002),
        Gate("error an image over RK45's", ours["rms"] / theirs["rms"], 0.1),
        Gate("seconds over RK45's", ours["seconds"] / theirs["seconds"], 0.5),
        Gate("variance x time over RK45's", ours["variance_x_time"] / theirs["variance_x_time"], 0.01),
        Gate("variance x time over the best of one probe", ours["variance_x_time"] / one, 0.02),
    ]


def exact(images: int) -> tuple[list[Row], list[Gate]]:
    """Exact traces of few images beside flow_matching's compute_likelihood, on flat states: it needs (B, D)."""
    model, x = sd.load("digits-vp"), test_images(min(images, 8))
    nats, shape, here = math.log(2) * x[0].numel(), x.shape[1:], sd.level(model.sde, model.sde.t0)
    fine = {"trace": "exact", "integrator": "bosh3", "rtol": 2e-4, "atol": 2e-4, "nodes": 4}
    whole = scored(model, x, fine)[0]
    truth = whole.log_prob
    found, seconds = scored(model, x, {"trace": "exact"})
    rows = [{
        "protocol": EXACT, **errors(found.log_prob, truth, nats), "seconds": seconds,
        "calls": found.calls.double().mean().item(),
    }]  # fmt: skip
    shown(EXACT, rows[0], "rms", "calls", "seconds")
    try:
        from flow_matching.solver import ODESolver
        from flow_matching.utils import ModelWrapper
    except ImportError as missing:
        print(f"skipped: flow_matching ({missing})")
        return rows, []
    more = whole.terms["heat"] + x[0].numel() * math.log(here.alpha)
    calls, length = [0], model.sde.T - here.time

    class Flow(ModelWrapper):  # type: ignore[misc]
        """The probability flow in their time, from 0 at T to 1 at t0."""

        def forward(self, x: torch.Tensor, t: torch.Tensor, **extras: Any) -> torch.Tensor:
            calls[0] += 1
            at = min(max(model.sde.T - float(t) * length, here.time), model.sde.T)
            return -length * model(x.reshape(-1, *shape), at).velocity.reshape(x.shape)

    for tolerance in (1e-2, 1e-3, 1e-4, 1e-5):
        calls[0], began = 0, time.process_time()
        _, log_prob = ODESolver(velocity_model=Flow(torch.nn.Identity())).compute_likelihood(
            x_1=(x * here.alpha).flatten(1), step_size=None, method="dopri5", rtol=tolerance, atol=tolerance,
            log_p0=lambda z: log_prior("full", model, z.reshape(-1, *shape)).float(),
            time_grid=torch.tensor([1.0, 0.0]), exact_divergence=True,
        )  # fmt: skip
        row = {"protocol": f"flow_matching {tolerance:g}", **errors(log_prob + more, truth, nats), "calls": calls[0]}
        row["seconds"] = time.process_time() - began
        rows.append(shown(row["protocol"], row, "rms", "calls", "seconds"))
    return rows, [
        Gate("seconds over flow_matching as shipped", rows[0]["seconds"] / rows[-1]["seconds"], 0.1),
        Gate("seconds over flow_matching at equal accuracy", rows[0]["seconds"] / _at(rows[1:], rows[0]["rms"]), 0.25),
    ]


def _at(rows: list[Row], rms: float) -> float:
    """Seconds that a ladder of tolerances takes to an error, straight lines between logarithms.

    Runs that another one beats in both are left out.
    """
    best = [v for v in rows if not any(u["rms"] < v["rms"] and u["seconds"] < v["seconds"] for u in rows)]
    by = sorted((math.log(row["rms"]), math.log(row["seconds"])) for row in best)
    return float(np.exp(np.interp(math.log(rms), *zip(*by, strict=True))))


def known(target: Any, sde: sd.VP) -> sd.ScoreModel:
    """The exact network with the statistics of a sample of its data."""
    return replace(target.model(sde), stats=sd.statistics(target.sample(20_000, seed=9, dtype=torch.float64)))


def oracles(images: int) -> tuple[list[Row], list[Gate]]:
    """Exact trace: RK45 at 1e-5 with N(0, I) against two passes, matched prior and heat term, the truth known."""
    rows, gates = [], []
    for name, size, bar in (("target_m", 256, 0.1), ("ring_unequal", 256, 0.1), ("gmm64", 32, 0.1), ("gmm768", 8, 0.2)):
        target, sde = sd.target(name), sd.VP()
        x, model = target.sample(size, seed=1, dtype=torch.float64), known(target, sde)
        runs: dict[str, Row] = {"RK45 1e-5, N(0, I)": {"preset": "literature", "prior": "unit"}}
        runs["two passes, bosh3 1e-2, 8 nodes"] = SMOOTH
        runs["two passes, the default"] = {}
        for tolerance in (1e-4, 1e-5):
            runs[f"two passes, {tolerance:g}"] = {"rtol": tolerance, "atol": tolerance}
        mine: list[Row] = []
        for run, options in runs.items():
            found, seconds = scored(model, x, {"trace": "exact", **options})
            truth = target.log_prob(x) if found.end == "heat" else target.log_prob(x, sde, found.t0)
            row = {"target": name, "run": run, **errors(found.log_prob, truth), "seconds": seconds}
            row["calls"], row["most_calls"] = found.calls.double().mean().item(), found.calls.max().item()
            row["solver_error"] = found.solver_error.square().mean().sqrt().nan_to_num(-1).item()
            mine.append(shown(f"{name} {run}", row, "rms", "max", "solver_error", "calls", "most_calls", "seconds"))
        rows += mine
        if name != "target_m":
            gates.append(Gate(f"{name}: error over RK45's", mine[1]["rms"] / mine[0]["rms"], bar))
            gates.append(Gate(f"{name}: calls over RK45's", mine[1]["calls"] / mine[0]["calls"], 1.0))
    return rows, gates


def ends(images: int) -> tuple[list[Row], list[Gate]]:
    """Without an integration: what is left by the heat term at sigma 1e-3, and by each prior at sigma 50."""
    rows, gates = [], []
    for name in ("ring_unequal", "gmm64", "gmm768"):
        target, sde = sd.target(name), sd.EDM(T=50.0)
        x, here = target.sample(16, seed=2, dtype=torch.float64), sd.level(sde, 1e-3)
        model = replace(target.model(sde), stats=sd.statistics(target.sample(4_000, seed=9, dtype=torch.float64)))
        inside = x.clone().requires_grad_(True)
        spread = sd.likelihood.divergence(target.score(inside, sde, 1e-3), inside, None)[0]
        plain = target.log_prob(x, sde, 1e-3)
        left = plain + heat_term(here, target.score(x, sde, 1e-3), spread) - target.log_prob(x)
        z = x + 50 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        row = {"target": name, "heat": left.abs().max().item()}
        row["plain"] = (plain - target.log_prob(x)).abs().max().item()
        for prior in ("sigma", "std", "full"):
            row[prior] = errors(log_prior(prior, model, z), target.log_prob(z, sde, 50.0))["rms"]
        rows.append(shown(name, row, "heat", "plain", "sigma", "std", "full"))
        gates.append(Gate(f"{name}: nats left by the heat term at sigma 1e-3", row["heat"], 1e-6))
        gates.append(Gate(f"{name}: error of the full prior over N(0, s^2 I)'s", row["full"] / row["sigma"], 0.1))
    return rows, gates


def stiff(images: int) -> tuple[list[Row], list[Gate]]:
    """One sample that starts in the tail of a narrow mode among 63 of the ring: forwards of all, with and without."""
    target, sde = sd.target("ring_unequal"), sd.VP()
    x, model = target.sample(64, seed=3, dtype=torch.float64), known(target, sde)
    without = sd.log_likelihood(model, x, trace="exact")
    x[63] = torch.tensor([0.01, 0.02], dtype=torch.float64)  # between the modes: the flow turns sharply
    found = sd.log_likelihood(model, x, trace="exact")
    row = {
        "stiff_calls": found.calls[63].item(), "mean_calls": found.calls[:63].double().mean().item(),
        "more": (found.calls.sum() / without.calls.sum() - 1).item(),
        "moved": (found.log_prob[:63] - without.log_prob[:63]).abs().max().item(),
    }  # fmt: skip
    shown("one stiff sample among 63", row, *row)
    return [row], [
        Gate("evaluations that a stiff sample adds", row["more"], 0.05),
        Gate("nats that it moves the others by", row["moved"], 1e-9),
    ]


def bounds(images: int) -> tuple[list[Row], list[Gate]]:
    """Bits/dim of the same images by DDPM's chain, longer ones, at t0, and by the flow; and of the levels themselves.

    The network was trained on dequantised data, so it says little of the levels.
    """
    images, data, model = min(images, 100), sd.data("digits"), sd.load("digits-vp")
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    chain, bins = sd.reschedule(model, table), sd.Discrete(data.levels)
    levels, noisy = data.tensor()[:images], test_images(images)
    runs: dict[str, tuple[sd.ScoreModel, torch.Tensor, Row]] = {
        "discrete bound, DDPM's table": (chain, noisy, {"method": "vlb", "variance": "large"}),
        "discrete bound, DDPM's table, small variance": (chain, noisy, {"method": "vlb", "variance": "small"}),
        "discrete bound, 1000 steps even in log SNR": (model, noisy, {"method": "vlb", "steps": 1000}),
        "bound of infinitely many steps": (model, noisy, {"method": "continuous_vlb"}),
        "flow, noised bound at t0 = 0.001": (model, noisy, {"end": "noised", "t0": 1e-3}),
        "flow, dequantised": (model, noisy, {}),
        "levels: discrete bound, DDPM's table": (chain, levels, {"method": "vlb", "discrete": bins}),
        "levels: flow, noised bound at t0 = 0.001": (model, levels, {"end": "noised", "t0": 1e-3, "discrete": bins}),
    }
    rows = []
    for name, (used, x, options) in runs.items():
        found, seconds = scored(used, x, options)
        bits = sd.bits_per_dim(found, levels=data.levels, range=(-1, 1))
        scale = math.log(2) * found.dims
        row = {"number": name, "bits_per_dim": bits.mean().item(), "seconds": seconds}
        row["std_error"] = (bits.std() / len(bits) ** 0.5).item()
        row["estimator_error"] = (found.std_error.square().mean() / len(bits)).sqrt().item() / scale
        row["solver_error"] = (found.solver_error.abs().mean() / scale).nan_to_num(-1).item()
        row["calls"] = found.calls.double().mean().item()
        rows.append(
            shown(name, row, "bits_per_dim", "std_error", "estimator_error", "solver_error", "calls", "seconds")
        )
    return rows, []


def _fitted(x: np.ndarray, shape: tuple[int, ...] = ()) -> Any:
    """A mixture of 20 Gaussians of standardised rows x (N, D)."""
    from sklearn.mixture import GaussianMixture

    fit = GaussianMixture(20, covariance_type="diag", reg_covar=1e-2, random_state=0).fit(x)
    return sd.targets.mixture(fit.means_, np.sqrt(fit.covariances_), fit.weights_, shape)


# As a user scores a data set: a process a core, a tolerance at which no image is off by more than the probes make it.
DIGITS_JOB = ("digits-vp", "digits", "--rtol", "1e-2", "--atol", "1e-2", "--probes", "4")


def sets(images: int, folder: Path | None = None) -> tuple[list[Row], list[Gate]]:
    """Whole data sets as jobs, wall clock on all cores: the digits, and oracles of the size of two others."""
    cores = machine()["cores"]
    ranks = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(cores), "-m", "sdediff"]
    rows = [_timed("digits", lambda out: subprocess.run([*ranks, "likelihood", *DIGITS_JOB, "--out", out], check=True))]
    if folder is not None:
        torch.set_num_threads(cores)
        x = np.load(folder / "uci_magic.npz")["x"]
        x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
        pixels = sd.datasets.read(folder / "fashion-mnist-t10k-images-idx3-ubyte.gz", levels=256)
        some = pixels.dequantised(seed=0, index=range(5000)).flatten(1).numpy()
        for name, data, target, limit, size in (
            ("MAGIC", x, _fitted(x), None, 1024),
            ("Fashion-MNIST", pixels, _fitted(some, (1, 28, 28)), 1000, 64),
        ):
            model = known(target, sd.VP())
            job = partial(
                sd.likelihood_job, model, data, limit=limit, micro_batch=size, progress=False, say=lambda line: None
            )
            rows.append(_timed(name, job))
        torch.set_num_threads(1)
    return rows, [Gate("all 1797 digits, minutes", rows[0]["seconds"] / 60, 2.0)]


def _timed(name: str, job: Callable[[str], Any]) -> Row:
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        job(out)
        row = {"set": name, "seconds": time.perf_counter() - began}
        row["summary"] = json.loads((Path(out) / "summary.json").read_text()) | {"data": name}
    said = {key: row["summary"][key] for key in ("samples", "log_prob", "bits_per_dim", "solver_error", "calls")}
    print(f"{name}: {row['seconds']:.0f} s, {said}", flush=True)
    return row


PARTS: dict[str, Callable[..., tuple[list[Row], list[Gate]]]] = {
    "ends": ends, "stiff": stiff, "oracles": oracles, "bounds": bounds, "digits": digits, "exact": exact, "sets": sets,
}  # fmt: skip


def main() -> int:
    """Measure, print, write; exit status 1 when a gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts; others stay as recorded")
    parser.add_argument("--images", type=int, default=100, help="digits that are scored (100)")
    parser.add_argument("--data", type=Path, help="folder with MAGIC and Fashion-MNIST; without it they are left out")
    parser.add_argument("--json", type=Path, default=RESULTS / "likelihood.json", help="where the record goes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = json.loads(chosen.json.read_text()) if chosen.json.exists() else {}
    held = True
    for part in chosen.only:
        more = {"folder": chosen.data} if part == "sets" else {}
        rows, gates = PARTS[part](chosen.images, **more)
        verdict = judged(gates)
        held = held and all(gate["held"] for gate in verdict)
        record[part] = {"images": chosen.images, "machine": machine(), "rows": rows, "gates": verdict}
        record[part]["versions"] = versions(["sdediff", "torch", "numpy", "scipy", "torchdiffeq", "flow-matching"])
        write(chosen.json, record)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
