"""Pickles that run code where they are unpickled run nothing here, and bombs stay small."""

import copyreg
import io
import os
import pickle
import struct
import sys
import time
import tracemalloc
import zipfile

import pytest
import torch

import sdediff as sd
from sdediff.bridges import BridgeError, Record, read_checkpoint
from tests.bridges.foreign import refusal, small

CALLS = []


def strike(*given):
    CALLS.append(given)


class Reduced:
    """Runs by REDUCE."""

    def __reduce__(self):
        return strike, ("reduce",)


class Built:
    """Runs by BUILD, in __setstate__."""

    def __setstate__(self, state):
        strike("build")

    def __getstate__(self):
        return {"a": 1}


class Made:
    """Runs by NEWOBJ, in __new__."""

    def __new__(cls, *args):
        if args:
            strike("new")
        return super().__new__(cls)

    def __getnewargs__(self):
        return (1,)


class MadeByName(Made):
    """Runs by NEWOBJ_EX."""

    def __new__(cls, *args, **named):
        if named:
            strike("new_ex")
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"a": 1}


class Appended(list):
    """Runs by APPENDS and by SETITEMS."""

    def extend(self, values):
        strike("extend")

    def append(self, value):
        strike("append")


class Entered(dict):
    """Runs by SETITEMS."""

    def __setitem__(self, key, value):
        strike("setitem")


HERE = f"{__name__}\nstrike\n".encode()
RAW = {
    "global and reduce": b"c" + HERE + b"(S'x'\ntR.",
    "inst": b"(S'x'\ni" + HERE + b".",
    "obj": b"\x80\x02(c" + HERE + b"S'x'\no.",
    "os.system": b"cos\nsystem\n(S'touch SHOT'\ntR.",
    "exec": b'cbuiltins\nexec\n(S\'open("SHOT", "w")\'\ntR.',
    "eval in a key": b'\x80\x02}cbuiltins\neval\n(S\'open("SHOT", "w")\'\ntR' + b"K\x01s.",
    "getattr chain": b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntRS'touch SHOT'\n\x85R.",
    "persistent id": b"\x80\x02cos\nsystem\nX\x0a\x00\x00\x00touch SHOT\x85RQ.",
    "build of a function": b"c" + HERE + b"}S'__globals__'\nNsb.",
    "import": b"cthis_module_is_not_there\nthing\n)R.",
    "extension": b"\x80\x02\x82\xf0)R.",
}


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    """No call, no file, no import by what a test reads."""
    monkeypatch.chdir(tmp_path)
    CALLS.clear()
    copyreg.add_extension(__name__, "strike", 0xF0)
    copyreg._extension_cache[0xF0] = strike  # as after a first use, when no class is looked up any more
    before = set(sys.modules)
    try:
        yield
        assert CALLS == []
        assert not os.path.exists("SHOT")
        assert "this_module_is_not_there" not in set(sys.modules) - before
    finally:
        copyreg.remove_extension(__name__, "strike", 0xF0)
        copyreg._extension_cache.pop(0xF0, None)


