"""What is made with values of a wrong kind is refused in one line, when it is made or when it is first used."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.nets import MLP, UNet

MATRIX = torch.ones(4, 2)
WRONG = [
    None, "x", 1 + 2j, b"x", object(), [], {}, math.nan, -1, 10**30, np.array([1.0, 2.0]), np.array(["a"]), len, sd.VP,
    sd.VP(), MATRIX, MATRIX[:0], MATRIX.to("meta"), range(3), torch.float32,
]  # fmt: skip
SOLVERS = {
    name: cls
    for name, cls in vars(sd.solvers).items()
    if inspect.isclass(cls) and dataclasses.is_dataclass(cls) and issubclass(cls, sd.solvers.Solver)
}
CONCRETE = [name for name, cls in SOLVERS.items() if not inspect.isabstract(cls) and name != "Wrapper"]


def one_line(error: sd.Error) -> None:
    assert str(error)
    assert "\n" not in str(error)


def _refused_or_made(make: Any, **options: Any) -> Any:
    """What a call makes, or None where it refuses in one line; any other error passes."""
    try:
        return make(**options)
    except sd.Error as error:
        return one_line(error)


@pytest.mark.parametrize("name", CONCRETE)
def test_hyper_parameters(name: str) -> None:
    cls, inner = SOLVERS[name], sd.solver("heun", variable="sigma")
    required = {f.name: inner for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
    if name == "PredictorCorrector":
        required["with_corrector"] = sd.solver("langevin")
    for field in [f for f in dataclasses.fields(cls) if f.init]:
        for value in WRONG:
            _refused_or_made(cls, **{**required, field.name: value})


def test_a_refusal_names_the_hyper_parameter() -> None:
    with pytest.raises(sd.SolverError, match=r"eta='x' of DDIM: needed is float, and no NaN"):
        sd.solvers.DDIM(eta="x")  # type: ignore[arg-type]
    with pytest.raises(sd.SolverError, match="solver='heun' of LowerOrderFinal: needed is a Solver"):
        sd.solvers.LowerOrderFinal("heun")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword"):
        sd.solvers.DDIM(nope=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "base", "names"),
    [
        (MLP, {"dim": 2}, "dim width blocks clock clock_scale input classes variance embedding"),
        (
            UNet,
            {},
            "channels_in width multiples blocks attention clock clock_scale input classes tokens levels dropout",
        ),
        (sd.LearnedVP, {}, "gamma0 gamma1 width learn_ends seed weights"),
        (sd.Table, {"lams": (1.0, 0.0)}, "lams preserving descending"),
        (sd.Table.from_betas, {"betas": [0.1, 0.2]}, "betas zero_terminal_snr"),
        (sd.Counter, {}, "seed index offset"),
        (sd.Brownian, {}, "seed index offset span depth"),
    ],
)
def test_networks_processes_and_noises(make: Any, base: dict[str, Any], names: str) -> None:
    for name in names.split():
        for value in WRONG:
            _refused_or_made(make, **{**base, name: value})


def test_functions() -> None:
    model = sd.target("ring").model(sd.VP())
    quick = {"model": model, "calls": 4, "starts": 4}
    for value in WRONG:
        _refused_or_made(sd.load, reference="digits-vp", dtype=value)
        _refused_or_made(sd.load, reference="digits-vp", device=value)
        _refused_or_made(sd.check, model=model, model_range=value)
        _refused_or_made(sd.analysis.tuned, sde=sd.VP(), n=1, start=value)
        _refused_or_made(sd.path_statistics, model=model, x=MATRIX[:0], kappa=value)
        _refused_or_made(sd.sample, model=model, shape=(1, 2), steps=1, index=value)
        _refused_or_made(sd.sample, model=model, shape=(1, 2), steps=1, device=value)
        for wrong in ("sample_shape", "candidates"):
            if value is not None:
                _refused_or_made(sd.recommend, **{**quick, wrong: value})


def test_flags_and_offsets_are_looked_at() -> None:
    for make in (lambda: sd.Table((1.0, 0.0), preserving="no"), lambda: sd.Counter(offset=0.5)):  # type: ignore[arg-type]
        with pytest.raises(sd.Error, match=r"preserving='no'|offset=0\.5"):
            make()
