"""The checks tell right from wrong, and say what is wrong."""

from __future__ import annotations

import pytest

from beyondlab.events import exercises


@pytest.mark.parametrize(
    ("check", "right", "wrong", "says"),
    [
        (exercises.check_age, 120, 360, "there are three"),
        (exercises.check_age, 120, 2, "minutes"),
        (exercises.check_age, 120, 60, "mean"),
        (exercises.check_replicas, 7, 10, "4 pods or double"),
        (exercises.check_replicas, 7, 9, "not acknowledged"),
        (exercises.check_replicas, 7, 6, "four more"),
        (exercises.check_credits, 150, 6, "divide"),
        (exercises.check_credits, 150, 1000, "default"),
        (exercises.check_credits, 150, 149, "exactly"),
    ],
)
def test_numbers(check, right, wrong, says, capsys):
    assert check(right)
    capsys.readouterr()
    assert not check(wrong) and says in capsys.readouterr().out
    assert not check(None) and "Not answered yet" in capsys.readouterr().out


def test_idempotent(capsys):
    def good(account, seen, event):
        if event[0] not in seen:
            seen.add(event[0])
            account["balance"] += event[1]
        return account["balance"]

    def adds_always(account, seen, event):
        account["balance"] += event[1]
        return account["balance"]

    def by_amount(account, seen, event):
        if event[1] not in seen:
            seen.add(event[1])
            account["balance"] += event[1]
        return account["balance"]

    def silent(account, seen, event):
        good(account, seen, event)

    assert exercises.check_idempotent(good)
    assert not exercises.check_idempotent(adds_always)
    assert not exercises.check_idempotent(by_amount)
    capsys.readouterr()
    assert not exercises.check_idempotent(silent) and "returned nothing" in capsys.readouterr().out
    assert not exercises.check_idempotent(None)


@pytest.mark.parametrize(("answer", "says"), [("poison", "alone"), ("consumers", "more often"), ("producer", "lag"), ("x", "not one of")])
def test_diagnosis(answer, says, capsys):
    assert exercises.check_diagnosis("Time-out")
    capsys.readouterr()
    assert not exercises.check_diagnosis(answer) and says in capsys.readouterr().out
    assert not exercises.check_diagnosis(None)


def test_next_event():
    assert exercises.check_next_event(lambda waiting, busy: next((n for n, k in enumerate(waiting) if k not in busy), None))
    assert not exercises.check_next_event(lambda waiting, busy: 0)
    assert not exercises.check_next_event(lambda waiting, busy: next((n for n, k in reversed(list(enumerate(waiting))) if k not in busy), None))
    assert not exercises.check_next_event(None)


def orders(db, number):
    db.execute("insert into orders values (?)", (number,))


def events(db, number):
    db.execute("insert into outbox values (?, 'placed')", (number,))


def together(db, number):
    db.execute("begin")
    orders(db, number)
    events(db, number)
    db.execute("commit")


def two_writes(db, number):
    orders(db, number)
    events(db, number)


def event_first(db, number):
    events(db, number)
    orders(db, number)


def never_committed(db, number):
    db.execute("begin")
    two_writes(db, number)


def committed_too_early(db, number):
    db.execute("begin")
    orders(db, number)
    db.execute("commit")
    events(db, number)


def only_one(db, number):
    orders(db, number)


@pytest.mark.parametrize(
    ("place", "says"),
    [(two_writes, "1 order and 0 event"), (event_first, "0 order and 1 event"), (never_committed, "never committed"),
     (committed_too_early, "1 order and 0 event"), (only_one, "1 order and 0 event"), (lambda db, n: None, "nothing is written"),
     (lambda db, n: db.execute("insert into nowhere values (1)"), "no such table"), (lambda db, n: 1 / 0, "ZeroDivisionError"),
     (None, "Not answered yet")],
)  # fmt: skip
def test_outbox(place, says, capsys):
    assert exercises.check_outbox(together)
    capsys.readouterr()
    assert not exercises.check_outbox(place) and says in capsys.readouterr().out
