"""Contenders by name, and the adapters of the libraries that the package itself needs."""

import importlib.metadata

import pytest
import torch

import sdediff as sd
from sdediff.benchmark.contenders import (
    LIBRARIES,
    Contender,
    Finish,
    contend,
    errors,
    exact_end,
    installed,
    resolve_contenders,
)
from sdediff.benchmark.contenders.frame import Frame, spaced
from sdediff.targets import target

F64 = torch.float64


class Mine(Contender):
    library, name = "mine", "jump"

    def run(self, model, x_T, calls, seed):
        return Finish(model(x_T, model.sde.T).x0, calls=1)


class Nameless(Mine):
    name = ""


def state(count=8):
    return torch.randn(count, 2, dtype=F64, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def model():
    return target("target_m").model(sd.VP())


def test_libraries_objects_classes_and_references_are_understood():
    assert [c.label for c in resolve_contenders(["torchdiffeq:rk4", Mine(), Mine])] == [
        "torchdiffeq:rk4", "mine:jump", "mine:jump"
    ]  # fmt: skip
    assert resolve_contenders([f"{__name__}:Mine"])[0].label == "mine:jump"
    assert len(resolve_contenders(["torchdiffeq"])) > 2
    assert len(resolve_contenders(["torchdiffeq:all"])) > len(resolve_contenders(["torchdiffeq"]))
    assert resolve_contenders(["torchdiffeq:dopri5:tolerance=1e-5"])[0].tolerance == 1e-5


def test_an_installed_package_names_a_contender(monkeypatch):
    entry = importlib.metadata.EntryPoint("jump", f"{__name__}:Mine", "sdediff.contenders")
    monkeypatch.setattr("sdediff.benchmark.contenders.registry.plugins", lambda kind: {"jump": entry})
    assert resolve_contenders(["jump"])[0].label == "mine:jump"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["torchdifeq"], "did you mean 'torchdiffeq'"),
        (["torchdiffeq:rk44"], "did you mean 'rk4'"),
        (["torchdiffeq:rk4:karras"], "leave 'karras' out"),
        (["torchdiffeq:dopri5:tolerence=1"], "tolerence"),
        (["torchsde:euler:eta=1"], "leave 'eta' out"),
        (["torchsde:eulr"], "did you mean 'euler'"),
        (["torchdiffeq:rk4:a:b"], "names 2 grids"),
        ([3], "3 is a int, needed is a benchmark.Contender"),
        ("torchdiffeq", "give a list"),
        (["no_such_module:thing"], "no module 'no_such_module'"),
        ([Contender], "abstract"),
        ([Nameless], "Nameless has no name"),
    ],
)
def test_what_is_no_contender_is_answered_with_what_is(given, said):
    with pytest.raises((ValueError, TypeError), match=said):
        resolve_contenders(given)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_missing_is_named_with_its_pip_line(library, monkeypatch):
    monkeypatch.setattr("sdediff.benchmark.contenders.registry.installed", lambda _: False)
    with pytest.raises(sd.Error, match=f"{library} is not installed: pip install"):
        resolve_contenders([library])


@pytest.mark.parametrize("name", ["euler", "midpoint", "heun2", "heun3", "rk4"])
def test_torchdiffeq_counts_its_calls_and_converges(model, name):
    (contender,) = resolve_contenders([f"torchdiffeq:{name}"])
    fine = sd.solver("ode", rtol=1e-6, atol=1e-6)
    gaps = []
    for calls in (13, 61):
        outcome = contend(contender, model, state(), calls)
        assert calls - 4 < outcome.calls <= calls
        gaps.append(errors(outcome.x, exact_end(outcome, model, state(), fine)).median().item())
    assert gaps[1] < 0.4 * gaps[0]
    with pytest.raises(ValueError, match="calls=1 is too few"):
        contend(contender, model, state(), 1)


def test_torchdiffeqs_euler_is_ours(model):
    (contender,) = resolve_contenders(["torchdiffeq:euler"])
    outcome = contend(contender, model, state(), 11)
    ours = sd.sample(model, x=state(), solver="euler", grid="uniform", calls=11, start=model.sde.t_max)
    assert (outcome.x - ours).abs().max() < 1e-10


def test_an_adaptive_contender_holds_its_tolerance(model):
    loose, tight = resolve_contenders([f"torchdiffeq:dopri5:tolerance={v}" for v in ("1e-2", "1e-6")])
    assert loose.adaptive
    few, many = (contend(one, model, state(), 5000, repeat=False) for one in (loose, tight))
    assert few.calls < many.calls
    fine = sd.solver("ode", rtol=1e-6, atol=1e-6)
    assert errors(many.x, exact_end(many, model, state(), fine)).median() < 1e-4


@pytest.mark.parametrize("name", ["euler", "milstein", "srk", "euler_heun", "heun", "midpoint", "reversible_heun"])
def test_torchsde_counts_its_calls_and_is_fixed_by_the_seed(model, name):
    (contender,) = resolve_contenders([f"torchsde:{name}"])
    x = state(64)
    one, two = (contend(contender, model, x, 42, seed=seed) for seed in (0, 1))
    assert 32 <= one.calls <= 42
    assert not torch.equal(one.x, two.x)
    truth = target("target_m").sample(2000, dtype=F64)
    # The reversible method is unstable at such steps.
    assert name == "reversible_heun" or (one.x.mean(0) - truth.mean(0)).abs().max() < 1.0


@pytest.mark.parametrize("process", [sd.VP(), sd.VE(sigma_max=20.0), sd.RectifiedFlow(), sd.EDM()])
def test_the_frame_of_other_libraries_is_the_same_denoiser(process):
    model = target("target_m").model(process)
    start = process.t_max
    x = state() * float(sd.level(process, start).sigma)
    frame = Frame(model, x, start)
    for kappa in spaced("karras", 4, frame.low, frame.high).tolist():
        at = frame.level_at(kappa)
        assert at.kappa == pytest.approx(kappa, rel=1e-6)
        y = x / 2
        assert torch.allclose(frame.denoise(y, kappa), model(y * at.alpha, at).x0)
    assert torch.allclose(frame.y * sd.level(process, start).alpha, x)


@pytest.mark.parametrize("kind", ["karras", "rho3", "exponential"])
def test_spacings_go_from_the_first_level_to_the_last(kind):
    levels = spaced(kind, 5, 0.01, 10.0)
    assert levels[[0, -1]].tolist() == pytest.approx([10.0, 0.01])
    power = {"karras": lambda v: v ** (1 / 7), "rho3": lambda v: v ** (1 / 3), "exponential": torch.log}[kind]
    steps = power(levels).diff()
    assert torch.allclose(steps, steps.mean().expand(4))


@pytest.mark.parametrize("library", ["k_diffusion", "azula", "flow_matching"])
def test_samplers_of_libraries_that_are_installed_keep_the_rules(model, library):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    fine = sd.solver("ode", rtol=1e-6, atol=1e-6)
    for contender in resolve_contenders([library]):
        outcome = contend(contender, model, state(), 1000 if contender.adaptive else 24)
        assert contender.adaptive or 20 <= outcome.calls <= 24
        if not contender.stochastic:
            assert errors(outcome.x, exact_end(outcome, model, state(), fine)).median() < 0.5
