"""Microseconds a step over the network call: sdediff beside its peers, in one run.

The network returns a constant tensor, one image of 3x32x32 in float32 on one thread, so that what remains is
the solver's own work: its tensor arithmetic and its Python. Peers that are not installed are skipped.

    python benchmarks/overhead.py [--repeats 40] [--json benchmarks/results/overhead.json]
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from floors import WORK, Work, floor
from peers import k_diffusion
from record import RESULTS, Gate, judged, versions, write

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.solvers import model_statistics

STEPS, LONG = 50, 200  # a step is the difference of the two runs over 150; what is left of the short run is set-up
SHAPE = (1, 3, 32, 32)
DRAW = "a draw of noise"
AGREE = 1.15  # two controls that the machine's speed did not change between
# Every registered solver of one call a step; those that draw noise have the draw in their floors.
ONE_CALL = {name: info.stochastic for name, info in sd.list_solvers().items() if not info.corrector and info.calls == 1}
# Microseconds of a step of one call, the free corrector included.
BOUND = 25.0
# The others, as multiples of their floors; several do the work of another's floor.
MULTIPLES = {
    "heun": 2.4, "dpm_solver_2": 2.5, "dpm_solver_3": 2.5, "dpmpp_2s": 2.2, "dpmpp_sde": 1.3, "seeds": 1.3,
    **{name: 1.3 for name, stochastic in ONE_CALL.items() if stochastic},
}  # fmt: skip
LIKE = dict.fromkeys(("euler_maruyama", "reverse_diffusion", "ddpm", "consistent_annealed_langevin"), "ancestral")
LIKE |= {"er_sde": "dpmpp_3m_sde"}
# The peers that the table can hold, by the names of their distributions.
PEERS = ("diffusers", "k-diffusion", "azula", "flow-matching", "torchdiffeq")

Run = Callable[[int], Any]


class Case(NamedTuple):
    """One row: a run of n steps by one system; `ours` names the sdediff solver that does the same."""

    system: str
    name: str
    ours: str
    run: Run


class Round(NamedTuple):
    """Microseconds of a row in one round: its short run, its long one, and the control before and after them."""

    short: float
    long: float
    before: float
    after: float


class Times(NamedTuple):
    """A row's figures in microseconds: a step over the network, a run's set-up; its calls a step.

    step and setup are at the speed of the machine at rest (`measure`), `rounds` is how many tell; low, mid and high are
    the quartiles of a step as it was. The set-up is what a run of 50 steps takes beyond its steps: times, tables,
    checks.
    """

    step: float
    rounds: int
    low: float
    mid: float
    high: float
    setup: float
    calls: float


class Net:
    """The trivial network: it returns one constant tensor and counts its calls while `counting`."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value, self.calls = value, 0
        self.counting = False

    def plain(self) -> Callable[..., torch.Tensor]:
        """The network as a bare function; when counting, one that counts."""
        value = self.value

        def net(x: Any, t: Any = None, **cond: Any) -> torch.Tensor:
            return value

        def counted(x: Any, t: Any = None, **cond: Any) -> torch.Tensor:
            self.calls += 1
            return value

        return counted if self.counting else net


def clock() -> float:
    """CPU microseconds of this thread: what a step costs, whoever else is busy on the machine."""
    return time.thread_time_ns() / 1e3


def timed(run: Callable[[], Any]) -> float:
    """CPU microseconds of one run."""
    begin = clock()
    run()
    return clock() - begin


def interleaved(rows: list[Case], control: Callable[[], Any], repeats: int, warm_up: int = 2) -> list[list[Round]]:
    """The rounds of every row, one of each in turn, so that a busy moment meets all of them alike."""
    found: list[list[Round]] = [[] for _ in rows]
    gc.collect()
    gc.freeze()
    for turn in range(repeats + warm_up):
        keys = range(len(rows))
        for i in keys if turn % 2 else reversed(keys):
            run = rows[i].run
            before = timed(control)
            short, long = timed(lambda run=run: run(STEPS)), timed(lambda run=run: run(LONG))
            if turn >= warm_up:
                found[i].append(Round(short, long, before, timed(control)))
        show(turn + 1, repeats + warm_up)
    gc.unfreeze()
    return found


def show(done: int, total: int) -> None:
    """Progress on a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\rround {done} of {total} ", end="\n" if done == total else "", file=sys.stderr, flush=True)


# The floor: what is left when every coefficient and clock is a number that is ready.


def two_step(net: Net, x: torch.Tensor, n: int) -> torch.Tensor:
    """n steps of DPM++ 2M's arithmetic."""
    call, now, y, last = net.plain(), torch.ones(SHAPE[0]), x, net.value
    for b, p, q, r in [(-0.1, 0.99, 0.02, -0.01)] * n:
        x0 = torch.add(y, call(y, now), alpha=b)
        y, last = (y * p).add_(x0, alpha=q).add_(last, alpha=r), x0
    return y


