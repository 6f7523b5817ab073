"""Faults of the weights are refused in a sentence."""

import json
import math
import pickle
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hub.folders import edit, refused


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name}: no such file")


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1000, -1])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(folder, r"model\.safetensors: .*(copy or download it again)")


@pytest.mark.parametrize("place", [0, 3, 7, 9, 40, 90, 200, -2000, -1])
@pytest.mark.parametrize("bit", [0, 6])
def test_flipped_bit(folder, place, bit):
    path = folder / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    refused(folder, r"model\.safetensors: ")


@pytest.mark.parametrize("length", [2**63, 2**40, 10_000_000, 640])
def test_huge_header(folder, length):
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}" * 50)
    refused(folder, f"claims {length} of 108 bytes")


def header_only(folder, table, size=0):
    raw = table if isinstance(table, bytes) else json.dumps(table).encode()
    (folder / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(size))
    edit(folder)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (b"[" * 100_000, "header is damaged"),
        (b"[1, 2]", "header is damaged"),
        (b"\xff\xfe", "header is damaged"),
        ({"a": {"shape": [1]}}, "header is damaged"),
        ({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}}, "does not lie where"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, "no whole number"),
        ({"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 6]}}, "no whole number"),
        ({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, "stored as C64: save it as one of F64"),
        (
            {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}},
            "8 bytes of weights where",
        ),
    ],
)
def test_foreign_header(folder, table, match):
    header_only(folder, table, size=8)
    refused(folder, match)


class Trap:
    def __reduce__(self):
        return (sys.exit, ("a pickle ran",))


@pytest.mark.parametrize("kind", ["pickle", "protocol0", "torch"])
def test_pickle_is_refused_and_not_run(folder, kind):
    path = folder / "model.safetensors"
    if kind == "torch":
        torch.save({"w": torch.zeros(2), "trap": Trap()}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(), protocol=0 if kind == "protocol0" else 4) + bytes(100))
    refused(folder, "cut short or damaged" if kind == "protocol0" else "a pickle, which can run code: refused")


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    edit(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(folder, value):
    rewrite(folder, lambda w: w["blocks.1.first.bias"].__setitem__(3, value))
    refused(folder, r"NaN or Inf in blocks\.1\.first\.bias \(1 such")


def test_missing_extra_and_renamed_tensors(folder):
    def change(w):
        w.pop("gain.bias")
        w["gaiety.bias"] = torch.zeros(7, 7)
        w["blocks.0.frist.weight"] = w.pop("blocks.0.first.weight")

    rewrite(folder, change)
    message = refused(folder, r"not this network's weights")
    assert "missing gain.bias" in message
    assert "extra gaiety.bias" in message
    assert "blocks.0.first.weight is there as blocks.0.frist.weight" in message


def test_wrong_shape(folder):
    rewrite(folder, lambda w: w.update({"first.weight": torch.zeros(16, 6)}))
    refused(folder, r"first\.weight is \(16, 6\), needed \(16, 5\)")
