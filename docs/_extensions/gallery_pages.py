"""How the scripts of the gallery become pages: their order, the size of their figures, and animations."""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

# The order in which they are read.
ORDER = (
    "choose_a_solver",
    "watch_a_trajectory",
    "orders",
    "stiffness_and_grids",
    "one_process",
    "likelihood_errors",
    "two_models",
    "outliers",
    "guidance_bias",
    "inverse_posterior",
    "train_in_two_minutes",
    "own_process",
    "own_solver",
    "own_network",
    "own_contender",
    "cluster_job",
    "read_a_report",
)


class ReadingOrder:
    """The key by which the pages of a folder are sorted. KeyError: a script that ORDER does not name."""

    def __init__(self, folder: str) -> None:
        self.keys = {f"{name}.py": f"{i:02}" for i, name in enumerate(ORDER)}

    def __call__(self, filename: str) -> str:
        """A string that sorts as the pages are read."""
        return self.keys[filename]


def figures(conf: dict[str, Any], script: str) -> None:
    """Before each script: figures of a size that serves small and large screens."""
    import matplotlib

    matplotlib.rcParams.update({"figure.dpi": 110, "savefig.dpi": 110})


def gif(block: tuple[Any, ...], block_vars: dict[str, Any], conf: dict[str, Any]) -> str:
    """The animations that a block of code has written beside its script, moved to the pictures of its page."""
    from sphinx_gallery.scrapers import figure_rst

    written = sorted(Path(block_vars["src_file"]).parent.glob("*.gif"))
    paths = []
    for source in written:
        path = PurePosixPath(next(block_vars["image_path_iterator"])).with_suffix(".gif")
        shutil.move(source, path)
        paths.append(str(path))
    titles = ", ".join(source.stem for source in written)
    return figure_rst(paths, conf["src_dir"], titles) if paths else ""


def thumbnails(app: Any, doctree: Any) -> None:
    """Thumbnails of the gallery's first page get a text: the subject of the script that they lead to."""
    from docutils import nodes

    for image in doctree.findall(nodes.image):
        name = Path(image["uri"]).name
        if name.startswith("sphx_glr_") and name.endswith("_thumb.png") and not image.get("alt"):
            image["alt"] = "A picture of " + name.removeprefix("sphx_glr_").removesuffix("_thumb.png").replace("_", " ")
