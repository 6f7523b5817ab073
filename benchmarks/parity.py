"""Agreement with the peers' own code: our named solvers beside k-diffusion's and diffusers', step by step.

Both sides get the same exact denoiser of a curved mixture, the same levels, the same start and the same noise: what
our solver draws is kept and handed to the peer in the same order. k-diffusion runs in float64 as it is; diffusers
forces float32 on its table, levels and states, so it runs twice: with float64 in the place of that (the gap that is
held to the bar) and as shipped (printed beside it). Names that are not registered are listed as such.

    python benchmarks/parity.py [--only NAME] [--json benchmarks/results/parity.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from overhead import PEERS
from peers.schedulers import Scheduler, prepared
from record import RESULTS, versions, write
from torch import Tensor

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.benchmark.contenders.k_diffusion_samplers import sampling as k_diffusion

F64 = torch.float64
# In float64, and as shipped, where float32 rounding stands between the two.
BAR, SHIPPED = 1e-10, {"k-diffusion": 1e-10, "diffusers": 5e-5}
BATCH, LEVELS, STEPS = 8, 14, 20

Run = Callable[[sd.Solver, bool], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Recorded(sd.Noise):
    """Counter noise that keeps its draws in order, for the peer to be given the same."""

    drawn: list[Tensor] = field(default_factory=list, compare=False, repr=False)

    def __call__(self, t: Any, s: Any, like: Tensor, draw: int = 0) -> Tensor:
        z = self._counter(like, (t.index, draw + self.offset))
        self.drawn.append(z)
        return z

    def replay(self) -> Callable[..., Tensor]:
        """The draws again, in order, whatever is asked with them.

        A peer may draw where its weight is 0, for the step to sigma 0 or throughout a deterministic run: such a draw
        is a large number, so that a weight which is not 0 would show.
        """
        left, spare = iter(self.drawn), 1

        def draw(like: Tensor | None = None, *_: Any) -> Tensor:
            nonlocal spare
            z = next(left, None)
            if z is not None:
                return z
            spare -= bool(self.drawn)
            if spare < 0 or like is None:
                raise LookupError(f"the peer draws more often than our {len(self.drawn)} times")
            return torch.full_like(like, 1e6)

        return draw


@dataclass(frozen=True)
class Case:
    """One comparison: `ours` by registry name and options, `theirs` by name, `run` gives (our state, their state).

    run(solver, wide): wide=False runs the peer as shipped. differs: why equality is not expected, so no bar.
    """

    peer: str
    theirs: str
    ours: str
    run: Run = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    differs: bool = False


@dataclass(frozen=True)
class Gap:
    """What a case gave: largest absolute difference in float64, and with the peer as shipped; or why there is none."""

    case: Case
    solver: str = ""
    gap: float | None = None
    shipped: float | None = None
    error: str = ""

    @property
    def verdict(self) -> str:
        """within, BEYOND, differs (by design), not registered, or failed."""
        if self.error:
            return "not registered" if self.error == "not registered" else "FAILED"
        if self.case.differs:
            return "differs"
        held = self.gap is not None and self.gap <= BAR
        return "within" if held and (self.shipped or 0.0) <= SHIPPED[self.case.peer] else "BEYOND"


def start(scale: float, shape: tuple[int, ...] = (BATCH, 2)) -> Tensor:
    """The states that both sides begin from."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=F64)


# k-diffusion: EDM's process, whose time is sigma, so its states and levels are ours.


def _denoiser(model: sd.ScoreModel) -> Callable[..., Tensor]:
    return lambda x, sigma, **_: model(x, sigma.double().flatten()[0].item()).x0


def _within_steps(noise: Recorded, sigmas: Tensor) -> Callable[..., Tensor]:
    """Our draws for a sampler that asks for a path's rise half way in log sigma, then over the whole step.

    Of our two draws a step the first is the whole rise; its early part, with share a of the variance, is
    sqrt(a) whole + sqrt(1 - a) other.
    """
    asked = []
    pairs = zip(noise.drawn[::2], noise.drawn[1::2], strict=True)
    for (t, s), (whole, other) in zip(itertools.pairwise(sigmas.tolist()), pairs, strict=True):
        share = (t - math.sqrt(t * s)) / (t - s)
        asked += [math.sqrt(share) * whole + math.sqrt(1 - share) * other, whole]
    return Recorded(drawn=asked).replay()


