"""What the benchmarks share: where records go, which versions ran, and the gates that must hold."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Gate(NamedTuple):
    """A figure that must not exceed a bound."""

    gate: str
    value: float
    bound: float

    @property
    def held(self) -> bool:
        """Whether it does not."""
        return self.value <= self.bound


def judged(gates: Iterable[Gate]) -> list[dict[str, Any]]:
    """The gates, printed, as a record holds them."""
    found = [gate._asdict() | {"held": gate.held} for gate in gates]
    for line in found:
        word = "held" if line["held"] else "FAILED"
        print(f"gate: {line['gate']}: {line['value']:.4g}, at most {line['bound']:.4g}: {word}")
    return found


def show(done: int, total: int) -> None:
    """Progress on a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\rround {done} of {total} ", end="\n" if done == total else "", file=sys.stderr, flush=True)


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """Versions of distributions, None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def write(path: Path, record: dict[str, Any]) -> None:
    """A record as JSON, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {path.name}")
