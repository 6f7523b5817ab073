"""How fast solvers are beside their network: run in turns with the bare network, eager, kept in a Sampler, compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from sdediff._utils.checks import state_shape, whole
from sdediff._utils.errors import InputError
from sdediff.benchmark.clocks import Clock, clock_of
from sdediff.model.network import placement
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.sampling.api import Sampler
from sdediff.sampling.watch import CallCounter
from sdediff.solvers import Solver, solver

if TYPE_CHECKING:
    from rich.table import Table

# How a solver is run: by `sample`, by a Sampler that was made before, by one whose network is compiled.
MODES = ("eager", "Sampler", "compiled")


@dataclass(frozen=True)
class Speed:
    """A solver's time in one mode; medians over repeats.

    ms: milliseconds of the whole batch; network_ms: of as many evaluations of the bare network, run in the same round;
    ratio: the median of the quotients a round; low, high: its quartiles. peak_bytes: None on a CPU.
    """

    solver: str
    mode: str
    calls: int
    batch: int
    ms: float
    network_ms: float
    ratio: float
    low: float
    high: float
    peak_bytes: int | None


@dataclass(frozen=True, repr=False)
class Speeds:
    """Rows of `speeds`, and where they were measured."""

    rows: tuple[Speed, ...]
    device: str

    def __repr__(self) -> str:
        return f"Speeds({len(self.rows)} rows on {self.device})"

    def table(self) -> Table:
        """The rows as a rich table."""
        from rich import box
        from rich.table import Table

        caption = f"whole batch; ratio: over as many bare evaluations in the same round, with quartiles; {self.device}"
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, caption=caption)
        for title in ("solver", "mode"):
            table.add_column(title)
        for title in ("calls", "batch", "ms", "network ms", "ratio", "quartiles", "peak MB"):
            table.add_column(title, justify="right")
        for row in self.rows:
            peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}"
            table.add_row(
                row.solver, row.mode, str(row.calls), str(row.batch), f"{row.ms:.3g}", f"{row.network_ms:.3g}",
                f"{row.ratio:.3f}", f"{row.low:.3f}-{row.high:.3f}", peak,
            )  # fmt: skip
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"device": self.device, "rows": [asdict(row) for row in self.rows]}


def speeds(
    model: ScoreModel,
    solvers: Sequence[str | Solver] | Mapping[str, str | Solver],
    shape: Sequence[int],
    calls: int = 20,
    *,
    modes: Sequence[str] = ("eager", "Sampler"),
    repeats: int = 7,
    cond: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
    clock: Clock | None = None,
) -> Speeds:
    """The time of every solver at so many network evaluations of a batch (B, ...), beside that of the bare network.

    In every round each solver runs once in each mode and the bare network as often as that made it run, in turns, so
    that a busy moment meets all alike. One round before the first is not counted: compilation and caches. modes: of
    MODES. On CUDA times are those of events. cond: as in `sample`. InputError: an unknown mode, a solver that chooses
    its calls.
    """
    model, shape, repeats = check_model(model), state_shape(shape), whole("repeats", repeats, 1)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or isinstance(modes, str) or not modes:
        raise InputError(f"modes={modes!r}: give a list of {', '.join(MODES)}")
    kind, place = placement(model, dtype, device)
    clock = clock or clock_of(place)
    named = solvers if isinstance(solvers, Mapping) else {s if isinstance(s, str) else repr(s): s for s in solvers}
    runs = [_Run(label, solver(s), mode, model, shape, calls, cond, kind, place)
            for label, s in named.items() for mode in modes]  # fmt: skip
    bare = _Bare(model, shape, cond, kind, place)
    for round_ in range(repeats + 1):
        for run in runs if round_ % 2 else runs[::-1]:
            run.measure(clock, bare, counted=round_ > 0)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"
    return Speeds(tuple(run.row() for run in runs), name)


class _Bare:
    """The network alone, on a state at the middle of the process."""

    def __init__(
        self, model: ScoreModel, shape: tuple[int, ...], cond: dict[str, Any] | None, kind: Any, place: torch.device
    ) -> None:
        given = model.given(**cond) if cond else model
        seen: list[tuple[Any, dict[str, Any]]] = []

        def noted(*args: Any, **options: Any) -> Any:
            seen.append((args, options))
            return model.net(*args, **options)

        with torch.no_grad():
            given.map_net(lambda net: noted if net is model.net else net)(
                torch.randn(shape, dtype=kind, device=place), model.sde.t_max / 2
            )
        self.net, (self.args, self.options) = model.net, seen[0]

    def run(self, count: int) -> None:
        """Evaluate it so many times."""
        with torch.no_grad():
            for _ in range(count):
                self.net(*self.args, **self.options)


class _Run:
    """A solver in a mode, and what was measured of it."""

    def __init__(
        self, label: str, used: Solver, mode: str, model: ScoreModel, shape: tuple[int, ...], calls: int, cond: Any,
        kind: Any, place: torch.device,
    ) -> None:  # fmt: skip
        spent = used.spent(1)
        if spent is None:
            raise InputError(f"{label} chooses its network evaluations itself: compare its time by sd.bench")
        self.label, self.mode, self.shape, self.cond, self.place = label, mode, shape, cond, place
        counter = CallCounter()
        options: dict[str, Any] = {"solver": used, "calls": calls, "dtype": kind, "device": place}
        Sampler(model.map_net(counter.wrap), **options)(shape, cond=cond, progress=False)
        self.counted = counter.calls
        self.make: Callable[[], Sampler] = lambda: Sampler(model, **options, compile=mode == "compiled")
        self.kept = None if mode == "eager" else self.make()
        self.times: list[tuple[float, float]] = []
        self.peak: int | None = None

    def measure(self, clock: Clock, bare: _Bare, counted: bool) -> None:
        """One round: the bare network, then the solver."""
        began = clock.mark()
        bare.run(self.counted)
        network = clock.total([(began, clock.mark())])
        on_cuda = self.place.type == "cuda"
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(self.place)
        began = clock.mark()
        (self.kept or self.make())(self.shape, cond=self.cond, progress=False)
        own = clock.total([(began, clock.mark())])
        if counted:
            self.times.append((own, network))
            self.peak = max(self.peak or 0, torch.cuda.max_memory_allocated(self.place)) if on_cuda else None

    def row(self) -> Speed:
        """Medians of what was measured."""
        ratios = sorted(own / network for own, network in self.times)
        quarter = len(ratios) // 4
        return Speed(
            self.label, self.mode, self.counted, self.shape[0], 1e3 * median(own for own, _ in self.times),
            1e3 * median(network for _, network in self.times), median(ratios), ratios[quarter], ratios[-1 - quarter],
            self.peak,
        )  # fmt: skip
