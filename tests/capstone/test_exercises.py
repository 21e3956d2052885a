"""Right answers pass, typical wrong ones are told what is wrong."""

from dataclasses import replace

import pytest

from beyondlab.capstone import exercises, solutions

CHEAPEST, SIMPLEST, PORTABLE = (solutions.SOLUTIONS[name] for name in ("cheapest", "simplest", "most portable"))


@pytest.mark.parametrize(("check", "right", "wrong", "says"), [
    (exercises.check_nodes, 4 * 730 * 0.1008, 730 * 0.1008, "how many"),
    (exercises.check_nodes, 294.3, 4 * 720 * 0.1008, "730"),
    (exercises.check_nodes, 294.3, 6 * 730 * 0.0504, "Nodes come whole, and"),
    (exercises.check_nodes, 294.3, 6 / 1.93 * 730 * 0.1008, "Nodes come whole."),
    (exercises.check_product, 0.999 * 0.998 * 0.9995, 0.9965, "subtracts"),
    (exercises.check_product, 0.996503499, 0.998, "worst"),
    (exercises.check_growth, 6.55, 10.0, "follow"),
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


def test_free():
    assert exercises.check_free(replace(PORTABLE.choice, mesh="sidecar"))
    assert not exercises.check_free(CHEAPEST.choice) and not exercises.check_free(None)


def test_own(capsys):
    mine, why = replace(SIMPLEST.choice, isolation="gvisor"), SIMPLEST.reasons
    assert exercises.check_own(mine, why)
    capsys.readouterr()
    for choice, reasons, says in [(None, {}, "Not answered"), (CHEAPEST.choice, why, "worked solutions"), (mine, {}, "Say why"),
                                  (mine, {**why, "mesh": "no"}, "mesh"), (solutions.POPULAR, why, "missed")]:  # fmt: skip
        assert not exercises.check_own(choice, reasons)
        assert says in capsys.readouterr().out
