"""How the documentation is built: sphinx-build -W -b html docs docs/_build."""

import inspect
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import sdediff

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from gallery_pages import thumbnails

project = "sdediff"
author = "The sdediff authors"
copyright = "2026, The sdediff authors"
version = release = sdediff.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "api_pages",
    "records_page",
]
exclude_patterns = ["_build", "_extensions", "gallery"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

# The scripts of gallery/ are executed at build time; a page is written again where its script has changed.
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "gallery_pages.ReadingOrder",
    "image_scrapers": ("matplotlib", "gallery_pages.gif"),
    "reset_modules": ("matplotlib", "gallery_pages.figures"),
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,  # its table needs scripts of other sites; each page has its own time
    "show_signature": False,
    "plot_gallery": "True",
}

html_theme = "furo"
html_title = f"sdediff {release}"
# MathJax is part of the site, so that formulas show without the network.
MATHJAX = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
html_static_path = ["_static", str(MATHJAX / "tex-chtml.js")]
mathjax_path = "tex-chtml.js"
html_css_files = ["site.css"]

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
maximum_signature_line_length = 88
add_module_names = False


def _text(prose):
    """Plain text in reStructuredText: code between backticks, a list by its dashes, all else as it stands."""
    parts = re.split(r"`+", re.sub(r"(?m)^(?=- )", "\n", prose))
    parts[::2] = [re.sub(r"([\\*_|])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"``{code}``" for code in parts[1::2]]
    return "".join(parts).splitlines()


def _plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are plain text; lines indented by four, and doctests, are shown as they are written."""
    chunks = re.split(r"\n(?:\s*\n)+", "\n".join(lines))
    lines.clear()
    for chunk in chunks:
        block = re.search(r"(?m)^(?: {4}|>>>)", chunk)
        cut = block.start() if block else len(chunk)
        lines += [*_text(chunk[:cut]), ""]
        if block:
            lines += ["::", "", *("    " + line for line in chunk[cut:].splitlines()), ""]


def _without_field_numbers(app, what, name, obj, skip, options):
    """A named tuple's fields are described in its docstring."""
    return True if (inspect.getdoc(obj) or "").startswith("Alias for field number") else None


def _copy_fonts(app, error):
    """Put MathJax's fonts where its script looks for them."""
    fonts = Path("output", "chtml", "fonts", "woff-v2")
    if error is None and app.builder.format == "html":
        shutil.copytree(MATHJAX / fonts, Path(app.outdir, "_static") / fonts, dirs_exist_ok=True)


def setup(app):
    app.connect("build-finished", _copy_fonts)
    app.connect("doctree-read", thumbnails)
    app.connect("autodoc-skip-member", _without_field_numbers)
    app.connect("autodoc-process-docstring", _plain_docstring)
