"""`fact`: what a solver says of itself, on its class and on its instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    fact = property
else:

    class fact:
        """A property that classes, fields and instances may override, with its value to be read on the class too."""

        def __init__(self, get: Callable[[Any], Any]) -> None:
            self._value, self.__doc__ = get(None), get.__doc__

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            return self._value
