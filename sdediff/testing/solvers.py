"""Checks of solvers; the test suite of the package runs them over the whole registry."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import torch

from sdediff.grids.grids import grid
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.sampling.api import SampleRecord, iterate, sample
from sdediff.sampling.sampler import Sampler
from sdediff.sde.base import LinearSDE, SDEError, linear
from sdediff.sde.processes import EDM, VE, VP, Cosine, RectifiedFlow, SubVP
from sdediff.sde.table import Table
from sdediff.solvers import Solver, SolverError
from sdediff.solvers import solver as resolve_solver
from sdediff.testing.densities import kernel_is_the_step
from sdediff.testing.gaussian import exact_moments, gaussian_model, sampled_moments
from sdediff.testing.reference import ReferenceFlow
from sdediff.testing.report import Check, expect, run_checks

F64 = torch.float64


def processes() -> list[LinearSDE]:
    """One of every kind of process."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    sigmas = torch.logspace(-2, 1, 40, dtype=F64)
    tables = [Table.from_betas(betas), Table.from_sigmas(sigmas)]
    return [VP(), SubVP(), VE(), EDM(), Cosine(), RectifiedFlow(), *tables]


def _run(s: Solver, model: ScoreModel, shape: tuple[int, ...], **options: Any) -> SampleRecord:
    if "x" in options:
        return sample(model, shape, solver=s, full=True, **options)
    return sample(model, solver=s, full=True, **_begin(s, model, shape, **options), **options)


def _begin(s: Solver, model: ScoreModel, shape: tuple[int, ...], **options: Any) -> dict[str, Any]:
    """The shape of states of the prior; for a corrector, which does not begin there by itself, such states as x."""
    if s.alone:
        return {"shape": shape}
    like = torch.empty(shape, dtype=options.get("dtype"))
    z = Counter(options.get("seed", 0), options.get("index", 0)).initial(like)
    times = Sampler(model, solver=s, start=options.get("start")).plan().times
    return {"x": z * linear(model.sde).sigma(times[:1]).item()}


def value(s: Solver) -> str:
    """A solver is a value: frozen, equal to its copy, hashable."""
    expect(dataclasses.is_dataclass(s), "not a dataclass: decorate the class with @dataclass(frozen=True)")
    duplicate = copy.deepcopy(s)
    expect(duplicate == s and hash(duplicate) == hash(s), "a copy is not equal to it: fields must be plain values")
    for field in dataclasses.fields(s):
        try:
            setattr(s, field.name, None)
        except dataclasses.FrozenInstanceError:
            continue
        expect(False, f"{field.name} can be changed: decorate the class with @dataclass(frozen=True)")
    return repr(duplicate)


def shapes(s: Solver) -> str:
    """States of any rank, in their own dtype, finite; the global generator and the start are untouched."""
    before = torch.get_rng_state()
    for shape in ((3, 2), (2, 4, 5), (2, 1, 4, 4), (1, 2, 2, 3, 2)):
        for dtype in (torch.float32, F64):
            start = torch.ones(shape, dtype=dtype)
            x = _run(s, gaussian_model(VP()), shape, x=start, steps=2).x
            expect(x.shape == shape and x.dtype == dtype, f"{shape} {dtype} became {tuple(x.shape)} {x.dtype}")
            expect(torch.isfinite(x).all(), f"not finite for states {shape}")
            expect(bool((start == 1).all()), "the starting state was changed in place")
    expect(torch.equal(before, torch.get_rng_state()), "the global random generator was used: draw from noise(...)")
    return "ranks 2 to 5, float32 and float64"


def repeats(s: Solver) -> str:
    """One seed gives one result to the bit, from two threads and a `Sampler` used again too; another seed another."""
    model = gaussian_model(VP())
    first = _run(s, model, (4, 3), steps=6, dtype=F64).x
    expect(torch.equal(first, _run(s, model, (4, 3), steps=6, dtype=F64).x), "two runs with one seed differ")
    expect(not torch.equal(first, _run(s, model, (4, 3), steps=6, seed=1, dtype=F64).x), "the seed has no effect")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: _run(s, model, (4, 3), steps=6, dtype=F64).x, range(2)))
    expect(all(torch.equal(first, x) for x in both), "two threads sharing the solver disturb each other")
    sampler = Sampler(model, solver=s, steps=6, dtype=F64)
    again = [sampler(**_begin(s, model, (4, 3), dtype=F64)) for _ in range(2)]
    expect(all(torch.equal(first, x) for x in again), "a Sampler used again gives another result: leave t and s as is")
    return "one seed, two threads, a sampler used again"


