"""The checks tell right from wrong, and say what is wrong."""

import pytest

from beyondlab.measuring import exercises


@pytest.mark.parametrize(
    ("check", "right", "wrong", "says"),
    [
        (exercises.check_fan_out, 13.96, 15.0, "twice"),
        (exercises.check_fan_out, 13.96, 86.04, "meets none"),
        (exercises.check_leaf, 0.10253, 0.1, "close, but not it"),
        (exercises.check_little, 20, 20_000, "0.08 s"),
        (exercises.check_little, 20, 3.125, "do not divide"),
        (exercises.check_needed, 270_000, 90_000, "√3"),
        (exercises.check_loop, "closed", "open", "these connections wait"),
    ],
)
def test_answers(check, right, wrong, says, capsys):
    assert check(right)
    assert not check(wrong) and says in capsys.readouterr().out
    assert not check(None) and "Not answered yet" in capsys.readouterr().out


def lindley(arrivals, service):
    free, out = 0.0, []
    for now, seconds in zip(arrivals, service):
        free = max(free, now) + seconds
        out.append(free - now)
    return out


def test_response():
    assert exercises.check_response(lindley)
    assert not exercises.check_response(lambda arrivals, service: list(service))
    assert not exercises.check_response(lambda arrivals, service: None)
    assert not exercises.check_response(None)


def test_correction(capsys):
    def correct(values, interval, least=0):
        filled = []
        for value in values:
            filled.append(value)
            while value - interval >= interval - least:
                value -= interval
                filled.append(value)
        return filled

    assert exercises.check_correction(correct)
    assert not exercises.check_correction(lambda values, interval: correct(values, interval, least=interval))
    assert not exercises.check_correction(lambda values, interval: values)
    assert "two more requests" in capsys.readouterr().out
