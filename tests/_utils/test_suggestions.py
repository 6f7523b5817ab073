"""Unknown names: what is close, what other libraries and papers call ours, and names of user interfaces."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Collection

import pytest
import torch
import typer

import sdediff as sd
from sdediff._utils.suggestions import hint, meant, nearest, parse_ui_name
from sdediff._utils.synonyms import BY_KIND, OPTIONS, UI_GRIDS
from sdediff.cli.app import app
from sdediff.grids import GRIDS
from sdediff.hub.processes import SDES
from sdediff.model.clock import CLOCKS
from sdediff.model.prediction import PARAMETRISATIONS

SOLVERS = sd.solvers.names()
OURS: dict[str, Collection[str]] = {
    "solver": SOLVERS, "grid": GRIDS, "parametrisation": PARAMETRISATIONS, "clock": CLOCKS, "process": SDES,
    "option": OPTIONS,
}  # fmt: skip
SYNONYMS = [
    (kind, other, target) for kind in OURS for target, others in BY_KIND[kind].items() for other in others
]  # fmt: skip


def _called(target: str) -> str:
    name, _, option = target.partition(" ")
    return f"{name!r} with {option}" if option else repr(name)


@pytest.mark.parametrize(("kind", "other", "target"), SYNONYMS)
def test_every_synonym_is_answered_with_its_one_name(kind: str, other: str, target: str) -> None:
    assert target.partition(" ")[0] in OURS[kind]
    names = [target] if kind == "option" else OURS[kind]  # a command has one of the options of one meaning
    for given in (other, other.upper(), other.replace(" ", "-")):
        assert nearest(given, names, kind) == f"unknown {kind} {given!r}: that is {_called(target)} here"


@pytest.mark.parametrize("kind", ["solver", "grid", "parametrisation", "clock", "process"])
def test_no_synonym_has_two_answers(kind: str) -> None:
    counts = Counter(other.lower() for others in BY_KIND[kind].values() for other in others)
    assert max(counts.values()) == 1


@pytest.mark.parametrize("target", [*BY_KIND["solver"], *BY_KIND["grid"]])
def test_the_option_that_is_named_exists(target: str) -> None:
    name, _, option = target.partition(" ")
    key, _, value = option.partition("=")
    options = {key: ast.literal_eval(value)} if option else {}
    if target in BY_KIND["solver"]:
        assert isinstance(sd.solver(name, **options), sd.Solver)
    else:
        table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 100, dtype=torch.float64))
        assert len(sd.grid(name, table, 4, **options)) == 5


@pytest.mark.parametrize(
    ("given", "kind", "answer"),
    [
        ("DDIM", "solver", "ddim"),
        ("Dpm-Solver++ 2M", "solver", "dpmpp_2m"),
        ("DPM-Solver++(3M)", "solver", "dpmpp_3m"),
        ("DPM++ 2M SDE", "solver", "dpmpp_2m_sde"),
        ("DPM++ 3M SDE", "solver", "dpmpp_3m_sde"),
        ("DPM++ SDE", "solver", "dpmpp_sde"),
        ("DPM2", "solver", "dpm2"),
        ("DPM fast", "solver", "dpm_fast"),
        ("DPM adaptive", "solver", "dpm_adaptive"),
        ("sample_dpmpp_2m", "solver", "dpmpp_2m"),
        ("sample_dpm_2_ancestral", "solver", "dpm2_ancestral"),
        ("k_dpmpp_2s_a", "solver", "dpmpp_2s_ancestral"),
        ("DDPMScheduler", "solver", "ddpm"),
        ("PNDMScheduler", "solver", "pndm"),
        ("DDIMSampler", "solver", "ddim"),
        ("EulerMaruyamaPredictor", "solver", "euler_maruyama"),
        ("Karras", "grid", "karras"),
        ("LogSNR", "grid", "log_snr"),
        ("v_prediction", "parametrisation", "v"),
        ("v-pred", "parametrisation", "v"),
        ("noise_prediction", "parametrisation", "eps"),
        ("x0_prediction", "parametrisation", "x0"),
        ("flow_prediction", "parametrisation", "velocity"),
        ("log-SNR", "clock", "log_snr"),
        ("rectified flow", "process", "RectifiedFlow"),
        ("cosine", "process", "Cosine"),
    ],
)
def test_case_separators_and_affixes_do_not_matter(given: str, kind: str, answer: str) -> None:
    assert meant(given, OURS[kind], kind) == f"that is {answer!r} here"


def test_what_is_no_synonym_is_answered_with_what_is_close() -> None:
    assert nearest("dpmp_2m", SOLVERS, "solver").startswith("unknown solver 'dpmp_2m': did you mean 'dpmpp_2m', ")
    assert meant("zzz", ("b", "a")) == "write one of a, b"
    assert (
        meant("Lengths", ("length", "width"), "field") == "did you mean 'length', 'width'?" or "did you mean 'length'?"
    )
    assert (hint("digit.npy", ["digits.npy", "x"]), hint("zzz", ["a"])) == ("; did you mean 'digits.npy'?", "")


def test_synonyms_hold_for_their_kind_alone() -> None:
    assert meant("karras", ("edm", "heun"), "network") == "write one of edm, heun"
    assert "that is" not in meant("em", ("ddim", "heun"), "solver"), "euler_maruyama is not among these"


@pytest.mark.parametrize(
    ("given", "pair"),
    [
        ("DPM++ 2M Karras", ("dpmpp_2m", "karras")),
        ("DPM++ SDE Karras", ("dpmpp_sde", "karras")),
        ("DPM++ 2M SDE Exponential", ("dpmpp_2m_sde", "exponential")),
        ("DPM++ 3M SDE Polyexponential", ("dpmpp_3m_sde", "polyexponential")),
        ("DPM2 a Karras", ("dpm2_ancestral", "karras")),
        ("dpm++ 2s a karras", ("dpmpp_2s_ancestral", "karras")),
        ("DPM++ 2M SGM Uniform", ("dpmpp_2m", "uniform")),
        ("LMS Karras", ("lms", "karras")),
        ("Euler a", ("euler_ancestral", None)),
        ("heun", ("heun", None)),
        ("Euler b", None),
        ("Karras Karras", None),
        ("DPM++ 2M Simple", None),
        ("rk45", None),
        ("", None),
    ],
)
def test_names_of_user_interfaces(given: str, pair: tuple[str, str | None] | None) -> None:
    assert parse_ui_name(given, SOLVERS) == pair


def test_a_registered_name_is_itself_whatever_it_resembles() -> None:
    assert parse_ui_name("ab_2", ["ab_2", "ab2"]) == ("ab_2", None)
    assert parse_ui_name("Mine Karras", ["mine"]) == ("mine", "karras")


@pytest.mark.parametrize("word", UI_GRIDS)
def test_words_of_user_interfaces_are_grids(word: str) -> None:
    assert any(f"grid={name!r}" in meant(f"DDIM {word}", SOLVERS, "solver") for name in GRIDS)


def test_python_names_both_arguments() -> None:
    with pytest.raises(sd.SolverError, match="that is solver='dpmpp_2m', grid='karras' here"):
        sd.solver("DPM++ 2M Karras")
    with pytest.raises(sd.SolverError, match="solver='heun' with variable='sigma', grid='karras' here"):
        sd.solver("Heun Karras")  # k-diffusion's, over sigma/alpha
    with pytest.raises(sd.SolverError, match="that is 'ode' with method='RK45' here"):
        sd.solver("rk45")


def test_every_option_that_a_synonym_names_exists() -> None:
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    names = {param.name for command in commands for param in command.params}
    for function in (sd.recommend, *map(sd.solvers.REGISTRY.get, ("ddim", "deis"))):
        names |= set(inspect.signature(function).parameters)  # type: ignore[arg-type]
    assert set(OPTIONS) <= names