def _listed(name: str, last: bool = True, **theirs: Any) -> Run:
    """A sampler that takes a list of sigmas; last: with the zero at its end, which is our denoise."""

    def run(used: sd.Solver, wide: bool) -> tuple[Tensor, Tensor]:
        sampling = k_diffusion()
        model, noise = sd.target("target_m").model(sd.EDM()), Recorded()
        sigmas = sd.grid("karras", model.sde, LEVELS - 1)
        x = start(sigmas[0].item())
        ours = sd.sample(model, x=x, solver=used, grid=sigmas, noise=noise, denoise=last)
        options = dict(theirs)
        if used.stochastic:
            options["noise_sampler"] = _within_steps(noise, sigmas) if name == "dpmpp_sde" else noise.replay()
        with prepared(sampling):
            ends = torch.cat([sigmas, sigmas.new_zeros(int(last))])
            found = getattr(sampling, f"sample_{name}")(_denoiser(model), x, ends, disable=True, **options)
        return ours, found

    return run


def _ranged(name: str, calls: int | None, **theirs: Any) -> Run:
    """A sampler that makes its own levels between two sigmas and stops at the lower one."""

    def run(used: sd.Solver, wide: bool) -> tuple[Tensor, Tensor]:
        sampling = k_diffusion()
        model = sd.target("target_m").model(sd.EDM())
        low, high = model.sde.t_min, model.sde.T
        x, budget = start(high), {} if calls is None else {"calls": calls}
        ours = sd.sample(model, x=x, solver=used, denoise=False, **budget)
        options = dict(theirs) | ({"n": calls} if calls else {})
        # They multiply a draw by zero where eta is 0.
        options["noise_sampler"] = lambda *_: torch.zeros_like(x[:1])
        sampler = getattr(sampling, f"sample_{name}")
        with prepared(sampling):
            # One at a time: where steps are chosen, theirs share one among the batch, ours are a sample's own.
            found = [sampler(_denoiser(model), one, low, high, disable=True, **options) for one in x.split(1)]
        return ours, torch.cat(found)

    return run


def k_cases() -> list[Case]:
    """k-diffusion's list."""
    case = functools.partial(Case, "k-diffusion")
    rows = [
        case("euler", "euler", _listed("euler")),
        case("euler", "ddim", _listed("euler"), note="Euler in sigma at alpha = 1 is DDIM"),
        case("heun", "heun", _listed("heun")),
        case("dpm_2", "dpm2", _listed("dpm_2")),
        case("lms", "lms", _listed("lms", last=False), note="to the last level: their step to 0 is of order 4 too"),
        case("dpmpp_2m", "dpmpp_2m", _listed("dpmpp_2m")),
    ]
    for theirs, ours in (
        ("euler_ancestral", "euler_ancestral"),
        ("euler_ancestral", "ancestral"),
        ("dpm_2_ancestral", "dpm2_ancestral"),
        ("dpmpp_2s_ancestral", "dpmpp_2s_ancestral"),
        ("dpmpp_sde", "dpmpp_sde"),
        ("dpmpp_3m_sde", "dpmpp_3m_sde"),
    ):
        rows.append(case(theirs, ours, _listed(theirs)))
    for kind in ("midpoint", "heun"):
        theirs = _listed("dpmpp_2m_sde", solver_type=kind)
        rows.append(case(f"dpmpp_2m_sde {kind}", "dpmpp_2m_sde", theirs, {"kind": kind}))
    # Where theirs scales the exponent, ours scales the noise: eta squared. Of an ancestral step it is the same.
    for name in ("dpmpp_2m_sde", "dpmpp_3m_sde"):
        rows.append(case(f"{name} eta 0.5", name, _listed(name, eta=0.5), {"eta": math.sqrt(0.5)}))
    rows.append(case("euler_ancestral eta 0.5", "euler_ancestral", _listed("euler_ancestral", eta=0.5), {"eta": 0.5}))
    rows += [
        case("dpmpp_2s_ancestral eta 0", "dpmpp_2s", _listed("dpmpp_2s_ancestral", eta=0.0)),
        case("dpmpp_3m_sde eta 0", "dpmpp_3m_sde", _listed("dpmpp_3m_sde", eta=0.0), {"eta": 0.0}),
        case(
            "dpmpp_3m_sde eta 0", "dpmpp_3m", _listed("dpmpp_3m_sde", eta=0.0), differs=True,
            note="their second step weighs the difference by phi_2, the released multistep code by (1 - e^-h)/2",
        ),
        *(
            case(f"dpm_fast, {n} calls", "dpm_fast", _ranged("dpm_fast", n), {"tail": tail})
            for n, tail in ((12, (2, 1)), (13, (1,)), (14, (2,)))
        ),
        case("dpm_adaptive order 3", "dpm_adaptive", _ranged("dpm_adaptive", None)),
        case("dpm_adaptive order 2", "dpm_adaptive", _ranged("dpm_adaptive", None, order=2), {"pair": 12}),
    ]  # fmt: skip
    return rows


