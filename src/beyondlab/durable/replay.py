"""Durable execution by event sourcing: a log, deterministic replay, activities run at least once and recorded once.

The library twin of the engine that the chapter builds: same events, same log, byte for byte. A workflow is a function
of a :class:`Replay` and its arguments. Whatever it wants of the world it asks of the replay, by number: the first time
the answer is made and appended to the log, from then on it is read from there. After a crash the workflow is simply
run again from its first line.

Two events a step: ``scheduled`` (what was asked) before, ``completed`` (what came of it) after. A crash between the
effect and its ``completed`` event runs the effect again: at least once, recorded once.

The checks are those of durabletask (``tests/durabletask/test_orchestration_executor.py`` in the repository
microsoft/durabletask-python): another kind of step, another name, or steps in the log that the code no longer asks for.
This engine compares the arguments too, which durabletask does not.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Activity = Callable[..., Any]
"""Called with an idempotency key and the arguments of the call; must return what JSON can hold."""


class NonDeterminism(RuntimeError):
    """The code asks for something else than it did when the log was written."""


class ActivityFailed(RuntimeError):
    """An activity raised. That, too, is recorded: a replay raises it again without running the activity."""


class Log:
    """An append-only file, one JSON object a line, on disk (fsync) when :meth:`append` returns.

    A last line without its end was being written when the machine died: it never happened, and is cut off.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.touch()
        text = self.path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(self.path, whole)
        self.events: list[dict[str, Any]] = json.loads(b"[" + b",".join(text[:whole].splitlines()) + b"]")

    def append(self, **event: Any) -> None:
        """Write one event and wait for the disk. Raises TypeError for what JSON cannot hold."""
        with open(self.path, "ab") as file:
            file.write(json.dumps(event).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.events.append(event)


class Replay:
    """What a workflow sees of the world. ``activities`` by name; ``at`` is told each point where a crash could fall."""

    def __init__(self, log: Log, activities: Mapping[str, Activity], at: Callable[[str], Any] = lambda point: None) -> None:
        self.log, self.activities, self.at = log, activities, at
        self.number = 0
        self.history = {(event["event"], event["number"]): event["value"] for event in log.events}

    def recorded(self, event: str, make: Callable[[], Any]) -> Any:
        """The value of this event from the log, or, the first time, from ``make``, written to the log."""
        key = event, number = event, self.number
        if key not in self.history:
            value = make()
            self.at(f"{number} {event}: made")
            self.log.append(event=event, number=number, value=value)
            self.history[key] = _plain(value)
            self.at(f"{number} {event}: recorded")
        return self.history[key]

    def step(self, kind: str, name: str, args: list[Any], effect: Callable[[], Any]) -> Any:
        """The next numbered step. Raises :class:`NonDeterminism` and :class:`ActivityFailed`."""
        self.number += 1
        asked = _plain([kind, name, args])
        planned = self.recorded("scheduled", lambda: asked)
        if planned != asked:
            raise NonDeterminism(f"step {self.number}: the log has {_shown(planned)}, the code asks for {_shown(asked)}")
        outcome = self.recorded("completed", lambda: _attempt(effect))
        if "error" in outcome:
            raise ActivityFailed(outcome["error"])
        return outcome["ok"]

    def call(self, name: str, *args: Any) -> Any:
        """Run an activity at least once, and record its result once. Raises ValueError for an unknown ``name``."""
        if name not in self.activities:
            raise ValueError(f"name={name!r}: not an activity; there are {', '.join(sorted(self.activities))}")
        key = f"{self.log.path.stem}/{self.number + 1}"
        return self.step("activity", name, list(args), lambda: self.activities[name](key, *args))

    def now(self) -> float:
        """Seconds since 1970, as the first run saw them."""
        return self.step("clock", "now", [], time.time)

    def random(self) -> float:
        """A random number between 0 and 1, the same in each replay."""
        return self.step("random", "random", [], random.random)

    def sleep(self, seconds: float) -> None:
        """Wait until a moment that is fixed when the wait begins: a restart does not begin it again."""
        due = self.step("timer", "sleep", [seconds], lambda: time.time() + seconds)
        time.sleep(max(0.0, due - time.time()))

    def finish(self) -> None:
        """Check that the code asked for all that is in the log. Raises :class:`NonDeterminism`."""
        for event, number in self.history:
            if number > self.number:
                raise NonDeterminism(f"step {number}: the log has {_shown(self.history['scheduled', number])}, the code ends before it")


def run(
    workflow: Callable[..., Any],
    path: str | os.PathLike[str],
    activities: Mapping[str, Activity],
    *args: Any,
    at: Callable[[str], Any] = lambda point: None,
) -> Any:
    """Run ``workflow`` from its first line against the log at ``path``, new or old; its result.

    Raises :class:`NonDeterminism` if the code and the log do not fit, and what the workflow raises.
    """
    replay = Replay(Log(path), activities, at)
    result = workflow(replay, *args)
    replay.finish()
    return result


class ContinueAsNew:
    """Returned by a workflow that wants to go on with ``state`` and an empty log: a snapshot."""

    def __init__(self, state: Any) -> None:
        self.state = state


def run_generations(
    workflow: Callable[..., Any],
    folder: str | os.PathLike[str],
    activities: Mapping[str, Activity],
    state: Any,
    at: Callable[[str], Any] = lambda point: None,
) -> Any:
    """Run a workflow of ``(replay, state)`` that may return :class:`ContinueAsNew`, a log file a generation; its result.

    The new log, with the snapshot in it, appears in one piece (written aside, then renamed) before the old one is removed:
    after a crash between the two the newer one counts. Temporal and Durable Functions call this "continue as new".
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        logs = sorted(folder.glob("*.log"))
        if not logs:
            logs = [_begin(folder, 0, state)]
        for old in logs[:-1]:
            old.unlink()
        replay = Replay(Log(logs[-1]), activities, at)
        outcome = workflow(replay, replay.history["snapshot", 0])
        replay.finish()
        if not isinstance(outcome, ContinueAsNew):
            return outcome
        at("snapshot: not written")
        _begin(folder, int(logs[-1].stem) + 1, outcome.state)
        at("snapshot: written")


def _begin(folder: Path, number: int, state: Any) -> Path:
    aside, path = folder / "next.partial", folder / f"{number:08d}.log"
    aside.unlink(missing_ok=True)
    Log(aside).append(event="snapshot", number=0, value=state)
    os.replace(aside, path)
    return path


def _attempt(effect: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"ok": effect()}
    except Exception as error:  # an activity may raise anything; a kill is not an Exception
        return {"error": f"{type(error).__name__}: {error}"}


def _plain(value: Any) -> Any:
    """As it will be read back: tuples become lists, keys texts. Raises TypeError for what JSON cannot hold."""
    return json.loads(json.dumps(value))


def _shown(step: list[Any]) -> str:
    kind, name, args = step
    return f"{kind} {name}({', '.join(map(repr, args))})"
