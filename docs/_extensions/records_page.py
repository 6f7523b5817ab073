"""Write latest_figures.md: the last figures of every script of benchmarks/, read from its record."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEAD = """# The latest figures

Each script of `benchmarks/` writes what it measured to `benchmarks/results/`, with the machine and the versions.
This page is made from these records when the documentation is built; what each measures and why is on [](measures.md).
"""
# The gates that are shown one by one; of more of them those that are missed.
_MOST = 14


def write(app: Any) -> None:
    """Write the page for the build that begins."""
    results = Path(app.srcdir).parent / "benchmarks" / "results"
    text = _HEAD + "".join(section(path) for path in sorted(results.glob("*.json")))
    page = Path(app.srcdir) / "latest_figures.md"
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def section(path: Path) -> str:
    """The section of one record: machine and date, bars, and a table where there is one for it."""
    record = json.loads(path.read_text(encoding="utf-8"))
    parts = [f"\n## {path.stem.replace('_', ' ')}\n\n`benchmarks/{path.stem}.py`: {where(record)}\n"]
    gates = list(bars(record))
    if gates:
        parts.append(gate_table(gates))
    if path.stem in TABLES:
        parts.append("\n" + table(*TABLES[path.stem](record)))
    return "".join(parts)


def where(record: dict[str, Any]) -> str:
    """The machine, the date, and the version of torch."""
    parts = [record, *(part for part in record.values() if isinstance(part, dict))]
    machine: dict[str, Any] = next((part["machine"] for part in parts if isinstance(part.get("machine"), dict)), {})
    versions: dict[str, Any] = next((part["versions"] for part in parts if isinstance(part.get("versions"), dict)), {})
    if not machine:
        return "machine not recorded"
    torch = f", torch {versions['torch']}" if "torch" in versions else ""
    return f"{machine['cpu']}, {machine['threads']} thread(s), {machine['device']}, {machine['date'][:10]}{torch}"


def bars(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The gates of a record, and of its parts by their names."""
    yield from record.get("gates") or []
    for part in record.values():
        if isinstance(part, dict):
            yield from part.get("gates") or []


def gate_table(gates: list[dict[str, Any]]) -> str:
    """A table of gates; of many only those that are missed."""
    missed = [gate for gate in gates if not gate["held"]]
    line = f"\n{len(gates) - len(missed)} of {len(gates)} bars hold.\n"
    shown = gates if len(gates) <= _MOST else missed
    rows = [
        (gate["gate"], figure(gate), number(gate.get("bound")), "holds" if gate["held"] else "missed") for gate in shown
    ]
    return line + ("\n" + table(("bar", "measured", "at most", ""), rows) if rows else "")


def figure(gate: dict[str, Any]) -> str:
    """What was measured, as text."""
    for name in ("value", "shares", "on", "above"):
        if name in gate:
            value = gate[name]
            return ", ".join(map(str, value)) or "none above" if isinstance(value, list) else number(value)
    return ""


def number(value: Any) -> str:
    """A number in four digits; text as it is."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)


def table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |\n" for line in lines)


def held_out(record: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Auto's error over the best published one."""
    rows = []
    for row in record["rows"]:
        ratios = [f"{row[kind]['ratio']:.2f} +- {row[kind]['std_error']:.2f}" for kind in ("median", "rms")]
        rows.append((row["target"], f"{row['calls']}", *ratios, f"`{row['median']['of']}`", f"{row['contenders']}"))
    return ("target", "calls", "auto over the best, median", "rms", "best median", "of"), rows


def samplers(record: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Ranges of the Frechet distances of families of samplers."""
    rows = [
        (
            row["task"],
            f"{row['calls']}",
            row["family"],
            f"{row['least']:.2f} to {row['most']:.2f}",
            f"{row['real']:.2f}",
        )
        for row in record["rows"]
        if row["distance"].startswith("frechet")
    ]
    return ("task", "calls", "family", "Frechet distance", "real data"), rows


def quality(record: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Error of auto and of the best peer."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in record["rows"]:
        if row["error"] is None or (row["system"] == "ours" and row["name"] != "auto"):
            continue
        best = found.setdefault((row["task"], row["budget"]), {})
        side = "auto" if row["system"] == "ours" else "peer"
        if side not in best or row["error"] < best[side]["error"]:
            best[side] = row
    rows = [
        (
            task, f"{calls}", f"{best['auto']['error']:.2e}", f"{best['peer']['error']:.2e}",
            f"`{best['peer']['system']} {best['peer']['name']}`",
        )
        for (task, calls), best in sorted(found.items())
        if len(best) == 2
    ]  # fmt: skip
    return ("task", "calls", "error of auto", "of the best peer", "peer"), rows


def everything(record: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The best of ours over the best of each library."""
    libraries = list(dict.fromkeys(name for row in record["rows"] for name in row["peers"]))
    rows = [
        (
            row["task"], f"{row['budget']}", row["quality"].replace("_", " "), f"`{row['ours']['solver']}`",
            f"{row['ours']['value']:.3g}",
            *(f"{row['peers'][name]['ours over it']:.2f}" if name in row["peers"] else "" for name in libraries),
        )
        for row in record["rows"]
    ]  # fmt: skip
    return ("task", "calls", "quality", "best of ours", "value", *(f"over {name}" for name in libraries)), rows


def orders(record: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Declared and measured orders."""
    rows = [
        (
            f"`{row['solver']}`",
            f"{row['declared']}",
            *(f"{row['measured'][name]:.2f}" for name in ("VP", "SubVP", "VE")),
        )
        for row in record["rows"]
        if "measured" in row
    ]
    return ("solver", "declared", "VP", "sub-VP", "VE"), rows


TABLES = {
    "everything": everything, "held_out": held_out, "samplers": samplers, "quality": quality, "orders": orders
}  # fmt: skip


def setup(app: Any) -> dict[str, Any]:
    """Write the page before the sources are read."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