# diffusers: DDPM's table of linear betas, with the network of eps that an index reads.


@functools.cache
def table() -> tuple[sd.Table, Tensor]:
    """The table and its alpha_bars, float64."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    return sd.Table.from_betas(betas), (1 - betas).cumprod(0)


def _scheduled(
    kind: str,
    n: int = STEPS,
    last: bool = True,
    stop: float | None = None,
    step: dict[str, Any] | None = None,
    **options: Any,
) -> Run:
    """A scheduler on the table. last=False: compare before its last step; stop: it ends there, without a jump to data.

    Schedulers that hold x/alpha are compared with our solver under EDM's process, on the same network.
    """

    def run(used: sd.Solver, wide: bool) -> tuple[Tensor, Tensor]:
        sde, bars = table()
        model, noise = sd.target("target_m").model(sde), Recorded()
        plan = Scheduler(kind, bars, n, wide, **options)
        times = [*plan.times, *([] if stop is None else [stop])]
        process, grid = sde, times
        if plan.in_kappa:
            process = sd.EDM(T=200.0)
            grid = torch.exp(-sde.lam(times)).tolist()
        x = start(process.sigma(torch.tensor(grid[:1], dtype=F64)).item())
        moving = sd.reschedule(model, process) if plan.in_kappa else model
        denoise = last and stop is None
        ours = sd.sample(moving, x=x, solver=used, grid=grid, noise=noise, denoise=denoise)
        plan.draw = noise.replay()
        knots = plan.it.timesteps.tolist()
        found = plan.run(lambda y, i: model(y, knots[i] + 1.0).eps, x, last, **(step or {}))
        return ours, found

    return run


_HALF = "theirs gives the second difference half of its integral's weight, as the released code"
_STRIDE = "their previous step is t - 1000//n, not the next of the list, so the chain's levels do not join"


def diffusers_cases() -> list[Case]:
    """diffusers' schedulers that have a name on our side."""
    case = functools.partial(Case, "diffusers")
    # On fractional times theirs interpolates sigma, our table lam: "leading" with 20 steps has knots alone.
    knots = {"timestep_spacing": "leading"}
    lead = knots | {"clip_sample": False}
    trail = _scheduled("DDIMScheduler", 24, timestep_spacing="trailing", clip_sample=False)
    rows = [
        case("DDIM", "ddim", _scheduled("DDIMScheduler", **lead)),
        case("DDIM eta 1", "ddim", _scheduled("DDIMScheduler", step={"eta": 1.0}, **lead), {"eta": 1.0}),
        case("DDIM eta 1", "ancestral", _scheduled("DDIMScheduler", step={"eta": 1.0}, **lead)),
        case("DDIM trailing, 24 steps", "ddim", trail, note=_STRIDE, differs=True),
        case("DDPM fixed_small", "ancestral", _scheduled("DDPMScheduler", **lead)),
        case("DDPM fixed_large", "ddpm", _scheduled("DDPMScheduler", variance_type="fixed_large", **lead)),
        case("Euler", "euler", _scheduled("EulerDiscreteScheduler", **knots)),
        case("Heun", "heun", _scheduled("HeunDiscreteScheduler", **knots)),
        case("KDPM2", "dpm2", _scheduled("KDPM2DiscreteScheduler", **knots)),
        case("LMS", "lms", _scheduled("LMSDiscreteScheduler", last=False, **knots)),
        case("EulerAncestral", "euler_ancestral", _scheduled("EulerAncestralDiscreteScheduler", **knots)),
        case("EulerAncestral", "ancestral", _scheduled("EulerAncestralDiscreteScheduler", **knots)),
    ]  # fmt: skip
    return rows + _dpm_cases(case) + _other_cases(case)


