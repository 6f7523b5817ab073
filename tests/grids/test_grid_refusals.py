"""What is no grid is refused, and unknown names are answered."""

import math

import pytest

import sdediff as sd
from sdediff._utils.suggestions import nearest
from sdediff.grids import GRIDS
from tests.grids.counted import SMOOTH, Counted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "karas"}, "unknown grid 'karas': did you mean 'karras'"),
        ({"n": 0}, "steps=0: a grid needs at least one step"),
        ({"n": -3}, "steps=-3: a grid needs at least one step"),
        ({"n": None}, "steps=None: a grid needs at least one step"),
        ({"n": 2.5}, r"steps=2.5"),
        ({"start": 1.5}, r"within \[0, 1.0\], given start=1.5, stop=0.001"),
        ({"start": 0.0001}, "given start=0.0001, stop=0.001"),
        ({"stop": 1.0}, "given start=1.0, stop=1.0"),
        ({"stop": -0.5}, "given start=1.0, stop=-0.5"),
        ({"start": math.nan}, "given start=nan"),
        ({"kind": [0.1, 0.5, 1.0]}, "falls strictly from noise to data, given .*: sort it downwards"),
        ({"kind": [1.0, 0.5, 0.5]}, "falls strictly"),
        ({"kind": [1.0, math.nan, 0.1]}, "falls strictly"),
        ({"kind": [1.0]}, "a row of at least two times"),
        ({"kind": [[1.0, 0.5]]}, "a row of at least two times"),
        ({"kind": [2.0, 0.5]}, r"must lie in \[0, 1.0\], given 2.0 to 0.5"),
        ({"kind": [1.0, -0.5]}, r"must lie in \[0, 1.0\]"),
        ({"kind": [1.0, 0.5, 0.0]}, "sigma"),
        ({"stop": 0.0}, "sigma"),
        ({"kind": "knots"}, "VP has no knots: use another grid, or make a Table of it"),
        ({"kind": "strided"}, "VP has no knots: use another grid, or make a Table of it"),
    ],
)
def test_what_is_no_grid_is_refused(options, message):
    options = {"kind": "uniform", "n": 4, **options}
    kind, n = options.pop("kind"), options.pop("n")
    with pytest.raises(ValueError, match=message):
        sd.grid(kind, sd.VP(), None if isinstance(kind, list) else n, **options)


def test_a_process_with_noise_at_zero_may_be_followed_to_zero():
    assert sd.grid("uniform", sd.VE(), 4, stop=0.0)[-1].item() == 0.0


def test_nearest_names_what_was_given_and_what_is_close():
    assert nearest("ddmi", ("ddim", "ddpm", "heun"), "solver").startswith("unknown solver 'ddmi': did you mean 'dd")
    assert nearest("zzz", ("a", "b"), "grid") == "unknown grid 'zzz': write one of a, b"
    assert set(GRIDS) == {*SMOOTH, "exponential", "polyexponential", "tuned", "knots", "strided"}


def test_unknown_names_in_a_run_are_answered_with_the_nearest():
    model = sd.ScoreModel(Counted(), sd.VP())
    for option, value, answer in (
        ("solver", "hein", "unknown solver 'hein': did you mean 'heun'"),
        ("grid", "log_snf", "unknown grid 'log_snf': did you mean 'log_snr'"),
        ("noise", "brownain", "unknown noise 'brownain': did you mean 'brownian'"),
    ):
        with pytest.raises(ValueError, match=answer):
            sd.sample(model, (1, 2), **{option: value})
