"""Files of torch.save, old and new, and pickles of every protocol: the same tensors, other objects as records."""

import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sdediff.bridges import BridgeError, Record, read_checkpoint
from tests.bridges.foreign import refusal, small

SHARED = torch.arange(12.0)
TENSORS = {
    "whole": torch.arange(6.0).reshape(2, 3),
    "turned": torch.arange(6.0).reshape(2, 3).t().bfloat16(),
    "part": SHARED[3:7:2],
    "other_part": SHARED.reshape(3, 4)[1:],
    "number": torch.tensor(3),
    "nothing": torch.empty(0, 3),
    "flags": torch.tensor([True, False]),
    "half": torch.ones(2, dtype=torch.float16),
    "parameter": nn.Parameter(torch.ones(2, dtype=torch.float64)),
}
VALUE = {
    **TENSORS,
    "ordered": OrderedDict(a=torch.ones(1), b=[1, 2.5, None, "text", b"bytes", (True, {"x"})]),
    "weights": small().state_dict(),
    "step": 2**70,
}


def written(path, kind):
    if kind in ("zip", "legacy"):
        torch.save({**VALUE, "network": small()}, path, _use_new_zipfile_serialization=kind == "zip")
    else:
        path.write_bytes(pickle.dumps({**VALUE, "network": small()}, protocol=kind))
    return path


@pytest.mark.parametrize("kind", ["zip", "legacy", 0, 1, 2, 3, 4, 5])
def test_tensors_are_as_they_were_and_objects_are_records(tmp_path, kind):
    found = read_checkpoint(written(tmp_path / "file.pt", kind))
    for name, value in TENSORS.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype
    assert torch.equal(found["ordered"]["a"], torch.ones(1))
    assert found["ordered"]["b"][:5] == [1, 2.5, None, "text", b"bytes"]
    assert found["step"] == 2**70
    assert all(torch.equal(found["weights"][name], value) for name, value in small().state_dict().items())
    assert isinstance(found["network"], Record)
    assert found["network"].name.endswith("foreign.Small")
    assert "input_blocks" in found["network"].state["_modules"]


def test_it_agrees_with_torchs_own_reader(tmp_path):
    torch.save(VALUE, tmp_path / "file.pt")
    theirs = torch.load(tmp_path / "file.pt", weights_only=True)
    found = read_checkpoint(tmp_path / "file.pt")
    assert all(torch.equal(found[name], theirs[name]) for name in TENSORS)


def test_safetensors_are_read_too(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "a.safetensors")["a"], torch.ones(2))
    (tmp_path / "b.safetensors").write_bytes(b"abc")
    with pytest.raises(BridgeError, match="cannot be read as safetensors"):
        read_checkpoint(tmp_path / "b.safetensors")


@pytest.mark.parametrize("kind", ["zip", "legacy", 4])
def test_damaged_files_are_refused_in_a_sentence(tmp_path, kind):
    whole = written(tmp_path / "file.pt", kind).read_bytes()
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(0, len(whole), (60,), generator=generator).tolist()
    for i, place in enumerate(draws):
        broken = whole[:place] if i % 2 else whole[:place] + bytes([whole[place] ^ (1 << i % 8)]) + whole[place + 1 :]
        (tmp_path / "file.pt").write_bytes(broken)
        said = refusal(lambda: read_checkpoint(tmp_path / "file.pt"))  # a changed number may go unnoticed
        assert not said or ("file.pt" in said and "\n" not in said)


def test_a_damaged_name_of_a_storage_class_is_refused_with_the_file(tmp_path):
    whole = written(tmp_path / "file.pt", "legacy").read_bytes()
    (tmp_path / "file.pt").write_bytes(whole.replace(b"DoubleStorage", b"ToubleStorage"))
    with pytest.raises(BridgeError, match=r"file\.pt: tensors in 'ToubleStorage' are not read here"):
        read_checkpoint(tmp_path / "file.pt")


def test_what_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as file:
        file.writestr("script/data.pkl", b"N.")
        file.writestr("script/constants.pkl", b"N.")
    for name, content, match in (
        ("none.pt", None, "cannot be read"),
        ("text.pt", b"hello", "no pickle"),
        ("empty.pt", b"", "no pickle"),
        ("script.pt", None, "TorchScript"),
        ("zip.pt", b"PK\x03\x04 and no more", "damaged zip file"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(BridgeError, match=match):
            read_checkpoint(tmp_path / name)
