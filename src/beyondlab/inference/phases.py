"""The cold start, split: where the time from "start the process" to "here is the answer" goes.

All times come from ``time.perf_counter()``. On Linux that is CLOCK_MONOTONIC, the same clock in all processes of a
machine, so that stamps of parent and child may be subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

PHASES = ("process", "runtime", "imports", "model read", "session", "hand-over", "first inference")
"""In this order; each ends where the next begins.

``process``: fork, exec and the interpreter. ``runtime``: the framework, until your module's first line. ``imports``,
``model read`` and ``session``: your module. ``first inference``: inside your function. ``hand-over``: all the rest,
that is, the framework opening its door, the request's way in and the answer's way out.
"""


def split(
    started: float, marks: Sequence[tuple[str, float]], inference: tuple[float, float], answered: float
) -> dict[str, float]:
    """Seconds of each phase; their sum is ``answered - started``.

    ``marks`` are (name, stamp): the named phase ended then, beginning with ``process``. ``inference`` is begin and end
    of the first prediction. A phase without a mark took no time of its own: it is 0. Raises ValueError for an unknown
    name or for stamps that run backwards.
    """
    seconds = dict.fromkeys(PHASES, 0.0)
    last = started
    for name, stamp in marks:
        if name not in PHASES[:5]:
            raise ValueError(f"marks: {name!r} is no phase of loading; there are {', '.join(PHASES[:5])}")
        if not stamp >= last:
            raise ValueError(f"marks: {name!r} ended at {stamp!r}, before the one before it, {last!r}")
        seconds[name] += stamp - last
        last = stamp
    begin, end = inference
    if not (last <= begin <= end <= answered):
        raise ValueError(f"inference={inference!r}: must lie between the last mark, {last!r}, and {answered!r}")
    seconds["first inference"] = end - begin
    seconds["hand-over"] = (begin - last) + (answered - end)
    return seconds


def total(seconds: Mapping[str, float]) -> float:
    """From the start of the process to the answer, in the unit of ``seconds``."""
    return math.fsum(seconds.values())


def overlapped(download: float, other: float) -> float:
    """Seconds that a start can save by downloading during its other work: the shorter of the two."""
    for name, value in (("download", download), ("other", other)):
        if not value >= 0:
            raise ValueError(f"{name}={value!r}: must be zero or more seconds")
    return min(download, other)
