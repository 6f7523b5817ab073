"""What every test shares: one thread, the processes, and inputs that nobody else's generator touches."""

import pytest
import torch

import sdediff as sd

torch.set_num_threads(1)


class OwnProcess(sd.LinearSDE):
    """What a user writes: two one-line methods. Everything else, derivatives too, has to follow."""

    def alpha(self, t):
        return torch.cos(1.2 * t)

    def sigma(self, t):
        return t * torch.exp(t)


def table_betas(n=40, scale=1.0):
    """A short DDPM table, beta rising linearly over the same total noise as the usual 1000 knots."""
    return sd.Table.from_betas(scale * torch.linspace(1e-3, 0.4, n, dtype=torch.float64))


PROCESSES = {
    "vp": sd.VP(),
    "vp_long": sd.VP(beta_min=0.2, beta_max=6.0, T=2.5),
    "subvp": sd.SubVP(),
    "ve": sd.VE(),
    "ve_zero_start": sd.VE(sigma_max=10.0, zero_start=True, T=2.0, t_min=1e-3),
    "edm": sd.EDM(),
    "cosine": sd.Cosine(),
    "flow": sd.RectifiedFlow(),
    "own": OwnProcess(),
    "table_betas": table_betas(),
    "table_alpha_bars": sd.Table.from_alpha_bars(torch.linspace(0.999, 1e-4, 30, dtype=torch.float64)),
    "table_sigmas": sd.Table.from_sigmas(torch.logspace(-2, 1, 10, dtype=torch.float64)),
}


@pytest.fixture(params=PROCESSES, scope="session")
def sde(request):
    """Every process of the package, and one that a user wrote."""
    return PROCESSES[request.param]


@pytest.fixture(scope="session")
def processes():
    """The same processes by name."""
    return dict(PROCESSES)


@pytest.fixture(scope="session")
def times_inside():
    """times_inside(sde, n=9): n float64 times within (t_min, t_max), never a table's knot (fewer if it has fewer)."""

    def inside(sde, n=9):
        share = (torch.arange(n, dtype=torch.float64) + 0.37) / n
        times = sde.t_min + (sde.t_max - sde.t_min) * share
        return times.floor().unique() + 0.37 if hasattr(sde, "n") else times

    return inside


@pytest.fixture
def normals():
    """normals(*shape, seed=0, dtype=float64): unit normals of torch's own generator, not of the package."""

    def draw(*shape, seed=0, dtype=torch.float64):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    return draw


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Recommendations of the commands go to a folder of the run, not to that of whoever tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDEDIFF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
