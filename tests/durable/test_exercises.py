"""The checks of the exercises: right answers pass, and typical wrong ones are told why."""

from __future__ import annotations

import random

import pytest

from beyondlab.durable import exercises, windows
from beyondlab.durable.replay import ActivityFailed


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


NUMBERS = [
    (exercises.check_share, 0.25, [(0.5, "follows an effect"), (25, "not per cent"), (1 / 3, "four points")]),
    (exercises.check_attempts, 2_080, [(64, "63 of 64 fail"), (4_096, "smaller"), (2_016, "failures")]),
    (exercises.check_interval, 1_264.9, [(894.4, "factor 2"), (2_000, "once|One snapshot"), (1_600_000, "square")]),
]  # fmt: skip


@pytest.mark.parametrize(("check", "right", "wrong"), NUMBERS)
def test_numbers(check, right, wrong, capsys):
    assert check(right)
    assert not check(None) and "replace None" in capsys.readouterr().out
    for answer, says in wrong:
        verdict = check(answer)
        assert not verdict and any(part in verdict.message for part in says.split("|")), verdict.message


def test_the_delay_is_the_least_that_will_do():
    right = next(d for d in range(3_000) if exercises.late_share(d) <= 0.01)
    assert exercises.check_delay(right)
    assert exercises.late_share(right - 1) > 0.01
    assert not exercises.check_delay(right // 2)
    assert "longer than it must" in exercises.check_delay(3_000).message
    assert "overtaken" in exercises.check_delay(0).message


def good(replay, order):
    replay.call("reserve", order)
    if replay.random() >= 0.1:
        replay.call("charge", order)
    replay.now()
    replay.call("ship", order)


def chance(replay, order):
    replay.call("reserve", order)
    if random.random() < 0.5:
        replay.call("charge", order)
    replay.call("ship", order)


def without(replay, order):
    for effect in ("reserve", "charge", "ship"):
        replay.call(effect, order)


def without_lottery(replay, order):
    without(replay, order)
    replay.now()


def without_clock(replay, order):
    replay.call("reserve", order)
    if replay.random() >= 0.1:
        replay.call("charge", order)
    replay.call("ship", order)


def twice(replay, order):
    good(replay, order)
    replay.call("ship", order)


def never(replay, order):
    replay.call("reserve", order)


@pytest.mark.parametrize(("workflow", "says"), [
    (None, "write"), (chance, "took another way"), (without, "lottery or the clock is gone"),
    (without_lottery, "lottery or the clock is gone"), (without_clock, "lottery or the clock is gone"), (twice, "once"), (never, "wanted reserve and ship"),
    (lambda replay, order: 1 / 0, "ZeroDivisionError"),
])  # fmt: skip
def test_deterministic_wrong(workflow, says):
    assert says in exercises.check_deterministic(workflow).message


def test_deterministic_right():
    assert exercises.check_deterministic(good)


def retried(replay, name, order, attempts):
    for attempt in range(1, attempts + 1):
        try:
            return replay.call(name, order)
        except ActivityFailed:
            if attempt == attempts:
                raise
            replay.sleep(0.0)


def forever(replay, name, order, attempts):
    for _ in range(50):
        try:
            return replay.call(name, order)
        except ActivityFailed:
            pass


@pytest.mark.parametrize(("function", "says"), [
    (None, "write"), (lambda replay, name, order, attempts: replay.call(name, order), "wanted the payment"),
    (forever, "2 attempts"), (lambda replay, name, order, attempts: "paid", "0 keys"),
])  # fmt: skip
def test_retries_wrong(function, says):
    assert says in exercises.check_retries(function).message


def test_retries_right():
    assert exercises.check_retries(retried)


def test_sessions():
    assert exercises.check_sessions(lambda times, gap: windows.merge((t, t + gap) for t in times))
    assert not exercises.check_sessions(lambda times, gap: [(t, t + gap) for t in sorted(times)])
    assert "Sort the times" in exercises.check_sessions(lambda times, gap: []).message
    assert not exercises.check_sessions(None)


def test_choices():
    assert exercises.check_zombie(" Fencing ") and exercises.check_bill("lambda durable functions")
    for wrong in ("retries", "threads", "clock", "luck", None):
        assert not exercises.check_zombie(wrong)
    assert "five minutes" in exercises.check_bill("Step Functions Express").message
