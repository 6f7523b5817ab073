"""Features that networks give: the shipped classifier and Inception from a file."""

import warnings

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.metrics import frechet


class Pooled(torch.nn.Module):
    """2048 features, each a fixed combination of the mean colours of uint8 images."""

    def __init__(self, size=2048):
        super().__init__()
        self.size = size

    def forward(self, x, return_features: bool = False):
        means = x.double().mean(dim=[2, 3]).sum(dim=1, keepdim=True)
        noise = torch.cos(torch.arange(self.size) * means)
        return noise if return_features else means


def stored(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return path


def test_the_classifier_tells_digits_apart():
    data = sd.data("digits", "train").dequantised(range=(-1.0, 1.0))
    half, other = data[:400:2], data[1:401:2]
    same, noise = frechet(half, other, "classifier"), frechet(torch.rand_like(half) * 2 - 1, other, "classifier")
    assert same.name == "frechet[classifier]"
    assert noise.value > 5 * same.value
    with pytest.raises(ValueError, match=r"are of digits \(B, 1, 8, 8\)"):
        frechet(np.zeros((30, 2)), np.zeros((30, 2)), "classifier")


def test_only_inception_from_a_file_is_called_fid(tmp_path):
    from sdediff.metrics.networks import inception_features

    path = stored(Pooled(), tmp_path / "inception.pt")
    images = torch.rand(24, 1, 8, 8) * 2 - 1
    found = inception_features(path)(images)
    assert tuple(found.shape) == (24, 2048)
    bytes_ = ((images + 1) * 127.5).round().to(torch.uint8).double().mean(dim=(2, 3)) * 3
    assert torch.allclose(found, torch.cos(torch.arange(2048) * bytes_))
    with pytest.raises(ValueError, match=r"frechet\[inception\] needs 2277 samples"):
        frechet(images, images, f"inception:{path}")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p / "none.pt", "no such file"),
        (lambda p: stored(Pooled(64), p / "small.pt"), r"gives \(24, 64\), Inception gives \(24, 2048\)"),
    ],
)
def test_what_is_no_inception_is_refused(tmp_path, make, said):
    images = torch.rand(24, 3, 8, 8) * 2 - 1
    with pytest.raises(ValueError, match=said):
        frechet(images, images, f"inception:{make(tmp_path)}")


def test_a_file_that_is_no_torchscript_is_refused(tmp_path):
    path = tmp_path / "text.pt"
    path.write_text("no network")
    with pytest.raises(ValueError, match=r"text\.pt: not a TorchScript file"):
        frechet(torch.zeros(24, 3, 8, 8), torch.zeros(24, 3, 8, 8), f"inception:{path}")
