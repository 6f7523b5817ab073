"""Arguments of wrong kinds: every solver, grid and process refuses them in a sentence, never by a bare TypeError."""

import inspect

import pytest

import sdediff as sd
from sdediff import grids, sde, solvers
from sdediff.grids import GRIDS
from sdediff.solvers import REGISTRY

WRONG = ["x", [1], {}, object(), 1j, b"x", True, float("nan"), None]
# What a class cannot be made without.
NEEDED = {
    "solver": solvers.DDIM(),
    "with_corrector": solvers.Langevin(),
    "first": "corrector",
    "lams": [2.0, 0.0, -2.0],
    "gradient": lambda x: x,
}


def _makers():
    yield from REGISTRY.items()
    for room in (solvers, sde):
        for name in room.__all__:
            kind = getattr(room, name)
            made = isinstance(kind, type) and issubclass(kind, solvers.Solver | sde.SDE)
            if made and not inspect.isabstract(kind):
                yield name, kind


def _made_or_refused(make, arguments):
    """A call that is refused is refused in a sentence; any other error goes on to the test."""
    said = "made"
    try:
        make(**arguments)
    except sd.Error as error:
        said = str(error)
    assert said == "made" or len(said) > 20


MAKERS = dict(_makers())


@pytest.mark.parametrize("name", MAKERS)
def test_solvers_and_processes_refuse_wrong_kinds_in_a_sentence(name):
    make = MAKERS[name]
    takes = inspect.signature(make).parameters
    given = {key: value for key, value in NEEDED.items() if key in takes and takes[key].default is inspect._empty}
    for key in takes:
        for value in WRONG:
            _made_or_refused(make, {**given, key: value})


def test_direct_calls_say_what_is_needed():
    for call, words in (
        (lambda: solvers.DDIM("x"), "eta='x' of DDIM: needed is float"),
        (lambda: REGISTRY["seeds"]([1]), "order=[1]: write 1, 2 or 3"),
        (lambda: solvers.Restart("x"), "solver='x' of Restart: needed is a Solver object"),
        (lambda: solvers.Restart(solvers.RungeKutta("heun"), "x"), "needed are solver: Solver, intervals: "),
    ):
        with pytest.raises(sd.Error) as refusal:
            call()
        assert words in str(refusal.value)


@pytest.mark.parametrize("name", GRIDS)
def test_grids_refuse_wrong_kinds_in_a_sentence(name):
    for value in (*WRONG[:-1], -3):
        for arguments in ({"n": value}, {"n": 5, "start": value}, {"n": 5, "stop": value}):
            _made_or_refused(grids.grid, {"kind": name, "sde": sd.VP(), **arguments})
