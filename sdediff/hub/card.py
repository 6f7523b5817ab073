"""The card of a model: README.md from config.json, and one line of it for lists."""

from __future__ import annotations

from typing import Any


def summary(config: dict[str, Any]) -> dict[str, Any]:
    """The figures of a model in one flat dictionary: process, predicts, data, parameters, bits/dim, Frechet."""
    card = config.get("card") or {}
    figures = {
        "process": (config.get("sde") or {}).get("class"),
        "predicts": config.get("predicts"),
        "data": (config.get("data") or {}).get("name"),
        "weights_of": config.get("weights_of"),
        "parameters": (card.get("training") or {}).get("parameters"),
        "bits_per_dim": (card.get("bits_per_dim") or {}).get("value"),
        "bits_per_dim_error": (card.get("bits_per_dim") or {}).get("std_error"),
        "frechet": (card.get("frechet") or {}).get("value"),
        "frechet_of_real": (card.get("frechet") or {}).get("real"),
        "accuracy": (card.get("accuracy") or {}).get("at sigma/alpha 0.5"),
    }
    return {key: value for key, value in figures.items() if value is not None}


def readme(name: str, config: dict[str, Any]) -> str:
    """The card as Markdown: what the model is, how it was trained, what was measured and how."""
    card = config.get("card") or {}
    lines = [f"# {name}", "", str(card.get("about", "A model of sdediff.")), ""]
    lines += ["```python", "import sdediff as sd", "", f'model = sd.load("{name}")', "```", ""]
    lines += ["| | |", "|---|---|", f"| process | {_process(config.get('sde') or {})} |"]
    if config.get("weights_of"):
        lines.append(f"| weights | those of {config['weights_of']}, used on this process by matching lam |")
    else:
        net = config.get("net") or {}
        lines.append(f"| predicts, clock | {config.get('predicts')}, {config.get('time')} |")
        lines.append(f"| network | {net.get('class')}({_fields(net.get('config') or {})}) |")
    if config.get("data"):
        lines.append(f"| data | {_fields(config['data'])} |")
    for title in _TITLES:
        if isinstance(card.get(title), dict):
            lines += ["", f"## {_TITLES[title]}", "", "| | |", "|---|---|"]
            lines += [f"| {key.replace('_', ' ')} | {_plain(value)} |" for key, value in card[title].items()]
    if card.get("licence"):
        lines += ["", "## Licence", "", str(card["licence"])]
    return "\n".join(lines) + "\n"


_TITLES = {
    "training": "Training",
    "bits_per_dim": "Likelihood of the test images",
    "bound": "Variational bound of the test images' levels, bits/dim, by the variance of the chain",
    "frechet": "Distance of samples from the test images",
    "accuracy": "Accuracy",
}


def _process(sde: dict[str, Any]) -> str:
    fields = {key: value for key, value in sde.items() if key not in ("class", "values")}
    values = sde.get("values")
    size = f", {len(values)} values" if isinstance(values, list) else ""
    return f"{sde.get('class')}({_fields(fields)}{size})"


def _fields(given: dict[str, Any]) -> str:
    return ", ".join(f"{key}={_plain(value)}" for key, value in given.items())


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