@pytest.mark.parametrize("name", RAW)
def test_no_operation_runs_anything(name, tmp_path):
    (tmp_path / "file.pkl").write_bytes(RAW[name])
    value = read_checkpoint(tmp_path / "file.pkl")
    assert isinstance(value, Record) or any(isinstance(key, Record) for key in value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", [Reduced, Built, Made, MadeByName, Appended, Entered])
@pytest.mark.parametrize("where", ["pickle", "zip", "legacy"])
def test_no_object_is_made(kind, protocol, where, tmp_path):
    value = {"model": small().state_dict(), "ema": kind()}
    if issubclass(kind, list):
        list.extend(value["ema"], [1, 2])
    if issubclass(kind, dict):
        dict.__setitem__(value["ema"], "a", 1)
    if where == "pickle":
        (tmp_path / "file.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
    else:
        torch.save(value, tmp_path / "file.pkl", _use_new_zipfile_serialization=where == "zip")
    CALLS.clear()
    found = read_checkpoint(tmp_path / "file.pkl")
    assert isinstance(found["ema"], Record)
    assert torch.equal(found["model"]["frozen"], small().frozen)


def test_hostile_storages_inside_of_a_pickle(tmp_path):
    """torch.storage._load_from_bytes is handed a file of torch.save, which may be a pickle of anything."""
    inner = pickle.dumps(Reduced())
    module = b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R"
    tensor = b"\x80\x03ctorch._utils\n_rebuild_tensor_v2\n(" + module[2:] + b"K\x00K\x01\x85K\x01\x85\x89}tR."
    (tmp_path / "file.pkl").write_bytes(tensor)
    with pytest.raises(BridgeError, match="storage"):
        read_checkpoint(tmp_path / "file.pkl")


@pytest.mark.parametrize("reader", [sd.from_score_sde, sd.from_guided_diffusion, sd.from_k_diffusion, sd.from_edm])
def test_no_importer_runs_anything(reader, tmp_path):
    settings = {
        sd.from_score_sde: {"sde": "vpsde", "continuous": True},
        sd.from_guided_diffusion: {
            "noise_schedule": "linear", "diffusion_steps": 100, "rescale_timesteps": False, "learn_sigma": False,
        },
    }.get(reader, {})  # fmt: skip
    for i, value in enumerate((Reduced(), {"model": Reduced(), "ema": Reduced(), "model_ema": {"a": Built()}})):
        torch.save(value, tmp_path / f"{i}.pt")
        CALLS.clear()
        with pytest.raises(BridgeError):
            reader(tmp_path / f"{i}.pt", small(), **settings)


def bomb(name):
    """Small files that ask for much."""
    doubled = b"\x80\x02]q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(60)) + b"."
    return {
        "memo": doubled,
        "memo as keys": doubled[:-1] + b"}q\xf0h\x3bK\x01s.",
        "length": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
        "long": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
        "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
        "operations": b"\x80\x02" + b"N0" * 3_000_000 + b"N.",
        "marks": b"(" * 100_000 + b".",
        "digits": b"I" + b"9" * 100_000 + b"\n.",
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        *("memo", "memo as keys", "length", "bytes", "long", "deep", "deep tuples", "marks", "digits"),
        pytest.param("operations", marks=pytest.mark.slow),
    ],
)
def test_bombs_stay_small(name, tmp_path):
    (tmp_path / "file.pkl").write_bytes(bomb(name))
    tracemalloc.start()
    began = time.process_time()
    said = refusal(lambda: read_checkpoint(tmp_path / "file.pkl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(said) < 1000
    assert peak < 60_000_000
    assert time.process_time() - began < (60 if name == "operations" else 10)


def test_zip_bombs_and_tensors_that_leave_their_storage(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    packed = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, b"\0" * 10**8 if name.endswith("data/0") else source.read(name))
    (tmp_path / "b.pt").write_bytes(packed.getvalue())
    with pytest.raises(BridgeError, match="compressed"):
        read_checkpoint(tmp_path / "b.pt")
    for size, stride in (((2000,), (1,)), ((10**9,), (0,)), ((2,), (10**6,)), ((-1,), (1,))):
        storage = ("storage", torch.FloatStorage, "0", "cpu", 1000)
        value = Forged((storage, 0, size, stride, False, {}))
        write_forged(tmp_path / "c.pt", value)
        with pytest.raises(BridgeError, match="storage"):
            read_checkpoint(tmp_path / "c.pt")


class Forged:
    """A tensor by hand."""

    def __init__(self, args):
        self.args = args

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.args


def write_forged(path, value):
    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return thing if isinstance(thing, tuple) and thing[:1] == ("storage",) else None

    body = io.BytesIO()
    Pickler(body, protocol=2).dump({"a": value})
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("archive/data.pkl", body.getvalue())
        target.writestr("archive/data/0", b"\0" * 4000)
