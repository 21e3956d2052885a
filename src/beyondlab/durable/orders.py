"""The order of the chapter: reserve, charge, ship, and what undoes them; and a world that counts what was done to it.

The world is two ledgers on disk. ``attempts`` does all it is told. ``keyed`` looks at the idempotency key first, as
payment services do, and does nothing for a key that it has seen. The difference between the two is what a key buys.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from beyondlab.durable.replay import Activity, ActivityFailed, Replay

EFFECTS = ("reserve", "charge", "ship", "release", "refund")
"""All that can be done to the world; the last two undo the first two."""

HAPPY = ("reserve", "charge", "ship")
"""The effects of an order that is shipped."""

CANCELLED = ("reserve", "charge", "refund", "release")
"""The effects of an order that cannot be shipped: what was done is undone, the last first."""


class World:
    """Two ledgers in ``folder``. Effects named in ``broken`` raise RuntimeError and are not done.

    Raises ValueError for a name in ``broken`` that is no effect.
    """

    def __init__(self, folder: str | os.PathLike[str], *, broken: Iterable[str] = ()) -> None:
        self.folder, self.broken = Path(folder), frozenset(broken)
        if unknown := self.broken - set(EFFECTS):
            raise ValueError(f"broken={sorted(unknown)}: allowed are {', '.join(EFFECTS)}")
        self.folder.mkdir(parents=True, exist_ok=True)

    def do(self, effect: str, key: str, order: str) -> str:
        """Do one effect in both ledgers; a receipt. Safe to be killed in: each ledger gets a whole line or none."""
        if effect in self.broken:
            raise RuntimeError(f"cannot {effect} {order}")
        entry = {"effect": effect, "order": order, "key": key, "pid": os.getpid()}
        if key not in {entry["key"] for entry in self.entries("keyed")}:
            self._append("keyed", entry)
        self._append("attempts", entry)
        return f"{effect} {order}"

    @property
    def activities(self) -> dict[str, Activity]:
        """Name -> function of a key and an order, for :class:`beyondlab.durable.replay.Replay`."""
        return {effect: lambda key, order, effect=effect: self.do(effect, key, order) for effect in EFFECTS}

    def entries(self, ledger: str) -> list[dict[str, Any]]:
        """All entries of ``attempts`` or ``keyed``, the oldest first."""
        file = self.folder / f"{ledger}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def counts(self, ledger: str, order: str | None = None) -> dict[str, int]:
        """How often each effect is in the ``ledger``, of one ``order`` or of all."""
        return dict(Counter(entry["effect"] for entry in self.entries(ledger) if order in (None, entry["order"])))

    def _append(self, ledger: str, entry: dict[str, Any]) -> None:
        handle = os.open(self.folder / f"{ledger}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, (json.dumps(entry) + "\n").encode())
        finally:
            os.close(handle)


def order_workflow(replay: Replay, order: str) -> str:
    """Reserve, charge, ship; if one fails, undo what was done. ``"shipped"`` or ``"cancelled"``."""
    undo: list[str] = []
    try:
        for effect, opposite in (("reserve", "release"), ("charge", "refund"), ("ship", None)):
            replay.call(effect, order)
            undo.append(opposite)
    except ActivityFailed:
        for effect in reversed(undo):
            replay.call(effect, order)
        return "cancelled"
    return "shipped"


class Killed(BaseException):
    """A crash in the same process, for exhaustive tests: nothing catches it by accident."""


class CrashAt:
    """The hook of an engine that lets the ``number``-th point (from 1) be its last.

    ``die`` ends the process: by default with SIGKILL, which no program can see coming. ``points`` are the names of
    those passed, ``died`` the last one.
    """

    def __init__(self, number: int, die: Callable[[], Any] | None = None) -> None:
        self.number, self._die = number, die or _kill_this_process
        self.points: list[str] = []

    def __call__(self, point: str) -> None:
        self.points.append(point)
        if len(self.points) == self.number:
            self._die()

    @property
    def died(self) -> str | None:
        return self.points[-1] if len(self.points) == self.number else None


def raise_killed() -> None:
    """For ``CrashAt(n, die=raise_killed)``."""
    raise Killed


def _kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
