"""The checks of the exercises of "Stateful serverless"."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beyondlab.durable import model, windows
from beyondlab.durable.orders import CrashAt, Killed, World, raise_killed
from beyondlab.durable.processor import DELAY
from beyondlab.durable.replay import ActivityFailed, NonDeterminism, Replay, run
from beyondlab.durable.sensors import readings
from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number, verdict

_OPEN = "Your turn"


def check_share(share: Any) -> Verdict:
    """Of the crash points of a workflow of 50 steps, the share at which an effect is done twice without a key."""
    return check_number(
        share, 0.25, rtol=1e-6,
        mistakes=[(0.5, "Each step has two records, and a crash before each of them. Which of the two follows an effect?"),
                  (25, "A share between 0 and 1 is wanted, not per cent."),
                  (1 / 3, "Count four points a step: asked and recorded, done and recorded.")],
        hint="Four points a step. It does not depend on the number of steps.",
    )  # fmt: skip


def check_attempts(attempts: Any) -> Verdict:
    """Attempts of 64 writers with one compare-and-set each, in lock-step."""
    return check_number(
        attempts, model.lockstep_attempts(64), rtol=1e-9,
        mistakes=[(64, "One attempt each would do if nobody were in the way. In the first round 63 of 64 fail."),
                  (64 * 64, "A writer that has won does not try again: the rounds get smaller."),
                  (64 * 63 / 2, "Those are the failures. The 64 successes are attempts too.")],
        hint="64 in the first round, of which one wins. 63 in the second.",
    )  # fmt: skip


def check_deterministic(workflow: Callable[[Replay, str], Any] | None) -> Verdict:
    """Whether an order with a deadline and a lottery survives a crash at every point.

    Its first and last effects must be ``reserve`` and ``ship``; in between ``charge``, unless the lottery (one in ten) makes it free.
    """
    if workflow is None:
        return verdict(False, f"{_OPEN}: write the workflow.")
    number = 0
    while True:
        number += 1
        with tempfile.TemporaryDirectory() as folder:
            world, path, crash = World(Path(folder, "world")), Path(folder, "order.log"), CrashAt(number, die=raise_killed)
            try:
                try:
                    run(workflow, path, world.activities, "order", at=crash)
                    if crash.died is None:
                        break
                except Killed:
                    pass
                for _ in range(8):
                    run(workflow, path, world.activities, "order")
            except NonDeterminism as error:
                return verdict(False, f"Killed at {crash.died!r}, the replay took another way: {error}")
            except Exception as error:  # whatever a learner's workflow raises
                return verdict(False, f"Killed at {crash.died!r}, then {type(error).__name__}: {error}")
            counts = world.counts("keyed")
            if any(count > 1 for count in counts.values()) or not {"reserve", "ship"} <= counts.keys():
                return verdict(False, f"Killed at {crash.died!r}, the effects are {counts}; "
                                      "wanted reserve and ship once, charge at most once.")
    asked = [f"{event['value'][0]}" for event in _history(workflow) if event["event"] == "scheduled"]
    if "random" not in asked or "clock" not in asked:
        return verdict(False, "It survives, but the lottery or the clock is gone. Ask the engine for both: ctx.random(), ctx.now().")
    return verdict(True, "Right: killed at every point, replayed eight times each, always the same way.")


def _history(workflow: Callable[[Replay, str], Any]) -> list[dict[str, Any]]:
    from beyondlab.durable.replay import Log

    with tempfile.TemporaryDirectory() as folder:
        run(workflow, Path(folder, "order.log"), World(Path(folder, "world")).activities, "order")
        return Log(Path(folder, "order.log")).events


def check_retries(function: Callable[[Replay, str, str, int], Any] | None) -> Verdict:
    """Whether ``function(replay, name, order, attempts)`` calls an activity until it succeeds, ``attempts`` times at most.

    The activity of the check fails twice and then succeeds; killed at every point, it must not be tried again for what is
    recorded.
    """
    if function is None:
        return verdict(False, f"{_OPEN}: write the function.")
    for attempts, wanted in ((5, "paid"), (2, None)):
        number = 0
        while True:
            number += 1
            tries: list[str] = []

            def pay(key: str, order: str) -> str:
                tries.append(key)
                if len(set(tries)) <= 2:
                    raise RuntimeError("the bank is closed")
                return "paid"

            with tempfile.TemporaryDirectory() as folder:
                crash, path = CrashAt(number, die=raise_killed), Path(folder, "pay.log")

                def workflow(replay: Replay) -> Any:
                    return function(replay, "pay", "order", attempts)

                try:
                    try:
                        result = run(workflow, path, {"pay": pay}, at=crash)
                        alive = crash.died is None
                    except Killed:
                        alive, result = False, None
                    if not alive:
                        result = run(workflow, path, {"pay": pay})
                except ActivityFailed:
                    alive, result = crash.died is None, None
                except Exception as error:  # whatever a learner's function raises
                    return verdict(False, f"Killed at {crash.died!r}: {type(error).__name__}: {error}")
            if result != wanted:
                said = "the payment" if wanted else "ActivityFailed, when all attempts have failed"
                return verdict(False, f"With {attempts} attempts it gave {result!r}; wanted {said}.")
            if len(set(tries)) != min(attempts, 3):
                return verdict(False, f"With {attempts} attempts the bank was asked under {len(set(tries))} keys; wanted {min(attempts, 3)}.")
            if alive:
                break
    return verdict(True, "Right: it tries again, gives up in time, and a crash does not start the counting again.")


def _sessions(times: list[int], gap: int) -> list[tuple[int, int]]:
    return windows.merge([(time, time + gap) for time in times])


def check_sessions(function: Callable[[list[int], int], Any] | None) -> Verdict:
    """Whether ``function(times, gap)`` gives the session windows (start, end) of ``times`` in any order."""
    cases = [
        ([0, 1, 2, 10, 11], 3), ([10, 0, 11, 1, 2], 3), ([0, 3, 6], 3), ([0, 4, 8], 3), ([5], 10), ([], 3), ([7, 7, 7], 1),
        ([0, 5, 10, 8], 3),
    ]  # fmt: skip
    return check_function(
        function, cases, reference=_sessions,
        hint="Sort the times. A session ends a gap after its last event; an event at that very moment still belongs to it, as in Flink.",
    )  # fmt: skip


def late_share(delay: int) -> float:
    """Share of the course's readings that come behind the watermark if that is ``delay`` ms behind the newest."""
    newest, late, times = -(1 << 62), 0, _times()
    for time in times:
        late += time < newest - delay
        newest = max(newest, time)
    return late / len(times)


