"""Functions that the sweeps of test_sweeps.py run in other processes, which can import this file and not the test."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np


def drawn(seed: int, rate: float, servers: int) -> dict[str, float]:
    """Depends on every bit of its arguments."""
    draws = np.random.default_rng(seed).exponential(1 / rate, 100 * servers)
    return {"mean": draws.mean(), "longest": draws.max(), "above": int((draws > 1).sum())}


def _calls(side: str, seed: int, a: int) -> int:
    """How often this point was called before, in whatever process; counts this call."""
    with open(Path(side) / f"{a}-{seed}", "a") as file:
        file.write(".")
        return file.tell() - 1


def fragile(seed: int, a: int, side: str) -> int:
    """Its process is killed when an even ``a`` is called for the first time."""
    if _calls(side, seed, a) == 0 and a % 2 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 100 * a + seed


def deadly(seed: int, a: int, side: str) -> int:
    """Its process is killed whenever ``a`` is 1."""
    _calls(side, seed, a)
    if a == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 100 * a + seed


def stumbling(seed: int, a: int, side: str) -> int:
    """Raises when an even ``a`` is called for the first time."""
    if _calls(side, seed, a) == 0 and a % 2 == 0:
        raise OSError("at first")
    return 100 * a + seed


def slow(seed: int, a: int, side: str) -> int:
    """Takes a tenth of a second, and leaves the id of its process behind."""
    _calls(side, seed, a)
    (Path(side) / f"pid-{os.getpid()}").touch()
    time.sleep(0.1)
    return 100 * a + seed


def interrupted(seed: int, a: int) -> int:
    """Its process gets the signal of Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
    return a


def fixed(seed: int, **point: object) -> int:
    """Takes any parameters."""
    return len(point)