def floor_cases(net: Net, x: torch.Tensor) -> list[Case]:
    """Hand-written loops with precomputed numbers and no framework; `floors` has those of the other solvers."""
    call, now = net.plain(), torch.ones(SHAPE[0])

    def one_step(n: int) -> torch.Tensor:
        y = x
        for p, q in [(0.99, 0.01)] * n:
            y = (y * p).add_(call(y, now), alpha=q)
        return y

    others = [Case("floor", name, name, floor(work, call, x)) for name, work in WORK.items()]
    return [
        Case("floor", "x = p x + q F", "ddim", one_step),
        Case("floor", "two-step", "dpmpp_2m", lambda n: two_step(net, x, n)),
        Case("floor", DRAW, "ancestral", floor(Work((), draws=1), call, x)),
        *others,
    ]


def data() -> torch.Tensor:
    """Samples whose mean and scale differ from dimension to dimension, to measure statistics on."""
    source = torch.Generator().manual_seed(1)
    z, scale = torch.randn(64, *SHAPE[1:], generator=source), torch.rand(SHAPE[1:], generator=source)
    return scale * z + scale.flip(-1)


def by_dimension() -> Any:
    """DPM-Solver-v3 with statistics of every dimension, of a network that has some."""
    model = sd.ScoreModel(lambda x, t: 0.3 * x * torch.tanh(x), sd.VP(), predicts="eps")
    return sd.solver("dpm_solver_v3", statistics=model_statistics(model, data(), knots=16))


OURS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ONE_CALL},
    "dpmpp_2m, a condition": {"solver": "dpmpp_2m", "cond": {"label": torch.zeros(1, dtype=torch.long)}},
    "dpmpp_2m, v network": {"solver": "dpmpp_2m", "predicts": "v"},
    "angle, the data's mean and scale": {"solver": "angle", "stats": sd.statistics(data(), rank=8)},
    "angle, per dimension": {"solver": sd.solver("angle", scale="dims"), "stats": sd.statistics(data(), rank=8)},
    "dpm_solver_v3, per dimension": {"solver": by_dimension()},
    **{name: {} for name in WORK},
    "rk4": {},
    "ancestral, stream": {"solver": "ancestral", "noise": "stream"},
}


def our_cases(net: Net, x: torch.Tensor) -> list[Case]:
    """`sd.sample` with an eps network under VP; the last call to data is left out."""

    def case(name: str, options: dict[str, Any]) -> Case:
        options = {"solver": name, **options}
        kinds = {"predicts": options.pop("predicts", "eps"), "stats": options.pop("stats", None)}
        model = sd.ScoreModel(net.plain(), sd.VP(), **kinds)
        return Case("sdediff", name, name, lambda n: sd.sample(model, x=x, steps=n, denoise=False, **options))

    return [case(name, options) for name, options in OURS.items()]


# class, our solver, the arguments that make it do the same
SCHEDULERS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("DDIM", "ddim", "DDIMScheduler", {"clip_sample": False}),
    ("Euler", "euler", "EulerDiscreteScheduler", {}),
    ("DPM++ 2M", "dpmpp_2m", "DPMSolverMultistepScheduler", {}),
    ("UniPC", "dpmpp_2m", "UniPCMultistepScheduler", {}),
    ("DEIS", "dpmpp_2m", "DEISMultistepScheduler", {}),
    ("Heun", "heun", "HeunDiscreteScheduler", {}),
    ("Euler ancestral", "ancestral", "EulerAncestralDiscreteScheduler", {}),
    ("DDPM", "ancestral", "DDPMScheduler", {"clip_sample": False}),
]


def diffusers_cases(net: Net, x: torch.Tensor) -> list[Case]:
    """The documented loop: set_timesteps, then scale_model_input, the network, step(...).prev_sample."""
    diffusers = importlib.import_module("diffusers")
    call = net.plain()

    def case(label: str, ours: str, kind: str, options: dict[str, Any]) -> Case:
        scheduler = getattr(diffusers, kind)(**options)

        @torch.no_grad()
        def run(n: int) -> torch.Tensor:
            # Heun's scheduler counts each of its two calls as a step.
            scheduler.set_timesteps(n)
            y = x * scheduler.init_noise_sigma
            for t in scheduler.timesteps:
                y = scheduler.step(call(scheduler.scale_model_input(y, t), t), t, y).prev_sample
            return y

        return Case("diffusers", label, ours, run)

    return [case(*row) for row in SCHEDULERS]