def _dpm_cases(case: Callable[..., Case]) -> list[Case]:
    """DPMSolverMultistep: 20 steps keep its rule of lower orders at the end (under 15 steps) out of play."""

    def dpm(**o: Any) -> Run:
        return _scheduled("DPMSolverMultistepScheduler", **o)

    eps = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "stop": 1.0}
    sde = {"algorithm_type": "sde-dpmsolver++"}
    return [
        case("DPM++ 1", "ddim", dpm(solver_order=1)),
        case("DPM++ 2 midpoint", "dpmpp_2m", dpm()),
        case("DPM++ 2 heun", "adams", dpm(solver_type="heun"), {"points": 2}),
        case("DPM++ 3", "dpmpp_3m", dpm(solver_order=3), note=_HALF),
        case("DPM++ 3", "adams", dpm(solver_order=3), {"points": 3}, note=_HALF + "; adams is exact", differs=True),
        case(
            "DPM++ 2, 10 steps", "dpmpp_2m", dpm(n=10),
            note="lower orders at the end under 15 steps touch the last step alone, which goes to sigma 0",
        ),
        case("DPM 1", "ddim", dpm(solver_order=1, **eps)),
        case("DPM 2 heun", "adams", dpm(solver_type="heun", **eps), {"points": 2, "basis": "eps"}),
        case("DPM 2 midpoint", "adams", dpm(**eps), {"points": 2, "basis": "eps", "second": "bh2"}),
        case(
            "DPM 3", "adams", dpm(solver_order=3, **eps),
            {"points": 3, "basis": "eps", "second": "bh2", "third": "half"}, note=_HALF,
        ),
        case("SDE-DPM++ 1", "ancestral", dpm(solver_order=1, **sde)),
        case("SDE-DPM++ 2 midpoint", "dpmpp_2m_sde", dpm(**sde), {"kind": "midpoint"}),
        case("SDE-DPM++ 2 heun", "dpmpp_2m_sde", dpm(solver_type="heun", **sde), {"kind": "heun"}),
        case("SDE-DPM++ 2 heun", "adams", dpm(solver_type="heun", **sde), {"points": 2, "eta": 1.0}),
        case(
            "SDE-DPM++ 3", "dpmpp_3m_sde", dpm(solver_order=3, **sde), differs=True,
            note="their weight of the second difference, (1 - e^-2h - 2h)/(2h)^2 - 1/2, tends to -1 as h -> 0; the "
            "integral's half is (1 - e^-2h - 2h)/(2h)^2 + 1/2 = h/3 + ...: the sign of 1/2 is wrong",
        ),
    ]  # fmt: skip


