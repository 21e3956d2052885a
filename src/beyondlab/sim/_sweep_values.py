"""Plain values of a sweep: what goes into its table and its file, and comes back the same."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

Plain = str | int | float | bool | None
Number = int | float | bool
Value = Number | dict[str, Number]


def _scalar(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def number(name: str, value: Any) -> Number:
    """``value`` as an int, float or bool; ValueError for anything but a real number."""
    converted = _scalar(value)
    if not isinstance(converted, int | float):
        raise ValueError(f"{name}={value!r}: must be a real number")
    return converted


def plain(owner: str, name: Any, value: Any) -> Plain:
    """A parameter's ``value`` as Python's own; ValueError for anything but a number, a text, a boolean or None."""
    converted = _scalar(value)
    if isinstance(converted, str):
        return str(converted)
    if converted is not None and not isinstance(converted, int | float):
        raise ValueError(f"{owner}[{name!r}]: {value!r} must be a number, a text, a boolean or None")
    return converted
