"""Checks of seeds and arrays, shared by the simulators, beside :mod:`beyondlab.kit.check`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beyondlab.kit import check

Seed = int | np.random.Generator


def generator(seed: Seed) -> np.random.Generator:
    """Return ``seed`` itself if it is a Generator, else a new PCG64 Generator seeded with the integer."""
    if isinstance(seed, np.random.Generator):
        return seed
    try:
        return np.random.default_rng(check.whole("seed", seed, 0))
    except ValueError:
        raise ValueError(f"seed={seed!r}: must be an integer, at least 0, or a numpy Generator") from None


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
        raise ValueError(f"{name}[{offset + index}]={values[index]}: must be finite seconds, at least 0")
