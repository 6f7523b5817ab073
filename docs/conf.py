"""How the documentation is built: sphinx-build -W -b html docs docs/_build."""

import re
from importlib.metadata import version as installed

project = "sdediff"
author = "The sdediff authors"
copyright = "2026, The sdediff authors"
version = release = installed("sdediff")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"sdediff {release}"

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
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


def setup(app):
    app.connect("autodoc-process-docstring", _plain_docstring)
