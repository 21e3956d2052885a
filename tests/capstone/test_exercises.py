"""Right answers pass, typical wrong ones are told what is wrong."""

from dataclasses import replace

import pytest

from beyondlab.capstone import exercises, solutions
from beyondlab.capstone.product import Choice

CHEAPEST = solutions.SOLUTIONS["cheapest"]


@pytest.mark.parametrize(("check", "right", "wrong", "says"), [
    (exercises.check_always_on, 7 * 730 * 0.0504, 730 * 0.0504, "seven"),
    (exercises.check_always_on, 257.5, 7 * 720 * 0.0504, "730"),
    (exercises.check_product, 0.999 * 0.998 * 0.9995, 0.9965, "subtracts"),
    (exercises.check_product, 0.996503499, 0.998, "worst"),
    (exercises.check_growth, 1.40, 10.0, "follow"),
])  # fmt: skip
def test_numbers(check, right, wrong, says, capsys):
    assert check(right)
    capsys.readouterr()
    assert not check(wrong) and says in capsys.readouterr().out
    assert not check(None) and "Not answered yet" in capsys.readouterr().out


def test_beats(capsys):
    assert exercises.check_beats(lambda a, b: all(x <= y for x, y in zip(a, b)) and tuple(a) != tuple(b))
    for wrong in (lambda a, b: sum(a) < sum(b), lambda a, b: all(x <= y for x, y in zip(a, b)), lambda a, b: a < b):
        assert not exercises.check_beats(wrong)
    assert "wanted" in capsys.readouterr().out


def test_diagnosis(capsys):
    assert exercises.check_diagnosis("direct calls")
    assert not exercises.check_diagnosis("cold starts") and "late" in capsys.readouterr().out
    assert not exercises.check_diagnosis("gremlins")


def test_tight():
    assert exercises.check_tight(Choice("microvm", "none", "managed", "functions", "database", "queue"))
    assert not exercises.check_tight(CHEAPEST.choice) and not exercises.check_tight(None)


def test_own(capsys):
    mine, why = replace(CHEAPEST.choice, isolation="microvm"), CHEAPEST.reasons
    assert exercises.check_own(mine, why)
    capsys.readouterr()
    for choice, reasons, says in [(None, {}, "Not answered"), (CHEAPEST.choice, why, "worked solutions"), (mine, {}, "Say why"),
                                  (mine, {**why, "mesh": "no"}, "mesh"), (solutions.POPULAR, why, "missed")]:  # fmt: skip
        assert not exercises.check_own(choice, reasons)
        assert says in capsys.readouterr().out
