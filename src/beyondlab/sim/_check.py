"""Checks of arguments, shared by the simulators. Every failure is a ValueError: name, value, what is allowed."""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import NDArray

Seed = int | np.random.Generator


def _number(name: str, value: object, allowed: str) -> float:
    try:
        if isinstance(value, str | bytes | bytearray):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} = {value!r}: must be {allowed}") from None


def positive(name: str, value: object) -> float:
    """Return ``value`` as a float; refuse anything but a finite number above 0."""
    allowed = "a finite number greater than 0"
    number = _number(name, value, allowed)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} = {value!r}: must be {allowed}")
    return number


def non_negative(name: str, value: object) -> float:
    """Return ``value`` as a float; refuse anything but a finite number of at least 0."""
    allowed = "a finite number, at least 0"
    number = _number(name, value, allowed)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} = {value!r}: must be {allowed}")
    return number


def finite(name: str, value: object) -> float:
    """Return ``value`` as a float; refuse NaN and infinities."""
    number = _number(name, value, "a finite number")
    if not math.isfinite(number):
        raise ValueError(f"{name} = {value!r}: must be a finite number")
    return number


def whole(name: str, value: object, least: int) -> int:
    """Return ``value`` as an int; refuse what is no integer or is under ``least``."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} = {value!r}: must be an integer, at least {least}") from None
    if number < least:
        raise ValueError(f"{name} = {value!r}: must be an integer, at least {least}")
    return number


def generator(seed: Seed) -> np.random.Generator:
    """Return ``seed`` itself if it is a Generator, else a new PCG64 Generator seeded with the integer."""
    if isinstance(seed, np.random.Generator):
        return seed
    try:
        return np.random.default_rng(whole("seed", seed, 0))
    except ValueError:
        raise ValueError(f"seed = {seed!r}: must be an integer, at least 0, or a numpy Generator") from None


def vector(name: str, values: object) -> NDArray[np.float64]:
    """Return ``values`` as a one-dimensional float64 array; one that is so already is not copied."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name}: must be a one-dimensional array of real numbers, got a ragged list") from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "fiu"):
        raise ValueError(
            f"{name}: must be a one-dimensional array of real numbers, got shape {array.shape} of {array.dtype}"
        )
    return array.astype(np.float64, copy=False)


def seconds(name: str, values: NDArray[np.float64], offset: int = 0) -> None:
    """Refuse an array with an entry that is NaN, infinite or negative. ``offset`` is added to the index shown."""
    # A NaN propagates through min and max, so the comparison fails for it.
    if values.size and not (values.min() >= 0 and values.max() < math.inf):
        index = int(np.flatnonzero(~((values >= 0) & (values < math.inf)))[0])
        raise ValueError(f"{name}[{offset + index}] = {values[index]}: must be finite seconds, at least 0")
