"""The gallery's scripts: named, runnable by anyone, and valid notebooks. The build of the pages executes them."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys

import pytest

from tests.project.pages import ROOT

GALLERY = ROOT / "docs" / "gallery"
SCRIPTS = sorted(GALLERY.glob("*.py"))
IDS = [script.stem for script in SCRIPTS]


def test_every_script_has_a_place_in_the_reading_order():
    source = (ROOT / "docs" / "_extensions" / "gallery_pages.py").read_text()
    assigned = next(node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    assert sorted(ast.literal_eval(assigned.value)) == IDS


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_a_script_has_a_title_a_lead_and_pictures_with_titles(script):
    text = script.read_text(encoding="utf-8")
    title, underline, blank, *lead = ast.get_docstring(ast.parse(text)).splitlines()
    assert (len(title), {*underline}, blank) == (len(underline), {"="}, "")
    assert lead
    # A figure's title is its text for those who do not see it.
    assert text.count("plt.subplots(") == len(re.findall(r"plt\.show\(\)", text))
    for cell in text.split("# %%")[1:]:
        if "plt.subplots(" in cell:
            assert "title" in cell


@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_pages_and_scripts_that_a_script_refers_to_exist(script):
    text = script.read_text(encoding="utf-8")
    for page in re.findall(r":doc:`/(\w+)`", text):
        assert (ROOT / "docs" / f"{page}.md").is_file(), page
    for other in re.findall(r"sphx_glr_examples_(\w+)\.py", text):
        assert (GALLERY / f"{other}.py").is_file(), other


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", SCRIPTS, ids=IDS)
def test_a_script_runs_by_itself(script, tmp_path):
    env = {**os.environ, "MPLBACKEND": "Agg"}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["own_network", "likelihood_errors"])
def test_a_notebook_of_the_gallery_runs_and_shows_tables(name, tmp_path):
    """Needs nbclient and ipykernel beside the extras of the documentation."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    written = pytest.importorskip("sphinx_gallery.notebook")
    from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    blocks = split_code_and_text_blocks(str(GALLERY / f"{name}.py"))[1]
    source = written.jupyter_notebook(blocks, {**DEFAULT_GALLERY_CONF, "notebook_images": False}, str(GALLERY))
    notebook = nbformat.reads(json.dumps(source), as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [o.data["text/html"] for o in outputs if "text/html" in o.get("data", {})]
    assert len([text for text in shown if "<table" in text]) == 1
    assert all("<table" in text or "<progress" in text for text in shown)  # of long work the bar as well
    assert [output for output in outputs if "image/png" in output.get("data", {})]
