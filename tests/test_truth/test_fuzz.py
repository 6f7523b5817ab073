"""Argument combinations of the public functions: a finite result of the right shape, or one sentence."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import sdediff as sd
from tests.test_truth import fuzz_cases
from tests.test_truth.fuzz_cases import NAN_NET, WRONG, WRONG_OF
from tests.test_truth.fuzz_longer import LONGER, NAMES, POOLS

pytestmark = pytest.mark.filterwarnings("ignore")
EXAMPLES = 1000
FUNCTIONS = {**fuzz_cases.FUNCTIONS, **LONGER}


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A function's name and its arguments: all right, or one or two of another kind."""
    name = draw(st.sampled_from(sorted(FUNCTIONS)))
    _, needed, others = FUNCTIONS[name]
    chosen = draw(st.lists(st.sampled_from(others.split()), max_size=3, unique=True)) if others else []
    if name in ("sample", "iterate") and not {"shape", "x", "resume"} & set(chosen):
        chosen.append(draw(st.sampled_from(["shape", "x"])))
    names = [*needed.split(), *chosen]
    if "calls" in names and "steps" in names:
        names.remove("steps")
    wrong = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    right = {**fuzz_cases.RIGHT, **(POOLS if name in LONGER else {})}
    pools = {arg: WRONG_OF.get(arg, WRONG) if arg in wrong else right.get(arg, WRONG) for arg in names}
    if name == "loss":  # a network that returns NaN has a loss of NaN, which training refuses
        pools["model"] = [model for model in pools["model"] if getattr(model, "net", None) is not NAN_NET]
    return name, {arg: draw(st.sampled_from(pool)) for arg, pool in pools.items()}


def _good(result: sd.Likelihood) -> torch.Tensor:
    """The samples (B,) whose status says nothing of a failure."""
    return torch.tensor([status == "ok" for status in result.status])


def _tensors(result: Any) -> list[torch.Tensor]:
    """The tensors that a result holds."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, sd.Likelihood):
        return [result.log_prob[_good(result)]]
    if dataclasses.is_dataclass(result) and type(result).__name__ in ("Statistics", "Analysis"):
        return [v for f in dataclasses.fields(result) if isinstance(v := getattr(result, f.name), torch.Tensor)]
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], sd.Likelihood):
        return [result[0][_good(result[1])], *_tensors(result[1])]
    if isinstance(result, list | tuple):
        return [tensor for part in result for tensor in _tensors(part)]
    return []


def outcome(name: str, arguments: dict[str, Any]) -> str | None:
    """What is wrong with the outcome of a call, or None."""
    try:
        called = {NAMES.get(name, {}).get(arg, arg): value for arg, value in arguments.items()}
        result = FUNCTIONS[name][0](**called)
    except sd.Error as error:
        return None if str(error).strip() and "\n" not in str(error) else f"not one sentence: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not name.startswith("call") and not all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(result)):
        return "not finite"
    shape = arguments["x"].shape if arguments.get("x") is not None else arguments.get("shape")
    if name in ("sample", "encode") and isinstance(result, torch.Tensor) and shape is not None:
        return None if tuple(result.shape) == tuple(shape) else f"shape {tuple(result.shape)} for {tuple(shape)}"
    return None


def _fuzz(examples: int) -> None:
    @seed(12)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def run(case: tuple[str, dict[str, Any]]) -> None:
        wrong = outcome(*case)
        assert wrong is None, (wrong, case)

    run()


def test_a_twentieth_of_the_combinations() -> None:
    _fuzz(EXAMPLES // 20)


@pytest.mark.slow
def test_a_thousand_combinations() -> None:
    _fuzz(int(os.environ.get("SDEDIFF_FUZZ", EXAMPLES)))