def _other_cases(case: Callable[..., Case]) -> list[Case]:
    """UniPC, DEIS, PNDM, SA-Solver. Their last step to sigma 0 is one of a multistep method: it is left out."""
    rows = []
    for order in (1, 2, 3):
        for variant in ("bh1", "bh2"):
            theirs = _scheduled(
                "UniPCMultistepScheduler", last=False, solver_order=order, solver_type=variant, lower_order_final=False
            )
            rows.append(case(f"UniPC {order} {variant}", "unipc", theirs, {"order": order, "variant": variant}))
    for order in (1, 2, 3):
        deis = _scheduled("DEISMultistepScheduler", last=False, solver_order=order)
        note, lam = "log-rho: eps interpolated in log sigma", {"basis": "eps", "variable": "lam"}
        rows.append(case(f"DEIS {order}", "deis", deis, {"order": order, "variant": "logrho"}, note=note))
        rows.append(case(f"DEIS {order}", "adams", deis, {"points": order} | lam, note=note))
    lead = {"timestep_spacing": "leading", "last": False}
    plms = _scheduled("PNDMScheduler", skip_prk_steps=True, **lead)
    rows += [
        case("PNDM", "pndm", _scheduled("PNDMScheduler", **lead), note="Runge-Kutta for the first three steps"),
        case("PNDM skip_prk", "plms", plms, note="their first step is Heun's, with two calls"),
    ]
    for points, tau in itertools.product((2, 3), (_none, _one)):
        orders = {"predictor_order": points, "corrector_order": points, "lower_order_final": False}
        theirs, label = _scheduled("SASolverScheduler", last=False, tau_func=tau, **orders), f"SA-Solver {points}"
        both = {"points": points, "corrector_points": points, "eta": tau(0), "second": "bh1"}
        rows.append(case(f"{label}, tau {tau(0):g}", "adams", theirs, both))
        both = {"predictor": points, "corrector": points, "tau": tau(0), "within": None}
        note = "two points weigh the difference by h^2/2 in theirs, by its integral in the paper and in ours"
        rows.append(case(f"{label}, tau {tau(0):g}", "sa_solver", theirs, both, note, differs=True))
    return rows


def _none(t: Any) -> float:
    return 0.0


def _one(t: Any) -> float:
    return 1.0


def cases() -> list[Case]:
    """Every comparison."""
    return k_cases() + diffusers_cases()


def measure(case: Case) -> Gap:
    """One case, run on both sides; a name that is missing, or a failure, becomes the row's error."""
    if case.ours not in sd.list_solvers():
        return Gap(case, error="not registered")
    try:
        used = sd.solver(case.ours, **case.options)
        gaps = []
        for wide in (True, False):
            ours, theirs = case.run(used, wide)
            gaps.append((ours - theirs.double()).abs().max().item())
            if case.peer == "k-diffusion":
                break
    except ImportError:
        raise
    except Exception as error:
        return Gap(case, error=f"{type(error).__name__}: {error}")
    return Gap(case, repr(used), gaps[0], gaps[-1])


def show(found: Gap) -> str:
    """One printed row."""
    case = found.case
    options = ", ".join(f"{k}={v}" for k, v in case.options.items())
    ours = f"{case.ours}({options})" if options else case.ours
    figures = [f"{v:9.1e}" if v is not None else " " * 9 for v in (found.gap, found.shipped)]
    remark = found.error if found.verdict == "FAILED" else case.note
    return f"{case.peer:12s}{case.theirs:27s}{ours:42s}{figures[0]}{figures[1]}  {found.verdict:15s}{remark}"


def main() -> int:
    """Measure, print, write; exit status 1 when a registered case is beyond its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose peer, their name or our name contains this")
    parser.add_argument("--json", type=Path, default=RESULTS / "parity.json", help="where the record goes")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"{'peer':12s}{'theirs':27s}{'ours':42s}{'float64':>9s}{'shipped':>9s}")
    found, skipped = [], {}
    for case in cases():
        if chosen.only not in f"{case.peer} {case.theirs} {case.ours}" or case.peer in skipped:
            continue
        try:
            found.append(measure(case))
        except ImportError as error:
            skipped[case.peer] = str(error)
            print(f"skipped: {case.peer} ({error})")
            continue
        print(show(found[-1]))
    write(chosen.json, {
        "oracle": "target_m", "batch": BATCH, "bars": {"float64": BAR, "shipped": SHIPPED}, "machine": machine(),
        "versions": {"sdediff": sd.__version__, **versions(["torch", "numpy", *PEERS])}, "skipped": skipped,
        "rows": [
            {**{f.name: getattr(row.case, f.name) for f in dataclasses.fields(Case) if f.name != "run"},
             "solver": row.solver, "gap": row.gap, "shipped": row.shipped, "verdict": row.verdict, "error": row.error}
            for row in found
        ],
    })  # fmt: skip
    return 1 if any(row.verdict in ("BEYOND", "FAILED") for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
