from __future__ import annotations

import math

import pytest

from beyondlab.hosting import exercises


def said(capsys, verdict):
    return capsys.readouterr().out, bool(verdict)


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (exercises.check_size, 1024, [(512, "You need 5"), (2048, "a smaller one"), (1, "In CPU units")]),
        (exercises.check_bill, 722, [(673.2, "what ran"), (674, "a minute is the least"), (721.2, "Nearly"), (780, "by the second")]),
        (exercises.check_break_even, 25, [(90_000, "Per second"), (90, "3,600"), (0.04, "Upside down")]),
        (exercises.check_stop_timeout, 40 * math.log(20), [(38, "95 %"), (800, "Not twenty"), (2.052, "5 % have ended")]),
    ],
)  # fmt: skip
def test_numbers(capsys, check, right, wrong):
    assert said(capsys, check(right))[1] is True
    for answer, words in wrong:
        text, passed = said(capsys, check(answer))
        assert words in text and not passed
    text, passed = said(capsys, check(None))
    assert "Not answered yet" in text and not passed


def test_best_fit(capsys):
    def right(free, need):
        fit = [k for k, host in enumerate(free) if host[0] >= need[0] and host[1] >= need[1]]
        return min(fit, key=lambda k: free[k][0]) if fit else None

    assert exercises.check_best_fit(right)
    assert not exercises.check_best_fit(lambda free, need: 0)
    assert not exercises.check_best_fit(lambda free, need: min(range(len(free)), key=lambda k: free[k][0], default=None))


def test_decide(capsys):
    assert exercises.check_decide(lambda desired, alive: (max(0, desired - len(alive)), alive[desired:][::-1]))
    assert not exercises.check_decide(lambda desired, alive: (max(0, desired - len(alive)), alive[desired:]))
    assert not exercises.check_decide(lambda desired, alive: (desired, []))
    assert not exercises.check_decide(None)


def test_diagnosis(capsys):
    assert exercises.check_diagnosis("Drain")
    for wrong in ("stop time-out", "memory", "Spot", "cosmic rays", None):
        assert not exercises.check_diagnosis(wrong)