def batches(s: Solver) -> str:
    """Sample i of a batch is sample i alone."""
    model = gaussian_model(VP())
    batch = _run(s, model, (7, 6), steps=8, dtype=F64).x
    alone = torch.cat([_run(s, model, (1, 6), steps=8, index=i, dtype=F64).x for i in (6, 2)])
    gap = (batch[[6, 2]] - alone).abs().max().item()
    allowed = 1e-3 if s.adaptive else 1e-12
    expect(gap <= allowed, f"a sample changes by {gap:.1e} with its batch, allowed {allowed}")
    return f"within {gap:.0e}"


def counts(s: Solver) -> str:
    """The network is called as often as declared; every state comes at its grid's own time."""
    steps = 7
    record = _run(s, gaussian_model(VP()), (2, 3), steps=steps)
    expect(len(record.times) == len(record.trajectory) == steps + 1, "states and times do not match the grid")
    declared = s.spent(steps)
    if declared is None:
        return f"{record.calls} chosen at run time"
    expect(record.calls == declared + 1, f"{record.calls - 1} calls in {steps} steps, declared {declared}")
    return f"{declared} in {steps} steps" if s.calls is None else f"{s.calls} a step"


def resumes(s: Solver) -> str:
    """Stopped at any state and resumed, a run ends in the same result to the bit."""
    model = gaussian_model(VP())
    begin = _begin(s, model, (3, 4), dtype=F64)
    states = list(iterate(model, **begin, solver=s, steps=6, dtype=F64))
    for state in states[1:]:
        *_, end = iterate(model, solver=s, resume=state)
        expect(torch.equal(end.x, states[-1].x), f"resumed at {state.t!r} it ends elsewhere: keep history in the state")
    return f"from each of {len(states) - 1} states"


def every_process(s: Solver) -> str:
    """On every process, from T itself where alpha(T) = 0, it works or is refused in one sentence."""
    worked, refused = 0, []
    for sde in processes():
        for start in (None, sde.T):
            try:
                x = _run(s, gaussian_model(sde), (3, 2), steps=5, start=start).x
            except (SDEError, SolverError) as error:
                expect("\n" not in str(error), f"refuses {sde!r} in more than one sentence")
                refused.append(type(sde).__name__)
                continue
            expect(torch.isfinite(x).all(), f"gives NaN or infinity on {sde!r} from start={start}")
            worked += 1
    expect(worked >= len(processes()), f"refuses too many processes: {sorted(set(refused))}")
    return f"{worked} runs" + (f", refused at alpha = 0: {', '.join(sorted(set(refused)))}" if refused else "")


def measured_order(
    s: Solver, sde: LinearSDE | None = None, counts: tuple[int, ...] = (), *, reference: ReferenceFlow | None = None
) -> float:
    """Slope of the median error on a nonlinear mixture over the doublings of `counts` steps (160 to 640).

    reference: `ReferenceFlow.of(sde)`, by default computed, for `sde` or VP().
    """
    if reference is None:
        reference = ReferenceFlow.of(sde or VP())
    # From order 4 on more steps than these measure the reference's round-off, or a multistep method's start.
    counts = counts or ((160, 320, 640) if (s.order or 0) < 4 else (120, 240, 480))
    kind = "karras" if s.grid == "karras" else "log_snr"
    errors = []
    for n in counts:
        times = grid(kind, reference.model.sde, n)
        x = sample(reference.model, x=reference.starts, solver=s, grid=times, denoise=False)
        errors.append((x - reference.ends).norm(dim=1).median().item())
    return math.log2(errors[0] / errors[-1]) / math.log2(counts[-1] / counts[0])


