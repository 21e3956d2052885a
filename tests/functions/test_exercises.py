"""The checks tell right from wrong, and say what is wrong."""

from dataclasses import dataclass

import pytest

from beyondlab.functions import exercises


@pytest.mark.parametrize(
    ("check", "right", "wrong", "says"),
    [
        (exercises.check_keep_alive, 2763.1, 6.03, "99 %"),
        (exercises.check_keep_alive, 2763.1, 46.05, "minutes"),
        (exercises.check_fan_out, 3.925, 4.0, "twice"),
        (exercises.check_fan_out, 3.925, 96.07, "meets none"),
        (exercises.check_scaling, 90, 100, "second 0"),
        (exercises.check_scaling, 90, 840, "old rule"),
        (exercises.check_pings, 0.9, 1.0, "one of the ten"),
        (exercises.check_pings, 0.9, 90, "percent"),
    ],
)
def test_numbers(check, right, wrong, says, capsys):
    assert check(right)
    assert not check(wrong) and says in capsys.readouterr().out
    assert not check(None) and "Not answered yet" in capsys.readouterr().out


@dataclass
class Box:
    busy_until: float = 0.0

    def usable(self, now, keep_alive):
        return 0 <= now - self.busy_until <= keep_alive


def test_oldest_first():
    def oldest(boxes, now, keep_alive):
        return min((b for b in boxes if b.usable(now, keep_alive)), key=lambda b: b.busy_until, default=None)

    def newest(boxes, now, keep_alive):
        return max((b for b in boxes if b.usable(now, keep_alive)), key=lambda b: b.busy_until, default=None)

    def careless(boxes, now, keep_alive):
        return min(boxes, key=lambda b: b.busy_until, default=None)

    assert exercises.check_oldest_first(oldest, Box)
    assert not exercises.check_oldest_first(newest, Box)
    assert not exercises.check_oldest_first(careless, Box)
    assert not exercises.check_oldest_first(lambda *_: None, Box)


LAZY = """
def handler(event, context):
    if event == "ping":
        return "pong"
    import scipy.stats
    return float(scipy.stats.norm.ppf(event["p"]))
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import scipy.stats\n" + LAZY, "still imported"),
        ("from scipy import stats\n" + LAZY, "still imported"),
        (LAZY.replace("pong", "pang"), "'pang'"),
        (LAZY.replace("    import scipy.stats\n", ""), "NameError"),
        (LAZY.replace("norm.ppf", "norm.cdf"), "1.959964"),
        ("def (", "does not load"),
        ("x = 1", "named handler"),
    ],
)
def test_lazy_import_says_what_is_wrong(code, says, capsys):
    assert not exercises.check_lazy_import(code)
    assert says in capsys.readouterr().out


def test_lazy_import():
    assert exercises.check_lazy_import(LAZY)


UNIQUE = """
import secrets
from snapshot_restore_py import register_after_restore
def renew():
    global token
    token = secrets.token_hex(8)
renew()
register_after_restore(renew)
def handler(event, context):
    return token
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (UNIQUE.replace("register_after_restore(renew)", ""), "Not yet: nothing is registered"),
        (UNIQUE.replace("    global token\n", "").replace("renew()\nreg", "token = 'a'\nreg"), "token of the snapshot"),
        (UNIQUE.replace("return token", "return secrets.token_hex(8)"), "every request"),
        ("def handler(", "SyntaxError"),
        ("x = 1", "KeyError"),
    ],
)
def test_unique_after_restore_says_what_is_wrong(code, says, capsys):
    assert not exercises.check_unique_after_restore(code)
    assert says in capsys.readouterr().out


def test_unique_after_restore_works_without_aws_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)
    assert exercises.check_unique_after_restore(UNIQUE)
    assert sys.modules["snapshot_restore_py"] is None
