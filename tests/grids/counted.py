"""Names of smooth grids, and a network that counts its calls."""

import torch

SMOOTH = ("uniform", "quadratic", "beta", "log_snr", "polynomial", "karras", "angle", "time_shift")


class Counted:
    """A network that counts its own calls and keeps the clocks that it read."""

    def __init__(self):
        self.clocks = []

    def __call__(self, x, t):
        self.clocks.append(t[0].item())
        return 0.4 * torch.tanh(x)

    @property
    def calls(self):
        return len(self.clocks)
