"""One order after another, each killed at another point and resumed in a new process: the survey of a crash.

The same survey for the engine that the chapter builds and for DBOS, so that the two can be compared row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beyondlab.durable.hosts import Host
from beyondlab.durable.orders import CANCELLED, HAPPY, CrashAt, World

WORKERS = 4
"""Orders that are killed and resumed at the same time."""


@dataclass(frozen=True)
class Crash:
    """One order: where it was killed, what it came to, and how often each effect is in the two ledgers.

    ``point`` is empty for the order that was never killed.
    """

    point: str
    killed: bool
    result: Any
    attempts: dict[str, int]
    keyed: dict[str, int]

    @property
    def duplicates(self) -> list[str]:
        """Effects that were done more than once where no key is looked at."""
        return sorted(effect for effect, count in self.attempts.items() if count > 1)


def survey(
    start: Callable[[Path, int], Any],
    resume: Callable[[Path], Any],
    points: Sequence[str],
    folder: Path,
    *,
    host: Host,
    broken: bool = False,
    numbers: Iterable[int] | None = None,
) -> list[Crash]:
    """Kill ``start(folder, number)`` at each of the ``points`` and call ``resume(folder)`` afterwards.

    Both run as tasks of ``host`` with a folder of their own, which holds the world. ``numbers`` are the points to die at
    (from 1), by default all. Raises RuntimeError if a process was not killed though it should have been.
    """

    def one(number: int) -> Crash:
        place = folder / f"{'broken' if broken else 'good'}-{number}"
        place.mkdir(parents=True)
        first = host.run(start, place, number)
        if not first.killed:
            raise RuntimeError(f"point {number}: the process was not killed, it gave {first.value!r}")
        second = host.run(resume, place)
        return _crash(points[number - 1], True, second.value, place)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, numbers or range(1, len(points) + 1)))


def undisturbed(start: Callable[[Path, int], Any], folder: Path, *, host: Host) -> tuple[Crash, list[str]]:
    """The order that nobody kills, and the points at which it could have been killed."""
    folder.mkdir(parents=True)
    value = host.run(start, folder, 0).value
    return _crash("", False, value, folder), value["points"]


def _crash(point: str, killed: bool, value: dict[str, Any], place: Path) -> Crash:
    world, result = World(place / "world"), value["result"]
    return Crash(point, killed, result, world.counts("attempts"), world.counts("keyed"))


def exactly_once(crashes: Iterable[Crash], result: str) -> bool:
    """Whether each order came to ``result`` and, with a key, did each effect once."""
    wanted = {effect: 1 for effect in (HAPPY if result == "shipped" else CANCELLED)}
    return all(crash.result == result and crash.keyed == wanted for crash in crashes)


class OurEngine:
    """The tasks of an engine that is called like :func:`beyondlab.durable.replay.run`, for :func:`survey`."""

    def __init__(self, run: Callable[..., Any], workflow: Callable[..., Any], *, broken: Sequence[str] = ()) -> None:
        self.run, self.workflow, self.broken = run, workflow, tuple(broken)

    def start(self, place: Path, number: int) -> dict[str, Any]:
        crash = CrashAt(number)
        world = World(place / "world", broken=self.broken)
        result = self.run(self.workflow, place / "order.log", world.activities, "order", at=crash)
        return {"result": result, "points": crash.points}

    def resume(self, place: Path) -> dict[str, Any]:
        return self.start(place, 0)


def dbos_survey(folder: Path, *, host: Host) -> tuple[list[Crash], list[Crash]]:
    """Many orders on DBOS, each at another point, when one SIGKILL hits them all; one new process resumes them.

    The orders that are shipped, one for each point, and those that are cancelled.
    """
    from beyondlab.durable import dbos_orders

    folder.mkdir(parents=True)
    rehearsal = host.run(dbos_orders.live, str(folder / "rehearsal.sqlite"), str(folder / "rehearsal"), ["good", "broken"]).value
    last = {f"{kind} {number}": point for kind in ("good", "broken") for number, point in enumerate(rehearsal["points"][kind], 1)}
    database, world = str(folder / "dbos.sqlite"), str(folder / "world")
    if not host.run(dbos_orders.die, database, world, last).killed:
        raise RuntimeError("the process that should have been killed was not")
    results = host.run(dbos_orders.resume, database, world, list(last)).value
    ledgers = World(world)
    found = {
        order: Crash(point, True, results[order], ledgers.counts("attempts", order), ledgers.counts("keyed", order))
        for order, point in last.items()
    }
    return tuple([crash for order, crash in found.items() if order.startswith(kind)] for kind in ("good", "broken"))