def k_diffusion_cases(net: Net, x: torch.Tensor) -> list[Case]:
    """Its samplers on a bare denoiser (the network's output is x0) and on its own wrappers of a network."""
    sampling, external = k_diffusion()
    call = net.plain()

    class Inner(torch.nn.Module):
        def forward(self, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return call(y, t)

    bars = torch.linspace(0.9999, 0.9800, 1000).cumprod(0)
    wrapped = {
        "": call,
        ", v network": external.VDenoiser(Inner()),
        ", eps network": external.DiscreteEpsDDPMDenoiser(Inner(), bars, quantize=False),
    }

    def case(name: str, ours: str, wrapper: str = "") -> Case:
        sampler, model = getattr(sampling, name), wrapped[wrapper]

        @torch.no_grad()
        def run(n: int) -> torch.Tensor:
            # n + 1 levels above zero are n moves: the jump to zero is left out, as everywhere here.
            sigmas = sampling.get_sigmas_karras(n + 1, 0.02, 80.0)[:-1]
            return sampler(model, x, sigmas, disable=True)

        return Case("k-diffusion", name.removeprefix("sample_") + wrapper, ours, run)

    return [
        case("sample_euler", "euler"),
        case("sample_dpmpp_2m", "dpmpp_2m"),
        case("sample_dpmpp_2m", "dpmpp_2m, v network", ", v network"),
        case("sample_dpmpp_2m", "dpmpp_2m", ", eps network"),
        case("sample_heun", "heun"),
        case("sample_euler_ancestral", "ancestral"),
    ]


def azula_cases(net: Net, x: torch.Tensor) -> list[Case]:
    """Its samplers with its simplest denoiser."""
    denoise, noise, sample = (importlib.import_module(f"azula.{part}") for part in ("denoise", "noise", "sample"))
    call = net.plain()

    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return call(y, t)

    denoiser = denoise.SimpleDenoiser(Backbone(), noise.VPSchedule())

    def case(kind: str, ours: str, **options: Any) -> Case:
        def run(n: int) -> torch.Tensor:
            return getattr(sample, kind)(denoiser, steps=n, stop=1e-3, silent=True, **options)(x)

        return Case("azula", kind.removesuffix("Sampler"), ours, run)

    return [case("EulerSampler", "euler"), case("DDIMSampler", "ddim"), case("HeunSampler", "heun")]


def flow_matching_cases(net: Net, x: torch.Tensor) -> list[Case]:
    """Its ODESolver on a bare velocity."""
    solver = importlib.import_module("flow_matching.solver").ODESolver(velocity_model=net.plain())
    return [Case("flow_matching", "euler", "euler", lambda n: solver.sample(x_init=x, step_size=1 / n, method="euler"))]


def torchdiffeq_cases(net: Net, x: torch.Tensor) -> list[Case]:
    """odeint on a bare velocity; dopri5 with the step capped, so that n steps are taken."""
    odeint = importlib.import_module("torchdiffeq").odeint
    call = net.plain()
    span = torch.tensor([0.0, 1.0])

    @torch.no_grad()
    def euler(n: int) -> torch.Tensor:
        return odeint(lambda t, y: call(y, t), x, torch.linspace(0, 1, n + 1), method="euler")[-1]

    @torch.no_grad()
    def dopri5(n: int) -> torch.Tensor:
        options = {"max_step": 1 / n, "first_step": 1 / n}
        return odeint(lambda t, y: call(y, t), x, span, method="dopri5", options=options)[-1]

    return [Case("torchdiffeq", "euler", "euler", euler), Case("torchdiffeq", "dopri5", "rk4", dopri5)]


MAKERS = {
    "diffusers": diffusers_cases,
    "k-diffusion": k_diffusion_cases,
    "azula": azula_cases,
    "flow-matching": flow_matching_cases,
    "torchdiffeq": torchdiffeq_cases,
}


def cases(net: Net, x: torch.Tensor) -> tuple[list[Case], dict[str, str]]:
    """Every row that this environment can run, and why the others are missing."""
    rows, missing = floor_cases(net, x) + our_cases(net, x), {}
    for peer, make in MAKERS.items():
        try:
            rows += make(net, x)
        except ImportError as error:
            missing[peer] = str(error)
    return rows, missing


def calls_a_step(x: torch.Tensor) -> list[float]:
    """Network calls a step of every row, counted on a copy of the rows whose network counts."""
    net = Net(torch.zeros(SHAPE))
    net.counting = True
    found = []
    for case in cases(net, x)[0]:
        net.calls = 0
        case.run(STEPS)
        few, net.calls = net.calls, 0
        case.run(LONG)
        found.append((net.calls - few) / (LONG - STEPS))
    return found


def measure(rows: list[Case], net: Net, x: torch.Tensor, calls: list[float], repeats: int) -> list[Times]:
    """Each row's microseconds a step: a long run less a short one, a step, less the network's own.

    Neighbours on the host slow a machine down by half for seconds to minutes, so the two-step floor runs before and
    after each measurement as its control. What is told of a row is its median as a multiple of the control, where both
    agree, times what the control takes at rest: in the fastest tenth of all its runs.
    """
    call, now = net.plain(), torch.ones(SHAPE[0])
    own = min(timed(lambda: [call(x, now) for _ in range(20 * STEPS)]) for _ in range(5)) / (20 * STEPS)
    found = interleaved(rows, lambda: two_step(net, x, STEPS), repeats)
    rest = statistics.quantiles([v for row in found for here in row for v in (here.before, here.after)], n=10)[0]
    result = []
    for row, per_step in zip(found, calls, strict=True):
        even = [v for v in row if max(v.before, v.after) <= AGREE * min(v.before, v.after)]
        used = even or row
        speeds = [2 * rest / (v.before + v.after) for v in used]
        step = statistics.median(slope(v) * speed for v, speed in zip(used, speeds, strict=True)) - per_step * own
        short = statistics.median(v.short * speed for v, speed in zip(used, speeds, strict=True))
        spread = (v - per_step * own for v in statistics.quantiles(map(slope, row), n=4))
        result.append(Times(step, len(even), *spread, short - STEPS * (step + per_step * own), per_step))
    return result


def slope(here: Round) -> float:
    """Microseconds a step, the network's own included."""
    return (here.long - here.short) / (LONG - STEPS)


def table(rows: list[Case], times: list[Times]) -> list[str]:
    """The printed table; ratio is a row's step over that of our solver which does the same.

    The first column is at the speed of the machine at rest, the second has the quartiles of a step as it was; the
    last is a step of a 50-step run with its share of the set-up.
    """
    ours = {case.name: t.step for case, t in zip(rows, times, strict=True) if case.system == "sdediff"}
    head = ("us a step", "as it was", "calls", "ratio", "set-up us", "with set-up")
    widths = (10, 24, 7, 7, 11, 13)

    def row(name: str, values: Iterable[str]) -> str:
        return name + "".join(f"{v:>{w}s}" for v, w in zip(values, widths, strict=True))

    lines = [row(f"{'system':14s}{'solver':34s}", head)]
    for case, t in zip(rows, times, strict=True):
        values = (
            t.step,
            f"{t.low:.1f} / {t.mid:.1f} / {t.high:.1f}",
            t.calls,
            t.step / ours[case.ours],
            t.setup,
            t.step + t.setup / STEPS,
        )
        shown = (v if isinstance(v, str) else f"{v:.{d}f}" for v, d in zip(values, (1, 0, 0, 2, 0, 1), strict=True))
        lines.append(row(f"{case.system:14s}{case.name:34s}", shown))
    return lines


def gates(rows: list[Case], times: list[Times]) -> list[Gate]:
    """What must hold."""
    step = {(case.system, case.name): t.step for case, t in zip(rows, times, strict=True)}
    found = [Gate(f"{name} a step, us", step["sdediff", name], BOUND) for name in ONE_CALL if name not in MULTIPLES]
    for name, bound in MULTIPLES.items():
        found.append(Gate(f"{name} over its floor", step["sdediff", name] / step["floor", LIKE.get(name, name)], bound))
    peer = step.get(("k-diffusion", "dpmpp_2m"))
    if peer is not None:
        found.append(Gate("dpmpp_2m over k-diffusion's on a bare denoiser", step["sdediff", "dpmpp_2m"] / peer, 0.5))
    return found


def main() -> int:
    """Measure, print, write; exit status 1 when a gate fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40, help="interleaved rounds (40)")
    parser.add_argument("--json", type=Path, default=RESULTS / "overhead.json", help="where the record goes")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    net, x = Net(torch.zeros(SHAPE)), torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    rows, missing = cases(net, x)
    times = measure(rows, net, x, calls_a_step(x), chosen.repeats)
    place = machine() | {"load": round(os.getloadavg()[0], 1)}
    packages = {"sdediff": sd.__version__, **versions(["torch", "numpy", *PEERS])}
    print(f"{SHAPE}, float32, {STEPS} and {LONG} steps, {chosen.repeats} rounds; {place}")
    print(*table(rows, times), sep="\n")
    for peer, why in missing.items():
        print(f"skipped: {peer} ({why})")
    held = judged(gates(rows, times))
    write(chosen.json, {
        "shape": SHAPE, "dtype": "float32", "steps": [STEPS, LONG],
        "repeats": chosen.repeats, "clock": "thread CPU time",
        "machine": place, "versions": packages, "skipped": missing,
        "rows": [
            {"system": case.system, "solver": case.name, "same_as": case.ours, **t._asdict()}
            for case, t in zip(rows, times, strict=True)
        ],
        "gates": held,
    })  # fmt: skip
    return 0 if all(gate["held"] for gate in held) else 1


if __name__ == "__main__":
    sys.exit(main())
