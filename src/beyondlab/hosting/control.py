"""The control loop as a pure function: from what is wanted and what is seen to what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from beyondlab.kit import check


class Action(NamedTuple):
    """``what``: ``bury`` (a task that ended by itself), ``drain`` (one too many), ``start`` (``task`` is then empty)."""

    what: str
    task: str = ""


def decide(desired: int, alive: Sequence[str], dead: Sequence[str] = ()) -> list[Action]:
    """What to do so that ``desired`` tasks run. ``alive`` and ``dead`` are names, oldest first; the youngest is drained.

    Applied and seen again, it decides nothing: the loop is at rest. Raises ValueError if ``desired`` is negative.
    """
    check.whole("desired", desired, 0)
    actions = [Action("bury", name) for name in dead]
    actions += [Action("drain", name) for name in reversed(alive[desired:])]
    return actions + [Action("start")] * max(0, desired - len(alive))


def rehearse(script: Sequence[tuple[str, int]]) -> list[str]:
    """The events of a service, without any process. ``script``: ("want", number) or ("kill", place among the living).

    The real runner, given the same script, has to report the same events in the same order.
    """
    alive: list[str] = []
    dead: list[str] = []
    events: list[str] = []
    desired = started = 0
    for what, number in script:
        if what == "want":
            desired = number
        elif what == "kill":
            dead.append(alive.pop(number))
        else:
            raise ValueError(f"script: {what!r} must be 'want' or 'kill'")
        while actions := decide(desired, alive, dead):
            for action in actions:
                if action.what == "start":
                    started += 1
                    alive.append(f"task-{started}")
                    events.append(f"started task-{started}")
                elif action.what == "bury":
                    dead.remove(action.task)
                    events.append(f"died {action.task}")
                else:
                    alive.remove(action.task)
                    events.append(f"drained {action.task}")
    return events
