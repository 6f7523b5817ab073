"""The wirings that inference tries: processes with the clocks they are used with, preconditioned inputs, ranges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from sdediff.model.clock import Clock
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import LinearSDE
from sdediff.sde.processes import EDM, VE, VP, Cosine, RectifiedFlow, SubVP
from sdediff.sde.table import Table
from sdediff.wiring.ranges import RangeMap

Time = str | Clock


@dataclass(frozen=True, eq=False)
class Wiring:
    """A process and the line that makes it, a clock, sigma_data where the input is preconditioned, a range of values.

    predicts: "" while the readings of the output are compared.
    """

    sde: LinearSDE
    process: str
    time: Time
    sigma_data: float | None
    values: RangeMap
    predicts: str = ""

    def model(self, given: ScoreModel) -> ScoreModel:
        """The network of a model wired so."""
        predicts = self.predicts or ("eps" if self.sigma_data is None else "edm")
        data = {} if self.values.range is None else {"data": {"range": list(self.values.range)}}
        sigma_data = 1.0 if self.sigma_data is None else self.sigma_data
        return replace(given, sde=self.sde, predicts=predicts, time=self.time, sigma_data=sigma_data, card=data)

    def reading(self, predicts: str) -> Wiring:
        """The same input, with the output read as this quantity."""
        return replace(self, predicts=predicts)

    @property
    def python(self) -> str:
        """The line that makes the model of a network `net`."""
        clock = f'"{self.time}"' if isinstance(self.time, str) else f"sd.{self.time!r}"
        sigma_data = "" if self.sigma_data is None else f", sigma_data={self.sigma_data:g}"
        card = "" if self.values.range is None else f', card={{"data": {{"range": {list(self.values.range)}}}}}'
        return f'sd.ScoreModel(net, {self.process}, predicts="{self.predicts}", time={clock}{sigma_data}{card})'

    def __str__(self) -> str:
        name = next((name for name, line in _NAMED.items() if line == self.process), self.process.removeprefix("sd."))
        edm = "" if self.sigma_data is None else f", sigma_data {self.sigma_data:g}"
        return f"{name}, clock {written(self.time)}{edm}, {self.values}"


def written(time: Time) -> str:
    """A clock as a formula: 1000 t, 999 - index."""
    if isinstance(time, str):
        return time
    factor = {1.0: "", -1.0: "-"}.get(time.scale, f"{time.scale:g} ")
    if 0 < time.scale < 1:
        text = f"{time.base}/{1 / time.scale:g}"
    elif time.scale < 0 and time.offset:
        text = f"{time.offset:g} - {factor.removeprefix('-')}{time.base}"
    else:
        text = f"{factor}{time.base}" + (f" + {time.offset:g}".replace("+ -", "- ") if time.offset else "")
    return f"{text}, whole" if time.whole else text


# The lines of the discrete chains in use, by short names.
_EVEN = "torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)"
_NAMED = {
    "linear betas": f"sd.Table.from_betas({_EVEN})",
    "scaled-linear betas": "sd.Table.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)",
    "cosine betas": "sd.Table.from_betas(sd.Cosine().betas(1000))",
    "sigmoid betas": "sd.Table.from_betas(torch.sigmoid(torch.linspace(-6, 6, 1000)) * (0.02 - 1e-4) + 1e-4)",
    "linear betas of zero terminal SNR": f"sd.Table.from_betas({_EVEN}, zero_terminal_snr=True)",
}


def _tables() -> dict[str, Table]:
    """The discrete chains in use, by the line that makes each."""
    even, steps = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), torch.linspace(-6, 6, 1000)
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000)
    tables = (
        Table.from_betas(even),
        Table.from_betas(roots**2),
        Table.from_betas(Cosine().betas(1000)),
        Table.from_betas(torch.sigmoid(steps) * (0.02 - 1e-4) + 1e-4),
        Table.from_betas(even, zero_terminal_snr=True),
    )
    return dict(zip(_NAMED.values(), tables, strict=True))


# Clocks over the index of a table of 1000 training timesteps, over continuous time, and over the noise level.
_INDEX: tuple[Time, ...] = ("index", "t", Clock("index", 1 / 999), Clock("t", 1 / 1000), Clock("index", -1, 999))
_TIMES: tuple[Time, ...] = ("t", Clock("t", 1000), Clock("t", 999), Clock("t", -1, 1), Clock("t", -1000, 1000))
_NOISE: tuple[Time, ...] = (
    "sigma", "c_noise", Clock("c_noise", 4), Clock("c_noise", 4, -math.log(2)), "lam", "log_snr",
)  # fmt: skip
_LABELS: tuple[Time, ...] = (
    Clock("index", whole=True), Clock("t", whole=True), Clock("index", -1, 999, whole=True),
)  # fmt: skip
_WHOLE: tuple[Time, ...] = (
    Clock("t", 999, whole=True), Clock("t", 1000, whole=True), Clock("t", -999, 999, whole=True),
    Clock("t", -1000, 1000, whole=True),
)  # fmt: skip


def _processes(whole: bool) -> Iterator[tuple[str, LinearSDE, tuple[Time, ...], bool]]:
    """A process, its line and clocks, and whether inputs may be preconditioned."""
    index = _LABELS if whole else _INDEX
    times = _WHOLE if whole else _TIMES
    noise = () if whole else _NOISE
    yield "sd.VP()", VP(), times + noise, False
    for line, table in _tables().items():
        yield line, table, index, False
    yield "sd.EDM()", EDM(), ("t", *noise[1:]) if not whole else (), True
    yield "sd.RectifiedFlow()", RectifiedFlow(), times + noise[4:], False
    yield "sd.Cosine()", Cosine(), times + noise[4:], False
    yield "sd.Cosine(s=0)", Cosine(s=0), times, False
    yield "sd.SubVP()", SubVP(), times, False
    yield "sd.VE()", VE(), times, False
    yield "sd.VE(sigma_max=378)", VE(sigma_max=378), times, False
    yield "sd.VE.exponential(25.0)", VE.exponential(25.0), times, False
    yield "sd.VP(beta_min=1, beta_max=1, T=10)", VP(beta_min=1, beta_max=1, T=10), ("t", Clock("t", 0.1)), False


def candidates(
    ranges: Sequence[RangeMap],
    std: float,
    deviation: float,
    whole: bool = False,
    processes: Sequence[LinearSDE] = (),
) -> list[Wiring]:
    """Every input to try, usual ones first. whole: with integer clocks. processes: more.

    std, deviation: of the data as given, about their mean image and of all values, which trainers measure.
    """
    found = []
    own = [
        ("sde" if hasattr(sde, "n") else f"sd.{sde!r}", sde, (_INDEX if hasattr(sde, "n") else _TIMES) + _NOISE, False)
        for sde in processes
    ]
    for values in ranges:
        scale, measured = float(f"{std * values.scale:.1g}"), float(f"{deviation * values.scale:.3g}")
        for line, sde, clocks, edm in [*own, *_processes(whole)]:
            for time in clocks:
                scales = [None, *dict.fromkeys((0.5, 1.0, scale, measured))] if edm else [None]
                found += [Wiring(sde, line, time, sigma_data, values) for sigma_data in scales]
    return found
