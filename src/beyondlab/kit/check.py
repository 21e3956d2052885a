"""Checks of arguments. Each returns the value, or raises a ValueError that names argument, value and what is allowed.

>>> positive("timeout", 0, "seconds")
Traceback (most recent call last):
    ...
ValueError: timeout=0: must be a finite number of seconds greater than 0
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import NoReturn, TypeVar

Value = TypeVar("Value")


def positive(name: str, value: object, unit: str = "") -> float:
    """``value`` as a float. Raises ValueError unless it is a finite number above 0; ``unit`` is for the message."""
    number = _number(value)
    return number if 0 < number < math.inf else _refuse(name, value, f"a finite number{_of(unit)} greater than 0")


def all_positive(**values: object) -> None:
    """:func:`positive` for each of ``values``, by their names."""
    for name, value in values.items():
        positive(name, value)


def non_negative(name: str, value: object, unit: str = "") -> float:
    """``value`` as a float. Raises ValueError unless it is a finite number of at least 0."""
    number = _number(value)
    return number if 0 <= number < math.inf else _refuse(name, value, f"a finite number{_of(unit)}, at least 0")


def finite(name: str, value: object) -> float:
    """``value`` as a float. Raises ValueError for NaN, for infinities and for what is no number."""
    number = _number(value)
    return number if math.isfinite(number) else _refuse(name, value, "a finite number")


def share(name: str, value: object) -> float:
    """``value``, a share or a probability, as a float. Raises ValueError unless it is a number from 0 to 1."""
    number = _number(value)
    return number if 0 <= number <= 1 else _refuse(name, value, "a number from 0 to 1")


def whole(name: str, value: object, least: int) -> int:
    """``value`` as an int. Raises ValueError unless it is an integer of at least ``least``; a boolean is none."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    return number if number >= least else _refuse(name, value, f"an integer, at least {least}")


def one_of(name: str, value: Value, allowed: Iterable[Value]) -> Value:
    """``value``. Raises ValueError unless it is one of ``allowed``, such as the keys of a mapping."""
    every = tuple(allowed)
    return value if value in every else _refuse(name, value, f"one of {', '.join(map(str, every))}")


def _number(value: object) -> float:
    """``value`` as a float; NaN, which every check refuses, for what is no number."""
    try:
        return math.nan if isinstance(value, bool | str | bytes | bytearray) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _of(unit: str) -> str:
    return f" of {unit}" if unit else ""


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ValueError(f"{name}={value!r}: must be {allowed}")
