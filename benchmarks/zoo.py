"""A run of `sdediff train` as a model of the package: its card gets what benchmarks/systems.py measured.

    python benchmarks/zoo.py RUN NAME [--cpu-seconds S] [--note TEXT] [--out FOLDER]

RUN is the folder that `--out` named. A classifier's accuracy on the test images is measured here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import RESULTS

import sdediff as sd
from sdediff import hub
from sdediff.training import classify

LICENCE = "Weights MIT; data UCI Optical Recognition of Handwritten Digits, Alpaydin and Kaynak 1998, CC BY 4.0."
LARGEST = 2_000_000  # bytes of a folder
NOISE = (0.1, 0.5, 1.0, 2.0, 5.0)  # sigma/alpha of a classifier's accuracy


def accuracy(model: sd.ScoreModel) -> dict[str, Any]:
    """The share of noised test images whose class is the most probable one, by sigma/alpha."""
    test = sd.data("digits")
    x, labels = test.dequantised(0), torch.from_numpy(np.array(test.labels)).flatten()
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = {
            f"at sigma/alpha {k:g}": float((classify(model, x + k * z, k).argmax(1) == labels).float().mean())
            for k in NOISE
        }
    return {**found, "images": len(x), "method": "test images dequantised with seed 0, one noise of seed 0 for all"}


def trained(run: Path, model: sd.ScoreModel, seconds: float | None) -> dict[str, Any]:
    """How it was trained, from its folder and log."""
    facts = dict(model.card.get("training") or {})
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    last = losses[-min(len(losses), 200) :]
    facts |= {"updates": len(losses), "loss": sum(last) / len(last), "loss is of": f"the last {len(last)} updates"}
    facts |= {} if seconds is None else {"cpu_seconds": seconds}
    return {**facts, "threads": 1, "machine": f"{platform.machine()}, torch {torch.__version__}"}


def measured(row: dict[str, Any], real: dict[str, Any]) -> dict[str, Any]:
    """What the record of benchmarks/systems.py holds of a model, as a card has it."""
    found: dict[str, Any] = {}
    if "flow" in row:
        found["bits_per_dim"] = row["flow"]
    plan = row.get("samples", {}).get("dpmpp_2m 50")
    if plan:
        found["frechet"] = {
            "features": "frechet[pca64]", "value": plan["frechet"][0], "std_error": plan["frechet"][1],
            "samples": plan["samples"], "real": real["frechet"][0], "real_std_error": real["frechet"][1],
            "method": f"sample({plan['how']}, seed=0) against the 1797 test images; real: as many training images",
        }  # fmt: skip
        if "accuracy" in plan:
            found["accuracy"] = {
                "of samples": plan["accuracy"],
                "judged by": "a support vector machine of the training images",
            }
    if row.get("bound"):
        found["bound"] = {name: f"{v['value']:.4f} +- {v['std_error']:.4f}" for name, v in row["bound"].items()}
        if all(v.get("clipped") for v in row["bound"].values()):
            found["bound"]["x0"] = "kept within the data's range"
    return found


def main() -> int:
    """Write the folder; exit status 1 where it is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--cpu-seconds", type=float)
    parser.add_argument("--note", help="what else its card should say of its training")
    parser.add_argument("--out", type=Path, default=hub.ASSETS)
    parser.add_argument("--json", type=Path, default=RESULTS / "systems.json", help="the record")
    given = parser.parse_args()
    model = sd.load(given.run / "model")
    rows = {row["name"]: row for row in json.loads(given.json.read_text())["rows"]} if given.json.exists() else {}
    card = {
        "about": model.card.get("about"), "licence": LICENCE, "training": trained(given.run, model, given.cpu_seconds),
    }  # fmt: skip
    if given.note:
        card["training"]["note"] = given.note
    if type(model.net).__name__ == "Classifier":
        card["accuracy"] = accuracy(model)
    elif given.name in rows:
        card |= measured(rows[given.name], rows["train"]["samples"]["real"])
    data = {**model.card["data"], "name": "digits"}
    folder = hub.save(dataclasses.replace(model, card={}), given.out / given.name, card=card, data=data)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name}: {size / 1e6:.2f} MB")
    return 0 if size <= LARGEST else 1


if __name__ == "__main__":
    sys.exit(main())
