"""The two engines of the simulators: numba, and plain Python.

Kernels are written once, in the part of Python that numba compiles; both engines run the same text.

Without fast-math both do the same floating-point operations in the same order, so both give the same bits.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

Engine = Literal["auto", "numba", "python"]
Kernel = Callable[..., Any]


def is_compiled(engine: Engine) -> bool:
    """Whether ``engine`` compiles: ``"numba"``, and ``"auto"`` where numba is installed. ValueError for another name."""
    if engine not in ("auto", "numba", "python"):
        raise ValueError(f"engine={engine!r}: must be 'auto', 'numba' or 'python'")
    return engine == "numba" or (engine == "auto" and importlib.util.find_spec("numba") is not None)


def chosen(kernel: Kernel, engine: Engine) -> Kernel:
    """``kernel``, compiled or as it is. Raises ValueError as :func:`is_compiled`."""
    return _compiled(kernel) if is_compiled(engine) else kernel


@cache
def _compiled(kernel: Kernel) -> Kernel:
    from numba import njit

    try:
        return njit(cache=True, nogil=True)(kernel)
    except (RuntimeError, OSError):  # "cannot cache function": no place is writable
        return njit(nogil=True)(kernel)
