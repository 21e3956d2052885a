"""The checks of the exercises in "Event-driven architectures". None is a learner's answer not given yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any

from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number, verdict


def check_age(seconds: float | None) -> Verdict:
    """Exercise 1: the wait of the last of 9,000 events in a queue that 3 consumers work off, 25 a second each."""
    return check_number(
        seconds,
        120.0,
        unit="s",
        rtol=0.001,
        mistakes=[
            (360.0, "That is with one consumer; there are three."),
            (2.0, "That is in minutes."),
            (60.0, "That is the mean of all 9,000; the last one was asked for."),
        ],
        hint="Little's law: events in the queue over events a second.",
    )


def check_replicas(replicas: int | None) -> Verdict:
    """Exercise 2: replicas after one look of the HPA at 850 pending and 90 unacknowledged events, 3 replicas, target 100."""
    return check_number(
        replicas,
        7,
        rtol=0.001,
        mistakes=[
            (10, "That is what it wants. By default it may add 4 pods or double, whichever is more, every 15 s."),
            (9, "Events that are delivered but not acknowledged count too; and there is a limit on the way up."),
            (6, "Doubling is one limit; four more pods is the other, and the larger of the two counts."),
        ],
        hint="First the lag over the target, rounded up; then the limit on the way up.",
    )


def check_credits(credits: int | None) -> Verdict:
    """Exercise 3: most events in hand so that none times out: 30 s of visibility, 0.2 s of work, one after the other."""
    return check_number(
        credits,
        150,
        rtol=0.001,
        mistakes=[
            (6, "That is 30 times 0.2; divide."),
            (1000, "That is the default of JetStream. How old is the last of a thousand when its turn is over?"),
            (149, "The last one may end exactly when its time is over."),
        ],
        hint="The last event in hand waits for all the others.",
    )


def check_idempotent(apply: Callable[..., Any] | None) -> Verdict:
    """Exercise 4: ``apply(account, seen, event)``: add the amount once per id, the other effects of a repeat none.

    ``account``: a dictionary with ``balance``. ``seen``: a set of ids. ``event``: (id, amount). Returns the balance.
    """
    if apply is None:
        return check_function(None, [()])

    def run(events: list[tuple[str, int]]) -> int:
        account, seen = {"balance": 0}, set()
        given = None
        for event in events:
            given = apply(account, seen, event)
        if given is None or account["balance"] != given:
            return given
        return account["balance"]

    run.__name__ = getattr(apply, "__name__", "apply")
    cases = [
        [("a", 5)],
        [("a", 5), ("a", 5)],
        [("a", 5), ("b", 5)],
        [("a", 5), ("b", -2), ("a", 5), ("b", -2), ("c", 1)],
    ]
    return check_function(
        run,
        [(case,) for case in cases],
        reference=lambda events: sum(dict(events).values()),
        hint="The argument shown is the list of events as delivered. Two different events may have the same amount.",
    )


def check_diagnosis(answer: str | None) -> Verdict:
    """Exercise 5: what is wrong with a queue whose events are worked, and worked again, and never done."""
    return check_choice(
        answer,
        "time-out",
        {
            "time-out": "the work takes longer than the visibility time-out. Each event goes back before its acknowledgement, "
            "and that is refused because a newer delivery holds the receipt.",
            "poison": "a poison message fails quickly, and alone; here all events fail, after their work is done.",
            "consumers": "more consumers work the same events more often; the acknowledged rate stays zero.",
            "producer": "the lag grows no faster than the producer sends, and the consumers are busy all the time.",
        },
    )


def check_next_event(pick: Callable[..., Any] | None) -> Verdict:
    """Exercise 6: ``pick(waiting, busy)``: place of the oldest event whose key is not in work, or None."""

    def reference(waiting: Sequence[str], busy: Collection[str]) -> int | None:
        return next((place for place, key in enumerate(waiting) if key not in busy), None)

    cases = [
        (["a", "b"], set()),
        (["a", "a", "b"], {"a"}),
        (["a", "b", "c"], {"a", "b"}),
        (["a", "a"], {"a"}),
        ([], set()),
        (["b", "a", "b"], {"c"}),
    ]
    return check_function(pick, cases, reference=reference, hint="waiting lists the keys of the events, oldest first.")


def check_outbox(place: Callable[..., Any] | None) -> Verdict:
    """Exercise 7: ``place(db, number)`` writes order and event so that no crash leaves one without the other."""
    if place is None:
        return check_function(None, [()])
    for limit in range(1, 8):
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.execute("create table orders (id integer primary key)")
        db.execute("create table outbox (id integer primary key, event text)")
        calls = 0

        def count(statement: str) -> None:
            nonlocal calls
            calls += 1

        db.set_trace_callback(count)
        db.set_progress_handler(lambda limit=limit: calls >= limit, 1)
        crashed = False
        try:
            place(db, 1)
        except sqlite3.OperationalError as error:
            if "interrupted" not in str(error):
                return verdict(False, f"Not yet: {error}")
            crashed = True
        except Exception as error:
            return verdict(False, f"Not yet: {type(error).__name__}: {error}")
        db.set_progress_handler(None, 0)
        db.set_trace_callback(None)
        if db.in_transaction:
            if not crashed:
                return verdict(False, "Not yet: the transaction is never committed.")
            db.execute("rollback")
        orders, events = (db.execute(f"select count(*) from {name}").fetchone()[0] for name in ("orders", "outbox"))
        db.close()
        if orders != events:
            return verdict(False, f"Not yet: killed at statement {limit} it leaves {orders} order and {events} event.")
        if not crashed:
            return verdict(
                orders == 1,
                "Right: wherever it is killed, order and event are both there or both not."
                if orders == 1
                else "Not yet: nothing is written at all.",
            )
    return verdict(False, "Not yet: more than seven statements for two rows.")
