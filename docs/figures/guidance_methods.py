"""Draws guidance_methods.png: the classes 0 to 9 by every function of guidance, from the same noise."""

import copy
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

import sdediff as sd
from sdediff import guidance

LABEL = torch.arange(10).repeat_interleave(2)


def worse(model: sd.ScoreModel) -> sd.ScoreModel:
    """The model with noise of a tenth of their size on its weights."""
    net, generator = copy.deepcopy(model.net), torch.Generator().manual_seed(0)
    for weight in net.parameters():
        weight.data *= 1 + 0.1 * torch.randn(weight.shape, generator=generator)
    return sd.ScoreModel(net, model.sde, model.predicts, model.time, model.sigma_data)


def drawn(model: sd.ScoreModel, solver: str | sd.Solver = "dpmpp_2m", steps: int = 20) -> Tensor:
    """Two samples a class."""
    return sd.sample(model, (len(LABEL), 1, 8, 8), solver=solver, steps=steps, seed=3)


def main() -> None:
    plain, noisy, alone = sd.load("digits-cond"), sd.load("digits-classifier"), sd.load("digits-vp")
    model, gradient = plain.given(label=LABEL), guidance.ClassifierGradient(noisy, LABEL)
    shifted = sd.solvers.MeanShift(sd.solver("ancestral"), gradient, scale=4.0)
    rows: dict[str, Callable[[], Tensor]] = {
        "conditional, no guidance": lambda: drawn(model),
        "classifier_free, 4": lambda: drawn(guidance.classifier_free(model, 4.0)),
        "... rescaled": lambda: drawn(guidance.classifier_free(model, 4.0, rescale=0.7, space="v")),
        "... in an interval": lambda: drawn(guidance.classifier_free(model, 4.0, interval=(0.2, 2.0))),
        "... away from eights": lambda: drawn(guidance.classifier_free(model, 4.0, negative={"label": 8})),
        "adaptive_projected, 4": lambda: drawn(guidance.adaptive_projected(model, 4.0, radius=4.0)),
        "cfg_plus_plus, 0.6": lambda: drawn(guidance.cfg_plus_plus(model, 0.6), "renoise"),
        "autoguidance, 2": lambda: drawn(guidance.autoguidance(model, worse(plain).given(label=LABEL), 2.0)),
        "classifier, 4": lambda: drawn(guidance.classifier(alone, noisy, LABEL, 4.0)),
        "MeanShift, 4": lambda: drawn(alone, shifted, steps=100),
    }
    sheet = torch.nn.functional.pad(torch.stack([row() for row in rows.values()]), (1, 1, 1, 1), value=1.0)[:, :, 0]
    figure, axis = plt.subplots(figsize=(9, 3.9), constrained_layout=True)
    axis.imshow(sheet.permute(0, 2, 1, 3).flatten(0, 1).flatten(1), cmap="gray_r", vmin=-1, vmax=1)
    axis.set_yticks([10 * i + 5 for i in range(len(rows))], list(rows))
    axis.set_xticks([])
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
