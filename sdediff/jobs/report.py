"""report.html: the results of a job on one page, with its error budget and two plots."""

from __future__ import annotations

import base64
import html
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdediff._utils.files import whole
from sdediff.jobs.summary import MERGED, Summary, read_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "report.html"
_MOST, _EXTREMES = 10**6, 5  # samples of the plots, and rows at either end that are listed
_BLUE, _ORANGE = "#0072b2", "#d55e00"
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Likelihood of {title}</title>
<style>
:root {{ --ink: #1c1e21; --soft: #5c636b; --line: #dfe2e6; --back: #fff; --note: #8a3b00; --link: #0072b2 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8eaed; --soft: #a3abb3; --line: #3a3f45; --back: #15181b; --note: #ffb27a; --link: #56b4e9 }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--back) }}
h1 {{ font-size: 1.5rem; margin-bottom: .2rem }} h2 {{ font-size: 1.1rem; margin-top: 1.8rem }}
div {{ overflow-x: auto }} table {{ border-collapse: collapse; width: 100% }} a {{ color: var(--link) }}
td, th {{ padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }}
td.n {{ white-space: nowrap; font-variant-numeric: tabular-nums }} img {{ max-width: 100%; background: #fff }}
.note {{ color: var(--note) }} .small {{ color: var(--soft); font-size: 85% }}
</style></head><body>
<h1>Likelihood of {title}</h1>
<p>{lead}</p>{warnings}
<h2>Error budget</h2>
<div><table><tr><th>part</th><th>value</th><th>meaning</th></tr>{budget}</table></div>
<h2>Samples{shown}</h2>
<img alt="Histogram of the values of the samples" src="data:image/png;base64,{histogram}">
<img alt="Running mean with two standard errors" src="data:image/png;base64,{running}">
<h2>The least and the most likely rows</h2>
<div><table><tr><th>row</th><th>{unit}</th><th></th></tr>{extremes}</table></div>
<p>Every row: <a href="{result}">{result}</a></p>
<h2>Settings</h2>
<div><table>{settings}</table></div>
<p class="small">{foot}</p>
</body></html>
"""


def write_report(folder: Path, summary: Summary) -> Path:
    """Write report.html beside the job's other files, and return its path."""
    every = math.ceil(summary.samples / _MOST)
    columns = read_results(folder, every)
    good = np.array([word == "ok" for word in columns["status"]])
    unit, key = ("bits/dim", "bits_per_dim") if summary.levels is not None else ("nats", "log_prob")
    values, rows = columns[key][good], columns["index"][good]
    page = _PAGE.format(
        title=html.escape(f"{summary.data} by {summary.model or 'a model without a name'}"),
        lead=html.escape(_lead(summary)), warnings=_warnings(summary),
        budget=_rows(_budget(summary)), histogram=_png(_histogram(values, unit)),
        running=_png(_running(rows, values, unit)), settings=_rows(sorted(summary.settings.items())),
        extremes=_rows(_extremes(rows, values, bits=unit == "bits/dim")), unit=unit, result=MERGED,
        foot=_foot(summary), shown="" if every == 1 else f", one in {every}",
    )  # fmt: skip
    with whole(folder / NAME) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return folder / NAME


def _lead(summary: Summary) -> str:
    if summary.log_prob is None:
        return f"{summary.samples} samples, {summary.left_out} left out; no mean is given."
    nats = f"{summary.log_prob:.4f}{_plus_minus(summary.log_prob_std_error)} nats"
    bits = ""
    if summary.bits_per_dim is not None:
        bits = f"{summary.bits_per_dim:.4f}{_plus_minus(summary.bits_per_dim_std_error)} bits/dim, "
    return f"{bits}{nats} a sample, over {summary.samples - summary.left_out} of {summary.samples} samples."


def _plus_minus(value: float | None) -> str:
    return "" if value is None else f" +- {value:.4f}"


def _warnings(summary: Summary) -> str:
    lines = [summary.refused] if summary.refused else []
    others = {word: count for word, count in summary.statuses.items() if word != "ok"}
    lines += [f"{count} left out: {word}" for word, count in others.items()]
    lines += [f"{key}: {value}" for key, value in summary.notes.items()]
    return "".join(f'<p class="note">{html.escape(line)}</p>' for line in lines)


def _budget(summary: Summary) -> list[tuple[str, Any, str]]:
    to_bits = 1 / ((summary.dims or 1) * np.log(2))

    def size(nats: float | None) -> str:
        if nats is None:
            return "unknown"
        return f"{nats:.2g} nats" + (f" = {nats * to_bits:.2g} bits/dim" if summary.levels is not None else "")

    no_draws = "one draw: unknown" if summary.levels is not None else "none: continuous data"
    if summary.levels is not None and "p of the data" in (summary.density or ""):
        no_draws = "none: levels are scored without dequantisation"
    return [
        ("sampling", size(summary.log_prob_std_error), "standard error of the mean over the samples"),
        ("trace", size(summary.probe_error), "standard error of the mean by the probes of the divergence"),
        ("solver", size(summary.solver_error), "mean size of the samples' solver errors, as the method estimates them"),
        ("dequantisation", size(summary.dequantisation_error) if summary.draws > 1 else no_draws,
         "standard error of the mean by the uniform draws"),
        ("tightening", size(summary.tightening) if summary.draws > 1 else no_draws, _tightening(summary.draws)),
        ("start", f"t0 = {summary.t0:g}" if summary.t0 is not None else "unknown", f"reported: {summary.density}"),
        ("prior", summary.prior or "unknown", summary.difference or "the density at T"),
        ("calls", f"{summary.calls:.1f}" if summary.calls is not None else "unknown", "network evaluations a sample"),
        ("seconds", f"{summary.seconds:.1f}", "computing time, over all processes and runs"),
    ]  # fmt: skip


def _extremes(rows: np.ndarray, values: np.ndarray, bits: bool) -> list[tuple[int, str, str]]:
    """The rows of the lowest and of the highest density, with what they are; few bits are a high density."""
    order = np.argsort(-values if bits else values, kind="stable").tolist()
    count = min(_EXTREMES, len(order) // 2)
    named = [(at, "least likely") for at in order[:count]] + [(at, "most likely") for at in order[-count:][::-1]]
    return [(int(rows[at]), f"{values[at]:.4f}", what) for at, what in named if count]


def _tightening(draws: int) -> str:
    return f"gain of {draws} weighted draws over one" if draws > 1 else "gain of several weighted draws over one"


def _rows(rows: Any) -> str:
    cells = ("".join(f'<td class="n">{html.escape(str(cell))}</td>' for cell in row[:2]) + _last(row) for row in rows)
    return "".join(f"<tr>{cell}</tr>" for cell in cells)


def _last(row: Any) -> str:
    return f"<td>{html.escape(str(row[2]))}</td>" if len(row) > 2 else ""


def _foot(summary: Summary) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in summary.versions.items())
    machine = ", ".join(f"{value}" for key, value in summary.machine.items() if key in ("cpu", "device", "date"))
    return html.escape(f"{versions}; {machine}")


def _axes() -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _histogram(values: np.ndarray, unit: str) -> Figure:
    figure, axes = _axes()
    if len(values):
        axes.hist(values, bins=min(60, max(8, round(len(values) ** 0.5))), color=_BLUE)
        axes.axvline(values.mean(), color=_ORANGE, label=f"mean {values.mean():.4g}")
        axes.legend(frameon=False)
    axes.set_xlabel(f"{unit} of a sample")
    axes.set_ylabel("samples")
    return figure


def _running(rows: np.ndarray, values: np.ndarray, unit: str) -> Figure:
    figure, axes = _axes()
    count = np.arange(1, len(values) + 1)
    if len(values) > 1:
        mean = values.cumsum() / count
        # Relative to the last mean, so that no large numbers cancel.
        shifted = values - mean[-1]
        spread = (shifted**2).cumsum() / count - (shifted.cumsum() / count) ** 2
        error = np.sqrt(np.maximum(spread[1:], 0) / count[:-1])
        axes.fill_between(count[1:], mean[1:] - 2 * error, mean[1:] + 2 * error, color=_BLUE, alpha=0.2, linewidth=0)
        axes.plot(count[1:], mean[1:], color=_BLUE)
        axes.axhline(mean[-1], color=_ORANGE, linewidth=0.9)
        late = slice(max(1, len(mean) // 20) - 1, None)  # the first means vary too much for the axis
        low, high = (mean[1:] - 2 * error)[late].min(), (mean[1:] + 2 * error)[late].max()
        axes.set_ylim(low - 0.05 * (high - low) - 1e-12, high + 0.05 * (high - low) + 1e-12)
    axes.set_xlabel("samples, in their order")
    axes.set_ylabel(f"running mean, {unit}\n(band: two standard errors)")
    return figure


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
