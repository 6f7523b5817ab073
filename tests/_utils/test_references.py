"""Code by name: references, what they refuse, entry points."""

import functools
import sys

import pytest

import sdediff as sd
from sdediff._utils import references
from sdediff._utils.references import imported, is_reference, location, package_of, reference_to


@pytest.mark.parametrize("text", ["a:b", "pkg.sub.mod:Class.method", "numpy:array"])
def test_references(text):
    assert is_reference(text)


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":b", "a/b:c", "C:\\models", "a:b:c", "1a:b", "a..b:c", "a b:c", None, "a." * 1000 + "b:c"]
)
def test_what_is_no_reference(text):
    assert not is_reference(text)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module, importable for the time of a test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_there_and_back(module):
    module("shapes_1", "class A:\n    class B:\n        pass\ndef f():\n    return lambda: 0\n")
    for name in ("A", "A.B", "f"):
        thing = imported(f"shapes_1:{name}")
        assert reference_to(thing) == f"shapes_1:{name}"
    assert reference_to(sd.VP) == "sdediff.sde.processes:VP"


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ("no_such_package:x", "no module 'no_such_package' can be imported from here"),
        ("sdediff.nothing:x", "no module 'sdediff.nothing'"),
        ("sdediff:sampel", "sdediff has no 'sampel'; did you mean 'sample'"),
        ("broken_1:x", "importing 'broken_1' raised ZeroDivisionError: division by zero"),
        ("leaves_1:x", "importing 'leaves_1' raised SystemExit"),
        ("needs_1:x", "importing 'needs_1' raised ModuleNotFoundError: No module named 'absent_1'"),
        ("a/b", "write package.module:attribute"),
    ],
)
def test_what_cannot_be_imported(module, reference, match):
    module("broken_1", "1 / 0")
    module("leaves_1", "raise SystemExit(3)")
    module("needs_1", "import absent_1")
    with pytest.raises(sd.Error, match=match) as caught:
        imported(reference)
    assert "\n" not in str(caught.value)


def test_what_has_no_importable_name(module, monkeypatch):
    module("shapes_2", "def f():\n    def inner():\n        pass\n    return inner\ndef g():\n    pass\n")
    f, g = imported("shapes_2:f"), imported("shapes_2:g")
    main = type("Net", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["shapes_2"], "g", f)
    cases = [
        (lambda x: x, "a lambda has no importable name"),
        (f(), "made inside of a function"),
        (main, "defined in the running script"),
        (g, "not what that name imports"),
        (functools.partial(f), "give a class or a function"),
        (3, "give a class or a function"),
    ]
    for thing, match in cases:
        with pytest.raises(sd.Error, match=match):
            reference_to(thing)


def test_a_package_is_located_without_being_run(module, tmp_path):
    module("mines_1", "raise RuntimeError('ran')")
    assert location("mines_1:Net") == str(tmp_path / "mines_1.py")
    assert location("absent_2.sub:Net") == "not installed here"
    assert package_of("mines_1.sub:Net") == "mines_1"


def test_solvers_by_reference_and_by_entry_point(module, monkeypatch):
    module("my_solvers_1", "import sdediff as sd\nMine = sd.solver('ddim').__class__\nready = Mine()\nnone = 3\n")
    assert repr(sd.solver("my_solvers_1:Mine", eta=0.5)) == repr(sd.solver("ddim", eta=0.5))
    assert repr(sd.solver("my_solvers_1:ready")) == repr(sd.solver("ddim"))
    for reference in ("my_solvers_1:none", "my_solvers_1:absent", "absent_3:Mine"):
        with pytest.raises(sd.SolverError, match=reference):
            sd.solver(reference)

    class Entry:
        name, value = "mine", "my_solvers_1:gone"

        def load(self):
            raise AttributeError("gone")

    monkeypatch.setattr(references, "entry_points", lambda group: [Entry()] if group == "sdediff.solvers" else [])
    assert "mine" in sd.solvers.names()
    with pytest.raises(sd.SolverError, match=r"plug-in 'mine' of sdediff.solvers .* raised AttributeError: gone"):
        sd.solver("mine")
