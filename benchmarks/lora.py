"""A low-rank adapter that turns a model of all digits into one of a single class: its size, its time, its accuracy.

digits-vp with an adapter of rank 8 on the attention and `film` layers, trained on the digits of one class alone, saved
and loaded with a scale. An independent classifier, scikit-learn's SVC on the pixels of the training digits, judges the
samples. The scale is chosen on samples of one seed and judged on those of another. The gates are those of the issue.

    python benchmarks/lora.py [--samples 1000] [--json benchmarks/results/lora.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from guidance import RUN, judge, pixels
from record import RESULTS, Gate, judged, versions, write

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.training import TrainingSettings

DIGIT, SCALES = 3, (0.0, 0.5, 1.0, 1.25, 1.5)
SETTINGS = TrainingSettings(updates=1500, batch=64, rate=1e-2, warmup=20, average=0.99)


def trained(model: sd.ScoreModel, file: Path) -> dict[str, Any]:
    """Fit the adapter and save it: seconds, weights and the file's share of the network's."""
    adapted = sd.adapters.add_lora(model, rank=8, targets=(*sd.adapters.TARGETS, "film"))
    rows = dataclasses.replace(sd.data("digits", "train").labelled(DIGIT), labels=None)
    began = time.process_time()
    sd.train(adapted, rows, SETTINGS)
    seconds = time.process_time() - began
    sd.adapters.save_lora(adapted, file)
    back = sd.adapters.remove_lora(sd.adapters.unmerge_lora(sd.adapters.merge_lora(adapted)))
    nets: list[Any] = [model.net, adapted.net, back.net]
    sizes = [sum(p.numel() for p in net.parameters()) for net in nets[:2]]
    before, after = nets[0].state_dict(), nets[2].state_dict()
    return {
        "digit": DIGIT, "settings": repr(SETTINGS), "cpu_seconds": round(seconds, 1), "images": len(rows),
        "weights": sizes[1] - sizes[0], "file_bytes": file.stat().st_size,
        "share_of_the_file": file.stat().st_size / (4 * sizes[0]),
        "base_restored": all(torch.equal(before[name], after[name]) for name in before),
    }  # fmt: skip


def main() -> None:
    """Train, sample, judge, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=RESULTS / "lora.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, (svc, real) = sd.load("digits-vp"), judge()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digit.safetensors"
        record = trained(model, file)
        print(record, flush=True)

        def accuracy(scale: float, seed: int, n: int) -> float:
            x = sd.sample(sd.adapters.load_lora(model, file, scale=scale), (n, 1, 8, 8), seed=seed, **RUN)
            return float((svc.predict(pixels(x)) == DIGIT).mean())

        chosen = {scale: accuracy(scale, 0, 500) for scale in SCALES}
        best = max(chosen, key=chosen.__getitem__)
        found = {scale: accuracy(scale, 1, arguments.samples) for scale in dict.fromkeys((1.0, best))}
    print(chosen, found, flush=True)
    gates = [
        Gate("CPU seconds of training", record["cpu_seconds"], 120.0),
        Gate("share of the file", record["share_of_the_file"], 0.03),
        Gate("errors of the best scale", 1 - found[best], 0.05),
        Gate("weights of the base that changed", float(not record["base_restored"]), 0.0),
    ]
    record |= {
        "chosen_on_500": chosen, "scale": best, "accuracy": found, "samples": arguments.samples, "real_accuracy": real,
        "gates": judged(gates), "machine": machine(), "versions": versions(["torch", "peft", "scikit-learn"]),
    }  # fmt: skip
    write(arguments.json, record)


if __name__ == "__main__":
    main()
