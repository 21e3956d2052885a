"""The checks tell right from wrong, and say what is wrong."""

import pytest
from beyondlab.containers import exercises, images, look


@pytest.mark.parametrize(
    ("check", "right", "wrong", "says"),
    [
        (exercises.check_burst, 550, 600, "average speed"),
        (exercises.check_burst, 550.0, 0.55, "seconds"),
        (exercises.check_stall, 75, 25, "rest of the period"),
        (exercises.check_stall, 75, 87.5, "200 ms"),
        (exercises.check_weight, 600, 100, "pulled all the same"),
        (exercises.check_weight, 600, 580, "last layer"),
        (exercises.check_bases, 4.463, 5, "by none"),
        (exercises.check_bases, 4.463, 2, "on average"),
    ],
)
def test_numbers(check, right, wrong, says, capsys):
    assert check(right)
    assert not check(wrong) and says in capsys.readouterr().out
    assert not check(None) and "Not answered yet" in capsys.readouterr().out


def test_chain(capsys):
    assert exercises.check_chain(images.chain_ids)
    assert not exercises.check_chain(lambda names: list(names))
    assert not exercises.check_chain(None) and "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["etc/.wh.secret", "var/.wh.cache"], "shall stay"),
        ([".wh.etc/secret", "var/cache/.wh..wh..opq"], "in the folder of the file"),
        (["etc/.wh.secret"], "1 of 2 missing"),
        ("etc/.wh.secret", "list of two"),
        (["etc/.wh.secret", "var/cache/.wh.*"], ".wh..wh..opq"),
        (None, "Not answered yet"),
    ],
)
def test_whiteouts(names, says, capsys):
    assert not exercises.check_whiteouts(names)
    assert says in capsys.readouterr().out


def test_whiteouts_right():
    assert exercises.check_whiteouts(["./etc/.wh.secret", "var/cache/.wh..wh..opq"])


def test_mask(capsys):
    assert exercises.check_mask(lambda mask: {name for bit, name in enumerate(look.CAPABILITIES) if mask >> bit & 1})
    assert not exercises.check_mask(lambda mask: []) and not exercises.check_mask(7)
    assert not exercises.check_mask(None) and "Not answered yet" in capsys.readouterr().out
