"""Every guidance with every registered solver: as a network of the guided prediction, or refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

import sdediff as sd
from sdediff import guidance
from tests.guidance.mixtures import F64, PROCESS, labelled, logits, parts

Make = Callable[[], sd.ScoreModel]
GUIDANCE: dict[str, Make] = {
    "classifier_free": lambda: guidance.classifier_free(labelled(), 2.0).given(label=1),
    "rescaled": lambda: guidance.classifier_free(labelled(), 2.0, rescale=0.5, space="v").given(label=1),
    "interval": lambda: guidance.classifier_free(labelled(), 2.0, interval=(0.2, 4.0)).given(label=1),
    "classifier": lambda: guidance.classifier(parts(2).model(PROCESS), logits, 1, 2.0),
    "autoguidance": lambda: guidance.autoguidance(parts(1).model(PROCESS), parts(2).model(PROCESS), 1.5),
    "adaptive_projected": lambda: guidance.adaptive_projected(labelled(), 2.0).given(label=1),
    "cfg_plus_plus": lambda: guidance.cfg_plus_plus(labelled(), 0.5).given(label=1),
    "negative": lambda: guidance.classifier_free(labelled(), 2.0, negative={"label": 0}).given(label=1),
    "product": lambda: guidance.product([parts(1).model(PROCESS), parts(2).model(PROCESS)]),
    "tempered": lambda: guidance.tempered(parts(2).model(PROCESS), 1.5),
    "independent": lambda: guidance.independent(parts(2).model(PROCESS), [parts(1).model(PROCESS)] * 2),
    "clip": lambda: guidance.clip(parts(2).model(PROCESS), -1.5, 1.5),
}
ADAPTIVE = {name for name, solver in sd.list_solvers().items() if solver.adaptive or not solver.recordable}


def _refused(name: str, solver: str) -> bool:
    return (name == "cfg_plus_plus" and solver != "renoise") or (name == "adaptive_projected" and solver in ADAPTIVE)


def _plain(guided: sd.ScoreModel) -> sd.ScoreModel:
    """A network that returns what the guided model predicts."""
    return sd.ScoreModel(lambda x, t: guided(x, t).v, PROCESS, predicts="v", time="t")


@pytest.mark.parametrize("name", GUIDANCE)
def test_the_product_with_solvers(name: str) -> None:
    model, n = GUIDANCE[name](), 3
    for kind, solver in sd.list_solvers().items():
        if not solver.alone:
            continue
        options = {} if solver.adaptive or kind == "restart" else {"steps": 3}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if _refused(name, kind):
                with pytest.raises(sd.SolverError, match=": write"):
                    sd.sample(model, (n, 1), solver=kind, dtype=F64, **options)
                continue
            x = sd.sample(model, (n, 1), solver=kind, dtype=F64, **options)
            assert x.isfinite().all(), kind
            if name in ("adaptive_projected", "cfg_plus_plus") or kind in ADAPTIVE:
                continue
            same = sd.sample(_plain(model), (n, 1), solver=kind, dtype=F64, **options)
        torch.testing.assert_close(x, same, rtol=1e-6, atol=1e-6, msg=lambda text, kind=kind: f"{kind}: {text}")


def test_the_mean_shift_with_every_solver() -> None:
    """It moves the mean of an ancestral step, and is refused around every other one in a sentence."""
    model, gradient = parts(2).model(PROCESS), guidance.ClassifierGradient(logits, 1)
    taken, refused = set(), set()
    for kind, solver in sd.list_solvers().items():
        try:
            moved = sd.solvers.MeanShift(solver, gradient, 0.5)
        except sd.SolverError as error:
            refused.add("moves the mean of an ancestral step" in str(error))
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x, plain = (sd.sample(model, (3, 1), solver=one, steps=3, dtype=F64) for one in (moved, solver))
        assert x.isfinite().all()
        assert not torch.equal(x, plain)
        taken.add(kind)
    assert taken == {"ancestral", "ddpm"}
    assert refused == {True}


def test_what_is_adaptive() -> None:
    assert {"rk_adaptive", "dpm_adaptive", "adaptive_sde", "ode", "sde"} == ADAPTIVE
