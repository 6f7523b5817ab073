"""Options of grids, and grids that a user's function makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from sdediff._utils.checks import number, shown
from sdediff._utils.errors import Error, InputError

# Options of the named grids that are numbers.
_CHECKED = ("shift", "alpha", "beta")
_NUMBERS = ("rho", "power", "sigma_data", *_CHECKED)


def check_options(make: Callable[..., Any], kind: Any, options: dict[str, Any]) -> None:
    """Refuse options that a grid does not take, and values that they cannot have."""
    taken = list(inspect.signature(make).parameters.values())
    known = [entry.name for entry in taken[4:]]
    for name, value in options.items():
        if name not in known and not any(entry.kind is entry.VAR_KEYWORD for entry in taken):
            raise InputError(f"the grid {shown(kind)} has no option {name!r}: it takes {', '.join(known) or 'none'}")
        if isinstance(kind, str) and name in _NUMBERS and number(name, value) <= 0 and name not in _CHECKED:
            raise InputError(f"{name}={value}: give a positive number")


def of_function(make: Callable[..., Any], *ends: Any, **options: Any) -> Any:
    """The times of a user's function of (sde, n, start, stop); what it raises becomes one sentence."""
    try:
        return make(*ends, **options)
    except Error:
        raise
    except Exception as error:
        raise InputError(
            f"the grid {shown(make)} raised {type(error).__name__} ({error}): it is called as (sde, n, start, stop)"
        ) from error