@functools.cache
def _times() -> tuple[int, ...]:
    return tuple(reading.time for reading in readings(seconds=60, late_share=0.0))


def check_delay(delay: Any) -> Verdict:
    """The smallest delay, in whole milliseconds, at which at most 1 % of the readings are behind the watermark."""
    low, high = 0, DELAY
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if late_share(middle) <= 0.01 else (middle + 1, high)
    return check_number(
        delay, low, unit="ms", rtol=0.02,
        mistakes=[(DELAY, "That is what the chapter uses: nobody is late, and every window waits for longer than it must."),
                  (0, "Without a delay every reading that was overtaken is late.")],
        hint="Count the readings whose time is under (newest so far − delay); halve the interval until you have it.",
    )  # fmt: skip


def check_zombie(answer: Any) -> Verdict:
    """Why a counter entity lost updates after a network partition."""
    return check_choice(answer, "fencing", {
        "fencing": "two activations of one key are alive, and the old one writes last. "
        "Write against the revision you read: the store refuses the old one.",
        "retries": "a retry can count twice, never too little. The counter lost updates.",
        "threads": "each host runs one task a key, as the log shows. Two hosts are the trouble.",
        "clock": "no step of a counter depends on the time.",
    })  # fmt: skip


def check_interval(steps: Any) -> Verdict:
    """Steps between snapshots: 20 ms a snapshot, 0.05 ms a replayed step, a process lives for 2,000 steps."""
    best = model.best_interval(0.020, 0.00005, 2_000)
    return check_number(
        steps, best, unit="steps", rtol=0.02,
        mistakes=[(best / 2**0.5, "Half a snapshot interval is replayed on average, not a whole one: mind the factor 2."),
                  (2_000, "One snapshot a life: on average a thousand steps are replayed. A shorter interval costs less."),
                  (best**2, "That is the square of the answer.")],
        hint="A step costs 20 ms / n for snapshots, and 0.05 ms × n / 2 / 2,000 for replays. Where is the sum least?",
    )  # fmt: skip


def check_bill(name: Any) -> Verdict:
    """The cheapest memory for 5 million orders a month of 12 steps that wait three days for a parcel."""
    return check_choice(name, "Lambda durable functions", {
        "Step Functions Express": "cheap, but an execution ends after five minutes; this order waits for days.",
        "Step Functions Standard": "it can wait a year, at 14 transitions an order: 1,750 USD a month.",
        "Lambda durable functions": "13 operations an order, 520 USD a month, and it can wait for 366 days.",
        "Temporal Cloud": "13 actions an order, 3,250 USD a month at the first tier.",
    })  # fmt: skip
