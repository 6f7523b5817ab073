"""What a solver states about itself is written once, and read from the solver."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from typer.testing import CliRunner

import sdediff as sd
from sdediff.cli.app import app
from sdediff.solvers import AncestralStep, Wrapper
from sdediff.solvers.base import FACTS

REGISTRY = sd.list_solvers()
AUTHORS = (Path(__file__).parents[2] / "docs" / "solver_authors.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Plain(Wrapper):
    """A solver in which nothing but the inner solver's step happens."""

    def step(self, model: Any, x: Tensor, t: Any, s: Any, state: Any, noise: Any) -> tuple[Tensor, Any]:
        return self.solver.step(model, x, t, s, state, noise)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_wrapper_answers_with_the_inner_solvers_facts(name: str) -> None:
    solver = REGISTRY[name]
    for fact in (*FACTS, "kind"):
        assert getattr(Plain(solver), fact) == getattr(solver, fact), fact
    assert [Plain(solver).spent(n) for n in (1, 2, 7)] == [solver.spent(n) for n in (1, 2, 7)]


def test_a_wrapper_states_what_it_changes_alone() -> None:
    inner = sd.solver("dpm_solver_2")
    stated = {"order", "stochastic", "at_zero_alpha", "reference", "strong_order", "needs_alpha"}
    for fact in set(FACTS) - stated:
        assert getattr(AncestralStep(inner), fact) == getattr(inner, fact), fact


@pytest.mark.parametrize("name", REGISTRY)
def test_facts_of_registered_solvers_make_sense_together(name: str) -> None:
    solver = REGISTRY[name]
    assert solver == sd.solver(name)
    assert solver.kind == ("corrector" if not solver.alone else "SDE" if solver.stochastic else "ODE")
    assert solver.order is None or not (solver.stochastic or solver.adaptive)
    assert solver.strong_order is None or solver.stochastic
    assert solver.calls is None or solver.spent(3) == solver.calls * (4 if solver.corrector else 3)
    assert not solver.adaptive or solver.calls is None
    assert solver.reference


def test_the_command_line_lists_the_facts_of_the_solvers() -> None:
    entries = json.loads(CliRunner().invoke(app, ["solvers", "--json"]).stdout)
    assert {entry["name"]: {fact: entry[fact] for fact in FACTS} for entry in entries} == {
        name: {fact: getattr(solver, fact) for fact in FACTS} for name, solver in REGISTRY.items()
    }


def test_the_page_for_authors_lists_every_fact_with_its_default() -> None:
    table = AUTHORS.partition("| fact | default |")[2].partition("\n\n")[0]
    rows = {
        fact: default
        for names, default in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", table, re.M)
        for fact in re.findall(r"`(\w+)`", names)
    }
    assert set(rows) == set(FACTS)
    for fact, default in rows.items():
        if fact not in ("grid", "steps"):
            assert default.strip("`") == (str(getattr(sd.Solver, fact)) or '""'), fact
    assert (sd.Solver.grid, sd.Solver.steps) == ("", 20)
