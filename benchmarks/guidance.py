"""Guidance on the digits: accuracy, diversity, negative conditions and overhead.

The shipped digits-cond and digits-classifier, dpmpp_2m with 25 steps. An independent classifier, scikit-learn's SVC on
the pixels of the training digits, judges whether samples are of the class asked for. Precision: the share of samples
within the third nearest neighbour's distance of a real digit; recall: the share of real digits so near a sample
(Kynkaanniemi et al. 2019, on pixels). Overhead: CPU time of a guided run over that spent inside of its network
calls. The gates are those of the issue, as "1 - accuracy at most ...".

    python benchmarks/guidance.py [--samples 500] [--json benchmarks/results/guidance.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, Gate, judged, versions, write
from torch import Tensor

import sdediff as sd
from sdediff import guidance
from sdediff.benchmark import machine

SCALES = (1.0, 2.0, 4.0, 8.0)
RUN: dict[str, Any] = {"solver": "dpmpp_2m", "steps": 25}


def judge() -> Any:
    """The independent classifier, and its accuracy on real test digits."""
    from sklearn.svm import SVC

    train, test = sd.data("digits", "train"), sd.data("digits", "test")
    svc = SVC(gamma=0.02).fit(pixels(train.tensor()), labels(train))
    return svc, float(svc.score(pixels(test.tensor()), labels(test)))


def pixels(x: Tensor) -> Any:
    """States (B, 1, 8, 8) in [-1, 1] as rows."""
    return x.clamp(-1, 1).flatten(1).double().numpy()


def labels(data: Any) -> Any:
    """The classes of a data set."""
    return torch.as_tensor(data.labels).long().numpy()


def coverage(real: Tensor, x: Tensor, k: int = 3) -> tuple[float, float]:
    """Precision and recall of samples x against real digits."""
    a, b = real.flatten(1), x.clamp(-1, 1).flatten(1)
    radius = [torch.cdist(v, v).kthvalue(k + 1, dim=1).values for v in (a, b)]
    apart = torch.cdist(a, b)
    near = (apart <= radius[0][:, None]).any(0), (apart <= radius[1][None]).any(1)
    return near[0].double().mean().item(), near[1].double().mean().item()


def quality(n: int) -> tuple[list[dict[str, Any]], float]:
    """A row a method and scale."""
    svc, real_accuracy = judge()
    real = sd.data("digits", "test").tensor()[:n]
    model, noisy = sd.load("digits-cond"), sd.load("digits-classifier")
    label = torch.arange(n) % 10
    makers: dict[str, Any] = {
        "classifier_free": lambda w: guidance.classifier_free(model, w).given(label=label),
        "classifier": lambda w: guidance.classifier(model, noisy, label, w),
    }
    rows = []
    for name, make in makers.items():
        for w in SCALES:
            x = sd.sample(make(w), (n, 1, 8, 8), **RUN)
            accuracy = float((svc.predict(pixels(x)) == label.numpy()).mean())
            precision, recall = coverage(real, x)
            frechet = sd.metrics.frechet(x.clamp(-1, 1), real).value
            row = {"method": name, "scale": w, "accuracy": accuracy, "precision": precision, "recall": recall}
            rows.append({**row, "frechet": frechet})
            print(f"{name:16} w={w:<4} accuracy {accuracy:.3f} precision {precision:.2f} recall {recall:.2f} "
                  f"frechet {frechet:.2f}", flush=True)  # fmt: skip
    for w in (0.0, 2.0):
        plain = guidance.classifier_free(model, 1 + w, negative={"label": 8}) if w else model
        x = sd.sample(plain, (n, 1, 8, 8), cond={"label": torch.full((n,), 10)}, **RUN)
        rate = float((svc.predict(pixels(x)) == 8).mean())
        rows.append({"method": "negative 8", "scale": 1 + w, "rate_of_8": rate})
        print(f"negative 8       w={1 + w:<4} rate of 8 {rate:.3f}", flush=True)
    return rows, real_accuracy


def by_classifier(model: sd.ScoreModel, label: Tensor, timed: Any) -> sd.ScoreModel:
    """Classifier guidance whose extra calls, the gradients of the classifier, are timed."""
    guided = guidance.classifier(model, sd.load("digits-classifier"), label, 2.0)
    change: Any = guided.changes[-1]
    return dataclasses.replace(model, changes=(dataclasses.replace(change, gradient=timed(change.gradient)),))


def overhead(batch: int = 64, repeats: int = 15) -> dict[str, float]:
    """CPU time of a run over that spent in its network calls, the median of several runs."""
    model, label = sd.load("digits-cond"), torch.arange(batch) % 10
    makers: dict[str, Any] = {
        "no guidance": model,
        "classifier_free": guidance.classifier_free(model, 2.0),
        "adaptive_projected": guidance.adaptive_projected(model, 2.0),
        "autoguidance": guidance.autoguidance(model, sd.load("digits-cond"), 2.0),
        "classifier": None,
    }
    ratios: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(repeats):
        for name, one in makers.items():
            inside = [0.0]

            def timed(net: Any, inside: list[float] = inside) -> Any:
                def call(*args: Any, **cond: Any) -> Any:
                    began = time.process_time()
                    output = net(*args, **cond)
                    inside[0] += time.process_time() - began
                    return output

                return call

            one = by_classifier(model, label, timed) if name == "classifier" else one
            began = time.process_time()
            sd.sample(one.map_net(timed), (batch, 1, 8, 8), cond={"label": label}, **RUN)
            ratios[name].append((time.process_time() - began) / inside[0])
    return {name: statistics.median(values) for name, values in ratios.items()}


def main() -> None:
    """Measure, judge, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--json", type=Path, default=RESULTS / "guidance.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, real = quality(arguments.samples)
    ratios = overhead()
    accuracy = {(row["method"], row["scale"]): row.get("accuracy", 0.0) for row in rows}
    rates = [row["rate_of_8"] for row in rows if "rate_of_8" in row]
    gates = [
        Gate("errors of classifier guidance at w = 2", 1 - accuracy["classifier", 2.0], 0.07),
        Gate("errors of classifier guidance at w = 4", 1 - accuracy["classifier", 4.0], 0.02),
        Gate("errors of classifier-free guidance at w = 2", 1 - accuracy["classifier_free", 2.0], 0.01),
        Gate("rate of a negative class over its rate without", rates[1] / rates[0], 0.5),
        *(
            Gate(f"CPU time of {name} over that of its calls", ratio, 1.03)
            for name, ratio in ratios.items()
            if name != "no guidance"
        ),
    ]
    record = {
        "samples": arguments.samples, "real_accuracy": real, "rows": rows, "overhead": ratios, "gates": judged(gates),
        "machine": machine(), "versions": versions(["torch", "numpy", "scikit-learn"]),
    }  # fmt: skip
    write(arguments.json, record)


if __name__ == "__main__":
    main()
