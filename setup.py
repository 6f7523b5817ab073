"""What pyproject.toml cannot say: on a package index the README's relative links need the address of the repository."""

import re
from pathlib import Path

import tomllib
from setuptools import setup

ROOT = Path(__file__).parent
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]


def absolute(text: str) -> str:
    """The text with links to files of the repository made absolute; pictures point to the files themselves."""
    text = re.sub(r"(!\[[^\]]*\])\((?!\w+:|#)", rf"\1({SOURCE}/raw/main/", text)
    return re.sub(r"(?<!!)(\[[^\]]*\])\((?!\w+:|#)", rf"\1({SOURCE}/blob/main/", text)


setup(
    long_description=absolute((ROOT / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