def order(s: Solver, *, reference: ReferenceFlow | None = None) -> str:
    """A deterministic solver converges to the flow at its declared order, within 0.15."""
    if s.stochastic or s.corrector:
        return "not checked: stochastic"
    if s.adaptive:
        reference = reference or ReferenceFlow.of(VP())
        x = sample(reference.model, x=reference.starts, solver=s, denoise=False)
        gap = (x - reference.ends).norm(dim=1).median().item()
        allowed = max(1e-2, getattr(s, "rtol", 0.0))
        expect(gap < allowed, f"misses the flow by {gap:.1e} (median) at its own tolerance, allowed {allowed:.0e}")
        return f"adaptive, within {gap:.0e}"
    expect(s.order is not None, "a deterministic solver declares its order")
    slope = measured_order(s, reference=reference)
    expect(abs(slope - s.order) < 0.15, f"declares order {s.order}, measured {slope:.2f}")  # type: ignore[operator]
    return f"declared {s.order}, measured {slope:.2f}"


def marginals(s: Solver) -> str:
    """On Gaussian data the mean and variance of a stochastic solver converge to the closed form."""
    if not s.stochastic or s.corrector:
        return "not checked: deterministic, or a corrector"
    found = [exact_moments(s, VP(), n) for n in (100, 200, 400)]
    errors = [e for e in found if e is not None]
    if len(errors) < len(found):
        mean, spread = sampled_moments(s, VP(), 100)
        expect(abs(mean) < 0.03 and abs(spread) < 0.2, f"off by {mean:+.3f} in mean, {spread:+.1%} in variance")
        return f"not linear in x and noise; by sampling: variance error {spread:+.1%} +- 1.1% at 100 steps"
    (_, coarse), (mean, middle), (_, fine) = errors
    expect(abs(middle) < 0.15 and abs(mean) < 0.02, f"off by {mean:+.3f} in mean, {middle:+.1%} in variance")
    # A corrector's own bias falls like the inverse of the steps, but only once they are many: look over two doublings.
    falls = abs(fine) < 0.75**2 * abs(coarse) or abs(fine) < 1e-3
    expect(falls, f"variance error {coarse:+.2%} at 100 steps became {fine:+.2%} at 400")
    return f"variance error {coarse:+.2%} at 100 steps, {fine:+.2%} at 400"


def invariance(s: Solver) -> str:
    """A corrector leaves p_t nearly as it is: 40 applications to exact samples."""
    if not s.corrector:
        return "not checked: not a corrector"
    sde = VP()
    model = gaussian_model(sde)
    schedule = sde.schedule(0.3)
    alpha, sigma = schedule.alpha.item(), schedule.sigma.item()
    std = math.sqrt((0.3 * alpha) ** 2 + sigma**2)
    z = torch.randn(256, 64, dtype=F64, generator=torch.Generator().manual_seed(2))
    x = alpha * 0.5 + std * z
    for k in range(40):
        times = [0.3, 0.3 - 1e-9]
        x = sample(model, x=x, solver=s, grid=times, denoise=False, seed=k)
    mean, ratio = x.mean().item() - 0.5 * alpha, x.std().item() / std
    expect(abs(mean) < 0.1 and 0.85 < ratio < 1.15, f"p_t drifts: mean by {mean:+.3f}, std by a factor {ratio:.3f}")
    return f"mean {mean:+.3f}, std ratio {ratio:.3f}"


def kernel(s: Solver) -> str:
    """The kernel that a stochastic solver states is that of its step."""
    return kernel_is_the_step(s, functools.partial(_run, s, gaussian_model(VP()), (3, 2), steps=12, dtype=F64))


SOLVER_CHECKS: dict[str, Callable[[Solver], str]] = {
    "value": value, "shapes": shapes, "repeats": repeats, "batches": batches, "counts": counts, "resumes": resumes,
    "every process": every_process, "order": order, "marginals": marginals, "invariance": invariance,
    "kernel": kernel,
}  # fmt: skip


def check_solver(subject: Solver | str, *, reference: ReferenceFlow | None = None) -> list[Check]:
    """Every check of a solver, by name or object; raises ConformanceError naming the first that fails.

    Covers: being a value, shapes and dtypes, repeatability and threads, independence of the batch, counted
    calls, resuming, every process, measured order, exact Gaussian marginals, invariance of correctors,
    the kernel of a stochastic solver.
    reference: `ReferenceFlow.of(VP())`, to compute it once for many solvers.
    """
    return run_checks(
        resolve_solver(subject), {**SOLVER_CHECKS, "order": functools.partial(order, reference=reference)}
    )
