"""The table and the gates of benchmarks/systems.py, from the rows of its record."""

from __future__ import annotations

import itertools
from typing import Any

from record import Gate

Row = dict[str, Any]
LANGEVIN = ("digits-ncsn", "digits-ncsnv2")


def lines(rows: dict[str, Row]) -> list[str]:
    """The table; a star marks a bound of the levels."""
    real = rows["train"]["samples"]["real"]
    found = [
        f"{'system':22s}{'loss':>8s}{'bits/dim':>16s}{'bound':>28s}{'2M 10':>7s}{'2M 50':>7s}"
        f"{'own 10':>8s}{'own 50':>8s}{'own':>12s}{'energy':>9s}{'shares':>8s}"
    ]
    for name, row in rows.items():
        if name == "train":
            continue
        samples, flow = row.get("samples", {}), row.get("flow")
        bits = f"{flow['value']:.3f} +- {flow['std_error']:.3f}{'*' * of_levels(row)}" if flow else ""
        bound = " ".join(f"{key[0]} {v['value']:.3f}" for key, v in row.get("bound", {}).items())
        frechet = {plan: v["frechet"][0] for plan, v in samples.items()}
        own = next((plan for plan in reversed(samples) if plan.startswith("own")), None)
        cells = [f"{frechet[plan]:.2f}" if plan in frechet else "" for plan in ("dpmpp_2m 10", "dpmpp_2m 50")]
        owns = [f"{frechet[plan]:.2f}" if plan in frechet else "" for plan in ("own 10", "own 50")]
        last = f"{frechet[own]:.2f} ({own.split()[1]})" if own else ""
        energy = f"{samples[own]['energy'][0]:.4f}" if own else ""
        share = (
            f"{max(abs(a - b) for a, b in zip(samples[own]['shares'], real['shares'], strict=True)):.3f}" if own else ""
        )
        loss = row.get("trained", {}).get("loss")
        found.append(
            f"{name:22s}{'' if loss is None else format(loss, '.4f'):>8s}{bits:>16s}{bound:>28s}"
            f"{cells[0]:>7s}{cells[1]:>7s}{owns[0]:>8s}{owns[1]:>8s}{last:>12s}{energy:>9s}{share:>8s}"
        )
    energy = f"{real['energy'][0]:.4f}"
    found.append(f"{'training images':22s}{'':52s}{'':14s}{real['frechet'][0]:16.2f}{'':12s}{energy:>9s}")
    return found


def gates(rows: dict[str, Row]) -> list[Gate]:
    """What must hold."""
    real = rows["train"]["samples"]["real"]["frechet"][0]
    bits = {name: row["flow"]["value"] for name, row in rows.items() if "flow" in row}
    samples = {name: row["samples"] for name, row in rows.items() if "samples" in row and name != "train"}
    found = [Gate(f"bits/dim of {name}", value, 1.95) for name, value in bits.items()]
    found += [Gate("bits/dim of the best", min(bits.values()), 1.86)] if bits else []
    fifty = {name: plans["dpmpp_2m 50"]["frechet"][0] / real for name, plans in samples.items()}
    found += [Gate(f"Frechet at 50 calls over training images, {name}", value, 1.35) for name, value in fifty.items()]
    found += [Gate("Frechet at 50 calls over training images, the best", min(fifty.values()), 1.15)] if fifty else []
    for name in LANGEVIN:
        if name in samples:
            found.append(Gate(f"annealed Langevin over training images, {name}", own(samples[name]) / real, 1.3))
    learned = rows.get("digits-iddpm", {}).get("bound")
    if learned:
        found.append(Gate("improved DDPM, bound of learned variances", learned["learned_range"]["value"], 3.0))
        for better, worse in itertools.pairwise(("learned_range", "large", "small")):
            difference = learned[better]["value"] - learned[worse]["value"]
            found.append(Gate(f"improved DDPM, bound of {better} less {worse}", difference, -0.1))
    if "digits-cond" in samples:
        missed = 1 - own(samples["digits-cond"], "accuracy")
        found.append(Gate("classes missed by the class-conditional network's own sampler", missed, 0.05))
    return found


def of_levels(row: Row) -> bool:
    """Whether its likelihood by the flow is a bound of the levels."""
    return "noised" in row["flow"]["density"]


def own(samples: Row, figure: str = "frechet") -> float:
    """A figure of the samples that a system's own sampler draws at its own calls, which are the last plan."""
    value = samples[next(plan for plan in reversed(samples) if plan.startswith("own"))][figure]
    return float(value[0] if isinstance(value, list) else value)
