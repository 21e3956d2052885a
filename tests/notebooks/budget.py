"""What a notebook may take of a learner's machine: 60 s and 1 GB on two cores, as the course promises.

Memory is the proportional set size of the kernel and of all that its labs run, summed, sampled: a shared page counts
once, divided among those who map it. A peak between two samples is missed; page cache is not counted.

Time is wall time less the time in which the machine worked for others. A process that waits for a core waits because
all cores are at work, so the neighbours' CPU seconds, divided by the number of cores, are what they can have delayed
it. What remains cannot be blamed on them: on a quiet machine it is the wall time, on a busy one it comes near to the
notebook's own CPU seconds spread over all cores. So a limit on it finds a notebook that computes or sleeps for too
long, and no busy neighbour breaks it; beside one it is lenient, by a factor of two at most where there are two cores.
A run that fails is repeated with nothing beside it (tools/prove.py), where the limit is sharp.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable

import psutil

BYTES = 10**9
SECONDS = 1.5 * 60.0
"""A minute, and half as much again: test machines differ in speed, a core is slower while the other one is at work,
which shares its caches and often its units, and nbval takes some seconds to start."""
CPU_SECONDS = 2 * SECONDS
"""Of a run with a twin beside it, whose wall time says nothing: what two cores can do in ``SECONDS``."""
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


def resident(pids: Iterable[int]) -> int:
    """Bytes of memory that the processes have together; what has ended counts nothing."""
    total = 0
    for pid in pids:
        try:
            used = psutil.Process(pid).memory_full_info()
        except psutil.Error:
            continue
        total += getattr(used, "pss", used.uss)
    return total


class Stopwatch:
    """Seconds of one child of this process, which must end, with all it started, within the block.

    ``seconds`` is what neighbours cannot be blamed for, ``wall`` and ``cpu`` (all processes together) as they were.
    """

    def __enter__(self) -> Stopwatch:
        self._begin = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu, busy = (end - begin for begin, end in zip(self._begin, self._now(), strict=True))
        self.seconds = without_neighbours(self.wall, self.cpu, busy, os.cpu_count() or 1)

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s ({self.wall:.0f} s beside others, {self.cpu:.0f} s of CPU)"

    @staticmethod
    def _now() -> tuple[float, float, float]:
        children, machine = resource.getrusage(resource.RUSAGE_CHILDREN), psutil.cpu_times()
        return (
            time.monotonic(),
            children.ru_utime + children.ru_stime,
            sum(getattr(machine, kind, 0.0) for kind in _BUSY),
        )


def without_neighbours(wall: float, cpu: float, busy: float, cores: int) -> float:
    """``wall`` less what others can have kept all ``cores`` of a machine that was ``busy``, all in seconds."""
    return wall - max(0.0, busy - cpu) / cores
