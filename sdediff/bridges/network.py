"""`DiffusersNetwork`: a network of diffusers as a plain one, (x, t, **cond) -> output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sdediff._utils.errors import MissingPackageError
from sdediff.bridges.conventions import channels_of, convention_of
from sdediff.bridges.errors import BridgeError
from sdediff.model.conditions import a_row_each
from sdediff.model.prediction import ModelError

# What reading weights raises where they are damaged, missing or of another shape.
FAULTS = (SafetensorError, OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, NotImplementedError)


def library() -> Any:
    """The package diffusers. MissingPackageError where it is not installed."""
    try:
        import diffusers
    except ImportError as error:
        raise MissingPackageError("models of diffusers need that package: pip install 'sdediff[bridges]'") from error
    return diffusers


def read_network(name: str, place: Path, what: str, dtype: torch.dtype | None = None) -> nn.Module:
    """A network of diffusers in a folder, by the name of its class. BridgeError: weights that do not fit it exactly."""
    try:
        with quiet(library().utils.logging):
            network, report = getattr(library(), name).from_pretrained(
                str(place), use_safetensors=True, local_files_only=True, torch_dtype=dtype, low_cpu_mem_usage=False,
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except FAULTS as error:
        if isinstance(error, BridgeError | ImportError):
            raise
        raise unread(place, what, error) from error
    check_fit(place, what, report, ("missing_keys", "unexpected_keys"))
    found: nn.Module = network
    return found


def check_fit(place: Path, what: str, report: Mapping[str, Any], kinds: Sequence[str]) -> None:
    """Refuse weights of a part that lack one, have one too many (by `kinds`) or have another shape."""
    others = sorted(report.get("mismatched_keys") or [])
    if others:
        name, stored, needed = others[0]
        raise BridgeError(
            f"{_weights_in(place)}: {name} is {tuple(stored)}, needed by config.json is {tuple(needed)} ({len(others)} "
            "such): copy or download the weights and config.json again"
        )
    said = {"missing_keys": "no weights of", "unexpected_keys": f"the {what} has no"}
    for kind in kinds:
        names = sorted(map(str, report.get(kind) or []))
        if names:
            raise BridgeError(
                f"{_weights_in(place)}: {said[kind]} {names[0]} ({len(names)} such): copy or download the weights and "
                "config.json again"
            )


def _weights_in(place: Path) -> Path:
    """The file of a folder's weights; the folder where there are several."""
    files = sorted(place.glob("*.safetensors"))
    return files[0] if len(files) == 1 else place


def unread(place: Path, what: str, error: Exception) -> BridgeError:
    """The refusal of a part of a pipeline, in one sentence."""
    reason = " ".join((str(error).strip() or type(error).__name__).split())[:300]
    return BridgeError(f"{place}: the {what} cannot be read ({reason}): copy or download it again")


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """Without warnings and bars of diffusers or transformers, by its module of logging; what is wrong is raised."""
    level, drawn = logging.get_verbosity(), getattr(logging, "is_progress_bar_enabled", lambda: True)()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if drawn:
            logging.enable_progress_bar()


class DiffusersNetwork(nn.Module):
    """A network of diffusers by its class and configuration: called with x (B, C, ...) and its clock (B,).

    Conditions are its own keywords; a network that reads more channels than its states have (a mask, a low resolution)
    takes them as `concat` (B, C', ...). Raises ModelError for conditions that are missing, BridgeError for classes that
    are not known.
    """

    def __init__(self, name: str, config: dict[str, Any], network: nn.Module | None = None) -> None:
        super().__init__()
        self.convention = convention_of(name, config)
        self.channels, self.more = channels_of(name, config)
        self.config = {"name": name, "config": plain(config)}
        if network is None:
            kind = getattr(library(), name)
            try:
                network = kind.from_config(config)
            except (TypeError, ValueError, RuntimeError, KeyError) as error:
                raise BridgeError(f"the network {name} cannot be made ({error}): mend its config.json") from error
        self.network = network

    def forward(self, x: Tensor, time: Tensor, concat: Tensor | None = None, **cond: Any) -> Tensor:
        """The output for states x at clock readings time, with the network's own conditions."""
        missing = [name for name in self.convention.needs if cond.get(name) is None]
        if self.more and concat is None:
            missing.append(f"concat (B, {self.more}, ...)")
        if missing:
            names = ", ".join(missing)
            raise ModelError(f"the network needs {names}: write model.given({missing[0].split()[0]}=...), or cond=")
        if concat is not None:
            if not self.more:
                raise ModelError("concat= has no effect on a network that reads the states alone: leave it out")
            x = torch.cat([x, concat.to(x.dtype)], dim=1)
        cond = a_row_each(cond, len(x))  # which attention to tokens needs
        first, *_ = self.network(x, timestep=time, **cond, return_dict=False)
        output: Tensor = first
        return output


def plain(value: Any) -> Any:
    """A configuration as JSON has it, without what the library adds for itself."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items() if str(k) == "_class_name" or not str(k).startswith("_")}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
